/*
 * parts.h -- the parts of this guest.
 */
#pragma once

#include "guest.h"

/* Everything is mapped one to one; the tests have two frames, and linear addresses of their own far above. */
#define MAPPED		(16u << 20)
#define WINDOW		0x40000000u

extern page_table *directory;
extern volatile uint8_t frames[4][PAGE_SIZE];

uint32_t frame_address(int n);
/* Map a page of the window, 0 to 7, and flush it. */
void map_window(int page, uint32_t physical, uint32_t flags);
uint32_t window_pte(int page);
volatile uint32_t *window(int page);

void check_accessed_dirty(void);
void check_write_protect(void);
void check_flushing(void);
void check_aliases(void);
void check_large_pages(void);
void check_pae(void);
