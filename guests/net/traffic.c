/*
 * traffic.c -- what this machine is to others on its network: one end of a stream, or a nuisance.
 *
 *	stream=N peer=P		sends N frames of all lengths to the machine 00:0c:29:P, until it has said that they came
 *	sink			takes such a stream, in its order and with its bytes, and says so
 *	flood=KIND peer=P	sends as much as the adapter takes, and never stops
 *
 * A frame of a stream says its number; the other end says which one it waits for.  What is not said to have come is
 * sent again from there on.  A link that goes down and comes up again costs time, and nothing else.
 */
#include "parts.h"

#define ETHERTYPE	12		/* where it is */
#define KIND		14
#define NUMBER		15
#define TOTAL		19
#define CONTENT		23
#define IS_DATA		1
#define IS_SAID		2
#define WINDOW		16u
#define AGAIN_TICKS	(TICK_HZ / 20)
#define GIVE_UP_TICKS	(60 * TICK_HZ)
#define LINGER_TICKS	(TICK_HZ / 2)	/* what was said last may have been lost */
#define LENGTHS		(FRAME_MAX - FRAME_MIN + 1)
#define LENGTH_STEP	619u
#define NOBODY		0xFFFFFEu

static struct adapter *own;
static uint8_t peer_address[ADDRESS_BYTES];
static volatile uint32_t next, total, heard_at, wrong;	/* of what is received */
static uint32_t sent, sent_most;

static uint32_t
word_at(const uint8_t *frame, uint32_t at)
{
	return (uint32_t)frame[at] << 24 | (uint32_t)frame[at + 1] << 16 | (uint32_t)frame[at + 2] << 8 | frame[at + 3];
}

static void
set_word(uint8_t *frame, uint32_t at, uint32_t value)
{
	frame[at] = (uint8_t)(value >> 24);
	frame[at + 1] = (uint8_t)(value >> 16);
	frame[at + 2] = (uint8_t)(value >> 8);
	frame[at + 3] = (uint8_t)value;
}

static void
set_address(uint8_t *address, uint32_t number)
{
	set_word(address, 2, 0x29000000u | number);
	address[0] = 0x00;
	address[1] = 0x0C;
}

static void
set_head(uint8_t *frame, const uint8_t *to, const uint8_t *from)
{
	memcpy(frame, to, ADDRESS_BYTES);
	memcpy(frame + ADDRESS_BYTES, from, ADDRESS_BYTES);
	frame[ETHERTYPE] = 0x88;
	frame[ETHERTYPE + 1] = 0xB5;	/* for local experiments  [IEEE 802] */
}

/* ---- a stream ----------------------------------------------------------------------------------- */

static bool
is_stream(const uint8_t *frame, uint32_t bytes, uint8_t kind)
{
	return bytes >= FRAME_MIN && frame[ETHERTYPE] == 0x88 && frame[ETHERTYPE + 1] == 0xB5 && frame[KIND] == kind;
}

static uint32_t
length_of(uint32_t number)
{
	return has_option("short") ? FRAME_MIN : FRAME_MIN + number * LENGTH_STEP % LENGTHS;
}

static uint8_t
content_of(uint32_t number, uint32_t at)
{
	return (uint8_t)(number * 131 + (number >> 8) + at);
}

static bool
say(const uint8_t *to, uint8_t kind, uint32_t number, uint32_t of, uint32_t bytes)
{
	static uint8_t frame[FRAME_MAX];
	uint32_t i;

	set_head(frame, to, own->address);
	frame[KIND] = kind;
	set_word(frame, NUMBER, number);
	set_word(frame, TOTAL, of);
	for (i = CONTENT; i < bytes; i++)
		frame[i] = content_of(number, i);
	return own->driver->send(frame, bytes);
}

static void
take_data(const uint8_t *frame, uint32_t bytes)
{
	const uint32_t number = word_at(frame, NUMBER);
	uint32_t i;

	if (!is_stream(frame, bytes, IS_DATA))
		return;
	heard_at = now_ticks();
	total = word_at(frame, TOTAL);
	if (number == next) {
		wrong += bytes != length_of(number);
		for (i = CONTENT; i < bytes && frame[i] == content_of(number, i); i++)
			;
		wrong += i < bytes;
		next++;
	}
	say(frame + ADDRESS_BYTES, IS_SAID, next, total, FRAME_MIN);
}

static void
take_said(const uint8_t *frame, uint32_t bytes)
{
	if (!is_stream(frame, bytes, IS_SAID) || word_at(frame, NUMBER) - next > sent_most - next)
		return;
	if (word_at(frame, NUMBER) != next) {
		next = word_at(frame, NUMBER);
		heard_at = now_ticks();
	}
}

static void
send_stream(void)
{
	uint32_t asked_at = 0;

	taker = take_said;
	total = option_number("stream", 1);
	heard_at = now_ticks();
	while (next != total && now_ticks() - heard_at < GIVE_UP_TICKS) {
		if ((int32_t)(sent - next) < 0 || now_ticks() - (heard_at > asked_at ? heard_at : asked_at) > AGAIN_TICKS) {
			sent = next;
			asked_at = now_ticks();
		}
		while (sent != total && sent - next < WINDOW && say(peer_address, IS_DATA, sent, total, length_of(sent))) {
			sent++;
			sent_most = sent > sent_most ? sent : sent_most;
		}
		wait_for_interrupt();
	}
	check("everything_was_taken", next == total, "%u frames of %u", next, total);
}

static void
take_stream(void)
{
	taker = take_data;
	heard_at = now_ticks();
	while ((!total || next != total) && now_ticks() - heard_at < GIVE_UP_TICKS)
		wait_for_interrupt();
	check("everything_came", total && next == total, "%u frames of %u", next, total);
	check("everything_came_as_it_was_sent", !wrong, "%u frames were not", wrong);
	while (now_ticks() - heard_at < LINGER_TICKS)
		wait_for_interrupt();
}

/* ---- a flood ------------------------------------------------------------------------------------ */

#define RUNT_MAX	13u
#define GIANT		1519u
#define TAGS_MAX	3u

/* One frame with `count` VLAN tags, of ids that say who may see it. */
static uint32_t
tag(uint8_t *frame, uint32_t count, uint32_t number)
{
	static const uint16_t ids[] = { 0, 5, 6, 4095, 7 };
	static const uint16_t kinds[] = { 0x8100, 0x8100, 0x88A8, 0x9100 };
	uint32_t i, at = ETHERTYPE;

	for (i = 0; i < count; i++, at += 4) {
		const uint16_t kind = kinds[(number + i) % 4], id = ids[(number / 3 + i) % 5];

		frame[at] = (uint8_t)(kind >> 8);
		frame[at + 1] = (uint8_t)kind;
		frame[at + 2] = (uint8_t)(id >> 8 | number << 5);
		frame[at + 3] = (uint8_t)id;
	}
	frame[at] = 0x88;
	frame[at + 1] = 0xB5;
	return FRAME_MIN + 4 * count;
}

enum kind { ALL, TO_NOBODY, RUNTS, GIANTS, TAGGED, FORGED, TO_ALL, TO_PEER, KINDS };
static const char *const kind_names[KINDS] = { "all", "nobody", "runts", "giants", "tags", "forged", "broadcasts", "peer" };

/* The number of bytes. */
static uint32_t
fill_flood(uint8_t *frame, enum kind kind, uint32_t number)
{
	uint8_t address[ADDRESS_BYTES];

	memset(frame, 'x', BUFFER_BYTES);
	set_head(frame, peer_address, own->address);
	switch (kind) {
	case TO_NOBODY:
		set_address(address, NOBODY);
		memcpy(frame, address, ADDRESS_BYTES);
		return FRAME_MIN;
	case RUNTS:
		return 1 + number % RUNT_MAX;
	case GIANTS:
		return GIANT + number * LENGTH_STEP % (BUFFER_BYTES - GIANT);
	case TAGGED:
		return tag(frame, 1 + number % TAGS_MAX, number);
	case FORGED:
		set_address(frame + ADDRESS_BYTES, number % 2 ? option_number("peer", 0) : number);
		if (number % 4 == 3)
			frame[ADDRESS_BYTES] |= 1;	/* a group's */
		return FRAME_MIN;
	case TO_ALL:
		memset(frame, 0xFF, ADDRESS_BYTES);
		return FRAME_MIN;
	default:
		return FRAME_MIN;
	}
}

static enum kind
wanted_kind(void)
{
	uint32_t kind;

	for (kind = ALL; kind < KINDS && !option_is("flood", kind_names[kind], false); kind++)
		;
	if (kind == KINDS)
		stop("flood_is_known", "it is none of all, nobody, runts, giants, tags, forged, broadcasts, peer");
	return (enum kind)kind;
}

/* With spells=N: N ticks with it, as many without, and so on, which it says; the processor is as busy in both. */
static void
flood(void)
{
	static uint8_t frame[BUFFER_BYTES];
	const enum kind kind = wanted_kind();
	const uint32_t spell = option_number("spells", 0);
	uint32_t i, began = now_ticks();
	uint64_t count = 0;
	bool quiet = spell > 0;

	for (i = 0; i < PREPARED; i++) {
		const enum kind one = kind == ALL ? (enum kind)(1 + i % (TO_ALL - ALL)) : kind;

		pcnet_prepare(i, frame, fill_flood(frame, one, i));
	}
	print("flooding %s\n", kind_names[kind]);
	for (;;) {
		if (!quiet)
			count += pcnet_send_prepared();
		let_interrupts_in();
		if (spell && now_ticks() - began >= spell) {
			print("%s %u\n", quiet ? "quiet" : "flood", (uint32_t)count);
			quiet = !quiet;
			count = 0;
			began = now_ticks();
		}
	}
}

/* ---- which -------------------------------------------------------------------------------------- */

bool
has_role(void)
{
	return has_option("sink") || option_number("stream", 0) || !option_is("flood", "", true);
}

void
play_role(struct adapter *adapter)
{
	const bool floods = !option_is("flood", "", true);

	own = adapter;
	adapter->driver->identify(adapter);
	set_address(peer_address, option_number("peer", 0));
	drive(adapter);
	if (floods && !check("floods_by_a_pcnet", adapter->driver == &pcnet, "it is a %s", adapter->driver->name))
		return;
	if (!check("starts", adapter->driver->start(adapter, 2 | (floods ? MODE_UNPADDED : 0)), "it does not"))
		return;
	if (adapter->irq < 0)
		stop("has_an_interrupt", "a role needs one");
	if (floods)
		flood();
	else if (has_option("sink"))
		take_stream();
	else
		send_stream();
	adapter->driver->stop();
}
