/*
 * shadow.c -- the shadow page table: the engine's TLB, and the record of what is mapped.
 *
 * The guest maps VPN -> PPN, the slots and the pmap map PPN -> MPN, and the SPTEs kept here
 * map VPN -> MPN, per guest address space (remembered, the oldest is forgotten) and per view.
 * Invariants:
 *
 *   S1  an SPTE never grants more than the guest's PDE and PTE together did at some moment
 *       since the last flush that covers it;
 *   S2  an SPTE is writable only once the GPTE is dirty, so the first write comes here and D
 *       can be set for the guest;
 *   S3  failed walks are never remembered, and a fault forgets what was remembered;
 *   S4  all entries of a leaf come from the PDE that the leaf holds (not in the global space);
 *   S5  what the micro TLB holds was taken from an entry that is here, or that was taken away
 *       together with a flush of the micro TLB.
 *
 * A CR3 load only counts `epoch` up.  A leaf of another epoch is compared with the guest's
 * tables when it is next used: its PDE, and unless the stamp of its page table says that
 * nothing was stored there, its entries one by one.  What is still true is kept; so a switch
 * costs nothing for what is not touched afterwards.  With PGE, global pages live in a space
 * of their own, which no CR3 load examines.
 *
 * Page-table pages are traced (PG_TRACED), so that stores to them bump the stamp.  After the
 * bump the flag may be cleared: it is set again when the leaf is next compared.  With several
 * vCPUs nothing is traced and every leaf is compared: another one's micro TLB may hold the page
 * writable, and asking the others to give that up costs more than a comparison.
 *
 * No allocation, no globals, no I/O.  Source: Intel SDM 3A, 4.10 "Caching Translation
 * Information".
 */
#include "shadow.h"
#include "window.h"

/* ---- leaves ---- */

static inline bool
leaf_has(const struct leaf *l, uint32_t i)
{
	return l->valid[i / 64] >> (i % 64) & 1;
}

/* The linear address of a leaf's entry. */
static inline uint32_t
leaf_linear(const struct leaf *l, uint32_t i)
{
	return (uint32_t)l->slot << LEAF_SHIFT | i << PAGE_SHIFT;
}

static inline void
leaf_drop(struct engine *e, struct leaf *l, uint32_t i)
{
	l->valid[i / 64] &= ~(1ull << (i % 64));
	window_forget(e, l->space, l->view, leaf_linear(l, i));
}

static uint64_t
leaf_any(const struct leaf *l)
{
	uint64_t any = 0;

	for (uint32_t word = 0; word < LEAF_ENTRIES / 64; word++)
		any |= l->valid[word];
	return any;
}

static void
leaf_clear(struct engine *e, struct leaf *l)
{
	if (leaf_any(l))
		window_forget_range(e, l->space, l->view, leaf_linear(l, 0), LEAF_ENTRIES);
	for (uint32_t word = 0; word < LEAF_ENTRIES / 64; word++)
		l->valid[word] = 0;
}

/* The next valid entry at or after `i`; LEAF_ENTRIES when there is none. */
uint32_t
leaf_next(const struct leaf *l, uint32_t i)
{
	while (i < LEAF_ENTRIES) {
		const uint64_t rest = l->valid[i / 64] >> (i % 64);

		if (rest)
			return i + (uint32_t)__builtin_ctzll(rest);
		i = (i / 64 + 1) * 64;
	}
	return LEAF_ENTRIES;
}

static void
leaf_free(struct engine *e, uint32_t index)
{
	struct shadow *sh = shadow_of(e);
	struct leaf *l = leaf_at(e, index);
	struct space *s = space_at(e, l->space);

	leaf_clear(e, l);
	s->directory[l->view][l->slot] = NO_LEAF;
	s->leaves--;
	if (l->prev != NO_LEAF)
		leaf_at(e, l->prev)->next = l->next;
	else
		s->first = l->next;
	if (l->next != NO_LEAF)
		leaf_at(e, l->next)->prev = l->prev;
	l->next = sh->free;
	sh->free = index;
	sh->leaves_used--;
}

/* The pool is empty: take the first leaf that was not used since the hand last passed. */
static void
leaf_recycle(struct engine *e)
{
	struct shadow *sh = shadow_of(e);
	struct leaf *l;

	for (;;) {
		sh->hand = sh->hand % sh->leaf_count + 1;
		l = leaf_at(e, sh->hand);
		if (!l->referenced)
			break;
		l->referenced = 0;
	}
	if (l->space == GLOBAL_SPACE)
		tlb_flush(e);		/* S5 */
	else if (l->space == sh->current)
		tlb_flush_space(e);
	leaf_free(e, sh->hand);
	sh->recycled++;
}

static uint32_t
leaf_new(struct engine *e, uint32_t space, uint32_t view, uint32_t slot)
{
	struct shadow *sh = shadow_of(e);
	struct space *s = space_at(e, space);
	uint32_t index;
	struct leaf *l;

	if (sh->free == NO_LEAF)
		leaf_recycle(e);
	index = sh->free;
	l = leaf_at(e, index);
	sh->free = l->next;
	sh->leaves_used++;
	l->pde = 0;
	l->epoch = sh->epoch;
	l->pt = (struct table_use){ NO_PPN, 0 };
	l->space = space;
	l->view = (uint8_t)view;
	l->slot = (uint16_t)slot;
	l->large = 0;
	l->prev = NO_LEAF;
	l->next = s->first;
	if (s->first != NO_LEAF)
		leaf_at(e, s->first)->prev = index;
	s->first = index;
	s->leaves++;
	s->directory[view][slot] = (uint16_t)index;
	return index;
}

/* ---- spaces ---- */

static void
space_drop(struct engine *e, uint32_t index)
{
	struct space *s = space_at(e, index);

	while (s->first != NO_LEAF)
		leaf_free(e, s->first);
}

/* Make the space of the current mode and CR3 the current one; an unknown one takes the oldest's place. */
static void
space_select(struct engine *e)
{
	struct shadow *sh = shadow_of(e);
	const struct vcpu *v = e->v;
	const uint32_t kind = paging_on(v) ? SPACE_PAGED : SPACE_IDENTITY;
	const uint32_t cr3 = kind == SPACE_IDENTITY ? 0 : v->cr3 & (paging_pae(v) ? 0xffffffe0u : PAGE_MASK);
	uint32_t oldest = GLOBAL_SPACE + 1;
	struct space *s;

	for (uint32_t i = GLOBAL_SPACE + 1; i < sh->space_count; i++) {
		s = space_at(e, i);
		if (s->kind == kind && s->cr3 == cr3) {
			sh->current = i;
			s->used = sh->epoch;
			return;
		}
		if (s->used < space_at(e, oldest)->used)
			oldest = i;
	}
	space_drop(e, oldest);
	s = space_at(e, oldest);
	s->kind = kind;
	s->cr3 = cr3;
	s->used = sh->epoch;
	sh->current = oldest;
}

/* ---- comparing a leaf with the guest's tables ---- */

/* Stores to this page table must be seen from now on.  With several vCPUs the comparison sees them. */
static void
trace_table(struct engine *e, struct table_use use)
{
	if (e->m->vcpus > 1 || use.ppn == NO_PPN || (__atomic_load_n(&e->page_flags[use.ppn], __ATOMIC_RELAXED) & PG_TRACED))
		return;
	__atomic_fetch_or(&e->page_flags[use.ppn], PG_TRACED, __ATOMIC_SEQ_CST);
	tlb_flush_writes(e, use.ppn);
}

/* D may have been set meanwhile, through another entry: that takes no right away. */
static bool
same_meaning(uint64_t then, uint64_t now, uint64_t ignored)
{
	const uint64_t changed = (then ^ now) & ~(GPTE_IGNORED | ignored);

	return !(changed & ~GPTE_D) && (!changed || (now & GPTE_D));
}

static bool
same_pde(const struct vcpu *v, uint64_t then, uint64_t now)
{
	if (!(then & GPTE_PS) || !pde_is_large(v, then))
		return same_meaning(then, now, GPTE_D | GPTE_G);
	return same_meaning(then, now, GPTE_PDE_PAT);
}

static bool
table_unchanged(struct engine *e, struct table_use use)
{
	return e->m->vcpus == 1 && use.ppn != NO_PPN
	    && __atomic_load_n(&e->stamps[use.ppn], __ATOMIC_ACQUIRE) == use.stamp;
}

/* Forget the entries that differ from the guest's page table. */
static void
leaf_compare(struct engine *e, uint32_t index)
{
	const bool wide = paging_pae(e->v);
	struct leaf *l = leaf_at(e, index);
	const struct entry *entries = entries_at(e, index);
	uint64_t table = pde_table(e->v, l->pde);
	const void *host;

	if (!wide && (l->slot & 1))
		table += LEAF_ENTRIES * sizeof(uint32_t);
	l->pt = table_use(e, table);
	trace_table(e, l->pt);
	if (!table_host(e, table, &host)) {
		leaf_clear(e, l);
		return;
	}
	for (uint32_t i = leaf_next(l, 0); i < LEAF_ENTRIES; i = leaf_next(l, i + 1))
		if (!same_meaning(entries[i].gpte, table_entry(host, i, wide), GPTE_PTE_PAT))
			leaf_drop(e, l, i);
}

/* The first use of a leaf after a CR3 load. */
static NOINLINE void
leaf_verify(struct engine *e, uint32_t index)
{
	struct leaf *l = leaf_at(e, index);
	struct run_stats *stats = &e->ctl->stats;
	uint64_t pde;

	l->epoch = shadow_of(e)->epoch;
	if (l->space == GLOBAL_SPACE || !paging_on(e->v) || !leaf_any(l))
		return;
	if (!walk_pde(e, (uint32_t)l->slot << LEAF_SHIFT, &pde) || !same_pde(e->v, l->pde, pde)) {
		leaf_clear(e, l);
		l->large = 0;
	} else if (!l->large && !table_unchanged(e, l->pt)) {
		leaf_compare(e, index);
	}
	if (leaf_any(l))
		stats->spt_kept++;
	else
		stats->spt_dropped++;
}

/* Find every leaf of the current space and this view true, or forget what is not. */
void
shadow_verify_all(struct engine *e, uint32_t view)
{
	const struct space *s = space_at(e, shadow_of(e)->current);

	for (uint32_t index = s->first; index != NO_LEAF; index = leaf_at(e, index)->next)
		if (leaf_at(e, index)->view == view && leaf_at(e, index)->epoch != shadow_of(e)->epoch)
			leaf_verify(e, index);
}

/* ---- looking up and filling ---- */

/* The leaf of `linear`, found true; NO_LEAF when there is none. */
static inline uint32_t
leaf_find(struct engine *e, uint32_t space, uint32_t view, uint32_t linear)
{
	const uint32_t index = space_at(e, space)->directory[view][linear >> LEAF_SHIFT];

	if (index != NO_LEAF && leaf_at(e, index)->epoch != shadow_of(e)->epoch)
		leaf_verify(e, index);
	return index;
}

static inline struct entry *
entry_find(struct engine *e, uint32_t space, uint32_t view, uint32_t linear)
{
	const uint32_t index = leaf_find(e, space, view, linear), i = linear >> PAGE_SHIFT & (LEAF_ENTRIES - 1);

	if (index == NO_LEAF || !leaf_has(leaf_at(e, index), i))
		return NULL;
	leaf_at(e, index)->referenced = 1;
	return entries_at(e, index) + i;
}

const struct entry *
shadow_find(struct engine *e, uint32_t view, uint32_t linear)
{
	const struct entry *entry = entry_find(e, shadow_of(e)->current, view, linear);

	return entry != NULL ? entry : entry_find(e, GLOBAL_SPACE, view, linear);
}

/* True when there was something to forget. */
static bool
entry_forget(struct engine *e, uint32_t space, uint32_t view, uint32_t linear)
{
	const uint32_t index = space_at(e, space)->directory[view][linear >> LEAF_SHIFT];
	const uint32_t i = linear >> PAGE_SHIFT & (LEAF_ENTRIES - 1);

	if (index == NO_LEAF || !leaf_has(leaf_at(e, index), i))
		return false;
	leaf_drop(e, leaf_at(e, index), i);
	return true;
}

/* The guest's page table may have been stored to through this page: every store must be seen. */
static uint64_t
traced(const struct engine *e, uint64_t gpa)
{
	const uint64_t ppn = gpa >> PAGE_SHIFT;

	return ppn < e->m->ram_pages && (e->page_flags[ppn] & PG_TRACED) ? SPTE_TRACED : 0;
}

void
entry_hit(const struct engine *e, const struct entry *entry, struct shadow_hit *hit)
{
	hit->gpa = a20(e->v, entry->gpte & GPTE_FRAME);
	hit->spte = entry->spte | traced(e, hit->gpa);
	hit->error = 0;
}

/* Empty the leaf if the PDE means something else now (S4); then it shadows `w`. */
static void
leaf_adopt(struct engine *e, uint32_t index, const struct walk *w)
{
	struct leaf *l = leaf_at(e, index);

	if (leaf_any(l)) {
		if (same_pde(e->v, l->pde, w->pde)) {
			l->pde = w->pde;
			return;
		}
		leaf_clear(e, l);
		if (l->space == GLOBAL_SPACE)
			tlb_flush(e);
		else
			tlb_flush_space(e);
	}
	l->large = 0;
	l->pde = w->pde;
	l->pt = w->pt;
	trace_table(e, w->pd);
	trace_table(e, w->pt);
}

static struct entry *
entry_fill(struct engine *e, uint32_t view, uint32_t linear, const struct walk *w)
{
	struct shadow *sh = shadow_of(e);
	const bool global = (w->spte & SPTE_G) != 0;
	const uint32_t space = global ? GLOBAL_SPACE : sh->current, other = global ? sh->current : GLOBAL_SPACE;
	const uint32_t i = linear >> PAGE_SHIFT & (LEAF_ENTRIES - 1);
	uint32_t index = leaf_find(e, space, view, linear);
	struct entry *entry;
	struct leaf *l;

	if (index == NO_LEAF)
		index = leaf_new(e, space, view, linear >> LEAF_SHIFT);
	l = leaf_at(e, index);
	if (!global)
		leaf_adopt(e, index, w);
	entry = entries_at(e, index) + i;
	if (entry_forget(e, other, view, linear) || (leaf_has(l, i) && ((entry->spte ^ w->spte) & ~(uint64_t)SPTE_W))) {
		tlb_flush_page(e, linear);
		window_forget(e, space, view, linear);
	}
	entry->spte = w->spte;
	entry->gpte = w->gpte;
	if (w->spte & SPTE_LARGE) {
		entry->gpte = w->gpa | (w->gpte & (GPTE_NX | (PAGE_SIZE - 1)));
		l->large = 1;
	}
	l->valid[i / 64] |= 1ull << (i % 64);
	l->referenced = 1;
	return entry;
}

/* 4.10.4.1: a page fault invalidates what is cached for the faulting address. */
static void
forget_page(struct engine *e, uint32_t linear)
{
	bool any = false;

	for (uint32_t view = VIEW_SUPERVISOR; view <= VIEW_USER; view++) {
		any |= entry_forget(e, shadow_of(e)->current, view, linear);
		any |= entry_forget(e, GLOBAL_SPACE, view, linear);
	}
	if (any)
		tlb_flush_page(e, linear);
}

enum shadow_result
shadow_access(struct engine *e, uint32_t linear, uint32_t acc, struct shadow_hit *hit)
{
	const uint32_t view = acc & PF_U ? VIEW_USER : VIEW_SUPERVISOR;
	const uint64_t need = SPTE_P | (acc & PF_W ? SPTE_W : 0) | (acc & PF_I ? SPTE_X : 0);
	const struct entry *entry = shadow_find(e, view, linear);
	enum shadow_result result;
	struct walk w;

	if (entry != NULL && (entry->spte & need) == need) {
		entry_hit(e, entry, hit);
		return SHADOW_FILLED;
	}
	result = walk_guest(e, linear, acc & (PF_W | PF_U | PF_I), &w);
	if (result == SHADOW_FILLED) {
		entry_hit(e, entry_fill(e, view, linear, &w), hit);
		e->ctl->stats.hidden_faults++;
		return result;
	}
	if (result == SHADOW_TRUE_FAULT)
		forget_page(e, linear);
	hit->spte = 0;
	hit->gpa = w.gpa;
	hit->error = w.error;
	return result;
}

/* ---- flushes ---- */

void
shadow_load_cr3(struct engine *e)
{
	e->ctl->stats.cr3_loads++;
	if (!paging_on(e->v))
		return;
	shadow_of(e)->epoch++;
	space_select(e);
	tlb_flush_space(e);
}

static void
slices_forget(struct engine *e, uint32_t index)
{
	struct leaf *l = leaf_at(e, index);

	for (uint32_t i = leaf_next(l, 0); i < LEAF_ENTRIES; i = leaf_next(l, i + 1))
		if (entries_at(e, index)[i].spte & SPTE_LARGE)
			leaf_drop(e, l, i);
	l->large = 0;
}

/*
 * Forget the entry for `linear`, and the slices of large pages in slots `first` to `last`, where a guest's large page may
 * be that holds it.  True when the micro TLB may hold some of the slices.
 */
static bool
forget_around(struct engine *e, uint32_t space, uint32_t view, uint32_t linear, uint32_t first, uint32_t last)
{
	const uint16_t *directory = space_at(e, space)->directory[view];
	const uint32_t i = linear >> PAGE_SHIFT & (LEAF_ENTRIES - 1);
	bool large = false;

	for (uint32_t slot = first; slot <= last; slot++) {
		const uint32_t index = directory[slot];

		if (index == NO_LEAF)
			continue;
		if (slot == linear >> LEAF_SHIFT && leaf_has(leaf_at(e, index), i))
			leaf_drop(e, leaf_at(e, index), i);
		if (leaf_at(e, index)->large) {
			slices_forget(e, index);
			large = true;
		}
	}
	return large;
}

void
shadow_invlpg(struct engine *e, uint32_t linear)
{
	const uint32_t first = paging_pae(e->v) ? linear >> LEAF_SHIFT : linear >> LEAF_SHIFT & ~1u;
	const uint32_t last = paging_pae(e->v) ? first : first + 1;
	const bool some_global = space_at(e, GLOBAL_SPACE)->first != NO_LEAF;
	bool large = false;

	for (uint32_t view = VIEW_SUPERVISOR; view <= VIEW_USER; view++) {
		large |= forget_around(e, shadow_of(e)->current, view, linear, first, last);
		if (some_global)
			large |= forget_around(e, GLOBAL_SPACE, view, linear, first, last);
	}
	if (large)
		tlb_flush(e);
	else
		tlb_flush_page(e, linear);
}

static void
forget_all(struct engine *e)
{
	struct shadow *sh = shadow_of(e);

	for (uint32_t i = 0; i < sh->space_count; i++) {
		space_drop(e, i);
		space_at(e, i)->kind = i == GLOBAL_SPACE ? SPACE_GLOBAL : SPACE_FREE;
		space_at(e, i)->used = 0;
	}
	sh->epoch++;
	space_select(e);
	window_forget_all(e);
}

void
shadow_mode_changed(struct engine *e)
{
	forget_all(e);
	tlb_flush(e);
}

/* ---- the arena ---- */

/* Divide the range: a sixteenth for the spaces, the rest for leaves. */
static void
lay_out(struct shadow *sh, uint64_t start, uint64_t end)
{
	const uint64_t at = (start + sizeof(struct shadow) + 63) & ~63ull;
	uint64_t spaces = (end - at) / 16 / sizeof(struct space);
	uint64_t leaves;

	spaces = spaces < 4 ? 4 : spaces > 32 ? 32 : spaces;
	sh->space_count = (uint32_t)spaces;
	sh->spaces = at;
	sh->leaves = (at + spaces * sizeof(struct space) + 63) & ~63ull;
	leaves = (end - sh->leaves - 64) / (sizeof(struct leaf) + LEAF_ENTRIES * sizeof(struct entry));
	leaves = leaves > 0xffff ? 0xffff : leaves;
	sh->leaf_count = (uint32_t)leaves - 1;
	sh->entries = (sh->leaves + leaves * sizeof(struct leaf) + 63) & ~63ull;
}

void
shadow_init(struct engine *e)
{
	struct shadow *sh = shadow_of(e);

	*sh = (struct shadow){ 0 };
	lay_out(sh, e->shadow_start, e->shadow_end);
	for (uint32_t i = 0; i < sh->space_count; i++) {
		struct space *s = space_at(e, i);

		s->first = NO_LEAF;
		s->leaves = 0;
		for (uint32_t slot = 0; slot < DIRECTORY_ENTRIES; slot++)
			s->directory[VIEW_SUPERVISOR][slot] = s->directory[VIEW_USER][slot] = NO_LEAF;
	}
	for (uint32_t i = sh->leaf_count; i > 0; i--) {
		leaf_at(e, i)->next = sh->free;
		sh->free = i;
	}
	forget_all(e);
}
