/*
 * flat.c -- the head of a raw image of the workloads, for a processor model with nothing around it.
 *
 * Load the image at `load_address` in flat 32-bit memory that is zero up to `end`; then call workload[i].run(rounds)
 * by the C convention: the argument and a return address on the stack, the checksum in EAX.
 */
#include "workloads.h"

struct flat_header {
	char magic[8];
	uint32_t load_address, end;
	uint32_t count;
	const struct workload *workloads;	/* an address in the image */
};

extern char image_start[], image_end[];

extern const struct flat_header flat_header;
const struct flat_header flat_header __attribute__((section(".header"), used)) = {
	"RFFLAT01", (uint32_t)image_start, (uint32_t)image_end, WORKLOADS, workloads,
};
