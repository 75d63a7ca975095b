/*
 * limits.c -- segment limits on data, on the stack, and on fetching code.
 *
 * The last byte of an operand must lie within the limit; SS faults as #SS, all others as #GP, error code 0.
 * [SDM 3, 5.3]  One popular emulator has no such checks at all.
 */
#include "faults.h"

#define SMALL_DATA	0x58
#define SMALL_STACK	0x60
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
	check_at("string_beyond_limit_gp", FAULT_OF("pushl %%esi; movl $0x1000, %%esi", "lodsb %%fs:(%%esi), %%al"),
	    VEC_GP);
	__asm__ volatile("movl %0, %%fs" : : "r"(0));
}

/* The stack segment ends just above the top of our stack, so whatever lies beyond is out of reach. */
static void
check_stack(void)
{
	extern char boot_stack_top[];
	uint32_t limit = (uint32_t)boot_stack_top - 1;

	set_gdt(SMALL_STACK, descriptor(0, limit, DESC_DATA | DESC_B));
	if (limit > 0xFFFFF)	/* beyond a byte-granular limit: count in pages; the stack ends on one */
		set_gdt(SMALL_STACK, descriptor(0, limit >> 12, DESC_DATA | DESC_FLAT));
	__asm__ volatile("movl %0, %%ss" : : "r"(SMALL_STACK));
	check_no_fault("stack_within_limit_runs", FAULT_OF("", "movl %%ss:-4(%0), %%eax", "r"(boot_stack_top)));
	check_at("stack_beyond_limit_ss", FAULT_OF("", "movl %%ss:(%0), %%eax", "r"(boot_stack_top)), VEC_SS);
	check_at("stack_across_limit_ss", FAULT_OF("", "movl %%ss:-2(%0), %%eax", "r"(boot_stack_top)), VEC_SS);
	check_at("pop_beyond_limit_ss", FAULT_OF("movl %0, %%esp", "popl %%eax", "r"(boot_stack_top)), VEC_SS);
	/* EBP chooses SS, also for data. */
	check_at("ebp_chooses_ss", FAULT_OF("pushl %%ebp; movl %0, %%ebp", "movl (%%ebp), %%eax; popl %%ebp",
	    "r"(boot_stack_top)), VEC_SS);
	__asm__ volatile("movl %0, %%ss" : : "r"(KERNEL_DS));
}

/*
 * Two bytes of code at the end of a segment: a NOP, and behind the limit nothing may be fetched.  The segment's base
 * is 0, so that the recovery is reached whatever happens: it lies below.
 */
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
