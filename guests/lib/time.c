/*
 * time.c -- calibrating the time stamp counter.
 *
 * Counter 2 of the 8254 counts down once from FFFFh in mode 0; port 61h bit 0 is its gate.  Nobody else uses it, and
 * it needs no interrupt.  [Intel 8254 data sheet, mode 0]
 */
#include "time.h"
#include "interrupts.h"
#include "report.h"

#define PIT_COUNTER2	0x42
#define PIT_CONTROL	0x43
#define PIT_MODE0	0xB0	/* counter 2, low byte then high byte */
#define PIT_LATCH2	0x80
#define PORT_B		0x61
#define PORT_B_GATE2	0x01
#define PORT_B_SPEAKER	0x02
#define CALIBRATION	(PIT_HZ / 20)
#define START_COUNT	0xFFFFu
#define POLL_BOUND	50000000u

static uint32_t khz;

static uint32_t
elapsed_counts(void)
{
	uint32_t low;

	out8(PIT_CONTROL, PIT_LATCH2);
	low = in8(PIT_COUNTER2);
	return START_COUNT - (low | (uint32_t)in8(PIT_COUNTER2) << 8);
}

uint32_t
tsc_khz(void)
{
	uint64_t start, end;
	uint32_t counts, polls = 0;

	if (khz)
		return khz;
	out8(PORT_B, (uint8_t)((in8(PORT_B) & ~PORT_B_SPEAKER) | PORT_B_GATE2));
	out8(PIT_CONTROL, PIT_MODE0);
	out8(PIT_COUNTER2, START_COUNT & 0xFF);
	out8(PIT_COUNTER2, START_COUNT >> 8);
	while (elapsed_counts() == 0 || elapsed_counts() > CALIBRATION)	/* the count is loaded at the next tick */
		if (++polls > POLL_BOUND)
			stop("pit_counts", "counter 2 stands still");
	start = read_tsc();
	counts = elapsed_counts();
	while (elapsed_counts() < CALIBRATION)
		if (++polls > POLL_BOUND)
			stop("pit_counts", "counter 2 stands still");
	end = read_tsc();
	counts = elapsed_counts() - counts;
	khz = (uint32_t)((end - start) * PIT_HZ / counts / 1000);
	return khz ? khz : (khz = 1);
}

uint64_t
cycles_to_ns(uint64_t cycles)
{
	uint32_t rate = tsc_khz();

	return cycles / rate * 1000000 + cycles % rate * 1000000 / rate;
}
