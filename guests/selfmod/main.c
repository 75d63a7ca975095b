/*
 * selfmod -- a store into the code that runs is seen by the next instruction that is fetched.
 *
 * The P6 family compares every store with what it has fetched, by physical address, so that no jump is needed; a
 * store through another linear address is only sure to be seen after a serializing instruction.  [SDM 3, 8.1.3]
 */
#include "guest.h"

#define MAPPED		(16u << 20)
#define WINDOW		0x40000000u
#define RW		(PTE_P | PTE_W | PTE_U)
#define OP_MOV_EAX	0xB8	/* MOV EAX, imm32 */
#define OP_RET		0xC3
#define OP_INC_EAX	0x40
#define OP_NOP		0x90

/* For checks that are made twice. */
#define NAME(name)	(paged ? "paged_" name : name)

typedef uint32_t code(void);

static uint8_t pages[2 * PAGE_SIZE] __attribute__((aligned(4096)));
static page_table *directory;

static void
serialize(void)
{
	cpuid(0);
}

/* MOV EAX, value; RET */
static void
write_constant(uint8_t *where, uint32_t value)
{
	where[0] = OP_MOV_EAX;
	memcpy(where + 1, &value, 4);
	where[5] = OP_RET;
}

static uint32_t
run(const void *where)
{
	return ((code *)(uintptr_t)where)();
}

static void
check_next_instruction(bool paged)
{
	uint32_t result;

	/* The immediate of the very next instruction. */
	__asm__ volatile("movl $2, 1f+1; 1: movl $1, %%eax; movl $1, 1b+1" : "=a"(result) : : "memory");
	check_equal(NAME("store_changes_the_next_instruction"), result, 2);

	/* Its opcode: INC EAX becomes a NOP. */
	__asm__ volatile("xorl %%eax, %%eax; movb %1, 1f; 1: incl %%eax; movb %2, 1b" : "=&a"(result) :
	    "i"(OP_NOP), "i"(OP_INC_EAX) : "memory", "cc");
	check_equal(NAME("store_changes_the_next_opcode"), result, 0);

	/* A few instructions on, in the same straight line. */
	__asm__ volatile("movl $4, 1f+1; nop; nop; addl $0, %%eax; 1: movl $3, %%eax; movl $3, 1b+1" : "=a"(result) : :
	    "memory", "cc");
	check_equal(NAME("store_changes_a_later_instruction"), result, 4);

	/* By a string instruction. */
	__asm__ volatile("movl $1f+1, %%edi; movb $6, %%al; stosb; 1: movl $5, %%eax; movl $5, 1b+1" : "=a"(result) : :
	    "edi", "memory");
	check_equal(NAME("string_store_changes_the_next_instruction"), result, 6);
}

/* Each pass of a loop changes what the next pass adds: 05 is ADD EAX, imm32. */
static void
check_loop(bool paged)
{
	uint32_t sum;

	__asm__ volatile("movl $1, 1f+1; xorl %%eax, %%eax; movl $100, %%ecx;"
	    "1: .byte 0x05; .long 1; incl 1b+1; loop 1b; movl $1, 1b+1" : "=&a"(sum) : : "ecx", "memory", "cc");
	check_equal(NAME("patched_loop_sums_1_to_100"), sum, 5050);

	/* A branch that is turned around while it is taken: JMP +0 becomes JMP out. */
	__asm__ volatile("xorl %%eax, %%eax;"
	    "1: incl %%eax; cmpl $10, %%eax; jne 2f; movb $3f-4f, 4f-1;"
	    "2: .byte 0xEB, 0; 4: jmp 1b; 3: movb $0, 4b-1" : "=&a"(sum) : : "memory", "cc");
	check_equal(NAME("patched_branch_leaves_the_loop"), sum, 10);
}

static void
check_data_in_code(void)
{
	uint32_t i, sum = 0;

	/* A counter in the same page as, and right behind, the code that counts it. */
	pages[0] = 0xFF, pages[1] = 0x05;		/* INC dword [counter] */
	*(uint32_t *)(pages + 2) = (uint32_t)pages + 16;
	pages[6] = 0xA1;				/* MOV EAX, [counter] */
	*(uint32_t *)(pages + 7) = (uint32_t)pages + 16;
	pages[11] = OP_RET;
	*(uint32_t *)(pages + 16) = 0;
	for (i = 0; i < 1000; i++)
		sum = run(pages);
	check_equal("data_beside_code_counts", sum, 1000);
}

/* Rewritten over and over, from outside. */
static void
check_rewritten(void)
{
	uint32_t i;

	for (i = 0; i < 2000; i++) {
		write_constant(pages + 64, i * 3);
		if (run(pages + 64) != i * 3)
			break;
	}
	check_equal("rewritten_code_runs_anew", i, 2000);
	for (i = 0; i < 2000; i++) {
		write_constant(pages + 64 + i % 7, i);
		if (run(pages + 64 + i % 7) != i)
			break;
	}
	check_equal("code_written_at_other_offsets_runs", i, 2000);
	memset(pages + 128, OP_INC_EAX, 256);
	pages[128 + 256] = OP_RET;
	pages[128 + 200] = OP_RET;
	__asm__ volatile("xorl %%eax, %%eax; call *%1" : "=&a"(i) : "r"(pages + 128) : "memory", "cc");
	check_equal("shortened_run_stops_early", i, 200);
}

/* An instruction of which each half lies in a page of its own. */
static void
check_across_pages(void)
{
	uint8_t *start = pages + PAGE_SIZE - 3;

	write_constant(start, 0x11223344);
	check_equal("instruction_across_pages_runs", run(start), 0x11223344);
	start[4] = 0xAA;				/* in the second page */
	check_equal("second_half_changed", run(start), 0xAA223344);
	start[1] = 0xBB;				/* in the first */
	check_equal("first_half_changed", run(start), 0xAA2233BB);

	/* The second page exchanged under it. */
	map_page(directory, WINDOW, (uint32_t)pages, RW);
	map_page(directory, WINDOW + PAGE_SIZE, (uint32_t)pages + PAGE_SIZE, RW);
	check_equal("instruction_across_mapped_pages_runs", run((void *)(WINDOW + PAGE_SIZE - 3)), 0xAA2233BB);
	{
		uint8_t *other = allocate_pages(1);

		other[0] = 0x01, other[1] = 0x02, other[2] = OP_RET;
		map_page(directory, WINDOW + PAGE_SIZE, (uint32_t)other, RW);
		invalidate_page((void *)(WINDOW + PAGE_SIZE));
		check_equal("second_page_exchanged", run((void *)(WINDOW + PAGE_SIZE - 3)), 0x020133BB);
	}
}

/* The code at one linear address, the store at another, one frame. */
static void
check_alias(void)
{
	uint8_t *alias = (uint8_t *)WINDOW;
	uint32_t i;

	map_page(directory, WINDOW, (uint32_t)pages, RW);
	invalidate_page(alias);
	write_constant(pages + 64, 1);
	serialize();
	check_equal("code_runs_through_its_alias", run(alias + 64), 1);
	for (i = 0; i < 100; i++) {
		write_constant(alias + 64, i);
		serialize();
		if (run(pages + 64) != i || run(alias + 64) != i)
			break;
	}
	check_equal("store_through_an_alias_changes_the_code", i, 100);

	/* Another frame at the same address: what was decoded there is of no use any more. */
	write_constant(pages + 64, 7);
	write_constant(pages + PAGE_SIZE + 64, 8);
	for (i = 0; i < 100; i++) {
		map_page(directory, WINDOW, (uint32_t)pages + i % 2 * PAGE_SIZE, RW);
		invalidate_page(alias);
		if (run(alias + 64) != 7 + i % 2)
			break;
	}
	check_equal("remapped_code_runs_the_new_frame", i, 100);
}

void
guest_main(void)
{
	directory = identity_directory(MAPPED, RW);
	check_next_instruction(false);
	check_loop(false);
	paging_on(directory);
	check_next_instruction(true);
	check_loop(true);
	check_data_in_code();
	check_rewritten();
	check_across_pages();
	check_alias();
	paging_off();
}
