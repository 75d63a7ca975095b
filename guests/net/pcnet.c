/*
 * pcnet.c -- a driver for the Am79C970A, with word accesses, in its software styles 0, 2 and 3.
 * [AMD Am79C970A data sheet; CSR and BCR numbers are decimal]
 */
#include "parts.h"

#define RDP		0x10
#define RAP		0x12
#define RESET		0x14
#define BDP		0x16
#define CSR0_INIT	0x0001
#define CSR0_STRT	0x0002
#define CSR0_STOP	0x0004
#define CSR0_TDMD	0x0008
#define CSR0_IENA	0x0040
#define CSR0_IDON	0x0100
#define CSR0_CAUSES	0x7F00
#define CSR4_QUIET	0x0115		/* DMAPLUS off; the other causes masked */
#define CSR4_PAD	0x0800		/* what is sent */
#define MODE_LOOP	0x0044		/* internal */
#define BCR_SWSTYLE	20
#define CHIP_ID		0x02621003u
#define POLL_BOUND	1000000u

#define RX_LOG		5
#define TX_LOG		6
#define RX_RING		(1u << RX_LOG)
#define TX_RING		(1u << TX_LOG)
#define RX_AT		0x100u		/* in the page that begins with the initialization block */
#define TX_AT		0x400u
#define OWN		0x8000u
#define STP_ENP		0x0300u
#define ERR		0x4000u
#define ONES		0xF000u
#define LENGTH_MASK	0x0FFFu
#define FCS_BYTES	4u
#define STYLES		3

/* The initialization block, in both sizes. */
struct block16 {
	uint16_t mode;
	uint8_t address[ADDRESS_BYTES];
	uint32_t filter[2];
	uint32_t rx, tx;	/* the logarithm of the length in bits 31:29 */
} __attribute__((packed));
struct block32 {
	uint16_t mode;
	uint8_t rx_log, tx_log;	/* bits 7:4 */
	uint8_t address[ADDRESS_BYTES];
	uint16_t reserved;
	uint32_t filter[2];
	uint32_t rx, tx;
} __attribute__((packed));
_Static_assert(sizeof(struct block16) == 24 && sizeof(struct block32) == 28, "data sheet");
_Static_assert(RX_AT + 16 * RX_RING <= TX_AT && TX_AT + 16 * TX_RING <= PAGE_SIZE && TX_RING == PREPARED, "one page");

static uint16_t io;
static uint32_t style, rx_next, tx_next;
static volatile uint8_t *rx_ring, *tx_ring;
static uint8_t *rx_data, *tx_data;
static uint32_t prepared_bytes[TX_RING];

static uint16_t
csr(uint16_t number)
{
	out16((uint16_t)(io + RAP), number);
	return in16((uint16_t)(io + RDP));
}

static void
set_csr(uint16_t number, uint16_t value)
{
	out16((uint16_t)(io + RAP), number);
	out16((uint16_t)(io + RDP), value);
}

static uint32_t
size_of_descriptor(void)
{
	return style ? 16 : 8;
}

/* Where the parts of a descriptor are depends on the style. */
static volatile uint16_t *
word_of(volatile uint8_t *ring, uint32_t index, uint32_t offset)
{
	return (volatile uint16_t *)(ring + index * size_of_descriptor() + offset);
}

static uint16_t
status_of(volatile uint8_t *ring, uint32_t index)
{
	return style ? *word_of(ring, index, 6) : (uint16_t)(ring[index * 8 + 3] << 8);
}

static void
give(volatile uint8_t *ring, uint32_t index, const void *buffer, uint32_t bytes, uint16_t status)
{
	uint32_t address = (uint32_t)buffer;
	uint32_t address_at = style == 3 ? 8 : 0;

	*word_of(ring, index, 4) = (uint16_t)(ONES | ((0u - bytes) & LENGTH_MASK));
	*word_of(ring, index, address_at) = (uint16_t)address;
	if (style) {
		*word_of(ring, index, address_at + 2) = (uint16_t)(address >> 16);
		*word_of(ring, index, 6) = status;
	} else {
		*word_of(ring, index, 2) = (uint16_t)((address >> 16 & 0xFF) | status);
	}
}

static uint32_t
received_bytes(uint32_t index)
{
	return *word_of(rx_ring, index, style == 0 ? 6 : style == 3 ? 0 : 8) & LENGTH_MASK;
}

static void
fill_block(void *block, const struct adapter *adapter, uint16_t mode)
{
	if (style) {
		struct block32 *wide = block;

		wide->mode = mode;
		wide->rx_log = RX_LOG << 4;
		wide->tx_log = TX_LOG << 4;
		memcpy(wide->address, adapter->address, ADDRESS_BYTES);
		wide->rx = (uint32_t)rx_ring;
		wide->tx = (uint32_t)tx_ring;
	} else {
		struct block16 *narrow = block;

		narrow->mode = mode;
		memcpy(narrow->address, adapter->address, ADDRESS_BYTES);
		narrow->rx = (uint32_t)rx_ring | (uint32_t)RX_LOG << 29;
		narrow->tx = (uint32_t)tx_ring | (uint32_t)TX_LOG << 29;
	}
}

static void
identify(struct adapter *adapter)
{
	uint32_t i;

	for (i = 0; i < ADDRESS_BYTES; i++)
		adapter->address[i] = in8((uint16_t)(adapter->io + i));
}

static bool
start(const struct adapter *adapter, uint32_t mode)
{
	static uint8_t *memory;
	uint32_t index, polls;

	if (!memory)
		memory = allocate_pages(1 + (RX_RING + TX_RING) * BUFFER_BYTES / PAGE_SIZE);
	memset(memory, 0, PAGE_SIZE);
	rx_ring = memory + RX_AT;
	tx_ring = memory + TX_AT;
	rx_data = memory + PAGE_SIZE;
	tx_data = rx_data + RX_RING * BUFFER_BYTES;
	io = adapter->io;
	style = mode & 0xFF;
	rx_next = tx_next = 0;
	(void)in16((uint16_t)(io + RESET));
	out16((uint16_t)(io + RAP), BCR_SWSTYLE);
	out16((uint16_t)(io + BDP), (uint16_t)style);
	for (index = 0; index < RX_RING; index++)
		give(rx_ring, index, rx_data + index * BUFFER_BYTES, BUFFER_BYTES, OWN);
	fill_block(memory, adapter, mode & MODE_LOOPBACK ? MODE_LOOP : 0);
	set_csr(1, (uint16_t)(uint32_t)memory);
	set_csr(2, (uint16_t)((uint32_t)memory >> 16));
	set_csr(4, CSR4_QUIET | (mode & MODE_UNPADDED ? 0 : CSR4_PAD));
	set_csr(0, CSR0_INIT);
	for (polls = 0; polls < POLL_BOUND && !(csr(0) & CSR0_IDON); polls++)
		;
	if (!(csr(0) & CSR0_IDON))
		return false;
	set_csr(0, CSR0_IDON | CSR0_STRT | CSR0_IENA);
	return true;
}

static bool
send(const void *frame, uint32_t bytes)
{
	uint8_t *buffer = tx_data + tx_next * BUFFER_BYTES;

	if (status_of(tx_ring, tx_next) & OWN)
		return false;
	memcpy(buffer, frame, bytes);
	give(tx_ring, tx_next, buffer, bytes, OWN | STP_ENP);
	tx_next = (tx_next + 1) % TX_RING;
	set_csr(0, CSR0_TDMD | CSR0_IENA);
	return true;
}

void
pcnet_prepare(uint32_t index, const void *frame, uint32_t bytes)
{
	memcpy(tx_data + index * BUFFER_BYTES, frame, bytes);
	prepared_bytes[index] = bytes;
}

uint32_t
pcnet_send_prepared(void)
{
	uint32_t count = 0;

	for (; !(status_of(tx_ring, tx_next) & OWN) && count < TX_RING; count++) {
		give(tx_ring, tx_next, tx_data + tx_next * BUFFER_BYTES, prepared_bytes[tx_next], OWN | STP_ENP);
		tx_next = (tx_next + 1) % TX_RING;
	}
	if (count)
		set_csr(0, CSR0_TDMD | CSR0_IENA);
	return count;
}

static void
collect(void)
{
	set_csr(0, (uint16_t)((csr(0) & CSR0_CAUSES) | CSR0_IENA));
	while (!(status_of(rx_ring, rx_next) & OWN)) {
		uint16_t status = status_of(rx_ring, rx_next);
		uint8_t *buffer = rx_data + rx_next * BUFFER_BYTES;
		uint32_t bytes = received_bytes(rx_next);

		if ((status & (STP_ENP | ERR)) == STP_ENP && bytes > FCS_BYTES)
			frame_came(buffer, bytes - FCS_BYTES);
		give(rx_ring, rx_next, buffer, BUFFER_BYTES, OWN);
		rx_next = (rx_next + 1) % RX_RING;
	}
}

static void
stop_chip(void)
{
	set_csr(0, CSR0_STOP);
}

static bool
have_come(const void *argument)
{
	return frames_in >= *(const uint32_t *)argument;
}

static void
fill_frame(uint8_t *frame, const struct adapter *adapter, uint32_t number, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i < bytes; i++)
		frame[i] = (uint8_t)(i * 7 + number);
	memcpy(frame, adapter->address, ADDRESS_BYTES);
	memcpy(frame + ADDRESS_BYTES, adapter->address, ADDRESS_BYTES);
	frame[12] = 0x88;
	frame[13] = 0xB5;	/* for local experiments  [IEEE 802] */
}

/* Frames of all lengths come back as they were sent, and in that order. */
static bool
loops_back(struct adapter *adapter, uint32_t in_style)
{
	static const uint32_t lengths[] = { 60, 61, 64, 127, 128, 511, 1000, 1500, 1513, FRAME_MAX };
	const uint32_t count = sizeof lengths / sizeof *lengths;
	static uint8_t frame[FRAME_MAX];
	uint32_t i, wanted;

	drive(adapter);
	if (!start(adapter, MODE_LOOPBACK | in_style))
		return false;
	for (i = 0; i < count; i++) {
		fill_frame(frame, adapter, i, lengths[i]);
		if (!send(frame, lengths[i]))
			return false;
		wanted = i + 1;
		if (!wait_until(have_come, &wanted))
			return false;
		if (kept[i].bytes != lengths[i] || memcmp(kept[i].data, frame, lengths[i]))
			return false;
	}
	stop_chip();
	return frames_in == count;
}

/* The chip itself, without anybody at the other end of the cable. */
static void
check_chip(struct adapter *adapter)
{
	static const uint8_t styles[STYLES] = { 0, 2, 3 };
	static const char *const facts[STYLES] = {
		"pcnet_loops_back_in_style_0", "pcnet_loops_back_in_style_2", "pcnet_loops_back_in_style_3",
	};
	uint8_t prom[16];
	uint32_t i, sum = 0;

	io = adapter->io;
	(void)in16((uint16_t)(io + RESET));
	check_equal("pcnet_is_stopped_by_a_reset", csr(0), CSR0_STOP);
	check_equal("pcnet_says_who_it_is", csr(88) | (uint32_t)csr(89) << 16, CHIP_ID);
	for (i = 0; i < sizeof prom; i++)
		prom[i] = in8((uint16_t)(io + i));
	for (i = 0; i < 12; i++)
		sum += prom[i];
	sum += prom[14] + prom[15];
	check_equal("pcnet_address_prom_adds_up", prom[12] | (uint32_t)prom[13] << 8, sum);
	identify(adapter);
	check("pcnet_has_its_address_from_the_prom", csr(12) == (prom[0] | prom[1] << 8) && csr(14) == (prom[4] | prom[5] << 8),
	    "CSR12 is %x, CSR14 is %x", csr(12), csr(14));
	for (i = 0; i < STYLES; i++)
		check(facts[i], loops_back(adapter, styles[i]), "%u frames came back", frames_in);
}

const struct driver pcnet = { "pcnet", 0x20001022, identify, start, send, collect, stop_chip, check_chip };
