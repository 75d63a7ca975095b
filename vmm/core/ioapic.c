/*
 * ioapic.c -- the 82093AA I/O APIC at FEC00000h.
 *
 * Pins 0..15 carry the ISA IRQs, with IRQ 0 on pin 2 and INTR of the 8259 pair on pin 0; pins 16..19
 * carry the PCI links, 20..23 are free.  Invariants:
 *
 *   O1  a level-triggered pin sends while asserted, unmasked and without remote IRR; ioapic_service
 *       runs at the end of every entry, so none waits longer;
 *   O2  remote IRR is set only when an APIC accepted the message, and only for fixed and lowest priority.
 *
 * A level-triggered pin is active while its devices assert the wire, whatever bit 13 says: firmware tables
 * disagree on the sense of the SCI and of routed PCI lines, and an inverted pin would never be quiet.  For
 * edges bit 13 decides, ISA wires being active high and PCI wires active low.
 * Source: Intel 82093AA data sheet [ds].
 */
#include "controllers.h"

enum { REG_SELECT = 0x00, REG_WINDOW = 0x10 };
enum { INDEX_ID = 0, INDEX_VERSION = 1, INDEX_ARBITRATION = 2, INDEX_PINS = 0x10 };
enum { ID_WRITABLE = 0x0f000000, LOW_WRITABLE = 0x2fff };

#define IOAPIC_VERSION (0x11u | (RF_IOAPIC_PINS - 1) << 16)

void
ioapic_reset(struct ioapic *o)
{
	const uint32_t pins = o->pins;

	zero_bytes(o, sizeof *o);
	o->pins = pins;
	o->masked = (1u << RF_IOAPIC_PINS) - 1;
}

static uint32_t
keeps_remote_irr(const struct ioapic *o, uint32_t pin)
{
	return entry_mode(o->low[pin]) == DM_FIXED || entry_mode(o->low[pin]) == DM_LOWEST;
}

static uint32_t
deliver(struct interrupts *i, uint32_t pin)
{
	const struct ioapic *o = &i->ioapic;
	const uint32_t level = o->level >> pin & 1 && keeps_remote_irr(o, pin) ? ENTRY_LEVEL : 0;
	const uint32_t targets = lapic_match(i, o->high[pin] >> 24, o->low[pin] & ENTRY_LOGICAL);

	if (entry_mode(o->low[pin]) == DM_EXTINT)
		return 0;	/* pin 0 stands for INTR itself: intr.c asks for its state */
	return lapic_message(i, targets, (o->low[pin] & (ENTRY_VECTOR | ENTRY_MODE)) | level);
}

void
ioapic_set_pin(struct interrupts *i, uint32_t pin, uint32_t level)
{
	struct ioapic *o = &i->ioapic;
	const uint32_t bit = 1u << pin;
	const uint32_t was = o->pins >> pin & 1;
	const uint32_t low_active = (o->low[pin] & ENTRY_LOW_ACTIVE) != 0;
	const uint32_t edge_to = low_active == (pin >= PIN_PCI);

	o->pins = level ? o->pins | bit : o->pins & ~bit;
	if (was == level || (o->masked & bit))
		return;		/* "Edge-sensitive interrupts signaled on a masked interrupt pin are ignored" */
	if ((!(o->level & bit) || !keeps_remote_irr(o, pin)) && level == edge_to)
		deliver(i, pin);
}

void
ioapic_service(struct interrupts *i)
{
	struct ioapic *o = &i->ioapic;
	uint32_t waiting = o->pins & o->level & ~o->masked & ~o->remote_irr;

	for (waiting &= (1u << RF_IOAPIC_PINS) - 1; waiting; waiting &= waiting - 1) {
		const uint32_t pin = (uint32_t)__builtin_ctz(waiting);

		if (keeps_remote_irr(o, pin) && deliver(i, pin))
			o->remote_irr |= 1u << pin;	/* O2 */
	}
}

void
ioapic_eoi(struct interrupts *i, uint32_t vector)
{
	struct ioapic *o = &i->ioapic;
	uint32_t pin;

	for (pin = 0; pin < RF_IOAPIC_PINS; pin++)
		if ((o->low[pin] & ENTRY_VECTOR) == vector)
			o->remote_irr &= ~(1u << pin);
}

uint32_t
ioapic_read(struct interrupts *i, uint32_t offset)
{
	const struct ioapic *o = &i->ioapic;
	const uint32_t pin = (o->select - INDEX_PINS) / 2;

	if (offset == REG_SELECT)
		return o->select;
	if (offset != REG_WINDOW)
		return 0;
	if (o->select == INDEX_ID || o->select == INDEX_ARBITRATION)
		return o->id;
	if (o->select == INDEX_VERSION)
		return IOAPIC_VERSION;
	if (o->select < INDEX_PINS || pin >= RF_IOAPIC_PINS)
		return 0;
	if (o->select & 1)
		return o->high[pin];
	return o->low[pin] | (o->masked >> pin & 1 ? ENTRY_MASKED : 0) | (o->level >> pin & 1 ? ENTRY_LEVEL : 0)
		| (o->remote_irr >> pin & 1 ? ENTRY_REMOTE_IRR : 0);
}

static void
write_entry(struct ioapic *o, uint32_t pin, uint32_t value)
{
	const uint32_t bit = 1u << pin;

	o->low[pin] = value & LOW_WRITABLE;
	o->masked = value & ENTRY_MASKED ? o->masked | bit : o->masked & ~bit;
	o->level = value & ENTRY_LEVEL ? o->level | bit : o->level & ~bit;
	if (!(value & ENTRY_LEVEL))
		o->remote_irr &= ~bit;	/* "This bit is undefined for edge triggered interrupts"; drivers clear it so */
}

void
ioapic_write(struct interrupts *i, uint32_t offset, uint32_t value)
{
	struct ioapic *o = &i->ioapic;
	const uint32_t pin = (o->select - INDEX_PINS) / 2;

	if (offset == REG_SELECT)
		o->select = value & 0xff;
	if (offset != REG_WINDOW)
		return;
	if (o->select == INDEX_ID)
		o->id = value & ID_WRITABLE;
	if (o->select < INDEX_PINS || pin >= RF_IOAPIC_PINS)
		return;
	if (o->select & 1)
		o->high[pin] = value & 0xff000000u;
	else
		write_entry(o, pin, value);
}
