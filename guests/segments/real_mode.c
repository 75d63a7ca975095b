/*
 * real_mode.c -- a visit to real mode, and what was seen there.
 */
#include "parts.h"

#define REAL_BASE	0x7000u
#define REAL_SEGMENT	0x0700u
#define REAL_STACK	0x0F00u
#define IVT_BYTES	1024u

extern uint8_t real_start[], real_end[];
extern uint8_t saw_far[], saw_far_again[], saw_megabyte[], saw_ip[], saw_cs[], saw_flags[], saw_sp[], saw_gp[];
void real_enter(void);

static uint32_t
seen(const uint8_t *where)
{
	uint32_t value;

	memcpy(&value, (const void *)(REAL_BASE + (uint32_t)(where - real_start)), sizeof(value));
	return value;
}

void
check_real_mode(void)
{
	static uint8_t vectors[IVT_BYTES];
	volatile uint8_t *low = (volatile uint8_t *)0;
	uint32_t i;

	__asm__("" : "+r"(low));
	for (i = 0; i < IVT_BYTES; i++)
		vectors[i] = low[i];
	memcpy((void *)REAL_BASE, real_start, (size_t)(real_end - real_start));
	set_gdt(CODE16, descriptor(REAL_BASE, 0xFFFF, DESC_CODE));
	set_gdt(DATA16, descriptor(REAL_BASE, 0xFFFF, DESC_DATA));
	real_enter();
	for (i = 0; i < IVT_BYTES; i++)
		low[i] = vectors[i];

	check_equal("unreal_mode_reaches_beyond_1_mib", seen(saw_far), 0xFA57FA57);
	check_equal("real_load_keeps_the_limit", seen(saw_far_again), 0xFA57FA57);
	check_equal("real_int_pushes_ip", seen(saw_ip) & 0xFFFF, 0);
	check_equal("real_int_pushes_cs", seen(saw_cs) & 0xFFFF, REAL_SEGMENT);
	check("real_int_pushes_flags", seen(saw_flags) & EFL_CF, "FLAGS %x", seen(saw_flags) & 0xFFFF);
	check_equal("real_int_pushes_six_bytes", seen(saw_sp) & 0xFFFF, REAL_STACK - 6);
	check_equal("ffff_0010_is_1_mib", seen(saw_megabyte), *(volatile uint32_t *)0x100000);
	check_silicon("real_word_across_64_kib_gp", (seen(saw_gp) & 0xFFFF) == 1, NO_LIMITS);
	check("back_in_protected_mode", read_cr0() & CR0_PE, "CR0 %x", read_cr0());
}
