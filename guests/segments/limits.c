/*
 * limits.c -- which offsets lie in a segment: up, down, and what base and offset add up to.  [SDM 3, 5.3]
 */
#include "parts.h"

static uint8_t area[0x20000] __attribute__((aligned(4096)));

static struct fault
read_at(uint32_t offset, int size)
{
	if (size == 1)
		return FAULT_OF("", "movb %%fs:(%0), %%al", "r"(offset));
	if (size == 2)
		return FAULT_OF("", "movw %%fs:(%0), %%ax", "r"(offset));
	return FAULT_OF("", "movl %%fs:(%0), %%eax", "r"(offset));
}

static const struct row {
	const char *name;
	uint32_t limit, attributes, offset;
	int size;
	bool inside;
} rows[] = {
	{ "up_first_byte_is_inside", 0xFFF, DESC_DATA | DESC_B, 0, 1, true },
	{ "up_last_byte_is_inside", 0xFFF, DESC_DATA | DESC_B, 0xFFF, 1, true },
	{ "up_word_across_the_end_is_outside", 0xFFF, DESC_DATA | DESC_B, 0xFFF, 2, false },
	{ "up_next_byte_is_outside", 0xFFF, DESC_DATA | DESC_B, 0x1000, 1, false },
	{ "up_limit_0_holds_one_byte", 0, DESC_DATA | DESC_B, 0, 1, true },
	{ "up_limit_0_holds_no_word", 0, DESC_DATA | DESC_B, 0, 2, false },
	{ "up_in_pages_the_last_byte_is_inside", 0, DESC_DATA | DESC_FLAT, 0xFFF, 1, true },
	{ "up_in_pages_the_next_is_outside", 0, DESC_DATA | DESC_FLAT, 0x1000, 1, false },
	{ "down_the_limit_is_outside", 0xFFF, DESC_EXPAND_DOWN | DESC_B, 0xFFF, 1, false },
	{ "down_behind_the_limit_is_inside", 0xFFF, DESC_EXPAND_DOWN | DESC_B, 0x1000, 4, true },
	{ "down_zero_is_outside", 0xFFF, DESC_EXPAND_DOWN | DESC_B, 0, 4, false },
	{ "down_16_bits_ends_at_64_kib", 0xFFF, DESC_EXPAND_DOWN, 0xFFFF, 1, true },
	{ "down_16_bits_beyond_64_kib_is_outside", 0xFFF, DESC_EXPAND_DOWN, 0x10000, 1, false },
	{ "down_16_bits_across_64_kib_is_outside", 0xFFF, DESC_EXPAND_DOWN, 0xFFFF, 2, false },
	{ "down_32_bits_goes_beyond_64_kib", 0xFFF, DESC_EXPAND_DOWN | DESC_B, 0x10000, 4, true },
	{ "down_across_the_limit_is_outside", 0xFFF, DESC_EXPAND_DOWN | DESC_B, 0xFFE, 4, false },
	{ "execute_only_code_is_not_read", 0xFFFFF, DESC_P | DESC_S | DESC_TYPE(8) | DESC_FLAT, 0, 1, false },
};

static void
check_rows(void)
{
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct fault fault;

		/* A trap reloads FS on its way back, so FS must not name a descriptor that has become unloadable. */
		__asm__ volatile("movl %0, %%fs" : : "r"(0));
		set_gdt(SLOT, descriptor((uint32_t)area, row->limit, row->attributes));
		fault = FAULT_OF("movl %0, %%eax", "movl %%eax, %%fs", "i"(SLOT));
		if (fault.raised) {		/* an execute-only segment cannot even be loaded */
			check_equal(row->name, fault.error, SLOT);
			continue;
		}
		fault = read_at(row->offset, row->size);
		if (row->inside)
			check_no_fault(row->name, fault);
		else
			check_fault_silicon(row->name, fault, VEC_GP, 0, NO_LIMITS);
	}
}

/* The linear address is the sum of base and offset, without a carry. */
static void
check_wrap(void)
{
	uint32_t base = (uint32_t)area + 0x1000, value;
	struct fault fault;

	*(volatile uint32_t *)(area + 0x1000 - 4) = 0x600DF00D;
	__asm__ volatile("movl %0, %%fs" : : "r"(0));
	set_gdt(SLOT, descriptor(base, 0xFFFFF, DESC_DATA | DESC_FLAT));
	__asm__ volatile("movl %1, %%fs; movl %%fs:(%2), %0" : "=r"(value) : "r"(SLOT), "r"(-4));
	check_equal("base_and_offset_wrap_at_4_gib", value, 0x600DF00D);
	__asm__ volatile("movl %0, %%fs" : : "r"(0));
	fault = read_at(0, 1);
	check_fault_silicon("null_segment_is_outside", fault, VEC_GP, 0, NO_LIMITS);
}

void
check_limits(void)
{
	check_rows();
	check_wrap();
}
