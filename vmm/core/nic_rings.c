/*
 * nic_rings.c -- frames of the PCnets between their descriptor rings and the VMkernel's sockets, without Python: the
 * threads, and who keeps out of whose way.  nic_transmit.c and nic_receive.c walk.
 *
 * Two threads of the VMX come here: one walks transmit rings when a driver asks (nic_work), one puts what comes into
 * receive rings (nic_listen).  Invariants:
 *
 *   G1  a ring is walked with the front's mutex and not while the front is held: whoever works on the chip has both;
 *       nor while guest time stands still, nor between nic_stop and nic_go;
 *   G2  only what is ordinary is done here: styles 2 and 3, whole frames in RAM of which the wire makes the FCS, a
 *       receive buffer that is large enough.  Anything else is left as it is, at a frame's boundary, for the device;
 *   G3  descriptors and the plan are read once, and every address is looked up: a guest or a world that writes nonsense
 *       there harms nobody else;
 *   G4  frames leave in the ring's order, and reach it in the socket's.  While frames wait in the device (`waits`), what
 *       comes goes there too;
 *   G5  a descriptor is handed over after its frame: the status is stored last, and stamps move after all stores.
 *
 * Lock order: a front's mutex, then the lock of the interrupt page.
 *
 * Source: AMD Am79C970A data sheet (publication 19436), "Buffer Management Unit", "Receive Descriptors", "Transmit
 * Descriptors", "Logical Address Filter"; IEEE 802.3, clause 3.2.9 (FCS); Linux, unix(7), eventfd(2), futex(2).
 */
#ifndef RF_WORLD	/* a world has no sockets */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostclock.h"
#include "nic_walk.h"

#define WAIT_BUSY_NS 2000000u		/* after which TINT tells of what was sent */
#define WAIT_IDLE_NS 32000000u		/* the chip looks at its ring unasked */
#define STARVED_MS 2
#define STUCK_NS 1000000000u		/* a driver that gives no buffer back for so long: the device counts what is lost.  On a busy
					 * host a guest may not run at all for some tenths of that. */

/* ---- the two threads ----------------------------------------------------------------------- */

static void
wake_listener(const struct nic_hall *h)
{
	const uint64_t one = 1;

	if (write(h->wake, &one, sizeof one) < 0)
		return;		/* it is full: it wakes anyway */
}

/* A ring has room again. */
static void
feed(struct nic_hall *h, uint32_t number)
{
	struct nic *n = &h->nic[number];

	if (n->filled && !n->deaf && nic_fill(h, number) != FULL)
		wake_listener(h);
}

uint32_t
nic_work(struct nic_hall *h)
{
	uint64_t wait = WAIT_BUSY_NS;

	for (;;) {
		const uint32_t bell = __atomic_load_n(&h->i->nic_bell, __ATOMIC_SEQ_CST);
		uint32_t number, need = 0, busy = 0;

		if (__atomic_load_n(&h->ending, __ATOMIC_SEQ_CST))
			return 0;
		for (number = 0; number < RF_NICS; number++) {
			pthread_mutex_lock(&h->nic[number].mutex);
			need |= nic_transmit(h, number, &busy);
			if (__atomic_load_n(&h->i->nic_starved, __ATOMIC_SEQ_CST) >> number & 1)
				feed(h, number);
			pthread_mutex_unlock(&h->nic[number].mutex);
		}
		if (need)
			return need;
		wait = busy ? WAIT_BUSY_NS : wait < WAIT_IDLE_NS ? 2 * wait : WAIT_IDLE_NS;
		__atomic_store_n(&h->i->nic_sleeps, 1, __ATOMIC_SEQ_CST);
		if (sys_futex_wait(&h->i->nic_bell, bell, wait) == -ETIMEDOUT) {
			for (number = 0; number < RF_NICS; number++) {
				pthread_mutex_lock(&h->nic[number].mutex);
				nic_sent_for_long(h, number);
				pthread_mutex_unlock(&h->nic[number].mutex);
			}
		} else {
			wait = WAIT_BUSY_NS;
		}
		__atomic_store_n(&h->i->nic_sleeps, 0, __ATOMIC_SEQ_CST);
	}
}

/* The rest of a message, as one, for the device. */
static void
hand_over(struct nic_hall *h, uint32_t number, struct nic_word *word)
{
	struct nic *n = &h->nic[number];

	if (n->taken > 1) {
		memmove(n->message + 1, n->message + n->taken, n->filled - n->taken);
		n->filled -= n->taken - 1;
	}
	nic_fed(h, number);
	n->deaf = 1;
	*word = (struct nic_word){ NIC_MESSAGE, number, n->filled, 0, n->message };
}

/* A message from a socket.  1: *word says what the device must do. */
static uint32_t
hear(struct nic_hall *h, uint32_t number, int32_t fd, struct nic_word *word)
{
	struct nic *n = &h->nic[number];
	int64_t length;

	if (n->fd != fd || n->filled)
		return 0;
	length = recv(fd, n->message, sizeof n->message, MSG_DONTWAIT);
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (length <= 0 || length > MESSAGE_MAX) {
		n->fd = -1;
		*word = (struct nic_word){ NIC_CLOSED, number, 0, 0, NULL };
		return 1;
	}
	n->filled = (uint32_t)length;
	n->taken = 1;
	if (n->message[0] == KIND_FRAMES && nic_fill(h, number) != STRANGE)
		return 0;
	hand_over(h, number, word);
	return 1;
}

/* Is there a message that the ring does not take?  1: *word says so. */
static uint32_t
look_at_waiting(struct nic_hall *h, uint32_t number, struct nic_word *word)
{
	struct nic *n = &h->nic[number];

	if (!n->filled)
		return 0;
	if (nic_fill(h, number) != STRANGE && (!n->since || host_ns() - n->since < STUCK_NS))
		return 0;
	hand_over(h, number, word);
	return 1;
}

static void
has_read(struct nic_hall *h)
{
	uint32_t number;

	for (number = 0; number < RF_NICS; number++) {
		struct nic *n = &h->nic[number];

		pthread_mutex_lock(&n->mutex);
		if (n->deaf)
			n->deaf = n->filled = n->taken = 0;
		pthread_mutex_unlock(&n->mutex);
	}
}

void
nic_listen(struct nic_hall *h, struct nic_word *word)
{
	has_read(h);
	for (;;) {
		struct pollfd watch[1 + RF_NICS] = { { h->wake, POLLIN, 0 } };
		uint32_t owner[1 + RF_NICS], count = 1, starved = 0, number, n;
		uint64_t rung;

		for (number = 0; number < RF_NICS; number++) {
			struct nic *one = &h->nic[number];
			uint32_t told;

			pthread_mutex_lock(&one->mutex);
			told = look_at_waiting(h, number, word);
			if (one->filled) {
				starved = 1;
			} else if (one->fd >= 0) {
				owner[count] = number;
				watch[count++] = (struct pollfd){ one->fd, POLLIN, 0 };
			}
			pthread_mutex_unlock(&one->mutex);
			if (told)
				return;
		}
		if (__atomic_load_n(&h->ending, __ATOMIC_SEQ_CST)) {
			*word = (struct nic_word){ NIC_ENDING, 0, 0, 0, NULL };
			return;
		}
		if (poll(watch, count, starved ? STARVED_MS : -1) < 0)
			continue;
		if (watch[0].revents && read(h->wake, &rung, sizeof rung) < 0)
			continue;
		for (n = 1; n < count; n++) {
			uint32_t told = 0;

			if (!watch[n].revents)
				continue;
			pthread_mutex_lock(&h->nic[owner[n]].mutex);
			told = hear(h, owner[n], watch[n].fd, word);
			pthread_mutex_unlock(&h->nic[owner[n]].mutex);
			if (told)
				return;
		}
	}
}

/* ---- for the VMX --------------------------------------------------------------------------- */

struct nic_hall *
nic_hall_new(struct interrupts *i, struct machine *m, uint8_t *ram, struct control *const *ctl, uint32_t vcpus)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct nic_hall *h = calloc(1, sizeof *h);
	uint32_t n;

	if (!h)
		return NULL;
	pthread_once(&once, nic_receive_init);
	h->i = i;
	h->m = m;
	h->ram = ram;
	h->vcpus = vcpus < RF_VCPUS ? vcpus : RF_VCPUS;
	for (n = 0; n < h->vcpus; n++)
		h->ctl[n] = ctl[n];
	h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (h->wake < 0) {
		free(h);
		return NULL;
	}
	for (n = 0; n < RF_NICS; n++) {
		pthread_mutex_init(&h->nic[n].mutex, NULL);
		h->nic[n].fd = -1;
	}
	return h;
}

void
nic_hall_free(struct nic_hall *h)
{
	uint32_t n;

	for (n = 0; n < RF_NICS; n++)
		pthread_mutex_destroy(&h->nic[n].mutex);
	close(h->wake);
	free(h);
}

struct nic_plan *
nic_plan_of(struct nic_hall *h, uint32_t number)
{
	return &h->nic[number % RF_NICS].plan;
}

void
nic_enter(struct nic_hall *h, uint32_t number)
{
	pthread_mutex_lock(&h->nic[number % RF_NICS].mutex);
	nic_hold(h->i, number);
}

uint32_t
nic_leave(struct nic_hall *h, uint32_t number)
{
	const uint32_t kicks = nic_give(h->i, number);
	const struct nic_front *f = &h->i->nic[number % RF_NICS];
	struct nic *n = &h->nic[number % RF_NICS];
	const uint32_t asked = f->rings & NIC_TRANSMIT && f->csr0 & CSR0_TDMD && !n->plan.full;

	/* A frame that only the device can send and that has no room would be ours and its own by turns until there is some. */
	n->lent = (n->lent & LENT_ROOM) | (f->rings & NIC_TRANSMIT && n->plan.full ? LENT_ROOM : 0);
	pthread_mutex_unlock(&n->mutex);
	if (asked)
		nic_ring(h->i);
	return kicks;
}

void
nic_stop(struct nic_hall *h)
{
	uint32_t n;

	__atomic_fetch_add(&h->stopped, 1, __ATOMIC_SEQ_CST);
	for (n = 0; n < RF_NICS; n++) {
		pthread_mutex_lock(&h->nic[n].mutex);
		pthread_mutex_unlock(&h->nic[n].mutex);
	}
}

void
nic_go(struct nic_hall *h)
{
	__atomic_fetch_sub(&h->stopped, 1, __ATOMIC_SEQ_CST);
	nic_ring(h->i);
}

void
nic_wire(struct nic_hall *h, uint32_t number, int32_t fd)
{
	struct nic *n = &h->nic[number % RF_NICS];

	pthread_mutex_lock(&n->mutex);
	n->fd = fd;
	n->lent &= ~(uint32_t)LENT_ROOM;
	if (!n->deaf) {
		n->filled = n->taken = 0;
		nic_fed(h, number % RF_NICS);
	}
	pthread_mutex_unlock(&n->mutex);
	wake_listener(h);
	nic_ring(h->i);
}

void
nic_ready(struct nic_hall *h, uint32_t number)
{
	struct nic *n = &h->nic[number % RF_NICS];

	pthread_mutex_lock(&n->mutex);
	n->lent &= ~(uint32_t)LENT_ROOM;
	pthread_mutex_unlock(&n->mutex);
	nic_ring(h->i);
}

void
nic_end(struct nic_hall *h)
{
	__atomic_store_n(&h->ending, 1, __ATOMIC_SEQ_CST);
	wake_listener(h);
	nic_ring(h->i);
}

#endif
