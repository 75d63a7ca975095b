/*
 * world.h -- between the files of the world executable that set it up.
 */
#ifndef RF_WORLD_H
#define RF_WORLD_H

#include <stdint.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* Exit statuses of a world, for whoever wonders why it did not start. */
enum { STATUS_SHUTDOWN = 0, STATUS_RELOCATIONS = 120, STATUS_ARGUMENT, STATUS_MAPS, STATUS_FAULT /* of the monitor itself */,
	STATUS_NOT_SETTLED /* the other worlds cannot be kicked, or no filter can be installed */,
	STATUS_CREW /* a process of the world was killed: world_crew.c */ };

enum { LARGE_SHIFT = 21, LARGE_PAGE = 1 << LARGE_SHIFT };	/* bytes: an x86-64 host's */

static inline uint64_t
next_large_page(uint64_t address)
{
	return (address + LARGE_PAGE - 1) & ~(uint64_t)(LARGE_PAGE - 1);
}

struct engine;

/* `stack` is the initial one: the argument count, then the arguments.  Never returns. */
HIDDEN void world_main(const uint64_t *stack);
HIDDEN void text_in_large_page(void);
HIDDEN void *arena_map(uint64_t bytes);
HIDDEN void arena_in_large_pages(struct engine *e);

#endif
