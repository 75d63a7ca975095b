/*
 * attempts.h -- one attempt, made in some ring; and its verdict, named for the ring.
 */
#pragma once

#include "guest.h"

/* A ring_function that runs one instruction under FAULT_OF; what it raised is left in `probe.seen`. */
#define ATTEMPT(name, setup, code)							\
	static uint32_t									\
	try_##name(uint32_t unused)							\
	{										\
		(void)unused;								\
		FAULT_OF(setup, code);							\
		return 0;								\
	}

/* PASS ring<ring>_<what> if the attempt raised this vector with this error code. */
void expect_fault(int ring, ring_function *attempt, const char *what, enum vector vector, uint32_t error);
void expect_allowed(int ring, ring_function *attempt, const char *what);
/* For instructions that are sensitive to IOPL. */
void expect_allowed_flags(int ring, ring_function *attempt, const char *what, uint32_t eflags);
void expect_fault_flags(int ring, ring_function *attempt, const char *what, enum vector vector, uint32_t error,
    uint32_t eflags);
const char *ring_name(int ring, const char *what);
