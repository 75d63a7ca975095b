/*
 * flushing.c -- when a changed entry is seen: after INVLPG, after a load of CR3, and, for an entry that was absent, at
 * once.  [SDM 3, 4.10]
 *
 * Nothing here depends on a stale entry being used; the manual only allows that.
 */
#include "parts.h"

#define RW	(PTE_P | PTE_W | PTE_U)

void
check_flushing(void)
{
	struct fault fault;

	*(volatile uint32_t *)frames[0] = 0x1111;
	*(volatile uint32_t *)frames[1] = 0x2222;

	/* A failed walk is not cached, so making a page present needs no flush. */
	map_window(0, 0, 0);
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(window(0)));
	check_fault("absent_page_pf", fault, VEC_PF, 0);
	map_page(directory, WINDOW, frame_address(0), RW);
	check_equal("absent_to_present_needs_no_flush", *window(0), 0x1111);

	map_page(directory, WINDOW, frame_address(1), RW);
	invalidate_page((const void *)window(0));
	check_equal("invlpg_shows_the_new_frame", *window(0), 0x2222);

	map_page(directory, WINDOW, frame_address(0), RW);
	write_cr3(read_cr3());
	check_equal("cr3_load_shows_the_new_frame", *window(0), 0x1111);

	map_page(directory, WINDOW, 0, 0);
	invalidate_page((const char *)window(0) + 0x7FF);	/* any address in the page will do */
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(window(0)));
	check_fault("invlpg_of_a_removed_page_pf", fault, VEC_PF, 0);

	map_window(0, frame_address(0), RW);
	*window(0) = 1;
	map_window(0, frame_address(0), PTE_P | PTE_U);
	write_cr0(read_cr0() | CR0_WP);
	fault = FAULT_OF("", "movl $1, (%0)", "r"(window(0)));
	check_fault("invlpg_takes_the_right_to_write", fault, VEC_PF, PF_PRESENT | PF_WRITE);
	write_cr0(read_cr0() & ~CR0_WP);

	/* Two address spaces, one linear address. */
	{
		page_table *other = identity_directory(MAPPED, RW);
		uint32_t seen[3];

		map_page(other, WINDOW, frame_address(1), RW);
		map_window(0, frame_address(0), RW);
		*(volatile uint32_t *)frames[0] = 0x1111;
		seen[0] = *window(0);
		write_cr3((uint32_t)other);
		seen[1] = *window(0);
		write_cr3((uint32_t)directory);
		seen[2] = *window(0);
		check("each_directory_shows_its_own_frame", seen[0] == 0x1111 && seen[1] == 0x2222 && seen[2] == 0x1111,
		    "%x %x %x", seen[0], seen[1], seen[2]);
	}

	/* Turning paging off and on again flushes. */
	map_page(directory, WINDOW, frame_address(1), RW);
	paging_off();
	paging_on(directory);
	check_equal("paging_off_and_on_shows_the_new_frame", *window(0), 0x2222);
}
