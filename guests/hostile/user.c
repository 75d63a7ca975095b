/*
 * user.c -- what runs in ring 3, in pages of its own: free of the instructions that touch segment registers or
 * descriptor tables, for a monitor may run pages with such instructions in another way.
 *
 * Functions start their pages, and this is the last file of the program, so that nothing shares a page with them.
 */
#include "parts.h"

#define USER		__attribute__((noinline, aligned(4096)))
#define OP_MOV_EAX	0xB8
#define OP_RET		0xC3
#define WORD(linear)	(*(volatile uint32_t *)(uintptr_t)(linear))
#define ENTRY(linear)	WORD(TABLES + ((linear) >> 12) * 4)
#define DIR_ENTRY(linear) WORD(DIRECTORY + ((linear) >> 22) * 4)

typedef uint32_t code(void);

uint32_t warm_rounds, table_frame, frames[2];
uint8_t code_page[PAGE_SIZE] __attribute__((aligned(4096)));

/* Numbers of the 32-bit Linux calls exit, fork, write, open, execve, kill, ptrace, mmap. */
static const uint32_t host_calls[8] = { 1, 2, 4, 5, 11, 37, 26, 90 };

static inline __attribute__((always_inline)) void
warm(void)
{
	uint32_t count = warm_rounds;

	__asm__ volatile("1: decl %0; jnz 1b" : "+r"(count) : : "cc");
}

/* ---- memory ---- */

USER uint32_t
user_read(uint32_t address)
{
	warm();
	return WORD(address);
}

USER uint32_t
user_write(uint32_t address)
{
	warm();
	WORD(address) = 1;
	return 0;
}

USER uint32_t
user_run(uint32_t address)
{
	warm();
	__asm__ volatile("jmp *%0" : : "r"(address));
	return 0;
}

USER uint32_t
user_swap(uint32_t address)
{
	uint32_t before;

	warm();
	before = WORD(address);
	WORD(address) = before + 1;
	return before;
}

USER uint32_t
user_call_code(uint32_t address)
{
	warm();
	return ((code *)(uintptr_t)address)();
}

USER uint32_t
user_touch(uint32_t pages)
{
	uint32_t i;

	warm();
	for (i = 0; i < pages; i++)
		WORD(STORM_BASE + i * PAGE_SIZE + i % 1024 * 4) = i;
	return 0;
}

USER uint32_t
user_fault_often(uint32_t count)
{
	warm();
	for (; count; count--)
		__asm__ volatile("cli; ud2; hlt; xorl %%ecx, %%ecx; divl %%ecx" : : : "eax", "ecx", "edx", "cc", "memory");
	return 0;
}

/* ---- gates ---- */

/* How many came back with other registers. */
#define CALLS(name, vector)								\
	USER uint32_t									\
	name(uint32_t count)								\
	{										\
		uint32_t i, lost = 0;							\
											\
		warm();									\
		for (i = 0; i < count; i++) {						\
			uint32_t number = host_calls[i % 8], eax = number, ebx = 0x1234;	\
			uint32_t ecx = number + 1, edx = number + 2;			\
											\
			__asm__ volatile("int %4" : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx) : "i"(vector) : "memory");	\
			lost += eax != number || ebx != 0x1234 || ecx != number + 1 || edx != number + 2;	\
		}									\
		return lost;								\
	}

CALLS(user_int80, HOST_CALL)
CALLS(user_int2e, NT_CALL)

#define ATTEMPT(name, code)								\
	USER uint32_t									\
	name(uint32_t argument)								\
	{										\
		warm();									\
		__asm__ volatile(code : "+a"(argument) : : "ecx", "edx", "memory", "cc");	\
		return argument;							\
	}

ATTEMPT(user_sysenter, "movl %%esp, %%ecx; movl $1f, %%edx; sysenter; 1:")
ATTEMPT(user_sysenter_no_stack, "pushl %%ebp; movl $0xFFFFFFF0, %%ebp; movl $1f, %%edx; sysenter; 1: popl %%ebp")
ATTEMPT(user_syscall, ".byte 0x0F, 0x05")
ATTEMPT(user_sysexit, "movl $1f, %%edx; movl %%esp, %%ecx; sysexit; 1:")

/* ---- its own page tables ---- */

USER uint32_t
user_map_target(uint32_t unused)
{
	(void)unused;
	warm();
	DIR_ENTRY(TARGET) = table_frame | RW;
	ENTRY(TARGET) = frames[0] | RW;
	return WORD(TARGET);
}

USER uint32_t
user_read_entry(uint32_t linear)
{
	warm();
	return ENTRY(linear);
}

/* Returns the entry after the store. */
USER uint32_t
user_write_target(uint32_t value)
{
	warm();
	WORD(TARGET) = value;
	return ENTRY(TARGET);
}

USER uint32_t
user_set_target_entry(uint32_t value)
{
	warm();
	ENTRY(TARGET) = value;
	return 0;
}

/* Every page of a table, one by one, each used at once.  Returns how many were wrong. */
USER uint32_t
user_map_many(uint32_t pages)
{
	uint32_t i, bad = 0;

	warm();
	for (i = 1; i <= pages; i++) {
		uint32_t linear = TARGET + i * PAGE_SIZE;

		ENTRY(linear) = frames[i & 1] | RW;
		WORD(linear + 8) = i;
		bad += WORD(linear + 8) != i || (ENTRY(linear) & (PTE_A | PTE_D)) != (PTE_A | PTE_D);
	}
	return bad;
}

USER uint32_t
user_touch_no_memory(uint32_t unused)
{
	uint32_t i;

	(void)unused;
	warm();
	for (i = 0; i < 16; i++) {
		uint32_t linear = TARGET + (512 + i) * PAGE_SIZE;

		ENTRY(linear) = (NO_MEMORY + i * PAGE_SIZE) | RW;
		WORD(linear) = WORD(linear + 4);
	}
	return i;
}

USER uint32_t
user_protect_tables(uint32_t unused)
{
	(void)unused;
	warm();
	DIR_ENTRY(DIRECTORY) = DIR_ENTRY(DIRECTORY) & ~PTE_W;
	return 0;
}

USER uint32_t
user_write_tables(uint32_t unused)
{
	(void)unused;
	warm();
	WORD(DIRECTORY) = 0;
	return 0;
}

/* ---- its own code ---- */

USER uint32_t
user_patch_a_loop(uint32_t count)
{
	uint32_t sum;

	warm();
	/* 05 is ADD EAX, imm32, which each pass makes one more. */
	__asm__ volatile("movl $1, 1f+1; xorl %%eax, %%eax;"
	    "1: .byte 0x05; .long 1; incl 1b+1; loop 1b; movl $1, 1b+1" : "=&a"(sum), "+c"(count) : : "memory", "cc");
	return sum;
}

static inline __attribute__((always_inline)) uint32_t
constant_at(volatile uint8_t *store, code *run, uint32_t value)
{
	store[0] = OP_MOV_EAX;
	*(volatile uint32_t *)(store + 1) = value;
	store[5] = OP_RET;
	/* IRET serializes, as a store through another address requires.  [SDM 3, 8.1.3] */
	__asm__ volatile("int %0" : : "i"(HOST_CALL) : "memory");
	return run();
}

USER uint32_t
user_rewrite(uint32_t count)
{
	uint32_t i;

	warm();
	for (i = 0; i < count; i++) {
		volatile uint8_t *at = code_page + i % 5;

		at[0] = OP_MOV_EAX;
		*(volatile uint32_t *)(at + 1) = i * 7;
		at[5] = OP_RET;
		if (((code *)(uintptr_t)at)() != i * 7)
			break;
	}
	return i;
}

USER uint32_t
user_rewrite_by_alias(uint32_t count)
{
	uint32_t i;

	warm();
	for (i = 0; i < count; i++)
		if (constant_at((uint8_t *)WINDOW + 64, (code *)(uintptr_t)(code_page + 64), i * 3) != i * 3)
			break;
	return i;
}

/* ---- flags ---- */

USER uint32_t
user_pop_flags(uint32_t flags)
{
	uint32_t seen;

	warm();
	__asm__ volatile("pushl %1; popfl; pushfl; popl %0; pushl $0x202; popfl" : "=r"(seen) : "r"(flags) : "cc", "memory");
	return seen;
}

ATTEMPT(user_step, "pushl $0x302; popfl; .globl user_stepped; nop; user_stepped: nop; pushl $0x202; popfl")
ATTEMPT(user_step_into_fault, "pushl $0x302; popfl; ud2")
ATTEMPT(user_misaligned, "pushl $0x40202; popfl; movl (%%eax), %%eax; pushl $0x202; popfl")
ATTEMPT(user_cli, "pushl $0x3202; popfl; cli")
ATTEMPT(user_int_with_nt, "pushl $0x4202; popfl; int $0x82")
