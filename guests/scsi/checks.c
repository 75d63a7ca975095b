/*
 * checks.c -- what an adapter and the first disk behind it must do.  [SPC-3 and SBC-2; SAM-2]
 *
 * The disk's last blocks are written to, and have their own content again at the end.
 */
#include "parts.h"

#define TEST_UNIT_READY	0x00
#define INQUIRY		0x12
#define READ_CAPACITY	0x25
#define READ_10		0x28
#define WRITE_10	0x2A
#define CHECK_CONDITION	0x02
#define ILLEGAL_REQUEST	5
#define UNIT_ATTENTION	6
#define OUT_OF_RANGE	0x21
#define RESET_OCCURRED	0x29
#define NO_UNIT		0x7F
#define INQUIRY_BYTES	36
#define DISK		0
#define AREA_BLOCKS	64u
#define AREA_BYTES	(AREA_BLOCKS * BLOCK)
#define AREA_PAGES	(AREA_BYTES / PAGE_SIZE)
#define PIECE		820u	/* no divisor of a block or a page */
#define TRIES		3

static const struct adapter *adapter;
static struct request requests[REQUESTS_MAX];
static uint8_t *saved, *written, *read_back;
static uint8_t target;
static uint32_t area;		/* its first block */

/* This adapter's name before the fact's. */
static const char *
named(const char *fact)
{
	static char name[96];
	size_t length = strlen(adapter->driver->name);

	memcpy(name, adapter->driver->name, length);
	name[length] = '_';
	memcpy(name + length + 1, fact, strlen(fact) + 1);
	return name;
}

static struct request *
prepare(uint32_t slot, uint8_t operation, uint8_t cdb_bytes)
{
	struct request *request = &requests[slot];

	memset(request, 0, sizeof *request);
	request->target = target;
	request->cdb[0] = operation;
	request->cdb_bytes = cdb_bytes;
	return request;
}

static void
add(struct request *request, const void *base, uint32_t bytes)
{
	request->segments[request->segment_count++] = (struct segment){ (uint32_t)base, bytes };
}

static struct request *
prepare_blocks(uint32_t slot, uint8_t operation, uint32_t first, uint32_t count)
{
	struct request *request = prepare(slot, operation, 10);
	int i;

	for (i = 0; i < 4; i++)
		request->cdb[2 + i] = (uint8_t)(first >> 8 * (3 - i));
	request->cdb[7] = (uint8_t)(count >> 8);
	request->cdb[8] = (uint8_t)count;
	request->out = operation == WRITE_10;
	return request;
}

static bool
is_good(const struct request *request)
{
	return request->outcome == OUTCOME_STATUS && request->status == 0;
}

static bool
has_sense(const struct request *request, uint8_t key, uint8_t asc)
{
	return request->outcome == OUTCOME_STATUS && request->status == CHECK_CONDITION &&
	    (request->sense[2] & 0xF) == key && request->sense[12] == asc;
}

static bool
is_ready(void)
{
	int i;

	for (i = 0; i < TRIES; i++) {
		struct request *request = prepare(0, TEST_UNIT_READY, 6);

		run(request);
		if (is_good(request))
			return true;
	}
	return false;
}

static bool
transfer(uint8_t operation, uint8_t *buffer, uint32_t first, uint32_t count)
{
	struct request *request = prepare_blocks(0, operation, first, count);

	add(request, buffer, count * BLOCK);
	run(request);
	return is_good(request) && request->moved == count * BLOCK;
}

/* The first disk; how many targets are not there. */
static bool
find_disk(uint32_t *absent)
{
	bool found = false;
	uint8_t number;

	*absent = 0;
	for (number = 0; number < TARGETS; number++) {
		struct request *request;

		if (number == HOST_ID)
			continue;
		target = number;
		request = prepare(0, INQUIRY, 6);
		request->cdb[4] = INQUIRY_BYTES;
		add(request, read_back, INQUIRY_BYTES);
		run(request);
		*absent += request->outcome == OUTCOME_NO_TARGET;
		if (is_good(request) && (read_back[0] & 0x1F) == DISK) {
			found = true;
			break;
		}
	}
	return found;
}

static uint32_t
disk_blocks(void)
{
	struct request *request = prepare(0, READ_CAPACITY, 10);

	add(request, read_back, 8);
	run(request);
	if (!is_good(request) || read_back[6] != BLOCK >> 8 || read_back[7])
		return 0;
	return ((uint32_t)read_back[0] << 24 | (uint32_t)read_back[1] << 16 | (uint32_t)read_back[2] << 8 | read_back[3]) + 1;
}

static void
check_lengths(void)
{
	struct request *request = prepare(0, INQUIRY, 6);

	request->cdb[4] = 96;
	add(request, read_back, 96);
	run(request);
	check(named("tells_how_much_was_moved"), is_good(request) && request->moved == read_back[4] + 5u,
	    "status %x, %u bytes of %u", request->status, request->moved, read_back[4] + 5u);
	request = prepare(0, INQUIRY, 6);
	request->lun = 1;
	request->cdb[4] = INQUIRY_BYTES;
	add(request, read_back, INQUIRY_BYTES);
	run(request);
	check(named("has_no_unit_1"), is_good(request) ? read_back[0] == NO_UNIT : request->outcome == OUTCOME_NO_TARGET,
	    "outcome %u, first byte %x", request->outcome, read_back[0]);
}

static void
check_sense(uint32_t blocks)
{
	struct request *request = prepare_blocks(0, READ_10, blocks, 1);

	add(request, read_back, BLOCK);
	run(request);
	check(named("delivers_sense_data"), has_sense(request, ILLEGAL_REQUEST, OUT_OF_RANGE),
	    "outcome %u, detail %x, status %x, sense %x %x", request->outcome, request->detail, request->status,
	    request->sense[2], request->sense[12]);
}

/* Write in one piece, read in forty that begin and end anywhere, and the other way round. */
static void
check_scattered(uint8_t operation, const char *fact)
{
	uint8_t *scattered = operation == READ_10 ? read_back : written, *whole = operation == READ_10 ? written : read_back;
	struct request *request;
	uint32_t at, i;
	bool moved;

	for (i = 0; i < AREA_BYTES; i++)
		written[i] = (uint8_t)(i * 7 + (i >> 8) + operation);
	memset(read_back, 0xEE, AREA_BYTES);
	moved = operation == WRITE_10 || transfer(WRITE_10, whole, area, AREA_BLOCKS);
	request = prepare_blocks(0, operation, area, AREA_BLOCKS);
	for (at = 0; at < AREA_BYTES; at += PIECE)
		add(request, scattered + at, AREA_BYTES - at < PIECE ? AREA_BYTES - at : PIECE);
	run(request);
	moved = moved && is_good(request) && request->moved == AREA_BYTES;
	moved = moved && (operation == READ_10 || transfer(READ_10, whole, area, AREA_BLOCKS));
	check(named(fact), moved && memcmp(written, read_back, AREA_BYTES) == 0, "outcome %u, detail %x, %u bytes",
	    request->outcome, request->detail, request->moved);
}

/* Sixteen commands at once; the area's content is that of the last check. */
static void
check_queue(void)
{
	uint32_t each = AREA_BLOCKS / REQUESTS_MAX, i, good = 0;

	memset(read_back, 0, AREA_BYTES);
	for (i = 0; i < REQUESTS_MAX; i++) {
		struct request *request = prepare_blocks(i, READ_10, area + i * each, each);

		add(request, read_back + i * each * BLOCK, each * BLOCK);
		begin(request);
	}
	for (i = 0; i < REQUESTS_MAX; i++) {
		run(&requests[i]);
		good += is_good(&requests[i]);
	}
	check(named("carries_out_sixteen_commands_at_once"),
	    good == REQUESTS_MAX && memcmp(written, read_back, AREA_BYTES) == 0, "%u ended well", good);
}

static void
check_abort(void)
{
	uint32_t i, ended = 0;
	bool aborted;

	for (i = 0; i < REQUESTS_MAX / 2; i++) {
		struct request *request = prepare_blocks(i, READ_10, area, AREA_BLOCKS);

		add(request, read_back, AREA_BYTES);
		begin(request);
	}
	aborted = adapter->driver->abort(&requests[i - 1]);
	for (i = 0; i < REQUESTS_MAX / 2; i++) {
		run(&requests[i]);
		ended += is_good(&requests[i]) || requests[i].outcome == OUTCOME_ABORTED;
	}
	check(named("ends_what_is_aborted"), aborted && ended == REQUESTS_MAX / 2, "%u ended", ended);
	check(named("is_ready_after_an_abort"), is_ready(), "it is not");
}

static void
check_reset(void)
{
	struct request *request;
	bool reset = adapter->driver->reset_bus();

	request = prepare(0, TEST_UNIT_READY, 6);
	run(request);
	check(named("resets_the_bus"), reset && has_sense(request, UNIT_ATTENTION, RESET_OCCURRED),
	    "outcome %u, status %x, sense %x %x", request->outcome, request->status, request->sense[2], request->sense[12]);
	check(named("is_ready_after_a_reset"), is_ready(), "it is not");
}

static void
check_disk(void)
{
	uint32_t blocks = disk_blocks();

	if (!check(named("tells_its_capacity"), blocks >= AREA_BLOCKS, "%u blocks", blocks))
		return;
	area = blocks - AREA_BLOCKS;
	check_lengths();
	check_sense(blocks);
	if (!check(named("reads"), transfer(READ_10, saved, area, AREA_BLOCKS), "the last blocks cannot be read"))
		return;
	check_scattered(READ_10, "reads_into_scattered_memory");
	check_scattered(WRITE_10, "writes_from_scattered_memory");
	check_queue();
	check_abort();
	check_reset();
	check(named("has_its_blocks_back"), transfer(WRITE_10, saved, area, AREA_BLOCKS), "they cannot be written");
}

void
check_adapter(const struct adapter *found)
{
	uint32_t absent;

	adapter = found;
	if (!saved) {
		saved = allocate_pages(AREA_PAGES);
		written = allocate_pages(AREA_PAGES);
		read_back = allocate_pages(AREA_PAGES);
	}
	if (!check(named("starts"), adapter->driver->start(adapter), "it does not"))
		return;
	check(named("has_its_registers_in_memory_too"), adapter->driver->agrees(adapter), "they read differently");
	if (!find_disk(&absent)) {
		skip(named("disk"), "no target is a disk");
		return;
	}
	check_equal(named("has_nobody_before_the_disk"), absent, target - (target > HOST_ID));
	if (check(named("disk_is_ready"), is_ready(), "it is not"))
		check_disk();
}
