/*
 * flags.h -- the arithmetic flags, evaluated lazily.
 *
 * An instruction that sets flags stores two words: its result, sign-extended to 32 bits, and
 * the carries out of the bits that matter:
 *
 *	lf_aux bit 31	carry (borrow) out of the top bit: CF
 *	       bit 30	carry out of the bit below: OF = bit 31 ^ bit 30
 *	       bit 3	carry out of bit 3: AF
 *	       bits 8..15	exclusive-or'ed into the low byte before its parity: PF
 *	       bit 0	exclusive-or'ed into the sign: SF
 *
 * ZF, SF and PF come from the result.  The last two fields are 0 unless an image such as
 * POPF's sets flags that no single result could have given.
 */
#ifndef RF_FLAGS_H
#define RF_FLAGS_H

#include "engine.h"

#define LF_CARRY 0x80000000u
#define LF_CARRY2 0x40000000u
#define LF_AF 0x8u
#define LF_SIGN_DELTA 0x1u
#define LF_PARITY_DELTA_SHIFT 8
#define LF_KEEP (LF_CARRY | LF_CARRY2 | LF_AF)

static inline uint32_t
lf_cf(const struct engine *e)
{
	return e->lf_aux >> 31;
}

static inline uint32_t
lf_of(const struct engine *e)
{
	return (e->lf_aux ^ e->lf_aux << 1) >> 31;
}

static inline uint32_t
lf_zf(const struct engine *e)
{
	return e->lf_result == 0;
}

static inline uint32_t
lf_sf(const struct engine *e)
{
	return (e->lf_result >> 31 ^ e->lf_aux) & 1;
}

static inline uint32_t
lf_pf(const struct engine *e)
{
	return !__builtin_parity((e->lf_result ^ e->lf_aux >> LF_PARITY_DELTA_SHIFT) & 0xff);
}

static inline uint32_t
lf_af(const struct engine *e)
{
	return e->lf_aux >> 3 & 1;
}

/* The six arithmetic flags at their EFLAGS positions. */
static inline uint32_t
lf_get(const struct engine *e)
{
	return lf_cf(e) | lf_pf(e) << 2 | lf_af(e) << 4 | lf_zf(e) << 6 | lf_sf(e) << 7 | lf_of(e) << 11;
}

static inline void
lf_put(struct engine *e, uint32_t flags)
{
	const uint32_t result = flags & FL_ZF ? 0 : 0x100;
	const uint32_t cf = flags & 1;
	const uint32_t of = flags >> 11 & 1;

	e->lf_result = result;
	e->lf_aux = cf << 31 | (cf ^ of) << 30 | (flags & FL_AF ? LF_AF : 0) |
	    (flags & FL_PF ? 0 : 1u << LF_PARITY_DELTA_SHIFT) | (flags & FL_SF ? LF_SIGN_DELTA : 0);
}

static inline void
lf_put_cf(struct engine *e, uint32_t cf)
{
	e->lf_aux = (e->lf_aux & ~(LF_CARRY | LF_CARRY2)) | cf << 31 | (cf ^ lf_of(e)) << 30;
}

/* CF and OF of a shift, rotate or multiply; `aux` is what stays of the rest. */
static inline uint32_t
lf_cf_of(uint32_t cf, uint32_t of)
{
	return cf << 31 | (cf ^ of) << 30;
}

/* Sign-extended result of an operation of `size` bits held in the low bits of x. */
#define SX8(x) ((uint32_t)(int32_t)(int8_t)(x))
#define SX16(x) ((uint32_t)(int32_t)(int16_t)(x))
#define SX32(x) ((uint32_t)(x))

/* Carry vectors to lf_aux. */
#define AUX8(c) (((c) & LF_AF) | ((uint32_t)(c) << 24 & (LF_CARRY | LF_CARRY2)))
#define AUX16(c) (((c) & LF_AF) | ((uint32_t)(c) << 16 & (LF_CARRY | LF_CARRY2)))
#define AUX32(c) ((uint32_t)(c) & LF_KEEP)

#define CARRIES(a, b, r) (((a) & (b)) | (((a) | (b)) & ~(r)))
#define BORROWS(a, b, r) ((~(a) & (b)) | ((~(a) | (b)) & (r)))

#define DEFINE_FLAG_OPS(S)								\
static inline uint32_t									\
op_add##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	const uint32_t r = a + b, c = CARRIES(a, b, r);					\
	e->lf_result = SX##S(r);							\
	e->lf_aux = AUX##S(c);								\
	return r;									\
}											\
static inline uint32_t									\
op_adc##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	const uint32_t r = a + b + lf_cf(e), c = CARRIES(a, b, r);			\
	e->lf_result = SX##S(r);							\
	e->lf_aux = AUX##S(c);								\
	return r;									\
}											\
static inline uint32_t									\
op_sub##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	const uint32_t r = a - b, c = BORROWS(a, b, r);					\
	e->lf_result = SX##S(r);							\
	e->lf_aux = AUX##S(c);								\
	return r;									\
}											\
static inline uint32_t									\
op_sbb##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	const uint32_t r = a - b - lf_cf(e), c = BORROWS(a, b, r);			\
	e->lf_result = SX##S(r);							\
	e->lf_aux = AUX##S(c);								\
	return r;									\
}											\
static inline uint32_t									\
op_cmp##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	(void)op_sub##S(e, a, b);							\
	return a;									\
}											\
static inline uint32_t									\
op_logic##S(struct engine *e, uint32_t r)						\
{											\
	e->lf_result = SX##S(r);							\
	e->lf_aux = 0;									\
	return r;									\
}											\
static inline uint32_t									\
op_and##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	return op_logic##S(e, a & b);							\
}											\
static inline uint32_t									\
op_or##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	return op_logic##S(e, a | b);							\
}											\
static inline uint32_t									\
op_xor##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	return op_logic##S(e, a ^ b);							\
}											\
static inline uint32_t									\
op_test##S(struct engine *e, uint32_t a, uint32_t b)					\
{											\
	(void)op_logic##S(e, a & b);							\
	return a;									\
}											\
static inline uint32_t	/* CF is kept */						\
op_inc##S(struct engine *e, uint32_t a)							\
{											\
	const uint32_t r = a + 1, c = AUX##S(a & ~r), cf = lf_cf(e);			\
	e->lf_result = SX##S(r);							\
	e->lf_aux = (c & LF_AF) | lf_cf_of(cf, (c ^ c << 1) >> 31);			\
	return r;									\
}											\
static inline uint32_t									\
op_dec##S(struct engine *e, uint32_t a)							\
{											\
	const uint32_t r = a - 1, c = AUX##S(~a & r), cf = lf_cf(e);			\
	e->lf_result = SX##S(r);							\
	e->lf_aux = (c & LF_AF) | lf_cf_of(cf, (c ^ c << 1) >> 31);			\
	return r;									\
}											\
static inline uint32_t									\
op_neg##S(struct engine *e, uint32_t a)							\
{											\
	return op_sub##S(e, 0, a);							\
}											\
static inline uint32_t									\
op_not##S(struct engine *e, uint32_t a)							\
{											\
	(void)e;									\
	return ~a;									\
}

DEFINE_FLAG_OPS(8)
DEFINE_FLAG_OPS(16)
DEFINE_FLAG_OPS(32)

/* The condition of Jcc, SETcc and CMOVcc: the low four opcode bits. */
#define CC_O(e) lf_of(e)
#define CC_NO(e) (!lf_of(e))
#define CC_B(e) lf_cf(e)
#define CC_NB(e) (!lf_cf(e))
#define CC_Z(e) lf_zf(e)
#define CC_NZ(e) (!lf_zf(e))
#define CC_BE(e) (lf_cf(e) | lf_zf(e))
#define CC_NBE(e) (!(lf_cf(e) | lf_zf(e)))
#define CC_S(e) lf_sf(e)
#define CC_NS(e) (!lf_sf(e))
#define CC_P(e) lf_pf(e)
#define CC_NP(e) (!lf_pf(e))
#define CC_L(e) (lf_sf(e) ^ lf_of(e))
#define CC_NL(e) (!(lf_sf(e) ^ lf_of(e)))
#define CC_LE(e) (lf_zf(e) | (lf_sf(e) ^ lf_of(e)))
#define CC_NLE(e) (!(lf_zf(e) | (lf_sf(e) ^ lf_of(e))))

#define FOR_EACH_CC(X) \
	X(O) X(NO) X(B) X(NB) X(Z) X(NZ) X(BE) X(NBE) X(S) X(NS) X(P) X(NP) X(L) X(NL) X(LE) X(NLE)

#endif
