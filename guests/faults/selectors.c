/*
 * selectors.c -- #GP, #NP, #SS and #TS, whose error code is the selector to blame.
 *
 * Bit 0 (EXT) says that the processor was delivering an event, bit 1 that the index is a vector, bit 2 that the
 * selector is of the LDT.  [SDM 3, 6.13]
 */
#include "faults.h"

#define ABSENT_DATA	0x58
#define ABSENT_GATE	0x60
#define READ_ONLY	0x68
#define EXECUTE_ONLY	0x70
#define GATE_TO_RING1	0x78
#define BAD_TSS		0x80
#define BEYOND_GDT	(GDT_ENTRIES * 8)
#define VECTOR_CODE(v)	((v) * 8u + 2)
#define EXT		1u
#define NO_CHECKS	"checks no segment rights on access"
#define FREE_VECTOR	0x90

static void
prepare(void)
{
	set_gdt(ABSENT_DATA, descriptor(0, 0xFFFFF, (DESC_DATA & ~DESC_P) | DESC_FLAT));
	set_gdt(ABSENT_GATE, gate(KERNEL_CS, 0, TYPE_CALL32, 0, 0) & ~((uint64_t)DESC_P << 32));
	set_gdt(READ_ONLY, descriptor(0, 0xFFFFF, DESC_P | DESC_S | DESC_TYPE(0) | DESC_FLAT));
	set_gdt(EXECUTE_ONLY, descriptor(0, 0xFFFFF, DESC_P | DESC_S | DESC_TYPE(8) | DESC_FLAT));
	set_gdt(GATE_TO_RING1, gate(RING1_CS, 0, TYPE_CALL32, 3, 0));
	idt[FREE_VECTOR] = gate(KERNEL_CS, trap_stub(FREE_VECTOR), TYPE_INT32, 0, 0) & ~((uint64_t)DESC_P << 32);
}

#define LOAD_DS(selector) FAULT_OF("movl %0, %%eax", "movl %%eax, %%ds", "i"(selector))
#define LOAD_SS(selector) FAULT_OF("movl %0, %%eax", "movl %%eax, %%ss", "i"(selector))

static void
check_segment_registers(void)
{
	check_fault("ds_absent_np", LOAD_DS(ABSENT_DATA), VEC_NP, ABSENT_DATA);
	check_fault("ds_beyond_gdt_gp", LOAD_DS(BEYOND_GDT), VEC_GP, BEYOND_GDT);
	check_fault("ds_error_code_has_no_rpl", LOAD_DS(BEYOND_GDT + 3), VEC_GP, BEYOND_GDT);
	check_fault("ds_of_system_descriptor_gp", LOAD_DS(MAIN_TSS), VEC_GP, MAIN_TSS);
	check_fault("ds_execute_only_gp", LOAD_DS(EXECUTE_ONLY), VEC_GP, EXECUTE_ONLY);
	check_fault("ds_in_absent_ldt_gp", LOAD_DS(0x0C), VEC_GP, 0x0C);
	check_fault("ss_absent_ss", FAULT_OF("movl $0x58, %%eax", "movl %%eax, %%ss"), VEC_SS, ABSENT_DATA);
	check_fault("ss_null_gp", LOAD_SS(0), VEC_GP, 0);
	check_fault("ss_read_only_gp", LOAD_SS(READ_ONLY), VEC_GP, READ_ONLY);
	check_fault("ss_of_code_gp", LOAD_SS(KERNEL_CS), VEC_GP, KERNEL_CS);
	check_fault("ss_wrong_rpl_gp", LOAD_SS(KERNEL_DS + 3), VEC_GP, KERNEL_DS);
	check_fault_silicon("null_segment_read_gp", FAULT_OF("xorl %%eax, %%eax; movl %%eax, %%fs",
	    "movl %%fs:0, %%eax"), VEC_GP, 0, NO_CHECKS);
	check_fault_silicon("write_through_cs_gp", FAULT_OF("", "movb $0, %%cs:probe"), VEC_GP, 0, NO_CHECKS);
	check_fault_silicon("write_read_only_gp", FAULT_OF("movl %0, %%eax; movl %%eax, %%fs", "movb $0, %%fs:probe",
	    "i"(READ_ONLY)), VEC_GP, 0, NO_CHECKS);
	__asm__ volatile("movl %0, %%fs" : : "r"(0));
}

static void
check_gates(void)
{
	struct table_register whole = { sizeof(idt) - 1, (uint32_t)idt }, short_idt = { 0x80 * 8 - 1, (uint32_t)idt };
	struct fault fault;

	check_fault("far_call_null_gp", FAULT_OF("", "lcall $0, $0"), VEC_GP, 0);
	check_fault("far_call_to_data_gp", FAULT_OF("", "lcall %0, $0", "i"(KERNEL_DS)), VEC_GP, KERNEL_DS);
	check_fault("far_call_absent_gate_np", FAULT_OF("", "lcall %0, $0", "i"(ABSENT_GATE)), VEC_NP, ABSENT_GATE);
	check_fault("int_absent_gate_np", FAULT_OF("", "int $0x90"), VEC_NP, VECTOR_CODE(FREE_VECTOR));
	__asm__ volatile("lidt %0" : : "m"(short_idt));
	fault = FAULT_OF("", "int $0x90");
	__asm__ volatile("lidt %0" : : "m"(whole));
	check_fault("int_beyond_idt_gp", fault, VEC_GP, VECTOR_CODE(FREE_VECTOR));

	/* EXT: the fault came while delivering #UD, which the program did not ask for. */
	idt[VEC_UD] ^= (uint64_t)DESC_P << 32;
	fault = FAULT_OF("", "ud2");
	idt[VEC_UD] ^= (uint64_t)DESC_P << 32;
	check_fault_silicon("exception_with_absent_gate_np_ext", fault, VEC_NP, VECTOR_CODE(VEC_UD) | EXT,
	    "never sets EXT");
}

static uint32_t
call_ring1(uint32_t unused)
{
	(void)unused;
	FAULT_OF("", "lcall %0, $0", "i"(GATE_TO_RING1));
	return 0;
}

/* #TS: the inner stack that a gate takes from the TSS is no stack; or the back link is no task. */
static void
check_task_state(void)
{
	main_tss.tss.esp1 = ring_stack(1);
	main_tss.tss.ss1 = KERNEL_DS;
	ring_call(3, call_ring1, 0);
	check_fault("inner_stack_of_wrong_ring_ts", probe.seen, VEC_TS, KERNEL_DS);
	main_tss.tss.ss1 = 0;
	ring_call(3, call_ring1, 0);
	check_fault("inner_stack_null_ts", probe.seen, VEC_TS, 0);
	main_tss.tss.ss1 = BEYOND_GDT | 1;
	ring_call(3, call_ring1, 0);
	check_fault("inner_stack_beyond_gdt_ts", probe.seen, VEC_TS, BEYOND_GDT);
	set_gdt(BAD_TSS, descriptor(0, 0xFFFFF, (DESC_DATA & ~DESC_P) | DESC_FLAT | DESC_DPL(1)));
	main_tss.tss.ss1 = BAD_TSS | 1;
	ring_call(3, call_ring1, 0);
	check_fault_silicon("inner_stack_absent_ss", probe.seen, VEC_SS, BAD_TSS, "raises #TS for it");

	main_tss.tss.back_link = KERNEL_DS;
	check_fault("iret_nt_to_no_task_ts", FAULT_OF("pushfl; orl $0x4000, (%%esp); popfl", "iret"), VEC_TS,
	    KERNEL_DS);
	set_gdt(BAD_TSS, tss_descriptor(&main_tss, 20, TYPE_TSS32, 0));
	check_fault("far_jump_to_short_tss_ts", FAULT_OF("", "ljmp %0, $0", "i"(BAD_TSS)), VEC_TS, BAD_TSS);
	set_gdt(BAD_TSS, tss_descriptor(&main_tss, 103, TYPE_TSS32_BUSY, 0));
	check_fault("far_jump_to_busy_tss_gp", FAULT_OF("", "ljmp %0, $0", "i"(BAD_TSS)), VEC_GP, BAD_TSS);
	check_fault("ltr_of_busy_tss_gp", FAULT_OF("movl %0, %%eax", "ltr %%ax", "i"(BAD_TSS)), VEC_GP, BAD_TSS);
	check_fault("lldt_of_no_ldt_gp", FAULT_OF("movl %0, %%eax", "lldt %%ax", "i"(KERNEL_DS)), VEC_GP, KERNEL_DS);
}

/* #GP for values that a register cannot hold.  [SDM 3, 2.5] */
static void
check_control_registers(void)
{
	uint32_t cr0 = read_cr0();

	if (!skip_on_tcg("cr0_pg_without_pe_gp", "accepts PG without PE"))
		check_fault("cr0_pg_without_pe_gp", FAULT_OF("", "movl %0, %%cr0", "r"(CR0_PG)), VEC_GP, 0);
	check_fault_silicon("cr0_nw_without_cd_gp", FAULT_OF("", "movl %0, %%cr0", "r"(read_cr0() | CR0_NW)), VEC_GP, 0,
	    "accepts NW without CD");
	write_cr0(cr0);
	if (!skip_on_tcg("cr4_reserved_gp", "hangs for reserved bits of CR4"))
		check_fault("cr4_reserved_gp", FAULT_OF("", "movl %0, %%cr4", "r"(1u << 31)), VEC_GP, 0);
	check_silicon("unknown_msr_gp", is_fault(FAULT_OF("movl $0x4321, %%ecx", "rdmsr"), VEC_GP, 0),
	    "reads unknown MSRs as 0");
}

void
check_selectors(void)
{
	prepare();
	check_segment_registers();
	check_gates();
	check_task_state();
	check_control_registers();
}
