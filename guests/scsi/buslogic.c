/*
 * buslogic.c -- a driver for BusLogic MultiMaster adapters, with 32-bit mailboxes in strict order.
 * [BusLogic MultiMaster SCSI host adapters, technical reference manual]
 */
#include "parts.h"

#define STATUS		0
#define COMMAND		1
#define INTERRUPT	2
#define GEOMETRY	3
#define HARD_RESET	0x80
#define RESET_INTERRUPT	0x20
#define RESET_BUS	0x10
#define DACT		0x80
#define INREQ		0x20
#define HARDY		0x10
#define CMDINV		0x01
#define INTV		0x80
#define INIT_EXTENDED_MAILBOX 0x81
#define STRICT_ROUND_ROBIN 0x8F
#define CCB_FORMAT	0x96
#define EXECUTE_MAILBOX	0x02
#define POLL_BOUND	1000000u

#define BOXES		16
#define ACTION_START	1
#define ACTION_ABORT	2
#define DONE_ABORTED	2
#define DONE_NOT_FOUND	3
#define OPCODE_LIST_RESIDUAL 0x04
#define DIRECTION_IN	0x08
#define DIRECTION_OUT	0x10
#define DIRECTION_NONE	0x18
#define TAG_ENABLE	0x20
#define HOST_SELECTION_TIMEOUT 0x11
#define HOST_RESET	0x22
#define HOST_TARGET_RESET 0x25
#define LIST_BYTES	512

struct box {
	uint32_t ccb;
	uint8_t host, device, reserved, code;
};

struct ccb {
	uint8_t opcode, control, cdb_bytes, sense_bytes;
	uint32_t data_bytes, data;
	uint8_t reserved[2], host, device, target, lun, cdb[12], reserved_1e[2];
	uint32_t reserved_20, sense;
	uint8_t sense_data[24];
};
_Static_assert(sizeof(struct ccb) == 64, "28h bytes, and room for sense data");

static uint16_t io;
static volatile struct box *outgoing, *incoming;
static uint32_t next_out, next_in;
static struct ccb *ccbs;
static struct segment *lists;	/* of {length, address}, the other way round */
static struct request *slots[REQUESTS_MAX];
static uint32_t totals[REQUESTS_MAX];
static volatile bool answered;

static uint8_t
get(uint32_t reg)
{
	return in8((uint16_t)(io + reg));
}

static void
put(uint32_t reg, uint8_t value)
{
	out8((uint16_t)(io + reg), value);
}

static bool
wait_for_status(uint8_t mask, uint8_t value)
{
	uint32_t polls;

	for (polls = 0; polls < POLL_BOUND; polls++)
		if ((get(STATUS) & mask) == value)
			return true;
	return false;
}

static bool
command(const uint8_t *bytes, size_t count)
{
	size_t i;
	bool done;

	if (!wait_for_status(HARDY, HARDY))
		return false;
	for (i = 0; i < count; i++)
		put(COMMAND, bytes[i]);
	done = wait_for_status(HARDY | CMDINV, HARDY);
	put(STATUS, RESET_INTERRUPT);
	return done;
}

static bool
start(const struct adapter *adapter)
{
	struct box *boxes = allocate_pages(1);
	uint32_t base = (uint32_t)boxes;
	const uint8_t mailboxes[] = {
		INIT_EXTENDED_MAILBOX, BOXES, (uint8_t)base, (uint8_t)(base >> 8), (uint8_t)(base >> 16), (uint8_t)(base >> 24),
	};
	static const uint8_t strict[] = { STRICT_ROUND_ROBIN, 1 }, extended[] = { CCB_FORMAT, 1 };

	io = adapter->io;
	next_out = next_in = 0;
	outgoing = boxes;
	incoming = boxes + BOXES;
	ccbs = allocate_pages(1);
	lists = allocate_pages(REQUESTS_MAX * LIST_BYTES / PAGE_SIZE);
	put(STATUS, HARD_RESET);
	if (!wait_for_status(DACT, DACT) || !wait_for_status(DACT | HARDY | INREQ, HARDY | INREQ))
		return false;
	return command(mailboxes, sizeof mailboxes) && command(strict, 2) && command(extended, 2) &&
	    wait_for_status(INREQ, 0);
}

static void
send(const struct ccb *ccb, uint8_t action)
{
	volatile struct box *box = &outgoing[next_out];

	box->ccb = (uint32_t)ccb;
	box->code = action;
	next_out = (next_out + 1) % BOXES;
	put(COMMAND, EXECUTE_MAILBOX);
}

static void
send_request(struct request *request)
{
	struct ccb *ccb;
	struct segment *list;
	uint32_t slot = 0, i;

	while (slots[slot])
		slot++;
	slots[slot] = request;
	request->outcome = OUTCOME_PENDING;
	ccb = &ccbs[slot];
	list = lists + slot * LIST_BYTES / sizeof *list;
	memset(ccb, 0, sizeof *ccb);
	totals[slot] = 0;
	for (i = 0; i < request->segment_count; i++) {
		list[i] = (struct segment){ request->segments[i].bytes, request->segments[i].base };
		totals[slot] += request->segments[i].bytes;
	}
	ccb->opcode = OPCODE_LIST_RESIDUAL;
	ccb->control = (uint8_t)(TAG_ENABLE | (!totals[slot] ? DIRECTION_NONE : request->out ? DIRECTION_OUT : DIRECTION_IN));
	ccb->cdb_bytes = request->cdb_bytes;
	memcpy(ccb->cdb, request->cdb, sizeof ccb->cdb);
	ccb->sense_bytes = SENSE_BYTES;
	ccb->sense = (uint32_t)ccb->sense_data;
	ccb->data_bytes = request->segment_count * 8;
	ccb->data = (uint32_t)list;
	ccb->target = request->target;
	ccb->lun = request->lun;
	send(ccb, ACTION_START);
}

static void
end(struct request *request, uint32_t slot, uint8_t code)
{
	const struct ccb *ccb = &ccbs[slot];

	request->status = ccb->device;
	request->detail = ccb->host;
	request->moved = totals[slot] - (totals[slot] ? ccb->data_bytes : 0);
	memcpy(request->sense, ccb->sense_data, SENSE_BYTES);
	if (code == DONE_ABORTED || ccb->host == HOST_RESET || ccb->host == HOST_TARGET_RESET)
		request->outcome = OUTCOME_ABORTED;
	else if (ccb->host == HOST_SELECTION_TIMEOUT)
		request->outcome = OUTCOME_NO_TARGET;
	else
		request->outcome = ccb->host ? OUTCOME_ERROR : OUTCOME_STATUS;
}

static void
collect(void)
{
	if (get(INTERRUPT) & INTV)
		put(STATUS, RESET_INTERRUPT);
	while (incoming[next_in].code) {
		volatile struct box *box = &incoming[next_in];
		uint32_t slot = (uint32_t)((struct ccb *)box->ccb - ccbs);
		uint8_t code = box->code;

		box->code = 0;
		next_in = (next_in + 1) % BOXES;
		if (code == DONE_NOT_FOUND) {
			answered = true;
		} else if (slot < REQUESTS_MAX && slots[slot]) {
			struct request *request = slots[slot];

			slots[slot] = 0;
			end(request, slot, code);
		}
	}
}

static bool
is_over(const void *argument)
{
	const struct request *request = argument;

	return answered || request->outcome != OUTCOME_PENDING;
}

static bool
abort(struct request *request)
{
	uint32_t slot;

	answered = false;
	for (slot = 0; slot < REQUESTS_MAX; slot++)
		if (slots[slot] == request) {
			send(&ccbs[slot], ACTION_ABORT);
			return wait_until(is_over, request);
		}
	return true;
}

static bool
reset_bus(void)
{
	put(STATUS, RESET_BUS);
	return true;
}

static bool
agrees(const struct adapter *adapter)
{
	const volatile uint8_t *registers = (void *)adapter->memory;

	return registers[STATUS] == get(STATUS) && registers[GEOMETRY] == get(GEOMETRY);
}

const struct driver buslogic = {
	"buslogic", { 0x1040104B, 0 }, start, send_request, collect, abort, reset_bus, agrees,
};
