/*
 * shadow_model.c -- an independent model of the paging rules.
 *
 * Test only.  It knows nothing of shadow.c and walk.c: it reads the guest's tables by plain arithmetic, from Intel SDM
 * 3A, 4.3 to 4.8, and remembers for some hot pages every translation that was true since the last flush that covers it
 * (4.10.4): a processor may use any of these, and no other.
 */
#include "shadow_model.h"

uint32_t
hot_linear(uint32_t i)
{
	static const uint32_t pde[HOT_PDES] = { 0, 1, 256, 767, 1023 }, pte[HOT_PTES] = { 0, 5, 511, 512, 1023 };

	return pde[i / HOT_PTES] << 22 | pte[i % HOT_PTES] << 12;
}

/* ---- the model: physical memory ---- */

enum place
place_of(uint64_t ppn)
{
	if (ppn < 300 || (ppn >= 320 && ppn < RAM_PAGES))
		return RAM;
	if (ppn < 304)
		return ROM;
	if (ppn < 308)
		return SCREEN;
	if (ppn < 312)
		return REGISTERS;
	if (ppn < 316)
		return DEVICE_RAM;
	return NOTHING;
}

void *
bytes_at(const struct driver *d, uint64_t gpa)
{
	const uint64_t ppn = gpa >> 12;

	switch (place_of(ppn)) {
	case RAM:
		return d->e->ram + gpa;
	case ROM: case SCREEN: case DEVICE_RAM:
		return d->e->dev + (ppn - 300) * 4096 + gpa % 4096;
	default:
		return NULL;
	}
}

static bool
is_away(const struct driver *d, uint64_t gpa)
{
	return place_of(gpa >> 12) == RAM && (d->e->pmap[gpa >> 12] & 0xff) > PMAP_PRIVATE;
}

/* A and D set in ROM, or where nothing is, are lost; the processor does not notice. */
bool
is_fixed(const struct driver *d, uint64_t gpa)
{
	return place_of(gpa >> 12) == ROM || bytes_at(d, gpa) == NULL;
}

uint64_t
entry_at(const struct driver *d, uint64_t gpa, bool pae)
{
	const void *p = bytes_at(d, gpa);

	if (pae)
		return p ? *(const uint64_t *)p : ~0ull;
	return p ? *(const uint32_t *)p : 0xffffffffu;
}

uint64_t
through_a20(const struct driver *d, uint64_t gpa)
{
	return d->v->a20_mask & 1u << 20 ? gpa : gpa & ~(1ull << 20);
}

/* ---- the model: the walk ---- */

/* Tables 4-4 (PSE-36 page), 4-9 and 4-10 (PAE): what must be zero. */
static bool
reserved_violated(const struct driver *d, uint64_t entry, bool pae, bool large)
{
	const bool nx_on = pae && (d->v->efer >> 11 & 1);

	if (!pae)
		return large && ((entry >> 21 & 1) || (entry >> 17 & 15));	/* MAXPHYADDR 36: PDE bits 20:17 too */
	if (entry >> 36 & 0x7ffffff)		/* bits 62:36 */
		return true;
	if ((entry >> 63) && !nx_on)
		return true;
	return large && (entry >> 13 & 0xff);	/* bits 20:13 */
}

struct judged
judge(const struct driver *d, uint32_t linear, uint32_t acc)
{
	const struct vcpu *v = d->v;
	const bool pae = v->cr4 >> 5 & 1, pse = v->cr4 >> 4 & 1, nx_on = pae && (v->efer >> 11 & 1);
	struct judged j = { .pde_gpa = ~0ull, .pte_gpa = ~0ull, .verdict = DENIED };
	const uint32_t flavour = (acc & (PF_W | PF_U)) | (nx_on && (acc & PF_I) ? PF_I : 0);
	uint64_t pde, pte, base;
	bool large;

	j.error = flavour;
	if (!(v->cr0 >> 31)) {
		j.found = true;
		j.t = (struct truth){ .gpa = through_a20(d, linear & ~0xfffu), .user = true, .write = true, .execute = true, .accessed = true,
		    .dirty = true };
		j.verdict = is_away(d, j.t.gpa) ? AWAY : GRANTED;
		j.away = j.t.gpa;
		return j;
	}
	if (pae) {
		if (!(v->pdpte[linear >> 30] & 1))
			return j;
		base = v->pdpte[linear >> 30] & 0xffffff000ull;
		j.pde_gpa = through_a20(d, base + 8 * (linear >> 21 & 0x1ff));
	} else {
		j.pde_gpa = through_a20(d, (v->cr3 & ~0xfffu) + 4 * (linear >> 22));
	}
	if (is_away(d, j.pde_gpa)) {
		j.verdict = AWAY;
		j.away = j.pde_gpa & ~0xfffull;
		return j;
	}
	pde = entry_at(d, j.pde_gpa, pae);
	if (!(pde & 1))
		return j;
	large = (pde >> 7 & 1) && (pae || pse);
	if (reserved_violated(d, pde, pae, large)) {
		j.error = flavour | 1 | 8;
		return j;
	}
	if (large) {
		pte = pde;
		if (pae)
			base = (pde & 0xfffe00000ull) + (linear & 0x1ff000);
		else
			base = ((pde >> 22) << 22) + ((pde >> 13 & 15) << 32) + (linear & 0x3ff000);
	} else {
		j.passed_pde = true;
		base = through_a20(d, pae ? pde & 0xffffff000ull : pde & 0xfffff000ull);
		j.pte_gpa = base + (pae ? 8 * (linear >> 12 & 0x1ff) : 4 * (linear >> 12 & 0x3ff));
		if (is_away(d, j.pte_gpa)) {
			j.verdict = AWAY;
			j.away = j.pte_gpa & ~0xfffull;
			return j;
		}
		pte = entry_at(d, j.pte_gpa, pae);
		if (!(pte & 1))
			return j;
		if (reserved_violated(d, pte, pae, false)) {
			j.error = flavour | 1 | 8;
			return j;
		}
		base = pae ? pte & 0xffffff000ull : pte & 0xfffff000ull;
	}
	j.found = true;
	j.t = (struct truth){
		.pde = pde, .pte = pte, .gpa = through_a20(d, base), .large = large,
		.user = (pde >> 2 & 1) && (pte >> 2 & 1), .write = (pde >> 1 & 1) && (pte >> 1 & 1),
		.execute = !nx_on || !(pde >> 63 || pte >> 63), .global = (v->cr4 >> 7 & 1) && (pte >> 8 & 1),
		.accessed = ((pde >> 5 & 1) || is_fixed(d, j.pde_gpa)) && (large || (pte >> 5 & 1) || is_fixed(d, j.pte_gpa)),
		.dirty = (pte >> 6 & 1) || is_fixed(d, large ? j.pde_gpa : j.pte_gpa),
	};
	j.error = flavour | 1;
	if (acc & PF_U) {
		if (!j.t.user || ((acc & PF_W) && !j.t.write))
			return j;
	} else if ((acc & PF_W) && !j.t.write && (v->cr0 >> 16 & 1)) {
		return j;
	}
	if ((acc & PF_I) && !j.t.execute)
		return j;
	j.verdict = is_away(d, j.t.gpa) ? AWAY : GRANTED;
	j.away = j.t.gpa;
	return j;
}

/* ---- the model: what a processor may still remember ---- */

static bool
same_but_marks(const struct truth *a, const struct truth *b)
{
	return a->gpa == b->gpa && a->user == b->user && a->write == b->write && a->execute == b->execute
	    && a->global == b->global && a->large == b->large;
}

bool
same_truth(const struct truth *a, const struct truth *b)
{
	return same_but_marks(a, b) && a->accessed == b->accessed && a->dirty == b->dirty;
}

/* Note what is true now.  Marks (A, D) that the processor itself set make no new truth. */
static void
remember(struct driver *d, uint32_t hot, bool by_processor)
{
	struct past *p = &d->past[hot];
	const struct judged j = judge(d, hot_linear(hot), 0);

	if (!j.found)
		return;
	for (uint32_t i = 0; i < p->count; i++)
		if (same_truth(&p->seen[i], &j.t))
			return;
	for (uint32_t i = p->count; by_processor && i-- > 0; )
		if (same_but_marks(&p->seen[i], &j.t) && p->seen[i].accessed <= j.t.accessed && p->seen[i].dirty <= j.t.dirty) {
			p->seen[i] = j.t;
			return;
		}
	if (p->count == PAST) {
		p->overflow = true;
		return;
	}
	p->seen[p->count++] = j.t;
}

void
remember_all(struct driver *d, bool by_processor)
{
	for (uint32_t hot = 0; hot < HOT; hot++)
		remember(d, hot, by_processor);
}

void
forget(struct driver *d, uint32_t hot)
{
	d->past[hot].count = 0;
	d->past[hot].overflow = false;
	remember(d, hot, false);
}

/* MOV to CR3: all but global pages (4.10.4.1). */
void
forget_not_global(struct driver *d)
{
	for (uint32_t hot = 0; hot < HOT; hot++) {
		struct past *p = &d->past[hot];
		uint32_t kept = 0;

		for (uint32_t i = 0; i < p->count; i++)
			if (p->seen[i].global)
				p->seen[kept++] = p->seen[i];
		p->count = kept;
		if (kept == 0)
			p->overflow = false;
		remember(d, hot, false);
	}
}

/* INVLPG: the page itself, and whatever large page was cached around it. */
void
forget_around(struct driver *d, uint32_t linear)
{
	const uint32_t size_shift = d->v->cr4 >> 5 & 1 ? 21 : 22;

	for (uint32_t hot = 0; hot < HOT; hot++) {
		struct past *p = &d->past[hot];
		uint32_t kept = 0;

		if (hot_linear(hot) >> 12 == linear >> 12) {
			forget(d, hot);
			continue;
		}
		if (hot_linear(hot) >> size_shift != linear >> size_shift)
			continue;
		for (uint32_t i = 0; i < p->count; i++)
			if (!p->seen[i].large)
				p->seen[kept++] = p->seen[i];
		p->count = kept;
		remember(d, hot, false);
	}
}
