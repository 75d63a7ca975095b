/*
 * pit.c -- the 8254 at ports 40h-43h, and port 61h.
 *
 * Nothing here counts: a counter is the tick at which it was loaded and the closed form of its
 * mode.  Ticks are whole periods of 1193182 Hz in guest time.  Invariants:
 *
 *   T1  count != 0 means that the counting element was (or at tick `start` will be) loaded with it;
 *   T2  GATE of counters 0 and 1 is high for ever; GATE of counter 2 is port 61h bit 0;
 *   T3  IRQ 0 falls only when a new control word (or count, mode 0) takes OUT low.  In periodic modes the
 *       line is pulsed at each rising edge of OUT and left high, so that a request waits for the guest;
 *   T4  ticks found late go to `backlog` and are pulsed as soon as the one before was acknowledged.
 *
 * Source: Intel 8254 data sheet [ds]; port 61h: Intel 82371AB data sheet, NMI Status and Control.
 */
#include "controllers.h"

enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };
enum mode { ON_TERMINAL_COUNT, ONE_SHOT, RATE_GENERATOR, SQUARE_WAVE, SOFTWARE_STROBE, HARDWARE_STROBE };
enum control_word { CW_BCD = 0x01, CW_MODE_SHIFT = 1, CW_ACCESS_SHIFT = 4, CW_COUNTER_SHIFT = 6, CW_READ_BACK = 3 };
enum read_back { RB_NO_STATUS = 0x10, RB_NO_COUNT = 0x20 };
enum status { ST_NULL = 0x40, ST_OUT = 0x80 };
enum port61 { P61_GATE2 = 0x01, P61_WRITABLE = 0x0f, P61_REFRESH = 0x10, P61_OUT2 = 0x20 };

/* Counter 1 runs refresh with a count of 18, 15.1 us; bit 4 of port 61h toggles with each. */
#define REFRESH_TICKS 18

/* Tick 0 lies before guest time 0, so that `start` of a half-cycle at power-on is not negative. */
#define FIRST_TICK 0x100000u

static uint64_t
tick_at(uint64_t now)
{
	return ns_to_ticks(now, RF_PIT_HZ) + FIRST_TICK;
}

static uint32_t
periodic(const struct pit_channel *c)
{
	return c->mode == RATE_GENERATOR || c->mode == SQUARE_WAVE;
}

/* Mode 3, odd counts: "OUT will be high for (N + 1)/2 counts and low for (N - 1)/2 counts." */
static uint32_t
high_half(uint32_t count)
{
	return (count + 1) / 2;
}

/* The count written while a periodic counter runs takes over at the end of its (half-)cycle. */
static void
take_over(struct pit_channel *c, uint64_t tick)
{
	if (!periodic(c) || !c->next_count || !c->count || tick < c->switch_tick)
		return;
	/* Mode 3 switches at the end of the high half too, and OUT goes on low. */
	if (c->mode == SQUARE_WAVE && (c->switch_tick - c->start) % c->count != 0)
		c->start = c->switch_tick - high_half(c->next_count);
	else
		c->start = c->switch_tick;
	c->count = c->next_count;
	c->next_count = 0;
}

static uint64_t
elapsed(const struct pit_channel *c, uint64_t tick)
{
	if (!c->gate && (c->mode == ON_TERMINAL_COUNT || c->mode == SOFTWARE_STROBE))
		return c->held;
	return tick - c->start;
}

/* The counting element, as a number. */
static uint32_t
counting_element(const struct pit_channel *c, uint64_t tick)
{
	const uint32_t modulus = c->bcd ? 10000 : 65536;
	uint32_t at;

	if (!c->count || tick < c->start || (periodic(c) && !c->gate))
		return c->idle;
	if (!periodic(c))
		return (c->count % modulus + modulus - (uint32_t)(elapsed(c, tick) % modulus)) % modulus;
	at = (uint32_t)(elapsed(c, tick) % c->count);
	if (c->mode == RATE_GENERATOR)
		return c->count - at;
	/* "the initial count minus one (an even number) is loaded ... and then is decremented by two" */
	return (c->count & ~1u) - 2 * (at < high_half(c->count) ? at : at - high_half(c->count));
}

static uint32_t
out(const struct pit_channel *c, uint64_t tick)
{
	if (!c->count)
		return c->mode != ON_TERMINAL_COUNT;
	if (periodic(c) && !c->gate)
		return 1;		/* "If GATE goes low during an output pulse, OUT is set high immediately." */
	if (tick < c->start)
		return c->out_before;
	switch (c->mode) {
	case ON_TERMINAL_COUNT:
	case ONE_SHOT:
		return elapsed(c, tick) >= c->count;
	case RATE_GENERATOR:
		return c->count == 1 || elapsed(c, tick) % c->count != c->count - 1;
	case SQUARE_WAVE:
		return elapsed(c, tick) % c->count < high_half(c->count);
	default:
		return elapsed(c, tick) != c->count;	/* a strobe of one CLK */
	}
}

static uint32_t
encode(const struct pit_channel *c, uint32_t value)
{
	if (!c->bcd)
		return value & 0xffff;
	return value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 % 10 << 12;
}

/* "The largest possible initial count is 0; this is equivalent to 2^16 ... and 10^4 for BCD counting." */
static uint32_t
decode(const struct pit_channel *c, uint32_t value)
{
	if (c->bcd)
		value = (value >> 12) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 + (value & 15);
	if (value)
		return value;
	return c->bcd ? 10000 : 65536;
}

/* ---- writing ---------------------------------------------------------------------- */

static void
write_count(struct pit_channel *c, uint32_t value, uint64_t tick)
{
	const uint32_t count = decode(c, value);

	if (c->mode == ONE_SHOT || c->mode == HARDWARE_STROBE) {
		c->next_count = count;		/* waits for the trigger */
		return;
	}
	if (periodic(c) && c->count && tick >= c->start) {
		const uint64_t at = (tick - c->start) % c->count;
		const uint64_t half = c->mode == SQUARE_WAVE && at < high_half(c->count) ? high_half(c->count) : c->count;

		c->next_count = count;
		c->switch_tick = c->gate ? tick - at + half : NEVER;
		return;
	}
	c->idle = counting_element(c, tick);
	c->out_before = c->mode != ON_TERMINAL_COUNT;
	c->count = count;
	c->next_count = 0;
	c->held = 0;
	c->start = tick + 1;	/* "loaded ... on the next CLK pulse" */
	if (periodic(c) && !c->gate)
		c->idle = count;
}

static void
write_counter(struct pit_channel *c, uint32_t value, uint64_t tick)
{
	switch (c->access) {
	case ACCESS_LOW:
		write_count(c, value, tick);
		break;
	case ACCESS_HIGH:
		write_count(c, value << 8, tick);
		break;
	default:
		if (c->write_high) {
			c->write_high = 0;
			write_count(c, value << 8 | c->write_low, tick);
			break;
		}
		c->write_high = 1;
		c->write_low = value;
		if (c->mode == ON_TERMINAL_COUNT) {
			/* "Writing the first byte disables counting. OUT is set low immediately" */
			c->idle = counting_element(c, tick);
			c->count = 0;
		}
		break;
	}
}

static void
read_back(struct pit_channel *c, uint32_t command, uint64_t tick)
{
	if (!(command & RB_NO_COUNT) && !c->latched) {
		c->latched = 1;
		c->latched_count = encode(c, counting_element(c, tick));
	}
	if (!(command & RB_NO_STATUS) && !c->status_latched) {
		const uint32_t null = !c->count || c->next_count || tick < c->start;

		c->status_latched = 1;
		c->status = (out(c, tick) ? ST_OUT : 0) | (null ? ST_NULL : 0) | (c->access & 3) << CW_ACCESS_SHIFT
			| (c->mode & 7) << CW_MODE_SHIFT | (c->bcd & 1);
	}
}

static void
program(struct pit_channel *c, uint32_t word, uint64_t tick)
{
	const uint32_t mode = word >> CW_MODE_SHIFT & 7;

	c->idle = counting_element(c, tick);
	c->access = word >> CW_ACCESS_SHIFT & 3;
	c->mode = mode > HARDWARE_STROBE ? mode & 3 : mode;	/* "X10" and "X11" */
	c->bcd = word & CW_BCD;
	c->count = 0;
	c->next_count = 0;
	c->write_high = 0;
	c->read_high = 0;
	c->latched = 0;
	c->status_latched = 0;
}

static void
write_control(struct interrupts *i, uint32_t word, uint64_t tick)
{
	const uint32_t counter = word >> CW_COUNTER_SHIFT;
	uint32_t n;

	if (counter == CW_READ_BACK) {
		for (n = 0; n < 3; n++)
			if (word >> n & 2)
				read_back(&i->pit.channel[n], word, tick);
		return;
	}
	if ((word >> CW_ACCESS_SHIFT & 3) == ACCESS_LATCH) {
		read_back(&i->pit.channel[counter], RB_NO_STATUS, tick);
		return;
	}
	program(&i->pit.channel[counter], word, tick);
}

/* Counter 2's GATE: pauses modes 0 and 4, triggers 1 and 5, stops and restarts 2 and 3. [ds: Gate Pin Operations] */
static void
set_gate(struct pit_channel *c, uint32_t gate, uint64_t tick)
{
	if (gate == c->gate)
		return;
	if (!gate) {
		c->held = c->count && tick >= c->start ? tick - c->start : 0;
		if (periodic(c)) {
			c->idle = counting_element(c, tick);
			c->switch_tick = NEVER;
		}
		c->gate = 0;
		return;
	}
	switch (c->mode) {
	case ON_TERMINAL_COUNT:
	case SOFTWARE_STROBE:
		c->start = tick - c->held;
		break;
	default:
		c->idle = counting_element(c, tick);
		c->out_before = periodic(c) ? 1 : out(c, tick);
		if (c->next_count)
			c->count = c->next_count;
		c->next_count = 0;
		c->start = tick + 1;
		break;
	}
	c->gate = 1;
}

/* ---- IRQ 0 ------------------------------------------------------------------------ */

/* Rising edges of OUT after tick `from`, up to `to`. */
static uint64_t
rising_edges(const struct pit_channel *c, uint64_t from, uint64_t to)
{
	uint64_t at;

	if (!c->count || to <= from || to < c->start)
		return 0;
	if (periodic(c))
		return (to - c->start) / c->count - (from > c->start ? (from - c->start) / c->count : 0);
	if (c->mode == ONE_SHOT || c->mode == HARDWARE_STROBE)
		return 0;	/* T2: never triggered */
	at = c->start + c->count + (c->mode == SOFTWARE_STROBE);
	return at > from && at <= to;
}

static void
drive(struct interrupts *i, uint32_t level)
{
	i->pit.line = level;
	wire_update(i, IRQ_PIT);
}

static void
pulse(struct interrupts *i)
{
	drive(i, 0);
	drive(i, 1);
}

enum route { ROUTE_PIC = 1, ROUTE_IOAPIC = 2 };

/* Who listens to IRQ 0, and whether its last request still waits there (shifted by 2). */
static uint32_t
routes(const struct interrupts *i)
{
	const uint32_t entry = i->ioapic.low[PIN_PIT];
	uint32_t result = 0, cpu;

	if (!(i->pic[MASTER].imr & 1u << IRQ_PIT)) {
		result |= ROUTE_PIC;
		if (i->pic[MASTER].edges & 1u << IRQ_PIT)
			result |= ROUTE_PIC << 2;
	}
	if (!(i->ioapic.masked & 1u << PIN_PIT)) {
		result |= ROUTE_IOAPIC;
		for (cpu = 0; cpu < RF_APICS; cpu++)
			if (is_set(i->lapic[cpu].irr, entry & ENTRY_VECTOR))
				result |= ROUTE_IOAPIC << 2;
	}
	/* A guest on the I/O APIC may leave IRQ 0 open in a PIC that nothing acknowledges. */
	if ((result & ROUTE_IOAPIC) && (result & ROUTE_PIC << 2))
		result &= ~(uint32_t)(ROUTE_PIC << 2);
	return result;
}

/* Called with every change: hand over a waiting tick once the one before was acknowledged. */
void
pit_catch_up(struct interrupts *i)
{
	const uint32_t state = i->pit.backlog ? routes(i) : 0;

	if (!i->pit.backlog)
		return;
	if (!(state & (ROUTE_PIC | ROUTE_IOAPIC))) {
		i->pit.backlog = 0;	/* masked: the guest does not count these */
	} else if (!(state >> 2)) {
		i->pit.backlog--;
		pulse(i);
	}
}

static void
periodic_ticks(struct interrupts *i, uint64_t ticks)
{
	const uint32_t state = routes(i);
	const uint32_t room = i->pit.backlog < BACKLOG_MAX ? BACKLOG_MAX - i->pit.backlog : 0;

	if (!(state >> 2)) {
		pulse(i);
		ticks--;
	}
	if (!(state & (ROUTE_PIC | ROUTE_IOAPIC)))
		return;
	if (ticks > room) {
		i->pit.lost += (uint32_t)(ticks - room);
		ticks = room;
	}
	i->pit.backlog += (uint32_t)ticks;
}

void
pit_expire(struct interrupts *i, uint64_t now)
{
	struct pit_channel *c = &i->pit.channel[0];
	const uint64_t tick = tick_at(now);
	uint64_t edges = 0;

	if (tick <= i->pit.irq_tick)
		return;		/* another runner's clock reading was later */
	if (c->next_count && periodic(c) && c->switch_tick <= tick) {
		edges = rising_edges(c, i->pit.irq_tick, c->switch_tick);
		i->pit.irq_tick = c->switch_tick;
		take_over(c, tick);
	}
	edges += rising_edges(c, i->pit.irq_tick, tick);
	i->pit.irq_tick = tick;
	if (!edges)
		return;
	if (periodic(c)) {
		periodic_ticks(i, edges);
	} else {
		drive(i, c->mode != SOFTWARE_STROBE);
		drive(i, 1);
	}
}

uint64_t
pit_deadline(const struct interrupts *i)
{
	const struct pit_channel *c = &i->pit.channel[0];
	uint64_t at;

	if (!c->count || c->mode == ONE_SHOT || c->mode == HARDWARE_STROBE)
		return NEVER;
	if (periodic(c)) {
		at = i->pit.irq_tick < c->start ? c->start + c->count
			: c->start + ((i->pit.irq_tick - c->start) / c->count + 1) * c->count;
		if (c->next_count && c->switch_tick < at)
			at = c->switch_tick;
	} else {
		at = c->start + c->count + (c->mode == SOFTWARE_STROBE);
		if (at <= i->pit.irq_tick)
			return NEVER;
	}
	return ticks_to_ns(at - FIRST_TICK, RF_PIT_HZ);
}

/* ---- ports ------------------------------------------------------------------------ */

void
pit_reset(struct pit *t)
{
	uint32_t n;

	zero_bytes(t, sizeof *t);
	for (n = 0; n < 3; n++) {
		/* UNKNOWN: "the Mode, count value, and output of all Counters are undefined" at power-up; OUT high here. */
		t->channel[n].mode = SQUARE_WAVE;
		t->channel[n].access = ACCESS_BOTH;
		t->channel[n].gate = n != 2;
		t->channel[n].out_before = 1;
	}
	t->line = 1;
}

uint32_t
pit_read(struct interrupts *i, uint32_t port, uint64_t now)
{
	const uint64_t tick = tick_at(now);
	struct pit_channel *c = &i->pit.channel[port & 3];
	uint32_t value;

	if (port == 0x61) {
		c = &i->pit.channel[2];
		take_over(c, tick);
		return i->pit.port61 | (out(c, tick) ? P61_OUT2 : 0) | (tick / REFRESH_TICKS & 1 ? P61_REFRESH : 0);
	}
	if (port == 0x43)
		return 0xff;		/* "No-Operation (3-State)" */
	if (c == &i->pit.channel[0])
		pit_expire(i, now);
	else
		take_over(c, tick);
	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	value = c->latched ? c->latched_count : encode(c, counting_element(c, tick));
	if (c->access == ACCESS_BOTH) {
		c->read_high ^= 1;
		if (c->read_high)
			return value & 0xff;
		c->latched = 0;
		return value >> 8;
	}
	c->latched = 0;
	return c->access == ACCESS_HIGH ? value >> 8 : value & 0xff;
}

void
pit_write(struct interrupts *i, uint32_t port, uint32_t value, uint64_t now)
{
	const uint64_t tick = tick_at(now);
	struct pit *t = &i->pit;

	value &= 0xff;
	pit_expire(i, now);
	take_over(&t->channel[1], tick);
	take_over(&t->channel[2], tick);
	if (port == 0x61) {
		t->port61 = value & P61_WRITABLE;
		set_gate(&t->channel[2], value & P61_GATE2, tick);
		return;
	}
	if (port == 0x43)
		write_control(i, value, tick);
	else
		write_counter(&t->channel[port & 3], value, tick);
	/* A new control word, or a count in mode 0, decides OUT at once; a count in the others leaves it high. */
	if (port == 0x40 || (port == 0x43 && value >> CW_COUNTER_SHIFT == 0 && (value >> CW_ACCESS_SHIFT & 3))) {
		if (!t->channel[0].count)
			t->backlog = 0;
		drive(i, t->channel[0].mode != ON_TERMINAL_COUNT);
	}
}
