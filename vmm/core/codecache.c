/*
 * codecache.c -- where decoded blocks live and how they are found.  Invariants: codecache.h.
 *
 * Blocks are laid one after another into the arena and found by physical address and mode; when
 * the room is used up everything is dropped.  code_gen names what linear code addresses mean:
 * (mode, view, CS base) since the last translation change; global_gen the same of global pages.  The few
 * most recent of these keep their numbers, so that a system call and its return do not lose the jump hints.
 */
#include "codecache.h"
#include "handlers.h"
#include "mem.h"
#include "watch.h"

static uint32_t *
hash_slot(struct engine *e, uint64_t paddr, uint32_t mode)
{
	uint32_t *table = arena_at(e, e->hash_start);
	const uint32_t h = (uint32_t)(paddr ^ paddr >> 32 ^ (uint64_t)mode << 27) * 0x9e3779b1u;	/* 2^32 / golden ratio */

	return &table[h >> (32 - CODE_HASH_BITS)];
}

void
code_flush(struct engine *e)
{
	uint32_t *table = arena_at(e, e->hash_start);
	struct block *b;
	uint32_t i;

	for (i = 0; i < CODE_HASH; i++)
		table[i] = 0;
	b = arena_at(e, e->code_start);
	__builtin_memset(b, 0, sizeof *b);
	b->stamp_cell = &e->zero_stamp;
	b->stamp = 1;
	e->no_block = (uint32_t)e->code_start;
	e->code_next = e->code_start + ((sizeof *b + 15) & ~15ull);
	e->code_flushes++;
	e->block = NULL;
	code_contexts_forget(e);
}

/* A load of CR3 comes here: it clears what was set, not the 2 KiB. */
static void
vpns_forget(struct engine *e, bool global)
{
	for (uint32_t i = 0; i < CODE_VPNS / 64 / 64; i++) {
		for (uint64_t words = e->code_words[global][i]; words; words &= words - 1)
			e->code_vpns[global][64 * i + (uint32_t)__builtin_ctzll(words)] = 0;
		e->code_words[global][i] = 0;
	}
}

static void
vpns_note(struct engine *e, bool global, uint32_t linear)
{
	const uint32_t vpn = (linear >> PAGE_SHIFT) % CODE_VPNS, word = vpn / 64;

	e->code_vpns[global][word] |= 1ull << (vpn % 64);
	e->code_words[global][word / 64] |= 1ull << (word % 64);
}

void
code_contexts_forget(struct engine *e)
{
	uint32_t i;

	for (i = 0; i < 8; i++)
		e->contexts[i].gen = e->contexts[i].global_gen = 0;
	vpns_forget(e, false);
	vpns_forget(e, true);
	code_context_select(e);
}

void
code_space_forget(struct engine *e)
{
	uint32_t i;

	for (i = 0; i < 8; i++)
		e->contexts[i].gen = 0;
	vpns_forget(e, false);
	code_context_select(e);
}

/* INVLPG of a page that no code was found in leaves hints and links alone. */
void
code_page_forget(struct engine *e, uint32_t linear)
{
	const uint32_t vpn = linear >> PAGE_SHIFT, word = vpn % CODE_VPNS / 64;

	if (e->code_vpns[1][word] >> (vpn % 64) & 1)
		code_contexts_forget(e);
	else if (e->code_vpns[0][word] >> (vpn % 64) & 1)
		code_space_forget(e);
}

static inline bool
context_is(const struct engine *e, uint32_t i, uint32_t view, uint32_t cs_base)
{
	return e->contexts[i].global_gen && e->contexts[i].mode == e->mode && e->contexts[i].view == view &&
	    e->contexts[i].cs_base == cs_base;
}

/* code_gen and global_gen for the present mode, view and CS base. */
void
code_context_select(struct engine *e)
{
	const uint32_t view = e->v->cpl == 3, cs_base = e->v->seg[CS].base;
	uint32_t i = e->context_now;

	if (!context_is(e, i, view, cs_base))
		for (i = 0; i < 8; i++)
			if (context_is(e, i, view, cs_base))
				break;
	if (i == 8) {
		i = e->context_next++ & 7;
		e->contexts[i].mode = e->mode;
		e->contexts[i].view = view;
		e->contexts[i].cs_base = cs_base;
		e->contexts[i].gen = 0;
		e->contexts[i].global_gen = ++e->gen_last;
	}
	if (!e->contexts[i].gen)
		e->contexts[i].gen = ++e->gen_last;
	e->context_now = i;
	e->code_gen = e->contexts[i].gen;
	e->global_gen = e->contexts[i].global_gen;
}

/* C3: the running block reads ops that it has not reached yet from here. */
void
code_stale_running(struct engine *e, uint32_t ppn)
{
	struct block *b = e->block;
	uint32_t i;

	if (!b || !e->cur || (b->ppn != ppn && b->ppn2 != ppn))
		return;
	for (i = 0; i < b->ops_count; i++)
		if (&b->ops[i] > e->cur)
			b->ops[i].fn = h_stale;
}

/* Physical address of the code at `linear`; raises the fetch fault. */
static uint64_t
code_physical(struct engine *e, uint32_t linear)
{
	const struct tlb_entry *t = tlb_slot(e, linear);

	if (likely(t->xtag == (linear & PAGE_MASK)))
		return (uint64_t)t->ppn << PAGE_SHIFT | (linear & (PAGE_SIZE - 1));
	return mem_fetch(e, linear).gpa | (linear & (PAGE_SIZE - 1));
}

/* Is the page of the code at `linear`, which was just fetched, one that outlives a load of CR3? */
static bool
code_is_global(struct engine *e, uint32_t linear)
{
	const struct tlb_entry *t = tlb_slot(e, linear);

	return t->xtag == (linear & PAGE_MASK) && t->global;
}

/* The second page of a crossing block may be mapped anew or written while the first is not. */
static bool
second_page_valid(struct engine *e, const struct block *b, uint32_t linear)
{
	const uint32_t next = (linear | (PAGE_SIZE - 1)) + 1;

	return code_physical(e, next) >> PAGE_SHIFT == b->ppn2 && *stamp_cell(e, b->ppn2) == b->stamp2;
}

/* What the key does not say of a block: its stamp, its second page, and the CS limit. */
static bool
block_runs_at(struct engine *e, const struct block *b, uint32_t linear)
{
	const struct vcpu *v = e->v;

	if (unlikely(!block_valid(b)))
		return false;
	if (unlikely(b->ppn2 != ~0u) && !second_page_valid(e, b, linear))
		return false;
	return likely(e->mode & MODE_CSFLAT) || v->eip + b->length - 1 <= v->seg[CS].limit;
}

/* V3 of watch.h.  False: what runs here must be decoded anew. */
static bool
pending_runs_at(struct engine *e, const struct block *b, uint32_t linear)
{
	const uint32_t in_page = linear & (PAGE_SIZE - 1), left = PAGE_SIZE - in_page;
	const uint32_t first = b->length < left ? b->length : left;
	const uint8_t *kept = (const uint8_t *)&b->ops[b->ops_count], *memory;

	if (__atomic_load_n(stamp_cell(e, b->ppn), __ATOMIC_ACQUIRE) != b->stamp)
		return false;
	if (watch_is_settled(e, b->ppn, b->stamp) && (b->ppn2 == ~0u || watch_is_settled(e, b->ppn2, b->stamp2)))
		return false;
	if (b->ppn2 != ~0u && !second_page_valid(e, b, linear))
		return false;
	if (!(e->mode & MODE_CSFLAT) && e->v->eip + b->length - 1 > e->v->seg[CS].limit)
		return false;
	memory = mem_fetch(e, linear).bytes;
	if (!memory || __builtin_memcmp(kept, memory + in_page, first) != 0)
		return false;
	if (b->length == first)
		return true;
	memory = mem_fetch(e, linear + first).bytes;
	return memory && __builtin_memcmp(kept + first, memory, b->length - first) == 0;
}

/* The block for `paddr` in the hash chain at *from, or NULL.  What is not true any more is taken out. */
static struct block *
chain_find(struct engine *e, uint32_t *from, uint64_t paddr, uint32_t linear)
{
	while (*from) {
		struct block *c = block_at(e, *from);
		const bool here = c->paddr == paddr && c->mode == e->mode;

		if (unlikely(c->pending ? here && !pending_runs_at(e, c, linear) : !block_valid(c))) {
			*from = c->next;	/* its room is lost until the next flush */
			continue;
		}
		if (here && (c->pending || block_runs_at(e, c, linear)))
			return c;
		from = &c->next;
	}
	return NULL;
}

struct block *
code_lookup(struct engine *e)
{
	const struct vcpu *v = e->v;
	const uint32_t linear = v->seg[CS].base + v->eip;
	struct jump_hint *hint;
	uint32_t *slot;
	struct block *b;
	uint64_t paddr;
	bool global;

	e->ctl->stats.block_lookups++;
	if (unlikely(v->eip > v->seg[CS].limit))
		raise_gp0(e);
	paddr = code_physical(e, linear);
	b = chain_find(e, hash_slot(e, paddr, e->mode), paddr, linear);
	if (!b) {
		b = code_decode(e, linear, paddr);
		slot = hash_slot(e, paddr, e->mode);	/* the cache may have been dropped */
		b->next = *slot;
		*slot = block_offset(e, b);
	}
	global = code_is_global(e, linear);
	vpns_note(e, global, linear);
	b->eip = v->eip;
	b->gen = global ? e->global_gen : e->code_gen;
	if (b->ppn2 == ~0u && (e->mode & (MODE_CSFLAT | MODE_CS32 | MODE_ONE)) == (MODE_CSFLAT | MODE_CS32)) {
		hint = jump_hint(e, v->eip);
		hint->eip = v->eip;
		hint->gen = b->gen;
		hint->block = b;
	}
	return b;
}
