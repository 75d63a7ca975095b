/*
 * sse_move.c -- SSE and SSE2 moves, shuffles and logic of floating-point registers, moves between
 * MMX and XMM registers, non-temporal stores, MXCSR and the fences.
 *
 * Bits are copied: none of these raises a SIMD exception.  Only MOVUPS, MOVUPD, MOVDQU and the
 * operands of less than 16 bytes may be misaligned.
 *
 * Source: Intel SDM volume 1, 10.4 and 11.4; volume 2, A.3.
 */
#include "fpu.h"

#if defined(__x86_64__)

/* ---- 16 bytes ----------------------------------------------------------------------------- */

static void
mov128_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	*sse_reg(e, op) = *sse_rm(e, op);
}

static void
mov128_store_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	*sse_rm(e, op) = *sse_reg(e, op);
}

static void
mova_load(struct engine *e, const struct op *op)
{
	union xmm buffer;

	sse_begin(e);
	*sse_reg(e, op) = *(const union xmm *)sse_source(e, op, &buffer);
}

static void
mova_store(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_store(e, op, sse_reg(e, op));
}

static void
movu_load(struct engine *e, const struct op *op)
{
	sse_begin(e);
	ld128(e, op, operand_linear(e, op, operand_offset(e, op), 16, 0), sse_reg(e, op));
}

static void
movu_store(struct engine *e, const struct op *op)
{
	sse_begin(e);
	st128(e, op, operand_linear(e, op, operand_offset(e, op), 16, PF_W), sse_reg(e, op));
}

/* ---- 4 and 8 bytes -------------------------------------------------------------------------- */

static uint64_t
source64(struct engine *e, const struct op *op)
{
	return ld64(e, op, operand_linear(e, op, operand_offset(e, op), 8, 0));
}

static void
store64(struct engine *e, const struct op *op, uint64_t value)
{
	st64(e, op, operand_linear(e, op, operand_offset(e, op), 8, PF_W), value);
}

/* MOVSS, MOVSD between registers keep the rest; from memory they clear it. */
static void
movss_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_reg(e, op)->d[0] = sse_rm(e, op)->d[0];
}

static void
movss_load(struct engine *e, const struct op *op)
{
	uint32_t x;

	sse_begin(e);
	x = ld32(e, op, operand_linear(e, op, operand_offset(e, op), 4, 0));
	sse_reg(e, op)->q[0] = x;
	sse_reg(e, op)->q[1] = 0;
}

static void
movss_store_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_rm(e, op)->d[0] = sse_reg(e, op)->d[0];
}

static void
movss_store(struct engine *e, const struct op *op)
{
	sse_begin(e);
	st32(e, op, operand_linear(e, op, operand_offset(e, op), 4, PF_W), sse_reg(e, op)->d[0]);
}

static void
movsd_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_reg(e, op)->q[0] = sse_rm(e, op)->q[0];
}

/* Also MOVQ xmm, m64. */
static void
movsd_load(struct engine *e, const struct op *op)
{
	uint64_t x;

	sse_begin(e);
	x = source64(e, op);
	sse_reg(e, op)->q[0] = x;
	sse_reg(e, op)->q[1] = 0;
}

static void
movsd_store_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_rm(e, op)->q[0] = sse_reg(e, op)->q[0];
}

/* MOVSD, MOVLPS, MOVLPD to memory. */
static void
movlp_store(struct engine *e, const struct op *op)
{
	sse_begin(e);
	store64(e, op, sse_reg(e, op)->q[0]);
}

static void
movhp_store(struct engine *e, const struct op *op)
{
	sse_begin(e);
	store64(e, op, sse_reg(e, op)->q[1]);
}

static void
movlp_load(struct engine *e, const struct op *op)
{
	uint64_t x;

	sse_begin(e);
	x = source64(e, op);
	sse_reg(e, op)->q[0] = x;
}

static void
movhp_load(struct engine *e, const struct op *op)
{
	uint64_t x;

	sse_begin(e);
	x = source64(e, op);
	sse_reg(e, op)->q[1] = x;
}

static void
movhlps(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_reg(e, op)->q[0] = sse_rm(e, op)->q[1];
}

static void
movlhps(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_reg(e, op)->q[1] = sse_rm(e, op)->q[0];
}

/* MOVQ xmm, xmm. */
static void
movq_r(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_reg(e, op)->q[0] = sse_rm(e, op)->q[0];
	sse_reg(e, op)->q[1] = 0;
}

/* ---- between MMX and XMM ------------------------------------------------------------------- */

static void
movq2dq(struct engine *e, const struct op *op)
{
	sse_begin(e);
	mmx_begin(e);
	mmx_commit(e);
	sse_reg(e, op)->q[0] = mmx_peek(e, op->rm);
	sse_reg(e, op)->q[1] = 0;
}

static void
movdq2q(struct engine *e, const struct op *op)
{
	sse_begin(e);
	mmx_begin(e);
	mmx_commit(e);
	mmx_put(e, op->reg, sse_rm(e, op)->q[0]);
}

/* ---- logic and interleaving ------------------------------------------------------------------ */

#define EXECUTE(insn, d, s) __asm__ volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\t" insn		\
	" %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" : "+m"(*(d)) : "m"(*(s)) : "xmm0", "xmm1")

#define BINARY(name)									\
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

BINARY(andps) BINARY(andnps) BINARY(orps) BINARY(xorps)
BINARY(unpcklps) BINARY(unpckhps) BINARY(unpcklpd) BINARY(unpckhpd)

/* ---- elements selected by an immediate -------------------------------------------------------- */

static void
shufps(union xmm *d, const union xmm *s, uint32_t order)
{
	const union xmm a = *d, b = *s;

	d->d[0] = a.d[order & 3];
	d->d[1] = a.d[order >> 2 & 3];
	d->d[2] = b.d[order >> 4 & 3];
	d->d[3] = b.d[order >> 6 & 3];
}

static void
shufpd(union xmm *d, const union xmm *s, uint32_t order)
{
	const union xmm a = *d, b = *s;

	d->q[0] = a.q[order & 1];
	d->q[1] = b.q[order >> 1 & 1];
}

/* PSHUFLW and PSHUFHW shuffle four words and copy the others. */
static void
shuffle_words(union xmm *d, const union xmm *from, uint32_t order, uint32_t first)
{
	const union xmm s = *from;

	*d = s;
	for (uint32_t i = 0; i < 4; i++)
		d->w[first + i] = s.w[first + (order >> 2 * i & 3)];
}

static void
pshuflw(union xmm *d, const union xmm *s, uint32_t order)
{
	shuffle_words(d, s, order, 0);
}

static void
pshufhw(union xmm *d, const union xmm *s, uint32_t order)
{
	shuffle_words(d, s, order, 4);
}

#define SHUFFLE(name)									\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	sse_begin(e);									\
	name(sse_reg(e, op), sse_rm(e, op), op->imm);					\
}											\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm buffer;								\
											\
	sse_begin(e);									\
	name(sse_reg(e, op), sse_source(e, op, &buffer), op->imm);			\
}

SHUFFLE(shufps) SHUFFLE(shufpd) SHUFFLE(pshuflw) SHUFFLE(pshufhw)

static void
movmskps(struct engine *e, const struct op *op)
{
	const union xmm *s = sse_rm(e, op);

	sse_begin(e);
	e->v->r[op->reg] = s->d[0] >> 31 | s->d[1] >> 31 << 1 | s->d[2] >> 31 << 2 | s->d[3] >> 31 << 3;
}

static void
movmskpd(struct engine *e, const struct op *op)
{
	const union xmm *s = sse_rm(e, op);

	sse_begin(e);
	e->v->r[op->reg] = s->d[1] >> 31 | s->d[3] >> 31 << 1;
}

/* ---- MXCSR, fences, caches ---------------------------------------------------------------------- */

/* "General-protection exception if an attempt is made to set any reserved bit." */
static void
ldmxcsr(struct engine *e, const struct op *op)
{
	uint32_t value;

	sse_begin(e);
	value = ld32(e, op, operand_linear(e, op, operand_offset(e, op), 4, 0));
	if (value & ~(uint32_t)MXCSR_VALID)
		raise_gp0(e);
	sse_load_mxcsr(e, value);
}

static void
stmxcsr(struct engine *e, const struct op *op)
{
	sse_begin(e);
	sse_fold(e);
	st32(e, op, operand_linear(e, op, operand_offset(e, op), 4, PF_W), fx_of(e)->mxcsr);
}

/* LFENCE, MFENCE, SFENCE depend on no control bit. */
static void
fence(struct engine *e, const struct op *op)
{
	(void)e;
	(void)op;
	__asm__ volatile("mfence" : : : "memory");
}

/* "Subject to the permission checking and faults of a byte load." */
static void
clflush(struct engine *e, const struct op *op)
{
	mem_check_read(e, operand_linear(e, op, operand_offset(e, op), 1, 0), 1);
}

/* A store of a general register: no floating-point state, so no check of it. */
static void
movnti(struct engine *e, const struct op *op)
{
	st32(e, op, operand_linear(e, op, operand_offset(e, op), 4, PF_W), e->v->r[op->reg]);
}

/* ---- the map -------------------------------------------------------------------------------------- */

static slow_insn *
group_15(uint32_t prefix, uint8_t modrm)
{
	const bool reg = modrm_is_register(modrm);

	if (prefix != 0)
		return NULL;
	switch (modrm >> 3 & 7) {
	case 0: return reg ? NULL : fx_save;
	case 1: return reg ? NULL : fx_restore;
	case 2: return reg ? NULL : ldmxcsr;
	case 3: return reg ? NULL : stmxcsr;
	case 5: return reg ? fence : NULL;
	case 6: return reg ? fence : NULL;
	case 7: return reg ? fence : clflush;
	default: return NULL;
	}
}

/* Forms without a prefix and with 66: PS and PD. */
static slow_insn *
packed(uint32_t opcode, bool pd, bool reg)
{
	switch (opcode) {
	case 0x10: return reg ? mov128_r : movu_load;
	case 0x11: return reg ? mov128_store_r : movu_store;
	case 0x12: return reg ? (pd ? NULL : movhlps) : movlp_load;
	case 0x13: return reg ? NULL : movlp_store;
	case 0x14: return pd ? (reg ? r_unpcklpd : m_unpcklpd) : reg ? r_unpcklps : m_unpcklps;
	case 0x15: return pd ? (reg ? r_unpckhpd : m_unpckhpd) : reg ? r_unpckhps : m_unpckhps;
	case 0x16: return reg ? (pd ? NULL : movlhps) : movhp_load;
	case 0x17: return reg ? NULL : movhp_store;
	case 0x28: return reg ? mov128_r : mova_load;
	case 0x29: return reg ? mov128_store_r : mova_store;
	case 0x2b: return reg ? NULL : mova_store;
	case 0x50: return !reg ? NULL : pd ? movmskpd : movmskps;
	case 0x54: return reg ? r_andps : m_andps;
	case 0x55: return reg ? r_andnps : m_andnps;
	case 0x56: return reg ? r_orps : m_orps;
	case 0x57: return reg ? r_xorps : m_xorps;
	case 0xc6: return pd ? (reg ? r_shufpd : m_shufpd) : reg ? r_shufps : m_shufps;
	/* The rest exist with 66 only; without it they are MMX's. */
	case 0x6f: return !pd ? NULL : reg ? mov128_r : mova_load;
	case 0x7f: return !pd ? NULL : reg ? mov128_store_r : mova_store;
	case 0xe7: return !pd || reg ? NULL : mova_store;
	case 0xc3: return pd || reg ? NULL : movnti;
	default: return NULL;
	}
}

slow_insn *
sse_move_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm)
{
	const bool reg = modrm_is_register(modrm);

	if (opcode == 0xae)
		return group_15(prefix, modrm);
	if (prefix == 0 || prefix == 0x66)
		return packed(opcode, prefix == 0x66, reg);
	switch (prefix << 8 | opcode) {
	case 0xf310: return reg ? movss_r : movss_load;
	case 0xf311: return reg ? movss_store_r : movss_store;
	case 0xf210: return reg ? movsd_r : movsd_load;
	case 0xf211: return reg ? movsd_store_r : movlp_store;
	case 0xf36f: return reg ? mov128_r : movu_load;
	case 0xf37f: return reg ? mov128_store_r : movu_store;
	case 0xf37e: return reg ? movq_r : movsd_load;
	case 0xf3d6: return reg ? movq2dq : NULL;
	case 0xf2d6: return reg ? movdq2q : NULL;
	case 0xf370: return reg ? r_pshufhw : m_pshufhw;
	case 0xf270: return reg ? r_pshuflw : m_pshuflw;
	default: return NULL;
	}
}

#endif
