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

/* Entries that may hold something are listed, so that a flush after little use is cheap. */
static void
tlb_note(struct engine *e, const struct tlb_entry *t)
{
	if (e->tlb_used < TLB_NOTED)
		e->tlb_noted[e->tlb_used] = (uint16_t)(t - &e->tlb[0][0]);
	e->tlb_used++;		/* beyond TLB_NOTED: any entry may be in use */
}

void
tlb_flush(struct engine *e)
{
	struct tlb_entry *all = &e->tlb[0][0];
	uint32_t i;

	if (e->tlb_used <= TLB_NOTED)
		for (i = 0; i < e->tlb_used; i++)
			tlb_clear(&all[e->tlb_noted[i]]);
	else
		for (i = 0; i < 2 * TLB_ENTRIES; i++)
			tlb_clear(&all[i]);
	e->tlb_used = 0;
	e->ctl->stats.tlb_flushes++;
	code_contexts_forget(e);
}

void
tlb_flush_space(struct engine *e)
{
	struct tlb_entry *all = &e->tlb[0][0];
	const bool noted = e->tlb_used <= TLB_NOTED;
	const uint32_t count = noted ? e->tlb_used : 2 * TLB_ENTRIES;
	uint32_t i, at;

	e->tlb_used = 0;
	for (i = 0; i < count; i++) {
		at = noted ? e->tlb_noted[i] : i;
		if (all[at].rtag == TLB_NONE)
			continue;
		if (all[at].global)
			tlb_note(e, &all[at]);		/* never ahead of i */
		else
			tlb_clear(&all[at]);
	}
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
	uint32_t i;

	window_protect(e, ppn);
	if (e->tlb_used <= TLB_NOTED) {
		for (i = 0; i < e->tlb_used; i++)
			if (all[e->tlb_noted[i]].ppn == ppn)
				all[e->tlb_noted[i]].wtag = TLB_NONE;
		return;
	}
	for (i = 0; i < 2 * TLB_ENTRIES; i++)
		if (all[i].ppn == ppn)
			all[i].wtag = TLB_NONE;
}

void
tlb_flush_all_writes(struct engine *e)
{
	struct tlb_entry *all = &e->tlb[0][0];
	uint32_t i;

	if (e->tlb_used <= TLB_NOTED) {
		for (i = 0; i < e->tlb_used; i++)
			all[e->tlb_noted[i]].wtag = TLB_NONE;
		return;
	}
	for (i = 0; i < 2 * TLB_ENTRIES; i++)
		all[i].wtag = TLB_NONE;
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
	if (t->rtag == TLB_NONE)
		tlb_note(e, t);
	t->ppn = ppn;
	t->global = hit->spte & SPTE_G;
	t->addend = (uintptr_t)host_page(e, hit->spte) - (linear & PAGE_MASK);
	t->rtag = linear & PAGE_MASK;
	t->xtag = hit->spte & SPTE_X ? linear & PAGE_MASK : TLB_NONE;
	t->wtag = TLB_NONE;
	if ((hit->spte & SPTE_W) && !(hit->spte & (SPTE_ROM | SPTE_FB | SPTE_TRACED)) && !stores_are_watched(e, ppn))
		t->wtag = linear & PAGE_MASK;
}
