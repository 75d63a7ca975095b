/*
 * burst_code.h -- what bursts.c and burst_code.S know of each other: offsets in struct burst, and sizes.
 */
#pragma once

#define BURST_PAGE	0
#define BURST_EXPECTED	4
#define BURST_ROUNDS	8
#define BURST_TICKS	12
#define BURST_UNTIL	16

#define BURST_STEPS	15000	/* of eight instructions */
#define BURST_HALF	2048	/* bytes read; the other half of the page is written */
#define BURST_MOST_ROUNDS 20000
