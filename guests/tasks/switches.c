/*
 * switches.c -- the four ways to switch, and who may.
 */
#include "parts.h"

#define CALL_TASK() __asm__ volatile("lcall %0, $0" : : "i"(TASK) : "memory", "cc")
#define JUMP_TASK() __asm__ volatile("ljmp %0, $0" : : "i"(TASK) : "memory", "cc")

extern char after_call[];

static void
check_call(void)
{
	prepare_task(entered_by_call);
	__asm__ volatile("lcall %0, $0; after_call:" : : "i"(TASK) : "memory", "cc");
	__asm__ volatile("clts");
	check_equal("call_runs_the_task", visit.count, 1);
	check_equal("call_loads_tr", visit.tr, TASK);
	check("call_sets_nt", visit.eflags & EFL_NT, "EFLAGS %x", visit.eflags);
	check_equal("call_links_back", visit.back_link, MAIN_TSS);
	check("call_leaves_both_busy", visit.main_busy && visit.task_busy, "main %d, task %d", visit.main_busy,
	    visit.task_busy);
	check("switch_sets_ts", visit.cr0 & CR0_TS, "CR0 %x", visit.cr0);
	check_equal("call_saves_the_next_eip", main_tss.tss.eip, (uint32_t)after_call);
	check("iret_leaves_the_task_available", task_type(TASK) == TYPE_TSS32, "type %x", task_type(TASK));
	check("iret_leaves_the_old_task_busy", task_type(MAIN_TSS) == TYPE_TSS32_BUSY, "type %x", task_type(MAIN_TSS));
	check("iret_saves_nt_clear", !(task_tss.eflags & EFL_NT), "EFLAGS %x", task_tss.eflags);
	CALL_TASK();
	check_equal("task_resumes_where_it_left", visit.count, 2);
	__asm__ volatile("lcall %0, $0" : : "i"(TASK_GATE) : "memory", "cc");
	check_equal("call_through_a_gate_runs_the_task", visit.count, 3);
	__asm__ volatile("int %0" : : "i"(VEC_TASK) : "memory", "cc");
	check_equal("int_through_a_gate_runs_the_task", visit.count, 4);
	check("int_sets_nt_and_links_back", visit.eflags & EFL_NT && visit.back_link == MAIN_TSS, "EFLAGS %x, link %x",
	    visit.eflags, visit.back_link);
	__asm__ volatile("clts");
}

static void
check_jump(void)
{
	prepare_task(entered_by_jump);
	task_tss.back_link = 0x1234;
	JUMP_TASK();
	check_equal("jump_runs_the_task", visit.count, 1);
	check("jump_leaves_nt_clear", !(visit.eflags & EFL_NT), "EFLAGS %x", visit.eflags);
	check_equal("jump_links_nothing", visit.back_link, 0x1234);
	check("jump_leaves_the_old_task_available", !visit.main_busy && visit.task_busy, "main %d, task %d",
	    visit.main_busy, visit.task_busy);
	check("jump_back_leaves_the_task_available", task_type(TASK) == TYPE_TSS32, "type %x", task_type(TASK));
	__asm__ volatile("ljmp %0, $0" : : "i"(TASK_GATE) : "memory", "cc");
	check_equal("jump_through_a_gate_runs_the_task", visit.count, 2);
	__asm__ volatile("clts");
}

static uint32_t
call_tss(uint32_t unused)
{
	(void)unused;
	FAULT_OF("", "lcall %0, $0", "i"(TASK));
	return 0;
}

static uint32_t
call_gate(uint32_t unused)
{
	(void)unused;
	__asm__ volatile("lcall %0, $0" : : "i"(TASK_GATE) : "memory", "cc");
	return 0;
}

/* From ring 3 a gate of DPL 3 leads to any task; the TSS of DPL 0 itself does not. */
static void
check_ring3(void)
{
	prepare_task(entered_by_call);
	ring_call(3, call_tss, 0);
	check_fault("ring3_call_of_a_tss_of_dpl0_gp", probe.seen, VEC_GP, TASK);
	ring_call(3, call_gate, 0);
	check_equal("ring3_call_of_a_gate_of_dpl3_runs", visit.count, 1);
	__asm__ volatile("clts");

	/* A task may be of ring 3 itself. */
	prepare_task(in_ring3);
	task_tss.cs = USER_CS;
	task_tss.ss = task_tss.ds = task_tss.es = USER_DS;
	{
		extern volatile uint32_t visit_ring3_count;

		JUMP_TASK();
		check_equal("task_of_ring3_runs", visit_ring3_count, 1);
	}
	__asm__ volatile("clts");
}

/* An exception through a task gate pushes its error code onto the new task's stack. */
static void
check_exception(void)
{
	uint64_t saved = idt[VEC_GP];

	prepare_task(entered_with_error);
	idt[VEC_GP] = gate(TASK, 0, TYPE_TASK_GATE, 0, 0);
	FAULT_OF("movl %0, %%eax", "movl %%eax, %%fs", "i"(BEYOND_GDT));
	idt[VEC_GP] = saved;
	__asm__ volatile("clts");
	check_equal("exception_through_a_gate_runs_the_task", visit.count, 1);
	check_equal("exception_pushes_its_error_code", visit.error, BEYOND_GDT);
}

void
check_switches(void)
{
	check_call();
	check_jump();
	check_ring3();
	check_exception();
}
