/*
 * cpu.c -- GDT, IDT, the main task and the task that takes a double fault.
 */
#include "cpu.h"
#include "memory.h"
#include "traps.h"

uint64_t gdt[GDT_ENTRIES] __attribute__((aligned(8)));
uint64_t idt[256] __attribute__((aligned(8)));
struct main_tss main_tss __attribute__((aligned(128)));

uint64_t
descriptor(uint32_t base, uint32_t limit, uint32_t attributes)
{
	uint32_t low = base << 16 | (limit & 0xFFFF);
	uint32_t high = (base & 0xFF000000) | (limit & 0xF0000) | attributes | (base >> 16 & 0xFF);

	return (uint64_t)high << 32 | low;
}

uint64_t
tss_descriptor(const void *tss, uint32_t limit, enum system_type type, int dpl)
{
	return descriptor((uint32_t)tss, limit, DESC_P | DESC_TYPE(type) | DESC_DPL(dpl));
}

uint64_t
gate(uint16_t selector, uint32_t offset, enum system_type type, int dpl, int parameters)
{
	uint32_t low = (uint32_t)selector << 16 | (offset & 0xFFFF);
	uint32_t high = (offset & 0xFFFF0000) | DESC_P | DESC_DPL(dpl) | DESC_TYPE(type) | (uint32_t)parameters;

	return (uint64_t)high << 32 | low;
}

void
set_gdt(uint16_t selector, uint64_t value)
{
	gdt[selector / 8] = value;
}

void
load_gdt(void)
{
	struct table_register reg = { sizeof(gdt) - 1, (uint32_t)gdt };

	__asm__ volatile("lgdt %0; ljmp %1, $1f; 1:" : : "m"(reg), "i"(KERNEL_CS) : "memory");
	__asm__ volatile("mov %w0, %%ds; mov %w0, %%es; mov %w0, %%ss; mov %w1, %%fs; mov %w1, %%gs" : :
	    "r"(KERNEL_DS), "r"(0));
}

void
load_idt(void)
{
	struct table_register reg = { sizeof(idt) - 1, (uint32_t)idt };

	__asm__ volatile("lidt %0" : : "m"(reg));
}

void
cpu_init(void)
{
	static const uint8_t rings[4] = { KERNEL_CS, RING1_CS, RING2_CS, USER_CS };
	int ring;

	for (ring = 0; ring < 4; ring++) {
		uint16_t cs = rings[ring] & ~RPL_MASK;

		set_gdt(cs, descriptor(0, 0xFFFFF, DESC_CODE | DESC_FLAT | DESC_DPL(ring)));
		set_gdt(cs + 8, descriptor(0, 0xFFFFF, DESC_DATA | DESC_FLAT | DESC_DPL(ring)));
	}
	main_tss.tss.ss0 = KERNEL_DS;
	main_tss.tss.io_map_base = NO_IO_MAP;
	memset(main_tss.io_map, 0xFF, sizeof(main_tss.io_map));
	set_gdt(MAIN_TSS, tss_descriptor(&main_tss, sizeof(main_tss) - 1, TYPE_TSS32, 0));
	load_gdt();
	__asm__ volatile("lldt %w0; ltr %w1" : : "r"(0), "r"(MAIN_TSS));
	traps_init();
	load_idt();
	write_cr4(0);
	/* An x87 error is exception 16 (NE); WAIT minds the task switch (MP); no emulation. */
	write_cr0((read_cr0() & ~(CR0_EM | CR0_TS | CR0_AM | CR0_WP | CR0_PG)) | CR0_NE | CR0_MP);
	__asm__ volatile("fninit");
}
