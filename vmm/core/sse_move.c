/*
 * sse_move.c -- SSE and SSE2 moves, shuffles and logic of floating-point registers, moves between
 * MMX and XMM registers, non-temporal stores, MXCSR and the fences.
 *
 * Bits are copied: none of these raises a SIMD exception.  Only MOVUPS, MOVUPD, MOVDQU and the
 * operands of less than 16 bytes may be misaligned.
 *
 * Source: Intel SDM volume 1, 10.4 and 11.4; volume 2, A.3.
 */
#include "sse_core.h"

#if defined(__x86_64__)

static inline void
x_mov128(union xmm *d, const union xmm *s)
{
	*d = *s;
}

/* The low 4 or 8 bytes, to memory. */
static inline void
x_store4(union xmm *to, const union xmm *s)
{
	to->d[0] = s->d[0];
}

static inline void
x_store8(union xmm *to, const union xmm *s)
{
	to->q[0] = s->q[0];
}

static inline void
x_movhp_store(union xmm *to, const union xmm *s)
{
	to->q[0] = s->q[1];
}

#define x_mova x_mov128
#define x_movu x_mov128
PLAIN(mova, source16)
PLAIN(movu, source16u)

#define x_mova_store x_mov128
#define x_movu_store x_mov128
TO_MEMORY(mova_store, 16, fast_dest16, true)
TO_MEMORY(movu_store, 16, fast_dest16u, false)
TO_MEMORY(store4, 4, fast_dest4, false)
TO_MEMORY(store8, 8, fast_dest8, false)	/* MOVSD, MOVLPS, MOVLPD */
TO_MEMORY(movhp_store, 8, fast_dest8, false)

/* MOVSS, MOVSD between registers keep the rest; from memory they clear it. */
#define CORE_MERGE(name, insn)								\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\t" insn		\
	    " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" : "+m"(*d) : "m"(*s) : "xmm0", "xmm1");	\
}

CORE_MERGE(movss, "movss") CORE_MERGE(movsd, "movsd") CORE_MERGE(movhlps, "movhlps") CORE_MERGE(movlhps, "movlhps")
CORE_LOAD(movss_load, "movss", d)
CORE_LOAD(movq_load, "movq", q)		/* MOVSD from memory, and MOVQ */
CORE_LOW(movlp_load, "movlps", q)
CORE_LOW(movhp_load, "movhps", q)

/* To the register that ModRM.reg or, for the store forms of the opcode, r/m names. */
#define BETWEEN(name)									\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	sse_begin(e);									\
	x_##name(sse_reg(e, op), sse_rm(e, op));					\
}											\
static H(hr_##name)									\
{											\
	SSE_FAST;									\
	x_##name(FAST_REG, FAST_RM);				\
	NEXT;										\
}
#define BACK(name)									\
static void										\
r_##name##_back(struct engine *e, const struct op *op)					\
{											\
	sse_begin(e);									\
	x_##name(sse_rm(e, op), sse_reg(e, op));					\
}											\
static H(hr_##name##_back)								\
{											\
	SSE_FAST;									\
	x_##name(FAST_RM, FAST_REG);				\
	NEXT;										\
}
#define LOADED(name, source)								\
	FROM_MEMORY(name, source, x_##name(sse_reg(e, op), s), x_##name(FAST_REG, s))

BETWEEN(movss) BETWEEN(movsd) BETWEEN(movhlps) BETWEEN(movlhps) BETWEEN(movq_load)
BACK(mov128) BACK(movss) BACK(movsd)
LOADED(movss_load, source4) LOADED(movq_load, source8) LOADED(movlp_load, source8) LOADED(movhp_load, source8)

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

#define LOGIC(name) CORE_PS(name) PLAIN(name, source16)

LOGIC(andps) LOGIC(andnps) LOGIC(orps) LOGIC(xorps)
LOGIC(unpcklps) LOGIC(unpckhps) LOGIC(unpcklpd) LOGIC(unpckhpd)

/* ---- pairs: an element loaded and copied to all places ------------------------------------------ */

#define SPLAT(name, load, copy, lane, source)						\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile(load " %1, %%xmm0\n\t" copy " %%xmm0, %%xmm0\n\tmovups %%xmm0, %0"	\
	    : "=m"(*d) : "m"(s->lane[0]) : "xmm0");				\
}											\
static H(hb_##name)									\
{											\
	const union xmm *s = fast_##source(EA_b(64, 0));				\
											\
	SPLAT_FROM(name);								\
}											\
static H(hf_##name)									\
{											\
	const union xmm *s = fast_##source(EA_f(64, 0));				\
											\
	SPLAT_FROM(name);								\
}
#define SPLAT_FROM(name)								\
	if (unlikely(s == NULL))						\
		return h_slow(v, op, e);						\
	x_##name(FAST_REG, s);								\
	NEXT_BUT_ONE

/* ---- elements selected by an immediate -------------------------------------------------------- */

static inline void
x_shufps(union xmm *d, const union xmm *s, uint32_t order)
{
	xmm_put(d, (dwords){ d->d[order & 3], d->d[order >> 2 & 3], s->d[order >> 4 & 3], s->d[order >> 6 & 3] });
}

static inline void
x_shufpd(union xmm *d, const union xmm *s, uint32_t order)
{
	__asm__ volatile("movq %1, %%xmm0\n\tmovhps %2, %%xmm0\n\tmovups %%xmm0, %0"
	    : "+m"(*d) : "m"(d->q[order & 1]), "m"(s->q[order >> 1 & 1]) : "xmm0");
}

/* PSHUFLW and PSHUFHW shuffle four words and copy the others. */
static inline uint64_t
shuffle_words(uint64_t s, uint32_t order)
{
	uint64_t d = 0;

	for (uint32_t i = 0; i < 4; i++)
		d |= (s >> 16 * (order >> 2 * i & 3) & 0xffff) << 16 * i;
	return d;
}

static inline void
x_pshuflw(union xmm *d, const union xmm *s, uint32_t order)
{
	const uint64_t q = shuffle_words(s->q[0], order);

	xmm_put(d, (dwords){ (uint32_t)q, (uint32_t)(q >> 32), s->d[2], s->d[3] });
}

static inline void
x_pshufhw(union xmm *d, const union xmm *s, uint32_t order)
{
	const uint64_t q = shuffle_words(s->q[1], order);

	xmm_put(d, (dwords){ s->d[0], s->d[1], (uint32_t)q, (uint32_t)(q >> 32) });
}

#define SHUFFLE(name)									\
	INSTRUCTION(name, source16, x_##name(sse_reg(e, op), s, op->imm), x_##name(FAST_REG, s, op->imm))

SHUFFLE(shufps) SHUFFLE(shufpd) SHUFFLE(pshuflw) SHUFFLE(pshufhw)

SPLAT(movsd_unpcklpd, "movsd", "unpcklpd", q, source8)
SPLAT(movss_shufps, "movss", "shufps $0,", d, source4)

handler *
sse_move_pair(const struct op *first, const struct op *second)
{
	const bool based = first->index == R_ZERO;

	if (second->xmm_reg != first->xmm_reg || second->xmm_rm != first->xmm_reg)
		return NULL;
	if (first->fn == (based ? hb_movq_load : hf_movq_load) && second->fn == hr_unpcklpd)
		return based ? hb_movsd_unpcklpd : hf_movsd_unpcklpd;
	if (first->fn == (based ? hb_movss_load : hf_movss_load) && second->fn == hr_shufps && second->imm == 0)
		return based ? hb_movss_shufps : hf_movss_shufps;
	return NULL;
}

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

static struct forms
group_15(uint32_t prefix, uint8_t modrm)
{
	const bool reg = modrm_is_register(modrm);

	if (prefix != 0)
		return UNDEFINED;
	switch (modrm >> 3 & 7) {
	case 0: return reg ? UNDEFINED : SLOW_FORM(fx_save);
	case 1: return reg ? UNDEFINED : SLOW_FORM(fx_restore);
	case 2: return reg ? UNDEFINED : SLOW_FORM(ldmxcsr);
	case 3: return reg ? UNDEFINED : SLOW_FORM(stmxcsr);
	case 5: return reg ? SLOW_FORM(fence) : UNDEFINED;
	case 6: return reg ? SLOW_FORM(fence) : UNDEFINED;
	case 7: return SLOW_FORM(reg ? fence : clflush);
	default: return UNDEFINED;
	}
}

/* Forms without a prefix and with 66: PS and PD. */
static struct forms
packed(uint32_t opcode, bool pd, uint8_t modrm)
{
	const bool reg = modrm_is_register(modrm);

	switch (opcode) {
	case 0x10: return PICK(movu);
	case 0x11: return reg ? REGISTER(mov128_back) : MEMORY(movu_store);
	case 0x12: return reg ? (pd ? UNDEFINED : REGISTER(movhlps)) : MEMORY(movlp_load);
	case 0x13: return reg ? UNDEFINED : MEMORY(store8);
	case 0x14: return pd ? (PICK(unpcklpd)) : PICK(unpcklps);
	case 0x15: return pd ? (PICK(unpckhpd)) : PICK(unpckhps);
	case 0x16: return reg ? (pd ? UNDEFINED : REGISTER(movlhps)) : MEMORY(movhp_load);
	case 0x17: return reg ? UNDEFINED : MEMORY(movhp_store);
	case 0x28: return PICK(mova);
	case 0x29: return reg ? REGISTER(mov128_back) : MEMORY(mova_store);
	case 0x2b: return reg ? UNDEFINED : MEMORY(mova_store);
	case 0x50: return !reg ? UNDEFINED : SLOW_FORM(pd ? movmskpd : movmskps);
	case 0x54: return PICK(andps);
	case 0x55: return PICK(andnps);
	case 0x56: return PICK(orps);
	case 0x57: return modrm_is_same(modrm) ? REG_FORM(r_xorps, h_xmm_zero) : PICK(xorps);
	case 0xc6: return pd ? (PICK(shufpd)) : PICK(shufps);
	/* The rest exist with 66 only; without it they are MMX's. */
	case 0x6f: return pd ? PICK(mova) : UNDEFINED;
	case 0x7f: return !pd ? UNDEFINED : reg ? REGISTER(mov128_back) : MEMORY(mova_store);
	case 0xe7: return !pd || reg ? UNDEFINED : MEMORY(mova_store);
	case 0xc3: return pd || reg ? UNDEFINED : SLOW_FORM(movnti);
	default: return UNDEFINED;
	}
}

struct forms
sse_move_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm)
{
	const bool reg = modrm_is_register(modrm);

	if (opcode == 0xae)
		return group_15(prefix, modrm);
	if (prefix == 0 || prefix == 0x66)
		return packed(opcode, prefix == 0x66, modrm);
	switch (prefix << 8 | opcode) {
	case 0xf310: return reg ? REGISTER(movss) : MEMORY(movss_load);
	case 0xf311: return reg ? REGISTER(movss_back) : MEMORY(store4);
	case 0xf210: return reg ? REGISTER(movsd) : MEMORY(movq_load);
	case 0xf211: return reg ? REGISTER(movsd_back) : MEMORY(store8);
	case 0xf36f: return PICK(movu);
	case 0xf37f: return reg ? REGISTER(mov128_back) : MEMORY(movu_store);
	case 0xf37e: return PICK(movq_load);
	case 0xf3d6: return reg ? SLOW_FORM(movq2dq) : UNDEFINED;
	case 0xf2d6: return reg ? SLOW_FORM(movdq2q) : UNDEFINED;
	case 0xf370: return PICK(pshufhw);
	case 0xf270: return PICK(pshuflw);
	default: return UNDEFINED;
	}
}

#endif
