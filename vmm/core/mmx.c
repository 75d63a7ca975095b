/*
 * mmx.c -- MMX, and what SSE and SSE2 added for MMX registers.
 *
 * The registers are the low 64 bits of the x87 ones: an instruction brings the x87 state to
 * memory, makes TOP 0 and every register valid, and a register that it writes gets all ones for
 * sign and exponent (SDM volume 1, 9.5).  The host's MMX unit is free then; fpu_leave empties it.
 *
 * These forms need no CR4.OSFXSR.
 *
 * Source: Intel SDM volume 1, chapter 9; volume 2, A.3.
 */
#include "fpu.h"

#if defined(__x86_64__)

static uint64_t
source64(struct engine *e, const struct op *op)
{
	return ld64(e, op, operand_linear(e, op, operand_offset(e, op), 8, 0));
}

static uint64_t
source32(struct engine *e, const struct op *op)
{
	return ld32(e, op, operand_linear(e, op, operand_offset(e, op), 4, 0));
}

#define EXECUTE(insn, d, s) __asm__ volatile("movq %0, %%mm0\n\t" insn " %1, %%mm0\n\tmovq %%mm0, %0"	\
	: "+m"(d) : "m"(s) : "mm0")

/* d = d op s, on registers and with a memory operand that `load` reads. */
#define BINARY(name, load)								\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	struct fx_image *fx = fx_of(e);							\
											\
	mmx_begin(e);									\
	mmx_commit(e);									\
	EXECUTE(#name, fx->st[op->reg & 7].mantissa, fx->st[op->rm & 7].mantissa);	\
	fx->st[op->reg & 7].exponent = 0xffff;						\
}											\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	struct fx_image *fx = fx_of(e);							\
	uint64_t s;									\
											\
	mmx_begin(e);									\
	s = load(e, op);								\
	mmx_commit(e);									\
	EXECUTE(#name, fx->st[op->reg & 7].mantissa, s);				\
	fx->st[op->reg & 7].exponent = 0xffff;						\
}

#define BINARY64(code, name) BINARY(name, source64)
PACKED_INTEGER_OPS(BINARY64)
BINARY(punpcklbw, source32)
BINARY(punpcklwd, source32)
BINARY(punpckldq, source32)

#define SHIFT(code, extension, name)							\
static void										\
i_##name(struct engine *e, const struct op *op)						\
{											\
	struct fx_image *fx = fx_of(e);							\
	const uint64_t count = op->imm & 0xff;						\
											\
	mmx_begin(e);									\
	mmx_commit(e);									\
	EXECUTE(#name, fx->st[op->rm & 7].mantissa, count);				\
	fx->st[op->rm & 7].exponent = 0xffff;						\
}

PACKED_SHIFTS(SHIFT)

/* ---- moves ------------------------------------------------------------------------------ */

static void
movd_load_r(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	mmx_commit(e);
	mmx_put(e, op->reg, e->v->r[op->rm]);
}

static void
movd_load_m(struct engine *e, const struct op *op)
{
	uint64_t x;

	mmx_begin(e);
	x = source32(e, op);
	mmx_commit(e);
	mmx_put(e, op->reg, x);
}

static void
movd_store_r(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	mmx_commit(e);
	e->v->r[op->rm] = (uint32_t)mmx_peek(e, op->reg);
}

static void
movd_store_m(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	st32(e, op, operand_linear(e, op, operand_offset(e, op), 4, PF_W), (uint32_t)mmx_peek(e, op->reg));
	mmx_commit(e);
}

static void
movq_load_r(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	mmx_commit(e);
	mmx_put(e, op->reg, mmx_peek(e, op->rm));
}

static void
movq_load_m(struct engine *e, const struct op *op)
{
	uint64_t x;

	mmx_begin(e);
	x = source64(e, op);
	mmx_commit(e);
	mmx_put(e, op->reg, x);
}

static void
movq_store_r(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	mmx_commit(e);
	mmx_put(e, op->rm, mmx_peek(e, op->reg));
}

static void
movq_store_m(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	st64(e, op, operand_linear(e, op, operand_offset(e, op), 8, PF_W), mmx_peek(e, op->reg));
	mmx_commit(e);
}

/* "Empty all tags"; TOP becomes 0 as with every MMX instruction. */
static void
emms(struct engine *e, const struct op *op)
{
	(void)op;
	mmx_begin(e);
	mmx_commit(e);
	fx_of(e)->ftw = 0;
}

/* ---- words selected by an immediate --------------------------------------------------------- */

static uint64_t
shuffle_words(uint64_t s, uint32_t order)
{
	uint64_t d = 0;

	for (uint32_t i = 0; i < 4; i++)
		d |= (s >> 16 * (order >> 2 * i & 3) & 0xffff) << 16 * i;
	return d;
}

static void
pshufw_r(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	mmx_commit(e);
	mmx_put(e, op->reg, shuffle_words(mmx_peek(e, op->rm), op->imm));
}

static void
pshufw_m(struct engine *e, const struct op *op)
{
	uint64_t s;

	mmx_begin(e);
	s = source64(e, op);
	mmx_commit(e);
	mmx_put(e, op->reg, shuffle_words(s, op->imm));
}

static void
insert_word(struct engine *e, const struct op *op, uint64_t word)
{
	const uint32_t shift = 16 * (op->imm & 3);

	mmx_commit(e);
	mmx_put(e, op->reg, (mmx_peek(e, op->reg) & ~(0xffffull << shift)) | (word & 0xffff) << shift);
}

static void
pinsrw_r(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	insert_word(e, op, e->v->r[op->rm]);
}

static void
pinsrw_m(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	insert_word(e, op, ld16(e, op, operand_linear(e, op, operand_offset(e, op), 2, 0)));
}

static void
pextrw(struct engine *e, const struct op *op)
{
	mmx_begin(e);
	mmx_commit(e);
	e->v->r[op->reg] = (uint32_t)(mmx_peek(e, op->rm) >> 16 * (op->imm & 3) & 0xffff);
}

static void
pmovmskb(struct engine *e, const struct op *op)
{
	uint32_t mask = 0;
	uint64_t s;

	mmx_begin(e);
	mmx_commit(e);
	s = mmx_peek(e, op->rm);
	for (uint32_t i = 0; i < 8; i++)
		mask |= (uint32_t)(s >> (8 * i + 7) & 1) << i;
	e->v->r[op->reg] = mask;
}

void
masked_store(struct engine *e, const struct op *op, const uint8_t *data, const uint8_t *mask, uint32_t size)
{
	const uint32_t edi = e->v->r[EDI], offset = op->flags & OP_ADDR16 ? edi & 0xffff : edi;
	const uint32_t linear = operand_linear(e, op, offset, size, PF_W);
	uint32_t any = 0;
	uint8_t *p;

	for (uint32_t i = 0; i < size; i++)
		any |= mask[i] & 0x80u;
	if (!any)
		return;
	p = tlb_write_ptr(e, linear, size);
	if (p == NULL)
		mem_check_write(e, linear, size);
	for (uint32_t i = 0; i < size; i++) {
		if (!(mask[i] & 0x80))
			continue;
		if (p != NULL)
			p[i] = data[i];
		else
			mem_write(e, linear + i, 1, data[i]);
	}
}

static void
maskmovq(struct engine *e, const struct op *op)
{
	uint64_t data, mask;

	mmx_begin(e);
	data = mmx_peek(e, op->reg);
	mask = mmx_peek(e, op->rm);
	masked_store(e, op, (const uint8_t *)&data, (const uint8_t *)&mask, 8);
	mmx_commit(e);
}

/* ---- the map -------------------------------------------------------------------------------- */

#define PICK(name) SLOW_FORM(modrm_is_register(modrm) ? r_##name : m_##name)
#define ROW(code, name) case 0x##code: return PICK(name);
#define SHIFT_ROW(code, extension, name) case 0x##code << 3 | extension: return SLOW_FORM(i_##name);

static struct forms
shift_lookup(uint32_t opcode, uint8_t modrm)
{
	if (!modrm_is_register(modrm))
		return UNDEFINED;
	switch (opcode << 3 | (modrm >> 3 & 7)) {
	PACKED_SHIFTS(SHIFT_ROW)
	default:
		return UNDEFINED;
	}
}

struct forms
mmx_lookup(uint32_t opcode, uint8_t modrm)
{
	const bool reg = modrm_is_register(modrm);

	switch (opcode) {
	PACKED_INTEGER_OPS(ROW)
	ROW(60, punpcklbw)
	ROW(61, punpcklwd)
	ROW(62, punpckldq)
	case 0x6e: return SLOW_FORM(reg ? movd_load_r : movd_load_m);
	case 0x6f: return SLOW_FORM(reg ? movq_load_r : movq_load_m);
	case 0x70: return SLOW_FORM(reg ? pshufw_r : pshufw_m);
	case 0x71:
	case 0x72:
	case 0x73: return shift_lookup(opcode, modrm);
	case 0x77: return SLOW_FORM(emms);
	case 0x7e: return SLOW_FORM(reg ? movd_store_r : movd_store_m);
	case 0x7f: return SLOW_FORM(reg ? movq_store_r : movq_store_m);
	case 0xc4: return SLOW_FORM(reg ? pinsrw_r : pinsrw_m);
	case 0xc5: return reg ? SLOW_FORM(pextrw) : UNDEFINED;
	case 0xd7: return reg ? SLOW_FORM(pmovmskb) : UNDEFINED;
	case 0xe7: return reg ? UNDEFINED : SLOW_FORM(movq_store_m);	/* MOVNTQ */
	case 0xf7: return reg ? SLOW_FORM(maskmovq) : UNDEFINED;
	default: return UNDEFINED;
	}
}

#endif
