/*
 * large.c -- pages of 4 MiB (CR4.PSE) and global pages (CR4.PGE).  [SDM 3, 4.3 and 4.10.2.4]
 */
#include "parts.h"

#define RW		(PTE_P | PTE_W | PTE_U)
#define LARGE_WINDOW	0x80000000u
#define CPUID_PSE	(1u << 3)	/* leaf 1, EDX */
#define CPUID_PGE	(1u << 13)
#define PDE_RESERVED	(1u << 21)	/* in a large entry bits 21 to 17 at least must be 0 without PSE-36 */

static void
check_large(void)
{
	page_table *pde = pde_of(directory, LARGE_WINDOW);
	uint32_t frame = frame_address(0);
	volatile uint32_t *alias = (volatile uint32_t *)(LARGE_WINDOW + frame % LARGE_PAGE);
	struct fault fault;

	write_cr4(read_cr4() | CR4_PSE);
	*pde = (frame & ~(LARGE_PAGE - 1)) | RW | PDE_PS;
	*(uint32_t *)frame = 0x1234;
	check_equal("large_page_maps", *alias, 0x1234);
	check("large_read_sets_accessed", (*pde & (PTE_A | PTE_D)) == PTE_A, "PDE %x", *pde);
	*alias = 0x5678;
	check("large_write_sets_dirty", *pde & PTE_D, "PDE %x", *pde);
	check_equal("large_write_reaches_the_frame", *(volatile uint32_t *)frame, 0x5678);

	*pde &= ~(PTE_W | PTE_D);
	invalidate_page((const void *)alias);
	write_cr0(read_cr0() | CR0_WP);
	fault = FAULT_OF("", "movl $1, (%0)", "r"(alias));
	check_fault("large_read_only_write_pf", fault, VEC_PF, PF_PRESENT | PF_WRITE);
	write_cr0(read_cr0() & ~CR0_WP);

	*pde = ((frame & ~(LARGE_PAGE - 1)) | RW | PDE_PS | PDE_RESERVED);
	write_cr3(read_cr3());
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(alias));
	check_fault_silicon("large_reserved_bit_pf", fault, VEC_PF, PF_PRESENT | PF_RESERVED,
	    "leaves P clear in the error code");

	/* One INVLPG drops all of a large page. */
	*pde = (frame & ~(LARGE_PAGE - 1)) | RW | PDE_PS;
	write_cr3(read_cr3());
	(void)*alias;
	*pde = 0;
	invalidate_page((const void *)LARGE_WINDOW);
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(alias));
	check_fault("invlpg_drops_a_large_page", fault, VEC_PF, 0);

	/* A directory entry may turn from a large page into a table. */
	map_page(directory, LARGE_WINDOW, frame_address(1), RW);
	*(uint32_t *)frame_address(1) = 0x9ABC;
	check_equal("large_page_becomes_a_table", *(volatile uint32_t *)LARGE_WINDOW, 0x9ABC);

	/* Without PSE the bit means nothing: the entry is a table's. */
	write_cr4(read_cr4() & ~CR4_PSE);
	*pde |= PDE_PS;
	write_cr3(read_cr3());
	check_equal("ps_without_pse_is_ignored", *(volatile uint32_t *)LARGE_WINDOW, 0x9ABC);
	*pde = 0;
	write_cr3(read_cr3());
}

static void
check_global(void)
{
	struct fault fault;

	*(volatile uint32_t *)frames[0] = 0x1111;
	*(volatile uint32_t *)frames[1] = 0x2222;
	write_cr4(read_cr4() | CR4_PGE);
	map_window(0, frame_address(0), RW | PTE_G);
	check_equal("global_page_maps", *window(0), 0x1111);
	map_page(directory, WINDOW, frame_address(1), RW | PTE_G);
	invalidate_page((const void *)window(0));
	check_equal("invlpg_drops_a_global_page", *window(0), 0x2222);
	map_page(directory, WINDOW, frame_address(0), RW | PTE_G);
	write_cr4(read_cr4() & ~CR4_PGE);	/* any change of PGE drops all */
	check_equal("pge_change_drops_global_pages", *window(0), 0x1111);
	map_page(directory, WINDOW, frame_address(1), RW | PTE_G);
	write_cr3(read_cr3());
	check_equal("global_without_pge_is_not_kept", *window(0), 0x2222);
	write_cr4(read_cr4() | CR4_PGE);
	map_page(directory, WINDOW, 0, 0);
	invalidate_page((const void *)window(0));
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(window(0)));
	check_fault("removed_global_page_pf", fault, VEC_PF, 0);
	write_cr4(read_cr4() & ~CR4_PGE);
}

void
check_large_pages(void)
{
	if (cpuid(1).edx & CPUID_PSE)
		check_large();
	else
		skip("large_pages", "CPUID does not announce PSE");
	if (cpuid(1).edx & CPUID_PGE)
		check_global();
	else
		skip("global_pages", "CPUID does not announce PGE");
}
