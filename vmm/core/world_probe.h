/*
 * world_probe.h -- a world that tries what the host offers instead of running a guest.
 */
#ifndef RF_WORLD_PROBE_H
#define RF_WORLD_PROBE_H

#include <stdint.h>

#include "world.h"

/* What the argument of such a world begins with; the number of the struct host_offers' descriptor follows. */
#define PROBE_ARGUMENT "probe="

/* Fill the page and leave.  Never returns. */
HIDDEN void probe_main(int32_t fd);

#endif
