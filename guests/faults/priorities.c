/*
 * priorities.c -- two reasons at once: which exception is raised.
 *
 * In order: breakpoint on the instruction, faults of its fetch, faults of its decoding (#GP for the length, #UD, #NM),
 * faults of its execution: segment before page.  [SDM 3, table 6-2]
 */
#include "faults.h"

#define DR7_L0	1u

extern char priority_breakpoint[];
static const int32_t bounds[2] = { 0, 9 };

static __attribute__((noinline, noclone)) struct fault
undefined_at_breakpoint(void)
{
	return FAULT_OF("", ".globl priority_breakpoint; priority_breakpoint: ud2");
}

static void
check_decode_first(void)
{
	struct fault fault;

	write_dr0((uint32_t)priority_breakpoint);
	write_dr7(DR7_L0);
	fault = undefined_at_breakpoint();
	write_dr7(0);
	check("breakpoint_before_ud", fault.vector == VEC_DB, "vector %u", fault.vector);

	check_fault("lock_ud_before_pf", FAULT_OF("", ".byte 0xF0; cmpl %%eax, (%0)", "r"(HOLE)), VEC_UD, NO_ERROR);
	check_fault("lock_ud_before_null_segment_gp", FAULT_OF("xorl %%eax, %%eax; movl %%eax, %%fs",
	    ".byte 0xF0; cmpl %%eax, %%fs:0"), VEC_UD, NO_ERROR);
	check_fault("length_gp_before_pf", FAULT_OF("", ".fill 14, 1, 0x3E; movl (%0), %%eax", "r"(HOLE)), VEC_GP, 0);
	write_cr0(read_cr0() | CR0_TS);
	check_fault("nm_before_pf", FAULT_OF("", "flds (%0)", "r"(HOLE)), VEC_NM, NO_ERROR);
	write_cr0(read_cr0() & ~CR0_TS);
}

static uint32_t
privileged_at_hole(uint32_t unused)
{
	(void)unused;
	FAULT_OF("", "lgdt (%0)", "r"(HOLE));
	return 0;
}

static uint32_t
port_at_hole(uint32_t unused)
{
	(void)unused;
	FAULT_OF("movl %0, %%esi; movl $0x80, %%edx", "outsb", "i"(HOLE));
	return 0;
}

static void
check_execution_order(void)
{
	check_fault_silicon("null_segment_gp_before_pf", FAULT_OF("xorl %%eax, %%eax; movl %%eax, %%fs",
	    "movl %%fs:(%0), %%eax", "r"(HOLE)), VEC_GP, 0, "checks no null segments on access");
	check_fault_silicon("read_only_segment_gp_before_pf", FAULT_OF("", "movl %%eax, %%cs:(%0)", "r"(HOLE)), VEC_GP,
	    0, "checks no segment rights on access");
	check_fault("div_operand_pf_before_de", FAULT_OF("", "divl (%0)", "r"(HOLE)), VEC_PF, 0);
	check_fault("bound_operand_pf", FAULT_OF("movl $100, %%eax", "bound %%eax, (%0)", "r"(HOLE)), VEC_PF, 0);
	check_fault("bound_in_place_br", FAULT_OF("movl $100, %%eax", "bound %%eax, %0", "m"(bounds)), VEC_BR,
	    NO_ERROR);
	check_fault("far_call_operand_pf_before_gp", FAULT_OF("", "lcall *(%0)", "r"(HOLE)), VEC_PF, 0);
	check_fault("segment_load_operand_pf_before_gp", FAULT_OF("", "mov (%0), %%fs", "r"(HOLE)), VEC_PF, 0);

	ring_call(3, privileged_at_hole, 0);
	check_fault("ring3_privilege_gp_before_pf", probe.seen, VEC_GP, 0);
	ring_call(3, port_at_hole, 0);
	check_fault("ring3_outs_port_gp_before_pf", probe.seen, VEC_GP, 0);
}

void
check_priorities(void)
{
	paging_on(fault_directory());
	check_decode_first();
	check_execution_order();
	paging_off();
	__asm__ volatile("movl %0, %%fs" : : "r"(0));
}
