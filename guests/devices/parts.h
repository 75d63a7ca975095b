/*
 * parts.h -- the parts of `devices`.
 */
#pragma once

#include "guest.h"

/* Print "DEVICE name operations ns". */
void report(const char *name, uint64_t operations, uint64_t cycles);

void measure_uart(uint32_t count);
void measure_vga(uint32_t count);
void measure_cdrom(uint32_t count);
