/*
 * workloads.h -- pure computation: no I/O, no library, the same object code wherever it is linked.
 */
#pragma once

#include <stdint.h>

/* The layout is read by the host of the flat image too: 32 bytes, all little-endian. */
struct workload {
	char name[16];
	uint32_t (*run)(uint32_t rounds);	/* each round does the same again; returns the checksum of the last */
	uint32_t rounds;			/* the usual number */
	uint32_t ops_per_round;
	uint32_t checksum;
};
_Static_assert(sizeof(void *) != 4 || sizeof(struct workload) == 32, "the flat image's table");

#define WORKLOADS 7
extern const struct workload workloads[WORKLOADS];
