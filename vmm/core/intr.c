/*
 * intr.c -- the interrupt page's lock, its wiring, and the entry points for runners and devices.
 *
 * Every entry takes the lock, reads the clock, changes registers or inputs, and ends in intr_sync, which recomputes
 * what follows from them and tells which vCPUs gained an event.  Invariants:
 *
 *   R1  events[] and next_ns[] are written under the lock and read without it: a poll costs one load each;
 *   R2  the lock is held for some hundred ns and never across anything that can block, so a holder that has made no
 *       progress for LOCK_DEAD_NS is dead: its successor takes over.  Registers are always valid on their own, and
 *       outputs are recomputed, so what can be lost is the one access the dead process was making;
 *   R3  a holder that was only stopped finds another generation in the lock word, and leaves the word alone;
 *   R4  no signal handler that calls these functions may interrupt them: worlds block signals in the monitor.
 *
 * The ports and memory pages that lead here are in intr_bus.c.
 * Source: MultiProcessor Specification 1.4, 3.6.2 "Interrupt Modes".
 */
#include "controllers.h"

enum lock_word { LOCK_HELD = 1, LOCK_WAITERS = 2, LOCK_GENERATION = 4 };

#define LOCK_SPINS 100
#define LOCK_SLEEP_NS 2000000u
#define LOCK_DEAD_NS NS_PER_S

enum { APIC_BASE = 0xfee00000, MSR_BSP = 1 << 8 };
enum { EV_ARCHITECTURAL = INTR_EXT | INTR_NMI | INTR_INIT | INTR_SIPI };

/* ---- the lock ----------------------------------------------------------------------- */

static uint32_t
lock_try(struct interrupts *i, uint32_t seen, uint32_t waiters)
{
	const uint32_t mine = ((seen & ~3u) + LOCK_GENERATION) | LOCK_HELD;

	if (__atomic_compare_exchange_n(&i->lock, &seen, mine | waiters, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return mine;
	return 0;
}

static uint32_t __attribute__((noinline, cold))
lock_slow(struct interrupts *i)
{
	uint64_t since = host_ns(), now;
	uint32_t holder = 0, seen, token;

	for (;;) {
		seen = __atomic_load_n(&i->lock, __ATOMIC_RELAXED);
		now = host_ns();
		if ((seen & ~(uint32_t)LOCK_WAITERS) != holder) {
			holder = seen & ~(uint32_t)LOCK_WAITERS;
			since = now;
		}
		if (!(seen & LOCK_HELD) || now - since > LOCK_DEAD_NS) {	/* R2 */
			token = lock_try(i, seen, LOCK_WAITERS);
			if (token)
				return token;
			continue;
		}
		if ((seen & LOCK_WAITERS) || __atomic_compare_exchange_n(&i->lock, &seen, seen | LOCK_WAITERS, 0,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			sys_futex_wait(&i->lock, seen | LOCK_WAITERS, LOCK_SLEEP_NS);
	}
}

uint32_t
intr_lock(struct interrupts *i)
{
	uint32_t spins, seen, token;

	for (spins = 0; spins < LOCK_SPINS; spins++) {
		seen = __atomic_load_n(&i->lock, __ATOMIC_RELAXED);
		if (!(seen & (LOCK_HELD | LOCK_WAITERS))) {
			token = lock_try(i, seen, 0);
			if (token)
				return token;
		}
		cpu_relax();
	}
	return lock_slow(i);
}

void
intr_unlock(struct interrupts *i, uint32_t token)
{
	uint32_t seen = token;

	while (!__atomic_compare_exchange_n(&i->lock, &seen, seen & ~3u, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		if ((seen & ~(uint32_t)LOCK_WAITERS) != token)
			return;		/* R3 */
	if (seen & LOCK_WAITERS)
		sys_futex_wake(&i->lock, 1);
}

/* ---- wiring --------------------------------------------------------------------------- */

/* An input is its devices' level or that of the core's own source on it. */
static uint32_t
wire_level(const struct interrupts *i, uint32_t line)
{
	uint32_t level = (i->lines | i->nic_lines) >> line & 1;

	if (line == IRQ_PIT)
		level |= i->pit.line != 0;
	if (line == IRQ_RTC)
		level |= rtc_line(i);
	if (line == IRQ_SCI)
		level |= pm_line(i);
	return level;
}

void
wire_update(struct interrupts *i, uint32_t line)
{
	const uint32_t level = wire_level(i, line);

	if (line == CASCADE)
		return;		/* the slave's, not a device's */
	if (line < 16)
		pic_set_input(&i->pic[line >> 3], line & 7, level);
	ioapic_set_pin(i, line == IRQ_PIT ? PIN_PIT : line, level);
}

/* Does INTR of the 8259 pair reach this vCPU?  Through LINT0, around a disabled APIC, or by pin 0 of the I/O APIC. */
static uint32_t
intr_reaches(const struct interrupts *i, uint32_t cpu)
{
	const struct lapic *a = &i->lapic[cpu];
	const uint32_t lint0 = a->lvt[LVT_LINT0], pin0 = i->ioapic.low[PIN_INTR];

	if (!lapic_on(a))
		return cpu == 0;
	if (!(lint0 & ENTRY_MASKED) && entry_mode(lint0) == DM_EXTINT)
		return 1;
	return !(i->ioapic.masked & 1u << PIN_INTR) && entry_mode(pin0) == DM_EXTINT
		&& lapic_match(i, i->ioapic.high[PIN_INTR] >> 24, pin0 & ENTRY_LOGICAL) >> cpu & 1;
}

static uint32_t
events_of(const struct interrupts *i, uint32_t cpu)
{
	const struct lapic *a = &i->lapic[cpu];
	uint32_t events = 0;

	/* INIT first: a SIPI that follows it is for the vCPU as INIT leaves it. */
	if (a->latches & INTR_INIT)
		events = INTR_INIT;
	else if (a->latches & INTR_SIPI)
		events = INTR_SIPI;
	if (a->wait_sipi)
		return events;
	events |= a->latches & INTR_NMI;
	if (lapic_request(a) >= 0)
		events |= INTR_EXT;
	if (i->pic_out && intr_reaches(i, cpu))
		events |= INTR_EXT | EV_PIC | (pic_from_slave(i) ? EV_SLAVE : 0);
	return events;
}

uint32_t
intr_sync(struct interrupts *i)
{
	const uint32_t vcpus = i->vcpus < RF_APICS ? i->vcpus : RF_APICS;
	uint32_t cpu, out, events, kick = 0;

	pit_catch_up(i);
	for (cpu = 0; cpu < vcpus; cpu++)
		lapic_catch_up(i, cpu);
	out = pic_update(i);
	if (out != i->pic_out) {
		i->pic_out = out;
		ioapic_set_pin(i, PIN_INTR, out);
		for (cpu = 0; out && cpu < vcpus; cpu++)
			lapic_lint(i, cpu, LVT_LINT0);
	}
	ioapic_service(i);
	for (cpu = 0; cpu < vcpus; cpu++) {
		events = events_of(i, cpu);
		if (events & ~i->events[cpu] & EV_ARCHITECTURAL)
			kick |= 1u << cpu;
		__atomic_store_n(&i->events[cpu], events, __ATOMIC_RELEASE);
	}
	return kick;
}

uint32_t
intr_deadlines(struct interrupts *i)
{
	const uint64_t machine[3] = { pit_deadline(i), rtc_deadline(i), pm_deadline(i) };
	uint32_t cpu, n, sooner = 0;

	for (cpu = 0; cpu < RF_APICS; cpu++) {
		const struct lapic *a = &i->lapic[cpu];
		/* A masked timer counts all the same, but nobody has to be there when it expires. */
		uint64_t next = a->lvt[LVT_TIMER] & ENTRY_MASKED ? NEVER : a->timer_next_ns;

		for (n = 0; cpu == 0 && n < 3; n++)
			next = machine[n] < next ? machine[n] : next;
		if (next < i->next_ns[cpu])
			sooner |= 1u << cpu;
		__atomic_store_n(&i->next_ns[cpu], next, __ATOMIC_RELEASE);
	}
	return sooner;
}

/* ---- power-on and reset ------------------------------------------------------------------ */

static void
reset(struct interrupts *i)
{
	uint32_t n;

	pic_reset(&i->pic[MASTER]);
	pic_reset(&i->pic[SLAVE]);
	pit_reset(&i->pit);
	ioapic_reset(&i->ioapic);
	for (n = 0; n < RF_APICS; n++) {
		struct lapic *a = &i->lapic[n];

		a->base = APIC_BASE | APIC_ENABLE | (n == 0 ? MSR_BSP : 0);
		a->id = n << 24;
		a->latches = 0;
		lapic_reset(a, n);
		i->sampled[n] = 0;
	}
	i->rtc.enable = i->rtc.flags = i->rtc.backlog = 0;
	i->pm.status = i->pm.enable = i->pm.sci_enable = 0;
	i->port80 = i->portED = 0;
	i->lowest_last = RF_APICS - 1;
	for (n = 0; n < RF_IOAPIC_PINS; n++)
		wire_update(i, n);
	i->pic[MASTER].edges = i->pic[SLAVE].edges = 0;
	for (n = 0; n < RF_APICS; n++)
		i->events[n] = 0;
	intr_deadlines(i);
	intr_sync(i);
}

void
intr_power_on(struct interrupts *i, uint32_t vcpus, uint64_t tsc_hz)
{
	zero_bytes(i, sizeof *i);
	i->version = RF_INTERRUPTS_VERSION;
	i->vcpus = vcpus < RF_APICS ? vcpus : RF_APICS;
	i->clock.stunned = 1;
	i->clock.tsc_hz = tsc_hz;
	i->rtc.alarm_ns = NEVER;
	reset(i);
}

void
intr_reset(struct interrupts *i, uint32_t vcpus)
{
	const uint32_t token = intr_lock(i);

	i->vcpus = vcpus < RF_APICS ? vcpus : RF_APICS;
	reset(i);
	intr_unlock(i, token);
}

void
intr_virtual_wire(struct interrupts *i)
{
	static const uint8_t words[][2] = { { 0x20, 0x11 }, { 0x21, 0x08 }, { 0x21, 0x04 }, { 0x21, 0x01 }, { 0x21, 0xfb },
		{ 0xa0, 0x11 }, { 0xa1, 0x70 }, { 0xa1, 0x02 }, { 0xa1, 0x01 }, { 0xa1, 0xff } };
	const uint32_t token = intr_lock(i);
	struct lapic *a = &i->lapic[0];
	uint32_t n;

	for (n = 0; n < sizeof words / sizeof words[0]; n++)
		pic_write(i, words[n][0], words[n][1]);
	a->svr |= 0x100;
	a->lvt[LVT_LINT0] = DM_EXTINT << ENTRY_MODE_SHIFT | ENTRY_LEVEL;
	a->lvt[LVT_LINT1] = DM_NMI << ENTRY_MODE_SHIFT;
	intr_sync(i);
	intr_unlock(i, token);
}

uint32_t
intr_set_apic_base(struct interrupts *i, uint32_t cpu, uint64_t msr)
{
	const uint32_t token = intr_lock(i);
	struct lapic *a = &i->lapic[cpu % RF_APICS];
	uint32_t kick;

	/* "the local APIC ... can be re-enabled only by a reset": so it comes back in its power-up state.  [10.4.3] */
	if ((a->base & APIC_ENABLE) && !(msr & APIC_ENABLE)) {
		const uint32_t wait_sipi = a->wait_sipi;

		lapic_reset(a, cpu % RF_APICS);
		a->wait_sipi = wait_sipi;
	}
	a->base = msr;
	kick = intr_deadlines(i) | intr_sync(i);
	intr_unlock(i, token);
	return kick;
}

/* ---- delivery ------------------------------------------------------------------------------------ */

/* For a runner that looks at its own events again anyway; the others' kicks wait for intr_owed(). */
static void
sync_others(struct interrupts *i, uint32_t cpu)
{
	const uint32_t kick = intr_sync(i) & ~(1u << (cpu % RF_APICS));

	if (kick)
		__atomic_fetch_or(&i->owed_kicks, kick, __ATOMIC_RELAXED);
}

uint32_t
intr_pending(struct interrupts *i, uint32_t cpu)
{
	const uint32_t events = __atomic_load_n(&i->events[cpu % RF_APICS], __ATOMIC_ACQUIRE);

	if (i->sampled[cpu % RF_APICS] != events)
		i->sampled[cpu % RF_APICS] = events;
	return events & EV_ARCHITECTURAL;
}

/*
 * The lines are sampled now, not when intr_pending saw them.  If INTR of the 8259 pair was seen and has fallen, the
 * processor has begun its INTA cycles and gets IR7's vector, of the slave when it was the slave that asked.
 */
int32_t
intr_acknowledge(struct interrupts *i, uint32_t cpu)
{
	const uint32_t token = intr_lock(i);
	uint32_t seen;
	int32_t vector;

	cpu %= RF_APICS;
	seen = i->sampled[cpu];
	i->sampled[cpu] = 0;
	vector = lapic_inta(&i->lapic[cpu]);
	if (vector < 0 && i->pic_out && intr_reaches(i, cpu))
		vector = (int32_t)pic_inta(i);
	else if (vector < 0 && (seen & EV_PIC))
		vector = (int32_t)pic_spurious(i, seen & EV_SLAVE);
	sync_others(i, cpu);
	intr_unlock(i, token);
	return vector;
}

uint32_t
intr_take(struct interrupts *i, uint32_t cpu, uint32_t event)
{
	const uint32_t token = intr_lock(i);
	struct lapic *a = &i->lapic[cpu % RF_APICS];
	uint32_t result = 0;

	if (event & a->latches & INTR_INIT)
		lapic_reset(a, cpu % RF_APICS);
	if (event & a->latches & INTR_SIPI) {
		result = a->sipi_vector;
		a->wait_sipi = 0;
	}
	a->latches &= ~event;
	intr_deadlines(i);
	sync_others(i, cpu);
	intr_unlock(i, token);
	return result;
}

uint32_t
intr_owed(struct interrupts *i)
{
	if (__atomic_load_n(&i->owed_kicks, __ATOMIC_RELAXED) == 0)
		return 0;
	return __atomic_exchange_n(&i->owed_kicks, 0, __ATOMIC_RELAXED);
}

uint64_t
intr_timers(struct interrupts *i, uint32_t cpu, uint64_t now, uint32_t *kick)
{
	uint64_t next = __atomic_load_n(&i->next_ns[cpu % RF_APICS], __ATOMIC_ACQUIRE);
	uint32_t token;

	if (now < next)
		return next;
	cpu %= RF_APICS;
	token = intr_lock(i);
	if (cpu == 0) {
		pit_expire(i, now);
		rtc_expire(i, now);
		pm_expire(i, now);
	}
	lapic_expire(i, cpu, now);
	intr_deadlines(i);
	*kick |= intr_sync(i);
	next = i->next_ns[cpu];
	intr_unlock(i, token);
	return next;
}

/* ---- devices ------------------------------------------------------------------------------------- */

uint32_t
intr_set_line(struct interrupts *i, uint32_t line, uint32_t level)
{
	const uint32_t bit = 1u << (line & 31);
	uint32_t token, kick;

	if (line >= RF_IOAPIC_PINS)
		return 0;
	token = intr_lock(i);
	i->lines = level ? i->lines | bit : i->lines & ~bit;
	wire_update(i, line);
	kick = intr_sync(i);
	intr_unlock(i, token);
	return kick;
}

uint32_t
intr_raise_nmi(struct interrupts *i)
{
	const uint32_t token = intr_lock(i);
	uint32_t cpu, kick;

	for (cpu = 0; cpu < RF_APICS; cpu++) {
		if (lapic_on(&i->lapic[cpu]))
			lapic_lint(i, cpu, LVT_LINT1);
		else if (cpu == 0)
			i->lapic[cpu].latches |= INTR_NMI;	/* the pin is NMI itself then */
	}
	kick = intr_sync(i);
	intr_unlock(i, token);
	return kick;
}
