/*
 * apic.c -- local APICs: registers, interrupt acceptance, messages between processors, the timer.
 *
 * A P6 part (version 11h, six LVT entries).  Invariants:
 *
 *   L1  bits 15:0 of IRR, ISR and TMR are never set;
 *   L2  while the APIC is disabled by software every LVT entry is masked, and no fixed message is accepted;
 *   L3  timer_next_ns is the guest time of the next expiry, so the current count is a difference, not a counter;
 *   L4  a SIPI is latched only while the vCPU waits for one or has an INIT to take first.
 *
 * Messages arrive at once: delivery status (bit 12) always reads 0.  Ignored: SMI, the arbitration identity,
 * remote read.  A level-triggered LINT pin in fixed mode is taken as an edge.
 * Source: Intel SDM 3A, chapter 10 "Advanced Programmable Interrupt Controller" [10.x].
 */
#include "controllers.h"

enum lapic_register {
	R_ID = 0x020, R_VERSION = 0x030, R_TPR = 0x080, R_APR = 0x090, R_PPR = 0x0a0, R_EOI = 0x0b0, R_LDR = 0x0d0,
	R_DFR = 0x0e0, R_SVR = 0x0f0, R_ISR = 0x100, R_TMR = 0x180, R_IRR = 0x200, R_ESR = 0x280, R_ICR_LOW = 0x300,
	R_ICR_HIGH = 0x310, R_LVT = 0x320, R_INITIAL = 0x380, R_CURRENT = 0x390, R_DIVIDE = 0x3e0
};
enum { SVR_ENABLE = 1 << 8, SVR_NO_FOCUS = 1 << 9, LVT_PERIODIC = 1 << 17 };
enum esr { ESR_SEND_ILLEGAL = 0x20, ESR_RECEIVE_ILLEGAL = 0x40, ESR_REGISTER = 0x80 };
enum shorthand { TO_DESTINATION, TO_SELF, TO_ALL, TO_OTHERS };
enum { ICR_ASSERT = 1 << 14, ICR_SHORTHAND_SHIFT = 18, ICR_WRITABLE = 0x000ccfff };

#define LAPIC_VERSION 0x00050011u
#define LAST_LVT 6
#define FIRST_VECTOR 16
#define BUS_NS (NS_PER_S / RF_APIC_BUS_HZ)

/* By enum lvt.  [10.5.1] */
static const uint32_t LVT_WRITABLE[LAST_LVT] = { 0x300ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff };

static void error(struct interrupts *i, uint32_t cpu, uint32_t bit);

void
lapic_reset(struct lapic *a, uint32_t cpu)
{
	const uint64_t base = a->base;
	const uint32_t latches = a->latches, id = a->id, sipi_vector = a->sipi_vector;
	uint32_t n;

	zero_bytes(a, sizeof *a);
	a->base = base;
	a->id = id;
	a->latches = latches;
	a->sipi_vector = sipi_vector;
	a->wait_sipi = cpu != 0;
	a->dfr = 0xffffffffu;
	a->svr = 0xff;
	a->timer_next_ns = NEVER;
	for (n = 0; n < LAST_LVT; n++)
		a->lvt[n] = ENTRY_MASKED;
}

uint32_t
lapic_on(const struct lapic *a)
{
	return (a->base & APIC_ENABLE) && (a->svr & SVR_ENABLE);
}

static int32_t
highest(const uint32_t map[8])
{
	int32_t n;

	for (n = 7; n >= 0; n--)
		if (map[n])
			return n * 32 + 31 - __builtin_clz(map[n]);
	return -1;
}

/* The processor priority.  [10.8.3.1] */
static uint32_t
priority(const struct lapic *a)
{
	const int32_t in_service = highest(a->isr);
	const uint32_t isrv = in_service < 0 ? 0 : (uint32_t)in_service & 0xf0;

	return (a->tpr & 0xf0) >= isrv ? a->tpr & 0xff : isrv;
}

int32_t
lapic_request(const struct lapic *a)
{
	const int32_t vector = highest(a->irr);

	if (vector < FIRST_VECTOR || !(a->base & APIC_ENABLE))
		return -1;
	return ((uint32_t)vector & 0xf0) > (priority(a) & 0xf0) ? vector : -1;
}

int32_t
lapic_inta(struct lapic *a)
{
	const int32_t vector = lapic_request(a);

	if (vector >= 0) {
		clear_bit(a->irr, (uint32_t)vector);
		set_bit(a->isr, (uint32_t)vector);
	}
	return vector;
}

/* ---- acceptance --------------------------------------------------------------------- */

static uint32_t
accept(struct interrupts *i, uint32_t cpu, uint32_t vector, uint32_t level)
{
	struct lapic *a = &i->lapic[cpu];

	if (!lapic_on(a))
		return 0;	/* L2 */
	if (vector < FIRST_VECTOR) {
		error(i, cpu, ESR_RECEIVE_ILLEGAL);
		return 1;
	}
	set_bit(a->irr, vector);
	if (level)
		set_bit(a->tmr, vector);
	else
		clear_bit(a->tmr, vector);
	return 1;
}

/* A local source: the entry says what it does.  1 if it asked for a fixed interrupt. */
static uint32_t
local(struct interrupts *i, uint32_t cpu, uint32_t lvt, uint32_t mode)
{
	struct lapic *a = &i->lapic[cpu];
	const uint32_t entry = a->lvt[lvt];

	if ((entry & ENTRY_MASKED) || !lapic_on(a))
		return 0;
	if (mode == DM_FIXED)
		return accept(i, cpu, entry & ENTRY_VECTOR, 0);
	if (mode == DM_NMI || mode == DM_INIT)
		lapic_message(i, 1u << cpu, mode << ENTRY_MODE_SHIFT | ICR_ASSERT);
	return 0;
}

static void
error(struct interrupts *i, uint32_t cpu, uint32_t bit)
{
	struct lapic *a = &i->lapic[cpu];
	const uint32_t known = a->errors & bit;

	a->errors |= bit;
	/* An error entry with an illegal vector would report itself for ever. */
	if (!known && (a->lvt[LVT_ERROR] & ENTRY_VECTOR) >= FIRST_VECTOR)
		local(i, cpu, LVT_ERROR, DM_FIXED);
}

void
lapic_lint(struct interrupts *i, uint32_t cpu, uint32_t lvt)
{
	local(i, cpu, lvt, entry_mode(i->lapic[cpu].lvt[lvt]));
}

/* ---- messages ------------------------------------------------------------------------- */

/* [10.6.2.2]  Cluster destinations: FFh is everybody, Fh in the upper half every cluster. */
static uint32_t
logical_match(const struct lapic *a, uint32_t destination)
{
	const uint32_t mine = a->ldr >> 24;

	if (a->dfr >> 28 == 0xf)
		return (destination & mine) != 0;
	if (a->dfr >> 28 != 0)
		return 0;
	return (destination >> 4 == 0xf || destination >> 4 == mine >> 4) && (destination & mine & 0xf);
}

uint32_t
lapic_match(const struct interrupts *i, uint32_t destination, uint32_t logical)
{
	/* P6 processors have four-bit identifiers, and Fh addresses them all. */
	const uint32_t everybody = destination == 0xff || (!logical && destination == 0xf);
	uint32_t cpu, mask = 0;

	for (cpu = 0; cpu < i->vcpus && cpu < RF_APICS; cpu++) {
		const struct lapic *a = &i->lapic[cpu];

		if (everybody || (logical ? logical_match(a, destination) : a->id >> 24 == destination))
			mask |= 1u << cpu;
	}
	return mask;
}

/* The target that gets a lowest-priority message, or RF_APICS.  [10.6.2.4] */
static uint32_t
arbitrate(struct interrupts *i, uint32_t targets, uint32_t vector)
{
	uint32_t best = RF_APICS, best_priority = 0x100, k;

	for (k = 1; k <= RF_APICS; k++) {
		const uint32_t cpu = (i->lowest_last + k) % RF_APICS;	/* equals take turns */
		const struct lapic *a = &i->lapic[cpu];

		if (!(targets >> cpu & 1) || !lapic_on(a))
			continue;
		if (!(a->svr & SVR_NO_FOCUS) && (is_set(a->irr, vector) || is_set(a->isr, vector)))
			return cpu;	/* the focus processor */
		if (priority(a) < best_priority) {
			best = cpu;
			best_priority = priority(a);
		}
	}
	return best;
}

static uint32_t
startup(struct lapic *a, uint32_t vector)
{
	if ((a->wait_sipi || (a->latches & INTR_INIT)) && !(a->latches & INTR_SIPI)) {	/* L4 */
		a->latches |= INTR_SIPI;
		a->sipi_vector = vector;
	}
	return 1;
}

static uint32_t
to_one(struct interrupts *i, uint32_t cpu, uint32_t entry)
{
	struct lapic *a = &i->lapic[cpu];

	if (!(a->base & APIC_ENABLE))
		return 0;
	switch ((enum delivery_mode)entry_mode(entry)) {
	case DM_FIXED:
	case DM_LOWEST:
		return accept(i, cpu, entry & ENTRY_VECTOR, entry & ENTRY_LEVEL);
	case DM_NMI:
		a->latches |= INTR_NMI;
		return 1;
	case DM_INIT:
		a->latches = (a->latches | INTR_INIT) & ~(uint32_t)INTR_SIPI;
		return 1;
	case DM_STARTUP:
		return startup(a, entry & ENTRY_VECTOR);
	default:
		return 0;
	}
}

uint32_t
lapic_message(struct interrupts *i, uint32_t targets, uint32_t entry)
{
	uint32_t cpu, accepted = 0;

	if (entry_mode(entry) == DM_LOWEST) {
		cpu = arbitrate(i, targets, entry & ENTRY_VECTOR);
		if (cpu == RF_APICS)
			return 0;
		i->lowest_last = cpu;
		return to_one(i, cpu, entry);
	}
	for (cpu = 0; cpu < RF_APICS; cpu++)
		if (targets >> cpu & 1)
			accepted |= to_one(i, cpu, entry);
	return accepted;
}

/* Writing the low half sends.  [10.6.1] */
static void
send(struct interrupts *i, uint32_t cpu)
{
	const struct lapic *a = &i->lapic[cpu];
	const uint32_t all = (1u << (i->vcpus < RF_APICS ? i->vcpus : RF_APICS)) - 1;
	const uint32_t mode = entry_mode(a->icr_low);
	uint32_t targets;

	/* "INIT Level De-assert": sets arbitration identifiers only. */
	if (mode == DM_INIT && !(a->icr_low & ICR_ASSERT) && (a->icr_low & ENTRY_LEVEL))
		return;
	if ((mode == DM_FIXED || mode == DM_LOWEST) && (a->icr_low & ENTRY_VECTOR) < FIRST_VECTOR) {
		error(i, cpu, ESR_SEND_ILLEGAL);
		return;
	}
	switch ((enum shorthand)(a->icr_low >> ICR_SHORTHAND_SHIFT & 3)) {
	case TO_SELF:
		targets = 1u << cpu;
		break;
	case TO_ALL:
		targets = all;
		break;
	case TO_OTHERS:
		targets = all & ~(1u << cpu);
		break;
	default:
		targets = lapic_match(i, a->icr_high >> 24, a->icr_low & ENTRY_LOGICAL);
		break;
	}
	/* Only INIT de-assert is level-triggered on this bus: "trigger mode ... is ignored" elsewhere. */
	lapic_message(i, targets, a->icr_low & (ENTRY_VECTOR | ENTRY_MODE));
}

/* ---- timer ------------------------------------------------------------------------------ */

/* Guest ns per count.  [10.5.4, Divide Configuration Register] */
static uint64_t
count_ns(const struct lapic *a)
{
	const uint32_t code = (a->timer_divide & 3) | (a->timer_divide & 8) >> 1;

	return (uint64_t)BUS_NS << ((code + 1) & 7);
}

static uint64_t
period_ns(const struct lapic *a)
{
	return a->timer_initial ? a->timer_initial * count_ns(a) : count_ns(a);
}

static uint32_t
current_count(const struct lapic *a, uint64_t now)
{
	uint64_t left;

	if (a->timer_next_ns == NEVER)
		return 0;
	if (now < a->timer_next_ns)
		left = a->timer_next_ns - now;
	else if (a->lvt[LVT_TIMER] & LVT_PERIODIC)
		left = period_ns(a) - (now - a->timer_next_ns) % period_ns(a);
	else
		return 0;
	return (uint32_t)((left + count_ns(a) - 1) / count_ns(a));
}

void
lapic_catch_up(struct interrupts *i, uint32_t cpu)
{
	struct lapic *a = &i->lapic[cpu];
	const uint32_t vector = a->lvt[LVT_TIMER] & ENTRY_VECTOR;

	if (!a->timer_backlog)
		return;
	if ((a->lvt[LVT_TIMER] & ENTRY_MASKED) || !(a->lvt[LVT_TIMER] & LVT_PERIODIC) || vector < FIRST_VECTOR)
		a->timer_backlog = 0;
	else if (!is_set(a->irr, vector) && !is_set(a->isr, vector) && local(i, cpu, LVT_TIMER, DM_FIXED))
		a->timer_backlog--;
}

void
lapic_expire(struct interrupts *i, uint32_t cpu, uint64_t now)
{
	struct lapic *a = &i->lapic[cpu];
	uint64_t expiries = 1;

	if (now < a->timer_next_ns || a->timer_next_ns == NEVER)
		return;
	if (a->lvt[LVT_TIMER] & LVT_PERIODIC) {
		expiries += (now - a->timer_next_ns) / period_ns(a);
		a->timer_next_ns += expiries * period_ns(a);
	} else {
		a->timer_next_ns = NEVER;
	}
	if (a->lvt[LVT_TIMER] & ENTRY_MASKED)
		return;
	if (!is_set(a->irr, a->lvt[LVT_TIMER] & ENTRY_VECTOR)) {
		local(i, cpu, LVT_TIMER, DM_FIXED);
		expiries--;
	}
	expiries += a->timer_backlog;
	a->timer_backlog = expiries < BACKLOG_MAX ? (uint32_t)expiries : BACKLOG_MAX;
}

static void
start_timer(struct lapic *a, uint32_t count, uint64_t now)
{
	a->timer_next_ns = count ? now + count * count_ns(a) : NEVER;
}

/* ---- registers ---------------------------------------------------------------------------- */

static uint32_t
bad_register(struct interrupts *i, uint32_t cpu)
{
	error(i, cpu, ESR_REGISTER);
	return 0;
}

uint32_t
lapic_read(struct interrupts *i, uint32_t cpu, uint32_t offset)
{
	const struct lapic *a = &i->lapic[cpu];
	const uint32_t n = offset >> 4 & 7;

	switch (offset & ~0x7fu) {
	case R_ISR:
		return a->isr[n];
	case R_TMR:
		return a->tmr[n];
	case R_IRR:
		return a->irr[n];
	default:
		break;
	}
	if (offset >= R_LVT && offset < R_LVT + LAST_LVT * 0x10)
		return a->lvt[(offset - R_LVT) >> 4];
	switch (offset) {
	case R_ID:		return a->id;
	case R_VERSION:		return LAPIC_VERSION;
	case R_TPR:		return a->tpr;
	case R_APR:
	case R_PPR:		return priority(a);
	case R_EOI:		return 0;
	case R_LDR:		return a->ldr;
	case R_DFR:		return a->dfr;
	case R_SVR:		return a->svr;
	case R_ESR:		return a->esr;
	case R_ICR_LOW:		return a->icr_low;
	case R_ICR_HIGH:	return a->icr_high;
	case R_INITIAL:		return a->timer_initial;
	case R_CURRENT:		return current_count(a, clock_now(i));
	case R_DIVIDE:		return a->timer_divide;
	default:		return bad_register(i, cpu);
	}
}

/* [10.8.5]  A level-triggered interrupt's EOI goes to the I/O APICs too. */
static void
end_of_interrupt(struct interrupts *i, struct lapic *a)
{
	const int32_t vector = highest(a->isr);

	if (vector < 0)
		return;
	clear_bit(a->isr, (uint32_t)vector);
	if (is_set(a->tmr, (uint32_t)vector))
		ioapic_eoi(i, (uint32_t)vector);
}

/* [10.9]  Bits 3:0 of the spurious vector are wired to 1 on P6. */
static void
write_svr(struct lapic *a, uint32_t value)
{
	uint32_t n;

	a->svr = (value & (SVR_ENABLE | SVR_NO_FOCUS | 0xf0)) | 0x0f;
	if (value & SVR_ENABLE)
		return;
	for (n = 0; n < LAST_LVT; n++)
		a->lvt[n] |= ENTRY_MASKED;	/* L2 */
}

static void
write_lvt(struct lapic *a, uint32_t n, uint32_t value)
{
	a->lvt[n] = value & LVT_WRITABLE[n];
	if (!(a->svr & SVR_ENABLE))
		a->lvt[n] |= ENTRY_MASKED;
}

static void
write_timer(struct interrupts *i, uint32_t cpu, uint32_t offset, uint32_t value)
{
	struct lapic *a = &i->lapic[cpu];
	const uint64_t now = clock_now(i);
	uint32_t left;

	lapic_expire(i, cpu, now);
	if (offset == R_INITIAL) {
		a->timer_initial = value;
		a->timer_backlog = 0;
		start_timer(a, value, now);
	} else if (offset == R_DIVIDE) {
		left = current_count(a, now);
		a->timer_divide = value & 0xb;
		start_timer(a, left, now);
	} else {
		write_lvt(a, LVT_TIMER, value);
	}
}

void
lapic_write(struct interrupts *i, uint32_t cpu, uint32_t offset, uint32_t value)
{
	struct lapic *a = &i->lapic[cpu];

	switch (offset) {
	case R_ID:		a->id = value & 0xff000000u; break;
	case R_TPR:		a->tpr = value & 0xff; break;
	case R_EOI:		end_of_interrupt(i, a); break;
	case R_LDR:		a->ldr = value & 0xff000000u; break;
	case R_DFR:		a->dfr = value | 0x0fffffff; break;
	case R_SVR:		write_svr(a, value); break;
	case R_ESR:		a->esr = a->errors; a->errors = 0; break;
	case R_ICR_HIGH:	a->icr_high = value & 0xff000000u; break;
	case R_ICR_LOW:		a->icr_low = value & ICR_WRITABLE; send(i, cpu); break;
	case R_LVT:
	case R_INITIAL:
	case R_DIVIDE:		write_timer(i, cpu, offset, value); break;
	case R_VERSION:
	case R_APR:
	case R_PPR:
	case R_CURRENT:		break;
	default:
		if (offset > R_LVT && offset < R_LVT + LAST_LVT * 0x10)
			write_lvt(a, (offset - R_LVT) >> 4, value);
		else if (offset < R_ISR || offset >= R_ESR)
			bad_register(i, cpu);
		break;
	}
}
