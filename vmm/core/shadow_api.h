/*
 * shadow_api.h -- the shadow page table as Python sees it, between two runs of the engine.
 *
 * Part of the cffi declarations: plain structs and prototypes only.
 */
#ifndef RF_SHADOW_API_H
#define RF_SHADOW_API_H

#ifndef RF_CDEF
#include <stdint.h>
#endif

/* One remembered translation.  All 24 bytes are fields: a dump is a numpy array of these. */
struct shadow_entry {
	uint32_t vpn;
	uint32_t view;		/* enum view: 0 supervisor, 1 user */
	uint64_t spte;		/* enum spte_bit; SPTE_TRACED as of now */
	uint64_t gpa;		/* of the guest page, A20 applied */
};

struct shadow_counts {
	uint32_t spaces;	/* address spaces remembered, the global one not counted */
	uint32_t spaces_max;
	uint32_t leaves;	/* leaf tables in use, over all spaces */
	uint32_t leaves_max;
	uint64_t entries;	/* valid SPTEs, over all spaces */
	uint64_t entries_global;	/* of them in the global space */
	uint64_t recycled;	/* leaf tables taken from their users because the pool was empty */
};

/* What the table holds for `linear` in a view of the current space: 1, or 0 when nothing.  Fills nothing. */
int shadow_lookup(void *arena, uint32_t linear, uint32_t view, struct shadow_entry *out);

/*
 * The current space's and the global entries, in order of view and VPN, at most `max` of them.
 * Returns how many there are.
 */
uint64_t shadow_dump(void *arena, struct shadow_entry *out, uint64_t max);

void shadow_count(void *arena, struct shadow_counts *out);

/* Walk the guest's tables for an access (enum pf) without a trace: 0 and the gpa, or -1 and the page-fault error code. */
int shadow_probe(void *arena, uint32_t linear, uint32_t access, uint64_t *gpa, uint32_t *error);

#endif
