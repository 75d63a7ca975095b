/*
 * timer.c -- a thousand interrupts per second, against the time stamp counter.
 */
#include "parts.h"

#define HZ		1000
#define TICKS		200u
#define QUICK_TICKS	50u

static volatile uint32_t ticks;

static void
tick(struct trap_frame *frame)
{
	(void)frame;
	ticks++;
	irq_eoi(IRQ_TIMER);
}

void
check_timer(void)
{
	uint32_t wanted = has_option("quick") ? QUICK_TICKS : TICKS, ms, first;
	uint64_t start;

	tsc_khz();
	listen();
	on_trap(VEC_IRQ + IRQ_TIMER, tick);
	pit_start(HZ);
	irq_unmask(IRQ_TIMER);
	while (!ticks)
		wait_for_interrupt();
	first = ticks;
	start = read_tsc();
	while (ticks - first < wanted)
		wait_for_interrupt();
	ms = (uint32_t)(cycles_to_ns(read_tsc() - start) / 1000000);
	irq_mask(IRQ_TIMER);
	print("%u ticks at %u Hz took %u ms\n", wanted, HZ, ms);
	/* A host that is busy may stretch it; it must not be shorter. */
	check("timer_keeps_its_rate", ms >= wanted * 8 / 10 && ms < wanted * 10, "%u ticks in %u ms", wanted, ms);
}
