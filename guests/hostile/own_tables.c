/*
 * own_tables.c -- page tables that map themselves, writable for ring 3: it makes its own address space.
 *
 * The last directory entry names the directory, so that the tables lie in the last 4 MiB and the directory itself in
 * the last page.  An entry that was not present needs no flush; a changed one does, and the kernel does it.
 * [SDM 3, 4.10]
 */
#include "parts.h"

#define SELF	1023

static uint32_t seen_entry;

/* Of TARGET's entry, as ring 3 sees it. */
static bool
target_is(uint32_t bits)
{
	seen_entry = user_call(user_read_entry, TARGET);
	return (seen_entry & (PTE_A | PTE_D)) == bits;
}

void
check_own_tables(void)
{
	uint32_t *first = allocate_pages(1), *second = allocate_pages(1);

	frames[0] = (uint32_t)first;
	frames[1] = (uint32_t)second;
	table_frame = (uint32_t)allocate_pages(1);
	first[0] = 0xAAAA0001;
	second[0] = 0xBBBB0002;
	first[0x100 / 4] = second[0x100 / 4] = 0xC3;
	directory[SELF] = (uint32_t)directory | RW;

	seen_entry = user_call(user_read_entry, (uint32_t)&seen_entry);
	check("own_entry_is_seen_accessed", (seen_entry & ~(PTE_A | PTE_D)) == (((uint32_t)&seen_entry & PTE_FRAME) | RW) &&
	    seen_entry & PTE_A, "it is %x", seen_entry);
	check_equal("own_mapping_works_at_once", user_call(user_map_target, 0), first[0]);
	check("own_mapping_is_accessed_not_dirty", target_is(PTE_A), "it is %x", seen_entry);
	seen_entry = user_call(user_write_target, 0xAAAA0003);
	check("own_store_makes_it_dirty", seen_entry & PTE_D, "it is %x", seen_entry);
	check_equal("own_store_arrives", first[0], 0xAAAA0003);
	user_call(user_set_target_entry, frames[1] | RW);
	invalidate_page((void *)TARGET);
	check_equal("own_change_is_seen_after_a_flush", user_call(user_read, TARGET), second[0]);
	check("changed_entry_is_accessed_again", target_is(PTE_A), "it is %x", seen_entry);
	user_call(user_call_code, TARGET + 0x100);
	check("own_mapping_runs", !ring_fault().raised, "vector %u error %x", ring_fault().vector, ring_fault().error);
	check_equal("many_own_mappings", user_call(user_map_many, rounds(500, 200)), 0);
	check_equal("memory_that_is_not_there_faults_not", user_call(user_touch_no_memory, 0), 16);

	user_call(user_protect_tables, 0);
	write_cr3(read_cr3());
	check_fault("tables_made_read_only_pf", user_fault(user_write_tables, 0), VEC_PF,
	    PF_PRESENT | PF_WRITE | PF_USER);
	user_call(user_read, TARGET);
	check("tables_made_read_only_still_work", !ring_fault().raised, "vector %u", ring_fault().vector);
}
