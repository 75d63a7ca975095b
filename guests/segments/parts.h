/*
 * parts.h -- the parts of this guest.
 */
#pragma once

#include "guest.h"

#define SLOT		0x58	/* the descriptor under test */
#define SLOT2		0x60
#define LDT_SLOT	0x68
#define CODE16		0x70	/* 16-bit code and data for the way to real mode */
#define DATA16		0x78

#define NO_LIMITS	"checks no segment limits on data"

void check_reset_ldtr(void);	/* must come first */
void check_types(void);
void check_queries(void);
void check_limits(void);
void check_loads(void);
void check_ldt(void);
void check_stack16(void);
void check_real_mode(void);
