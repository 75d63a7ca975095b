/*
 * sse_int.c -- packed integers in XMM registers: the SSE2 forms, prefix 66, of MMX's operations.
 *
 * None of these looks at MXCSR or raises a SIMD exception.  The registers lie in v->fx; each
 * operation is one asm statement that loads, executes and stores, for the compiler may use XMM
 * registers for its own copies in between.
 *
 * Source: Intel SDM volume 1, 11.4.2; volume 2, A.3.
 */
#include "sse_core.h"

#if defined(__x86_64__)

#define PACKED(code, name) CORE_PS(name) PLAIN(name, source16)

PACKED_INTEGER_OPS(PACKED)

/* PXOR or XORPS of a register with itself: as on silicon, it depends on nothing that went before. */
H(h_xmm_zero)
{
	SSE_FAST;
	__asm__ volatile("pxor %%xmm0, %%xmm0\n\tmovups %%xmm0, %0" : "=m"(*FAST_REG) : : "xmm0");
	NEXT;
}
PACKED(60, punpcklbw)
PACKED(61, punpcklwd)
PACKED(62, punpckldq)
PACKED(6C, punpcklqdq)
PACKED(6D, punpckhqdq)

/* On one register, r/m: x_name(d, op). */
#define IN_PLACE(name)									\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	sse_begin(e);									\
	x_##name(sse_rm(e, op), op);							\
}											\
static H(hr_##name)									\
{											\
	SSE_FAST;									\
	x_##name(FAST_RM, op);						\
	NEXT;										\
}

#define SHIFT(code, extension, name)							\
static inline void									\
x_##name##_imm(union xmm *d, const struct op *op)					\
{											\
	__asm__ volatile("movd %1, %%xmm1\n\tmovups %0, %%xmm0\n\t" #name " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0"	\
	    : "+m"(*d) : "m"(op->imm) : "xmm0", "xmm1");				\
}											\
IN_PLACE(name##_imm)

PACKED_SHIFTS(SHIFT)

/* PSRLDQ, PSLLDQ: "if the count is greater than 15, the destination is set to all zeros". */
static inline void
shift_bytes(union xmm *d, uint32_t n, bool left)
{
	unsigned __int128 x;
	union xmm result;

	__builtin_memcpy(&x, d, 16);
	x = n > 15 ? 0 : left ? x << 8 * n : x >> 8 * n;
	__builtin_memcpy(&result, &x, 16);
	xmm_put(d, (dwords){ result.d[0], result.d[1], result.d[2], result.d[3] });
}

static inline void
x_psrldq(union xmm *d, const struct op *op)
{
	shift_bytes(d, op->imm & 0xff, false);
}

static inline void
x_pslldq(union xmm *d, const struct op *op)
{
	shift_bytes(d, op->imm & 0xff, true);
}

IN_PLACE(psrldq)
IN_PLACE(pslldq)

/* ---- moves ------------------------------------------------------------------------------ */

CORE_LOAD(movd_load, "movd", d)
INSTRUCTION_FROM(movd_load, source4, GENERAL(e->v, op->rm), GENERAL(v, op->rm), x_movd_load(sse_reg(e, op), s),
    x_movd_load(FAST_REG, s))

static inline void
x_movd_store(union xmm *to, const union xmm *s)
{
	to->d[0] = s->d[0];
}

static void
r_movd_store(struct engine *e, const struct op *op)
{
	sse_begin(e);
	x_movd_store(GENERAL(e->v, op->rm), sse_reg(e, op));
}

static H(hr_movd_store)
{
	SSE_FAST;
	x_movd_store(GENERAL(v, op->rm), FAST_REG);
	NEXT;
}

TO_MEMORY(movd_store, 4, fast_dest4, false)

/* 66 0F D6: the register form clears the upper half. */
CORE_LOAD(movq_copy, "movq", q)

static void
r_movq_store(struct engine *e, const struct op *op)
{
	sse_begin(e);
	x_movq_copy(sse_rm(e, op), sse_reg(e, op));
}

static H(hr_movq_store)
{
	SSE_FAST;
	x_movq_copy(FAST_RM, FAST_REG);
	NEXT;
}

static inline void
x_movq_store(union xmm *to, const union xmm *s)
{
	to->q[0] = s->q[0];
}

TO_MEMORY(movq_store, 8, fast_dest8, false)

/* ---- elements selected by an immediate ------------------------------------------------------ */

static inline void
x_pshufd(union xmm *d, const union xmm *s, uint32_t order)
{
	xmm_put(d, (dwords){ s->d[order & 3], s->d[order >> 2 & 3], s->d[order >> 4 & 3], s->d[order >> 6 & 3] });
}

INSTRUCTION(pshufd, source16, x_pshufd(sse_reg(e, op), s, op->imm), x_pshufd(FAST_REG, s, op->imm))

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

static inline uint32_t
byte_signs(const union xmm *s)
{
	uint32_t mask;

	__asm__ volatile("movdqu %1, %%xmm0\n\tpmovmskb %%xmm0, %0" : "=r"(mask) : "m"(*s) : "xmm0");
	return mask;
}

static void
pmovmskb(struct engine *e, const struct op *op)
{
	sse_begin(e);
	e->v->r[op->reg] = byte_signs(sse_rm(e, op));
}

static H(h_pmovmskb)
{
	SSE_FAST;
	PUT32(op->reg, byte_signs(FAST_RM));
	NEXT;
}

static void
maskmovdqu(struct engine *e, const struct op *op)
{
	sse_begin(e);
	masked_store(e, op, sse_reg(e, op)->b, sse_rm(e, op)->b, 16);
}

/* ---- the map -------------------------------------------------------------------------------- */

#define ROW(code, name) case 0x##code: return PICK(name);
#define SHIFT_ROW(code, extension, name) case 0x##code << 3 | extension: return REGISTER(name##_imm);

static struct forms
shift_lookup(uint32_t opcode, uint8_t modrm)
{
	if (!modrm_is_register(modrm))
		return UNDEFINED;
	switch (opcode << 3 | (modrm >> 3 & 7)) {
	PACKED_SHIFTS(SHIFT_ROW)
	case 0x73 << 3 | 3: return REGISTER(psrldq);
	case 0x73 << 3 | 7: return REGISTER(pslldq);
	default: return UNDEFINED;
	}
}

struct forms
sse_int_lookup(uint32_t opcode, uint8_t modrm)
{
	const bool reg = modrm_is_register(modrm);

	if (opcode == 0xef && modrm_is_same(modrm))
		return REG_FORM(r_pxor, h_xmm_zero);
	switch (opcode) {
	PACKED_INTEGER_OPS(ROW)
	ROW(60, punpcklbw)
	ROW(61, punpcklwd)
	ROW(62, punpckldq)
	ROW(6C, punpcklqdq)
	ROW(6D, punpckhqdq)
	case 0x6e: return PICK(movd_load);
	case 0x70: return PICK(pshufd);
	case 0x71:
	case 0x72:
	case 0x73: return shift_lookup(opcode, modrm);
	case 0x7e: return PICK(movd_store);
	case 0xc4: return SLOW_FORM(reg ? pinsrw_r : pinsrw_m);
	case 0xc5: return reg ? SLOW_FORM(pextrw) : UNDEFINED;
	case 0xd6: return PICK(movq_store);
	case 0xd7: return reg ? REG_FORM(pmovmskb, h_pmovmskb) : UNDEFINED;
	case 0xf7: return reg ? SLOW_FORM(maskmovdqu) : UNDEFINED;
	default: return UNDEFINED;
	}
}

#endif
