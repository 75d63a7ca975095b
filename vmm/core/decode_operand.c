/*
 * decode_operand.c -- the bytes of an instruction: fetching, ModRM and SIB, immediates.
 *
 * Source: Intel SDM volume 2, chapter 2, tables 2-1 to 2-3.
 */
#include "decode.h"
#include "watch.h"

/* ---- bytes ------------------------------------------------------------------------------- */

/* V3 and V4 of watch.h. */
static void
copy_second_page(struct decoder *d)
{
	struct engine *e = d->e;

	d->memory2 = d->page2;
	if (!several_vcpus(e) || !d->page2)
		return;
	d->pending |= !watch_is_settled(e, (uint32_t)(d->gpa2 >> PAGE_SHIFT), d->stamp2);
	__builtin_memcpy(e->seen + PAGE_SIZE, d->page2, MAX_INSN);
	d->page2 = e->seen + PAGE_SIZE;
}

uint8_t
decode_fetch8(struct decoder *d)
{
	const uint32_t at = d->pos;

	if (d->stop)
		return 0;
	if (at - d->start >= MAX_INSN) {
		d->stop = d->first ? STOP_GP : STOP_BEFORE;	/* alone: it overwrites no flags of those before it */
		return 0;
	}
	if ((int32_t)at >= 0 && at >= d->limit) {
		d->stop = d->first ? STOP_GP : STOP_BEFORE;
		return 0;
	}
	if ((d->linear & (PAGE_SIZE - 1)) + at >= PAGE_SIZE) {	/* `at` wraps for code before the block's first byte */
		if (!d->first) {
			d->stop = STOP_BEFORE;
			return 0;
		}
		if (!d->crossed) {	/* may raise: nothing has been committed */
			const struct fetched next = mem_fetch(d->e, (d->linear | (PAGE_SIZE - 1)) + 1);

			d->crossed = true;
			d->page2 = next.bytes;
			d->gpa2 = next.gpa;
			d->stamp2 = __atomic_load_n(stamp_cell(d->e, (uint32_t)(next.gpa >> PAGE_SHIFT)), __ATOMIC_ACQUIRE);
			copy_second_page(d);
		}
		d->pos++;
		return d->page2 ? d->page2[at - d->page_left] : 0xff;
	}
	d->pos++;
	return d->page ? d->page[(d->linear & (PAGE_SIZE - 1)) + at] : 0xff;
}

uint32_t
decode_fetch16(struct decoder *d)
{
	const uint32_t low = decode_fetch8(d);

	return low | (uint32_t)decode_fetch8(d) << 8;
}

uint32_t
decode_fetch32(struct decoder *d)
{
	const uint32_t low = decode_fetch16(d);

	return low | decode_fetch16(d) << 16;
}

uint32_t
decode_fetch_signed8(struct decoder *d)
{
	return SX8(decode_fetch8(d));
}

/* An immediate of operand size. */
uint32_t
decode_fetch_z(struct decoder *d)
{
	return d->size16 ? decode_fetch16(d) : decode_fetch32(d);
}

/* ---- ModRM --------------------------------------------------------------------------------- */

static void
decode_sib(struct decoder *d, uint32_t mod)
{
	struct op *op = d->op;
	const uint8_t sib = decode_fetch8(d);
	const uint8_t base = sib & 7, index = sib >> 3 & 7;

	op->scale = sib >> 6;
	op->index = index == 4 ? R_ZERO : index;
	if (index == 4)
		op->scale = 0;
	if (base == 5 && mod == 0) {
		op->base = R_ZERO;
		op->disp = decode_fetch32(d);
		return;
	}
	op->base = base;
	if (base == ESP || base == EBP)
		op->seg = SS;
}

static void
decode_memory32(struct decoder *d, uint32_t mod, uint32_t rm)
{
	struct op *op = d->op;

	op->index = R_ZERO;
	if (rm == 4) {
		decode_sib(d, mod);
	} else if (rm == 5 && mod == 0) {
		op->base = R_ZERO;
		op->disp = decode_fetch32(d);
	} else {
		op->base = (uint8_t)rm;
		if (rm == EBP)
			op->seg = SS;
	}
	if (mod == 1)
		op->disp = decode_fetch_signed8(d);
	else if (mod == 2)
		op->disp = decode_fetch32(d);
}

static void
decode_memory16(struct decoder *d, uint32_t mod, uint32_t rm)
{
	static const uint8_t bases[8] = { EBX, EBX, EBP, EBP, ESI, EDI, EBP, EBX };
	static const uint8_t indexes[8] = { ESI, EDI, ESI, EDI, R_ZERO, R_ZERO, R_ZERO, R_ZERO };
	struct op *op = d->op;

	op->base = bases[rm];
	op->index = indexes[rm];
	if (op->base == EBP)
		op->seg = SS;
	if (rm == 6 && mod == 0) {
		op->base = R_ZERO;
		op->seg = DS;
		op->disp = decode_fetch16(d);
	} else if (mod == 1) {
		op->disp = decode_fetch_signed8(d);
	} else if (mod == 2) {
		op->disp = decode_fetch16(d);
	}
}

void
decode_modrm(struct decoder *d)
{
	struct op *op = d->op;
	const uint8_t modrm = decode_fetch8(d);
	const uint32_t mod = modrm >> 6, rm = modrm & 7;

	op->modrm = modrm;
	op->reg = modrm >> 3 & 7;
	op->rm = (uint8_t)rm;
	op->seg = DS;
	if (mod != 3) {
		op->flags |= OP_MEM;
		if (d->addr16)
			decode_memory16(d, mod, rm);
		else
			decode_memory32(d, mod, rm);
	}
	if (d->override >= 0)
		op->seg = (uint8_t)d->override;
}

void
decode_modrm_bytes(struct decoder *d)	/* register operands are 8 bits wide */
{
	decode_modrm(d);
	d->op->reg = byte_reg(d->op->reg);
	d->op->rm = byte_reg(d->op->rm);
}
