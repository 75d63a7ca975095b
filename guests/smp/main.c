/*
 * main.c -- several processors: what one does, and when the others see it.
 */
#include "parts.h"

static uint32_t
in_service(void)
{
	uint32_t reg, any = 0;

	for (reg = APIC_ISR; reg < APIC_ISR + 0x80; reg += 0x10)
		any |= apic_read(reg);
	return any;
}

void
guest_main(void)
{
	if (!has_apic()) {
		skip("local_apic", "the processor has none");
		return;
	}
	apic_enable();
	check_self();
	find_processors();
	if (cpu_count == 1) {
		skip("other_processors", "no other processor answers");
		return;
	}
	print("%u processors\n", cpu_count);
	check_start();
	check_ipis();
	check_nmi();
	check_locks();
	check_order();
	check_code();
	check_shootdown();
	check_restart();
	check_equal("nothing_is_left_in_service", in_service(), 0);
}
