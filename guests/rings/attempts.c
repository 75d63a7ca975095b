/*
 * attempts.c -- making an attempt in a ring and judging it.
 */
#include "attempts.h"

const char *
ring_name(int ring, const char *what)
{
	static char name[64] = "ring";
	size_t length = strlen(what);

	name[4] = (char)('0' + ring);
	name[5] = '_';
	memcpy(name + 6, what, length < 56 ? length + 1 : 56);
	return name;
}

void
expect_fault_flags(int ring, ring_function *attempt, const char *what, enum vector vector, uint32_t error,
    uint32_t eflags)
{
	probe.seen = (struct fault){ 0 };
	ring_call_flags(ring, attempt, 0, eflags);
	check_fault(ring_name(ring, what), probe.seen, vector, error);
}

void
expect_fault(int ring, ring_function *attempt, const char *what, enum vector vector, uint32_t error)
{
	expect_fault_flags(ring, attempt, what, vector, error, 0);
}

void
expect_allowed_flags(int ring, ring_function *attempt, const char *what, uint32_t eflags)
{
	probe.seen = (struct fault){ 0 };
	ring_call_flags(ring, attempt, 0, eflags);
	check_no_fault(ring_name(ring, what), probe.seen);
}

void
expect_allowed(int ring, ring_function *attempt, const char *what)
{
	expect_allowed_flags(ring, attempt, what, 0);
}
