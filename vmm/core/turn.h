/*
 * turn.h -- waiting for the turn and handing it over; both sides of turn.c.
 */
#ifndef RF_TURN_H
#define RF_TURN_H

#include <stdint.h>

#include "core.h"

#define TURN_FOREVER UINT64_MAX
#define TURN_NAP_NS 1000000000ull	/* one sleep; a longer wait is several */

/* 1 when *turn is `mine`, 0 when it did not become so within timeout_ns. */
int turn_wait(uint32_t *turn, uint32_t mine, uint32_t spin_ns, uint64_t timeout_ns);

/* Hand the turn to `to`; the caller had it. */
void turn_give(uint32_t *turn, uint32_t to);

#endif
