/*
 * rings.c -- running a function in an outer ring: IRET leads outward, an interrupt gate leads back.
 *
 * A transfer to an inner ring takes SS0:ESP0 from the TSS [SDM 3, 5.8.5], so the place where ring_enter left the
 * stack is written there: what interrupts the outer ring is pushed just below.
 */
#include "rings.h"
#include "cpu.h"

#define RING_STACK_SIZE	8192

uint32_t ring_enter(uint32_t cs, uint32_t ss, uint32_t esp, uint32_t eflags, ring_function *function);
void ring_leave(uint32_t value) __attribute__((noreturn));
extern char ring_return_stub[];
extern uint32_t ring_saved_esp;

static uint8_t stacks[4][RING_STACK_SIZE] __attribute__((aligned(4096)));
static struct fault ended_by;

static const uint16_t ring_cs[4] = { KERNEL_CS, RING1_CS, RING2_CS, USER_CS };
static const uint16_t ring_ss[4] = { KERNEL_DS, RING1_DS, RING2_DS, USER_DS };

void
rings_init(void)
{
	idt[VEC_RING_RETURN] = gate(KERNEL_CS, (uint32_t)ring_return_stub, TYPE_INT32, 3, 0);
}

uint32_t
ring_stack(int ring)
{
	return (uint32_t)stacks[ring] + RING_STACK_SIZE - 16;
}

uint32_t
ring_call_flags(int ring, ring_function *function, uint32_t argument, uint32_t eflags)
{
	uint32_t *stack = (uint32_t *)ring_stack(ring);

	ended_by = (struct fault){ 0 };
	if (ring == 0)		/* IRET would not switch stacks */
		return function(argument);
	*stack = argument;
	return ring_enter(ring_cs[ring], ring_ss[ring], (uint32_t)stack, eflags | EFL_ONE, function);
}

uint32_t
ring_call(int ring, ring_function *function, uint32_t argument)
{
	return ring_call_flags(ring, function, argument, 0);
}

struct fault
ring_fault(void)
{
	return ended_by;
}

bool
ring_call_active(void)
{
	return ring_saved_esp != 0;
}

void
ring_call_end(struct fault fault)
{
	ended_by = fault;
	ring_leave(0);
}
