/*
 * nic_receive.c -- ordinary frames from a message into a PCnet's receive ring.
 *
 * Source: AMD Am79C970A data sheet, "Receive Operation", "Receive Descriptors", "Logical Address Filter"; IEEE 802.3,
 * clause 3.2.9 (FCS).
 */
#ifndef RF_WORLD	/* as nic_rings.c */

#include <string.h>

#include "hostclock.h"
#include "nic_walk.h"

/* Of RMD1's upper word: by which rule a frame is ours. */
enum { PAM = 0x0040, LAFM = 0x0020, BAM = 0x0010 };

/* ---- the frame check sequence -------------------------------------------------------------- */

enum { CRC_TABLES = 8, CRC_POLYNOMIAL = (int)0xedb88320u };

static uint32_t crc_table[CRC_TABLES][256];

void
nic_receive_init(void)
{
	uint32_t n, k, t;

	for (n = 0; n < 256; n++) {
		uint32_t crc = n;

		for (k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? (uint32_t)CRC_POLYNOMIAL : 0);
		crc_table[0][n] = crc;
	}
	for (t = 1; t < CRC_TABLES; t++)
		for (n = 0; n < 256; n++)
			crc_table[t][n] = crc_table[t - 1][n] >> 8 ^ crc_table[0][crc_table[t - 1][n] & 0xff];
}

static uint32_t
crc32_of(uint32_t crc, const uint8_t *at, size_t length)
{
	for (; length >= 8; length -= 8, at += 8) {
		uint32_t low, high;

		memcpy(&low, at, 4);
		memcpy(&high, at + 4, 4);
		low ^= crc;
		crc = crc_table[7][low & 0xff] ^ crc_table[6][low >> 8 & 0xff] ^ crc_table[5][low >> 16 & 0xff] ^
		    crc_table[4][low >> 24] ^ crc_table[3][high & 0xff] ^ crc_table[2][high >> 8 & 0xff] ^
		    crc_table[1][high >> 16 & 0xff] ^ crc_table[0][high >> 24];
	}
	for (; length; length--)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *at++) & 0xff];
	return crc;
}

/* ---- reception ----------------------------------------------------------------------------- */

/* By which rules a frame is ours, as the upper word of RMD1 says it.  0 in *ours: it is not. */
static uint32_t
match(const struct nic_plan *p, const uint8_t *frame, uint32_t *ours)
{
	static const uint8_t everybody[ADDRESS_BYTES] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	uint32_t found = 0;

	if (!memcmp(frame, everybody, ADDRESS_BYTES)) {
		if (p->accepts & NIC_BROADCAST)
			found = BAM;
		else if (p->hashes >> (crc32_of(~0u, frame, ADDRESS_BYTES) >> 26) & 1)
			found = LAFM;
	} else if (frame[0] & 1 && p->hashes >> (crc32_of(~0u, frame, ADDRESS_BYTES) >> 26) & 1) {
		found = LAFM;
	}
	if (p->accepts & NIC_UNICAST && !memcmp(frame, p->address, ADDRESS_BYTES))
		found |= PAM;
	*ours = found || p->accepts & NIC_ALL;
	return found;
}

/* A frame into the ring.  STRANGE: the device must do it. */
static enum taken
store(struct nic_hall *h, uint32_t number, const uint8_t *frame, uint32_t length)
{
	struct nic_plan *p = &h->nic[number].plan;
	const uint32_t whole = (length < FRAME_MIN ? FRAME_MIN : length) + FCS_BYTES;
	struct descriptor d;
	uint32_t ours, how, crc;
	uint8_t *to;

	if (length < FRAME_LEAST || length > FRAME_MAX)
		return STRANGE;
	how = match(p, frame, &ours);
	if (!ours) {
		p->filtered++;
		return TAKEN;
	}
	d = descriptor_at(h, p, &p->receive, p->receive.at);
	if (!d.at)
		return STRANGE;
	p->receive.seen = d.seen;
	if (!(d.status & OWN))
		return FULL;
	to = whole <= d.length ? ram_at(h, d.address, whole) : NULL;
	if (!to)
		return STRANGE;
	memcpy(to, frame, length);
	if (length < FRAME_MIN)
		memset(to + length, 0, FRAME_MIN - length);
	/* Of what was sent, not of what the guest may have put over it by now. */
	crc = crc32_of(~0u, frame, length);
	for (; length < FRAME_MIN; length++)
		crc = crc >> 8 ^ crc_table[0][crc & 0xff];
	crc = ~crc;
	memcpy(to + whole - FCS_BYTES, &crc, FCS_BYTES);
	stored(h, d.address, whole);
	write_misc(&d, p, whole);
	give_back(&d, how | STP | ENP);
	stored(h, d.gpa, DESCRIPTOR);
	p->receive.at = after(&p->receive, p->receive.at);
	p->received++;
	p->received_octets += whole;
	return TAKEN;
}

/* Frames were stored: RINT, and TINT for all that was sent. */
static void
tell_received(struct nic_hall *h, uint32_t number)
{
	const uint32_t token = intr_lock(h->i);
	struct nic_front *f = &h->i->nic[number];
	const uint32_t causes = CSR0_RINT | (f->unsaid ? CSR0_TINT : 0);
	uint32_t kicks;

	f->unsaid = 0;
	kicks = nic_tell(h->i, number, causes);
	intr_unlock(h->i, token);
	kick_vcpus(h, kicks);
}

static void
starve(struct nic_hall *h, uint32_t number, uint32_t on)
{
	if (on)
		__atomic_fetch_or(&h->i->nic_starved, 1u << number, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_and(&h->i->nic_starved, ~(1u << number), __ATOMIC_SEQ_CST);
}

/* Frames of the message into the ring, as far as it goes. */
static enum taken
store_some(struct nic_hall *h, uint32_t number)
{
	struct nic *n = &h->nic[number];
	const uint64_t before = n->plan.received;
	enum taken taken = TAKEN;

	while (n->taken < n->filled && taken == TAKEN) {
		const uint8_t *at = n->message + n->taken;
		const uint32_t left = n->filled - n->taken;
		const uint32_t length = left >= LENGTH_BYTES ? (uint32_t)(at[0] | at[1] << 8) : left;

		taken = left < LENGTH_BYTES || length > left - LENGTH_BYTES ? STRANGE :
		    store(h, number, at + LENGTH_BYTES, length);
		if (taken == TAKEN)
			n->taken += LENGTH_BYTES + length;
	}
	if (n->plan.received != before)
		tell_received(h, number);
	if (taken == TAKEN)
		n->filled = n->taken = 0;
	return taken;
}

enum taken
nic_fill(struct nic_hall *h, uint32_t number)
{
	struct nic *n = &h->nic[number];
	enum taken taken;

	if (h->i->nic[number].waits || !may_walk(h, number, NIC_RECEIVE))
		return STRANGE;
	taken = store_some(h, number);
	if (taken == FULL) {
		/* The driver that gives a buffer back now rings, or we see that it did. */
		starve(h, number, 1);
		taken = store_some(h, number);
	}
	if (taken != FULL) {
		starve(h, number, 0);
		n->since = 0;
	} else if (!n->since) {
		n->since = host_ns();
	}
	return taken;
}

void
nic_fed(struct nic_hall *h, uint32_t number)
{
	starve(h, number, 0);
	h->nic[number].since = 0;
}

#endif
