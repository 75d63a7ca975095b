/*
 * memory.c -- address spaces that change: mmap, munmap, mprotect, mremap at random with every page's contents known,
 * sparse arrays, growing stacks, deep recursion, mapped files.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stress.h"

#define ARENA_PAGES	512u
#define CHANGES		400
#define RUN_MAX		24u
#define SPARSE_BYTES	(512u << 20)
#define SPARSE_STEP	(1u << 20)
#define RECURSION	12000u
#define GROWTH_BYTES	(3u << 20)
#define GROWTH_STEP	20000u	/* no multiple of a page */
#define FILE_PAGES	24u

enum access { NOTHING, CLOSED, READABLE, WRITABLE };

static const int protection[] = { 0, PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };

static struct page {
	enum access access;
	uint32_t value;		/* of its first and last word */
} model[ARENA_PAGES];
static uint8_t *arena;

static volatile uint32_t *
first_word(unsigned page)
{
	return (volatile uint32_t *)(arena + page * PAGE);
}

static volatile uint32_t *
last_word(unsigned page)
{
	return first_word(page + 1) - 1;
}

static void
check(unsigned page)
{
	const struct page *expected = &model[page];

	REQUIRE(faults_on_read(first_word(page)) == (expected->access < READABLE));
	REQUIRE(faults_on_write(last_word(page)) == (expected->access < WRITABLE));
	if (expected->access >= READABLE)
		REQUIRE(*first_word(page) == expected->value && *last_word(page) == expected->value);
}

static void
set(unsigned page, uint32_t value)
{
	model[page].value = value;
	*first_word(page) = *last_word(page) = value;
}

/* Moves pages onto others, one by one: kernels differ in what else they take for one mapping. */
static void
move(unsigned from, unsigned to, unsigned count)
{
	if (from < to + count && to < from + count)
		return;
	for (unsigned i = 0; i < count; i++) {
		uint8_t *target = arena + (to + i) * PAGE;

		if (model[from + i].access == NOTHING)
			continue;
		REQUIRE(mremap(arena + (from + i) * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
		model[to + i] = model[from + i];
		model[from + i].access = NOTHING;
	}
}

static void
churn(void)
{
	const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	uint32_t state = SEED, sum = SEED;

	catch_faults(NULL);
	arena = mmap(NULL, ARENA_PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	REQUIRE(arena != MAP_FAILED && munmap(arena, ARENA_PAGES * PAGE) == 0);
	for (unsigned turn = 0; turn < CHANGES * scale; turn++) {
		const uint32_t random = next_random(&state);
		const unsigned count = 1 + random % RUN_MAX, at = (random >> 8) % (ARENA_PAGES - count);
		const enum access access = (random >> 28) % 4 ? WRITABLE : READABLE - (random >> 24 & 1);

		switch ((random >> 20) % 5) {
		case 0:
			REQUIRE(mmap(arena + at * PAGE, count * PAGE, protection[WRITABLE], anonymous, -1, 0) ==
				arena + at * PAGE);
			for (unsigned i = at; i < at + count; i++) {
				model[i].access = WRITABLE;
				set(i, random + i);
			}
			break;
		case 1:
			REQUIRE(munmap(arena + at * PAGE, count * PAGE) == 0);
			for (unsigned i = at; i < at + count; i++)
				model[i].access = NOTHING;
			break;
		case 2:
			for (unsigned i = at; i < at + count; i++) {
				if (model[i].access == NOTHING)
					continue;
				REQUIRE(mprotect(arena + i * PAGE, PAGE, protection[access]) == 0);
				model[i].access = access;
			}
			break;
		case 3:
			move(at, next_random(&state) % (ARENA_PAGES - count), count);
			break;
		case 4:
			for (unsigned i = at; i < at + count; i++)
				if (model[i].access == WRITABLE)
					set(i, random ^ i);
			break;
		}
		for (unsigned i = 0; i < 3; i++)
			check((at + i * count) % ARENA_PAGES);
	}
	for (unsigned i = 0; i < ARENA_PAGES; i++) {
		check(i);
		sum = fold(sum, &model[i].access, sizeof model[i].access);
		if (model[i].access >= READABLE)
			sum = fold(sum, (const void *)first_word(i), PAGE);
	}
	note("%08x", sum);
}

/* Few pages far apart: most page tables map one page. */
static void
sparse(void)
{
	uint8_t *array = mmap(NULL, SPARSE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			      -1, 0);
	uint32_t sum = SEED;

	REQUIRE(array != MAP_FAILED);
	for (unsigned turn = 0; turn < scale; turn++) {
		for (uint32_t at = 0; at < SPARSE_BYTES; at += SPARSE_STEP) {
			REQUIRE(array[at + turn] == 0);		/* of a page that nobody has written */
			*(uint32_t *)(array + at + 0x800) = at ^ turn;
		}
		for (uint32_t at = SPARSE_BYTES; at >= SPARSE_STEP;) {
			at -= SPARSE_STEP;
			REQUIRE(*(uint32_t *)(array + at + 0x800) == (at ^ turn));
			sum = fold(sum, array + at + 0x800, 4);
		}
		REQUIRE(madvise(array, SPARSE_BYTES, MADV_DONTNEED) == 0);
	}
	note("%08x", sum);
}

static uint32_t __attribute__((noinline))
recurse(unsigned level, uint32_t value)
{
	volatile uint32_t frame[40];
	uint32_t below;

	for (unsigned i = 0; i < 40; i += 13)
		frame[i] = value + i;
	below = level ? recurse(level - 1, value * 2654435761u + level) : 0;
	for (unsigned i = 0; i < 40; i += 13)
		if (frame[i] != value + i)
			fail("a frame at level %u was changed", level);
	return below ^ frame[13];
}

/* The stack grows by itself, by one step beyond its end or by many. */
static void
stacks(void)
{
	uint32_t sum = SEED;

	for (unsigned i = 1; i <= 2 * scale; i++)
		note("%08x", recurse(RECURSION, i));
	for (unsigned turn = 0; turn < 3; turn++) {
		pid_t child = fork();		/* with a stack that its parent has grown, copied when it is written */
		int how;

		if (child == 0) {
			uint8_t *low = __builtin_alloca(GROWTH_BYTES);

			for (uint32_t at = GROWTH_BYTES; at > GROWTH_STEP; at -= GROWTH_STEP + turn)
				low[at - 1] = (uint8_t)at;
			_exit((int)(recurse(500, turn) & 0x7f));
		}
		REQUIRE(waitpid(child, &how, 0) == child && WIFEXITED(how));
		note("%d", WEXITSTATUS(how));
	}
	for (unsigned i = 0; i < 3; i++) {
		uint32_t top;

		/* PUSH and ENTER are what writes there first. */
		asm volatile("movl %%esp, %%esi\n\tmovl %%ebp, %%edi\n\tsubl $0x180000, %%esp\n\tpushl %%esi\n\t"
			     "enter $0x4000, $1\n\tpushl %%edi\n\tpopl %0\n\tleave\n\tpopl %%eax\n\t"
			     "movl %%esi, %%esp\n\tsubl %%esi, %%eax\n\tsubl %%edi, %0\n\torl %%eax, %0"
			     : "=&c"(top) : : "eax", "esi", "edi", "cc", "memory");
		sum = fold(sum, &top, sizeof top);
	}
	note("%08x", sum);
}

/* A file seen through two mappings and through read and write. */
static void
mapped_files(void)
{
	char name[] = "/tmp/stress-XXXXXX";
	int file = mkstemp(name);
	uint8_t *shared, *private, *buffer = map_pages(FILE_PAGES);
	uint32_t state = SEED;

	REQUIRE(file >= 0 && unlink(name) == 0);
	for (unsigned i = 0; i < FILE_PAGES * PAGE / 4; i++)
		((uint32_t *)buffer)[i] = next_random(&state);
	write_all(file, buffer, FILE_PAGES * PAGE);
	shared = mmap(NULL, FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	private = mmap(NULL, FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	REQUIRE(shared != MAP_FAILED && private != MAP_FAILED);
	REQUIRE(memcmp(shared, buffer, FILE_PAGES * PAGE) == 0);
	for (unsigned i = 0; i < FILE_PAGES; i += 2)
		private[i * PAGE + 1] ^= 0xff;			/* a copy, which the file never sees */
	for (unsigned i = 0; i < FILE_PAGES; i++)
		shared[i * PAGE + 2] ^= 0x55;
	REQUIRE(pwrite(file, "written", 7, 5 * PAGE) == 7 && memcmp(shared + 5 * PAGE, "written", 7) == 0);
	REQUIRE(pread(file, buffer, FILE_PAGES * PAGE, 0) == (ssize_t)(FILE_PAGES * PAGE));
	REQUIRE(memcmp(shared, buffer, FILE_PAGES * PAGE) == 0);
	note_bytes("shared", shared, FILE_PAGES * PAGE);
	note_bytes("private", private, FILE_PAGES * PAGE);
	REQUIRE(ftruncate(file, 3 * PAGE + 100) == 0);
	catch_faults(NULL);
	REQUIRE(!faults_on_read(shared + 3 * PAGE + 200) && shared[3 * PAGE + 200] == 0);
	REQUIRE(faults_on_read(shared + 4 * PAGE));
	note("beyond the file's end: signal %d code %d", caught.signal, caught.code);
}

const struct trial memory_trials[] = {
	{ "churn", churn }, { "sparse", sparse }, { "stacks", stacks }, { "mapped_files", mapped_files },
	{ NULL, NULL },
};
