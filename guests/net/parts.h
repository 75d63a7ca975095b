/*
 * parts.h -- what the parts of this guest share: an adapter, and the drivers that send and receive on one.
 */
#pragma once

#include "guest.h"
#include "pci.h"

#define ADDRESS_BYTES	6
#define HEADER_BYTES	14
#define FRAME_MIN	60u
#define FRAME_MAX	1514u
#define BUFFER_BYTES	2048u
#define FIRST_BAR	0x10

struct adapter {
	const struct driver *driver;
	uint32_t function;
	uint16_t io;
	int irq;		/* -1: it is polled */
	uint8_t address[ADDRESS_BYTES];
};

struct driver {
	const char *name;
	uint32_t id;		/* device and vendor, as configuration space has them */
	void (*identify)(struct adapter *adapter);	/* find its station address */
	bool (*start)(const struct adapter *adapter, uint32_t mode);
	bool (*send)(const void *frame, uint32_t bytes);	/* copied; false: the ring is full */
	void (*collect)(void);	/* take the frames that have come, and the interrupt away */
	void (*stop)(void);
	void (*check)(struct adapter *adapter);	/* what is this kind's own; it identifies it too */
};

#define MODE_LOOPBACK	0x100u	/* with a software style of the PCnet in bits 7:0 */
#define MODE_UNPADDED	0x200u	/* the PCnet sends short frames as they are */

extern const struct driver pcnet, vmxnet;

/* pci.c */
bool find_adapter(uint32_t *function, struct adapter *adapter);

/* pcnet.c: a whole ring of frames that are sent again and again, of any length that a buffer has. */
#define PREPARED	64u
void pcnet_prepare(uint32_t index, const void *frame, uint32_t bytes);
uint32_t pcnet_send_prepared(void);	/* those that the chip has done with; how many */

/* traffic.c: what this machine is to others on its network, if the command line says so. */
bool has_role(void);
void play_role(struct adapter *adapter);

/* main.c */
uint32_t now_ticks(void);	/* of TICK_HZ */
#define TICK_HZ		100u
void let_interrupts_in(void);
extern void (*taker)(const uint8_t *frame, uint32_t bytes);	/* of what comes, instead of `kept`; 0: none */
bool wait_until(bool (*condition)(const void *), const void *argument);
void drive(struct adapter *adapter);	/* its interrupt is this one's from now on */
uint32_t interrupts_seen(void);
void frame_came(const void *frame, uint32_t bytes);	/* a driver's: without FCS, with padding */

/* checks.c */
void check_adapter(struct adapter *adapter);
bool asks_host(struct adapter *adapter);
const char *named(const struct adapter *adapter, const char *fact);

/* The last frames that came, and how many there were. */
#define FRAMES_KEPT	32u
struct kept_frame {
	uint32_t bytes;
	uint8_t data[BUFFER_BYTES];
};
extern struct kept_frame *kept;
extern volatile uint32_t frames_in;

/* vmxnet.c: a vlance becomes one, or a vlance again; false: it cannot. */
bool morph(const struct adapter *adapter, bool to_vmxnet);
#define MORPHED_BASE	0x24
