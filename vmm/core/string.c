/*
 * string.c -- MOVS CMPS STOS LODS SCAS INS OUTS, with and without REP.
 *
 * A repeated instruction commits its registers after every element (or run of elements that lie
 * within one page of each operand), so a fault or an exit finds it restartable, as the manual
 * asks; after REP_BUDGET elements it stops with EIP on itself to let the run loop look at events.
 * Port strings leave run() once per batch, with the data in the control page.
 * Source: Intel SDM volume 2, "REP/REPE/REPZ/REPNE/REPNZ"; the segment of the destination is
 * always ES, that of the source may be overridden; the counter's width is the address size.
 */
#include "handlers.h"
#include "insns.h"
#include "operand.h"
#include "slow.h"

#define REP_BUDGET 4096

struct string {
	struct vcpu *v;
	uint32_t size;		/* of an element, bytes */
	uint32_t step;		/* +size or -size */
	uint32_t mask;		/* of ECX, ESI and EDI */
	bool rep;
};

static struct string
string_begin(struct engine *e, const struct op *op)
{
	struct string s = { .v = e->v, .size = op->imm2 };

	s.step = e->v->eflags & FL_DF ? 0 - s.size : s.size;
	s.mask = op->flags & OP_ADDR16 ? 0xffff : 0xffffffffu;
	s.rep = (op->flags & (OP_REP | OP_REPNE)) != 0;
	return s;
}

static inline uint32_t
counter(const struct string *s)
{
	return s->v->r[ECX] & s->mask;
}

static inline void
advance(const struct string *s, uint32_t reg, uint32_t elements)
{
	uint32_t *r = &s->v->r[reg];

	*r = (*r & ~s->mask) | ((*r + s->step * elements) & s->mask);
}

static inline void
count_down(const struct string *s, uint32_t elements)
{
	if (s->rep)
		s->v->r[ECX] = (s->v->r[ECX] & ~s->mask) | ((s->v->r[ECX] - elements) & s->mask);
}

/* One element is done: an answer that it consumed is not its successor's. */
static inline void
element_done(struct engine *e)
{
	e->replay.count = e->replay.cursor = 0;
}

/* Elements, going up, until `offset` or its linear address leaves the page; at least 1. */
static inline uint32_t
run_length(uint32_t linear, uint32_t offset, uint32_t mask, uint32_t size, uint32_t wanted)
{
	uint32_t n = (PAGE_SIZE - (linear & (PAGE_SIZE - 1))) / size;
	const uint32_t to_wrap = mask == 0xffff ? (0x10000 - offset) / size : wanted;

	n = n < to_wrap ? n : to_wrap;
	return n < wanted ? n : wanted;
}

/* Can the whole run be checked as one access?  True when it lies inside the segment. */
static bool
run_in_segment(const struct engine *e, uint32_t sreg, uint32_t offset, uint32_t bytes)
{
	const struct segment *s = &e->v->seg[sreg];

	return !(s->attr & SEG_UNUSABLE) && !((s->attr & (SEG_CODE | SEG_E)) == SEG_E) &&
	    offset + (bytes - 1) >= offset && offset + (bytes - 1) <= s->limit;
}

/* Elements before events are looked at: one while TF or the debugger steps. */
static uint32_t
rep_budget(const struct engine *e)
{
	return (e->v->eflags & FL_TF) || e->ctl->single_step || e->data_watch ? 1 : REP_BUDGET;
}

/* Events are looked at before the next element: EIP stays, time passes, and the instruction counts when it ends. */
static void
stop_between(struct engine *e)
{
	const uint32_t cost = rep_budget(e) / 4 + 1;

	e->v->eip = cur_eip(e);
	e->budget += 1 - (int64_t)cost;
	e->budget_mark -= cost;
	if (e->intr->clock.mode == CLOCK_COUNTED)
		clock_retired(e->intr, cost);
}

/* The loop of a REP-prefixed instruction: `once` handles up to `max` elements and says how many. */
static void
repeat(struct engine *e, const struct op *op, struct string *s, uint32_t (*once)(struct engine *, const struct op *, struct string *, uint32_t max))
{
	uint32_t left = rep_budget(e);

	if (!s->rep) {
		once(e, op, s, 1);
		e->v->eip = next_eip(e);
		return;
	}
	while (counter(s) != 0) {
		const uint32_t wanted = counter(s) < left ? counter(s) : left;
		const bool answered = e->replay.count != 0;	/* run() was left: events have waited since */
		const uint32_t done = once(e, op, s, wanted);

		element_done(e);
		count_down(s, done);
		left -= done;
		if (counter(s) == 0)
			break;
		if (left == 0 || answered) {
			stop_between(e);
			return;
		}
	}
	e->v->eip = next_eip(e);
}

static uint32_t
movs_once(struct engine *e, const struct op *op, struct string *s, uint32_t max)
{
	struct vcpu *v = e->v;
	const uint32_t si = v->r[ESI] & s->mask, di = v->r[EDI] & s->mask, size = s->size;
	const uint32_t from = seg_linear(e, op->seg, si, size, 0);
	uint32_t to, n = 1;

	if (max > 1 && s->step == size) {
		to = v->seg[ES].base + di;
		n = run_length(from, si, s->mask, size, max);
		n = run_length(to, di, s->mask, size, n);
		/* An overlap shorter than the run propagates: element by element then. */
		const uint8_t *p = n > 1 && run_in_segment(e, op->seg, si, n * size) && run_in_segment(e, ES, di, n * size) ?
		    tlb_read_ptr(e, from, n * size) : NULL;
		uint8_t *q = p ? tlb_write_ptr(e, seg_linear(e, ES, di, size, PF_W), n * size) : NULL;

		if (q && (q + n * size <= p || q >= p + n * size)) {
			__builtin_memcpy(q, p, n * size);
			advance(s, ESI, n);
			advance(s, EDI, n);
			return n;
		}
	}
	const uint32_t x = mem_read(e, from, size);

	to = seg_linear(e, ES, di, size, PF_W);
	mem_write(e, to, size, x);
	advance(s, ESI, 1);
	advance(s, EDI, 1);
	return 1;
}

void
i_movs(struct engine *e, const struct op *op)
{
	struct string s = string_begin(e, op);

	repeat(e, op, &s, movs_once);
}

static uint32_t
stos_once(struct engine *e, const struct op *op, struct string *s, uint32_t max)
{
	struct vcpu *v = e->v;
	const uint32_t di = v->r[EDI] & s->mask, size = s->size, to = seg_linear(e, ES, di, size, PF_W);
	const uint32_t x = v->r[EAX];
	uint32_t i, n = 1;

	(void)op;
	if (max > 1 && s->step == size) {
		n = run_length(to, di, s->mask, size, max);
		uint8_t *q = n > 1 && run_in_segment(e, ES, di, n * size) ? tlb_write_ptr(e, to, n * size) : NULL;

		if (q) {
			if (size == 1)
				__builtin_memset(q, (int)(x & 0xff), n);
			else if (size == 2)
				for (i = 0; i < n; i++)
					host_st16(q + 2 * i, x);
			else
				for (i = 0; i < n; i++)
					host_st32(q + 4 * i, x);
			advance(s, EDI, n);
			return n;
		}
	}
	mem_write(e, to, size, x);
	advance(s, EDI, 1);
	return 1;
}

void
i_stos(struct engine *e, const struct op *op)
{
	struct string s = string_begin(e, op);

	repeat(e, op, &s, stos_once);
}

static uint32_t
lods_once(struct engine *e, const struct op *op, struct string *s, uint32_t max)
{
	struct vcpu *v = e->v;
	const uint32_t x = mem_read(e, seg_linear(e, op->seg, v->r[ESI] & s->mask, s->size, 0), s->size);

	(void)max;
	reg_put(v, EAX, s->size, x);
	advance(s, ESI, 1);
	return 1;
}

void
i_lods(struct engine *e, const struct op *op)
{
	struct string s = string_begin(e, op);

	repeat(e, op, &s, lods_once);
}

/* REPE and REPNE also stop on ZF. */
static void
repeat_while(struct engine *e, const struct op *op, struct string *s, void (*once)(struct engine *, const struct op *, struct string *))
{
	uint32_t left = rep_budget(e);

	if (!s->rep) {
		once(e, op, s);
		e->v->eip = next_eip(e);
		return;
	}
	while (counter(s) != 0) {
		const bool answered = e->replay.count != 0;

		once(e, op, s);
		element_done(e);
		count_down(s, 1);
		if (counter(s) == 0 || lf_zf(e) != ((op->flags & OP_REP) != 0))
			break;
		if (--left == 0 || answered) {
			stop_between(e);
			return;
		}
	}
	e->v->eip = next_eip(e);
}

static void
cmps_once(struct engine *e, const struct op *op, struct string *s)
{
	struct vcpu *v = e->v;
	const uint32_t a = mem_read(e, seg_linear(e, op->seg, v->r[ESI] & s->mask, s->size, 0), s->size);
	const uint32_t b = mem_read(e, seg_linear(e, ES, v->r[EDI] & s->mask, s->size, 0), s->size);

	advance(s, ESI, 1);
	advance(s, EDI, 1);
	compare_flags(e, s->size, a, b);
}

void
i_cmps(struct engine *e, const struct op *op)
{
	struct string s = string_begin(e, op);

	repeat_while(e, op, &s, cmps_once);
}

static void
scas_once(struct engine *e, const struct op *op, struct string *s)
{
	struct vcpu *v = e->v;
	const uint32_t b = mem_read(e, seg_linear(e, ES, v->r[EDI] & s->mask, s->size, 0), s->size);

	(void)op;
	advance(s, EDI, 1);
	compare_flags(e, s->size, reg_get(v, EAX, s->size), b);
}

void
i_scas(struct engine *e, const struct op *op)
{
	struct string s = string_begin(e, op);

	repeat_while(e, op, &s, scas_once);
}

/* ---- INS, OUTS ----------------------------------------------------------------------------------- */

/* Elements of one batch: within the page, the buffer and the segment; 1 when going down. */
static uint32_t
batch(struct engine *e, struct string *s, uint32_t sreg, uint32_t offset, uint32_t linear, uint32_t max)
{
	uint32_t n;

	if (max == 1 || s->step != s->size)
		return 1;
	n = run_length(linear, offset, s->mask, s->size, max);
	if (n > RF_IO_BUFFER / s->size)
		n = RF_IO_BUFFER / s->size;
	/* Only plain memory: an access that could leave run() between the units is not batched. */
	return n && run_in_segment(e, sreg, offset, n * s->size) && tlb_read_ptr(e, linear, n * s->size) ? n : 1;
}

static uint32_t
outs_once(struct engine *e, const struct op *op, struct string *s, uint32_t max)
{
	struct vcpu *v = e->v;
	const uint32_t port = v->r[EDX] & 0xffff, si = v->r[ESI] & s->mask;
	const uint32_t linear = seg_linear(e, op->seg, si, s->size, 0);
	mem_check_read(e, linear, s->size);
	uint32_t n = batch(e, s, op->seg, si, linear, max);

	if (!port_string_done(e, port, s->size, &n, true)) {
		uint8_t data[RF_IO_BUFFER];
		uint32_t i;

		for (i = 0; i < n; i++) {
			const uint32_t x = mem_read(e, linear + i * s->size, s->size);

			__builtin_memcpy(data + i * s->size, &x, s->size);
		}
		if (!port_string_done(e, port, s->size, &n, true))	/* behind the answer of a source in MMIO */
			port_string(e, port, s->size, n, data, true);
	}
	advance(s, ESI, n);
	return n;
}

void
i_outs(struct engine *e, const struct op *op)
{
	struct string s = string_begin(e, op);

	check_io(e, e->v->r[EDX] & 0xffff, s.size);	/* silicon looks before it counts */
	repeat(e, op, &s, outs_once);
}

static uint32_t
ins_once(struct engine *e, const struct op *op, struct string *s, uint32_t max)
{
	struct vcpu *v = e->v;
	const uint32_t port = v->r[EDX] & 0xffff, di = v->r[EDI] & s->mask;
	const uint32_t linear = seg_linear(e, ES, di, s->size, PF_W);
	uint32_t i, n;

	(void)op;
	mem_check_write(e, linear, s->size);
	n = batch(e, s, ES, di, linear, max);
	if (!port_string_done(e, port, s->size, &n, false))
		port_string(e, port, s->size, n, NULL, false);
	for (i = 0; i < n; i++) {
		uint32_t x = 0;

		__builtin_memcpy(&x, e->string_data + i * s->size, s->size);
		mem_write(e, linear + i * s->size, s->size, x);
	}
	advance(s, EDI, n);
	return n;
}

void
i_ins(struct engine *e, const struct op *op)
{
	struct string s = string_begin(e, op);

	check_io(e, e->v->r[EDX] & 0xffff, s.size);	/* silicon looks before it counts */
	repeat(e, op, &s, ins_once);
}
