/*
 * world_text.c -- the monitor's text in one large page.
 *
 * Interpreting jumps from handler to handler, all over some 700 KiB of text.  In pages of 4 KiB that is more than the
 * host's processor keeps translations of at hand, in one of 2 MiB it needs a single one.  The image is linked so that
 * text and constants are one segment that begins where such a page may, and nothing else of it lies within
 * (WORLD_LINK in build_core.py).  It is copied into anonymous memory, which the host gives large pages for if it
 * is asked, and moved to where it came from.
 *
 * A host without large pages refuses nothing: then the copy is as good as the original.
 *
 * Source: Linux, Documentation/admin-guide/mm/transhuge.rst; mremap(2), madvise(2).
 */
#include <elf.h>
#include <stdbool.h>
#include <stddef.h>

#include "sysraw.h"
#include "world.h"

enum {
	HOST_PAGE = 4096, READ_WRITE = 3, READ_EXECUTE = 5, PRIVATE_ANONYMOUS = 0x22,
	MAY_MOVE_TO = 3,		/* MREMAP_MAYMOVE | MREMAP_FIXED */
	FREE_PLACE = 0x100022		/* MAP_FIXED_NOREPLACE, private and anonymous */
};

HIDDEN extern const Elf64_Ehdr __ehdr_start;

/* Bytes of the segment that begins the image; 0: something else lies within its large page. */
static uint64_t
text_bytes(void)
{
	const Elf64_Phdr *p = (const void *)((const uint8_t *)&__ehdr_start + __ehdr_start.e_phoff);
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < __ehdr_start.e_phnum; i++) {
		if (p[i].p_type != PT_LOAD)
			continue;
		if (p[i].p_vaddr == 0 && (p[i].p_flags & (PF_X | PF_W)) == PF_X)
			bytes = p[i].p_memsz;
		else if (p[i].p_vaddr < LARGE_PAGE)
			return 0;
	}
	return bytes <= LARGE_PAGE ? bytes : 0;
}

/* Is the rest of the large page nobody's?  The host may have put its vDSO there. */
static bool
take_rest(uint64_t from, uint64_t to)
{
	const int64_t at = from < to ? sys_mmap(from, to - from, 0, FREE_PLACE, -1, 0) : (int64_t)from;

	if (at > 0 && (uint64_t)at != from)
		sys_munmap((uint64_t)at, to - from);
	return (uint64_t)at == from;
}

void
text_in_large_page(void)
{
	const uint64_t base = (uint64_t)(uintptr_t)&__ehdr_start, bytes = text_bytes();
	const uint64_t end = (base + bytes + HOST_PAGE - 1) & ~(uint64_t)(HOST_PAGE - 1);
	const int64_t room = sys_mmap(0, 2 * LARGE_PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
	const uint64_t start = (uint64_t)room, at = next_large_page(start);

	if (room < 0 && room > -HOST_PAGE)
		return;
	if (bytes && base % LARGE_PAGE == 0 && take_rest(end, base + LARGE_PAGE) &&
	    sys_call3(SYS_madvise, at, LARGE_PAGE, ADVISE_LARGE) == 0) {
		__builtin_memcpy((void *)(uintptr_t)at, &__ehdr_start, bytes);
		if (sys_call3(SYS_mprotect, at, LARGE_PAGE, READ_EXECUTE) == 0)
			sys_call6(SYS_mremap, at, LARGE_PAGE, LARGE_PAGE, MAY_MOVE_TO, base, 0);
	}
	sys_munmap(start, 2 * LARGE_PAGE);
}
