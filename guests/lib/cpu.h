/*
 * cpu.h -- the descriptor tables every guest starts with.
 */
#pragma once

#include "x86.h"

extern uint64_t gdt[GDT_ENTRIES];
extern uint64_t idt[256];

/* The task that runs the guest; its I/O permission bitmap follows the TSS.  [SDM 1, 18.5.2] */
#define IO_MAP_BYTES	8193	/* 65536 ports and the byte of ones that ends the map */

struct main_tss {
	struct tss32 tss;
	uint8_t io_map[IO_MAP_BYTES];
} __attribute__((packed));
extern struct main_tss main_tss;
#define NO_IO_MAP	0xFFFF	/* a base beyond the limit: no port is allowed */

void cpu_init(void);

/* A segment descriptor of `limit` (in bytes, or in pages with DESC_G) and DESC_ attributes. */
uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attributes);
uint64_t tss_descriptor(const void *tss, uint32_t limit, enum system_type type, int dpl);

/* A call, interrupt, trap or task gate. */
uint64_t gate(uint16_t selector, uint32_t offset, enum system_type type, int dpl, int parameters);

void set_gdt(uint16_t selector, uint64_t value);
void load_gdt(void);
void load_idt(void);
