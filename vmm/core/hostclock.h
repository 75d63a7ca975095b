/*
 * hostclock.h -- the host's clock, without a system call where that is possible.
 *
 * Every exit, every interval between two polls and every RDTSC of the guest reads it: some 170,000 times a second where
 * Linux runs.  A system call takes 250 to 340 ns, the more the more watches over it; the vDSO takes 22.
 */
#ifndef RF_HOSTCLOCK_H
#define RF_HOSTCLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in ns.  Not for signal handlers. */
uint64_t host_ns(void);

#ifdef RF_WORLD
/* Find the vDSO: once, with the stack that the kernel has made. */
void host_clock_begin(const uint64_t *stack);
/* Syscall user dispatch is on in this process and looks at this byte, which blocks. */
void host_clock_dispatch(volatile uint8_t *selector);
/* Is RDTSC to trap in this process?  False where the host refuses. */
bool host_clock_trap_tsc(bool traps);
#endif

#endif
