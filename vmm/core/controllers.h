/*
 * controllers.h -- contracts between the files that work on struct interrupts.
 *
 * Functions here expect `lock` to be held.  They change registers and inputs; what follows
 * from those (INTR, vCPU events) is recomputed by intr_sync, which ends every entry point.
 */
#ifndef RF_CONTROLLERS_H
#define RF_CONTROLLERS_H

#include <stddef.h>
#include <stdint.h>

#include "hostclock.h"
#include "interrupts.h"
#include "sysraw.h"

#define NEVER UINT64_MAX

/* Late timer interrupts that are kept for delivery; more are counted as lost.  4 s at 1 kHz. */
#define BACKLOG_MAX 4096u

enum { MASTER, SLAVE, CASCADE = 2 };
enum irq { IRQ_PIT = 0, IRQ_RTC = 8, IRQ_SCI = 9 };

/* ISA IRQ 0 is wired to pin 2 of the I/O APIC; pin 0 gets INTR of the 8259 pair. */
enum ioapic_pin { PIN_INTR = 0, PIN_PIT = 2, PIN_PCI = 16 };

/* Beside enum intr_event in events[]: where an external interrupt was seen to come from. */
enum event_source { EV_PIC = 0x100, EV_SLAVE = 0x200 };

#define APIC_ENABLE (1u << 11)	/* of MSR 1Bh */

enum delivery_mode {
	DM_FIXED, DM_LOWEST, DM_SMI, DM_RESERVED, DM_NMI, DM_INIT, DM_STARTUP, DM_EXTINT
};

/* Bits that LVT entries, the ICR and redirection entries have in common. */
enum {
	ENTRY_VECTOR = 0xff, ENTRY_MODE = 0x700, ENTRY_MODE_SHIFT = 8, ENTRY_LOGICAL = 1 << 11,
	ENTRY_LOW_ACTIVE = 1 << 13, ENTRY_REMOTE_IRR = 1 << 14, ENTRY_LEVEL = 1 << 15, ENTRY_MASKED = 1 << 16
};

static inline uint32_t
entry_mode(uint32_t entry)
{
	return (entry & ENTRY_MODE) >> ENTRY_MODE_SHIFT;
}

static inline void
zero_bytes(void *at, size_t bytes)
{
	uint8_t *byte = at;

	/* The barrier keeps the compiler from calling memset, which worlds do not have. */
	for (; bytes; bytes--) {
		*byte++ = 0;
		__asm__ volatile("" : : : "memory");
	}
}

/* Whole periods of 1 / hz in ns of guest time.  Exact, without 128-bit division: hz < 2^34. */
static inline uint64_t
ns_to_ticks(uint64_t ns, uint64_t hz)
{
	return ns / NS_PER_S * hz + ns % NS_PER_S * hz / NS_PER_S;
}

/* The first ns at which ns_to_ticks gives `ticks`. */
static inline uint64_t
ticks_to_ns(uint64_t ticks, uint64_t hz)
{
	return ticks / hz * NS_PER_S + (ticks % hz * NS_PER_S + hz - 1) / hz;
}

static inline uint32_t
is_set(const uint32_t map[8], uint32_t vector)
{
	return map[vector >> 5 & 7] >> (vector & 31) & 1;
}

static inline void
set_bit(uint32_t map[8], uint32_t vector)
{
	map[vector >> 5 & 7] |= 1u << (vector & 31);
}

static inline void
clear_bit(uint32_t map[8], uint32_t vector)
{
	map[vector >> 5 & 7] &= ~(1u << (vector & 31));
}

/* intr.c */
uint32_t intr_lock(struct interrupts *i);		/* the token that intr_unlock wants */
void intr_unlock(struct interrupts *i, uint32_t token);
uint32_t intr_sync(struct interrupts *i);		/* vCPUs with new events */
uint32_t intr_deadlines(struct interrupts *i);	/* after timers were programmed: vCPUs whose deadline is sooner now */
void wire_update(struct interrupts *i, uint32_t line);	/* an input may have changed: tell both controllers */
uint32_t nic_tell(struct interrupts *i, uint32_t number, uint32_t causes);	/* causes in CSR0: vCPUs to kick */
void nic_ring(struct interrupts *i);		/* the bell; with the lock or without */

/* pic.c */
void pic_reset(struct pic *p);
void pic_set_input(struct pic *p, uint32_t n, uint32_t level);
uint32_t pic_update(struct interrupts *i);		/* cascade; INTR of the master */
uint32_t pic_from_slave(const struct interrupts *i);	/* INTR is on account of the slave */
uint32_t pic_inta(struct interrupts *i);		/* the vector: IR7's when nothing asks */
uint32_t pic_spurious(struct interrupts *i, uint32_t from_slave);
uint32_t pic_read(struct interrupts *i, uint32_t port);
void pic_write(struct interrupts *i, uint32_t port, uint32_t value);

/* pit.c: ports 40h-43h and 61h */
void pit_reset(struct pit *t);
void pit_expire(struct interrupts *i, uint64_t now);
void pit_catch_up(struct interrupts *i);
uint64_t pit_deadline(const struct interrupts *i);
uint32_t pit_read(struct interrupts *i, uint32_t port, uint64_t now);
void pit_write(struct interrupts *i, uint32_t port, uint32_t value, uint64_t now);

/* apic.c */
void lapic_reset(struct lapic *a, uint32_t cpu);	/* power-on or INIT; the timer stops, latches stay */
uint32_t lapic_on(const struct lapic *a);		/* enabled in the MSR and by software */
uint32_t lapic_match(const struct interrupts *i, uint32_t destination, uint32_t logical);	/* mask of vCPUs */
/* Send a message; 1 if some APIC accepted it.  `entry`: vector, mode and trigger as in the ICR. */
uint32_t lapic_message(struct interrupts *i, uint32_t targets, uint32_t entry);
void lapic_lint(struct interrupts *i, uint32_t cpu, uint32_t lvt);	/* the pin went active */
int32_t lapic_request(const struct lapic *a);		/* the vector to deliver now, or -1 */
int32_t lapic_inta(struct lapic *a);
void lapic_expire(struct interrupts *i, uint32_t cpu, uint64_t now);
void lapic_catch_up(struct interrupts *i, uint32_t cpu);
uint32_t lapic_read(struct interrupts *i, uint32_t cpu, uint32_t offset);
void lapic_write(struct interrupts *i, uint32_t cpu, uint32_t offset, uint32_t value);

/* ioapic.c */
void ioapic_reset(struct ioapic *o);
void ioapic_set_pin(struct interrupts *i, uint32_t pin, uint32_t level);
void ioapic_service(struct interrupts *i);		/* level-triggered pins that wait */
void ioapic_eoi(struct interrupts *i, uint32_t vector);
uint32_t ioapic_read(struct interrupts *i, uint32_t offset);
void ioapic_write(struct interrupts *i, uint32_t offset, uint32_t value);

/* clock.c: the RTC's counters and the power-management block */
uint32_t rtc_line(const struct interrupts *i);
void rtc_expire(struct interrupts *i, uint64_t now);
uint64_t rtc_deadline(const struct interrupts *i);
uint32_t pm_line(const struct interrupts *i);
void pm_expire(struct interrupts *i, uint64_t now);
uint64_t pm_deadline(const struct interrupts *i);
uint32_t pm_owned(const struct interrupts *i, uint32_t port);
uint32_t pm_read(struct interrupts *i, uint32_t port, uint64_t now);	/* from `port` to the end of its register */
void pm_write(struct interrupts *i, uint32_t port, uint32_t value, uint64_t now);	/* one byte */

#endif
