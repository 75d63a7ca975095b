/*
 * v86 -- an 8086 inside a task: real-mode addresses at CPL 3, and a monitor that looks after what it may not do.
 * [SDM 3, chapter 20]
 */
#include "parts.h"

void v86_enter(uint32_t eip, uint32_t eflags);

struct trap_frame v86_end;

/* The processor pushes selectors in four bytes of which two count. */
struct trap_frame
v86_frame(const struct trap_frame *frame)
{
	struct trap_frame clean = *frame;
	uint32_t *const selectors[] = {
		&clean.gs, &clean.fs, &clean.es, &clean.ds, &clean.cs, &clean.ss, &clean.v86_es, &clean.v86_ds,
		&clean.v86_fs, &clean.v86_gs,
	};
	size_t i;

	for (i = 0; i < sizeof(selectors) / sizeof(selectors[0]); i++)
		*selectors[i] &= 0xFFFF;
	return clean;
}

static void
ended(struct trap_frame *frame)
{
	if (!(frame->eflags & EFL_VM))
		stop("v86_ends_in_v86", "vector %u error %x at %x", frame->vector, frame->error, frame->eip);
	v86_end = v86_frame(frame);
	ring_call_end((struct fault){ .raised = true, .vector = frame->vector, .error = frame->error });
}

void
v86_init(void)
{
	memcpy((void *)V86_BASE, v86_start, (size_t)(v86_stop - v86_start));
	on_trap(VEC_GP, ended);
	on_trap(VEC_UD, ended);
	on_trap(VEC_BP, ended);
	on_trap(VEC_OF, ended);
}

void
v86_run(const char *program, uint32_t eflags)
{
	memset(&v86_end, 0, sizeof(v86_end));
	v86_enter(v86_offset(program), eflags | EFL_VM | EFL_ONE);
}

uint32_t
v86_offset(const char *label)
{
	return (uint32_t)(label - v86_start);
}

uint16_t
v86_word(const char *label)
{
	return *(volatile uint16_t *)(V86_BASE + v86_offset(label));
}

bool
v86_halted(void)
{
	return v86_end.vector == VEC_GP && v86_end.error == 0 &&
	    *(volatile uint8_t *)((v86_end.cs << 4) + v86_end.eip) == OP_HLT;
}

void
guest_main(void)
{
	v86_init();
	check_entry();
	check_iopl();
	check_ports();
	check_interrupts();
	check_protected_only();
	check_task_entry();
	check_vme();
}
