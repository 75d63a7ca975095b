/*
 * parts.h -- what the parts of this guest share: a SCSI request, and the drivers that carry one out.
 */
#pragma once

#include "guest.h"
#include "pci.h"

#define BLOCK		512u
#define CDB_MAX		16
#define SENSE_BYTES	18
#define SEGMENTS_MAX	40
#define REQUESTS_MAX	16	/* under way at once */
#define TARGETS		16
#define HOST_ID		7
#define FIRST_BAR	0x10
#define SECOND_BAR	0x14

struct segment {
	uint32_t base, bytes;
};

enum outcome {
	OUTCOME_PENDING,
	OUTCOME_STATUS,		/* the target ended it, with `status` */
	OUTCOME_NO_TARGET,
	OUTCOME_ABORTED,
	OUTCOME_ERROR,		/* something else; `detail` is the adapter's own word for it */
};

struct request {
	uint8_t target, lun, cdb[CDB_MAX], cdb_bytes;
	bool out, begun;
	struct segment segments[SEGMENTS_MAX];
	uint32_t segment_count;

	volatile enum outcome outcome;
	uint32_t detail, moved;
	uint8_t status, sense[SENSE_BYTES];
};

struct adapter {
	const struct driver *driver;
	uint32_t function;
	uint16_t io;
	uint32_t memory;	/* where its registers are in memory, too */
	int irq;		/* -1: it is polled */
};

struct driver {
	const char *name;
	uint32_t ids[2];	/* device and vendor, as configuration space has them */
	bool (*start)(const struct adapter *adapter);
	void (*begin)(struct request *request);
	void (*collect)(void);	/* take the completions that are there, and the interrupt away */
	bool (*abort)(struct request *request);
	bool (*reset_bus)(void);
	bool (*agrees)(const struct adapter *adapter);	/* do its registers in memory read as those in I/O space? */
};

extern const struct driver lsilogic, buslogic;

/* pci.c */
bool find_adapter(uint32_t *function, struct adapter *adapter);

/* main.c */
bool wait_until(bool (*condition)(const void *), const void *argument);
void begin(struct request *request);
void run(struct request *request);

/* checks.c */
void check_adapter(const struct adapter *adapter);
