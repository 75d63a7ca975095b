/*
 * world_filter.h -- the system calls that a world keeps once it runs guest code.
 */
#ifndef RF_WORLD_FILTER_H
#define RF_WORLD_FILTER_H

#include <stdint.h>

#define FILTER_PIDFDS 8

/* Descriptors are the world's own numbers, 0 or more. */
struct filter_rules {
	int32_t ram_fd;			/* guest memory: may be mapped in the user window with any access */
	int32_t dev_fd;			/* device memory: may be mapped there, never writable */
	int32_t signal;			/* what may be sent, and nothing else */
	uint32_t pidfds;		/* to whom: so many of pidfd[] */
	int32_t pidfd[FILTER_PIDFDS];
};

/* For the calling thread, for ever.  0, or a negative errno: then nothing is filtered. */
int filter_install(const struct filter_rules *rules);

#endif
