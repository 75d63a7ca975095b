/*
 * vmxnet.c -- a driver for vmxnet, on its own or as what a vlance becomes.
 * [VMware's open-vm-tools, vmxnet2_def.h and vmxnet_def.h]
 */
#include "parts.h"

#define MORPH_PORT	0x20
#define IS_LANCE	0x2934
#define IS_VMXNET	0x4392
#define INIT_ADDR	0x00
#define INIT_LENGTH	0x04
#define TX_ADDR		0x08
#define COMMAND		0x0C
#define MAC_ADDR	0x10
#define LOW_VERSION	0x18
#define HIGH_VERSION	0x1C
#define STATUS		0x20
#define STATUS_ENABLED	0x02
#define CMD_INTR_ACK	0x01
#define CMD_CHECK_TX_DONE 0x100
#define MAGIC		0xBABE864Fu
#define IFF_BROADCAST	2
#define IFF_DIRECTED	8
#define OWNER_DRIVER	0
#define OWNER_NIC	2
#define CAN_KEEP	1

#define RX_ENTRIES	16u
#define TX_ENTRIES	16u

struct rx_entry {
	uint64_t address;
	uint32_t buffer_bytes, bytes;
	uint16_t owner, flags;
	uint32_t number;
} __attribute__((packed));

struct tx_entry {
	uint16_t flags, owner;
	uint32_t extra, segment_size;
	uint16_t address_kind, elements;
	struct {
		uint32_t low;
		uint16_t high, bytes;
	} element[6];
} __attribute__((packed));

struct driver_data {
	uint32_t magic, rx_ring_length, rx_next, rx_ring_length_2, rx_next_2, not_used_1;
	uint32_t ifflags, filter[2], tx_dont_cluster_size;
	uint32_t tx_ring_length, tx_current, tx_next, tx_stopped, tx_cluster_length, tx_deferred;
	uint32_t not_used_3, total_rx_buffers, rx_buffers[2], extra[2];
	uint16_t max_fragments, features;
	uint32_t saved_rx, saved_rx_2, saved_tx, length, rx_offset, rx_offset_2, tx_offset;
	uint32_t debug, tx_buffers, tx_buffers_length, tx_packet_max, statistics[10];
};

/* All that is shared, as it lies in memory. */
struct shared {
	struct driver_data data;
	struct rx_entry rx[RX_ENTRIES], rx_2[1];
	struct tx_entry tx[TX_ENTRIES];
};
_Static_assert(sizeof(struct driver_data) == 176 && sizeof(struct rx_entry) == 24 && sizeof(struct tx_entry) == 64, "ABI");
_Static_assert(sizeof(struct shared) <= PAGE_SIZE, "one page");

static uint16_t io;
static volatile struct shared *shared;
static uint8_t *rx_data, *tx_data;

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

bool
morph(const struct adapter *adapter, bool to_vmxnet)
{
	uint16_t port = (uint16_t)(adapter->io + MORPH_PORT), now = in16(port);

	if (now != IS_LANCE && now != IS_VMXNET)
		return false;
	out16(port, to_vmxnet ? IS_VMXNET : IS_LANCE);
	return in16(port) == (to_vmxnet ? IS_VMXNET : IS_LANCE);
}

static bool
start(const struct adapter *adapter, uint32_t mode)
{
	static uint8_t *memory;
	uint32_t i;

	(void)mode;
	if (!memory)
		memory = allocate_pages(1 + (RX_ENTRIES + TX_ENTRIES) * BUFFER_BYTES / PAGE_SIZE);
	memset(memory, 0, PAGE_SIZE);
	shared = (volatile struct shared *)memory;
	rx_data = memory + PAGE_SIZE;
	tx_data = rx_data + RX_ENTRIES * BUFFER_BYTES;
	io = adapter->io;
	if (get(LOW_VERSION) >> 16 != MAGIC >> 16 || get(LOW_VERSION) > MAGIC || get(HIGH_VERSION) < MAGIC)
		return false;
	shared->data.magic = MAGIC;
	shared->data.length = sizeof *shared;
	shared->data.rx_ring_length = RX_ENTRIES;
	shared->data.rx_offset = offsetof(struct shared, rx);
	shared->data.rx_ring_length_2 = 1;
	shared->data.rx_offset_2 = offsetof(struct shared, rx_2);
	shared->data.tx_ring_length = TX_ENTRIES;
	shared->data.tx_offset = offsetof(struct shared, tx);
	shared->data.ifflags = IFF_BROADCAST | IFF_DIRECTED;
	for (i = 0; i < RX_ENTRIES; i++) {
		shared->rx[i].address = (uint32_t)(rx_data + i * BUFFER_BYTES);
		shared->rx[i].buffer_bytes = BUFFER_BYTES;
		shared->rx[i].owner = OWNER_NIC;
	}
	put(INIT_ADDR, (uint32_t)shared);
	put(INIT_LENGTH, sizeof *shared);
	return get(STATUS) & STATUS_ENABLED;
}

static bool
send(const void *frame, uint32_t bytes)
{
	volatile struct tx_entry *entry = &shared->tx[shared->data.tx_next];
	uint8_t *buffer = tx_data + shared->data.tx_next * BUFFER_BYTES;

	if (entry->owner != OWNER_DRIVER)
		return false;
	memcpy(buffer, frame, bytes);
	entry->flags = CAN_KEEP;
	entry->elements = 1;
	entry->element[0].low = (uint32_t)buffer;
	entry->element[0].bytes = (uint16_t)bytes;
	entry->owner = OWNER_NIC;
	shared->data.tx_next = (shared->data.tx_next + 1) % TX_ENTRIES;
	(void)get(TX_ADDR);
	return true;
}

static void
collect(void)
{
	put(COMMAND, CMD_INTR_ACK);
	for (;;) {
		uint32_t next = shared->data.rx_next;
		volatile struct rx_entry *entry = &shared->rx[next];

		if (entry->owner != OWNER_DRIVER)
			break;
		frame_came(rx_data + next * BUFFER_BYTES, entry->bytes);
		entry->owner = OWNER_NIC;
		shared->data.rx_next = (next + 1) % RX_ENTRIES;
	}
}

static void
detach(void)
{
	put(COMMAND, CMD_CHECK_TX_DONE);
	put(INIT_ADDR, 0);
}

static void
identify(struct adapter *adapter)
{
	uint32_t i;

	for (i = 0; i < ADDRESS_BYTES; i++)
		adapter->address[i] = in8((uint16_t)(adapter->io + MAC_ADDR + i));
}

static void
check_registers(struct adapter *adapter)
{
	uint32_t i, sum = 0;

	io = adapter->io;
	identify(adapter);
	for (i = 0; i < ADDRESS_BYTES; i++)
		sum |= adapter->address[i];
	check("vmxnet_has_a_station_address", sum && !(adapter->address[0] & 1), "it begins with %x", adapter->address[0]);
	check_equal("vmxnet_is_not_attached_at_first", get(STATUS) & STATUS_ENABLED, 0);
}

const struct driver vmxnet = { "vmxnet", 0x072015AD, identify, start, send, collect, detach, check_registers };
