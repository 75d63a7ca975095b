/*
 * ldt.c -- the local descriptor table, and the absence of one.
 */
#include "parts.h"

#define LDT_ENTRIES	4
#define LOCAL(n)	((n) * 8 + TI_LDT)

static uint64_t ldt[LDT_ENTRIES] __attribute__((aligned(8)));

static struct fault
load_fs(uint32_t selector)
{
	return FAULT_OF("", "movl %0, %%fs", "r"(selector));
}

/*
 * Reset leaves a null LDTR.  A selector of the LDT must then be refused, although something that looks like a
 * descriptor lies where a table at linear address 0 would begin.
 */
void
check_reset_ldtr(void)
{
	volatile uint64_t *low = (volatile uint64_t *)8;
	uint64_t saved;
	uint32_t selector;
	struct fault fault;

	__asm__("" : "+r"(low));
	__asm__ volatile("sldt %0" : "=r"(selector));
	check_equal("reset_ldtr_is_null", selector & 0xFFFF, 0);
	saved = *low;
	*low = descriptor(0, 0xFFFFF, DESC_DATA | DESC_FLAT);
	fault = load_fs(LOCAL(1));
	*low = saved;
	check_fault_silicon("reset_ldtr_is_no_table_at_0", fault, VEC_GP, LOCAL(1),
	    "resets LDTR as a usable table at 0");
	__asm__ volatile("movl %0, %%fs; lldt %w0" : : "r"(0));
}

void
check_ldt(void)
{
	static uint32_t word = 0x1D71D7;
	uint32_t value;
	struct fault fault;

	ldt[1] = descriptor((uint32_t)&word, 0xFFFFF, DESC_DATA | DESC_FLAT);
	ldt[2] = descriptor(0, 0xFFFFF, DESC_CODE | DESC_FLAT);
	ldt[0] = ldt[1];
	set_gdt(LDT_SLOT, descriptor((uint32_t)ldt, sizeof(ldt) - 1, DESC_LDT));
	__asm__ volatile("lldt %w0" : : "r"(LDT_SLOT));
	__asm__ volatile("sldt %0" : "=r"(value));
	check_equal("sldt_names_the_ldt", value & 0xFFFF, LDT_SLOT);
	fault = load_fs(LOCAL(1));
	check_no_fault("segment_of_the_ldt_loads", fault);
	__asm__ volatile("movl %%fs:0, %0" : "=r"(value));
	check_equal("segment_of_the_ldt_is_read", value, 0x1D71D7);
	fault = load_fs(LOCAL(0));
	check_no_fault("first_entry_of_the_ldt_is_not_null", fault);
	fault = FAULT_OF("", "ljmp %0, $7f; 7: ljmp %1, $7f; 7:", "i"(LOCAL(2)), "i"(KERNEL_CS));
	check_no_fault("code_of_the_ldt_runs", fault);
	fault = load_fs(LOCAL(LDT_ENTRIES));
	check_fault("beyond_the_ldt_gp", fault, VEC_GP, LOCAL(LDT_ENTRIES));

	set_gdt(SLOT, descriptor((uint32_t)ldt, sizeof(ldt) - 1, DESC_LDT & ~DESC_P));
	check_fault("lldt_absent_np", FAULT_OF("movl %0, %%eax", "lldt %%ax", "i"(SLOT)), VEC_NP, SLOT);
	check_fault("lldt_of_data_gp", FAULT_OF("movl %0, %%eax", "lldt %%ax", "i"(KERNEL_DS)), VEC_GP, KERNEL_DS);
	check_fault("lldt_of_the_ldt_gp", FAULT_OF("movl %0, %%eax", "lldt %%ax", "i"(LOCAL(1))), VEC_GP, LOCAL(1));
	__asm__ volatile("movl %0, %%fs; lldt %w0" : : "r"(0));
	fault = load_fs(LOCAL(1));
	check_fault("null_ldt_gp", fault, VEC_GP, LOCAL(1));
}
