/*
 * world_window.c -- the user window.  Invariants: window.h.
 *
 * Mapping a page costs the host some microseconds, so neighbours that lie in a row in guest memory
 * too are mapped along, if the shadow page table knows them: their A bits, and D where writable, are set.
 * What becomes stale is noted and leaves the window at the next entry, several pages at a time.
 * The window belongs to one address space and view; it is emptied only when another one really goes
 * direct, so kernel threads and short processes in between cost nothing.
 *
 * Source: Linux, mmap(2), munmap(2); vm.max_map_count in Documentation/admin-guide/sysctl/vm.rst.
 */
#include "world_direct.h"

#include "direct.h"
#include "hostclock.h"
#include "sysraw.h"
#include "watch.h"

enum { MAP_SHARED = 1, MAP_FIXED = 0x10, MAP_POPULATE = 0x8000, RUN_PAGES = 16, OUT_OF_AREAS = 12 /* ENOMEM */ };

#define WINDOW_END (1ull << 32)
#define TRUST_LOOKS 64u		/* at a page that was kept from the host, in no fewer ... */
#define TRUST_NS 10000000u	/* ... ns: some dozen bursts in the interpreter tell what the guest runs there */

static uint32_t
window_bit(const struct engine *e)
{
	return (uint32_t)PG_WINDOW << e->direct->vcpu;
}

/* ---- the record ------------------------------------------------------------------------------ */

static uint16_t *
head_of(struct window *w, uint32_t ppn)
{
	return &w->heads[ppn % WINDOW_PPNS];
}

/* Does some window of the crew map ppn writable? */
static bool
is_writable(struct direct *d, uint32_t ppn)
{
	for (uint32_t n = 0; n < d->crew; n++) {
		struct window *w = &d->members[n].window;

		for (uint32_t i = *head_of(w, ppn); i; i = w->pages[i].next)
			if (w->pages[i].ppn == ppn && (w->pages[i].prot & PROT_WRITE))
				return true;
	}
	return false;
}

/* The rights of a page that is in the record change; 0: none are left. */
static void
page_set_prot(struct engine *e, struct window_page *page, uint32_t prot)
{
	struct window *w = window_here(e);
	const uint32_t lost = page->prot & ~prot;

	if ((page->prot ^ prot) & PROT_EXEC)
		w->executable += prot & PROT_EXEC ? 1 : -1u;
	page->prot = (uint8_t)prot;
	if (page->ppn == NO_PPN)
		return;
	if (prot & PROT_WRITE)
		__atomic_fetch_or(&e->page_flags[page->ppn], (uint8_t)window_bit(e), __ATOMIC_SEQ_CST);
	else if ((lost & PROT_WRITE) && !is_writable(e->direct, page->ppn))
		__atomic_fetch_and(&e->page_flags[page->ppn], (uint8_t)~window_bit(e), __ATOMIC_SEQ_CST);
}

static struct window_page *
page_new(struct engine *e, uint32_t vpn, uint32_t ppn)
{
	struct window *w = window_here(e);
	uint32_t index = w->free;
	struct window_page *page;

	if (index)
		w->free = w->pages[index].next;
	else
		index = ++w->used;
	page = &w->pages[index];
	*page = (struct window_page){ .vpn = vpn, .ppn = ppn, .next = *head_of(w, ppn) };
	*head_of(w, ppn) = (uint16_t)index;
	w->page_of[vpn] = (uint16_t)index;
	return page;
}

static void
page_remove(struct engine *e, uint32_t vpn)
{
	struct window *w = window_here(e);
	const uint16_t index = w->page_of[vpn];
	struct window_page *page = &w->pages[index];
	uint16_t *from;

	if (!index)
		return;
	page_set_prot(e, page, 0);
	for (from = head_of(w, page->ppn); *from != index; from = &w->pages[*from].next)
		;
	*from = page->next;
	page->next = (uint16_t)w->free;
	w->free = index;
	w->page_of[vpn] = 0;
}

static bool
record_full(const struct window *w)
{
	return !w->free && w->used == WINDOW_PAGES;
}

/* ---- taking pages out ------------------------------------------------------------------------- */

/*
 * No access is left.  The area stays: where the host takes away the last of a page table it forgets all translations,
 * the monitor's too, and these are what interpreting lives on.  False where that would make more areas than it allows.
 */
static bool
unmap(struct engine *e, uint32_t first, uint32_t count)
{
	const uint64_t at = (uint64_t)first << PAGE_SHIFT, bytes = (uint64_t)count << PAGE_SHIFT;

	e->ctl->stats.window_unmaps++;
	return sys_call3(SYS_mprotect, at, bytes, 0) == 0 || sys_munmap(at, bytes) == 0;
}

static void
window_empty(struct engine *e)
{
	struct window *w = window_here(e);
	uint32_t i;

	if (w->used) {
		sys_munmap(PAGE_SIZE, WINDOW_END - PAGE_SIZE);
		sys_munmap(0, PAGE_SIZE);
	}
	for (i = 1; i <= w->used; i++) {
		if (w->page_of[w->pages[i].vpn] != i)
			continue;
		w->page_of[w->pages[i].vpn] = 0;
		page_set_prot(e, &w->pages[i], 0);
	}
	for (i = 0; i < WINDOW_PPNS; i++)
		w->heads[i] = 0;
	w->longing = 0;
	w->used = w->free = w->executable = w->stale_count = w->stale_all = w->full = 0;
	w->space = GLOBAL_SPACE;
}

static void
stale_page(struct window *w, uint32_t vpn)
{
	struct window_page *page = &w->pages[w->page_of[vpn]];
	struct window_range *last = &w->stale[w->stale_count ? w->stale_count - 1 : 0];

	if (!w->page_of[vpn] || page->stale)
		return;
	page->stale = 1;
	if (w->stale_count && vpn == last->first + last->count) {
		last->count++;
		return;
	}
	if (w->stale_count == WINDOW_STALE) {
		w->stale_all = 1;
		return;
	}
	w->stale[w->stale_count++] = (struct window_range){ vpn, 1 };
}

static bool
is_shown(const struct window *w, uint32_t space, uint32_t view)
{
	return w->space != GLOBAL_SPACE && view == w->view && (space == w->space || space == GLOBAL_SPACE);
}

/* After a window has become another space's. */
static void
note_shown(struct engine *e)
{
	const struct direct *d = e->direct;

	e->windows_show = 0;
	for (uint32_t n = 0; n < d->crew; n++) {
		const struct window *w = &d->members[n].window;

		if (w->space != GLOBAL_SPACE)
			e->windows_show |= 1ull << (2 * w->space + w->view) % 64;
	}
}

void
window_forget_shown(struct engine *e, uint32_t space, uint32_t view, uint32_t linear, uint32_t count)
{
	struct direct *d = e->direct;

	for (uint32_t n = 0; n < d->crew; n++)
		if (is_shown(&d->members[n].window, space, view))
			for (uint32_t i = 0; i < count; i++)
				stale_page(&d->members[n].window, (linear >> PAGE_SHIFT) + i);
}

void
window_forget_all(struct engine *e)
{
	for (uint32_t n = 0; e->direct && n < e->direct->crew; n++)
		e->direct->members[n].window.stale_all = 1;
}

static void
stale_ppn(struct engine *e, uint32_t ppn, uint32_t prot)
{
	for (uint32_t n = 0; n < e->direct->crew; n++) {
		struct window *w = &e->direct->members[n].window;

		for (uint32_t i = *head_of(w, ppn); i; i = w->pages[i].next)
			if (w->pages[i].ppn == ppn && (w->pages[i].prot & prot))
				stale_page(w, w->pages[i].vpn);
	}
}

void
window_protect(struct engine *e, uint32_t ppn)
{
	if (e->direct && ppn < e->m->ram_pages && (e->page_flags[ppn] & window_bit(e)))
		stale_ppn(e, ppn, PROT_WRITE);
}

void
window_code_changed(struct engine *e, uint32_t ppn)
{
	if (e->direct)
		stale_ppn(e, ppn, PROT_EXEC);
}

/* Every page with these rights for which `is_stale` holds. */
static void
stale_if(struct engine *e, struct window *w, uint32_t prot, bool (*is_stale)(const struct engine *, const struct window_page *))
{
	for (uint32_t i = 1; i <= w->used; i++)
		if (w->page_of[w->pages[i].vpn] == i && (w->pages[i].prot & prot) && is_stale(e, &w->pages[i]))
			stale_page(w, w->pages[i].vpn);
}

static bool
holds_code(const struct engine *e, const struct window_page *page)
{
	return page->ppn != NO_PPN && __atomic_load_n(&e->codemap[page->ppn], __ATOMIC_SEQ_CST) != 0;
}

static bool
was_changed(const struct engine *e, const struct window_page *page)
{
	return page->ppn != NO_PPN && __atomic_load_n(&e->stamps[page->ppn], __ATOMIC_ACQUIRE) != page->stamp;
}

static void
take_out_stale(struct engine *e)
{
	struct window *w = window_here(e);

	for (uint32_t i = 0; i < w->stale_count && !w->stale_all; i++) {
		if (!unmap(e, w->stale[i].first, w->stale[i].count))
			w->stale_all = 1;
		for (uint32_t n = 0; n < w->stale[i].count; n++)
			page_remove(e, w->stale[i].first + n);
	}
	if (w->stale_all) {
		const uint32_t space = w->space;

		window_empty(e);
		w->space = space;	/* what is put in from now on is this one's */
	}
	w->stale_count = 0;
}

void
window_obey(struct engine *e)
{
	for (uint32_t n = 0; e->direct && n < e->direct->crew; n++)
		stale_if(e, &e->direct->members[n].window, PROT_WRITE, holds_code);
}

/* ---- before guest code runs -------------------------------------------------------------------- */

/* The window of this process is the present address space's, and shows nothing that is not true. */
void
window_prepare(struct engine *e)
{
	struct window *w = window_here(e);
	struct shadow *sh = shadow_of(e);
	const uint32_t view = e->v->cpl == 3 ? VIEW_USER : VIEW_SUPERVISOR;
	const uint64_t changes = __atomic_load_n(&e->m->changes, __ATOMIC_ACQUIRE);

	if (w->space != sh->current || w->view != view || w->full) {
		if (w->space != GLOBAL_SPACE)
			e->ctl->stats.window_switches++;
		window_empty(e);
	} else if (w->epoch != sh->epoch) {
		shadow_verify_all(e, view);
	}
	if (w->changes != changes && w->executable)
		stale_if(e, w, PROT_EXEC, was_changed);
	w->epoch = sh->epoch;
	w->changes = changes;
	if (w->stale_count || w->stale_all)
		take_out_stale(e);
	if (w->space == sh->current && w->view == view)
		return;
	w->space = sh->current;
	w->view = view;
	note_shown(e);
}

bool
window_has(const struct engine *e, uint32_t linear, uint32_t prot)
{
	const struct window *w = &e->direct->members[e->direct->active].window;
	const uint16_t index = w->page_of[linear >> PAGE_SHIFT];

	return index && (w->pages[index].prot & prot) == prot;
}

/* ---- code pages --------------------------------------------------------------------------------- */

/* An instruction begins at `entry` of the page; PAGE_SIZE: nobody knows where. */
static struct code_page *
code_page_of(struct engine *e, uint32_t ppn, uint32_t entry)
{
	struct code_page *c = &e->direct->code_pages[ppn % CODE_PAGES];
	const uint32_t stamp = __atomic_load_n(&e->stamps[ppn], __ATOMIC_ACQUIRE);
	const bool sse = e->direct->sensitive & SCAN_SSE;
	struct scan_result result;

	if (c->known & (sse ? KNOWN_SSE : KNOWN) && c->ppn == ppn && c->stamp == stamp)
		return c;
	*c = (struct code_page){ .ppn = ppn, .stamp = stamp, .known = sse ? KNOWN | KNOWN_SSE : KNOWN };
	c->found = scan_page(e->ram + (uint64_t)ppn * PAGE_SIZE, entry, NULL, sse, &result);
	c->tail = result.tail;
	return c;
}

/* What is known of the code at `linear`, where an instruction begins; NULL where the shadow page table has no code in RAM. */
struct code_page *
code_page(struct engine *e, uint32_t linear)
{
	const uint32_t view = e->v->cpl == 3 ? VIEW_USER : VIEW_SUPERVISOR;
	const struct entry *entry = shadow_find(e, view, linear);
	struct shadow_hit hit;

	if (!entry || !(entry->spte & SPTE_X) || (entry->spte & (SPTE_MMIO | SPTE_DEV)))
		return NULL;
	entry_hit(e, entry, &hit);
	if (hit.gpa >> PAGE_SHIFT >= e->m->ram_pages)
		return NULL;
	return code_page_of(e, (uint32_t)(hit.gpa >> PAGE_SHIFT), linear & (PAGE_SIZE - 1));
}

/*
 * May the host not run a page in which these classes were found?  Where there is nothing but SCAN_PLAIN the guest has a
 * reason not to run it as a rule, having read CPUID: string functions for younger processors lie beside those that are
 * called.  So where it keeps coming back and has met no #UD the page is trusted, but not by DIRECT_EAGER, which is exact.
 */
bool
is_kept_away(struct engine *e, struct code_page *c, uint32_t found)
{
	const struct direct *d = e->direct;

	found &= d->sensitive;
	if (likely(found == 0))
		return false;
	if (found != SCAN_PLAIN || c->trust == NEVER_TRUSTED || d->eager || (d->sensitive & SCAN_SSE))
		return true;
	if (c->trust == TRUSTED)
		return false;
	if (c->trust++ == 0)
		c->doubted_ns = host_ns();
	if (c->trust < TRUST_LOOKS || host_ns() - c->doubted_ns < TRUST_NS)
		return true;
	c->trust = TRUSTED;
	e->ctl->stats.direct_trusted++;
	return false;
}

/* The guest means it, or tries what its processor has. */
void
direct_undefined(struct engine *e)
{
	struct code_page *c = e->direct && e->v->cpl ? code_page(e, e->v->seg[CS].base + e->v->eip) : NULL;

	if (!c || !(c->trust || (c->found & SCAN_PLAIN)) || c->trust == NEVER_TRUSTED)
		return;
	c->trust = NEVER_TRUSTED;
	window_code_changed(e, c->ppn);
}

/* ---- putting pages in ---------------------------------------------------------------------------- */

struct mapping {
	uint32_t prot;
	uint32_t ppn;		/* NO_PPN: device memory */
	uint64_t frame;		/* byte in its file */
};

static bool
must_be_seen(const struct engine *e, uint32_t ppn)
{
	return (e->page_flags[ppn] & PG_TRACED) || __atomic_load_n(&e->codemap[ppn], __ATOMIC_SEQ_CST);
}

/* The most that the window may show of a page to an access that does not fetch. */
static struct mapping
data_mapping(struct engine *e, const struct shadow_hit *hit)
{
	struct mapping m = { PROT_READ, NO_PPN, hit->spte & ~(uint64_t)(PAGE_SIZE - 1) };

	if (hit->spte & SPTE_DEV)
		return m;
	m.ppn = (uint32_t)(m.frame >> PAGE_SHIFT);
	if ((hit->spte & (SPTE_W | SPTE_ROM | SPTE_FB | SPTE_TRACED)) == SPTE_W && !must_be_seen(e, m.ppn))
		m.prot |= PROT_WRITE;
	return m;
}

/* False when the host refuses: no more areas, which emptying the window mends, or an address that it keeps for itself. */
static bool
put_in(struct engine *e, uint32_t linear, uint32_t count, const struct mapping *m)
{
	const int32_t fd = m->ppn == NO_PPN ? e->direct->dev_fd : e->direct->ram_fd;
	const int64_t at = sys_mmap(linear, (uint64_t)count << PAGE_SHIFT, m->prot, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
	    fd, m->frame);

	e->ctl->stats.window_maps++;
	e->ctl->stats.window_pages += count;
	if (at == -OUT_OF_AREAS)
		window_here(e)->full = 1;
	return at == linear;
}

/* Record first, map then: W4 must hold before a store can be made. */
static void
note(struct engine *e, uint32_t vpn, uint32_t ppn, uint32_t prot)
{
	struct window *w = window_here(e);
	struct window_page *page = &w->pages[w->page_of[vpn]];

	if (w->page_of[vpn] && page->ppn != ppn) {
		page_remove(e, vpn);
		page = page_new(e, vpn, ppn);
	} else if (!w->page_of[vpn]) {
		page = page_new(e, vpn, ppn);
	}
	page->stale = 0;
	page_set_prot(e, page, prot);
}

/* May the page at `linear` be mapped along, as the next after `m` in one mapping? */
static bool
may_follow(struct engine *e, uint32_t linear, const struct mapping *m, uint64_t frame)
{
	struct window *w = window_here(e);
	const struct entry *entry;
	struct shadow_hit hit;
	struct mapping next;

	if (w->page_of[linear >> PAGE_SHIFT] || record_full(w))
		return false;
	entry = shadow_find(e, w->view, linear);
	if (!entry || (entry->spte & SPTE_MMIO))
		return false;
	entry_hit(e, entry, &hit);
	next = data_mapping(e, &hit);
	return next.frame == frame && next.prot == m->prot && (next.ppn == NO_PPN) == (m->ppn == NO_PPN);
}

static bool
map_data(struct engine *e, uint32_t linear, struct mapping m)
{
	uint32_t first = linear, count = 1;
	uint32_t i;

	while (count < RUN_PAGES && first + count * PAGE_SIZE > first
	    && may_follow(e, first + count * PAGE_SIZE, &m, m.frame + (uint64_t)count * PAGE_SIZE))
		count++;
	while (count < RUN_PAGES && first >= 2 * PAGE_SIZE && m.frame >= PAGE_SIZE
	    && may_follow(e, first - PAGE_SIZE, &m, m.frame - PAGE_SIZE)) {
		first -= PAGE_SIZE;
		m.frame -= PAGE_SIZE;
		count++;
	}
	for (i = 0; i < count; i++)
		note(e, (first >> PAGE_SHIFT) + i, m.ppn == NO_PPN ? NO_PPN : (uint32_t)(m.frame >> PAGE_SHIFT) + i, m.prot);
	if ((m.prot & PROT_WRITE) && several_vcpus(e)) {
		__atomic_thread_fence(__ATOMIC_SEQ_CST);	/* W4 before W2 is looked at: watch.h, V4 */
		for (i = 0; i < count; i++)
			if (must_be_seen(e, (uint32_t)(m.frame >> PAGE_SHIFT) + i)) {
				for (i = 0; i < count; i++)
					note(e, (first >> PAGE_SHIFT) + i, (uint32_t)(m.frame >> PAGE_SHIFT) + i, m.prot & ~PROT_WRITE);
				m.prot &= ~PROT_WRITE;
				break;
			}
	}
	return put_in(e, first, count, &m);
}

/* What two executable pages hold between them. */
static uint32_t
found_between(const struct engine *e, uint32_t ppn, uint32_t next)
{
	const struct code_page *c = &e->direct->code_pages[ppn % CODE_PAGES];
	const uint32_t tail = c->known && c->ppn == ppn ? c->tail : PAGE_SIZE;

	return scan_seam(e->ram + (uint64_t)ppn * PAGE_SIZE, e->ram + (uint64_t)next * PAGE_SIZE, tail);
}

/*
 * Where an executable neighbour would complete an instruction that answers wrongly, the two are not shown together:
 * the way from one into the other is interpreted.
 */
static uint32_t
found_in_seams(struct engine *e, uint32_t vpn, uint32_t ppn)
{
	const struct window *w = window_here(e);
	const uint16_t before = vpn ? w->page_of[vpn - 1] : 0, behind = vpn + 1 < WINDOW_VPNS ? w->page_of[vpn + 1] : 0;
	uint32_t found = 0;

	if (before && (w->pages[before].prot & PROT_EXEC))
		found |= found_between(e, w->pages[before].ppn, ppn);
	if (behind && (w->pages[behind].prot & PROT_EXEC))
		found |= found_between(e, ppn, w->pages[behind].ppn);
	return found;
}

/* W3.  The page's bytes are watched from before they are scanned. */
static enum window_result
map_code(struct engine *e, uint32_t linear, bool begins, const struct shadow_hit *hit)
{
	const struct mapping m = { PROT_READ | PROT_EXEC, (uint32_t)(hit->spte >> PAGE_SHIFT), hit->spte & ~(uint64_t)(PAGE_SIZE - 1) };
	struct code_page *c;
	uint32_t stamp;

	if (hit->spte & SPTE_DEV)
		return WINDOW_EMULATE;
	stamp = __atomic_load_n(&e->stamps[m.ppn], __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&e->codemap[m.ppn], __ATOMIC_RELAXED) != ~0ull) {
		__atomic_store_n(&e->codemap[m.ppn], ~0ull, __ATOMIC_SEQ_CST);
		tlb_flush_writes(e, m.ppn);
		watch_begin(e, m.ppn, stamp);
	}
	take_out_stale(e);		/* what mapped it writable */
	c = code_page_of(e, m.ppn, begins ? linear & (PAGE_SIZE - 1) : PAGE_SIZE);
	if (c->stub || is_kept_away(e, c, c->found | found_in_seams(e, linear >> PAGE_SHIFT, m.ppn)))
		return WINDOW_EMULATE;
	note(e, linear >> PAGE_SHIFT, m.ppn, m.prot);
	window_here(e)->pages[window_here(e)->page_of[linear >> PAGE_SHIFT]].stamp = stamp;
	return put_in(e, linear & PAGE_MASK, 1, &m) ? WINDOW_MAPPED : WINDOW_REFUSED;
}

/*
 * Guest code asked for `linear` (PF_W, PF_U, PF_I bits) and the window had it not.  WINDOW_EMULATE: the
 * interpreter must do it -- a true fault, a device, a store that must be seen, code that may not run.  Of a fetch `begins`
 * says that an instruction begins there: that of one that lies across two pages faults where the second begins.
 */
enum window_result
window_map(struct engine *e, uint32_t linear, uint32_t acc, bool begins)
{
	struct window *w = window_here(e);
	struct shadow_hit hit;
	struct mapping m;

	if (shadow_access(e, linear, acc, &hit) != SHADOW_FILLED || (hit.spte & SPTE_MMIO))
		return WINDOW_EMULATE;
	if (w->stale_count || w->stale_all)	/* the walk may have forgotten something */
		window_prepare(e);
	if (record_full(w)) {
		w->full = 1;
		return WINDOW_REFUSED;
	}
	if (acc & PF_I)
		return map_code(e, linear, begins, &hit);
	m = data_mapping(e, &hit);
	if ((acc & PF_W) && !(m.prot & PROT_WRITE)) {
		e->ctl->stats.direct_traced++;
		return WINDOW_EMULATE;
	}
	return map_data(e, linear & PAGE_MASK, m) ? WINDOW_MAPPED : WINDOW_REFUSED;
}
