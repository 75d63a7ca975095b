/*
 * paging.h -- two-level page tables.  [SDM 3, 4.3]
 */
#pragma once

#include "x86.h"

#define PTE_P		(1u << 0)
#define PTE_W		(1u << 1)
#define PTE_U		(1u << 2)
#define PTE_A		(1u << 5)
#define PTE_D		(1u << 6)
#define PDE_PS		(1u << 7)
#define PTE_G		(1u << 8)
#define PTE_FRAME	0xFFFFF000u
#define LARGE_PAGE	(4u << 20)

typedef uint32_t page_table;	/* 1024 of them */

/* A directory that maps the first `bytes` of memory one to one with `flags`, in 4 KiB pages. */
page_table *identity_directory(uint32_t bytes, uint32_t flags);

/* Enter one page; a page table is allocated when it is missing.  Nothing is flushed. */
void map_page(page_table *directory, uint32_t linear, uint32_t physical, uint32_t flags);

/* The page-table entry for an address whose table exists. */
page_table *pte_of(page_table *directory, uint32_t linear);
page_table *pde_of(page_table *directory, uint32_t linear);

void paging_on(page_table *directory);
void paging_off(void);
