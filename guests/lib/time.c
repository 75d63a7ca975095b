/*
 * time.c -- calibrating the time stamp counter.
 *
 * Counter 2 of the 8254 counts down from FFFFh in mode 0; bit 0 of port 61h is its gate, bit 5 its output, which goes
 * high at the end of the count.  Nobody else uses it, and it needs no interrupt.  [Intel 8254 data sheet, mode 0]
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
#define PORT_B_OUT2	0x20	/* high once the counter has passed 0 */
#define CALIBRATION	(PIT_HZ / 50)
#define START_COUNT	0xFFFFu
#define POLL_BOUND	50000000u
#define SAMPLES		8
#define ATTEMPTS	20

static uint32_t khz;

/* A moment: the periods counted since the start, and the time stamp that goes with them. */
struct moment {
	uint32_t counts;
	uint64_t tsc;
};

static uint32_t
elapsed_counts(void)
{
	uint32_t low;

	out8(PIT_CONTROL, PIT_LATCH2);
	low = in8(PIT_COUNTER2);
	return START_COUNT - (low | (uint32_t)in8(PIT_COUNTER2) << 8);
}

/* Of several readings, the one that took least: a virtual machine may be held up in the middle of one. */
static struct moment
now(void)
{
	struct moment best = { 0 };
	uint64_t least = ~0ull, before, took;
	uint32_t counts;
	int i;

	for (i = 0; i < SAMPLES; i++) {
		before = read_tsc();
		counts = elapsed_counts();
		took = read_tsc() - before;
		if (took < least) {
			least = took;
			best = (struct moment){ counts, before + took / 2 };
		}
	}
	return best;
}

static void
wait_for_counts(uint32_t least)
{
	uint32_t polls;

	for (polls = 0; polls < POLL_BOUND; polls++) {
		if (elapsed_counts() >= least || in8(PORT_B) & PORT_B_OUT2)
			return;
	}
	stop("pit_counts", "counter 2 stands still");
}

/* Zero if the counter ran out in between, because the machine was held up. */
static uint32_t
measure_khz(void)
{
	struct moment start, end;

	out8(PORT_B, (uint8_t)((in8(PORT_B) & ~PORT_B_SPEAKER) | PORT_B_GATE2));
	out8(PIT_CONTROL, PIT_MODE0);
	out8(PIT_COUNTER2, START_COUNT & 0xFF);
	out8(PIT_COUNTER2, START_COUNT >> 8);
	wait_for_counts(1);
	start = now();
	wait_for_counts(start.counts + CALIBRATION);
	end = now();
	if (in8(PORT_B) & PORT_B_OUT2 || end.counts <= start.counts)
		return 0;
	return (uint32_t)((end.tsc - start.tsc) * PIT_HZ / (end.counts - start.counts) / 1000);
}

uint32_t
tsc_khz(void)
{
	int attempt;

	for (attempt = 0; attempt < ATTEMPTS && !khz; attempt++)
		khz = measure_khz();
	if (!khz)
		stop("pit_counts", "counter 2 always runs out before %u periods are measured", CALIBRATION);
	return khz;
}

uint64_t
cycles_to_ns(uint64_t cycles)
{
	uint32_t rate = tsc_khz();

	return cycles / rate * 1000000 + cycles % rate * 1000000 / rate;
}
