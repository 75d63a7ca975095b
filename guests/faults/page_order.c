/*
 * page_order.c -- an instruction that faults has changed nothing, so that it can be run again.
 *
 * The exceptions are the repeated string instructions, which leave off between two repetitions.  [SDM 3, 6.5, and SDM
 * 2, REP]
 */
#include "faults.h"

static uint8_t pages[2 * PAGE_SIZE] __attribute__((aligned(4096)));
#define SPLIT (pages + PAGE_SIZE)	/* the boundary: the second page is absent */

/* What FAULT_OF does not show: the registers at the fault. */
struct registers {
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
};
static struct registers after;

static void
save_registers(struct trap_frame *frame)
{
	after = (struct registers){
		.eax = frame->eax, .ecx = frame->ecx, .edx = frame->edx, .ebx = frame->ebx,
		.esp = (uint32_t)&frame->esp, .ebp = frame->ebp, .esi = frame->esi, .edi = frame->edi,
	};
	probe.seen = (struct fault){ .raised = true, .vector = frame->vector, .error = frame->error,
	    .at = frame->eip - probe.expected_eip, .cr2 = read_cr2(), .eflags = frame->eflags };
	frame->eip = probe.recovery;
}

/* FAULT_OF, and ESP as it was before the instruction. */
#define REGISTERS_OF(setup, code, ...) FAULT_OF(setup "; movl %%esp, before_esp", code, __VA_ARGS__)

extern uint32_t before_esp;
uint32_t before_esp;

static void
check_cr2(const char *name, uint32_t address, uint32_t error)
{
	check(name, probe.seen.vector == VEC_PF && probe.seen.cr2 == address && probe.seen.error == error &&
	    probe.seen.at == 0, "vector %u error %x CR2 %x EIP +%d", probe.seen.vector, probe.seen.error,
	    probe.seen.cr2,
	    (int)probe.seen.at);
}

static void
check_split_access(void)
{
	SPLIT[-2] = SPLIT[-1] = 0x55;
	FAULT_OF("", "movl $0, -2(%0)", "r"(SPLIT));
	check_cr2("split_write_cr2_is_the_second_page", (uint32_t)SPLIT, PF_WRITE);
	check("split_write_leaves_the_first_page", SPLIT[-2] == 0x55 && SPLIT[-1] == 0x55, "%x %x", SPLIT[-2],
	    SPLIT[-1]);
	FAULT_OF("", "movl -2(%0), %%eax", "r"(SPLIT));
	check_cr2("split_read_cr2_is_the_second_page", (uint32_t)SPLIT, 0);
	FAULT_OF("", "movl -1(%0), %%eax", "r"(SPLIT + PAGE_SIZE - 1));
	check_cr2("read_in_the_page_cr2_is_the_address", (uint32_t)SPLIT + PAGE_SIZE - 2, 0);
}

static void
check_stack(void)
{
	REGISTERS_OF("movl %0, %%esp", "popl %%eax", "i"(SPLIT));
	check_cr2("pop_absent_pf", (uint32_t)SPLIT, 0);
	check_equal("faulting_pop_keeps_esp", after.esp, (uint32_t)SPLIT);

	/* Here the handler's frame needs the stack too, so the fault is in the operand. */
	REGISTERS_OF("movl %0, %%edi", "pushl (%%edi)", "i"(SPLIT));
	check_cr2("push_of_absent_pf", (uint32_t)SPLIT, 0);
	check_equal("faulting_push_keeps_esp", after.esp, before_esp);
	REGISTERS_OF("movl %0, %%edi; pushl $1", "popl (%%edi)", "i"(SPLIT));
	check_cr2("pop_to_absent_pf", (uint32_t)SPLIT, PF_WRITE);
	check_equal("faulting_pop_to_memory_keeps_esp", after.esp, before_esp);
	REGISTERS_OF("movl %0, %%edi", "call *(%%edi)", "i"(SPLIT));
	check_cr2("call_of_absent_pf", (uint32_t)SPLIT, 0);
	check_equal("faulting_call_keeps_esp", after.esp, before_esp);
}

static void
check_strings(void)
{
	memset(pages, 0xAA, PAGE_SIZE);
	REGISTERS_OF("movl %0, %%esi; movl %1, %%edi; movl $10, %%ecx", "rep movsb", "i"(pages), "i"(SPLIT - 4));
	check_cr2("rep_movsb_pf", (uint32_t)SPLIT, PF_WRITE);
	check("rep_movsb_counts_what_is_done", after.ecx == 6 && after.esi == (uint32_t)pages + 4 &&
	    after.edi == (uint32_t)SPLIT, "ECX %u ESI +%x EDI +%x", after.ecx, after.esi - (uint32_t)pages,
	    after.edi - (uint32_t)pages);
	REGISTERS_OF("movl %0, %%edi; movl $5, %%ecx; movl $7, %%eax", "rep stosl", "i"(SPLIT - 8));
	check_cr2("rep_stosl_pf", (uint32_t)SPLIT, PF_WRITE);
	check("rep_stosl_counts_what_is_done", after.ecx == 3 && after.edi == (uint32_t)SPLIT, "ECX %u EDI %x",
	    after.ecx, after.edi);
	check("rep_stosl_wrote_what_it_counted", SPLIT[-4] == 7 && SPLIT[-8] == 7, "%x %x", SPLIT[-4], SPLIT[-8]);
	REGISTERS_OF("movl %0, %%esi; xorl %%ecx, %%ecx", "rep lodsb", "i"(SPLIT));
	check("rep_of_nothing_touches_nothing", !probe.seen.raised, "CR2 %x", probe.seen.cr2);
	REGISTERS_OF("movl %0, %%esi", "lodsl; lodsl", "i"(SPLIT - 4));
	check_equal("instruction_before_the_fault_is_done", after.esi, (uint32_t)SPLIT);
}

static void
check_registers(void)
{
	REGISTERS_OF("movl $0x11111111, %%eax; movl %0, %%edi", "xchgl %%eax, (%%edi)", "i"(SPLIT));
	check_silicon("xchg_absent_is_a_write", probe.seen.cr2 == (uint32_t)SPLIT && probe.seen.error == PF_WRITE,
	    "reads first, and says so in the error code");
	check_equal("faulting_xchg_keeps_eax", after.eax, 0x11111111);
	/* CMOV reads its operand even when it does not move.  [SDM 2, CMOVcc] */
	REGISTERS_OF("xorl %%eax, %%eax; movl %0, %%edi", "cmovnzl (%%edi), %%eax", "i"(SPLIT));
	check_cr2("cmov_reads_always", (uint32_t)SPLIT, 0);
	REGISTERS_OF("movl %%esp, %%ebx; movl $0x22222222, %%eax; movl %0, %%edi", "addl (%%edi), %%eax", "i"(SPLIT));
	check_equal("faulting_add_keeps_eax", after.eax, 0x22222222);
	REGISTERS_OF("stc; movl %0, %%edi", "incl (%%edi)", "i"(SPLIT));
	check("faulting_inc_keeps_flags", probe.seen.eflags & EFL_CF, "EFLAGS %x", probe.seen.eflags);
}

void
check_page_order(void)
{
	page_table *directory = fault_directory();

	map_page(directory, (uint32_t)SPLIT, 0, 0);
	paging_on(directory);
	on_trap(VEC_PF, save_registers);
	check_split_access();
	check_stack();
	check_strings();
	check_registers();
	on_trap(VEC_PF, NULL);
	paging_off();
	map_page(directory, (uint32_t)SPLIT, (uint32_t)SPLIT, PTE_P | PTE_W | PTE_U);
}
