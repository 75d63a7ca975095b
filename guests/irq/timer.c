/*
 * timer.c -- a thousand interrupts per second, against the time stamp counter.
 */
#include "parts.h"

#define HZ		1000
#define TICKS		200u
#define QUICK_TICKS	50u
#define ATTEMPTS	20u

static volatile uint32_t ticks;

static void
tick(struct trap_frame *frame)
{
	(void)frame;
	ticks++;
	irq_eoi(IRQ_TIMER);
}

static uint32_t
ms_for_ticks(uint32_t wanted)
{
	uint32_t first;
	uint64_t start;

	first = ticks;
	while (ticks == first)
		wait_for_interrupt();
	first = ticks;
	start = read_tsc();
	while (ticks - first < wanted)
		wait_for_interrupt();
	return (uint32_t)(cycles_to_ns(read_tsc() - start) / 1000000);
}

/* A virtual machine that was not running for a while may owe ticks, or have stood still: then it is measured again. */
void
check_timer(void)
{
	uint32_t wanted = has_option("quick") ? QUICK_TICKS : TICKS, ms = 0, attempt;

	tsc_khz();
	listen();
	on_trap(VEC_IRQ + IRQ_TIMER, tick);
	pit_start(HZ);
	irq_unmask(IRQ_TIMER);
	for (attempt = 0; attempt < ATTEMPTS; attempt++) {
		ms = ms_for_ticks(wanted);
		print("%u ticks at %u Hz took %u ms\n", wanted, HZ, ms);
		if (ms >= wanted * 8 / 10 && ms <= wanted * 12 / 10)
			break;
	}
	irq_mask(IRQ_TIMER);
	check("timer_keeps_its_rate", attempt < ATTEMPTS, "the last time %u ticks took %u ms", wanted, ms);
}
