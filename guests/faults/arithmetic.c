/*
 * arithmetic.c -- #DE, #OF, #BR: a result that does not fit, and the two instructions that test for it.
 */
#include "faults.h"

static const int32_t bounds32[2] = { -5, 5 };
static const int16_t bounds16[2] = { 10, 20 };

static void
check_divide(void)
{
	check_fault("div_by_zero_de", FAULT_OF("movl $1, %%eax; xorl %%edx, %%edx; xorl %%ecx, %%ecx", "divl %%ecx"),
	    VEC_DE, NO_ERROR);
	check_fault("div_quotient_of_33_bits_de", FAULT_OF("movl $2, %%edx; xorl %%eax, %%eax; movl $2, %%ecx",
	    "divl %%ecx"), VEC_DE, NO_ERROR);
	check_no_fault("div_quotient_of_32_bits_runs", FAULT_OF("movl $1, %%edx; xorl %%eax, %%eax; movl $2, %%ecx",
	    "divl %%ecx"));
	check_fault("div16_quotient_of_17_bits_de", FAULT_OF("movl $1, %%edx; xorl %%eax, %%eax; movl $1, %%ecx",
	    "divw %%cx"), VEC_DE, NO_ERROR);
	check_fault("div8_quotient_of_9_bits_de", FAULT_OF("movl $0x100, %%eax; movl $1, %%ecx", "divb %%cl"),
	    VEC_DE, NO_ERROR);
	check_fault("idiv_by_zero_de", FAULT_OF("xorl %%ecx, %%ecx; xorl %%edx, %%edx", "idivl %%ecx"),
	    VEC_DE, NO_ERROR);
	check_fault("idiv_minimum_by_minus_1_de", FAULT_OF("movl $0x80000000, %%eax; cltd; movl $-1, %%ecx",
	    "idivl %%ecx"), VEC_DE, NO_ERROR);
	check_no_fault("idiv_minimum_by_1_runs", FAULT_OF("movl $0x80000000, %%eax; cltd; movl $1, %%ecx",
	    "idivl %%ecx"));
	check_fault("idiv8_minimum_by_minus_1_de", FAULT_OF("movl $0xFF80, %%eax; movl $-1, %%ecx", "idivb %%cl"),
	    VEC_DE, NO_ERROR);
	check_fault("aam_by_zero_de", FAULT_OF("movl $1, %%eax", "aam $0"), VEC_DE, NO_ERROR);
}

/* A faulting division must leave its registers as they were. */
static void
check_divide_changes_nothing(void)
{
	uint32_t eax, edx;

	__asm__ volatile("movl $1f, %0; movl %%esp, %1; mov %%ss, %2; xorl %%ecx, %%ecx; movl $7, %%edx;"
	    "movl $9, %%eax; divl %%ecx; 1: lss %1, %%esp; movl $0, %0"
	    : "=m"(probe.recovery), "=m"(probe.esp), "=m"(probe.ss), "=&a"(eax), "=&d"(edx) : : "ecx", "cc", "memory");
	check("div_fault_keeps_registers", eax == 9 && edx == 7, "EAX %x EDX %x", eax, edx);
}

static void
check_overflow_and_bound(void)
{
	/* 7FFFFFFFh + 1 overflows. */
	check_trap("into_with_of_is_a_trap", FAULT_OF("movl $0x7FFFFFFF, %%eax; incl %%eax", "into"), VEC_OF, 1);
	check_no_fault("into_without_of_runs", FAULT_OF("xorl %%eax, %%eax", "into"));

	check_no_fault("bound_at_lower_limit_runs", FAULT_OF("movl $-5, %%eax", "bound %%eax, %0", "m"(bounds32)));
	check_no_fault("bound_at_upper_limit_runs", FAULT_OF("movl $5, %%eax", "bound %%eax, %0", "m"(bounds32)));
	check_fault("bound_below_br", FAULT_OF("movl $-6, %%eax", "bound %%eax, %0", "m"(bounds32)), VEC_BR, NO_ERROR);
	check_fault("bound_above_br", FAULT_OF("movl $6, %%eax", "bound %%eax, %0", "m"(bounds32)), VEC_BR, NO_ERROR);
	check_fault("bound16_above_br", FAULT_OF("movl $21, %%eax", "boundw %%ax, %0", "m"(bounds16)), VEC_BR,
	    NO_ERROR);
}

void
check_arithmetic(void)
{
	check_divide();
	check_divide_changes_nothing();
	check_overflow_and_bound();
}
