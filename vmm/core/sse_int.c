/*
 * sse_int.c -- packed integers in XMM registers: the SSE2 forms, prefix 66, of MMX's operations.
 *
 * None of these looks at MXCSR or raises a SIMD exception.  The registers lie in v->fx; each
 * operation is one asm statement that loads, executes and stores, for the compiler may use XMM
 * registers for its own copies in between.
 *
 * Source: Intel SDM volume 1, 11.4.2; volume 2, A.3.
 */
#include "fpu.h"

#if defined(__x86_64__)

#define EXECUTE(insn, d, s) __asm__ volatile("movdqu %0, %%xmm0\n\tmovdqu %1, %%xmm1\n\t" insn		\
	" %%xmm1, %%xmm0\n\tmovdqu %%xmm0, %0" : "+m"(*(d)) : "m"(*(s)) : "xmm0", "xmm1")

#define BINARY(code, name)								\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	sse_begin(e);									\
	EXECUTE(#name, sse_reg(e, op), sse_rm(e, op));					\
}											\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm buffer;								\
	const union xmm *s;								\
											\
	sse_begin(e);									\
	s = sse_source(e, op, &buffer);							\
	EXECUTE(#name, sse_reg(e, op), s);						\
}

PACKED_INTEGER_OPS(BINARY)
BINARY(60, punpcklbw)
BINARY(61, punpcklwd)
BINARY(62, punpckldq)
BINARY(6C, punpcklqdq)
BINARY(6D, punpckhqdq)

#define SHIFT(code, extension, name)							\
static void										\
i_##name(struct engine *e, const struct op *op)						\
{											\
	const union xmm count = { .q = { op->imm & 0xff, 0 } };				\
											\
	sse_begin(e);									\
	EXECUTE(#name, sse_rm(e, op), &count);						\
}

PACKED_SHIFTS(SHIFT)

/* PSRLDQ, PSLLDQ: "if the count is greater than 15, the destination is set to all zeros". */
static void
psrldq(struct engine *e, const struct op *op)
{
	const uint32_t n = op->imm & 0xff;
	unsigned __int128 x;
	union xmm *d;

	sse_begin(e);
	d = sse_rm(e, op);
	__builtin_memcpy(&x, d, 16);
	x = n < 16 ? x >> 8 * n : 0;
	__builtin_memcpy(d, &x, 16);
}

static void
pslldq(struct engine *e, const struct op *op)
{
	const uint32_t n = op->imm & 0xff;
	unsigned __int128 x;
	union xmm *d;

	sse_begin(e);
	d = sse_rm(e, op);
	__builtin_memcpy(&x, d, 16);
	x = n < 16 ? x << 8 * n : 0;
	__builtin_memcpy(d, &x, 16);
}

/* ---- moves ------------------------------------------------------------------------------ */

static void
put_low(union xmm *d, uint64_t low)
{
	d->q[0] = low;
	d->q[1] = 0;
}

static void
movd_load_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	put_low(sse_reg(e, op), e->v->r[op->rm]);
}

static void
movd_load_m(struct engine *e, const struct op *op)
{
	sse_begin(e);
	put_low(sse_reg(e, op), ld32(e, op, operand_linear(e, op, operand_offset(e, op), 4, 0)));
}

static void
movd_store_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	e->v->r[op->rm] = sse_reg(e, op)->d[0];
}

static void
movd_store_m(struct engine *e, const struct op *op)
{
	sse_begin(e);
	st32(e, op, operand_linear(e, op, operand_offset(e, op), 4, PF_W), sse_reg(e, op)->d[0]);
}

/* 66 0F D6: the register form clears the upper half. */
static void
movq_store_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	put_low(sse_rm(e, op), sse_reg(e, op)->q[0]);
}

static void
movq_store_m(struct engine *e, const struct op *op)
{
	sse_begin(e);
	st64(e, op, operand_linear(e, op, operand_offset(e, op), 8, PF_W), sse_reg(e, op)->q[0]);
}

/* ---- elements selected by an immediate ------------------------------------------------------ */

static void
shuffle_dwords(union xmm *d, const union xmm *from, uint32_t order)
{
	const union xmm s = *from;

	for (uint32_t i = 0; i < 4; i++)
		d->d[i] = s.d[order >> 2 * i & 3];
}

static void
pshufd_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	shuffle_dwords(sse_reg(e, op), sse_rm(e, op), op->imm);
}

static void
pshufd_m(struct engine *e, const struct op *op)
{
	union xmm buffer;

	sse_begin(e);
	shuffle_dwords(sse_reg(e, op), sse_source(e, op, &buffer), op->imm);
}

static void
pinsrw_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_reg(e, op)->w[op->imm & 7] = (uint16_t)e->v->r[op->rm];
}

static void
pinsrw_m(struct engine *e, const struct op *op)
{
	uint32_t word;

	sse_begin(e);
	word = ld16(e, op, operand_linear(e, op, operand_offset(e, op), 2, 0));
	sse_reg(e, op)->w[op->imm & 7] = (uint16_t)word;
}

static void
pextrw(struct engine *e, const struct op *op)
{
	sse_begin(e);
	e->v->r[op->reg] = sse_rm(e, op)->w[op->imm & 7];
}

static void
pmovmskb(struct engine *e, const struct op *op)
{
	uint32_t mask;

	sse_begin(e);
	__asm__ volatile("movdqu %1, %%xmm0\n\tpmovmskb %%xmm0, %0" : "=r"(mask) : "m"(*sse_rm(e, op)) : "xmm0");
	e->v->r[op->reg] = mask;
}

static void
maskmovdqu(struct engine *e, const struct op *op)
{
	sse_begin(e);
	masked_store(e, op, sse_reg(e, op)->b, sse_rm(e, op)->b, 16);
}

/* ---- the map -------------------------------------------------------------------------------- */

#define PICK(name) (modrm_is_register(modrm) ? r_##name : m_##name)
#define ROW(code, name) case 0x##code: return PICK(name);
#define SHIFT_ROW(code, extension, name) case 0x##code << 3 | extension: return i_##name;

static slow_insn *
shift_lookup(uint32_t opcode, uint8_t modrm)
{
	if (!modrm_is_register(modrm))
		return NULL;
	switch (opcode << 3 | (modrm >> 3 & 7)) {
	PACKED_SHIFTS(SHIFT_ROW)
	case 0x73 << 3 | 3: return psrldq;
	case 0x73 << 3 | 7: return pslldq;
	default: return NULL;
	}
}

slow_insn *
sse_int_lookup(uint32_t opcode, uint8_t modrm)
{
	const bool reg = modrm_is_register(modrm);

	switch (opcode) {
	PACKED_INTEGER_OPS(ROW)
	ROW(60, punpcklbw)
	ROW(61, punpcklwd)
	ROW(62, punpckldq)
	ROW(6C, punpcklqdq)
	ROW(6D, punpckhqdq)
	case 0x6e: return reg ? movd_load_r : movd_load_m;
	case 0x70: return reg ? pshufd_r : pshufd_m;
	case 0x71:
	case 0x72:
	case 0x73: return shift_lookup(opcode, modrm);
	case 0x7e: return reg ? movd_store_r : movd_store_m;
	case 0xc4: return reg ? pinsrw_r : pinsrw_m;
	case 0xc5: return reg ? pextrw : NULL;
	case 0xd6: return reg ? movq_store_r : movq_store_m;
	case 0xd7: return reg ? pmovmskb : NULL;
	case 0xf7: return reg ? maskmovdqu : NULL;
	default: return NULL;
	}
}

#endif
