/*
 * pages.c -- #PF: its error code and CR2.
 *
 * Bit 0: the page is present, the right is missing.  Bit 1: a write.  Bit 2: from ring 3.  [SDM 3, 4.7]
 */
#include "faults.h"

static uint8_t page[2 * PAGE_SIZE] __attribute__((aligned(4096)));

static uint32_t
read_byte(uint32_t address)
{
	FAULT_OF("", "movb (%0), %%al", "r"(address));
	return 0;
}

static uint32_t
write_byte(uint32_t address)
{
	FAULT_OF("", "movb $1, (%0)", "r"(address));
	return 0;
}

/* A read-modify-write counts as a write from the start. */
static uint32_t
add_byte(uint32_t address)
{
	FAULT_OF("", "addb $1, (%0)", "r"(address));
	return 0;
}

static uint32_t
fetch_byte(uint32_t address)
{
	FAULT_OF("pushl $8f", "jmp *%0", "r"(address));
	return 0;
}

static const struct row {
	const char *name;
	ring_function *access;
	int ring;
	uint32_t flags;		/* of the page-table entry */
	uint32_t error;		/* or ALLOWED */
} rows[] = {
#define ALLOWED 0xFFFFFFFFu
#define WRITABLE (PTE_P | PTE_W)
	{ "absent_read_0", read_byte, 0, 0, 0 },
	{ "absent_write_2", write_byte, 0, 0, PF_WRITE },
	{ "ring3_absent_read_4", read_byte, 3, 0, PF_USER },
	{ "ring3_absent_write_6", write_byte, 3, 0, PF_USER | PF_WRITE },
	{ "ring3_supervisor_read_5", read_byte, 3, WRITABLE, PF_USER | PF_PRESENT },
	{ "ring3_supervisor_write_7", write_byte, 3, WRITABLE, PF_USER | PF_WRITE | PF_PRESENT },
	{ "ring3_read_only_write_7", write_byte, 3, PTE_P | PTE_U, PF_USER | PF_WRITE | PF_PRESENT },
	{ "ring3_read_only_add_7", add_byte, 3, PTE_P | PTE_U, PF_USER | PF_WRITE | PF_PRESENT },
	{ "ring3_read_only_read", read_byte, 3, PTE_P | PTE_U, ALLOWED },
	{ "ring2_supervisor_write", write_byte, 2, WRITABLE, ALLOWED },
	{ "ring2_absent_write_2", write_byte, 2, 0, PF_WRITE },
	{ "ring0_read_only_write_without_wp", write_byte, 0, PTE_P, ALLOWED },
};

static void
check_codes(page_table *directory)
{
	uint32_t linear = (uint32_t)page + 0x123;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		map_page(directory, linear, linear, row->flags);
		invalidate_page(page);
		probe.seen = (struct fault){ 0 };
		ring_call(row->ring, row->access, linear);
		if (row->error == ALLOWED)
			check_no_fault(row->name, probe.seen);
		else if (check_fault(row->name, probe.seen, VEC_PF, row->error) && probe.seen.cr2 != linear)
			fail(row->name, "CR2 is %x, the address was %x", probe.seen.cr2, linear);
	}
}

static void
check_read_modify_write(page_table *directory)
{
	uint32_t linear = (uint32_t)page;

	map_page(directory, linear, linear, 0);
	invalidate_page(page);
	add_byte(linear);
	check_fault_silicon("absent_add_2", probe.seen, VEC_PF, PF_WRITE, "reads first, and says so in the error code");
}

static void
check_fetches(page_table *directory)
{
	uint32_t linear = (uint32_t)page + PAGE_SIZE - 1;
	struct fault fault;

	/* A fetch reads.  Its fault is the target's: the jump itself has completed. */
	map_page(directory, linear, linear, 0);
	invalidate_page(page);
	fetch_byte(linear);
	fault = probe.seen;
	check("fetch_absent_pf", is_fault(fault, VEC_PF, 0) && fault.eip == linear && fault.cr2 == linear,
	    "vector %u error %x EIP %x CR2 %x", fault.vector, fault.error, fault.eip, fault.cr2);

	/* The second page of an instruction is asked for only if the instruction needs it. */
	map_page(directory, linear, linear, PTE_P | PTE_W | PTE_U);
	map_page(directory, linear + 1, 0, 0);
	invalidate_page(page);
	invalidate_page(page + PAGE_SIZE);
	page[PAGE_SIZE - 1] = 0xC3;			/* RET */
	fetch_byte(linear);
	check_no_fault("short_instruction_at_page_end_runs", probe.seen);
	page[PAGE_SIZE - 1] = 0xB8;			/* MOV EAX, imm32: four bytes more */
	fetch_byte(linear);
	fault = probe.seen;
	check("instruction_across_pages_pf", is_fault(fault, VEC_PF, 0) && fault.eip == linear &&
	    fault.cr2 == linear + 1, "vector %u error %x EIP %x CR2 %x", fault.vector, fault.error, fault.eip,
	    fault.cr2);
	map_page(directory, linear + 1, linear + 1, PTE_P | PTE_W | PTE_U);
}

void
check_pages(void)
{
	page_table *directory = fault_directory();

	paging_on(directory);
	check_codes(directory);
	check_read_modify_write(directory);
	check_fetches(directory);

	write_cr0(read_cr0() | CR0_WP);
	map_page(directory, (uint32_t)page, (uint32_t)page, PTE_P);
	invalidate_page(page);
	check_fault("ring0_read_only_write_with_wp_3", FAULT_OF("", "movb $1, %0", "m"(page[0])), VEC_PF,
	    PF_PRESENT | PF_WRITE);
	/* CMPXCHG writes back what it found when the comparison fails: that is a write too.  [SDM 2, CMPXCHG] */
	check_fault("cmpxchg_unequal_writes_3", FAULT_OF("movl $77, %%eax; xorl %%ecx, %%ecx", "cmpxchgl %%ecx, %0",
	    "m"(page[0])), VEC_PF, PF_PRESENT | PF_WRITE);
	check_fault("cmpxchg8b_unequal_writes_3", FAULT_OF("movl $77, %%eax", "cmpxchg8b %0", "m"(page[0])), VEC_PF,
	    PF_PRESENT | PF_WRITE);
	check_fault("xadd_writes_3", FAULT_OF("", "xaddl %%eax, %0", "m"(page[0])), VEC_PF, PF_PRESENT | PF_WRITE);
	check_no_fault("cmp_reads", FAULT_OF("", "cmpl $1, %0", "m"(page[0])));
	check_no_fault("test_reads", FAULT_OF("", "testl $1, %0", "m"(page[0])));
	check_no_fault("bt_reads", FAULT_OF("", "btl $1, %0", "m"(page[0])));
	write_cr0(read_cr0() & ~CR0_WP);
	map_page(directory, (uint32_t)page, (uint32_t)page, PTE_P | PTE_W | PTE_U);
	paging_off();
}
