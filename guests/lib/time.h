/*
 * time.h -- how long something took: the time stamp counter, calibrated against the 8254.
 */
#pragma once

#include "x86.h"

/* Measures for a fiftieth of a second at the first call; later calls are free. */
uint32_t tsc_khz(void);
uint64_t cycles_to_ns(uint64_t cycles);
