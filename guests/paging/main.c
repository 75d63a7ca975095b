/*
 * paging -- what the processor reads from page tables, and the two bits that it writes into them.
 */
#include "parts.h"

page_table *directory;
volatile uint8_t frames[4][PAGE_SIZE] __attribute__((aligned(4096)));

uint32_t
frame_address(int n)
{
	return (uint32_t)frames[n];
}

volatile uint32_t *
window(int page)
{
	return (volatile uint32_t *)(WINDOW + (uint32_t)page * PAGE_SIZE);
}

void
map_window(int page, uint32_t physical, uint32_t flags)
{
	map_page(directory, (uint32_t)window(page), physical, flags);
	invalidate_page((const void *)window(page));
}

uint32_t
window_pte(int page)
{
	return *pte_of(directory, (uint32_t)window(page));
}

void
guest_main(void)
{
	directory = identity_directory(MAPPED, PTE_P | PTE_W | PTE_U);
	map_page(directory, WINDOW, 0, 0);
	paging_on(directory);
	check_accessed_dirty();
	check_write_protect();
	check_flushing();
	check_aliases();
	check_large_pages();
	paging_off();
	check_pae();
}
