/*
 * lsilogic.c -- a driver for Fusion-MPT controllers: the 53C1030, and the SAS1068, which takes the same messages.
 * [Fusion-MPT Message Passing Interface specification 1.2]
 */
#include "parts.h"

#define DOORBELL	0x00
#define INT_STATUS	0x30
#define INT_MASK	0x34
#define REQUEST_FIFO	0x40
#define REPLY_FIFO	0x44
#define NO_REPLY	0xFFFFFFFFu
#define ADDRESS_REPLY	0x80000000u
#define MASK_DOORBELL	0x01u
#define STATE(doorbell)	((doorbell) >> 28)
#define STATE_READY	1
#define STATE_OPERATIONAL 2
#define MESSAGE_UNIT_RESET 0x40000000u
#define HANDSHAKE	0x42000000u
#define POLL_BOUND	1000000u

#define IOC_INIT	0x02
#define PORT_ENABLE	0x06
#define SCSI_TASK_MGMT	0x01
#define ABORT_TASK	1
#define RESET_BUS	4

#define FRAME_BYTES	128
#define REPLY_BYTES	128
#define REPLY_FRAMES	32
#define CHAIN_BYTES	512
#define SIMPLE_IN_FRAME	9	/* before the chain element */
#define SGE_SIMPLE	0x10000000u
#define SGE_CHAIN	0x30000000u
#define SGE_OUT		0x04000000u
#define SGE_LAST	0x80000000u
#define SGE_END		0xC1000000u	/* of segment, buffer and list */
#define CONTROL_OUT	(1u << 24)
#define CONTROL_IN	(2u << 24)
#define MANAGEMENT	0x80u		/* the message context of a task management request */

#define IOC_SUCCESS	0x0000
#define IOC_NOT_THERE	0x0043
#define IOC_UNDERRUN	0x0045
#define IOC_TERMINATED	0x0048
#define IOC_BUS_RESET	0x004B
#define SENSE_VALID	0x01

struct io_frame {
	uint8_t target, bus, chain_offset, function, cdb_bytes, sense_bytes, reserved, flags;
	uint32_t context;
	uint8_t lun[8];
	uint32_t control;
	uint8_t cdb[CDB_MAX];
	uint32_t data_bytes, sense;
	uint32_t sgl[20];
};
_Static_assert(sizeof(struct io_frame) == FRAME_BYTES, "MPI, SCSI IO request");

struct reply_frame {
	uint8_t target, bus, dwords, function, code, type, reserved, flags;
	uint32_t context;
	uint8_t status, state;
	uint16_t ioc_status;
	uint32_t log, moved, sense_bytes;
};

static uint16_t io;
static struct io_frame *frames;
static uint8_t *chains, *sense;
static struct request *slots[REQUESTS_MAX];
static volatile bool managed;

static uint32_t
get(uint32_t reg)
{
	return in32((uint16_t)(io + reg));
}

static void
put(uint32_t reg, uint32_t value)
{
	out32((uint16_t)(io + reg), value);
}

static bool
wait_for_state(uint32_t state)
{
	uint32_t polls;

	for (polls = 0; polls < POLL_BOUND; polls++)
		if (STATE(get(DOORBELL)) == state)
			return true;
	return false;
}

static bool
wait_for_doorbell(void)
{
	uint32_t polls;

	for (polls = 0; polls < POLL_BOUND; polls++)
		if (get(INT_STATUS) & MASK_DOORBELL)
			return true;
	return false;
}

/* Send a message through the doorbell; the IOC status of its reply, or FFFFh. */
static uint32_t
handshake(const void *message, uint32_t dwords)
{
	const uint32_t *words = message;
	uint32_t i, length = 2, status = 0xFFFF;

	put(INT_STATUS, 0);
	put(DOORBELL, HANDSHAKE | dwords << 16);
	if (!wait_for_doorbell())
		return status;
	put(INT_STATUS, 0);
	for (i = 0; i < dwords; i++)
		put(DOORBELL, words[i]);
	for (i = 0; i < length; i++) {
		uint32_t word;

		if (!wait_for_doorbell())
			return status;
		word = get(DOORBELL) & 0xFFFF;
		put(INT_STATUS, 0);
		if (i == 1)
			length = 2 * (word & 0xFF);
		if (i == 7)
			status = word;
	}
	wait_for_doorbell();
	put(INT_STATUS, 0);
	return status;
}

static bool
start(const struct adapter *adapter)
{
	uint32_t init[6] = { IOC_INIT << 24 | 4, 1 << 16 | TARGETS << 8, 1, REPLY_BYTES, 0, 0 };
	uint32_t enable[3] = { PORT_ENABLE << 24, 0, 2 };
	uint8_t *replies;
	uint32_t i;

	io = adapter->io;
	frames = allocate_pages(1);
	replies = allocate_pages(REPLY_FRAMES * REPLY_BYTES / PAGE_SIZE);
	chains = allocate_pages(REQUESTS_MAX * CHAIN_BYTES / PAGE_SIZE);
	sense = allocate_pages(1);
	put(INT_MASK, 0xFFFFFFFF);
	put(DOORBELL, MESSAGE_UNIT_RESET);
	if (!wait_for_state(STATE_READY))
		return false;
	for (i = 0; i < REPLY_FRAMES; i++)
		put(REPLY_FIFO, (uint32_t)(replies + i * REPLY_BYTES));
	if (handshake(init, 6) != IOC_SUCCESS || handshake(enable, 3) != IOC_SUCCESS)
		return false;
	put(INT_MASK, MASK_DOORBELL);
	return STATE(get(DOORBELL)) == STATE_OPERATIONAL;
}

/* The list: nine elements in the frame and the others in a chain, or as many as fit without one. */
static uint32_t
lay_list(struct io_frame *frame, uint32_t slot, const struct request *request)
{
	uint32_t *at = frame->sgl, *chain = (uint32_t *)(chains + slot * CHAIN_BYTES), i, total = 0;
	uint32_t direction = request->out ? SGE_OUT : 0;

	if (!request->segment_count) {
		at[0] = SGE_SIMPLE | SGE_END;
		at[1] = 0;
	}
	for (i = 0; i < request->segment_count; i++) {
		const struct segment *segment = &request->segments[i];

		if (i == SIMPLE_IN_FRAME && request->segment_count > SIMPLE_IN_FRAME + 1) {
			at[-2] |= SGE_LAST;
			at[0] = SGE_CHAIN | (request->segment_count - i) * 8;
			at[1] = (uint32_t)chain;
			frame->chain_offset = (uint8_t)(at - (uint32_t *)frame);
			at = chain;
		}
		at[0] = SGE_SIMPLE | direction | segment->bytes | (i + 1 == request->segment_count ? SGE_END : 0);
		at[1] = segment->base;
		at += 2;
		total += segment->bytes;
	}
	return total;
}

static void
send_request(struct request *request)
{
	struct io_frame *frame;
	uint32_t slot = 0;

	while (slots[slot])
		slot++;
	slots[slot] = request;
	request->outcome = OUTCOME_PENDING;
	frame = &frames[slot];
	memset(frame, 0, sizeof *frame);
	frame->target = request->target;
	frame->lun[1] = request->lun;
	frame->context = slot;
	frame->cdb_bytes = request->cdb_bytes;
	memcpy(frame->cdb, request->cdb, sizeof frame->cdb);
	frame->sense_bytes = SENSE_BYTES;
	frame->sense = (uint32_t)(sense + slot * 32);
	frame->data_bytes = lay_list(frame, slot, request);
	frame->control = !frame->data_bytes ? 0 : request->out ? CONTROL_OUT : CONTROL_IN;
	put(REQUEST_FIFO, (uint32_t)frame);
}

static void
end(struct request *request, uint32_t slot, const volatile struct reply_frame *reply)
{
	request->status = reply->status;
	request->moved = reply->moved;
	request->detail = reply->ioc_status;
	if (reply->state & SENSE_VALID)
		memcpy(request->sense, sense + slot * 32, SENSE_BYTES);
	switch (reply->ioc_status) {
	case IOC_SUCCESS:
	case IOC_UNDERRUN:
		request->outcome = OUTCOME_STATUS;
		break;
	case IOC_NOT_THERE:
		request->outcome = OUTCOME_NO_TARGET;
		break;
	case IOC_TERMINATED:
	case IOC_BUS_RESET:
		request->outcome = OUTCOME_ABORTED;
		break;
	default:
		request->outcome = OUTCOME_ERROR;
	}
}

static void
collect(void)
{
	uint32_t word;

	while ((word = get(REPLY_FIFO)) != NO_REPLY) {
		const volatile struct reply_frame *reply = (void *)(word << 1);
		uint32_t slot = word & ADDRESS_REPLY ? reply->context : word;

		if (slot == MANAGEMENT)
			managed = true;
		else if (slot < REQUESTS_MAX && slots[slot]) {
			struct request *request = slots[slot];

			slots[slot] = 0;
			if (word & ADDRESS_REPLY) {
				end(request, slot, reply);
			} else {
				request->status = 0;
				request->moved = frames[slot].data_bytes;
				request->outcome = OUTCOME_STATUS;
			}
		}
		if (word & ADDRESS_REPLY)
			put(REPLY_FIFO, word << 1);
	}
}

static bool
is_managed(const void *unused)
{
	(void)unused;
	return managed;
}

static bool
manage(uint8_t type, uint8_t target, uint32_t task)
{
	uint32_t *frame = (uint32_t *)&frames[REQUESTS_MAX];

	memset(frame, 0, FRAME_BYTES);
	frame[0] = SCSI_TASK_MGMT << 24 | target;
	frame[1] = (uint32_t)type << 8;
	frame[2] = MANAGEMENT;
	frame[12] = task;
	managed = false;
	put(REQUEST_FIFO, (uint32_t)frame);
	return wait_until(is_managed, 0);
}

static bool
abort(struct request *request)
{
	uint32_t slot;

	for (slot = 0; slot < REQUESTS_MAX; slot++)
		if (slots[slot] == request)
			return manage(ABORT_TASK, request->target, slot);
	return true;
}

static bool
reset_bus(void)
{
	return manage(RESET_BUS, 0, 0);
}

static bool
agrees(const struct adapter *adapter)
{
	const volatile uint32_t *doorbell = (void *)adapter->memory;

	return *doorbell == in32(adapter->io);
}

const struct driver lsilogic = {
	"lsilogic", { 0x00301000, 0x00541000 }, start, send_request, collect, abort, reset_bus, agrees,
};
