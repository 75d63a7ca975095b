/*
 * gates.h -- the shortest ways from ring 3 to ring 0 and back, for timing them.
 */
#pragma once

#include "x86.h"

#define VEC_BARE	0x80	/* an interrupt gate to an IRET */
#define BARE_GATE	0x1F8	/* a call gate to an LRET: the last descriptor of the GDT */

/* Open both gates, and the SYSENTER entry if the processor has it. */
void bare_gates_init(void);
bool has_sysenter(void);

/* Ring functions: so many round trips. */
uint32_t round_trips_int(uint32_t count);
uint32_t round_trips_call(uint32_t count);
uint32_t round_trips_sysenter(uint32_t count);
