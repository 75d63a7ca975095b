/*
 * limits.c -- segment limits on data, on the stack, and on fetching code.
 *
 * The last byte of an operand must lie within the limit; SS faults as #SS, all others as #GP, error code 0.
 * [SDM 3, 5.3]  One popular emulator has no such checks at all.
 */
#include "faults.h"

#define SMALL_DATA	0x58
#define SMALL_STACK	0x60		/* 63h in the code below, with its RPL */
#define SMALL_CODE	0x68
#define LIMIT		0xFFFu
#define NO_LIMITS	"checks no segment limits on data"

extern char limited_code[];

static void
check_at(const char *name, struct fault fault, enum vector vector)
{
	check_silicon(name, is_fault(fault, vector, 0) && !fault.at, NO_LIMITS);
}

/* FS is a segment of one page at `page`. */
static void
check_data(void)
{
	static uint8_t page[2 * PAGE_SIZE];

	set_gdt(SMALL_DATA, descriptor((uint32_t)page, LIMIT, DESC_DATA | DESC_B));
	__asm__ volatile("movl %0, %%fs" : : "r"(SMALL_DATA));
	check_no_fault("data_last_byte_runs", FAULT_OF("", "movb %%fs:0xFFF, %%al"));
	check_no_fault("data_last_word_runs", FAULT_OF("", "movl %%fs:0xFFC, %%eax"));
	check_at("data_beyond_limit_gp", FAULT_OF("", "movb %%fs:0x1000, %%al"), VEC_GP);
	check_at("data_write_beyond_limit_gp", FAULT_OF("", "movb %%al, %%fs:0x1000"), VEC_GP);
	check_at("data_across_limit_gp", FAULT_OF("", "movl %%fs:0xFFD, %%eax"), VEC_GP);
	check_at("data_far_beyond_limit_gp", FAULT_OF("movl $-4, %%ecx", "movl %%fs:(%%ecx), %%eax"), VEC_GP);
	check_at("string_beyond_limit_gp", FAULT_OF("movl $0x1000, %%esi", "lodsb %%fs:(%%esi), %%al"),
	    VEC_GP);
	__asm__ volatile("movl %0, %%fs" : : "r"(0));
}

/*
 * Ring 3, with a stack segment of one page: what faults is reported on ring 0's stack.  Each piece of code names the
 * instruction that counts, and comes back by INT 81h if nothing stops it.
 */
#define RING3_STACK(name, setup, code)								\
	uint32_t name(uint32_t unused);								\
	extern char name##_faults[];								\
	__asm__(".text; " #name ": movl $0x63, %eax; movl %eax, %ss; movl $0x800, %esp; " setup "; "	\
	    #name "_faults: " code "; int $0x81")

RING3_STACK(stack_within, "", "movl %ss:0xFFC, %eax");
RING3_STACK(stack_beyond, "", "movl %ss:0x1000, %eax");
RING3_STACK(stack_across, "", "movl %ss:0xFFE, %eax");
RING3_STACK(pop_beyond, "movl $0x1000, %esp", "popl %eax");
RING3_STACK(push_below, "movl $2, %esp", "pushl %eax");
RING3_STACK(call_below, "movl $0, %esp", "call pop_beyond");
RING3_STACK(ebp_beyond, "movl $0x1000, %ebp", "movl (%ebp), %eax");	/* EBP chooses SS, also for data */

static void
check_stack_row(const char *name, ring_function *code, const char *faults)
{
	struct fault fault;

	ring_call(3, code, 0);
	fault = ring_fault();
	check_silicon(name, is_fault(fault, VEC_SS, 0) && fault.eip == (uint32_t)faults, NO_LIMITS);
}

static void
check_stack(void)
{
	static uint8_t pages[3 * PAGE_SIZE];	/* the middle one; a machine without limits writes beside it */

	set_gdt(SMALL_STACK, descriptor((uint32_t)pages + PAGE_SIZE, LIMIT, DESC_DATA | DESC_B | DESC_DPL(3)));
	ring_call(3, stack_within, 0);
	check_no_fault("stack_within_limit_runs", ring_fault());
	check_stack_row("stack_beyond_limit_ss", stack_beyond, stack_beyond_faults);
	check_stack_row("stack_across_limit_ss", stack_across, stack_across_faults);
	check_stack_row("pop_beyond_limit_ss", pop_beyond, pop_beyond_faults);
	check_stack_row("push_across_0_ss", push_below, push_below_faults);
	check_stack_row("call_below_0_ss", call_below, call_below_faults);
	check_stack_row("ebp_chooses_ss", ebp_beyond, ebp_beyond_faults);
}

/* Two bytes of code at the end of a segment; behind the limit nothing may be fetched. */
__asm__(
    ".text; .balign 4096; .skip 4094\n"
    "limited_code: nop; nop\n"		/* the last byte within the limit is the second */
    "beyond_code: ret\n");
extern char beyond_code[];

static struct fault
run_limited(uint32_t offset)
{
	static struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) far;

	far.offset = offset;
	far.selector = SMALL_CODE;
	return FAULT_OF("pushl $8f", "ljmp *%0", "m"(far));
}

static void
check_fetch(void)
{
	struct fault fault;

	set_gdt(SMALL_CODE, descriptor(0, ((uint32_t)beyond_code >> 12) - 1, DESC_CODE | DESC_FLAT));
	fault = run_limited((uint32_t)limited_code);
	__asm__ volatile("ljmp %0, $1f; 1:" : : "i"(KERNEL_CS));
	check_silicon("fetch_beyond_limit_gp", is_fault(fault, VEC_GP, 0) && fault.eip == (uint32_t)beyond_code &&
	    fault.cs == SMALL_CODE, "checks no CS limit on fetch");
	fault = run_limited((uint32_t)beyond_code);
	__asm__ volatile("ljmp %0, $1f; 1:" : : "i"(KERNEL_CS));
	check("far_jump_beyond_limit_gp", is_fault(fault, VEC_GP, 0) && fault.cs == KERNEL_CS, "vector %u CS %x",
	    fault.vector, fault.cs);
}

void
check_limits(void)
{
	check_data();
	check_stack();
	check_fetch();
}
