/*
 * walk.c -- guest physical memory as the core sees it, and the walk of the guest's page tables.
 *
 * Invariants:
 *
 *   W1  A and D are set by compare-and-exchange on the entry that was judged; when it has
 *       changed meanwhile the whole walk is done again;
 *   W2  D, and the leaf's A, change only when the access is allowed and its page is there;
 *       the A of a PDE that names a page table is set when the walk passes through it, even
 *       if it then ends at the PTE, as the P6 does;
 *   W3  a table page's stamp is read before its entries, so that an entry can only be newer
 *       than the stamp it is remembered with.
 *
 * Table entries outside memory read as all ones, those in ROM cannot change.
 * Source: Intel SDM 3A, 4.3, 4.4 (entry formats), 4.6.1 (access rights), 4.7 (error code),
 * 4.8 (accessed and dirty flags).
 */
#include "shadow.h"

#define ALL_ONES 0xffffffffffffffffull

/* ---- slots ---- */

const struct slot *
slot_find(const struct engine *e, uint32_t ppn)
{
	const struct slot *slots = e->m->slots;
	uint32_t low = 0, high = e->m->slot_count;

	if (high > RF_SLOTS)
		high = RF_SLOTS;
	while (low < high) {
		const uint32_t mid = (low + high) / 2;

		if (ppn < slots[mid].first_ppn)
			high = mid;
		else if (ppn - slots[mid].first_ppn >= slots[mid].pages)
			low = mid + 1;
		else
			return &slots[mid];
	}
	return NULL;
}

/* A page of guest physical memory: its slot, or NULL, and its index in the slot's file. */
struct backing {
	const struct slot *slot;	/* NULL: nothing that holds bytes */
	uint64_t mpn;
	bool missing;			/* RAM that the VMkernel must bring back first */
};

static struct backing
backing_of(const struct engine *e, uint64_t gpa)
{
	struct backing b = { NULL, 0, false };
	const uint32_t ppn = (uint32_t)(gpa >> PAGE_SHIFT);
	const struct slot *s = gpa >> PAGE_SHIFT == ppn ? slot_find(e, ppn) : NULL;

	if (s == NULL || s->kind == SLOT_NONE || s->kind == SLOT_MMIO)
		return b;
	b.mpn = s->file_page + (ppn - s->first_ppn);
	if (b.mpn >= (s->in_dev ? e->m->dev_pages : e->m->ram_pages))
		return b;
	if (!s->in_dev && ppn < e->m->ram_pages) {
		const uint64_t state = __atomic_load_n(&e->pmap[ppn], __ATOMIC_ACQUIRE) & 0xff;

		b.missing = state != PMAP_ABSENT && state != PMAP_PRIVATE;
	}
	b.slot = s;
	return b;
}

static void *
backing_host(const struct engine *e, const struct backing *b, uint64_t gpa)
{
	return (b->slot->in_dev ? e->dev : e->ram) + (b->mpn << PAGE_SHIFT) + (gpa & (PAGE_SIZE - 1));
}

/* ---- physical accesses ---- */

/* Leave run() so that the VMkernel brings the page back; does not return. */
static void
leave_for_page(struct engine *e, uint64_t gpa, uint32_t write)
{
	e->ctl->exit.address = gpa >> PAGE_SHIFT;
	e->ctl->exit.write = write;
	leave(e, EXIT_FAULT_PPN);
}

uint32_t
phys_read32(struct engine *e, uint64_t gpa)
{
	const struct backing b = backing_of(e, gpa);

	if (b.slot == NULL)
		return (uint32_t)ALL_ONES;
	if (b.missing)
		leave_for_page(e, gpa, 0);
	return __atomic_load_n((uint32_t *)backing_host(e, &b, gpa), __ATOMIC_ACQUIRE);
}

uint64_t
phys_read64(struct engine *e, uint64_t gpa)
{
	const struct backing b = backing_of(e, gpa);

	if (b.slot == NULL)
		return ALL_ONES;
	if (b.missing)
		leave_for_page(e, gpa, 0);
	return __atomic_load_n((uint64_t *)backing_host(e, &b, gpa), __ATOMIC_ACQUIRE);
}

/*
 * A store by the processor to its own tables need not bump their page's stamp: A and D are
 * what the shadow entries were made with.  Code decoded from the same bytes must see it.
 */
static void
table_written(struct engine *e, const struct slot *s, uint64_t gpa, uint32_t size)
{
	const uint32_t ppn = (uint32_t)(gpa >> PAGE_SHIFT), offset = gpa & (PAGE_SIZE - 1);

	if (s->kind == SLOT_FRAMEBUFFER)
		e->pages[s->dirty_offset + (ppn - s->first_ppn)] = 1;
	if (ppn < e->m->ram_pages && (e->codemap[ppn] >> (offset / 64) & 1))
		page_written(e, ppn, offset, size);
}

bool
phys_cas32(struct engine *e, uint64_t gpa, uint32_t expect, uint32_t value)
{
	const struct backing b = backing_of(e, gpa);

	if (b.slot == NULL || b.slot->kind == SLOT_ROM)
		return true;
	if (b.missing)
		leave_for_page(e, gpa, 1);
	if (!__atomic_compare_exchange_n((uint32_t *)backing_host(e, &b, gpa), &expect, value, false,
	    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return false;
	table_written(e, b.slot, gpa, 4);
	return true;
}

bool
phys_cas64(struct engine *e, uint64_t gpa, uint64_t expect, uint64_t value)
{
	const struct backing b = backing_of(e, gpa);

	if (b.slot == NULL || b.slot->kind == SLOT_ROM)
		return true;
	if (b.missing)
		leave_for_page(e, gpa, 1);
	if (!__atomic_compare_exchange_n((uint64_t *)backing_host(e, &b, gpa), &expect, value, false,
	    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return false;
	table_written(e, b.slot, gpa, 8);
	return true;
}

/* ---- table entries ---- */

struct table_use
table_use(const struct engine *e, uint64_t gpa)
{
	struct table_use use = { NO_PPN, 0 };
	const uint32_t ppn = (uint32_t)(gpa >> PAGE_SHIFT);
	const struct slot *s = slot_find(e, ppn);

	if (s != NULL && s->kind == SLOT_RAM && ppn < e->m->ram_pages) {
		use.ppn = ppn;
		use.stamp = __atomic_load_n(&e->stamps[ppn], __ATOMIC_ACQUIRE);
	}
	return use;
}

bool
table_host(struct engine *e, uint64_t gpa, const void **host)
{
	const struct backing b = backing_of(e, gpa);

	*host = b.slot != NULL ? backing_host(e, &b, gpa) : NULL;
	return !b.missing;
}

static bool
table_read(struct engine *e, uint64_t gpa, uint64_t *entry)
{
	const void *host;

	if (!table_host(e, gpa, &host))
		return false;
	*entry = table_entry(host, 0, paging_pae(e->v));
	return true;
}

/* Set A or D.  The entry was read a moment ago, so its page is there. */
static bool
table_set(struct engine *e, uint64_t gpa, uint64_t *entry, uint64_t bits)
{
	const uint64_t old = *entry;

	if ((old & bits) == bits)
		return true;
	*entry = old | bits;
	if (paging_pae(e->v))
		return phys_cas64(e, gpa, old, *entry);
	return phys_cas32(e, gpa, (uint32_t)old, (uint32_t)*entry);
}

/* Bits lo to hi inclusive; none when lo > hi. */
static uint64_t
bit_range(uint32_t lo, uint32_t hi)
{
	return lo > hi ? 0 : ALL_ONES >> (63 - hi) & ALL_ONES << lo;
}

/* Reserved bits of a PAE entry that hold for every level: above the physical width, and NX without NXE. */
static uint64_t
reserved_pae(const struct engine *e)
{
	return bit_range(e->model.max_phys_bits, 62) | (paging_nx(e->v) ? 0 : GPTE_NX);
}

static uint64_t
reserved_pde(const struct engine *e, bool large)
{
	const uint32_t width = e->model.max_phys_bits;

	if (paging_pae(e->v))
		return reserved_pae(e) | (large ? bit_range(13, 20) : 0);
	if (!large)
		return 0;
	/* PSE-36: bits 13 and up hold address bits 32 to width - 1; 21 is reserved at any width. */
	if (width <= 32)
		return bit_range(13, 21);
	return bit_range(width >= 40 ? 21 : width - 19, 21);
}

/* The 4 KiB frame that a large page's PDE gives `linear`. */
static uint64_t
large_frame(const struct vcpu *v, uint64_t pde, uint32_t linear)
{
	if (paging_pae(v))
		return (pde & GPTE_FRAME & ~0x1fffffull) | (linear & 0x1ff000);
	return (pde & 0xffc00000ull) | (pde & 0x1fe000) << 19 | (linear & 0x3ff000);
}

static bool
pde_address(const struct vcpu *v, uint32_t linear, uint64_t *gpa)
{
	if (!paging_pae(v)) {
		*gpa = a20(v, (v->cr3 & PAGE_MASK) + (linear >> 22) * 4);
		return true;
	}
	const uint64_t pdpte = v->pdpte[linear >> 30];

	*gpa = a20(v, (pdpte & GPTE_FRAME) + (linear >> 21 & 511) * 8);
	return (pdpte & GPTE_P) != 0;
}

bool
walk_pde(struct engine *e, uint32_t linear, uint64_t *pde)
{
	uint64_t gpa;

	return pde_address(e->v, linear, &gpa) && table_read(e, gpa, pde);
}

/* ---- the walk ---- */

static uint64_t
spte_of(const struct engine *e, uint64_t gpa, uint64_t rights, bool *missing)
{
	const struct backing b = backing_of(e, gpa);

	*missing = b.missing;
	if (b.slot == NULL)
		return gpa >> PAGE_SHIFT << PAGE_SHIFT | rights | SPTE_MMIO;
	if (b.slot->in_dev)
		rights |= SPTE_DEV;
	if (b.slot->kind == SLOT_ROM)
		rights |= SPTE_ROM;
	if (b.slot->kind == SLOT_FRAMEBUFFER)
		rights |= SPTE_FB;
	return b.mpn << PAGE_SHIFT | rights;
}

static enum shadow_result
true_fault(const struct engine *e, uint32_t acc, uint32_t cause, struct walk *w)
{
	/* The I/D flag of a fetch is reported only while NX is enabled (4.7). */
	w->error = cause | (acc & (PF_W | PF_U)) | (paging_nx(e->v) ? acc & PF_I : 0);
	return SHADOW_TRUE_FAULT;
}

static enum shadow_result
missing_page(uint64_t gpa, struct walk *w)
{
	w->gpa = gpa & ~(uint64_t)(PAGE_SIZE - 1);
	return SHADOW_FAULT_PPN;
}

/* SPTE rights of a leaf in the view of `acc`, 0 when it is not there at all (4.6.1). */
static uint64_t
view_rights(const struct vcpu *v, const struct walk *w, bool large, uint32_t acc)
{
	const uint64_t both = large ? w->gpte : w->pde & w->gpte;
	uint64_t rights = SPTE_P;

	if ((acc & PF_U) && !(both & GPTE_U))
		return 0;
	if ((both & GPTE_W) || (!(acc & PF_U) && !(v->cr0 & CR0_WP)))
		rights |= SPTE_W;
	if (!paging_nx(v) || !((w->pde | w->gpte) & GPTE_NX))
		rights |= SPTE_X;
	if ((w->gpte & GPTE_G) && (v->cr4 & CR4_PGE))
		rights |= SPTE_G;
	return large ? rights | SPTE_LARGE : rights;
}

/* The leaf entry was found: judge it, find the page, set A and D. */
static enum shadow_result
walk_leaf(struct engine *e, uint64_t entry_gpa, bool large, uint32_t acc, struct walk *w, bool *again)
{
	uint64_t rights = view_rights(e->v, w, large, acc);
	const uint64_t need = SPTE_P | (acc & PF_W ? SPTE_W : 0) | (acc & PF_I ? SPTE_X : 0);
	bool missing;

	if ((rights & need) != need)
		return true_fault(e, acc, PF_P, w);
	w->spte = spte_of(e, w->gpa, rights, &missing);
	if (acc & WALK_PEEK)
		return SHADOW_FILLED;
	if (missing)
		return missing_page(w->gpa, w);
	*again = !table_set(e, entry_gpa, &w->gpte, GPTE_A | (acc & PF_W ? GPTE_D : 0));
	if (large)
		w->pde = w->gpte;
	if (!(w->gpte & GPTE_D))
		w->spte &= ~(uint64_t)SPTE_W;	/* so that the first write comes here to set D */
	return SHADOW_FILLED;
}

static enum shadow_result
walk_tables(struct engine *e, uint32_t linear, uint32_t acc, struct walk *w, bool *again)
{
	struct vcpu *v = e->v;
	uint64_t gpa;

	if (!pde_address(v, linear, &gpa))
		return true_fault(e, acc, 0, w);
	w->pd = table_use(e, gpa);
	w->pt = (struct table_use){ NO_PPN, 0 };
	if (!table_read(e, gpa, &w->pde))
		return missing_page(gpa, w);
	if (!(w->pde & GPTE_P))
		return true_fault(e, acc, 0, w);

	const bool large = pde_is_large(v, w->pde);

	if (w->pde & reserved_pde(e, large))
		return true_fault(e, acc, PF_P | PF_RSVD, w);
	if (large) {
		w->gpte = w->pde;
		w->gpa = a20(v, large_frame(v, w->pde, linear));
		return walk_leaf(e, gpa, true, acc, w, again);
	}
	if (!(acc & WALK_PEEK) && !table_set(e, gpa, &w->pde, GPTE_A)) {
		*again = true;
		return SHADOW_FILLED;
	}
	gpa = pde_table(v, w->pde) + (paging_pae(v) ? (linear >> 12 & 511) * 8 : (linear >> 12 & 1023) * 4);
	w->pt = table_use(e, gpa);
	if (!table_read(e, gpa, &w->gpte))
		return missing_page(gpa, w);
	if (!(w->gpte & GPTE_P))
		return true_fault(e, acc, 0, w);
	if (paging_pae(v) && (w->gpte & reserved_pae(e)))
		return true_fault(e, acc, PF_P | PF_RSVD, w);
	w->gpa = a20(v, w->gpte & GPTE_FRAME);
	return walk_leaf(e, gpa, false, acc, w, again);
}

/* With CR0.PG clear linear addresses are physical ones (4.1.1). */
static enum shadow_result
walk_identity(struct engine *e, uint32_t linear, uint32_t acc, struct walk *w)
{
	bool missing;

	w->gpa = a20(e->v, linear & PAGE_MASK);
	w->pde = 0;
	w->gpte = linear & PAGE_MASK;
	w->pd = w->pt = (struct table_use){ NO_PPN, 0 };
	w->spte = spte_of(e, w->gpa, SPTE_P | SPTE_W | SPTE_X, &missing);
	return missing && !(acc & WALK_PEEK) ? SHADOW_FAULT_PPN : SHADOW_FILLED;
}

enum shadow_result
walk_guest(struct engine *e, uint32_t linear, uint32_t acc, struct walk *w)
{
	enum shadow_result result;
	bool again;

	w->error = 0;
	if (!paging_on(e->v))
		return walk_identity(e, linear, acc, w);
	do {
		again = false;
		result = walk_tables(e, linear, acc, w, &again);
	} while (again);
	return result;
}

bool
shadow_peek(struct engine *e, uint32_t linear, uint64_t *gpa)
{
	struct walk w;

	if (walk_guest(e, linear, WALK_PEEK, &w) != SHADOW_FILLED)
		return false;
	*gpa = w.gpa | (linear & (PAGE_SIZE - 1));
	return true;
}
