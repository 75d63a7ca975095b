/*
 * code.c -- code that is written while it runs: on pages that are writable and executable at once, by turns, in two
 * places, in two processes, and by itself.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stress.h"

#define REWRITES	3000
#define FLIPS		40
#define FLIP_PAGES	6u
#define HANDED		60
#define TURNS		2000
#define OPERATIONS	24

typedef uint32_t function(uint32_t);

static void *
map_code(unsigned pages)
{
	void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(at != MAP_FAILED);
	return at;
}

static uint8_t *
put(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof value);
	return at + sizeof value;
}

/*
 * A function of random operations on eax, which it returns; with its argument 17 the result is `*result`. The end
 * of the code.
 */
static uint8_t *
make_function(uint8_t *at, uint32_t *random, uint32_t *result)
{
	static const uint8_t load[] = { 0x8b, 0x44, 0x24, 4 };		/* movl 4(%esp), %eax */
	uint32_t eax = 17;

	memcpy(at, load, sizeof load);
	at += sizeof load;
	for (unsigned i = 0; i < OPERATIONS; i++) {
		const uint32_t immediate = next_random(random);
		const uint8_t count = immediate % 31 + 1;

		switch (immediate >> 29) {
		case 0: *at++ = 0x05; at = put(at, immediate); eax += immediate; break;
		case 1: *at++ = 0x2d; at = put(at, immediate); eax -= immediate; break;
		case 2: *at++ = 0x35; at = put(at, immediate); eax ^= immediate; break;
		case 3: *at++ = 0x69; *at++ = 0xc0; at = put(at, immediate); eax *= immediate; break;
		case 4: *at++ = 0xc1; *at++ = 0xc0; *at++ = count; eax = eax << count | eax >> (32 - count); break;
		case 5: *at++ = 0xf7; *at++ = 0xd0; eax = ~eax; break;
		case 6: *at++ = 0x0f; *at++ = 0xc8; eax = __builtin_bswap32(eax); break;
		case 7:
			memcpy(at, (const uint8_t[]){ 0x8d, 0x84, 0x80 }, 3);	/* leal immediate(%eax,%eax,4), %eax */
			at = put(at + 3, immediate);
			eax = eax * 5 + immediate;
			break;
		}
	}
	*at++ = 0xc3;
	*result = eax;
	return at;
}

/* New code at the same place, which also lies across the end of a page. */
static void
rewritten_code(void)
{
	uint8_t *code = map_code(2);
	uint32_t state = SEED, sum = SEED, expected;

	for (unsigned i = 0; i < REWRITES * scale / 10; i++) {
		uint8_t *at = code + (i & 1 ? 128 : PAGE - 1 - i / 2 % 128);

		make_function(at, &state, &expected);
		REQUIRE(((function *)at)(17) == expected);
		sum = fold(sum, &expected, sizeof expected);
	}
	make_function(code, &state, &expected);
	for (unsigned i = 0; i < REWRITES * scale; i++) {	/* one operand of what has run many times */
		static const uint8_t start[] = { 0xb8 };	/* movl $imm32, %eax */

		memcpy(code, start, 1);
		put(code + 1, i * 3)[0] = 0xc3;
		REQUIRE(((function *)code)(0) == i * 3);
	}
	note("%08x", sum);
}

/* Never writable and executable at once. */
static void
flipped_code(void)
{
	uint8_t *code = map_pages(FLIP_PAGES);
	uint32_t state = SEED, sum = SEED, expected[FLIP_PAGES];

	for (unsigned turn = 0; turn < FLIPS * scale; turn++) {
		for (unsigned i = 0; i < FLIP_PAGES; i++)
			make_function(code + i * PAGE + turn, &state, &expected[i]);
		REQUIRE(mprotect(code, FLIP_PAGES * PAGE, PROT_READ | PROT_EXEC) == 0);
		for (unsigned i = 0; i < 2 * FLIP_PAGES; i++) {
			const uint32_t found = ((function *)(code + i % FLIP_PAGES * PAGE + turn))(17);

			REQUIRE(found == expected[i % FLIP_PAGES]);
			sum = fold(sum, &found, sizeof found);
		}
		REQUIRE(mprotect(code, FLIP_PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
	}
	note("%08x", sum);
}

static int
shared_page(uint8_t **writable, uint8_t **executable)
{
	int file = memfd_create("code", 0);

	REQUIRE(file >= 0 && ftruncate(file, PAGE) == 0);
	*writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	*executable = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
	REQUIRE(*writable != MAP_FAILED && *executable != MAP_FAILED);
	return file;
}

/* Written at one address and executed at another; then written by one process and executed by another. */
static void
aliased_code(void)
{
	uint8_t *writable, *executable;
	uint32_t state = SEED, sum = SEED, expected, found;
	int there[2], back[2];
	pid_t child;

	shared_page(&writable, &executable);
	for (unsigned i = 0; i < FLIPS * scale; i++) {
		make_function(writable + i % 64, &state, &expected);
		found = ((function *)(executable + i % 64))(17);
		REQUIRE(found == expected);
		sum = fold(sum, &found, sizeof found);
	}
	REQUIRE(pipe(there) == 0 && pipe(back) == 0);
	child = fork();
	if (child == 0) {
		uint32_t offset;

		close(there[1]);
		while (read_all(there[0], &offset, sizeof offset) == sizeof offset) {
			found = ((function *)(executable + offset))(17);
			write_all(back[1], &found, sizeof found);
		}
		_exit(0);
	}
	close(there[0]);
	for (uint32_t i = 0; i < HANDED * scale; i++) {
		const uint32_t offset = i % 5;

		make_function(writable + offset, &state, &expected);
		write_all(there[1], &offset, sizeof offset);
		REQUIRE(read_all(back[0], &found, sizeof found) == sizeof found && found == expected);
		sum = fold(sum, &found, sizeof found);
	}
	close(there[1]);
	expect_exit(child, 0);
	note("%08x", sum);
}

static uint32_t
run_copy(const char *from, const char *end)
{
	uint8_t *code = map_code(1);
	const uint32_t expected = TURNS * scale * (TURNS * scale + 1) / 2;
	uint32_t found;

	memcpy(code, from, (size_t)(end - from));
	found = ((function *)code)(TURNS * scale);
	if (found != expected)
		fail("%u instead of %u", found, expected);
	return found;
}

/* The instruction that comes next, after a jump and without one. */
static void
self_writing_code(void)
{
	note("after a jump %u", run_copy(self_writing, self_writing_end));
	note("straight on %u", run_copy(self_writing_straight, self_writing_straight_end));
}

const struct trial code_trials[] = {
	{ "rewritten_code", rewritten_code }, { "flipped_code", flipped_code }, { "aliased_code", aliased_code },
	{ "self_writing_code", self_writing_code }, { NULL, NULL },
};
