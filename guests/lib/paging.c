/*
 * paging.c -- building two-level page tables.
 */
#include "paging.h"
#include "memory.h"

#define INDEX_MASK	1023

page_table *
pde_of(page_table *directory, uint32_t linear)
{
	return &directory[linear >> 22];
}

page_table *
pte_of(page_table *directory, uint32_t linear)
{
	page_table *table = (page_table *)(*pde_of(directory, linear) & PTE_FRAME);

	return &table[linear >> 12 & INDEX_MASK];
}

/* Rights are the AND of both levels, so the directory grants all and the table decides. */
void
map_page(page_table *directory, uint32_t linear, uint32_t physical, uint32_t flags)
{
	page_table *pde = pde_of(directory, linear);

	if (!(*pde & PTE_P))
		*pde = (uint32_t)allocate_pages(1) | PTE_P | PTE_W | PTE_U;
	*pte_of(directory, linear) = (physical & PTE_FRAME) | flags;
}

page_table *
identity_directory(uint32_t bytes, uint32_t flags)
{
	page_table *directory = allocate_pages(1);
	uint32_t address;

	for (address = 0; address < bytes; address += PAGE_SIZE)
		map_page(directory, address, address, flags);
	return directory;
}

void
paging_on(page_table *directory)
{
	write_cr3((uint32_t)directory);
	write_cr0(read_cr0() | CR0_PG);
}

void
paging_off(void)
{
	write_cr0(read_cr0() & ~CR0_PG);
	write_cr3(0);
}
