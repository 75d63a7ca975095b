/*
 * protect.c -- who may write where: the rights of both levels, and CR0.WP.  [SDM 3, 4.6]
 */
#include "parts.h"

static uint32_t
write_window(uint32_t unused)
{
	(void)unused;
	FAULT_OF("", "movl $1, (%0)", "r"(window(0)));
	return 0;
}

static const struct row {
	const char *name;
	int ring;
	bool wp;
	uint32_t pde, pte;		/* rights at each level */
	bool allowed;
} rows[] = {
	{ "ring3_writes_a_user_page", 3, false, PTE_W | PTE_U, PTE_W | PTE_U, true },
	{ "ring3_needs_w_in_the_table", 3, false, PTE_W | PTE_U, PTE_U, false },
	{ "ring3_needs_w_in_the_directory", 3, false, PTE_U, PTE_W | PTE_U, false },
	{ "ring3_needs_u_in_the_table", 3, false, PTE_W | PTE_U, PTE_W, false },
	{ "ring3_needs_u_in_the_directory", 3, false, PTE_W, PTE_W | PTE_U, false },
	{ "ring0_without_wp_needs_nothing", 0, false, 0, 0, true },
	{ "ring0_with_wp_writes_a_writable_page", 0, true, PTE_W, PTE_W, true },
	{ "ring0_with_wp_needs_w_in_the_table", 0, true, PTE_W, 0, false },
	{ "ring0_with_wp_needs_w_in_the_directory", 0, true, 0, PTE_W, false },
	{ "ring0_with_wp_obeys_on_user_pages_too", 0, true, PTE_W | PTE_U, PTE_U, false },
	{ "ring1_with_wp_needs_w", 1, true, PTE_W, 0, false },
	{ "ring2_without_wp_needs_nothing", 2, false, 0, 0, true },
};

void
check_write_protect(void)
{
	page_table *pde = pde_of(directory, WINDOW);
	uint32_t whole = *pde;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		uint32_t error = PF_PRESENT | PF_WRITE | (row->ring == 3 ? PF_USER : 0);

		map_page(directory, WINDOW, frame_address(0), PTE_P | row->pte);
		*pde = (whole & ~(PTE_W | PTE_U)) | row->pde;
		write_cr3(read_cr3());
		write_cr0((read_cr0() & ~CR0_WP) | (row->wp ? CR0_WP : 0));
		probe.seen = (struct fault){ 0 };
		ring_call(row->ring, write_window, 0);
		if (row->allowed)
			check_no_fault(row->name, probe.seen);
		else
			check_fault(row->name, probe.seen, VEC_PF, error);
	}
	*pde = whole;
	write_cr0(read_cr0() & ~CR0_WP);
	write_cr3(read_cr3());

	/* A change of WP is felt at once: it is not part of what is cached for a page. */
	map_window(0, frame_address(0), PTE_P);
	write_window(0);
	check_no_fault("write_before_wp_is_set_runs", probe.seen);
	write_cr0(read_cr0() | CR0_WP);
	write_window(0);
	check_fault("write_after_wp_is_set_pf", probe.seen, VEC_PF, PF_PRESENT | PF_WRITE);
	write_cr0(read_cr0() & ~CR0_WP);
	write_window(0);
	check_no_fault("write_after_wp_is_cleared_runs", probe.seen);
}
