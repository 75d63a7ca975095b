/*
 * faults.h -- the parts of this guest.
 */
#pragma once

#include "guest.h"

void check_arithmetic(void);	/* #DE #OF #BR */
void check_debug(void);		/* #DB #BP */
void check_invalid(void);	/* #UD, and the length limit */
void check_coprocessor(void);	/* #NM #MF #XM #AC */
void check_selectors(void);	/* #TS #NP #SS #GP */
void check_limits(void);	/* #GP and #SS by segment limits, fetches included */
void check_pages(void);		/* #PF */
void check_page_order(void);	/* what is done before a #PF and what is not */
void check_priorities(void);	/* two reasons at once */
void check_double_fault(void);	/* #DF, through a task gate */
void check_silicon_habits(void);	/* results that the manual leaves open and all processors agree on */

/* A trap: reported after the instruction, so EIP has moved on by its length. */
bool check_trap(const char *name, struct fault fault, enum vector vector, uint32_t length);

/* Paging on, with everything mapped one to one for all rings, and a hole of four pages where nothing is mapped. */
#define HOLE	0x40000000u
page_table *fault_directory(void);
