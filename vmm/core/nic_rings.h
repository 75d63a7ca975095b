/*
 * nic_rings.h -- the frames of a machine's PCnets, between their descriptor rings and the sockets that they are
 * plugged into: what the VMX sees of nic_rings.c.  Like core.h: plain structs, enums and prototypes only.
 */
#ifndef RF_NIC_RINGS_H
#define RF_NIC_RINGS_H

#include "core.h"
#include "interrupts.h"

/* What a PCnet receives, besides groups by their hashes. */
enum nic_accepts { NIC_UNICAST = 1, NIC_BROADCAST = 2, NIC_ALL = 4 };

struct nic_ring {
	uint32_t base;		/* guest physical, aligned to a descriptor */
	uint32_t length;	/* descriptors of 16 bytes */
	uint32_t at;		/* the next one */
	uint32_t seen;		/* byte count and status of the one that was looked at last, as they are in memory */
};

/* What the device says of its rings; it may be changed while the front is held. */
struct nic_plan {
	uint32_t exchanged;	/* software style 3, not 2 */
	uint32_t pads;		/* APAD_XMT */
	uint32_t accepts;	/* enum nic_accepts */
	uint32_t prompt;	/* of so many more frames that are sent TINT tells at once */
	uint32_t deferred;	/* the frame at the transmit ring's position had to wait */
	uint32_t full;		/* the device was refused a frame while it held the front: nic_ready follows */
	struct nic_ring transmit;
	struct nic_ring receive;
	uint64_t hashes;	/* the logical address filter */
	uint8_t address[8];	/* the station's; the last two are 0 */
	uint64_t sent;		/* counters from here on: frames, and bytes without FCS, or with it when received */
	uint64_t sent_octets;
	uint64_t refused;
	uint64_t received;
	uint64_t received_octets;
	uint64_t filtered;
};

/* Why nic_listen came back. */
enum nic_heard {
	NIC_ENDING,		/* nic_end */
	NIC_MESSAGE,		/* for the device: `message` has it until the next call */
	NIC_CLOSED		/* nobody is at the other end, or nonsense came */
};

struct nic_word {
	uint32_t heard;		/* enum nic_heard */
	uint32_t number;	/* the front */
	uint32_t length;
	uint32_t reserved;
	const uint8_t *message;
};

struct nic_hall;

/* Of one machine; NULL: no memory, or no descriptor.  Everything must outlive it. */
struct nic_hall *nic_hall_new(struct interrupts *i, struct machine *m, uint8_t *ram, struct control *const *ctl, uint32_t vcpus);
/* After nic_end, with nobody left in nic_work and nic_listen. */
void nic_hall_free(struct nic_hall *h);

struct nic_plan *nic_plan_of(struct nic_hall *h, uint32_t number);
/* nic_hold and nic_give for whoever may meet the walker: he waits until it has put everything down. */
void nic_enter(struct nic_hall *h, uint32_t number);
uint32_t nic_leave(struct nic_hall *h, uint32_t number);

/* No ring is walked between the two, which may be nested: memory or the machine's state is changed or copied. */
void nic_stop(struct nic_hall *h);
void nic_go(struct nic_hall *h);

/* Frames go to this SOCK_SEQPACKET socket and come from it; -1: nowhere, and the old one is not used any more. */
void nic_wire(struct nic_hall *h, uint32_t number, int32_t fd);
/* A socket that was full has room again. */
void nic_ready(struct nic_hall *h, uint32_t number);

/*
 * Walk transmit rings whenever the bell rings, and now and then.  Comes back with a bit for each front whose ring needs
 * the device (bits 0 to 7), or whose socket is full (bits 8 to 15); or with 0 after nic_end.
 */
uint32_t nic_work(struct nic_hall *h);
/* Take what comes from the sockets, and put it into receive rings. */
void nic_listen(struct nic_hall *h, struct nic_word *word);
void nic_end(struct nic_hall *h);

#endif
