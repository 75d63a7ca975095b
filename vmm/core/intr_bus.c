/*
 * intr_bus.c -- the interrupt page on the bus: which ports and pages are the core's, and accesses of any size to them.
 *
 * Invariants:
 *
 *   B1  an access belongs to whoever has its first byte; the bytes beyond, when they are not the core's, read as ones;
 *   B2  a port access goes byte by byte, low first, but for the power-management block, whose registers are read whole;
 *   B3  time is read inside the lock, so that no register sees it go back.
 *
 * Source: Intel 82371AB data sheet, I/O map; Intel SDM 3A, 10.4.1 "The Local APIC Block Diagram".
 */
#include "controllers.h"

enum { IOAPIC_BASE = 0xfec00000 };
enum { PORT_POST = 0x80, PORT_DELAY = 0xed, PORT_NMI = 0x61, PORT_ELCR = 0x4d0 };

/* ---- ports --------------------------------------------------------------------------------- */

static const uint32_t PORTS[] = {
	0x20, 0x21, 0x40, 0x41, 0x42, 0x43, PORT_NMI, PORT_POST, 0xa0, 0xa1, PORT_DELAY, PORT_ELCR, PORT_ELCR + 1
};
enum { PORT_COUNT = sizeof PORTS / sizeof PORTS[0] };

uint32_t
intr_port_owned(uint32_t port, const struct interrupts *i)
{
	uint32_t n;

	for (n = 0; n < PORT_COUNT; n++)
		if (PORTS[n] == port)
			return 1;
	return pm_owned(i, port);
}

uint32_t
intr_port_list(uint32_t *ports, uint32_t room)
{
	uint32_t n;

	for (n = 0; n < PORT_COUNT && n < room; n++)
		ports[n] = PORTS[n];
	return PORT_COUNT;
}

/* A 32-bit register cut to an access of `size` bytes. */
static uint32_t
cut(uint32_t value, uint32_t size)
{
	return size >= 4 ? value : value & ((1u << 8 * size) - 1);
}

static uint32_t
read_byte(struct interrupts *i, uint32_t port, uint64_t now)
{
	switch (port) {
	case PORT_POST:
		return i->port80;
	case PORT_DELAY:
		return i->portED;
	case PORT_NMI:
		return pit_read(i, port, now);
	default:
		break;
	}
	if (port >= 0x40 && port <= 0x43)
		return pit_read(i, port, now) & 0xff;
	pit_expire(i, now);	/* a guest that polls IRR sees what a look at the counter would tell */
	return pic_read(i, port);
}

static void
write_byte(struct interrupts *i, uint32_t port, uint32_t value, uint64_t now)
{
	if (port == PORT_POST)
		i->port80 = value;
	else if (port == PORT_DELAY)
		i->portED = value;
	else if (port == PORT_NMI || (port >= 0x40 && port <= 0x43))
		pit_write(i, port, value, now);
	else if (pm_owned(i, port))
		pm_write(i, port, value, now);
	else
		pic_write(i, port, value);
}

uint32_t
intr_port_read(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t *value)
{
	uint32_t result = 0, k, token;
	uint64_t now;

	(void)cpu;
	if (!intr_port_owned(port, i))
		return 0;
	token = intr_lock(i);
	now = port == PORT_POST || port == PORT_DELAY ? 0 : clock_now(i);
	if (pm_owned(i, port)) {
		result = pm_read(i, port, now);
	} else {
		for (k = 0; k < size && k < 4; k++)
			result |= (intr_port_owned(port + k, i) ? read_byte(i, port + k, now) & 0xff : 0xff) << 8 * k;
	}
	intr_sync(i);
	intr_unlock(i, token);
	*value = cut(result, size);
	return 1;
}

uint32_t
intr_port_write(struct interrupts *i, uint32_t cpu, uint32_t port, uint32_t size, uint32_t value, uint32_t *kick)
{
	uint32_t k, token, timers;

	if (!intr_port_owned(port, i))
		return 0;
	timers = (port >= 0x40 && port <= 0x43) || port == PORT_NMI || pm_owned(i, port);
	cpu %= RF_APICS;
	token = intr_lock(i);
	for (k = 0; k < size && k < 4; k++)
		if (intr_port_owned(port + k, i))
			write_byte(i, port + k, value >> 8 * k & 0xff, timers ? clock_now(i) : 0);
	if (timers)
		*kick |= intr_deadlines(i);
	*kick |= intr_sync(i) | (i->events[cpu] ? 1u << cpu : 0);
	intr_unlock(i, token);
	return 1;
}

/* ---- memory ----------------------------------------------------------------------------------- */

enum page_owner { PAGE_NONE, PAGE_LAPIC, PAGE_IOAPIC };

static enum page_owner
page_owner(uint64_t apic_base_msr, uint64_t gpa)
{
	if ((apic_base_msr & APIC_ENABLE) && (gpa ^ apic_base_msr) >> 12 == 0)
		return PAGE_LAPIC;
	return gpa >> 12 == (uint32_t)IOAPIC_BASE >> 12 ? PAGE_IOAPIC : PAGE_NONE;
}

/* Registers are 32 bits wide, 16 bytes apart; a read may take a part of one. */
uint32_t
intr_mmio_read(struct interrupts *i, uint32_t cpu, uint64_t apic_base_msr, uint64_t gpa, uint32_t size, uint32_t *value)
{
	const enum page_owner owner = page_owner(apic_base_msr, gpa);
	const uint32_t offset = gpa & 0xff0, byte = gpa & 0xf;
	uint32_t token, result = 0;

	if (owner == PAGE_NONE)
		return 0;
	cpu %= RF_APICS;
	token = intr_lock(i);
	i->lapic[cpu].base = apic_base_msr;
	if (byte < 4)
		result = (owner == PAGE_LAPIC ? lapic_read(i, cpu, offset) : ioapic_read(i, offset)) >> 8 * byte;
	intr_sync(i);
	intr_unlock(i, token);
	*value = cut(result, size);
	return 1;
}

/* "All accesses should be made with 32-bit loads and stores" [SDM 3A, 10.4.1]: other writes are dropped. */
uint32_t
intr_mmio_write(struct interrupts *i, uint32_t cpu, uint64_t apic_base_msr, uint64_t gpa, uint32_t size, uint32_t value,
	uint32_t *kick)
{
	const enum page_owner owner = page_owner(apic_base_msr, gpa);
	const uint32_t offset = gpa & 0xfff;
	struct lapic *a = &i->lapic[cpu % RF_APICS];
	uint64_t expiry;
	uint32_t token, entry;

	if (owner == PAGE_NONE)
		return 0;
	cpu %= RF_APICS;
	token = intr_lock(i);
	a->base = apic_base_msr;
	expiry = a->timer_next_ns;
	entry = a->lvt[LVT_TIMER];
	if (owner == PAGE_LAPIC && size >= 4 && !(offset & 0xf))
		lapic_write(i, cpu, offset, value);
	if (owner == PAGE_IOAPIC && (size >= 4 || offset == 0))
		ioapic_write(i, offset, value);
	if (a->timer_next_ns != expiry || a->lvt[LVT_TIMER] != entry)
		*kick |= intr_deadlines(i);
	*kick |= intr_sync(i) | (i->events[cpu] ? 1u << cpu : 0);
	intr_unlock(i, token);
	return 1;
}
