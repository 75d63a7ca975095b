/*
 * bad_tasks.c -- a TSS that cannot be loaded.
 *
 * Before the point of no return the fault is the old task's.  After it the new task is the one that faults, although it
 * has not executed anything; its stack may be what is wrong, so #TS, #NP, #SS and #GP get tasks of their own.
 * [SDM 3, table 7-1]
 */
#include "parts.h"

#define FAULT_TASKS	4

extern uint32_t fault_error, fault_vector;
extern char fault_task[];
void fault_task_body(void);

static const enum vector fault_vectors[FAULT_TASKS] = { VEC_TS, VEC_NP, VEC_SS, VEC_GP };
static struct tss32 fault_tss[FAULT_TASKS];
static uint8_t fault_stacks[FAULT_TASKS][1024];
static uint64_t saved_gates[FAULT_TASKS];
static struct {
	bool raised;
	uint32_t vector, error, interrupted;
} seen;

/* In the task that takes the fault.  It goes back to the main task by a jump, so it must not look called. */
void
fault_task_body(void)
{
	int i;

	for (i = 0; fault_vectors[i] != (enum vector)fault_vector; i++)
		;
	seen.raised = true;
	seen.vector = fault_vector;
	seen.error = fault_error;
	seen.interrupted = fault_tss[i].back_link;
	main_tss.tss.eip = probe.recovery;
	set_gdt(MAIN_TSS, tss_descriptor(&main_tss, sizeof(main_tss) - 1, TYPE_TSS32, 0));
}

static void
take_faults(void)
{
	int i;

	for (i = 0; i < FAULT_TASKS; i++) {
		fault_tss[i] = (struct tss32){
			.cr3 = read_cr3(), .eip = (uint32_t)fault_task, .eflags = EFL_ONE, .ebx = fault_vectors[i],
			.esp = (uint32_t)fault_stacks[i] + sizeof(fault_stacks[i]), .cs = KERNEL_CS, .ss = KERNEL_DS,
			.ds = KERNEL_DS, .es = KERNEL_DS, .io_map_base = NO_IO_MAP,
		};
		set_gdt((uint16_t)(FAULT_TASK + 8 * i), tss_descriptor(&fault_tss[i], sizeof(fault_tss[i]) - 1,
		    TYPE_TSS32, 0));
		saved_gates[i] = idt[fault_vectors[i]];
		idt[fault_vectors[i]] = gate((uint16_t)(FAULT_TASK + 8 * i), 0, TYPE_TASK_GATE, 0, 0);
	}
}

static void
release_faults(void)
{
	int i;

	for (i = 0; i < FAULT_TASKS; i++)
		idt[fault_vectors[i]] = saved_gates[i];
}

/* One field of an otherwise good TSS, and what it must raise. */
static const struct row {
	const char *name;
	size_t field;
	uint32_t value;
	enum vector vector;
	uint32_t error;
} rows[] = {
#define FIELD(name) offsetof(struct tss32, name)
	{ "task_ldt_of_wrong_type_ts", FIELD(ldt), KERNEL_DS, VEC_TS, KERNEL_DS },
	{ "task_ldt_beyond_gdt_ts", FIELD(ldt), BEYOND_GDT, VEC_TS, BEYOND_GDT },
	{ "task_cs_null_ts", FIELD(cs), 0, VEC_TS, 0 },
	{ "task_cs_of_data_ts", FIELD(cs), KERNEL_DS, VEC_TS, KERNEL_DS },
	{ "task_cs_rpl_is_not_dpl_ts", FIELD(cs), RING1_CS & ~RPL_MASK, VEC_TS, RING1_CS & ~RPL_MASK },
	{ "task_cs_absent_np", FIELD(cs), ABSENT_CODE, VEC_NP, ABSENT_CODE },
	{ "task_ss_null_ts", FIELD(ss), 0, VEC_TS, 0 },
	{ "task_ss_of_code_ts", FIELD(ss), KERNEL_CS, VEC_TS, KERNEL_CS },
	{ "task_ss_of_other_ring_ts", FIELD(ss), RING1_DS, VEC_TS, RING1_DS & ~RPL_MASK },
	{ "task_ss_absent_ss", FIELD(ss), ABSENT, VEC_SS, ABSENT },
	{ "task_ds_beyond_gdt_ts", FIELD(ds), BEYOND_GDT, VEC_TS, BEYOND_GDT },
	{ "task_es_of_a_tss_ts", FIELD(es), MAIN_TSS, VEC_TS, MAIN_TSS },
	{ "task_fs_absent_np", FIELD(fs), ABSENT, VEC_NP, ABSENT },
};

static void
check_rows(void)
{
	size_t i;

	set_gdt(ABSENT, descriptor(0, 0xFFFFF, (DESC_DATA | DESC_FLAT) & ~DESC_P));
	set_gdt(ABSENT_CODE, descriptor(0, 0xFFFFF, (DESC_CODE | DESC_FLAT) & ~DESC_P));
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		take_faults();
		prepare_task(entered_by_jump);
		memcpy((char *)&task_tss + row->field, &row->value, sizeof(row->value));
		memset(&seen, 0, sizeof(seen));
		FAULT_OF("", "ljmp %0, $0", "i"(TASK));
		__asm__ volatile("clts");
		release_faults();
		if (row->vector == VEC_SS && seen.vector == VEC_NP && on_tcg())
			check_silicon(row->name, false, "raises #NP for it");
		else
			check(row->name, seen.raised && seen.vector == row->vector && seen.error == row->error &&
			    seen.interrupted == TASK, "vector %u error %x in task %x, expected %u %x in %x",
			    seen.vector,
			    seen.error, seen.interrupted, row->vector, row->error, TASK);
	}
}

/* These are found before anything is changed. */
static void
check_old_task(void)
{
	prepare_task(entered_by_jump);
	set_gdt(TASK, tss_descriptor(&task_tss, sizeof(task_tss) - 1, TYPE_TSS32, 0) & ~((uint64_t)DESC_P << 32));
	check_fault("absent_tss_np", FAULT_OF("", "ljmp %0, $0", "i"(TASK)), VEC_NP, TASK);
	set_gdt(TASK, tss_descriptor(&task_tss, sizeof(task_tss) - 2, TYPE_TSS32, 0));
	check_fault("short_tss_ts", FAULT_OF("", "ljmp %0, $0", "i"(TASK)), VEC_TS, TASK);
	set_gdt(TASK, tss_descriptor(&task_tss, sizeof(task_tss) - 1, TYPE_TSS32_BUSY, 0));
	check_fault("busy_tss_gp", FAULT_OF("", "lcall %0, $0", "i"(TASK)), VEC_GP, TASK);
	check_fault("gate_to_busy_tss_gp", FAULT_OF("", "lcall %0, $0", "i"(TASK_GATE)), VEC_GP, TASK);
	set_gdt(TASK_GATE, gate(KERNEL_DS, 0, TYPE_TASK_GATE, 3, 0));
	check_fault("gate_to_no_tss_gp", FAULT_OF("", "lcall %0, $0", "i"(TASK_GATE)), VEC_GP, KERNEL_DS);
	set_gdt(TASK_GATE, gate(TASK, 0, TYPE_TASK_GATE, 0, 0) & ~((uint64_t)DESC_P << 32));
	check_fault("absent_task_gate_np", FAULT_OF("", "lcall %0, $0", "i"(TASK_GATE)), VEC_NP, TASK_GATE);
	/* IRET with NT wants a busy task. */
	prepare_task(entered_by_jump);
	main_tss.tss.back_link = TASK;
	check_fault("iret_to_an_available_task_ts", FAULT_OF("pushfl; orl $0x4000, (%%esp); popfl", "iret"), VEC_TS,
	    TASK);
	check_equal("refused_switches_run_nothing", visit.count, 0);
}

/* Conforming code runs at the ring its selector asks for, if that is not inside its DPL. */
static void
check_conforming(void)
{
	extern volatile uint32_t visit_ring3_count;
	uint32_t before = visit_ring3_count;

	take_faults();
	prepare_task(in_ring3);
	set_gdt(CONFORMING_CS, descriptor(0, 0xFFFFF, DESC_CONFORMING | DESC_FLAT | DESC_DPL(0)));
	task_tss.cs = CONFORMING_CS | 3;
	task_tss.ss = task_tss.ds = task_tss.es = USER_DS;
	memset(&seen, 0, sizeof(seen));
	FAULT_OF("", "ljmp %0, $0", "i"(TASK));
	__asm__ volatile("clts");
	release_faults();
	check_silicon("task_cs_conforming_of_inner_dpl_runs", !seen.raised && visit_ring3_count == before + 1,
	    "raises #TS for a conforming CS whose RPL is not its DPL");
}

void
check_bad_tasks(void)
{
	check_old_task();
	check_rows();
	check_conforming();
}
