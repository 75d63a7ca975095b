/*
 * gates.c -- host system calls by every gate: they are the guest's own gates, or faults.
 */
#include "parts.h"

#define STUB_BYTES	4
#define VECTORS		256

extern char int_stubs[];

static volatile uint32_t gate_count, gate_wrong;

static void
check_every_vector(void)
{
	uint32_t vector, bad = VECTORS;
	struct fault seen = { 0 };

	clean_eax = 1;	/* exit, to a host */
	for (vector = 0; vector < VECTORS && bad == VECTORS; vector++) {
		bool trap = vector == VEC_BP || vector == VEC_OF;
		uint32_t at = (uint32_t)int_stubs + vector * STUB_BYTES;

		if (vector == VEC_RING_RETURN)	/* how ring 3 comes home */
			continue;
		seen = user_fault(clean_call, at);
		if (!seen.raised || seen.vector != (trap ? vector : VEC_GP) || seen.eip != at + (trap ? 2 : 0) ||
		    (!trap && seen.error != vector * 8 + 2))
			bad = vector;
	}
	check("int_to_every_vector", bad == VECTORS, "INT %x: vector %u, error %x, at %x", bad, seen.vector, seen.error,
	    seen.eip);
}

/* The guest's kernel: it counts, and changes nothing. */
static void
count_call(struct trap_frame *frame)
{
	if (frame->ebx != 0x1234 || frame->ecx != frame->eax + 1 || frame->edx != frame->eax + 2)
		gate_wrong++;
	gate_count++;
}

static void
check_open_gate(const char *name, uint32_t vector, ring_function *calls)
{
	uint32_t count = rounds(50000, 2000), lost;
	uint64_t closed = idt[vector];

	idt[vector] = gate(KERNEL_CS, trap_stub((int)vector), TYPE_INT32, 3, 0);
	on_trap((int)vector, count_call);
	gate_count = gate_wrong = 0;
	lost = user_call(calls, count);
	check(name, gate_count == count && !gate_wrong && !lost, "%u of %u calls, %u with other registers, %u came back so",
	    gate_count, count, gate_wrong, lost);
	on_trap((int)vector, NULL);
	idt[vector] = closed;
}

static uint32_t
try_lcall7(uint32_t unused)
{
	(void)unused;
	FAULT_OF("movl $1, %%eax", "lcall $7, $0");
	return 0;
}

static uint32_t
try_lcall27(uint32_t unused)
{
	(void)unused;
	FAULT_OF("movl $1, %%eax", "lcall $0x27, $0");
	return 0;
}

/* SYSENTER with the selector at zero, or a processor that has none. */
static void
check_fast_calls(void)
{
	enum vector expected = has_sysenter() ? VEC_GP : VEC_UD;
	uint32_t error = has_sysenter() ? 0 : NO_ERROR;

	if (has_sysenter())
		write_msr(MSR_SYSENTER_CS, 0);
	check_fault("sysenter_faults", user_fault(user_sysenter, 1), expected, error);
	check_fault("sysenter_without_a_stack_faults", user_fault(user_sysenter_no_stack, 1), expected, error);
	check_fault("sysexit_faults", user_fault(user_sysexit, 1), expected, error);
	check_fault("syscall_ud", user_fault(user_syscall, 60), VEC_UD, NO_ERROR);
	user_call(try_lcall7, 0);
	check_fault("call_gate_7_gp", probe.seen, VEC_GP, 4);
	user_call(try_lcall27, 0);
	check_fault("call_gate_27_gp", probe.seen, VEC_GP, 0x24);
}

void
check_gates(void)
{
	check_every_vector();
	check_open_gate("host_calls_by_int80_reach_the_guest", HOST_CALL, user_int80);
	check_open_gate("host_calls_by_int2e_reach_the_guest", NT_CALL, user_int2e);
	check_fast_calls();
}
