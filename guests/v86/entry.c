/*
 * entry.c -- into virtual-8086 mode and out of it: by IRET, by a task switch; what an exception pushes.
 */
#include "parts.h"

#define V86_TASK	0x58

static struct tss32 task_tss;
static uint8_t task_stack[2048];

void
check_entry(void)
{
	v86_run(prog_addresses, 0);
	check("iret_enters_v86", v86_halted(), "vector %u error %x at %x:%x", v86_end.vector, v86_end.error, v86_end.cs,
	    v86_end.eip);
	check_equal("segment_is_16_times_the_selector", v86_word(saw_marker), 0x4D4D);
	check_equal("cs_is_the_segment", v86_word(saw_cs), V86_SEGMENT);
	check("exception_pushes_vm", v86_end.eflags & EFL_VM, "EFLAGS %x", v86_end.eflags);
	check("exception_pushes_ss_sp", v86_end.ss == V86_SEGMENT && v86_end.esp == V86_STACK, "%x:%x", v86_end.ss,
	    v86_end.esp);
	v86_run(prog_segments, 0);
	check("exception_pushes_the_data_segments", v86_end.v86_ds == 0x1111 && v86_end.v86_es == 0x2222 &&
	    v86_end.v86_fs == 0x3333 && v86_end.v86_gs == 0x4444, "DS %x ES %x FS %x GS %x", v86_end.v86_ds,
	    v86_end.v86_es, v86_end.v86_fs, v86_end.v86_gs);
	check("handler_finds_null_segments", !v86_end.ds && !v86_end.es && !v86_end.fs && !v86_end.gs,
	    "DS %x ES %x FS %x GS %x", v86_end.ds, v86_end.es, v86_end.fs, v86_end.gs);
}

/* In the V86 task, at ring 0: back to the main task, for good. */
static void
task_ended(struct trap_frame *frame)
{
	v86_end = v86_frame(frame);
	__asm__ volatile("ljmp %0, $0" : : "i"(MAIN_TSS) : "memory");
}

/* A TSS whose EFLAGS has VM set: its segment fields are real-mode segments. */
void
check_task_entry(void)
{
	memset(&v86_end, 0, sizeof(v86_end));
	task_tss = (struct tss32){
		.esp0 = (uint32_t)task_stack + sizeof(task_stack), .ss0 = KERNEL_DS, .eip = v86_offset(prog_segments),
		.eflags = EFL_ONE | EFL_VM, .esp = V86_STACK, .cs = V86_SEGMENT, .ss = V86_SEGMENT, .ds = 0x5555,
		.es = V86_SEGMENT, .io_map_base = NO_IO_MAP,
	};
	set_gdt(V86_TASK, tss_descriptor(&task_tss, sizeof(task_tss) - 1, TYPE_TSS32, 0));
	on_trap(VEC_GP, task_ended);
	__asm__ volatile("ljmp %0, $0; clts" : : "i"(V86_TASK) : "memory", "cc");
	v86_init();
	check("task_switch_enters_v86", v86_end.eflags & EFL_VM && v86_end.vector == VEC_GP &&
	    v86_end.cs == V86_SEGMENT,
	    "vector %u EFLAGS %x CS %x", v86_end.vector, v86_end.eflags, v86_end.cs);
	check_equal("task_switch_runs_the_program", v86_end.v86_gs, 0x4444);
}
