/*
 * parts.h -- what transit_loops.S and main.c share.
 */
#pragma once

#include "guest.h"

/* Each loop runs transit_turns turns of a delay before each of its `count` crossings.  Ring functions. */
uint32_t loop_stretch(uint32_t count);
uint32_t loop_syscall_int(uint32_t count);
uint32_t loop_syscall_sysenter(uint32_t count);
uint32_t loop_refused(uint32_t count);
uint32_t loop_pgfault(uint32_t count);
uint32_t loop_core_port(uint32_t count);
uint32_t loop_device_port(uint32_t count);
uint32_t loop_rdtsc(uint32_t count);
uint32_t loop_fresh(uint32_t count);
uint32_t loop_switch(uint32_t count);

/* Gates of ring 0: two step over what faulted and count, one exchanges the address space. */
extern char step_over_gp[], step_over_pf[], exchange_space[];

extern volatile uint32_t transit_turns, transit_faults;
extern uint32_t transit_next_page;	/* where loop_fresh goes on */
extern uint32_t transit_spaces;		/* one CR3 XOR the other */
