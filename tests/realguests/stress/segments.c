/*
 * segments.c -- segments that are not flat: a process's LDT by modify_ldt, its TLS by set_thread_area, far calls into
 * 32-bit and 16-bit code, limits, and what LAR, LSL, VERR and VERW say.
 *
 * Selectors and bases are the kernel's choice and never noted.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "stress.h"

#define LDT_RING_3	7u	/* TI and RPL */
#define TLS_RING_3	3u
#define SWITCHES	150
#define PROCESSES	4

enum entry { DATA, OTHER_DATA, READ_ONLY, EXPAND_DOWN, CODE, CODE_16, ABSENT, SMALL };

static uint32_t
selector(enum entry entry)
{
	return (uint32_t)entry << 3 | LDT_RING_3;
}

static void
set_entry(enum entry entry, const void *base, uint32_t limit, struct user_desc kind)
{
	kind.entry_number = entry;
	kind.base_addr = (uint32_t)base;
	kind.limit = limit;
	REQUIRE(syscall(SYS_modify_ldt, 1, &kind, sizeof kind) == 0);
}

static uint32_t
load(uint32_t segment, uint32_t offset)
{
	uint32_t value;

	asm volatile("pushl %%es\n\tmovw %w1, %%es\n\tmovl %%es:(%2), %0\n\tpopl %%es"
		     : "=&r"(value) : "r"(segment), "r"(offset) : "memory");
	return value;
}

static void
store(uint32_t segment, uint32_t offset, uint32_t value)
{
	asm volatile("pushl %%fs\n\tmovw %w0, %%fs\n\tmovl %2, %%fs:(%1)\n\tpopl %%fs"
		     : : "r"(segment), "r"(offset), "r"(value) : "memory");
}

static void
far_call(const char *name, uint32_t segment, uint32_t offset)
{
	const struct { uint32_t offset; uint16_t segment; } __attribute__((packed)) far = { offset, (uint16_t)segment };
	uint32_t eax = 0;

	asm volatile("lcall *%1" : "+a"(eax) : "m"(far) : "ecx", "edx", "cc", "memory");
	note("%s: %#x", name, eax);
}

static void
what_is(const char *name, uint32_t segment)
{
	uint32_t rights = 0, limit = 0;
	uint8_t has_rights, has_limit, readable, writable;

	asm volatile("lar %2, %0\n\tsetz %1" : "+r"(rights), "=q"(has_rights) : "r"(segment) : "cc");
	asm volatile("lsl %2, %0\n\tsetz %1" : "+r"(limit), "=q"(has_limit) : "r"(segment) : "cc");
	asm volatile("verr %w1\n\tsetz %0" : "=q"(readable) : "r"(segment) : "cc");
	asm volatile("verw %w1\n\tsetz %0" : "=q"(writable) : "r"(segment) : "cc");
	/* AVL and L, which the kernel chooses, and the accessed bit are left out. */
	note("%s: rights %#x, limit %#x, ok %d%d%d%d", name, rights & 0xcffe00, limit, has_rights, has_limit, readable,
	     writable);
}

static void
local_descriptors(void)
{
	static const uint8_t code_32[] = {
		0xb8, 0x78, 0x56, 0x34, 0x12,			/* movl $0x12345678, %eax */
		0x2e, 0x03, 0x05, 0, 1, 0, 0,			/* addl %cs:0x100, %eax */
		0xcb,						/* lret */
	};
	static const uint8_t code_16[] = {
		0x66, 0xb8, 0x21, 0x43, 0x65, 0x87,		/* movl $0x87654321, %eax */
		0xb8, 0xcd, 0xab,				/* movw $0xabcd, %ax */
		0x66, 0xcb,					/* lretl */
	};
	const struct user_desc data = { .seg_32bit = 1, .useable = 1 };
	const struct user_desc pages = { .seg_32bit = 1, .limit_in_pages = 1, .useable = 1 };
	const struct user_desc code = { .seg_32bit = 1, .contents = MODIFY_LDT_CONTENTS_CODE, .useable = 1 };
	const struct user_desc narrow = { .contents = MODIFY_LDT_CONTENTS_CODE, .useable = 1 };
	const struct user_desc down = { .seg_32bit = 1, .contents = MODIFY_LDT_CONTENTS_STACK, .useable = 1 };
	const struct user_desc read_only = { .seg_32bit = 1, .read_exec_only = 1, .useable = 1 };
	const struct user_desc absent = { .seg_32bit = 1, .seg_not_present = 1, .useable = 1 };
	uint8_t *one = map_pages(4);
	uint8_t *two = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t value;

	REQUIRE(two != MAP_FAILED);
	for (unsigned i = 0; i < PAGE; i++)
		((uint32_t *)one)[i] = i * 3;
	memcpy(two + 0x20, code_32, sizeof code_32);
	memcpy(two + 0x40, code_16, sizeof code_16);
	*(uint32_t *)(two + 0x110) = 0x1111;
	set_entry(DATA, one + 12, PAGE - 1, data);
	set_entry(OTHER_DATA, one + PAGE, 2, pages);
	set_entry(READ_ONLY, one, PAGE - 1, read_only);
	set_entry(EXPAND_DOWN, one, PAGE - 1, down);
	set_entry(CODE, two + 0x10, PAGE - 0x11, code);
	set_entry(CODE_16, two, PAGE - 1, narrow);
	set_entry(ABSENT, one, PAGE - 1, absent);
	note("%u %u %u", load(selector(DATA), 40), load(selector(OTHER_DATA), 80), load(selector(READ_ONLY), 400));
	note("%u", load(selector(EXPAND_DOWN), PAGE + 8));
	store(selector(DATA), 100, 0xabcdef);
	store(selector(OTHER_DATA), 100, 0xfedcba);
	note("%#x %#x", ((uint32_t *)one)[28], ((uint32_t *)(one + PAGE))[25]);
	/* A copy from a segment to another; ESI and EDI are offsets in them. */
	asm volatile("pushl %%ds\n\tpushl %%es\n\tmovw %w0, %%ds\n\tmovw %w1, %%es\n\tmovl $64, %%esi\n\t"
		     "movl $2000, %%edi\n\tmovl $200, %%ecx\n\tcld\n\trep movsl\n\tpopl %%es\n\tpopl %%ds"
		     : : "a"(selector(DATA)), "d"(selector(OTHER_DATA)) : "ecx", "esi", "edi", "memory");
	note_bytes("copied", one + PAGE, 3 * PAGE);
	far_call("32-bit code", selector(CODE), 0x10);
	far_call("16-bit code", selector(CODE_16), 0x40);
	what_is("data", selector(DATA));
	what_is("pages", selector(OTHER_DATA));
	what_is("read-only", selector(READ_ONLY));
	what_is("expand-down", selector(EXPAND_DOWN));
	what_is("code", selector(CODE));
	what_is("absent", selector(ABSENT));
	what_is("null", 0);
	catch_faults(NULL);
	value = selector(ABSENT);
	FAULTING("", "movw %%ax, %%fs", "", : : "a"(value) : "memory");
	note("absent: signal %d trap %u error %#x", caught.signal, caught.trap, caught.error);
}

static void
beyond(const char *name, uint32_t segment, uint32_t offset)
{
	const unsigned before = caught_count;

	FAULTING("pushl %%es\n\tmovw %%ax, %%es", "movl %%es:(%%ecx), %%edx", "popl %%es",
		 : : "a"(segment), "c"(offset) : "edx", "memory");
	if (caught_count == before)
		note("%s %#x: no fault", name, offset);
	else
		note("%s %#x: signal %d trap %u error %#x eip %+d", name, offset, caught.signal, caught.trap,
		     caught.error, (int)(caught.eip - faulting_eip));
}

/* Loads of four bytes around a segment's end, or an expand-down one's beginning. */
static void
segment_limits(void)
{
	const struct user_desc data = { .seg_32bit = 1, .useable = 1 };
	const struct user_desc down = { .seg_32bit = 1, .contents = MODIFY_LDT_CONTENTS_STACK, .useable = 1 };
	const struct user_desc read_only = { .seg_32bit = 1, .read_exec_only = 1, .useable = 1 };
	uint8_t *memory = map_pages(2);

	set_entry(SMALL, memory, 0x10, data);
	set_entry(EXPAND_DOWN, memory, 0xfff, down);
	set_entry(READ_ONLY, memory, 0xfff, read_only);
	catch_faults(NULL);
	for (uint32_t offset = 0xc; offset <= 0x12; offset++)
		beyond("small", selector(SMALL), offset);
	beyond("small", selector(SMALL), 0xffffffff);
	for (uint32_t offset = 0xffc; offset <= 0x1001; offset++)
		beyond("expand-down", selector(EXPAND_DOWN), offset);
	beyond("null", 0, 0);
	FAULTING("pushl %%es\n\tmovw %%ax, %%es", "movl %%ecx, %%es:(%%ecx)", "popl %%es",
		 : : "a"(selector(READ_ONLY)), "c"(8) : "memory");
	note("read-only: signal %d trap %u error %#x", caught.signal, caught.trap, caught.error);
}

/* An area of its own for each process, reached through FS, while all of them run. */
static uint32_t
own_segments(unsigned who)
{
	struct user_desc area = {
		.entry_number = -1u, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1
	};
	const struct user_desc data = { .seg_32bit = 1, .useable = 1 };
	uint32_t *memory = map_pages(PROCESSES + 1), sum = who, fs;

	memory[who * PAGE / 4] = who * 0x01010101;
	memory[who * PAGE / 4 + 16] = who + 77;
	area.base_addr = (uint32_t)memory + who * PAGE;
	if (syscall(SYS_set_thread_area, &area) != 0)
		return 0;
	set_entry(DATA, (uint8_t *)memory + who * PAGE + 64, 0xff, data);
	fs = area.entry_number << 3 | TLS_RING_3;
	asm volatile("movw %w0, %%fs" : : "r"(fs));
	for (unsigned i = 0; i < SWITCHES * scale; i++) {
		uint32_t found, local;

		asm volatile("movl %%fs:0, %0" : "=r"(found));
		local = load(selector(DATA), 0);
		if (found != who * 0x01010101 + i || local != who + 77)
			return 0;
		asm volatile("incl %%fs:0" : : : "cc", "memory");
		sum = fold(sum, &found, sizeof found);
		if (i % 4 == 0)
			sched_yield();
	}
	return sum;
}

static void
thread_areas(void)
{
	uint32_t sums[PROCESSES];

	at_once(PROCESSES, own_segments, sums);
	for (unsigned i = 0; i < PROCESSES; i++) {
		REQUIRE(sums[i] != 0);
		note("%08x", sums[i]);
	}
}

const struct trial segment_trials[] = {
	{ "local_descriptors", local_descriptors }, { "segment_limits", segment_limits },
	{ "thread_areas", thread_areas }, { NULL, NULL },
};
