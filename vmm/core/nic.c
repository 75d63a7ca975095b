/*
 * nic.c -- the accesses that a PCnet's driver makes at each interrupt, answered without leaving the guest.
 *
 * The chip is a device outside the core.  While it stands still, struct nic_front has its register address, CSR0 and
 * CSR3, and what follows from them: reads of those, writes that only acknowledge, mask and unmask.  Invariants:
 *
 *   N1  whoever works on the chip holds the front: `held` is set, and every access leaves the guest, as one does that
 *       would make the chip do something (INIT, STRT, STOP, TDMD), that is for another register, or of another width;
 *       but TDMD, where the ring is walked by somebody whom the bell calls (nic_rings.c);
 *   N2  what is answered here reads, writes and interrupts as the device's own code would have it;
 *   N3  while frames wait for the driver, the write with which it lets the next interrupt through leaves the guest, or
 *       rings the bell, where they wait for nic_rings.c.
 *
 * Source: AMD Am79C970A data sheet (publication 19436), "Control and Status Registers" (RAP, CSR0, CSR3).
 */
#include "controllers.h"

enum { RAP_MASK = 0x7f, STATUS = 0, INTERRUPT_MASK = 3, WORD = 0xffff };

enum csr0 {
	INIT = 1 << 0, STRT = 1 << 1, STOP = 1 << 2, TDMD = 1 << 3, IENA = 1 << 6, INTR = 1 << 7, TINT = 1 << 9,
	RINT = 1 << 10, ERR = 1 << 15,
	ACTIONS = INIT | STRT | STOP | TDMD,
	ERRORS = 0x7800,	/* BABL, CERR, MISS, MERR */
	CAUSES = 0x5f00,	/* the same without CERR, RINT, TINT, IDON: these interrupt */
	CLEARED = 0x7f00	/* by writing one */
};

enum which { RDP, RAP, NEITHER };

static uint32_t
interrupts(const struct nic_front *f)
{
	return (f->csr0 & ~f->csr3 & CAUSES) || f->others;
}

/* INTA#. */
static uint32_t
asserted(const struct nic_front *f)
{
	return f->port && (f->others == NIC_SYSTEM || ((f->csr0 & IENA) && interrupts(f)));
}

/* Drive INTA# from the registers.  A driver that is interrupted is at work. */
static uint32_t
drive(struct interrupts *i, struct nic_front *f)
{
	uint32_t n, lines = 0, changed;

	f->asserted = asserted(f);
	if (f->asserted)
		__atomic_store_n(&f->attended, 1, __ATOMIC_RELAXED);
	for (n = 0; n < RF_NICS; n++)
		if (i->nic[n].asserted)
			lines |= i->nic[n].lines;
	changed = lines ^ i->nic_lines;
	i->nic_lines = lines;
	for (n = 0; n < RF_IOAPIC_PINS; n++)
		if (changed >> n & 1)
			wire_update(i, n);
	return intr_sync(i);
}

void
nic_ring(struct interrupts *i)
{
	__atomic_fetch_add(&i->nic_bell, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&i->nic_sleeps, __ATOMIC_SEQ_CST))
		sys_futex_wake(&i->nic_bell, 1);
}

uint32_t
nic_tell(struct interrupts *i, uint32_t number, uint32_t causes)
{
	struct nic_front *f = &i->nic[number % RF_NICS];

	f->csr0 |= causes;
	return drive(i, f);
}

static struct nic_front *
find(struct interrupts *i, uint32_t port, uint32_t size, enum which *which)
{
	uint32_t n;

	for (n = 0; n < RF_NICS; n++) {
		struct nic_front *f = &i->nic[n];
		const uint32_t offset = port - __atomic_load_n(&f->port, __ATOMIC_RELAXED);

		if (offset > 4 || !f->port || size != f->width)
			continue;
		*which = offset == 0 ? RDP : offset == size ? RAP : NEITHER;
		return *which == NEITHER ? NULL : f;
	}
	return NULL;
}

static uint32_t
status(const struct nic_front *f)
{
	return f->csr0 | (f->csr0 & ERRORS ? ERR : 0) | (interrupts(f) ? INTR : 0);
}

/* A driver that reads CSR0 is told of every frame that was sent. */
static uint32_t
read_rdp(struct interrupts *i, struct nic_front *f, uint32_t *value, uint32_t *kick)
{
	if (f->rap == INTERRUPT_MASK) {
		*value = f->csr3;
		return 1;
	}
	if (f->rap != STATUS)
		return 0;
	if (f->unsaid) {
		f->unsaid = 0;
		f->csr0 |= TINT;
		*kick |= drive(i, f);
	}
	*value = status(f);
	return 1;
}

/* Does the driver let frames interrupt it? */
static uint32_t
lets_through(uint32_t csr0, uint32_t csr3)
{
	return (csr0 & IENA) && !(csr3 & RINT);
}

/* Is a write of CSR0 answered here? */
static uint32_t
is_plain(const struct nic_front *f, uint32_t value)
{
	const uint32_t heard = f->rings & NIC_TRANSMIT ? TDMD : 0;

	return !(value & ACTIONS & ~heard) && !(f->csr0 & TDMD & ~heard) && !f->careful;
}

static uint32_t
write_rdp(struct interrupts *i, struct nic_front *f, uint32_t value, uint32_t *kick)
{
	const uint32_t attended = f->attended;
	uint32_t csr0 = f->csr0, csr3 = f->csr3, bell = 0;

	if (f->rap == INTERRUPT_MASK) {
		csr3 = value;
	} else if (f->rap == STATUS && is_plain(f, value)) {
		csr0 = (csr0 & ~((value & CLEARED) | IENA)) | (value & (IENA | TDMD));
		bell = value & TDMD;
	} else {
		return 0;
	}
	if (lets_through(csr0, csr3)) {
		/* A frame that arrives now sees that nobody is at work, or we see that it waits. */
		__atomic_store_n(&f->attended, 0, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&f->waits, __ATOMIC_SEQ_CST)) {
			__atomic_store_n(&f->attended, attended, __ATOMIC_RELAXED);
			return 0;	/* N3 */
		}
		bell |= __atomic_load_n(&i->nic_starved, __ATOMIC_SEQ_CST) >> (f - i->nic) & 1;
	}
	f->csr0 = csr0;
	f->csr3 = csr3;
	*kick |= drive(i, f);
	if (bell)
		nic_ring(i);
	return 1;
}

/* An access to RDP or RAP; *value is what is read, or to be written.  0: it is for the device. */
static uint32_t
answer(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t write, uint32_t *value, uint32_t *kick)
{
	enum which which;
	struct nic_front *f = find(i, port, size, &which);
	uint32_t token, done = 0;

	if (!f)
		return 0;
	token = intr_lock(i);
	if (!f->held && find(i, port, size, &which) == f) {
		if (which == RDP)
			done = write ? write_rdp(i, f, *value & WORD, kick) : read_rdp(i, f, value, kick);
		else if (write)
			f->rap = *value & RAP_MASK;
		else
			*value = f->rap;
		done |= which == RAP;
		*kick |= i->events[cpu % RF_APICS] ? 1u << cpu % RF_APICS : 0;
	}
	intr_unlock(i, token);
	return done;
}

uint32_t
nic_port_read(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t *value, uint32_t *kick)
{
	return answer(i, cpu, port, size, 0, value, kick);
}

uint32_t
nic_port_write(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t value, uint32_t *kick)
{
	return answer(i, cpu, port, size, 1, &value, kick);
}

void
nic_hold(struct interrupts *i, uint32_t number)
{
	const uint32_t token = intr_lock(i);

	i->nic[number % RF_NICS].held = 1;
	intr_unlock(i, token);
}

uint32_t
nic_give(struct interrupts *i, uint32_t number)
{
	const uint32_t token = intr_lock(i);
	struct nic_front *f = &i->nic[number % RF_NICS];
	const uint32_t kick = drive(i, f);

	f->held = 0;
	intr_unlock(i, token);
	return kick;
}
