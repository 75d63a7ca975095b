/*
 * shadow.h -- what walk.c (the guest's page tables) and shadow.c (ours) share.
 *
 * Names: a GPTE is an entry of the guest's tables, an SPTE one of ours.  Entries of 4-byte
 * tables are handled zero-extended to 64 bits, so both formats use one set of masks.
 * Source: Intel SDM 3A, 4.3 "32-bit Paging", 4.4 "PAE Paging", 4.7, 4.8, 4.10.
 */
#ifndef RF_SHADOW_H
#define RF_SHADOW_H

#include "engine.h"

/* Bits of a guest entry, at every level and in both formats. */
#define GPTE_P 0x1ull
#define GPTE_W 0x2ull
#define GPTE_U 0x4ull
#define GPTE_A 0x20ull
#define GPTE_D 0x40ull		/* leaf entries */
#define GPTE_PS 0x80ull		/* in a PDE: it maps a large page */
#define GPTE_G 0x100ull		/* leaf entries */
#define GPTE_NX 0x8000000000000000ull
/* PWT, PCD and the bits that software may use: all guest memory is write-back. */
#define GPTE_IGNORED 0xe18ull
#define GPTE_PTE_PAT 0x80ull
#define GPTE_PDE_PAT 0x1000ull	/* of a large page */
#define GPTE_FRAME 0x000ffffffffff000ull

#define NO_PPN 0xffffffffu

/* Not one of the error code's bits: an inspection, which must leave no trace. */
#define WALK_PEEK 0x100u

/* A guest page table in use: where it is, and its page stamp before any entry was read. */
struct table_use {
	uint32_t ppn;		/* NO_PPN: not in RAM, so no stamp tells of its changes */
	uint32_t stamp;
};

/* What the guest's tables say about one linear page. */
struct walk {
	uint64_t gpa;		/* of the 4 KiB page, A20 applied; SHADOW_FAULT_PPN: of the page that is missing */
	uint64_t spte;		/* the rights of the view that was asked for */
	uint64_t pde;		/* as it is in memory now, A and D included */
	uint64_t gpte;		/* the leaf: the PTE, or the PDE of a large page; paging off: the address */
	uint32_t error;		/* SHADOW_TRUE_FAULT */
	struct table_use pd;
	struct table_use pt;	/* NO_PPN also for large pages */
};

/*
 * Walk for an access (enum pf, or WALK_PEEK), setting A and D.  With paging off every linear
 * address is its own physical address.
 */
enum shadow_result walk_guest(struct engine *e, uint32_t linear, uint32_t acc, struct walk *w);

/* The page directory's entry for `linear` now; false when its page or its PDPTE is not there. */
bool walk_pde(struct engine *e, uint32_t linear, uint64_t *pde);
/*
 * Where the entry at `gpa` and those after it in its page lie in the host: NULL where they read as all ones.
 * False when the page must be resolved first.
 */
bool table_host(struct engine *e, uint64_t gpa, const void **host);
struct table_use table_use(const struct engine *e, uint64_t gpa);

static inline bool
paging_on(const struct vcpu *v)
{
	return (v->cr0 & CR0_PG) != 0;
}

static inline bool
paging_pae(const struct vcpu *v)
{
	return (v->cr4 & CR4_PAE) != 0;
}

static inline bool
paging_nx(const struct vcpu *v)
{
	return paging_pae(v) && (v->efer & EFER_NXE);
}

/* "PS" maps a large page always with PAE, else only with CR4.PSE. */
static inline bool
pde_is_large(const struct vcpu *v, uint64_t pde)
{
	return (pde & GPTE_PS) && (v->cr4 & (CR4_PAE | CR4_PSE));
}

/* The A20 gate acts on every physical address that the processor drives. */
static inline uint64_t
a20(const struct vcpu *v, uint64_t gpa)
{
	return gpa & (0xffffffff00000000ull | v->a20_mask);
}

/* ---- the table ----
 * A space is one guest address space; it has a directory per view, whose entries are indices
 * of leaves.  A leaf holds the SPTEs of 2 MiB of linear addresses: a PAE page table, or half
 * of a 32-bit one.  Space 0 is the global one: what PGE keeps, whatever CR3 says.
 */
#define LEAF_SHIFT 21
#define LEAF_ENTRIES 512u
#define DIRECTORY_ENTRIES 2048u
#define NO_LEAF 0u
#define GLOBAL_SPACE 0u

enum space_kind { SPACE_FREE, SPACE_GLOBAL, SPACE_IDENTITY, SPACE_PAGED };

struct space {
	uint32_t kind;		/* enum space_kind */
	uint32_t cr3;		/* SPACE_PAGED: the base address in it */
	uint64_t used;		/* shadow.epoch when it was last loaded */
	uint32_t first;		/* its leaves, a doubly linked list; NO_LEAF ends it */
	uint32_t leaves;
	uint16_t directory[2][DIRECTORY_ENTRIES];	/* enum view */
};

struct entry {
	uint64_t spte;
	uint64_t gpte;		/* the guest's entry that it was made from; large: the slice's frame and the PDE's flags */
};

struct leaf {
	uint64_t valid[LEAF_ENTRIES / 64];	/* which entries count: the others are not even cleared */
	uint64_t pde;		/* the guest's, as of `epoch`; all entries come from it (not in the global space) */
	uint64_t epoch;		/* of the CR3 load after which it was last found true */
	struct table_use pt;	/* the guest's table, at the stamp at which the entries were known to be true */
	uint32_t next, prev;	/* in its space's list, or in the free list */
	uint32_t space;
	uint16_t slot;		/* linear >> LEAF_SHIFT */
	uint8_t view;
	uint8_t referenced;	/* since the clock hand last came by */
	uint8_t large;		/* since the last flush, some entry is or was a slice of a large page */
	uint8_t reserved[3];
};

/* At e->shadow_start.  The arrays are arena offsets; leaf and entry block 0 are unused. */
struct shadow {
	uint64_t epoch;		/* counts CR3 loads */
	uint64_t spaces, leaves, entries;
	uint32_t space_count, leaf_count;
	uint32_t current;	/* space */
	uint32_t free;		/* leaf list */
	uint32_t hand;		/* clock over the leaves */
	uint32_t leaves_used;
	uint64_t recycled;
};

/* The least that shadow_init accepts: 4 spaces and 16 leaves. */
#define SHADOW_MIN 0x2c000ul

/* Read once: the guest may change it at any time. */
static inline uint64_t
table_entry(const void *host, uint32_t index, bool wide)
{
	if (wide)
		return host ? __atomic_load_n((const uint64_t *)host + index, __ATOMIC_ACQUIRE) : 0xffffffffffffffffull;
	return host ? __atomic_load_n((const uint32_t *)host + index, __ATOMIC_ACQUIRE) : 0xffffffffu;
}

/* Where the page table that a PDE names begins. */
static inline uint64_t
pde_table(const struct vcpu *v, uint64_t pde)
{
	return a20(v, pde & GPTE_FRAME);
}

static inline struct shadow *
shadow_of(struct engine *e)
{
	return arena_at(e, e->shadow_start);
}

static inline struct space *
space_at(struct engine *e, uint32_t index)
{
	return (struct space *)arena_at(e, shadow_of(e)->spaces) + index;
}

static inline struct leaf *
leaf_at(struct engine *e, uint32_t index)
{
	return (struct leaf *)arena_at(e, shadow_of(e)->leaves) + index;
}

static inline struct entry *
entries_at(struct engine *e, uint32_t leaf)
{
	return (struct entry *)arena_at(e, shadow_of(e)->entries) + (uint64_t)leaf * LEAF_ENTRIES;
}

/* The remembered translation of `linear`, found true if need be; NULL when there is none. */
const struct entry *shadow_find(struct engine *e, uint32_t view, uint32_t linear);
/* Before a window shows a view of the current space: all its entries are true as of the last CR3 load. */
void shadow_verify_all(struct engine *e, uint32_t view);
/* What an entry answers, PG_TRACED as of now. */
void entry_hit(const struct engine *e, const struct entry *entry, struct shadow_hit *hit);
/* The next valid entry at or after `i`; LEAF_ENTRIES when there is none. */
uint32_t leaf_next(const struct leaf *l, uint32_t i);

#endif
