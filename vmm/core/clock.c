/*
 * clock.c -- the guest clock, and what only counts it: the RTC's interrupts and the power-management timer.
 *
 * Guest time is in ns.  A host clock is CLOCK_MONOTONIC less an offset; a counted clock is moved by the runner
 * alone, by retired instructions, so that a run can be repeated exactly.  Either stands still while stunned.
 * Invariants:
 *
 *   C1  guest time never goes back: every change of mode, stun and resume goes on from the present value;
 *   C2  offset_ns means something on one boot of one host only: a resume, there or elsewhere, is clock_stun(i, 0)
 *       on a state that was saved stunned;
 *   C3  PF, AF, UF and TMR_STS are set by the time that anyone can look at them.
 *
 * Source: Motorola MC146818 data sheet (periodic rates, registers B and C); Intel 82371AB data sheet, "Power
 * Management"; ACPI 1.0, 4.7.3.3 (the timer's status bit is set when its highest bit changes).
 */
#include "controllers.h"

/* ---- the clock ------------------------------------------------------------------------ */

uint64_t
clock_now(const struct interrupts *i)
{
	if (i->clock.mode == CLOCK_COUNTED || __atomic_load_n(&i->clock.stunned, __ATOMIC_ACQUIRE))
		return __atomic_load_n(&i->clock.frozen_ns, __ATOMIC_RELAXED);
	return host_ns() - __atomic_load_n(&i->clock.offset_ns, __ATOMIC_RELAXED);
}

uint64_t
clock_tsc(const struct interrupts *i)
{
	return ns_to_ticks(clock_now(i), i->clock.tsc_hz);
}

void
clock_stun(struct interrupts *i, uint32_t stunned)
{
	struct guest_clock *c = &i->clock;
	const uint32_t token = intr_lock(i);

	if (stunned && !c->stunned) {
		__atomic_store_n(&c->frozen_ns, clock_now(i), __ATOMIC_RELAXED);
		__atomic_store_n(&c->stunned, 1, __ATOMIC_RELEASE);
	} else if (!stunned && c->stunned) {
		__atomic_store_n(&c->offset_ns, host_ns() - c->frozen_ns, __ATOMIC_RELAXED);
		__atomic_store_n(&c->stunned, 0, __ATOMIC_RELEASE);
	}
	intr_unlock(i, token);
}

void
clock_set_mode(struct interrupts *i, uint32_t mode, uint32_t ns_per_1000)
{
	struct guest_clock *c = &i->clock;
	const uint32_t token = intr_lock(i);

	c->frozen_ns = clock_now(i);
	c->offset_ns = host_ns() - c->frozen_ns;
	c->mode = mode;
	c->ns_per_1000 = ns_per_1000;
	c->remainder = 0;
	intr_unlock(i, token);
}

void
clock_advance(struct interrupts *i, uint64_t ns)
{
	if (i->clock.mode == CLOCK_COUNTED && !i->clock.stunned)
		__atomic_fetch_add(&i->clock.frozen_ns, ns, __ATOMIC_RELAXED);
}

void
clock_retired(struct interrupts *i, uint64_t insns)
{
	struct guest_clock *c = &i->clock;
	const uint64_t thousandths = insns * c->ns_per_1000 + c->remainder;

	if (c->mode != CLOCK_COUNTED || c->stunned)
		return;
	c->remainder = (uint32_t)(thousandths % 1000);
	clock_advance(i, thousandths / 1000);
}

/* ---- RTC --------------------------------------------------------------------------------- */

enum { RTC_IRQF = 0x80, RTC_CAUSES = RTC_PF | RTC_AF | RTC_UF };

/* In 32768 Hz ticks; 0 is off.  Rates 1 and 2 repeat 256 and 128 Hz. */
static uint64_t
periodic_ticks(const struct interrupts *i)
{
	const uint32_t rate = i->rtc.rate & 15;

	if (!rate)
		return 0;
	return 1u << (rate < 3 ? rate + 6 : rate - 1);
}

uint32_t
rtc_line(const struct interrupts *i)
{
	return (i->rtc.flags & i->rtc.enable & RTC_CAUSES) != 0;
}

static void
periodic_expire(struct rtc_timers *r, uint64_t period, uint64_t tick)
{
	const uint32_t room = r->backlog < BACKLOG_MAX ? BACKLOG_MAX - r->backlog : 0;
	uint64_t due;

	if (tick <= r->periodic_tick)
		return;
	due = period ? tick / period - r->periodic_tick / period : 0;
	r->periodic_tick = tick;
	if (!(r->enable & RTC_PF))
		r->backlog = 0;
	if (!due)
		return;
	if (!(r->flags & RTC_PF))
		due--;
	r->flags |= RTC_PF;
	if (r->enable & RTC_PF)
		r->backlog += due < room ? (uint32_t)due : room;
}

void
rtc_expire(struct interrupts *i, uint64_t now)
{
	struct rtc_timers *r = &i->rtc;

	periodic_expire(r, periodic_ticks(i), ns_to_ticks(now, RF_RTC_HZ));
	if (now >= r->second_ns && now - r->second_ns >= NS_PER_S) {
		r->second_ns += (now - r->second_ns) / NS_PER_S * NS_PER_S;
		if (!(r->enable & RTC_SET))	/* "SET ... any update cycle in progress is aborted" */
			r->flags |= RTC_UF;
	}
	if (now >= r->alarm_ns && r->alarm_ns != NEVER) {
		if (!(r->enable & RTC_SET))
			r->flags |= RTC_AF;
		if (r->alarm_period_ns)
			r->alarm_ns += ((now - r->alarm_ns) / r->alarm_period_ns + 1) * r->alarm_period_ns;
		else
			r->alarm_ns = NEVER;
	}
	wire_update(i, IRQ_RTC);
}

/* When a flag that interrupts is next set.  A flag that is set already waits for its reader. */
uint64_t
rtc_deadline(const struct interrupts *i)
{
	const struct rtc_timers *r = &i->rtc;
	const uint32_t waiting = r->enable & ~r->flags;
	const uint64_t period = periodic_ticks(i);
	uint64_t next = NEVER, at;

	if ((waiting & RTC_PF) && period)
		next = ticks_to_ns((r->periodic_tick / period + 1) * period, RF_RTC_HZ);
	if (r->enable & RTC_SET)
		return next;
	at = r->second_ns + NS_PER_S;
	if ((waiting & RTC_UF) && at < next)
		next = at;
	if ((waiting & RTC_AF) && r->alarm_ns < next)
		next = r->alarm_ns;
	return next;
}

uint32_t
rtc_program(struct interrupts *i, uint32_t reg_a, uint32_t reg_b, uint64_t second_ns, uint64_t alarm_ns,
	uint64_t alarm_period_ns)
{
	const uint64_t now = clock_now(i);
	const uint32_t token = intr_lock(i);
	uint32_t kick;

	rtc_expire(i, now);
	i->rtc.rate = reg_a & 15;
	i->rtc.enable = reg_b & (RTC_SET | RTC_CAUSES);
	i->rtc.second_ns = second_ns;
	i->rtc.alarm_ns = alarm_ns;
	i->rtc.alarm_period_ns = alarm_period_ns;
	if (!(i->rtc.enable & RTC_PF))
		i->rtc.backlog = 0;
	wire_update(i, IRQ_RTC);
	kick = intr_deadlines(i) | intr_sync(i);
	intr_unlock(i, token);
	return kick;
}

uint32_t
rtc_read_c(struct interrupts *i, uint32_t *kick)
{
	const uint64_t now = clock_now(i);
	const uint32_t token = intr_lock(i);
	struct rtc_timers *r = &i->rtc;
	uint32_t value;

	rtc_expire(i, now);
	value = r->flags | (rtc_line(i) ? RTC_IRQF : 0);
	r->flags = 0;
	wire_update(i, IRQ_RTC);
	if (r->backlog && (r->enable & RTC_PF)) {
		r->backlog--;
		r->flags = RTC_PF;
		wire_update(i, IRQ_RTC);
	}
	*kick |= intr_deadlines(i) | intr_sync(i);
	intr_unlock(i, token);
	return value;
}

/* ---- power management ---------------------------------------------------------------------- */

enum { PM_EVENTS = 0, PM_TIMER = 8, PM_REGISTER = 4, PM_MSB = 23, PM_MASK = 0xffffff };
enum { PM1_STATUS_MASK = 0x8d31, PM1_ENABLE_MASK = 0x0521 };

uint32_t
pm_line(const struct interrupts *i)
{
	return i->pm.sci_enable && (i->pm.status & i->pm.enable & PM1_ENABLE_MASK);
}

void
pm_expire(struct interrupts *i, uint64_t now)
{
	const uint64_t toggles = ns_to_ticks(now, RF_PM_HZ) >> PM_MSB;

	if (toggles > i->pm.toggles) {
		i->pm.status |= PM1_TMR;
		i->pm.toggles = toggles;
	}
	wire_update(i, IRQ_SCI);
}

uint64_t
pm_deadline(const struct interrupts *i)
{
	if (!i->pm.sci_enable || !(i->pm.enable & ~i->pm.status & PM1_TMR))
		return NEVER;
	return ticks_to_ns((i->pm.toggles + 1) << PM_MSB, RF_PM_HZ);
}

uint32_t
pm_owned(const struct interrupts *i, uint32_t port)
{
	const uint32_t offset = port - i->pm.base;

	return i->pm.base && port <= 0xffff && port >= i->pm.base
		&& (offset < PM_EVENTS + PM_REGISTER || (offset >= PM_TIMER && offset < PM_TIMER + PM_REGISTER));
}

uint32_t
pm_read(struct interrupts *i, uint32_t port, uint64_t now)
{
	const uint32_t offset = port - i->pm.base;
	uint32_t value;

	if (offset >= PM_TIMER) {
		value = (uint32_t)ns_to_ticks(now, RF_PM_HZ) & PM_MASK;
	} else {
		pm_expire(i, now);
		value = i->pm.status | i->pm.enable << 16;
	}
	return value >> 8 * (offset & 3);
}

void
pm_write(struct interrupts *i, uint32_t port, uint32_t value, uint64_t now)
{
	const uint32_t offset = port - i->pm.base;
	const uint32_t shift = 8 * (offset & 1);

	pm_expire(i, now);
	if (offset < 2)
		i->pm.status &= ~(value << shift);
	else if (offset < 4)
		i->pm.enable = ((i->pm.enable & ~(0xffu << shift)) | value << shift) & PM1_ENABLE_MASK;
	wire_update(i, IRQ_SCI);
}

uint32_t
pm_set_base(struct interrupts *i, uint32_t port)
{
	const uint32_t token = intr_lock(i);

	i->pm.base = port & 0xffff;
	intr_unlock(i, token);
	return 0;
}

uint32_t
pm_event(struct interrupts *i, uint32_t bits)
{
	const uint32_t token = intr_lock(i);
	uint32_t kick;

	i->pm.status |= bits & PM1_STATUS_MASK;
	wire_update(i, IRQ_SCI);
	kick = intr_sync(i);
	intr_unlock(i, token);
	return kick;
}

uint32_t
pm_set_sci_enable(struct interrupts *i, uint32_t on)
{
	const uint32_t token = intr_lock(i);
	uint32_t kick;

	i->pm.sci_enable = on != 0;
	wire_update(i, IRQ_SCI);
	kick = intr_deadlines(i) | intr_sync(i);
	intr_unlock(i, token);
	return kick;
}
