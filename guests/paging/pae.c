/*
 * pae.c -- three levels and 64-bit entries (CR4.PAE), and no-execute pages (EFER.NXE).  [SDM 3, 4.4]
 *
 * The four entries of the top level are read when CR3 is loaded, and only then.
 */
#include "parts.h"

#define RW		(PTE_P | PTE_W | PTE_U)
#define ENTRY_NX	(1ull << 63)
#define ENTRY_RESERVED	(1ull << 62)
#define CPUID_PAE	(1u << 6)	/* leaf 1, EDX */
#define CPUID_NX	(1u << 20)	/* leaf 80000001h, EDX */
#define LEAF_EXTENDED	0x80000001u
#define LARGE_2M	(2u << 20)
#define PAE_WINDOW	0x40000000u	/* the second entry of the top level begins here */

static uint64_t pointers[4] __attribute__((aligned(32)));
static uint64_t *low_directory, *window_directory, *window_table;

/* The first GiB: memory one to one in pages of 2 MiB.  The second: one table, for the tests. */
static void
build(void)
{
	uint32_t i;

	low_directory = allocate_pages(1);
	window_directory = allocate_pages(1);
	window_table = allocate_pages(1);
	for (i = 0; i < MAPPED / LARGE_2M; i++)
		low_directory[i] = (uint64_t)i * LARGE_2M | RW | PDE_PS;
	window_directory[0] = (uint32_t)window_table | RW;
	pointers[0] = (uint32_t)low_directory | PTE_P;
	pointers[1] = (uint32_t)window_directory | PTE_P;
}

static void
check_levels(void)
{
	volatile uint32_t *word = (volatile uint32_t *)PAE_WINDOW;
	struct fault fault;

	window_table[0] = frame_address(0) | RW;
	*(volatile uint32_t *)frames[0] = 0x1111;
	check_equal("pae_maps", *word, 0x1111);
	check("pae_read_sets_accessed_only", (window_table[0] & (PTE_A | PTE_D)) == PTE_A, "PTE %llx", window_table[0]);
	*word = 0x2222;
	check("pae_write_sets_dirty", window_table[0] & PTE_D, "PTE %llx", window_table[0]);
	check("pae_walk_sets_accessed_in_the_directory", window_directory[0] & PTE_A, "PDE %llx", window_directory[0]);
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(PAE_WINDOW + PAGE_SIZE));
	check_fault("pae_absent_pf", fault, VEC_PF, 0);
	window_table[1] = frame_address(1) | RW | ENTRY_RESERVED;
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(PAE_WINDOW + PAGE_SIZE));
	check_fault_silicon("pae_reserved_bit_pf", fault, VEC_PF, PF_PRESENT | PF_RESERVED,
	    "leaves P clear in the error code");
	window_table[1] = 0;
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(0x80000000u));
	check_fault("pae_absent_pointer_pf", fault, VEC_PF, 0);
}

static void
check_pointers(void)
{
	volatile uint32_t *word = (volatile uint32_t *)PAE_WINDOW;
	struct fault fault;

	pointers[1] = 0;
	invalidate_page((const void *)word);
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(word));
	check_silicon("pae_pointers_are_read_at_cr3_load_only", !fault.raised, "reads the top level at every walk");
	write_cr3((uint32_t)pointers);
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(word));
	check_fault("pae_cr3_load_reads_the_pointers", fault, VEC_PF, 0);
	pointers[1] = (uint32_t)window_directory | PTE_P;

	/* A reserved bit in a present pointer is refused when CR3 is loaded: #GP, not #PF. */
	pointers[2] = (uint32_t)window_directory | PTE_P | PTE_W;
	fault = FAULT_OF("", "movl %0, %%cr3", "r"(pointers));
	check_silicon("pae_reserved_pointer_bit_gp", is_fault(fault, VEC_GP, 0), "does not check the pointers");
	pointers[2] = 0;
	write_cr3((uint32_t)pointers);
}

static void
check_no_execute(void)
{
	struct fault fault;

	frames[0][0] = 0xC3;				/* RET */
	window_table[0] = frame_address(0) | RW | ENTRY_NX;
	invalidate_page((const void *)PAE_WINDOW);
	fault = FAULT_OF("", "movl (%0), %%eax", "r"(PAE_WINDOW));
	check_fault_silicon("nx_bit_without_nxe_is_reserved", fault, VEC_PF, PF_PRESENT | PF_RESERVED,
	    "leaves P clear in the error code");
	write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_NXE);
	invalidate_page((const void *)PAE_WINDOW);
	check_no_fault("nx_page_is_readable", FAULT_OF("", "movl (%0), %%eax", "r"(PAE_WINDOW)));
	fault = FAULT_OF("pushl $8f", "jmp *%0", "r"(PAE_WINDOW));
	check("nx_page_fetch_pf", is_fault(fault, VEC_PF, PF_PRESENT | PF_FETCH) && fault.eip == PAE_WINDOW &&
	    fault.cr2 == PAE_WINDOW, "vector %u error %x EIP %x", fault.vector, fault.error, fault.eip);
	window_table[0] = frame_address(0) | RW;
	invalidate_page((const void *)PAE_WINDOW);
	check_no_fault("page_without_nx_is_executable", FAULT_OF("pushl $8f", "jmp *%0", "r"(PAE_WINDOW)));
	window_table[0] = 0;
	invalidate_page((const void *)PAE_WINDOW);
	fault = FAULT_OF("pushl $8f", "jmp *%0", "r"(PAE_WINDOW));
	check("absent_fetch_says_fetch_with_nxe", is_fault(fault, VEC_PF, PF_FETCH), "error %x", fault.error);
	write_msr(MSR_EFER, read_msr(MSR_EFER) & ~(uint64_t)EFER_NXE);
}

void
check_pae(void)
{
	if (!(cpuid(1).edx & CPUID_PAE)) {
		skip("pae", "CPUID does not announce PAE");
		return;
	}
	build();
	write_cr4(read_cr4() | CR4_PAE);
	write_cr3((uint32_t)pointers);
	write_cr0(read_cr0() | CR0_PG);
	check_levels();
	check_pointers();
	if (cpuid(0x80000000u).eax >= LEAF_EXTENDED && cpuid(LEAF_EXTENDED).edx & CPUID_NX)
		check_no_execute();
	else
		skip("no_execute", "CPUID does not announce NX");
	write_cr0(read_cr0() & ~CR0_PG);
	write_cr4(read_cr4() & ~CR4_PAE);
}
