/*
 * codecache.h -- decoded blocks: lookup, links, and what makes one stale.
 *
 *   C1  A block may run only while the stamp of each page it was decoded from is the one that
 *	 it remembers; every entry, linked or looked up, compares.
 *   C2  A page from which bytes were decoded has their 64-byte lines in the codemap, and no view
 *	 maps it writable in the micro TLB: so every store to it reaches page_written().  How the
 *	 other vCPUs come to do the same is said in watch.h.
 *   C3  A store into the running block replaces the ops behind the running one by h_stale.
 *   C4  A link within one page is true as long as its block is: the page of a running block is
 *	 mapped where it runs.  A link to another page is true where block_is_at(): one block runs at every linear
 *	 address its page is mapped at, and there another page may follow.
 *   C5  Links exist only between blocks of flat 32-bit code, where EIP neither wraps nor meets
 *	 the limit.
 */
#ifndef RF_CODECACHE_H
#define RF_CODECACHE_H

#include "engine.h"

#define BLOCK_INSNS 48		/* instructions of a block at the most */
#define LINK_CHECKED 1u		/* low bit of op->link: ask block_is_at() (C4) */

void code_init(struct engine *e);
void code_flush(struct engine *e);
void code_context_select(struct engine *e);

/* The block at v->eip, decoded if need be.  May raise a fetch fault with e->cur == NULL. */
struct block *code_lookup(struct engine *e);

/* Decode the code at `linear`, physical `paddr`, into the arena; decode.c.  May drop the whole cache first. */
struct block *code_decode(struct engine *e, uint32_t linear, uint64_t paddr);

/* Translate for a fetch: raises the fault.  bytes is NULL where no memory answers. */
struct fetched { uint64_t gpa; const uint8_t *bytes; };	/* of the page */
struct fetched mem_fetch(struct engine *e, uint32_t linear);

/* Instructions that op stands for. */
static inline uint32_t
op_insns(const struct op *op)
{
	return op->flags & OP_FUSED ? 2 : 1;
}

/* Instructions of the running block from op on: counted at its entry, not retired.  run.c */
int64_t block_rest(const struct engine *e, const struct op *op);

/* The stamp cell of a page; pages beyond RAM never change under a block. */
static inline const uint32_t *
stamp_cell(const struct engine *e, uint32_t ppn)
{
	return ppn < e->m->ram_pages ? &e->stamps[ppn] : &e->zero_stamp;
}

static inline struct block *
block_at(struct engine *e, uint32_t offset)
{
	return (struct block *)arena_at(e, offset);
}

static inline uint32_t
block_offset(const struct engine *e, const struct block *b)
{
	return (uint32_t)((const uint8_t *)b - (const uint8_t *)e);
}

/* Is what b was decoded from still there? */
static inline bool
block_valid(const struct block *b)
{
	return __atomic_load_n(b->stamp_cell, __ATOMIC_ACQUIRE) == b->stamp;
}

/* Is b what `eip` leads to?  It was found there, and nothing that its place depends on has changed. */
static inline bool
block_is_at(const struct engine *e, const struct block *b, uint32_t eip)
{
	return b->eip == eip && (b->gen == e->global_gen || b->gen == e->code_gen);
}

static inline struct jump_hint *
jump_hint(struct engine *e, uint32_t eip)
{
	return &e->jumps[(eip ^ eip >> 10) & (JUMP_HINTS - 1)];
}

/* The block at `eip` if the hint for it still holds: only for flat 32-bit code, as code_gen implies. */
static inline struct block *
hinted(const struct engine *e, const struct jump_hint *h, uint32_t eip)
{
	if (unlikely(h->eip != eip || (h->gen != e->global_gen && h->gen != e->code_gen)))
		return NULL;
	return likely(block_valid(h->block)) ? h->block : NULL;
}

/* code_lookup(), by the hint if it can be. */
static inline struct block *
code_at(struct engine *e)
{
	const struct jump_hint *h = jump_hint(e, e->v->eip);
	struct block *b = hinted(e, h, e->v->eip);

	if (!b)
		return code_lookup(e);
	b->eip = h->eip;
	b->gen = h->gen;
	return b;
}

/*
 * Start b at `eip`.  False: the budget is used up, and the run loop must look at events first.
 * What others ask for by attention bits waits for that, or for the next dispatch().
 */
static inline bool
block_enter(struct engine *e, struct block *b, uint32_t eip)
{
	if (unlikely(e->budget < 0))
		return false;
	e->budget -= b->count;
	e->eip_base = eip;
	e->block = b;
	return true;
}

#endif
