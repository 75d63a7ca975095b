/*
 * loads.c -- segment registers: what a load copies, what a store shows, and what a return outward takes away.
 */
#include "parts.h"

extern uint32_t ring3_fs, ring3_gs;
uint32_t ring3_fs, ring3_gs;

static uint32_t
report_segments(uint32_t unused)
{
	(void)unused;
	__asm__ volatile("movl %%fs, %0; movl %%gs, %1" : "=r"(ring3_fs), "=r"(ring3_gs));
	return 0;
}

static void
check_hidden_part(void)
{
	static uint32_t words[2] = { 0x1111, 0x2222 };
	uint32_t value;

	__asm__ volatile("movl %0, %%fs" : : "r"(0));
	/* The descriptor is copied at the load: changing it later changes nothing. */
	set_gdt(SLOT, descriptor((uint32_t)&words[0], 0xFFFFF, DESC_DATA | DESC_FLAT));
	__asm__ volatile("movl %0, %%fs" : : "r"(SLOT));
	set_gdt(SLOT, descriptor((uint32_t)&words[1], 0xFFFFF, DESC_DATA | DESC_FLAT));
	__asm__ volatile("movl %%fs:0, %0" : "=r"(value));
	check_equal("segment_is_cached_until_loaded_again", value, 0x1111);
	__asm__ volatile("movl %0, %%fs" : : "r"(SLOT));
	__asm__ volatile("movl %%fs:0, %0" : "=r"(value));
	check_equal("loading_again_reads_the_descriptor", value, 0x2222);
	__asm__ volatile("movl %0, %%fs" : : "r"(0));
}

static void
check_stores(void)
{
	uint32_t value = 0xFFFFFFFF, memory = 0xFFFFFFFF;
	uint8_t image[8];

	__asm__("movl %%ds, %0" : "=r"(value));
	check_equal("store_to_a_register_clears_the_upper_half", value, KERNEL_DS);
	__asm__("mov %%ds, %0" : "+m"(*(uint16_t *)&memory));
	check_equal("store_to_memory_writes_16_bits", memory, 0xFFFF0000 | KERNEL_DS);
	__asm__ volatile("pushl %%ds; popl %0" : "=r"(value));
	check_equal("push_takes_four_bytes", value & 0xFFFF, KERNEL_DS);
	__asm__ volatile("str %w0" : "=r"(value));
	check_equal("str_names_the_task", value & 0xFFFF, MAIN_TSS);
	check("ltr_marks_the_task_busy", (gdt[MAIN_TSS / 8] >> 40 & 0xF) == TYPE_TSS32_BUSY, "descriptor %llx",
	    gdt[MAIN_TSS / 8]);
	memset(image, 0xEE, sizeof(image));
	__asm__ volatile("sgdt %0" : "=m"(image) : : "memory");
	check("sgdt_stores_six_bytes", *(uint16_t *)image == sizeof(gdt) - 1 &&
	    *(uint32_t *)(image + 2) == (uint32_t)gdt &&
	    image[6] == 0xEE, "limit %x base %x", *(uint16_t *)image, *(uint32_t *)(image + 2));
}

/* With a 16-bit operand LGDT takes 24 bits of the base. */
static void
check_lgdt16(void)
{
	struct table_register reg = { sizeof(gdt) - 1, (uint32_t)gdt | 0xAB000000u }, seen;

	__asm__ volatile("lgdtw %0" : : "m"(reg) : "memory");
	__asm__ volatile("sgdt %0" : "=m"(seen));
	check_equal("lgdt_of_16_bits_takes_24_bits_of_base", seen.base, (uint32_t)gdt);
	load_gdt();
}

/* A return to an outer ring leaves no segment that the ring could not have loaded.  [SDM 3, 5.8.6] */
static void
check_return_outward(void)
{
	__asm__ volatile("movl %0, %%fs; movl %1, %%gs" : : "r"(KERNEL_DS), "r"(USER_DS));
	ring_call(3, report_segments, 0);
	check_equal("return_outward_takes_inner_segments", ring3_fs, 0);
	check_equal("return_outward_leaves_outer_segments", ring3_gs, USER_DS);
	set_gdt(SLOT, descriptor(0, 0xFFFFF, DESC_CONFORMING | DESC_FLAT | DESC_DPL(0)));
	__asm__ volatile("movl %0, %%fs" : : "r"(SLOT));
	ring_call(3, report_segments, 0);
	check_equal("return_outward_leaves_conforming_code", ring3_fs, SLOT);
	__asm__ volatile("movl %0, %%fs; movl %0, %%gs" : : "r"(0));
}

void
check_loads(void)
{
	check_hidden_part();
	check_stores();
	check_lgdt16();
	check_return_outward();
}
