/*
 * tlb.c -- the micro TLB: host addresses of pages, in front of the shadow page table.
 *
 * A tag says what an access may do without asking: a page gets a read tag when plain memory lies behind it, a write tag
 * only when a store needs no one's attention -- not traced, not decoded, not ROM, and a framebuffer page only once dirty.
 */
#include "mem.h"
#include "window.h"

static void
tlb_clear(struct tlb_entry *t)
{
	t->rtag = t->wtag = t->xtag = TLB_NONE;
}

/* That an entry may hold something is noted, so that a flush costs what there is to flush. */
static void
tlb_note(struct engine *e, const struct tlb_entry *t)
{
	const uint32_t at = (uint32_t)(t - &e->tlb[0][0]);
	const uint64_t bit = 1ull << (at % 64);

	e->tlb_used[0][at / 64] &= ~bit;
	e->tlb_used[1][at / 64] &= ~bit;
	e->tlb_used[t->global != 0][at / 64] |= bit;
	e->tlb_words[t->global != 0] |= 1ull << at / 64;
}

static void
clear_used(struct engine *e, bool global)
{
	struct tlb_entry *all = &e->tlb[0][0];
	uint64_t words, used;

	_Static_assert(TLB_WORDS <= 64, "a bit of tlb_words each");
	for (words = e->tlb_words[global]; words; words &= words - 1) {
		const uint32_t word = (uint32_t)__builtin_ctzll(words);

		for (used = e->tlb_used[global][word]; used; used &= used - 1)
			tlb_clear(&all[word * 64 + (uint32_t)__builtin_ctzll(used)]);
		e->tlb_used[global][word] = 0;
	}
	e->tlb_words[global] = 0;
}

void
tlb_init(struct engine *e)
{
	uint32_t i;

	for (i = 0; i < TLB_ENTRIES; i++) {
		tlb_clear(&e->tlb[VIEW_SUPERVISOR][i]);
		tlb_clear(&e->tlb[VIEW_USER][i]);
		tlb_clear(&e->tlb_off[i]);
	}
}

/* Pages of this one's kind may have a write tag. */
static inline uint64_t *
written_word(struct engine *e, uint32_t ppn)
{
	return &e->tlb_written[ppn / 64 % TLB_WRITTEN_WORDS];
}

static void
none_written(struct engine *e)
{
	__builtin_memset(e->tlb_written, 0, sizeof e->tlb_written);
}

void
tlb_flush(struct engine *e)
{
	clear_used(e, false);
	clear_used(e, true);
	none_written(e);
	e->ctl->stats.tlb_flushes++;
	code_contexts_forget(e);
}

void
tlb_flush_space(struct engine *e)
{
	clear_used(e, false);
	e->ctl->stats.tlb_flushes++;
	code_space_forget(e);
}

void
tlb_flush_page(struct engine *e, uint32_t linear)
{
	const uint32_t slot = linear >> PAGE_SHIFT & (TLB_ENTRIES - 1);

	tlb_clear(&e->tlb[VIEW_SUPERVISOR][slot]);
	tlb_clear(&e->tlb[VIEW_USER][slot]);
	code_page_forget(e, linear);
}

void
tlb_flush_writes(struct engine *e, uint32_t ppn)
{
	struct tlb_entry *all = &e->tlb[0][0];
	uint64_t *written = written_word(e, ppn);
	const uint64_t bit = 1ull << ppn % 64;
	bool others = false;
	uint32_t word;

	window_protect(e, ppn);
	if (!(*written & bit))
		return;
	for (word = 0; word < TLB_WORDS; word++) {
		uint64_t used = e->tlb_used[0][word] | e->tlb_used[1][word];

		for (; used; used &= used - 1) {
			struct tlb_entry *t = &all[word * 64 + (uint32_t)__builtin_ctzll(used)];

			if (t->ppn == ppn)
				t->wtag = TLB_NONE;
			else
				others |= t->wtag != TLB_NONE && written_word(e, t->ppn) == written && (t->ppn ^ ppn) % 64 == 0;
		}
	}
	if (!others)
		*written &= ~bit;
}

void
tlb_flush_all_writes(struct engine *e)
{
	struct tlb_entry *all = &e->tlb[0][0];
	uint32_t word;

	for (word = 0; word < TLB_WORDS; word++) {
		uint64_t used = e->tlb_used[0][word] | e->tlb_used[1][word];

		for (; used; used &= used - 1)
			all[word * 64 + (uint32_t)__builtin_ctzll(used)].wtag = TLB_NONE;
	}
	none_written(e);
}

/* Must a store to ppn be seen?  (traced tables, decoded code) */
static bool
stores_are_watched(const struct engine *e, uint32_t ppn)
{
	return ppn < e->m->ram_pages &&
	    ((e->page_flags[ppn] & PG_TRACED) || __atomic_load_n(&e->codemap[ppn], __ATOMIC_RELAXED));
}

/* What the shadow page table said of `linear`, where it is memory. */
void
tlb_put(struct engine *e, uint32_t linear, uint32_t acc, const struct shadow_hit *hit)
{
	struct tlb_entry *t = &e->tlb[acc & PF_U ? VIEW_USER : VIEW_SUPERVISOR][linear >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
	const uint32_t ppn = (uint32_t)(hit->gpa >> PAGE_SHIFT);

	e->ctl->stats.tlb_fills++;
	if (t->ppn != ppn || (t->rtag != (linear & PAGE_MASK) && t->rtag != TLB_NONE))
		tlb_clear(t);
	t->ppn = ppn;
	t->global = hit->spte & SPTE_G;
	tlb_note(e, t);
	t->addend = (uintptr_t)host_page(e, hit->spte) - (linear & PAGE_MASK);
	t->rtag = linear & PAGE_MASK;
	t->xtag = hit->spte & SPTE_X ? linear & PAGE_MASK : TLB_NONE;
	t->wtag = TLB_NONE;
	if ((hit->spte & SPTE_W) && !(hit->spte & (SPTE_ROM | SPTE_FB | SPTE_TRACED)) && !stores_are_watched(e, ppn)) {
		t->wtag = linear & PAGE_MASK;
		*written_word(e, ppn) |= 1ull << ppn % 64;
	}
}
