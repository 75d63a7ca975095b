/*
 * mem.c -- the slow paths of linear memory access: segment checks, micro TLB misses, page crossings,
 * MMIO, traced pages, alignment checks and watchpoints.
 *
 * Source: Intel SDM 3A, 5.3 (limits), 6.15 (#AC), 17.2 (debug registers).
 */
#include "mem.h"
#include "codecache.h"
#include "operand.h"
#include "watch.h"
#include "window.h"

static inline uint32_t
current_rights(const struct engine *e)
{
	return e->v->cpl == 3 ? PF_U : 0;
}

static inline bool
crosses_page(uint32_t linear, uint32_t size)
{
	return ((linear ^ (linear + size - 1)) & PAGE_MASK) != 0;
}

/* Translate for an access with the given rights; returns the SPTE, with the page in the micro TLB. */
static uint64_t
fill(struct engine *e, uint32_t linear, uint32_t acc, struct shadow_hit *hit)
{
	const enum shadow_result result = shadow_access(e, linear, acc, hit);
	uint32_t ppn;

	if (result == SHADOW_TRUE_FAULT)
		raise_pf(e, linear, hit->error);
	ppn = (uint32_t)(hit->gpa >> PAGE_SHIFT);
	if (result == SHADOW_FAULT_PPN) {
		e->ctl->exit.address = ppn;
		e->ctl->exit.write = (acc & PF_W) != 0;
		leave(e, EXIT_FAULT_PPN);
	}
	if (hit->spte & SPTE_MMIO)
		return hit->spte;
	tlb_put(e, linear, acc, hit);
	return hit->spte;
}

static void
framebuffer_dirty(struct engine *e, uint32_t ppn)
{
	const struct slot *s = slot_find(e, ppn);

	if (s && s->kind == SLOT_FRAMEBUFFER)
		e->pages[s->dirty_offset + (ppn - s->first_ppn)] = 1;
}

void
page_written(struct engine *e, uint32_t ppn, uint32_t offset, uint32_t size)
{
	uint64_t lines, map;

	if (ppn >= e->m->ram_pages)
		return;
	if (e->page_flags[ppn] & PG_TRACED) {
		e->ctl->stats.trace_hits++;
		e->page_flags[ppn] &= (uint8_t)~PG_TRACED;	/* set again when the shadow next compares it */
		__atomic_fetch_add(&e->stamps[ppn], 1, __ATOMIC_RELEASE);
	}
	if (several_vcpus(e))
		__atomic_thread_fence(__ATOMIC_SEQ_CST);	/* V4 of watch.h */
	map = __atomic_load_n(&e->codemap[ppn], __ATOMIC_RELAXED);
	if (map == 0)
		return;
	lines = (~0ull << (offset >> 6)) & (~0ull >> (63 - ((offset + size - 1) >> 6)));
	if (!(map & lines))
		return;
	e->ctl->stats.code_writes++;
	if (several_vcpus(e))
		__atomic_fetch_add(&e->stamps[ppn], 1, __ATOMIC_SEQ_CST);	/* V2 of watch.h */
	__atomic_store_n(&e->codemap[ppn], 0, __ATOMIC_RELEASE);
	__atomic_fetch_add(&e->stamps[ppn], 1, __ATOMIC_RELEASE);
	if (several_vcpus(e))
		__atomic_fetch_add(&e->m->changes, 1, __ATOMIC_SEQ_CST);
	window_code_changed(e, ppn);
	code_stale_running(e, ppn);
}

/* ---- checks that only slow paths make ---------------------------------------------------- */

static void
check_alignment(struct engine *e, uint32_t linear, uint32_t size)
{
	const struct vcpu *v = e->v;

	if ((v->cr0 & CR0_AM) && (v->eflags & FL_AC) && v->cpl == 3 && size <= 8 && !(size & (size - 1)) &&
	    (linear & (size - 1)))
		raise_fault(e, V_AC, 0);
}

static bool
ranges_meet(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size)
{
	return a - b < b_size || b - a < a_size;
}

/* Data breakpoints are traps: recorded here, reported when the instruction is done. */
static void
note_data_access(struct engine *e, uint32_t linear, uint32_t size, bool write)
{
	static const uint8_t lengths[4] = { 1, 2, 8, 4 };
	struct vcpu *v = e->v;
	uint32_t i;

	for (i = 0; i < 4; i++) {
		const uint32_t rw = v->dr[7] >> (16 + 4 * i) & 3, length = lengths[v->dr[7] >> (18 + 4 * i) & 3];

		if ((rw == 1 && write) || rw == 3)
			if (ranges_meet(linear, size, v->dr[i] & ~(length - 1), length))
				e->data_hits |= (v->dr[7] >> (2 * i) & 3 ? DR6_B : 0) & 1u << i;
	}
	for (i = 0; i < e->breakpoint_count; i++) {
		const struct breakpoint *b = &e->breakpoints[i];

		if ((b->kind == 1 && write) || b->kind == 2)
			if (ranges_meet(linear, size, b->linear, b->length)) {
				e->watch_hit = true;
				e->watch_linear = linear;
			}
	}
}

static inline void
check_access(struct engine *e, uint32_t linear, uint32_t size, bool write)
{
	check_alignment(e, linear, size);
	if (unlikely(e->data_watch))
		note_data_access(e, linear, size, write);
}

/* ---- one page ------------------------------------------------------------------------------ */

/* Units of a long access: all aligned 8-byte pieces that no page edge divides. */
static uint32_t
piece(uint32_t linear, uint32_t left)
{
	const uint32_t in_page = PAGE_SIZE - (linear & (PAGE_SIZE - 1));
	uint32_t n = left < 8 ? left : 8;

	if (n > in_page)
		n = in_page;
	return n >= 8 ? 8 : n >= 4 ? 4 : n >= 2 ? 2 : 1;
}

/* MMIO in the widths of a bus: half of an access that two pages share may be of any size. */
static uint64_t
device_read(struct engine *e, uint64_t gpa, uint32_t size)
{
	uint64_t x = 0;
	uint32_t at, n;

	for (at = 0; at < size; at += n) {
		n = piece((uint32_t)gpa + at, size - at);
		x |= mmio_read(e, gpa + at, n) << (8 * at);
	}
	return x;
}

static void
device_write(struct engine *e, uint64_t gpa, uint32_t size, uint64_t value)
{
	uint32_t at, n;

	for (at = 0; at < size; at += n) {
		n = piece((uint32_t)gpa + at, size - at);
		mmio_write(e, gpa + at, n, value >> (8 * at));
	}
}

static uint64_t
page_read(struct engine *e, uint32_t linear, uint32_t size, uint32_t rights)
{
	struct shadow_hit hit;
	const uint64_t spte = fill(e, linear, rights, &hit);
	const uint32_t in_page = linear & (PAGE_SIZE - 1);

	if (unlikely(spte & SPTE_MMIO))
		return device_read(e, hit.gpa + in_page, size);
	return host_get(host_page(e, spte) + in_page, size);
}

static void
page_write(struct engine *e, uint32_t linear, uint32_t size, uint64_t value, uint32_t rights)
{
	struct shadow_hit hit;
	const uint64_t spte = fill(e, linear, rights | PF_W, &hit);
	const uint32_t in_page = linear & (PAGE_SIZE - 1), ppn = (uint32_t)(hit.gpa >> PAGE_SHIFT);

	if (unlikely(spte & SPTE_MMIO)) {
		device_write(e, hit.gpa + in_page, size, value);
		return;
	}
	if (spte & SPTE_ROM)
		return;
	host_put(host_page(e, spte) + in_page, value, size);
	if (spte & SPTE_FB)
		framebuffer_dirty(e, ppn);
	page_written(e, ppn, in_page, size);
}

/* ---- accesses -------------------------------------------------------------------------------- */

static uint64_t
access_read(struct engine *e, uint32_t linear, uint32_t size, uint32_t rights)
{
	struct shadow_hit hit;
	uint32_t first;

	if (likely(!crosses_page(linear, size)))
		return page_read(e, linear, size, rights);
	/* Both pages are checked before a device is asked. */
	first = PAGE_SIZE - (linear & (PAGE_SIZE - 1));
	fill(e, linear, rights, &hit);
	fill(e, linear + first, rights, &hit);
	const uint64_t low = page_read(e, linear, first, rights);

	return low | page_read(e, linear + first, size - first, rights) << (8 * first);
}

static void
access_write(struct engine *e, uint32_t linear, uint32_t size, uint64_t value, uint32_t rights)
{
	struct shadow_hit hit;
	uint32_t first;

	if (likely(!crosses_page(linear, size))) {
		page_write(e, linear, size, value, rights);
		return;
	}
	/* Both pages are checked before any byte is written. */
	first = PAGE_SIZE - (linear & (PAGE_SIZE - 1));
	const bool device_first = (fill(e, linear, rights | PF_W, &hit) & SPTE_MMIO) != 0;
	const bool device_second = (fill(e, linear + first, rights | PF_W, &hit) & SPTE_MMIO) != 0;

	/* A device may leave run(): so before memory is written, or the instruction could not start again. */
	if (device_second && !device_first)
		page_write(e, linear + first, size - first, value >> (8 * first), rights);
	page_write(e, linear, first, value, rights);
	if (!device_second || device_first)
		page_write(e, linear + first, size - first, value >> (8 * first), rights);
}

uint32_t
mem_read(struct engine *e, uint32_t linear, uint32_t size)
{
	const void *p = tlb_read_ptr(e, linear, size);

	if (likely(p != NULL))
		return (uint32_t)host_get(p, size);
	check_access(e, linear, size, false);
	return (uint32_t)access_read(e, linear, size, current_rights(e));
}

uint64_t
mem_read64(struct engine *e, uint32_t linear)
{
	check_access(e, linear, 8, false);
	return access_read(e, linear, 8, current_rights(e));
}

void
mem_write(struct engine *e, uint32_t linear, uint32_t size, uint32_t value)
{
	void *p = tlb_write_ptr(e, linear, size);

	if (likely(p != NULL)) {
		host_put(p, value, size);
		return;
	}
	check_access(e, linear, size, true);
	access_write(e, linear, size, value, current_rights(e));
}

void
mem_write64(struct engine *e, uint32_t linear, uint64_t value)
{
	check_access(e, linear, 8, true);
	access_write(e, linear, 8, value, current_rights(e));
}

void
mem_check_write(struct engine *e, uint32_t linear, uint32_t size)
{
	struct shadow_hit hit;

	if (likely(tlb_write_ptr(e, linear, size) != NULL))
		return;
	check_alignment(e, linear, size);
	fill(e, linear, current_rights(e) | PF_W, &hit);
	if (crosses_page(linear, size))
		fill(e, (linear | (PAGE_SIZE - 1)) + 1, current_rights(e) | PF_W, &hit);
}

void
mem_check_read(struct engine *e, uint32_t linear, uint32_t size)
{
	struct shadow_hit hit;

	if (likely(tlb_read_ptr(e, linear, size) != NULL))
		return;
	check_alignment(e, linear, size);
	fill(e, linear, current_rights(e), &hit);
	if (crosses_page(linear, size))
		fill(e, (linear | (PAGE_SIZE - 1)) + 1, current_rights(e), &hit);
}

/* What an operand of several words must be aligned to: SDM 3A table 6-7.  10 bytes are an x87 number, 14 and 28 an
 * environment, 94 and 108 a state; the SSE forms have their own rule. */
static uint32_t
long_alignment(uint32_t size)
{
	switch (size) {
	case 10:
		return 8;
	case 28: case 108:
		return 4;
	case 14: case 94:
		return 2;
	default:
		return 1;
	}
}

void
mem_read_bytes(struct engine *e, uint32_t linear, void *to, uint32_t size)
{
	uint8_t *out = to;
	const void *p;

	check_alignment(e, linear, long_alignment(size));
	mem_check_read(e, linear, size);
	p = tlb_read_ptr(e, linear, size);
	if (likely(p != NULL)) {
		__builtin_memcpy(to, p, size);
		return;
	}
	while (size) {
		const uint32_t n = piece(linear, size);
		const uint64_t x = access_read(e, linear, n, current_rights(e));

		if (unlikely(e->data_watch))
			note_data_access(e, linear, n, false);
		__builtin_memcpy(out, &x, n);
		out += n;
		linear += n;
		size -= n;
	}
}

void
mem_write_bytes(struct engine *e, uint32_t linear, const void *from, uint32_t size)
{
	const uint8_t *in = from;
	void *p;

	check_alignment(e, linear, long_alignment(size));
	mem_check_write(e, linear, size);
	p = tlb_write_ptr(e, linear, size);
	if (likely(p != NULL)) {
		__builtin_memcpy(p, from, size);
		return;
	}
	while (size) {
		const uint32_t n = piece(linear, size);
		uint64_t x = 0;

		if (unlikely(e->data_watch))
			note_data_access(e, linear, n, true);
		__builtin_memcpy(&x, in, n);
		access_write(e, linear, n, x, current_rights(e));
		in += n;
		linear += n;
		size -= n;
	}
}

/*
 * Implicit supervisor accesses: no alignment check, and the supervisor's half of the micro TLB
 * whatever the CPL is.
 */
static inline struct tlb_entry *
supervisor_slot(struct engine *e, uint32_t linear)
{
	return &e->tlb[VIEW_SUPERVISOR][linear >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
}

static uint64_t
supervisor_read(struct engine *e, uint32_t linear, uint32_t size)
{
	const struct tlb_entry *t = supervisor_slot(e, linear);

	if (unlikely(t->rtag != ((linear + size - 1) & PAGE_MASK)))
		return access_read(e, linear, size, 0);
	return host_get(host_address(t, linear), size);
}

uint32_t
sys_read(struct engine *e, uint32_t linear, uint32_t size)
{
	return (uint32_t)supervisor_read(e, linear, size);
}

uint64_t
sys_read64(struct engine *e, uint32_t linear)
{
	return supervisor_read(e, linear, 8);
}

void
sys_write(struct engine *e, uint32_t linear, uint32_t size, uint32_t value)
{
	const struct tlb_entry *t = supervisor_slot(e, linear);

	if (likely(t->wtag == ((linear + size - 1) & PAGE_MASK)))
		host_put(host_address(t, linear), value, size);
	else
		access_write(e, linear, size, value, 0);
}

void
sys_check_write(struct engine *e, uint32_t linear, uint32_t size)
{
	struct shadow_hit hit;

	if (likely(supervisor_slot(e, linear)->wtag == ((linear + size - 1) & PAGE_MASK)))
		return;
	fill(e, linear, PF_W, &hit);
	if (crosses_page(linear, size))
		fill(e, (linear | (PAGE_SIZE - 1)) + 1, PF_W, &hit);
}

static uint32_t
update8(uint8_t *p, uint32_t clear, uint32_t set)
{
	uint8_t old = __atomic_load_n(p, __ATOMIC_RELAXED);

	while (!__atomic_compare_exchange_n(p, &old, (uint8_t)((old & ~clear) | set), false, __ATOMIC_SEQ_CST,
	    __ATOMIC_RELAXED))
		;
	return old;
}

uint32_t
sys_update8(struct engine *e, uint32_t linear, uint32_t clear, uint32_t set)
{
	const struct tlb_entry *t = supervisor_slot(e, linear);
	const uint32_t in_page = linear & (PAGE_SIZE - 1);
	struct shadow_hit hit;
	uint64_t spte;
	uint32_t old;

	if (likely(t->wtag == (linear & PAGE_MASK)))
		return update8(host_address(t, linear), clear, set);
	spte = fill(e, linear, PF_W, &hit);
	if (spte & (SPTE_MMIO | SPTE_ROM)) {
		old = (uint32_t)access_read(e, linear, 1, 0);
		access_write(e, linear, 1, (old & ~clear) | set, 0);
		return old;
	}
	old = update8(host_page(e, spte) + in_page, clear, set);
	if (spte & SPTE_FB)
		framebuffer_dirty(e, (uint32_t)(hit.gpa >> PAGE_SHIFT));
	page_written(e, (uint32_t)(hit.gpa >> PAGE_SHIFT), in_page, 1);
	return old;
}

void *
mem_locked(struct engine *e, uint32_t linear, uint32_t size)
{
	struct shadow_hit hit;
	void *p = tlb_write_ptr(e, linear, size);
	uint64_t spte;

	if (likely(p != NULL))
		return p;
	check_access(e, linear, size, true);
	if (crosses_page(linear, size)) {
		mem_check_write(e, linear, size);
		return NULL;
	}
	spte = fill(e, linear, current_rights(e) | PF_W, &hit);
	if (spte & (SPTE_MMIO | SPTE_ROM | SPTE_FB))
		return NULL;
	return host_page(e, spte) + (linear & (PAGE_SIZE - 1));
}

void
mem_locked_done(struct engine *e, uint32_t linear, uint32_t size)
{
	struct shadow_hit hit;

	if (likely(tlb_write_ptr(e, linear, size) != NULL))
		return;
	fill(e, linear, current_rights(e) | PF_W, &hit);
	page_written(e, (uint32_t)(hit.gpa >> PAGE_SHIFT), linear & (PAGE_SIZE - 1), size);
}

/* ---- segments ------------------------------------------------------------------------------------ */

NORETURN static void
segment_fault(struct engine *e, uint32_t sreg)
{
	raise_fault(e, sreg == SS ? V_SS : V_GP, 0);
}

uint32_t
seg_linear(struct engine *e, uint32_t sreg, uint32_t offset, uint32_t size, uint32_t acc)
{
	const struct segment *s = &e->v->seg[sreg];
	const uint32_t last = offset + size - 1;

	if (protected_mode(e->v)) {
		if (s->attr & SEG_UNUSABLE)
			raise_gp0(e);
		if (acc & PF_W ? (s->attr & (SEG_CODE | SEG_W)) != SEG_W : (s->attr & (SEG_CODE | SEG_R)) == SEG_CODE)
			raise_gp0(e);
	}
	if ((s->attr & (SEG_CODE | SEG_E)) == SEG_E) {
		const uint32_t top = s->attr & SEG_DB ? 0xffffffffu : 0xffff;

		if (offset <= s->limit || last > top || last < offset)
			segment_fault(e, sreg);
	} else if ((s->limit != 0xffffffffu || s->base) && (last > s->limit || last < offset)) {	/* flat: wraps */
		segment_fault(e, sreg);
	}
	return s->base + offset;
}

uint32_t
op_ea(const struct engine *e, const struct op *op)
{
	const struct vcpu *v = e->v;
	const uint32_t ea = op->disp + v->r[op->base] + (v->r[op->index] << op->scale);

	return op->flags & OP_ADDR16 ? ea & 0xffff : ea;
}

uint32_t
op_linear(struct engine *e, const struct op *op, uint32_t size, uint32_t acc)
{
	return seg_linear(e, op->seg, op_ea(e, op), size, acc);
}

/* ---- the stack ---------------------------------------------------------------------------------------- */

static inline uint32_t
stack_offset(const struct vcpu *v, uint32_t sp)
{
	return v->seg[SS].attr & SEG_DB ? sp : sp & 0xffff;
}

void
push_n(struct engine *e, uint32_t size, uint32_t value)
{
	struct vcpu *v = e->v;
	const uint32_t sp = sp_add(v, v->r[ESP], 0 - size);

	mem_write(e, seg_linear(e, SS, stack_offset(v, sp), size, PF_W), size, value);
	v->r[ESP] = sp;
}

uint32_t
stack_peek(struct engine *e, uint32_t n, uint32_t size)
{
	const struct vcpu *v = e->v;

	return mem_read(e, seg_linear(e, SS, stack_offset(v, sp_add(v, v->r[ESP], n)), size, 0), size);
}

/* ---- instruction fetch -------------------------------------------------------------------------------------- */

struct fetched
mem_fetch(struct engine *e, uint32_t linear)
{
	struct shadow_hit hit;
	const uint64_t spte = fill(e, linear, current_rights(e) | PF_I, &hit);

	return (struct fetched){ hit.gpa, spte & SPTE_MMIO ? NULL : host_page(e, spte) };
}
