/*
 * shadow_driver.c -- random guests that set the shadow page table against the model of the paging rules.
 *
 * Test only.  The driver is the rest of the engine: a micro TLB that is filled as mem.c fills it, stores to page tables
 * that are seen only when traced, DMA that bumps stamps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shadow_api.h"
#include "shadow_model.h"

/* The stubs below are called by the code under test with the engine only; the driver lies behind it. */
static struct driver *driver_of(struct engine *e) { return *(struct driver **)(void *)((uint8_t *)e - 64); }

#define FAIL(d, ...) (snprintf((d)->why, (d)->why_size, __VA_ARGS__), longjmp((d)->failed, 1))

/* ---- what mem.c and run.c would be ---- */

void
tlb_flush(struct engine *e)
{
	memset(driver_of(e)->micro, 0, sizeof driver_of(e)->micro);
}

void
tlb_flush_space(struct engine *e)
{
	for (uint32_t hot = 0; hot < HOT; hot++)
		for (int view = 0; view < 2; view++)
			if (!driver_of(e)->micro[view][hot].global)
				driver_of(e)->micro[view][hot] = (struct cached){ 0 };
}

void
tlb_flush_page(struct engine *e, uint32_t linear)
{
	for (uint32_t hot = 0; hot < HOT; hot++)
		if (hot_linear(hot) >> 12 == linear >> 12)
			for (int view = 0; view < 2; view++)
				driver_of(e)->micro[view][hot] = (struct cached){ 0 };
}

void
tlb_flush_writes(struct engine *e, uint32_t ppn)
{
	for (uint32_t hot = 0; hot < HOT; hot++)
		for (int view = 0; view < 2; view++)
			if (driver_of(e)->micro[view][hot].gpa >> 12 == ppn)
				driver_of(e)->micro[view][hot].write = false;
}

void
page_written(struct engine *e, uint32_t ppn, uint32_t offset, uint32_t size)
{
	(void)offset;
	(void)size;
	if (e->page_flags[ppn] & PG_TRACED) {
		e->stamps[ppn]++;
		if (driver_of(e)->trace_once)
			e->page_flags[ppn] &= (uint8_t)~PG_TRACED;
	}
}

void
leave(struct engine *e, uint32_t exit_kind)
{
	FAIL(driver_of(e), "leave(%u) was called by a walk", exit_kind);
	abort();
}

/* ---- random ---- */

static uint64_t
draw(struct driver *d)
{
	d->rng ^= d->rng << 13;
	d->rng ^= d->rng >> 7;
	d->rng ^= d->rng << 17;
	return d->rng * 0x2545f4914f6cdd1dull;
}

static uint32_t below(struct driver *d, uint32_t n) { return (uint32_t)((draw(d) >> 32) % n); }
static bool once_in(struct driver *d, uint32_t n) { return below(d, n) == 0; }

static uint32_t
table_ppn(uint32_t i)
{
	return i < 16 ? i : 240 + i;
}

/* ---- judging an answer ---- */

struct answer {
	uint64_t gpa;
	bool write, execute;
	const char *from;
};

static bool
allows(const struct driver *d, const struct truth *t, uint32_t acc, const struct answer *a)
{
	const bool may_write = t->write || (!(acc & PF_U) && !(d->v->cr0 >> 16 & 1));

	if (t->gpa != a->gpa || ((acc & PF_U) && !t->user))
		return false;
	if (a->write && !(may_write && t->dirty))
		return false;
	return !a->execute || t->execute;
}

static void
check_allowed(struct driver *d, uint32_t hot, uint32_t acc, const struct answer *a)
{
	const struct past *p = &d->past[hot];

	if (p->overflow)
		return;
	for (uint32_t i = 0; i < p->count; i++)
		if (allows(d, &p->seen[i], acc, a)) {
			d->stale += p->count > 1;
			return;
		}
	FAIL(d, "%s: %#x acc %#x answered gpa %#llx w%d x%d, which was never true since the last flush (%u candidates, cr0 %#x "
	    "cr3 %#x cr4 %#x efer %#llx)", a->from, hot_linear(hot), acc, (unsigned long long)a->gpa, a->write, a->execute, p->count,
	    d->v->cr0, d->v->cr3, d->v->cr4, (unsigned long long)d->v->efer);
}

/* The MPN and kind that the slots give a page. */
static uint64_t
expected_kind(const struct driver *d, uint64_t gpa)
{
	const uint64_t ppn = gpa >> 12;
	const uint64_t traced = ppn < RAM_PAGES && (d->e->page_flags[ppn] & PG_TRACED) ? SPTE_TRACED : 0;

	switch (place_of(ppn)) {
	case RAM:
		return ppn << 12 | traced;
	case ROM:
		return (ppn - 300) << 12 | SPTE_DEV | SPTE_ROM | traced;
	case SCREEN:
		return (ppn - 300) << 12 | SPTE_DEV | SPTE_FB | traced;
	case DEVICE_RAM:
		return (ppn - 300) << 12 | SPTE_DEV | traced;
	default:
		return ppn << 12 | SPTE_MMIO | traced;
	}
}

static void
access_slow(struct driver *d, uint32_t hot, uint32_t acc)
{
	const uint32_t linear = hot_linear(hot);
	const struct judged before = judge(d, linear, acc);
	const bool exact = !d->past[hot].overflow && d->past[hot].count <= 1
	    && (d->past[hot].count == 0 || (before.found && same_truth(&d->past[hot].seen[0], &before.t)));
	const uint64_t pde = before.pde_gpa == ~0ull ? 0 : entry_at(d, before.pde_gpa, d->v->cr4 >> 5 & 1);
	const uint64_t pte = before.pte_gpa == ~0ull ? 0 : entry_at(d, before.pte_gpa, d->v->cr4 >> 5 & 1);
	struct shadow_hit hit;
	enum shadow_result result;

	result = shadow_access(d->e, linear + below(d, 4096), acc, &hit);
	d->checked++;
	if (result == SHADOW_TRUE_FAULT) {
		d->faults++;
		if (before.verdict != DENIED || hit.error != before.error)
			FAIL(d, "%#x acc %#x: fault %#x, expected verdict %d error %#x", linear, acc, hit.error, before.verdict, before.error);
	} else if (result == SHADOW_FAULT_PPN) {
		d->missing++;
		if (before.verdict != AWAY || hit.gpa != before.away)
			FAIL(d, "%#x acc %#x: missing page %#llx, expected verdict %d page %#llx", linear, acc,
			    (unsigned long long)hit.gpa, before.verdict, (unsigned long long)before.away);
	} else if (exact && before.verdict != GRANTED) {
		FAIL(d, "%#x acc %#x: granted, expected verdict %d error %#x", linear, acc, before.verdict, before.error);
	}
	/* A and D: exactly what a walk of the current tables sets, or nothing when a remembered translation served. */
	const uint64_t pde_now = before.pde_gpa == ~0ull ? 0 : entry_at(d, before.pde_gpa, d->v->cr4 >> 5 & 1);
	const uint64_t pte_now = before.pte_gpa == ~0ull ? 0 : entry_at(d, before.pte_gpa, d->v->cr4 >> 5 & 1);
	const bool done = result == SHADOW_FILLED && before.verdict == GRANTED;
	const uint64_t leaf_bits = done ? 0x20 | (acc & PF_W ? 0x40 : 0) : 0;
	uint64_t pde_bits = before.passed_pde ? 0x20 : 0, pte_bits = 0;
	const bool one_entry = before.pte_gpa == before.pde_gpa;

	if (d->v->cr0 >> 31 && before.pde_gpa != ~0ull) {
		if (before.passed_pde) {
			pte_bits = leaf_bits;
			if (is_fixed(d, before.pte_gpa))
				pte_bits = 0;
		} else {
			pde_bits |= leaf_bits;
		}
		if (is_fixed(d, before.pde_gpa))
			pde_bits = 0;
		if (one_entry)
			pde_bits = pte_bits = pde_bits | pte_bits;
		if ((pde_now != (pde | pde_bits) && (exact || pde_now != pde)) || (pte_now != (pte | pte_bits) && (exact || pte_now != pte)))
			FAIL(d, "%#x acc %#x result %d: PDE %#llx -> %#llx, PTE %#llx -> %#llx, to set %#llx and %#llx", linear, acc, result,
			    (unsigned long long)pde, (unsigned long long)pde_now, (unsigned long long)pte, (unsigned long long)pte_now,
			    (unsigned long long)pde_bits, (unsigned long long)pte_bits);
	}
	remember_all(d, true);	/* A and D are shared by aliases */
	if (result == SHADOW_TRUE_FAULT)
		forget(d, hot);
	if (result != SHADOW_FILLED)
		return;

	const struct answer a = { hit.gpa, hit.spte & SPTE_W, hit.spte & SPTE_X, "shadow" };
	const uint64_t kind = hit.spte & ~(uint64_t)(SPTE_P | SPTE_W | SPTE_X | SPTE_G | SPTE_LARGE);

	if (!(hit.spte & SPTE_P) || ((acc & PF_W) && !a.write) || ((acc & PF_I) && !a.execute))
		FAIL(d, "%#x acc %#x: SPTE %#llx does not grant it", linear, acc, (unsigned long long)hit.spte);
	if (kind != expected_kind(d, hit.gpa))
		FAIL(d, "%#x: SPTE %#llx, expected kind %#llx", linear, (unsigned long long)hit.spte, (unsigned long long)expected_kind(d, hit.gpa));
	check_allowed(d, hot, acc, &a);
	if (exact && before.verdict == GRANTED && (!!(hit.spte & SPTE_G) != before.t.global || !!(hit.spte & SPTE_LARGE) != before.t.large))
		FAIL(d, "%#x: SPTE %#llx: global %d large %d expected", linear, (unsigned long long)hit.spte, before.t.global, before.t.large);
	if (!(hit.spte & SPTE_MMIO)) {
		const bool plain = !(hit.spte & (SPTE_ROM | SPTE_FB | SPTE_TRACED));

		d->micro[acc & PF_U ? 1 : 0][hot] = (struct cached){
			hit.gpa, true, a.write && plain, a.execute, (hit.spte & SPTE_G) != 0
		};
	}
}

static void
access_any(struct driver *d, uint32_t hot, uint32_t acc)
{
	const struct cached *c = &d->micro[acc & PF_U ? 1 : 0][hot];
	const bool hit = acc & PF_W ? c->write : acc & PF_I ? c->execute : c->read;

	if (!hit || once_in(d, 4)) {
		access_slow(d, hot, acc);
		return;
	}
	const struct answer a = { c->gpa, c->write && (acc & PF_W), c->execute && (acc & PF_I), "micro TLB" };

	d->checked++;
	d->from_micro++;
	check_allowed(d, hot, acc, &a);
}

/* ---- the guest's doings ---- */

static uint64_t
random_entry(struct driver *d, bool pae)
{
	static const uint32_t frames[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 256, 257, 258, 263,
	    40, 41, 42, 330, 331, 296, 599, 600, 300, 303, 304, 307, 308, 312, 315, 316 };
	uint64_t entry = draw(d) & 0xf9e;	/* W U PWT PCD PS? G AVL */

	if (!once_in(d, d->tame ? 64 : 8))
		entry |= 1;
	if (!once_in(d, d->tame ? 12 : 3))
		entry |= 0x6;
	if (!once_in(d, 4))
		entry &= ~0x80ull;
	entry |= once_in(d, 2) ? 0x20 : 0;
	entry |= once_in(d, 2) ? 0x40 : 0;
	if (entry & 0x80) {		/* a large page, perhaps: its frame is a multiple */
		entry |= once_in(d, 4) ? (uint64_t)below(d, 4) << 21 : 0;
		entry |= once_in(d, d->tame ? 40 : 6) ? 1ull << (12 + below(d, 10)) : 0;
		entry |= once_in(d, 8) ? 1ull << (13 + below(d, 4)) : 0;
	} else {
		entry |= (uint64_t)frames[below(d, sizeof frames / sizeof frames[0])] << 12;
	}
	if (pae && !(d->tame && !once_in(d, 8))) {
		entry |= once_in(d, 5) ? 1ull << 63 : 0;
		entry |= once_in(d, 24) ? 1ull << (32 + below(d, 4)) : 0;
		entry |= once_in(d, 32) ? 1ull << (36 + below(d, 27)) : 0;
	}
	return entry;
}

/* Can the guest store to the page without anyone's notice?  Its micro TLB says so. */
static bool
writes_unseen(const struct driver *d, uint64_t ppn)
{
	for (uint32_t hot = 0; hot < HOT; hot++)
		for (int view = 0; view < 2; view++)
			if (d->micro[view][hot].write && d->micro[view][hot].gpa >> 12 == ppn)
				return true;
	return false;
}

static void
store(struct driver *d, uint64_t gpa, uint64_t value, uint32_t size)
{
	const uint32_t ppn = (uint32_t)(gpa >> 12);

	memcpy(d->e->ram + gpa, &value, size);
	if (once_in(d, 16))
		d->e->stamps[ppn]++;	/* it was DMA */
	else if (!writes_unseen(d, ppn))
		page_written(d->e, ppn, gpa & 0xfff, size);
	remember_all(d, false);
}

static void
change_entry(struct driver *d)
{
	const bool pae = d->v->cr4 >> 5 & 1;
	const uint32_t size = pae ? 8 : 4;
	const struct judged j = judge(d, hot_linear(below(d, HOT)), 0);
	uint64_t gpa = j.pte_gpa != ~0ull && !once_in(d, 4) ? j.pte_gpa : j.pde_gpa;
	uint64_t entry;

	if (!(d->v->cr0 >> 31) || gpa == ~0ull || place_of(gpa >> 12) != RAM)
		gpa = (uint64_t)table_ppn(below(d, TABLES)) * 4096 + below(d, 4096 / size) * size;
	entry = entry_at(d, gpa, pae);
	switch (below(d, 6)) {
	case 0:
		entry ^= 1;
		break;
	case 1:
		entry ^= 1ull << below(d, 9);
		break;
	case 2:
		entry &= ~(once_in(d, 2) ? 0x20ull : 0x40ull);
		break;
	case 3:
		entry ^= 6;
		break;
	default:
		entry = random_entry(d, pae);
	}
	store(d, gpa, entry, size);
}

static void
load_pdptes(struct driver *d)
{
	const uint64_t at = through_a20(d, d->v->cr3 & ~31u);

	for (uint32_t i = 0; i < 4; i++) {
		uint64_t pdpte;

		memcpy(&pdpte, d->e->ram + at + 8 * i, 8);
		d->v->pdpte[i] = pdpte & 0x1fff001;	/* what the reserved-bit check of MOV CR3 lets through */
		if (once_in(d, 8))
			continue;
		d->v->pdpte[i] = (uint64_t)table_ppn((uint32_t)(d->v->pdpte[i] >> 12) % TABLES) << 12 | 1;
	}
}

static void
load_cr3(struct driver *d)
{
	d->v->cr3 = d->roots[below(d, once_in(d, 3) ? ROOTS : 3)];
	if (d->v->cr4 >> 5 & 1)
		load_pdptes(d);
	shadow_load_cr3(d->e);
	if (d->v->cr0 >> 31)
		forget_not_global(d);
}

static void
change_mode(struct driver *d)
{
	struct vcpu *v = d->v;

	switch (below(d, 8)) {
	case 0:
		v->cr0 ^= 1u << 16;
		break;
	case 1:
		v->cr4 ^= 1u << 4;
		break;
	case 2:
		v->cr4 ^= 1u << 5;
		load_pdptes(d);
		break;
	case 3:
		v->cr4 ^= 1u << 7;
		break;
	case 4:
		v->efer ^= 1u << 11;
		break;
	case 5:
		v->a20_mask ^= 1u << 20;
		break;
	case 6:
		if (once_in(d, 4) || !(v->cr0 >> 31))
			v->cr0 ^= 1u << 31;
		break;
	default:		/* the VMkernel takes or gives a page, and has everything flushed */
		d->e->pmap[table_ppn(below(d, TABLES)) + (once_in(d, 2) ? 0 : 40 - below(d, 8))] = once_in(d, 3) ? PMAP_SWAPPED : PMAP_ABSENT;
		for (uint32_t i = 0; i < TABLES; i++)
			if (!once_in(d, 8))
				d->e->pmap[table_ppn(i)] = PMAP_PRIVATE;
	}
	shadow_mode_changed(d->e);
	for (uint32_t hot = 0; hot < HOT; hot++)
		forget(d, hot);
}

static void
step(struct driver *d)
{
	static const uint32_t accesses[] = { 0, PF_W, PF_U, PF_U | PF_W, PF_I, PF_U | PF_I };
	const uint32_t what = d->tame && !once_in(d, 4) ? 0 : below(d, 100);

	if (what < 70) {
		access_any(d, below(d, HOT), accesses[below(d, 6)]);
	} else if (what < 86) {
		change_entry(d);
	} else if (what < 92) {
		const uint32_t linear = hot_linear(below(d, HOT)) + (once_in(d, 4) ? below(d, 512) << 12 : 0);

		shadow_invlpg(d->e, linear + below(d, 4096));
		forget_around(d, linear);
	} else if (what < 99 || once_in(d, 2)) {
		load_cr3(d);
	} else {
		change_mode(d);
	}
}

/* ---- worlds ---- */

static void
slot(struct driver *d, uint32_t first, uint32_t pages, uint32_t kind, uint32_t in_dev)
{
	d->m->slots[d->m->slot_count++] = (struct slot){ .first_ppn = first, .pages = pages, .kind = kind, .in_dev = in_dev,
	    .file_page = in_dev ? first - 300 : first, .dirty_offset = d->m->pmap + 8 * RAM_PAGES };
}

static void
build(struct driver *d, uint32_t vcpus)
{
	struct machine *m = d->m;
	struct engine *e = d->e;
	uint64_t at = 4096;

	m->vcpus = vcpus;
	m->ram_pages = RAM_PAGES;
	m->dev_pages = DEV_PAGES;
	m->stamps = at;
	m->codemap = at += 4 * RAM_PAGES;
	m->pmap = at += 8 * RAM_PAGES;
	m->flags = at += 8 * RAM_PAGES + 64;
	m->slot_count = 0;
	slot(d, 0, 300, SLOT_RAM, 0);
	slot(d, 300, 4, SLOT_ROM, 1);
	slot(d, 304, 4, SLOT_FRAMEBUFFER, 1);
	slot(d, 308, 4, SLOT_MMIO, 1);
	slot(d, 312, 4, SLOT_RAM, 1);
	slot(d, 320, RAM_PAGES - 320, SLOT_RAM, 0);
	e->m = m;
	e->pages = (uint8_t *)m;
	e->stamps = (uint32_t *)(void *)(e->pages + m->stamps);
	e->codemap = (uint64_t *)(void *)(e->pages + m->codemap);
	e->pmap = (uint64_t *)(void *)(e->pages + m->pmap);
	e->page_flags = e->pages + m->flags;
	e->v = d->v;
	e->model.max_phys_bits = 36;
}

static void
begin(struct driver *d)
{
	struct vcpu *v = d->v;

	d->tame = below(d, 2);
	for (uint32_t ppn = 0; ppn < RAM_PAGES; ppn++) {
		d->e->stamps[ppn] = 0xffffffe0u + below(d, 64);
		d->e->page_flags[ppn] = 0;
		d->e->pmap[ppn] = once_in(d, 2) ? PMAP_PRIVATE : PMAP_ABSENT;
	}
	*v = (struct vcpu){ .cr0 = 0x80000001u | below(d, 2) << 16, .cr4 = below(d, 16) << 4, .efer = (uint64_t)below(d, 2) << 11 };
	v->a20_mask = once_in(d, 4) ? 0xffefffffu : 0xffffffffu;
	for (uint32_t i = 0; i < TABLES; i++)
		for (uint32_t at = 0; at < 4096; at += 8) {
			const bool pae = v->cr4 >> 5 & 1;
			const uint64_t entry = pae ? random_entry(d, true) : random_entry(d, false) | random_entry(d, false) << 32;

			memcpy(d->e->ram + (uint64_t)table_ppn(i) * 4096 + at, &entry, 8);
		}
	for (uint32_t i = 0; i < 16 * 4096; i += 8) {	/* ROM and the rest may serve as tables, too */
		const uint64_t entry = random_entry(d, false) | random_entry(d, false) << 32;

		memcpy(d->e->dev + i, &entry, 8);
	}
	for (uint32_t i = 0; i < ROOTS; i++)
		d->roots[i] = table_ppn(below(d, TABLES)) << 12 | below(d, 2) << 5;
	d->trace_once = below(d, 2);
	v->cr3 = d->roots[0];
	load_pdptes(d);
	shadow_mode_changed(d->e);
	for (uint32_t hot = 0; hot < HOT; hot++)
		forget(d, hot);
}

/* Everything that the table shows of hot pages must be allowed, too. */
static void
check_dump(struct driver *d, struct shadow_entry *room, uint64_t max)
{
	const uint64_t count = shadow_dump(d->e, room, max);

	for (uint64_t i = 0; i < count && i < max; i++)
		for (uint32_t hot = 0; hot < HOT; hot++)
			if (hot_linear(hot) >> 12 == room[i].vpn) {
				const struct answer a = { room[i].gpa, room[i].spte & SPTE_W, room[i].spte & SPTE_X, "dump" };

				check_allowed(d, hot, room[i].view == VIEW_USER ? PF_U : 0, &a);
			}
}

struct model_counts {
	uint64_t checked, faults, stale, missing, from_micro, kept, dropped, recycled;
};

static void *
zeroed(size_t size)
{
	const size_t whole = (size + 4095) & ~(size_t)4095;

	return memset(aligned_alloc(4096, whole), 0, whole);
}

struct driver *
open_driver(uint64_t seed, uint64_t shadow_bytes, uint32_t vcpus, char *why, size_t why_size)
{
	struct driver *d = zeroed(sizeof *d);
	const uint64_t start = (sizeof(struct engine) + 4095) & ~4095ull;
	uint8_t *arena = zeroed(4096 + start + shadow_bytes);

	d->e = (struct engine *)(void *)(arena + 4096);
	*(struct driver **)(void *)(arena + 4096 - 64) = d;
	d->e->ram = zeroed(RAM_PAGES * 4096);
	d->e->dev = zeroed(DEV_PAGES * 4096);
	d->e->ctl = zeroed(sizeof *d->e->ctl);
	d->m = zeroed(16 * 4096);
	d->v = zeroed(sizeof *d->v);
	d->v->a20_mask = 0xffffffffu;
	d->rng = seed * 0x9e3779b97f4a7c15ull | 1;
	d->why = why;
	d->why_size = why_size;
	build(d, vcpus);
	d->e->shadow_start = start;
	d->e->shadow_end = start + shadow_bytes;
	shadow_init(d->e);
	return d;
}

void
close_driver(struct driver *d)
{
	free(d->e->ram);
	free(d->e->dev);
	free(d->e->ctl);
	free(d->m);
	free(d->v);
	free((uint8_t *)d->e - 4096);
	free(d);
}

/* Run `worlds` random guests of `steps` steps.  0, or -1 with what went wrong in `why`. */
int
model_run(uint64_t seed, uint32_t worlds, uint32_t steps, uint64_t shadow_bytes, uint32_t vcpus,
    struct model_counts *counts, char *why, size_t why_size)
{
	static struct shadow_entry room[65536];
	struct driver *d = open_driver(seed, shadow_bytes, vcpus, why, why_size);
	volatile uint32_t world = 0, at = 0;
	volatile int result = -1;
	struct shadow_counts shadow;

	if (setjmp(d->failed) == 0) {
		for (world = 0; world < worlds; world++) {
			begin(d);
			for (at = 0; at < steps; at++)
				step(d);
			check_dump(d, room, sizeof room / sizeof room[0]);
		}
		result = 0;
	} else {
		const size_t used = strlen(why);

		snprintf(why + used, why_size - used, " [seed %llu world %u step %u]", (unsigned long long)seed, world, at);
	}
	shadow_count(d->e, &shadow);
	*counts = (struct model_counts){ d->checked, d->faults, d->stale, d->missing, d->from_micro, d->e->ctl->stats.spt_kept,
	    d->e->ctl->stats.spt_dropped, shadow.recycled };
	close_driver(d);
	return result;
}
