/*
 * double_fault.c -- #DF, taken by a task of its own, so that it survives a bad stack.
 *
 * A fault while delivering a fault is delivered in turn, except when both are contributory (#DE #TS #NP #SS #GP), or
 * the first is #PF and the second contributory or #PF: that is a double fault, error code 0.  [SDM 3, table 6-5]
 */
#include "faults.h"

#define PRESENT		((uint64_t)DESC_P << 32)

extern char double_fault_task[];
extern uint32_t double_fault_error, double_fault_count;
extern struct tss32 double_fault_tss;
void double_fault_seen(void);

static uint8_t stack[4096];
static struct tss32 interrupted;

struct tss32 double_fault_tss;

/* In the double-fault task: repair, and let the interrupted task go on at its recovery. */
void
double_fault_seen(void)
{
	interrupted = main_tss.tss;
	idt[VEC_GP] |= PRESENT;
	idt[VEC_PF] |= PRESENT;
	main_tss.tss.eip = probe.recovery;
	main_tss.tss.esp = probe.esp;
}

static void
prepare(page_table *directory)
{
	double_fault_tss = (struct tss32){
		.eip = (uint32_t)double_fault_task, .eflags = EFL_ONE, .esp = (uint32_t)stack + sizeof(stack),
		.cs = KERNEL_CS, .ds = KERNEL_DS, .es = KERNEL_DS, .ss = KERNEL_DS, .cr3 = (uint32_t)directory,
		.io_map_base = NO_IO_MAP,
	};
	main_tss.tss.cr3 = (uint32_t)directory;		/* a task switch loads CR3 and never saves it */
	set_gdt(DF_TSS, tss_descriptor(&double_fault_tss, sizeof(double_fault_tss) - 1, TYPE_TSS32, 0));
	idt[VEC_DF] = gate(DF_TSS, 0, TYPE_TASK_GATE, 0, 0);
}

static void
check_task(const char *name, uint32_t count)
{
	check(name, double_fault_count == count && double_fault_error == 0, "%u double faults, error code %x",
	    double_fault_count, double_fault_error);
}

void
check_double_fault(void)
{
	page_table *directory = fault_directory();
	struct fault fault;

	prepare(directory);

	idt[VEC_GP] &= ~PRESENT;
	FAULT_OF("movl %0, %%eax", "movl %%eax, %%fs", "i"(GDT_ENTRIES * 8));	/* no such descriptor */
	check_task("gp_without_handler_is_a_double_fault", 1);
	check_equal("double_fault_saves_eip_of_the_first", interrupted.eip, probe.expected_eip);
	check_equal("double_fault_links_back", double_fault_tss.back_link, MAIN_TSS);
	check("double_fault_task_sets_ts", read_cr0() & CR0_TS, "CR0 is %x", read_cr0());
	__asm__ volatile("clts");

	/* Benign then contributory: the second is delivered as if it had come alone. */
	idt[VEC_BP] &= ~PRESENT;
	fault = FAULT_OF("", "int3");
	idt[VEC_BP] |= PRESENT;
	check("bp_without_handler_is_np_only", double_fault_count == 1 && is_fault(fault, VEC_NP, VEC_BP * 8 + 2),
	    "vector %u error %x", fault.vector, fault.error);

	/* #PF while #PF is delivered: a stack that has run into an absent page.  No handler on that stack could run. */
	paging_on(directory);
	FAULT_OF("movl %0, %%esp", "pushl $1", "i"(HOLE + 16));
	check_task("overflowing_stack_is_a_double_fault", 2);
	check_equal("double_fault_cr2_is_the_stack", read_cr2() & PTE_FRAME, HOLE);
	__asm__ volatile("clts");
	idt[VEC_PF] &= ~PRESENT;
	FAULT_OF("", "movl (%0), %%eax", "r"(HOLE));
	check_task("pf_without_handler_is_a_double_fault", 3);
	check_equal("double_fault_by_pf_cr2", read_cr2(), HOLE);
	__asm__ volatile("clts");
	paging_off();
}
