/*
 * nic_walk.h -- contracts between the files that walk the PCnets' rings; the invariants are in nic_rings.c.
 *
 * Functions expect the mutex of the front to be held, and not the lock of the interrupt page.
 */
#ifndef RF_NIC_WALK_H
#define RF_NIC_WALK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "controllers.h"
#include "nic_rings.h"

enum {
	DESCRIPTOR = 16, PAGE_SHIFT = 12, COUNT_MASK = 0xfff, COUNT_END = 0x1000,
	ADDRESS_BYTES = 6, FRAME_MIN = 60, FRAME_MAX = 1514, FRAME_LEAST = 14, FCS_BYTES = 4,
	KIND_FRAMES = 3,		/* Kind.FRAMES of the VMkernel's messages */
	MESSAGE_MAX = 64 << 10, LENGTH_BYTES = 2
};

/* Of CSR0, and of the upper word of TMD1 and RMD1. */
enum { CSR0_TDMD = 1 << 3, CSR0_TINT = 1 << 9, CSR0_RINT = 1 << 10, CSR0_BABL = 1 << 14 };
enum { OWN = 0x8000, STP = 0x0200, ENP = 0x0100 };

/* The transmit ring waits: for the device, until nic_leave; for room in the socket, until nic_ready. */
enum lent { LENT_DEVICE = 1, LENT_ROOM = 2 };

struct nic {
	pthread_mutex_t mutex;
	struct nic_plan plan;
	int32_t fd;
	uint32_t lent;		/* enum lent */
	uint32_t deaf;		/* what came was handed to the device, which has not said yet that it read it */
	uint32_t filled, taken;	/* bytes of `message`, and how many of them are in the ring */
	uint64_t since;		/* when the ring was found full */
	uint8_t message[MESSAGE_MAX + 1];
};

struct nic_hall {
	struct interrupts *i;
	struct machine *m;
	uint8_t *ram;
	struct control *ctl[RF_VCPUS];
	uint32_t vcpus, ending, stopped;
	int32_t wake;		/* eventfd: the listener is to look at its sockets anew */
	struct nic nic[RF_NICS];
};

/* ---- guest memory -------------------------------------------------------------------------- */

/* `length` bytes at a guest physical address; NULL: not all of them are plain RAM that is there. */
static inline uint8_t *
ram_at(const struct nic_hall *h, uint64_t gpa, uint32_t length)
{
	const uint64_t *pmap = (const void *)((const uint8_t *)h->m + h->m->pmap);
	const uint64_t first = gpa >> PAGE_SHIFT, last = (gpa + length - 1) >> PAGE_SHIFT;
	uint64_t ppn;
	uint32_t n;

	for (n = 0; n < h->m->slot_count && n < RF_SLOTS; n++) {
		const struct slot *s = &h->m->slots[n];

		if (first < s->first_ppn || first - s->first_ppn >= s->pages)
			continue;
		if (s->kind != SLOT_RAM || s->in_dev || last - s->first_ppn >= s->pages)
			return NULL;
		for (ppn = first; ppn <= last; ppn++)
			if (ppn >= h->m->ram_pages || (pmap[ppn] & 0xff) > PMAP_PRIVATE)
				return NULL;
		return h->ram + gpa;
	}
	return NULL;
}

static inline void
stored(const struct nic_hall *h, uint64_t gpa, uint32_t length)
{
	machine_bump(h->m, gpa >> PAGE_SHIFT, ((gpa + length - 1) >> PAGE_SHIFT) - (gpa >> PAGE_SHIFT) + 1);
}

/* ---- descriptors --------------------------------------------------------------------------- */

struct descriptor {
	uint8_t *at;
	uint64_t gpa;
	uint32_t address, length, status, seen;
};

/* NULL in `at`: there is no memory.  What is read after OWN was seen is the driver's last word. */
static inline struct descriptor
descriptor_at(const struct nic_hall *h, const struct nic_plan *p, const struct nic_ring *r, uint32_t index)
{
	struct descriptor d = { 0 };

	d.gpa = r->base + (uint64_t)index * DESCRIPTOR;
	d.at = ram_at(h, d.gpa, DESCRIPTOR);
	if (!d.at)
		return d;
	d.seen = __atomic_load_n((const uint32_t *)(const void *)(d.at + 4), __ATOMIC_ACQUIRE);
	d.address = __atomic_load_n((const uint32_t *)(const void *)(d.at + (p->exchanged ? 8 : 0)), __ATOMIC_RELAXED);
	d.length = COUNT_END - (d.seen & COUNT_MASK);
	d.status = d.seen >> 16;
	return d;
}

static inline void
write_misc(const struct descriptor *d, const struct nic_plan *p, uint32_t misc)
{
	__atomic_store_n((uint32_t *)(void *)(d->at + (p->exchanged ? 0 : 8)), misc, __ATOMIC_RELAXED);
}

static inline void
give_back(const struct descriptor *d, uint32_t status)
{
	__atomic_store_n((uint16_t *)(void *)(d->at + 6), (uint16_t)status, __ATOMIC_RELEASE);
}

static inline uint32_t
after(const struct nic_ring *r, uint32_t index)
{
	return index + 1 < r->length ? index + 1 : 0;
}

/* ---- walking ------------------------------------------------------------------------------- */

/* May this ring be walked?  With the mutex.  G1 */
static inline uint32_t
may_walk(const struct nic_hall *h, uint32_t number, uint32_t ring)
{
	const struct nic_front *f = &h->i->nic[number];
	const struct nic_ring *r = ring == NIC_TRANSMIT ? &h->nic[number].plan.transmit : &h->nic[number].plan.receive;

	return (f->rings & ring) && f->port && !f->held && !__atomic_load_n(&h->stopped, __ATOMIC_SEQ_CST) &&
	    !__atomic_load_n(&h->i->clock.stunned, __ATOMIC_SEQ_CST) && r->at < r->length;
}

/* vCPUs that must look at their interrupts. */
static inline void
kick_vcpus(const struct nic_hall *h, uint32_t mask)
{
	uint32_t n;

	for (n = 0; n < h->vcpus; n++)
		if (mask >> n & 1)
			control_kick(h->ctl[n], ATTN_INTERRUPT);
}

/* Send what a ring holds: what somebody else must do for it, as nic_work tells.  *busy: it had something. */
uint32_t nic_transmit(struct nic_hall *h, uint32_t number, uint32_t *busy);
/* Nothing has happened since frames were sent: tell of them. */
void nic_sent_for_long(struct nic_hall *h, uint32_t number);

enum taken { TAKEN, FULL, STRANGE };

/* What waits in a message goes into the ring, if it has room.  STRANGE: it is for the device. */
enum taken nic_fill(struct nic_hall *h, uint32_t number);
/* Nothing waits any more. */
void nic_fed(struct nic_hall *h, uint32_t number);
/* Once, before anything is received. */
void nic_receive_init(void);

#endif
