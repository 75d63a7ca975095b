/*
 * rings.h -- running a function in an outer ring.
 */
#pragma once

#include "traps.h"

typedef uint32_t ring_function(uint32_t argument);

/*
 * Run `function` in ring 1, 2 or 3, on a stack of that ring, and return what it returns.  It comes back through
 * INT 81h; ring 0 is a plain call.  An exception that no handler takes ends it; ring_fault() tells which.  Not to be
 * nested.
 */
uint32_t ring_call(int ring, ring_function *function, uint32_t argument);

/* The same with a choice of EFLAGS, for instance EFL_IOPL(3) or EFL_IF. */
uint32_t ring_call_flags(int ring, ring_function *function, uint32_t argument, uint32_t eflags);

/* What ended the last ring_call, if not its function's return. */
struct fault ring_fault(void);

static inline int
current_ring(void)
{
	uint32_t cs;

	__asm__ volatile("movl %%cs, %0" : "=r"(cs));
	return cs & RPL_MASK;
}

/* For the trap handlers. */
void rings_init(void);
bool ring_call_active(void);
void ring_call_end(struct fault fault) __attribute__((noreturn));

/* The top of the stack that ring_call gives a ring. */
uint32_t ring_stack(int ring);
