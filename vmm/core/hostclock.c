/*
 * hostclock.c -- the host's clock in the extension: there libc knows the fastest way to it, and nothing traps.
 */
#include "hostclock.h"

#ifndef RF_WORLD	/* world_clock.c */

#include <time.h>

uint64_t
host_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
