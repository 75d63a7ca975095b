/*
 * traps.c -- who gets an exception: a handler, the FAULT_OF that waits for it, the ring_call it ends, or nobody.
 */
#include "traps.h"
#include "console.h"
#include "cpu.h"
#include "report.h"
#include "rings.h"

#define STUB_SIZE	16

_Static_assert(offsetof(struct probe, expected_eip) == 4 && offsetof(struct probe, esp) == 8 &&
    offsetof(struct probe, ss) == 12 && offsetof(struct probe, ebx) == 16 && offsetof(struct probe, ebp) == 28,
    "FAULT_OF writes the probe by offset");

extern char trap_stubs[];
void trap_dispatch(struct trap_frame *frame);

struct probe probe;
static trap_handler *handlers[256];
static const uint16_t flat_code[4] = { KERNEL_CS, RING1_CS, RING2_CS, USER_CS };
static const uint16_t flat_data[4] = { KERNEL_DS, RING1_DS, RING2_DS, USER_DS };

uint32_t
trap_stub(int vector)
{
	return (uint32_t)trap_stubs + (uint32_t)vector * STUB_SIZE;
}

void
on_trap(int vector, trap_handler *handler)
{
	handlers[vector] = handler;
}

/* #BP and #OF come from instructions that any ring may use, so their gates have DPL 3. */
void
traps_init(void)
{
	int vector;

	for (vector = 0; vector < 256; vector++) {
		int dpl = vector == VEC_BP || vector == VEC_OF ? 3 : 0;

		idt[vector] = gate(KERNEL_CS, trap_stub(vector), TYPE_INT32, dpl, 0);
	}
	rings_init();
}

static struct fault
describe(const struct trap_frame *frame)
{
	return (struct fault){
		.raised = true, .vector = frame->vector, .error = frame->error, .eip = frame->eip,
		.at = frame->eip - probe.expected_eip, .cr2 = frame->vector == VEC_PF ? read_cr2() : 0,
		.cs = frame->cs & 0xFFFF, .eflags = frame->eflags,
	};
}

static void
panic(const struct trap_frame *f)
{
	bool outer = f->cs & RPL_MASK || f->eflags & EFL_VM;

	print("eax %08x ebx %08x ecx %08x edx %08x\n", f->eax, f->ebx, f->ecx, f->edx);
	print("esi %08x edi %08x ebp %08x esp %08x\n", f->esi, f->edi, f->ebp, outer ? f->esp : (uint32_t)&f->esp);
	print("cs %04x ds %04x es %04x eflags %08x cr2 %08x\n", f->cs & 0xFFFF, f->ds & 0xFFFF, f->es & 0xFFFF,
	    f->eflags, read_cr2());
	stop("no_unexpected_trap", "vector %u, error %x, at %x", f->vector, f->error, f->eip);
}

void
trap_dispatch(struct trap_frame *frame)
{
	if (handlers[frame->vector]) {
		handlers[frame->vector](frame);
		return;
	}
	if (frame->vector >= VEC_IRQ)
		panic(frame);
	if (probe.recovery) {
		probe.seen = describe(frame);
		frame->eip = probe.recovery;
		/* The recovery may lie outside the segments that were in use. */
		frame->cs = flat_code[frame->cs & RPL_MASK];
		frame->ds = frame->es = flat_data[frame->cs & RPL_MASK];
		frame->eflags &= ~(EFL_RF | EFL_TF | EFL_NT);
		return;
	}
	if (ring_call_active() && (frame->cs & RPL_MASK || frame->eflags & EFL_VM)) {
		struct fault seen = describe(frame);

		seen.at = 0;
		seen.esp = frame->esp;
		ring_call_end(seen);
	}
	panic(frame);
}

bool
is_fault(struct fault fault, enum vector vector, uint32_t error)
{
	if (!fault.raised || fault.vector != vector)
		return false;
	return error == NO_ERROR || fault.error == error;
}

bool
check_fault(const char *name, struct fault fault, enum vector vector, uint32_t error)
{
	if (!fault.raised)
		return check(name, false, "nothing was raised, expected vector %u", vector);
	if (fault.vector != vector || (error != NO_ERROR && fault.error != error))
		return check(name, false, "vector %u error %x, expected vector %u error %x", fault.vector, fault.error,
		    vector, error == NO_ERROR ? 0 : error);
	if (fault.at)
		return check(name, false, "EIP is %d bytes from the instruction", (int)fault.at);
	/* One emulator never sets RF; the guest `faults` says so once, rather than every check. */
	return check(name, fault.eflags & EFL_RF || on_tcg(), "RF is clear in the pushed EFLAGS %x", fault.eflags);
}

bool
check_fault_silicon(const char *name, struct fault fault, enum vector vector, uint32_t error, const char *emulator_does)
{
	if (on_tcg() && (!is_fault(fault, vector, error) || fault.at))
		return check_silicon(name, false, emulator_does);
	return check_fault(name, fault, vector, error);
}

bool
check_no_fault(const char *name, struct fault fault)
{
	return check(name, !fault.raised, "vector %u error %x at +%d", fault.vector, fault.error, (int)fault.at);
}
