/*
 * accessed.c -- the accessed bit, set by any use, and the dirty bit, set by a write.  [SDM 3, 4.8]
 *
 * The processor sets them and never clears them.  An access that faults is none.
 */
#include "parts.h"

#define RW	(PTE_P | PTE_W | PTE_U)
#define AD	(PTE_A | PTE_D)

static void
check_bits(const char *name, uint32_t expected)
{
	check_equal(name, window_pte(0) & AD, expected);
}

static void
fresh(uint32_t flags)
{
	map_window(0, frame_address(0), flags);
	*pde_of(directory, WINDOW) &= ~PTE_A;
	write_cr3(read_cr3());
}

static uint32_t
read_window(uint32_t unused)
{
	(void)unused;
	FAULT_OF("", "movl (%0), %%eax", "r"(window(0)));
	return 0;
}

static uint32_t
compare_window(uint32_t unused)
{
	(void)unused;
	FAULT_OF("movl $1, %%eax", "cmpxchgl %%eax, (%0)", "r"(window(0)));
	return 0;
}

static void
check_leaf(void)
{
	fresh(RW);
	check_bits("untouched_page_has_neither", 0);
	read_window(0);
	check_bits("read_sets_accessed_only", PTE_A);
	*window(0) = 1;
	check_bits("write_after_read_sets_dirty", AD);

	fresh(RW);
	*window(0) = 1;
	check_bits("write_sets_both", AD);

	fresh(RW);
	__asm__ volatile("addl $1, %0" : "+m"(*window(0)));
	check_bits("read_modify_write_sets_both", AD);

	fresh(RW);
	*window(0) = 5;
	fresh(RW);
	compare_window(0);
	check_bits("unequal_cmpxchg_sets_dirty", AD);

	fresh(RW);
	frames[0][0] = 0xC3;				/* RET */
	__asm__ volatile("call *%0" : : "r"(window(0)));
	check_bits("fetch_sets_accessed_only", PTE_A);

	fresh(RW | AD);
	read_window(0);
	check_bits("read_keeps_dirty", AD);

	/* Software may clear them; after a flush the processor sets them again. */
	*pte_of(directory, WINDOW) &= ~AD;
	invalidate_page((const void *)window(0));
	read_window(0);
	check_bits("cleared_bits_are_set_again", PTE_A);
	*pte_of(directory, WINDOW) &= ~AD;
	invalidate_page((const void *)window(0));
	*window(0) = 1;
	check_bits("cleared_dirty_is_set_again", AD);
}

static void
check_faults_set_nothing(void)
{
	fresh(PTE_P | PTE_W);
	ring_call(3, read_window, 0);
	check_fault("user_read_of_supervisor_page_pf", probe.seen, VEC_PF, PF_PRESENT | PF_USER);
	check_bits("faulting_read_sets_nothing", 0);

	fresh(PTE_P | PTE_U);
	write_cr0(read_cr0() | CR0_WP);
	FAULT_OF("", "movl $1, (%0)", "r"(window(0)));
	write_cr0(read_cr0() & ~CR0_WP);
	check("faulting_write_sets_no_dirty", !(window_pte(0) & PTE_D), "PTE %x", window_pte(0));

	fresh(RW & ~PTE_P);
	read_window(0);
	check_bits("absent_page_is_left_alone", 0);
}

static void
check_directory(void)
{
	fresh(RW);
	read_window(0);
	check("walk_sets_accessed_in_the_directory", *pde_of(directory, WINDOW) & PTE_A, "PDE %x",
	    *pde_of(directory, WINDOW));
	*window(0) = 1;
	check("directory_entry_of_a_table_has_no_dirty", !(*pde_of(directory, WINDOW) & PTE_D), "PDE %x",
	    *pde_of(directory, WINDOW));
}

/* Both pages of an access that crosses from one to the other. */
static void
check_crossing(void)
{
	volatile uint32_t *across = (volatile uint32_t *)(WINDOW + PAGE_SIZE - 2);

	map_window(0, frame_address(0), RW);
	map_window(1, frame_address(2), RW);
	*across = 0x44332211;
	check("crossing_write_reaches_both_frames", frames[0][PAGE_SIZE - 1] == 0x22 && frames[2][0] == 0x33,
	    "%x %x", frames[0][PAGE_SIZE - 1], frames[2][0]);
	check("crossing_write_sets_both_dirty", window_pte(0) & window_pte(1) & PTE_D, "PTEs %x %x", window_pte(0),
	    window_pte(1));
	check_equal("crossing_read_joins_both_frames", *across, 0x44332211);
	map_window(0, frame_address(0), RW);
	map_window(1, frame_address(2), RW & ~PTE_P);
	FAULT_OF("", "movl $0, (%0)", "r"(across));
	check_equal("crossing_fault_writes_nothing", frames[0][PAGE_SIZE - 1], 0x22);
}

void
check_accessed_dirty(void)
{
	check_leaf();
	check_faults_set_nothing();
	check_directory();
	check_crossing();
}
