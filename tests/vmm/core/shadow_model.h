/*
 * shadow_model.h -- what the model of the paging rules and the driver of the shadow page table share.  Test only.
 */
#ifndef SHADOW_MODEL_H
#define SHADOW_MODEL_H

#include <setjmp.h>

#include "engine.h"

#define RAM_PAGES 600u
#define DEV_PAGES 32u
#define TABLES 24u		/* table pages: PPN 0-15 and 256-263, which A20 folds onto 0-7 */
#define ROOTS 7u
#define HOT_PDES 5u
#define HOT_PTES 5u
#define HOT (HOT_PDES * HOT_PTES)
#define PAST 48u

/* What the guest's tables said at some moment. */
struct truth {
	uint64_t pde, pte;	/* pte: of a large page, the PDE again */
	uint64_t gpa;
	bool user, write, execute, global, large, accessed, dirty;
};

struct past {
	uint32_t count;
	bool overflow;		/* more than fit: the page is not judged until the next flush */
	struct truth seen[PAST];
};

struct cached {
	uint64_t gpa;
	bool read, write, execute, global;
};

struct driver {
	struct engine *e;
	struct machine *m;
	struct vcpu *v;
	uint64_t rng;
	uint32_t roots[ROOTS];
	uint64_t checked, faults, stale, missing, from_micro;
	struct past past[HOT];
	struct cached micro[2][HOT];	/* larger than any real one: it forgets only what it is told to */
	uint32_t trace_once;
	uint32_t tame;		/* this guest's tables are mostly sensible and change less */
	jmp_buf failed;
	char *why;
	size_t why_size;
};

/* The slots that build() makes, stated again as a rule. */
enum place { NOTHING, RAM, ROM, SCREEN, DEVICE_RAM, REGISTERS };

enum verdict { GRANTED, DENIED, AWAY };

struct judged {
	enum verdict verdict;
	uint32_t error;		/* DENIED */
	uint64_t away;		/* AWAY: gpa */
	uint64_t pde_gpa, pte_gpa;	/* ~0: not reached */
	bool passed_pde;	/* it went on to the page table: its A is set */
	bool found;		/* a translation exists, whatever its rights */
	struct truth t;
};

/* Linear addresses that are looked at: both ends and the middle of page tables of either format. */
uint32_t hot_linear(uint32_t i);

enum place place_of(uint64_t ppn);
void *bytes_at(const struct driver *d, uint64_t gpa);
bool is_fixed(const struct driver *d, uint64_t gpa);
uint64_t entry_at(const struct driver *d, uint64_t gpa, bool pae);
uint64_t through_a20(const struct driver *d, uint64_t gpa);

/* What the manual says of an access to the tables as they are now. */
struct judged judge(const struct driver *d, uint32_t linear, uint32_t acc);

bool same_truth(const struct truth *a, const struct truth *b);
/* Note what is true of all hot pages now.  Marks (A, D) that the processor itself set make no new truth. */
void remember_all(struct driver *d, bool by_processor);
/* A flush of one page, of all that CR3 flushes, and of INVLPG. */
void forget(struct driver *d, uint32_t hot);
void forget_not_global(struct driver *d);
void forget_around(struct driver *d, uint32_t linear);

/* An engine with nothing in it but the shadow page table, and its end (shadow_driver.c). */
struct driver *open_driver(uint64_t seed, uint64_t shadow_bytes, uint32_t vcpus, char *why, size_t why_size);
void close_driver(struct driver *d);

#endif
