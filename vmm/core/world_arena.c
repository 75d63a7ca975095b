/*
 * world_arena.c -- the arena of a world: memory that its crew shares, in large pages.
 *
 * Interpreting looks into tables all over the arena: micro TLB, block table, blocks, shadow page table.  Each process
 * of the crew has translations of its own for the host's processor, and in pages of 4 KiB they are soon too many.
 * Shared memory gets large pages by its file system's settings, which are mostly off, or when it is asked for them, once
 * there is something there: MADV_COLLAPSE, which copies what the pages hold into a large one.
 *
 * The arena is asked for as far as it is in use, so that a small guest takes little memory.  A host that has no large
 * page, or does not know the request (before Linux 6.1), refuses nothing: then pages stay as they are.
 *
 * Source: madvise(2), MADV_COLLAPSE; Linux, Documentation/admin-guide/mm/transhuge.rst.
 */
#include "shadow.h"
#include "sysraw.h"
#include "world.h"

enum {
	READ_WRITE = 3,
	RESERVED = 0x4022,		/* private and anonymous, MAP_NORESERVE */
	SHARED_HERE = 0x4031,		/* shared and anonymous, MAP_NORESERVE | MAP_FIXED */
	CODE_AHEAD = LARGE_PAGE / 4
};

/* Zeroed, and where large pages may begin; NULL when the host has no room. */
void *
arena_map(uint64_t bytes)
{
	const int64_t room = sys_mmap(0, bytes + LARGE_PAGE, 0, RESERVED, -1, 0);
	const uint64_t start = (uint64_t)room, at = next_large_page(start);
	int64_t mapped;

	if (room < 0 && room > -(int64_t)PAGE_SIZE)
		return NULL;
	mapped = sys_mmap(at, bytes, READ_WRITE, SHARED_HERE, -1, 0);
	sys_munmap(start, at - start);
	sys_munmap(at + bytes, start + LARGE_PAGE - at);
	return (uint64_t)mapped == at ? (void *)(uintptr_t)at : NULL;
}

/* What lies between these arena offsets; each large page is asked for once. */
static void
ask_for(struct engine *e, uint64_t from, uint64_t to)
{
	const uint64_t pieces = e->arena_bytes >> LARGE_SHIFT;

	for (uint64_t n = from >> LARGE_SHIFT; n << LARGE_SHIFT < to && n < pieces && n < 64; n++) {
		volatile uint8_t *at = arena_at(e, n << LARGE_SHIFT);

		if (e->arena_asked >> n & 1)
			continue;
		e->arena_asked |= 1ull << n;
		(void)*at;	/* of a piece without any page nothing is made */
		sys_call3(SYS_madvise, (uint64_t)(uintptr_t)at, LARGE_PAGE, ADVISE_COLLAPSE);
	}
}

/* Between two runs.  Leaves are taken in order and given back last in, first out: those in use are about the first. */
void
arena_in_large_pages(struct engine *e)
{
	const uint64_t leaves_end = (uint64_t)((uint8_t *)entries_at(e, shadow_of(e)->leaves_used + 1) - (uint8_t *)e);

	ask_for(e, 0, leaves_end);
	ask_for(e, e->code_start, e->code_next + CODE_AHEAD);
}
