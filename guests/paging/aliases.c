/*
 * aliases.c -- one frame at several linear addresses, page tables among them.
 */
#include "parts.h"

#define RW	(PTE_P | PTE_W | PTE_U)

void
check_aliases(void)
{
	uint32_t table = *pde_of(directory, WINDOW) & PTE_FRAME, value;
	struct fault fault;
	int page;

	for (page = 0; page < 4; page++)
		map_window(page, frame_address(3), RW);
	*window(0) = 0xABCD;
	check("write_shows_in_every_alias", *window(1) == 0xABCD && *window(2) == 0xABCD && *window(3) == 0xABCD,
	    "%x %x %x", *window(1), *window(2), *window(3));
	check_equal("write_shows_in_the_frame", *(volatile uint32_t *)frames[3], 0xABCD);
	check("dirty_bit_is_the_aliass_own", window_pte(0) & PTE_D && !(window_pte(1) & PTE_D), "PTEs %x %x",
	    window_pte(0), window_pte(1));

	/* An unaligned access through two aliases of one frame, in order, reads its end and then its beginning. */
	frames[3][PAGE_SIZE - 1] = 0x77;
	frames[3][0] = 0x88;
	value = *(volatile uint16_t *)(WINDOW + PAGE_SIZE - 1);
	check_equal("crossing_aliases_wraps_in_the_frame", value, 0x8877);

	map_window(1, frame_address(3), PTE_P | PTE_U);
	write_cr0(read_cr0() | CR0_WP);
	fault = FAULT_OF("", "movl $1, (%0)", "r"(window(1)));
	write_cr0(read_cr0() & ~CR0_WP);
	check_fault("rights_are_the_aliass_own", fault, VEC_PF, PF_PRESENT | PF_WRITE);

	/* The table that maps the window, mapped in the window: its entries are written through itself. */
	map_window(7, table, RW);
	*(volatile uint32_t *)frames[0] = 0x5555;
	window(7)[5] = frame_address(0) | RW;
	invalidate_page((const void *)window(5));
	check_equal("entry_written_through_the_window_counts", *window(5), 0x5555);
	check("accessed_bit_shows_through_the_window", window(7)[5] & PTE_A, "entry %x", window(7)[5]);
	check("table_written_through_itself_is_dirty", window_pte(7) & PTE_D, "PTE %x", window_pte(7));

	/* A directory that is its own page table: the well-known map of all tables at one address. */
	*pde_of(directory, 0xFFC00000u) = (uint32_t)directory | RW;
	check_equal("recursive_map_shows_the_tables",
	    *(volatile uint32_t *)(0xFFC00000u + (WINDOW >> 10) + 4 * 5) & PTE_FRAME,
	    frame_address(0));
	check_equal("recursive_map_shows_the_directory",
	    *(volatile uint32_t *)(0xFFFFF000u + (WINDOW >> 20)) & PTE_FRAME,
	    table);
	*pde_of(directory, 0xFFC00000u) = 0;
	write_cr3(read_cr3());
	for (page = 0; page < 8; page++)
		map_window(page, 0, 0);
}
