/*
 * decode.c -- from bytes to a block of ops.
 *
 * Decoding stops at a branch, at an instruction that may change what follows (mode, mapping,
 * interrupt flag), at the page's end, and after BLOCK_INSNS.  An instruction that crosses into
 * the next page has a block of its own.  Only the first instruction of a block may fault while
 * it is fetched; at any other one the block ends before it.
 * Prefixes: the last segment override and the last of F2/F3 win; more than 15 bytes are #GP(0).
 * Source: Intel SDM volume 2, chapter 2 and appendix A.
 */
#include "decode.h"
#include "insns.h"
#include "watch.h"

/* ---- one instruction -------------------------------------------------------------------------------- */

/* Prefixes into d; returns the opcode byte. */
static uint32_t
prefixes(struct decoder *d)
{
	for (;;) {
		const uint32_t byte = decode_fetch8(d);

		if (d->stop)
			return byte;
		switch (byte) {
		case 0x26: case 0x2e: case 0x36: case 0x3e:
			d->override = (int)(byte >> 3 & 3);
			break;
		case 0x64: case 0x65:
			d->override = (int)(byte & 7);
			break;
		case 0x66:
			d->size16 = (d->mode & MODE_CS32) != 0;
			d->prefix66 = true;
			break;
		case 0x67:
			d->addr16 = (d->mode & MODE_CS32) != 0;
			break;
		case 0xf0:
			d->lock = true;
			break;
		case 0xf2:
			d->rep = OP_REPNE;
			break;
		case 0xf3:
			d->rep = OP_REP;
			break;
		default:
			return byte;
		}
	}
}

static void
decode_insn(struct decoder *d)
{
	struct op *op = d->op;
	uint32_t opcode;

	__builtin_memset(op, 0, sizeof *op);
	op->base = op->index = R_ZERO;
	d->start = d->pos;
	d->size16 = d->addr16 = !(d->mode & MODE_CS32);
	d->prefix66 = d->lock = d->lockable = d->end = d->fused = d->side = d->follow = false;
	d->override = -1;
	d->rep = 0;
	d->facts = 0;
	d->fuse = 0;
	d->dead = NULL;

	opcode = prefixes(d);
	op->offset = (int16_t)d->start;
	op->flags = (uint8_t)((d->size16 ? OP_SIZE16 : 0) | (d->addr16 ? OP_ADDR16 : 0) | d->rep |
	    (d->lock ? OP_LOCK : 0) | (d->mode & MODE_SS32 ? 0 : OP_STACK16));
	op->opcode = (uint8_t)opcode;
	if (opcode == 0x0f)
		decode_two_byte(d);
	else
		decode_one_byte(d, opcode);
	if (d->lock && !d->lockable) {
		undefined(d);
		d->fused = d->side = d->follow = false;
	}
	op->length = (uint8_t)(d->pos - d->start);
	if ((d->end || d->side) && op->fn != h_slow_end && op->fn != h_slow_last && op->fn != h_slow_jump)
		op->link[0] = op->link[1] = d->e->no_block;
}

/* ---- the block ----------------------------------------------------------------------------------------- */

/* Arithmetic flags that are overwritten before anything can see them need not be made. */
static void
drop_dead_flags(struct block *b, const struct decoded *decoded, uint32_t n)
{
	bool needed = true;

	while (n--) {
		const struct decoded *x = &decoded[n];

		if (!needed && x->dead) {	/* which neither reads nor makes flags */
			b->ops[n].fn = x->dead;
			needed = (x->facts & FACT_FAULTS) != 0;
			continue;
		}
		if (x->facts & (FACT_FAULTS | FACT_READS))
			needed = true;
		else if (x->facts & FACT_KILLS)
			needed = false;
	}
}

/*
 * The bytes [from, from + length) of a page are decoded: its stores must be seen from now on.  False when another
 * vCPU stored there after `seen` was copied and before it could know.
 */
static bool
mark_code(struct engine *e, uint32_t ppn, uint32_t from, uint32_t length, const uint8_t *seen, const uint8_t *memory)
{
	uint64_t lines, before;

	if (ppn >= e->m->ram_pages)
		return true;
	lines = (~0ull << (from >> 6)) & (~0ull >> (63 - ((from + length - 1) >> 6)));
	before = __atomic_fetch_or(&e->codemap[ppn], lines, __ATOMIC_SEQ_CST);
	if (before == 0)
		tlb_flush_writes(e, ppn);
	return seen == memory || !(lines & ~before) || __builtin_memcmp(seen + from, memory + from, length) == 0;
}

/* The code from d->range to d->pos. */
static void
mark_range(struct decoder *d, const struct block *b)
{
	const uint32_t length = d->pos - d->range;

	if (length)
		d->torn |= !mark_code(d->e, b->ppn, (d->linear + d->range) & (PAGE_SIZE - 1), length, d->page, d->memory);
}

/* What a branch out of the middle gives back: the instructions behind it. */
static void
count_rest(struct block *b, const struct decoded *decoded, uint32_t n)
{
	uint32_t i, rest = b->count;

	for (i = 0; i < n; i++) {
		rest -= op_insns(&b->ops[i]);
		if (decoded[i].side)
			b->ops[i].imm16 = (uint16_t)rest;
	}
}

static bool
breakpoint_at(const struct engine *e, uint32_t linear)
{
	uint32_t i;

	for (i = 0; i < e->breakpoint_count; i++)
		if (e->breakpoints[i].kind == 0 && e->breakpoints[i].linear == linear)
			return true;
	return false;
}

/* A pseudo op behind the last instruction. */
static void
finish(const struct engine *e, struct op *op, handler *fn, uint32_t offset)
{
	__builtin_memset(op, 0, sizeof *op);
	op->base = op->index = R_ZERO;
	op->fn = fn;
	op->offset = (int16_t)offset;
	op->link[0] = op->link[1] = e->no_block;
}

static struct block *
block_begin(struct engine *e, uint64_t paddr)
{
	const uint64_t room = sizeof(struct block) + (BLOCK_INSNS + 2) * sizeof(struct op) + BLOCK_INSNS * MAX_INSN;
	struct block *b;

	if (e->code_next + room > e->code_end)
		code_flush(e);
	b = arena_at(e, e->code_next);
	__builtin_memset(b, 0, sizeof *b);
	b->paddr = paddr;
	b->mode = e->mode;
	b->ppn = (uint32_t)(paddr >> PAGE_SHIFT);
	b->ppn2 = ~0u;
	b->stamp_cell = stamp_cell(e, b->ppn);
	b->stamp = __atomic_load_n(b->stamp_cell, __ATOMIC_ACQUIRE);
	return b;
}

/* No entry to this block compares true: it runs now, and then code_lookup judges it. */
static void
never_matches(struct engine *e, struct block *b)
{
	b->stamp_cell = b->stamp ? &e->zero_stamp : &e->one_stamp;
}

/* V3 of watch.h: the bytes that the block was made from, behind it. */
static uint32_t
keep_bytes(struct engine *e, struct block *b, const struct decoder *d)
{
	const uint32_t first = b->length < d->page_left ? b->length : d->page_left;
	uint8_t *kept = (uint8_t *)&b->ops[b->ops_count];

	__builtin_memcpy(kept, d->page + PAGE_SIZE - d->page_left, first);
	if (b->length > first && d->page2)
		__builtin_memcpy(kept + first, d->page2, b->length - first);
	b->pending = 1;
	never_matches(e, b);
	return b->length;
}

static void
block_end(struct engine *e, struct block *b, struct decoder *d, uint32_t ops)
{
	uint32_t kept = 0;

	if (d->crossed) {
		b->ppn2 = (uint32_t)(d->gpa2 >> PAGE_SHIFT);
		b->stamp2 = d->stamp2;
		d->torn |= !mark_code(e, b->ppn2, 0, b->length - d->page_left, d->page2, d->memory2);
		d->torn |= !mark_code(e, b->ppn, PAGE_SIZE - d->page_left, d->page_left, d->page, d->memory);
		watch_begin(e, b->ppn2, b->stamp2);
	} else {
		mark_range(d, b);
	}
	watch_begin(e, b->ppn, b->stamp);
	b->ops_count = (uint16_t)ops;
	if (d->torn)
		never_matches(e, b);
	else if (d->pending && d->page)
		kept = keep_bytes(e, b, d);
	e->code_next += (sizeof *b + ops * sizeof(struct op) + kept + 15) & ~15ull;
	e->ctl->stats.blocks_decoded++;
}

/* V3 and V4 of watch.h. */
static void
copy_page(struct decoder *d, const struct block *b)
{
	struct engine *e = d->e;

	d->memory = d->page;
	if (!several_vcpus(e) || !d->page)
		return;
	d->pending = !watch_is_settled(e, b->ppn, b->stamp);	/* first: V3 */
	__builtin_memcpy(e->seen, d->page, PAGE_SIZE);
	d->page = e->seen;
}

struct block *
code_decode(struct engine *e, uint32_t linear, uint64_t paddr)
{
	const struct vcpu *v = e->v;
	const uint32_t most = e->mode & MODE_ONE ? 1 : BLOCK_INSNS;
	struct decoder d = { .e = e, .mode = e->mode, .linear = linear, .page_left = PAGE_SIZE - (linear & (PAGE_SIZE - 1)) };
	struct decoded decoded[BLOCK_INSNS];
	handler *last = h_fall;
	struct block *b;
	uint32_t n = 0;

	d.page = mem_fetch(e, linear).bytes;
	d.limit = v->seg[CS].limit - v->eip == 0xffffffffu ? 0xffffffffu : v->seg[CS].limit - v->eip + 1;
	b = block_begin(e, paddr);
	copy_page(&d, b);
	while (n < most && !d.end) {
		d.op = &b->ops[n];
		d.first = n == 0;
		d.prev_fuse = n ? decoded[n - 1].fuse : 0;
		if (!(e->mode & MODE_ONE) && breakpoint_at(e, linear + d.pos)) {
			if (n == 0)
				last = h_breakpoint;
			break;
		}
		decode_insn(&d);
		if (d.stop == STOP_BEFORE) {
			d.pos = d.start;
			d.end = false;
			break;
		}
		if (d.stop == STOP_GP) {
			slow_jump(&d, i_gp);
			d.op->length = 1;
		}
		b->count++;
		if (d.fused) {
			b->ops[n - 1].length = (uint8_t)(d.pos - op_offset(&b->ops[n - 1]));
			decoded[n - 1].dead = NULL;
			decoded[n - 1].fuse = FUSE_NONE;
			decoded[n - 1].side = d.side;
			continue;
		}
		decoded[n].facts = d.facts;
		decoded[n].dead = d.dead;
		decoded[n].fuse = d.fuse;
		decoded[n].side = d.side;
		n++;
		if (d.crossed)
			break;
		if (d.follow) {
			mark_range(&d, b);
			d.pos = d.range = d.op->imm;
		}
	}
	b->length = (uint16_t)(d.pos ? d.pos : 1);
	drop_dead_flags(b, decoded, n);
	move_pairs(b->ops, n);
	compound(b->ops, n);
	count_rest(b, decoded, n);
	if (!d.end)
		finish(e, &b->ops[n++], last, d.pos);
	block_end(e, b, &d, n);
	return b;
}
