/*
 * nic_transmit.c -- ordinary frames from a PCnet's transmit ring into a socket, and what its driver is told of them.
 *
 * Source: AMD Am79C970A data sheet, "Transmit Operation", "Transmit Descriptors"; Linux, unix(7).
 */
#ifndef RF_WORLD	/* a world has no sockets */

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "nic_walk.h"

enum {
	PARTS_MAX = 16,			/* descriptors of a frame */
	LONGEST = 9018,			/* of a frame that a message may have */
	BURST = 32,			/* frames of one message */
	BURST_BYTES = 32 << 10,
	LOOKS = 8,			/* messages before others have their turn */
	TOGETHER_MAX = 16,		/* frames of which one TINT tells */
	PROMPT = 16			/* and so many are told of at once after one that was waited for */
};

enum {
	DEF = 0x0400,
	WRITTEN = 0xdc80		/* OWN, ERR, MORE, ONE, DEF, BPE: by the controller, at a frame's end */
};

/* ---- what the driver is told --------------------------------------------------------------- */

static uint32_t
set_tdmd(struct nic_hall *h, uint32_t number, uint32_t on)
{
	const uint32_t token = intr_lock(h->i);
	struct nic_front *f = &h->i->nic[number];
	const uint32_t was = f->csr0 & CSR0_TDMD;

	f->csr0 = (f->csr0 & ~(uint32_t)CSR0_TDMD) | (on ? CSR0_TDMD : 0);
	intr_unlock(h->i, token);
	return was;
}

/* TINT, now or together with other frames: pcnet_transmit.py.  `causes`: what else there is to tell, now. */
static void
tell_sent(struct nic_hall *h, uint32_t number, uint32_t frames, uint32_t causes)
{
	struct nic_plan *p = &h->nic[number].plan;
	const uint32_t token = intr_lock(h->i);
	struct nic_front *f = &h->i->nic[number];
	const uint32_t half = p->transmit.length / 2, limit = half < TOGETHER_MAX ? half : TOGETHER_MAX;
	uint32_t now = p->prompt > 0, kicks = 0;

	f->unsaid += frames;
	p->prompt -= p->prompt < frames ? p->prompt : frames;
	if (now || f->unsaid >= limit) {
		f->unsaid = 0;
		causes |= CSR0_TINT;
	}
	if (causes)
		kicks = nic_tell(h->i, number, causes);
	intr_unlock(h->i, token);
	kick_vcpus(h, kicks);
}

/* A driver that waits after each of them is told at once from here on. */
void
nic_sent_for_long(struct nic_hall *h, uint32_t number)
{
	const uint32_t token = intr_lock(h->i);
	struct nic_front *f = &h->i->nic[number];
	uint32_t kicks = 0;

	if (f->unsaid && may_walk(h, number, NIC_TRANSMIT)) {
		if (f->unsaid == 1)
			h->nic[number].plan.prompt = PROMPT;
		f->unsaid = 0;
		kicks = nic_tell(h->i, number, CSR0_TINT);
	}
	intr_unlock(h->i, token);
	kick_vcpus(h, kicks);
}

/* ---- gathering and sending ----------------------------------------------------------------- */

/* Frames of one message, as they are gathered. */
struct burst {
	struct iovec piece[1 + BURST * (1 + PARTS_MAX + 1)];
	uint8_t length[BURST][LENGTH_BYTES];
	struct descriptor part[BURST * PARTS_MAX];
	uint32_t ends[BURST];	/* parts up to the end of each frame */
	uint32_t frames, pieces, parts, bytes, babble;
};

enum found { FOUND_FRAME, FOUND_NOTHING, FOUND_STRANGE };

static void
add_piece(struct burst *b, const void *at, size_t length)
{
	b->piece[b->pieces++] = (struct iovec){ (void *)(uintptr_t)at, length };
}

/* The frame that begins with a descriptor.  Nothing is added where it is not ordinary. */
static enum found
gather(const struct nic_hall *h, const struct nic_plan *p, uint32_t *at, struct burst *b)
{
	static const uint8_t padding[FRAME_MIN];
	const uint32_t pieces = b->pieces, parts = b->parts;
	uint32_t index = *at, length = 0, count;

	add_piece(b, b->length[b->frames], LENGTH_BYTES);
	for (count = 1; count <= PARTS_MAX && b->parts < p->transmit.length; count++) {
		const struct descriptor d = descriptor_at(h, p, &p->transmit, index);
		const uint8_t *bytes = d.at && d.status & OWN ? ram_at(h, d.address, d.length) : NULL;

		if (count == 1 && d.at && !(d.status & OWN)) {
			b->pieces = pieces;
			return FOUND_NOTHING;
		}
		if (!bytes || (count == 1) != !!(d.status & STP))
			break;
		b->part[b->parts++] = d;
		add_piece(b, bytes, d.length);
		length += d.length;
		index = after(&p->transmit, index);
		if (!(d.status & ENP))
			continue;
		if (length > LONGEST)
			break;
		if (length > FRAME_MAX)
			b->babble = CSR0_BABL;
		if (length < FRAME_MIN && p->pads) {
			add_piece(b, padding, FRAME_MIN - length);
			length = FRAME_MIN;
		}
		b->length[b->frames][0] = (uint8_t)length;
		b->length[b->frames][1] = (uint8_t)(length >> 8);
		b->ends[b->frames++] = b->parts;
		b->bytes += length;
		*at = index;
		return FOUND_FRAME;
	}
	b->pieces = pieces;
	b->parts = parts;
	return FOUND_STRANGE;
}

/* Onto the cable: 0 when the socket is full.  What nobody is there to take is lost, as on a wire. */
static uint32_t
send_burst(int32_t fd, struct burst *b)
{
	const struct msghdr message = { .msg_iov = b->piece, .msg_iovlen = b->pieces };

	while (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EINTR)
			continue;
		return errno != EAGAIN && errno != ENOBUFS;
	}
	return 1;
}

/* Descriptors of frames that were sent are the driver's again. */
static void
give_back_all(const struct nic_hall *h, struct nic_plan *p, const struct burst *b)
{
	uint32_t frame, part = 0;

	for (frame = 0; frame < b->frames; frame++) {
		for (; part + 1 < b->ends[frame]; part++)
			give_back(&b->part[part], b->part[part].status & ~(uint32_t)OWN);
		write_misc(&b->part[part], p, 0);
		give_back(&b->part[part], (b->part[part].status & ~(uint32_t)WRITTEN) | (p->deferred ? DEF : 0));
		p->deferred = 0;
		part++;
	}
	for (part = 0; part < b->parts; part++)
		if (!part || b->part[part].gpa >> PAGE_SHIFT != b->part[part - 1].gpa >> PAGE_SHIFT)
			stored(h, b->part[part].gpa, DESCRIPTOR);
}

/* One message.  What ended the look at the ring; FOUND_FRAME: there may be more. */
static enum found
send_some(struct nic_hall *h, uint32_t number, uint32_t *full)
{
	static const uint8_t kind = KIND_FRAMES;
	struct nic *n = &h->nic[number];
	struct nic_plan *p = &n->plan;
	enum found found = FOUND_FRAME;
	struct burst b;
	uint32_t at = p->transmit.at;

	b.frames = b.pieces = b.parts = b.bytes = b.babble = 0;
	add_piece(&b, &kind, sizeof kind);
	/* Once around at most: what was gathered still looks like the driver's last word. */
	while (found == FOUND_FRAME && b.frames < BURST && b.bytes < BURST_BYTES && b.parts < p->transmit.length)
		found = gather(h, p, &at, &b);
	if (!b.frames)
		return found;
	if (found == FOUND_STRANGE)
		found = FOUND_FRAME;	/* the next look tells whether it is, or whether the ring was all read */
	if (!send_burst(n->fd, &b)) {
		p->deferred = 1;
		p->refused++;
		*full = 1;
		return FOUND_NOTHING;
	}
	give_back_all(h, p, &b);
	p->transmit.at = at;
	p->transmit.seen = b.part[b.parts - 1].seen;
	p->sent += b.frames;
	p->sent_octets += b.bytes;
	tell_sent(h, number, b.frames, b.babble);
	return found;
}

uint32_t
nic_transmit(struct nic_hall *h, uint32_t number, uint32_t *busy)
{
	struct nic *n = &h->nic[number];
	const uint64_t before = n->plan.sent;
	uint32_t looks, full = 0, asked;
	enum found found = FOUND_FRAME;

	if (n->lent || !may_walk(h, number, NIC_TRANSMIT))
		return 0;
	asked = set_tdmd(h, number, 0);
	if (n->fd < 0)
		found = asked ? FOUND_STRANGE : FOUND_NOTHING;
	for (looks = 0; looks < LOOKS && found == FOUND_FRAME; looks++)
		found = send_some(h, number, &full);
	*busy |= n->plan.sent != before || found == FOUND_FRAME;
	if (full || found == FOUND_STRANGE)
		set_tdmd(h, number, 1);
	if (found == FOUND_FRAME)
		nic_ring(h->i);
	n->lent = (found == FOUND_STRANGE ? LENT_DEVICE : 0) | (full ? LENT_ROOM : 0);
	return (n->lent & LENT_DEVICE ? 1u << number : 0) | (n->lent & LENT_ROOM ? 0x100u << number : 0);
}

#endif
