/*
 * shift.c -- rotates and shifts, double shifts, bit tests and bit scans.
 *
 * A count is taken modulo 32; a count of 0 changes nothing, flags included.  Undefined flags
 * are what silicon was seen to give: AF = 0, OF of a longer shift as for the last one-bit step.
 *
 * Source: Intel SDM volume 2; 8- and 16-bit rotates through carry take the count modulo 9 and 17.
 */
#include "handlers.h"
#include "insns.h"
#include "operand.h"

enum shift_op { ROL, ROR, RCL, RCR, SHL, SHR, SAL, SAR };

struct shifted {
	uint32_t value;
	uint32_t cf, of;
	bool arithmetic;	/* SF, ZF, PF follow the value */
};

static inline uint32_t
mask_of(uint32_t bits)
{
	return bits == 32 ? 0xffffffffu : (1u << bits) - 1;
}

/* One shift or rotate by 1..31.  `a` is zero-extended from `bits`. */
static inline struct shifted
shift(enum shift_op what, uint32_t a, uint32_t count, uint32_t bits, uint32_t cf)
{
	const uint32_t mask = mask_of(bits), top = bits - 1;
	struct shifted s = { a, cf, 0, false };
	uint64_t wide;
	uint32_t n;

	switch (what) {
	case ROL:
		n = count % bits;
		s.value = n ? ((a << n) | (a >> (bits - n))) & mask : a;
		s.cf = s.value & 1;
		s.of = (s.value >> top & 1) ^ s.cf;
		break;
	case ROR:
		n = count % bits;
		s.value = n ? ((a >> n) | (a << (bits - n))) & mask : a;
		s.cf = s.value >> top & 1;
		s.of = (s.value >> top ^ s.value >> (top - 1)) & 1;
		break;
	case RCL:
		n = count % (bits + 1);
		wide = (uint64_t)cf << bits | a;
		if (n)
			wide = wide << n | wide >> (bits + 1 - n);
		s.value = (uint32_t)wide & mask;
		s.cf = (uint32_t)(wide >> bits) & 1;
		s.of = (s.value >> top & 1) ^ s.cf;
		break;
	case RCR:
		n = count % (bits + 1);
		wide = (uint64_t)cf << bits | a;
		if (n)
			wide = wide >> n | wide << (bits + 1 - n);
		s.value = (uint32_t)wide & mask;
		s.cf = (uint32_t)(wide >> bits) & 1;
		s.of = (s.value >> top ^ s.value >> (top - 1)) & 1;
		break;
	case SHL:
	case SAL:
		wide = (uint64_t)a << count;
		s.value = (uint32_t)wide & mask;
		s.cf = (uint32_t)(wide >> bits) & 1;
		s.of = (s.value >> top & 1) ^ s.cf;
		s.arithmetic = true;
		break;
	case SHR:
		s.value = a >> count;
		s.cf = a >> (count - 1) & 1;
		s.of = (s.value >> (top - 1) ^ s.value >> top) & 1;
		s.arithmetic = true;
		break;
	case SAR: {
		const int32_t x = (int32_t)(a << (32 - bits)) >> (32 - bits);

		s.value = (uint32_t)(x >> count) & mask;
		s.cf = (uint32_t)(x >> (count - 1)) & 1;
		s.arithmetic = true;
		break;
	}
	}
	return s;
}

static inline uint32_t
sign_extend(uint32_t x, uint32_t bits)
{
	return (uint32_t)((int32_t)(x << (32 - bits)) >> (32 - bits));
}

static inline void
shift_flags(struct engine *e, const struct shifted *s, uint32_t bits)
{
	if (s->arithmetic) {
		e->lf_result = sign_extend(s->value, bits);
		e->lf_aux = lf_cf_of(s->cf, s->of);
	} else {
		e->lf_aux = (e->lf_aux & ~(LF_CARRY | LF_CARRY2)) | lf_cf_of(s->cf, s->of);
	}
}

#define COUNT_i (op->imm & 31)
#define COUNT_c (v->r[ECX] & 31)

#define DEFINE_SHIFT(WHAT, S, K)							\
static H(WHAT##S##_##K##_r)								\
{											\
	const uint32_t count = COUNT_##K;						\
	if (likely(count)) {								\
		const struct shifted s = shift(WHAT, GET##S(op->rm), count, S, lf_cf(e));	\
		PUT##S(op->rm, s.value);						\
		shift_flags(e, &s, S);							\
	}										\
	NEXT;										\
}											\
static NOINLINE void									\
WHAT##S##_##K##_at(struct vcpu *v, const struct op *op, struct engine *e, uint32_t linear)	\
{											\
	const uint32_t count = COUNT_##K;						\
	(void)v;									\
	e->cur = op;									\
	mem_check_write(e, linear, S / 8);	/* silicon asks for a writable operand though the count be 0 */	\
	if (!count)									\
		return;									\
	const struct shifted s = shift(WHAT, mem_read(e, linear, S / 8), count, S, lf_cf(e));	\
	mem_write(e, linear, S / 8, s.value);						\
	shift_flags(e, &s, S);								\
}											\
static H(WHAT##S##_##K##_mg);								\
static H(WHAT##S##_##K##_mf)								\
{											\
	const uint32_t count = COUNT_##K;						\
	void *p = tlb_write_ptr(e, EA_f(S, PF_W), S / 8);				\
	if (unlikely(p == NULL))							\
		return WHAT##S##_##K##_mg(v, op, e);					\
	if (count) {									\
		const struct shifted s = shift(WHAT, host_ld##S(p), count, S, lf_cf(e));	\
		host_st##S(p, s.value);							\
		shift_flags(e, &s, S);							\
	}										\
	NEXT;										\
}											\
static H(WHAT##S##_##K##_mg)								\
{											\
	WHAT##S##_##K##_at(v, op, e, EA_g(S, PF_W));			\
	NEXT;										\
}

#define DEFINE_SHIFTS(WHAT)								\
	DEFINE_SHIFT(WHAT, 8, i) DEFINE_SHIFT(WHAT, 16, i) DEFINE_SHIFT(WHAT, 32, i)	\
	DEFINE_SHIFT(WHAT, 8, c) DEFINE_SHIFT(WHAT, 16, c) DEFINE_SHIFT(WHAT, 32, c)

DEFINE_SHIFTS(ROL)
DEFINE_SHIFTS(ROR)
DEFINE_SHIFTS(RCL)
DEFINE_SHIFTS(RCR)
DEFINE_SHIFTS(SHL)
DEFINE_SHIFTS(SHR)
DEFINE_SHIFTS(SAR)

#define SHIFT_SIZES(WHAT, K, form) { WHAT##8_##K##_##form, WHAT##16_##K##_##form, WHAT##32_##K##_##form }
#define SHIFT_FORMS(WHAT, K) { SHIFT_SIZES(WHAT, K, r), SHIFT_SIZES(WHAT, K, mf), SHIFT_SIZES(WHAT, K, mg) }
#define SHIFT_ROW(WHAT) { SHIFT_FORMS(WHAT, i), SHIFT_FORMS(WHAT, c) }

handler *const shift_table[8][2][3][3] = {
	SHIFT_ROW(ROL), SHIFT_ROW(ROR), SHIFT_ROW(RCL), SHIFT_ROW(RCR), SHIFT_ROW(SHL), SHIFT_ROW(SHR),
	SHIFT_ROW(SHL), SHIFT_ROW(SAR)
};

/* 32-bit registers by an immediate other than 0, when the decoder has seen that the flags are overwritten unread. */
#define DEFINE_SHIFT_DEAD(WHAT)								\
static H(WHAT##_dead)									\
{											\
	R32(op->rm) = shift(WHAT, R32(op->rm), op->imm & 31, 32, 0).value;		\
	NEXT;										\
}

DEFINE_SHIFT_DEAD(ROL)
DEFINE_SHIFT_DEAD(ROR)
DEFINE_SHIFT_DEAD(SHL)
DEFINE_SHIFT_DEAD(SHR)
DEFINE_SHIFT_DEAD(SAR)

handler *const shift_dead_table[8] = { ROL_dead, ROR_dead, NULL, NULL, SHL_dead, SHR_dead, SHL_dead, SAR_dead };

/* ---- SHLD, SHRD ------------------------------------------------------------------- */

/* A 16-bit count above 16 rotates the operands in again: what silicon does. */
static void
double_shift(struct engine *e, const struct op *op, uint32_t count, bool left)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), bits = size * 8;
	uint32_t linear = 0, a, r, cf;
	uint64_t wide;

	count &= 31;
	if (op->flags & OP_MEM) {
		linear = op_linear(e, op, size, PF_W);
		mem_check_write(e, linear, size);
		a = mem_read(e, linear, size);
	} else {
		a = reg_get(v, op->rm, size);
	}
	if (count == 0)
		return;
	const uint32_t b = reg_get(v, op->reg, size);

	if (bits == 16) {
		if (left) {
			wide = (uint64_t)a << 32 | (uint64_t)b << 16 | a;	/* a:b:a */
			wide <<= count;
			r = (uint32_t)(wide >> 32) & 0xffff;
			cf = (uint32_t)(wide >> 48) & 1;
		} else {
			wide = (uint64_t)a << 32 | (uint64_t)b << 16 | a;
			r = (uint32_t)(wide >> count) & 0xffff;
			cf = (uint32_t)(wide >> (count - 1)) & 1;
		}
	} else if (left) {
		wide = (uint64_t)a << 32 | b;
		cf = a >> (32 - count) & 1;
		r = (uint32_t)(wide << count >> 32);
	} else {
		wide = (uint64_t)b << 32 | a;
		cf = a >> (count - 1) & 1;
		r = (uint32_t)(wide >> count);
	}
	if (op->flags & OP_MEM)
		mem_write(e, linear, size, r);
	else
		reg_put(v, op->rm, size, r);

	/* OF: the sign changed in the last one-bit step. */
	const uint32_t top = bits - 1;
	const uint32_t of = left ? (r >> top & 1) ^ cf : (r >> top ^ r >> (top - 1)) & 1;

	e->lf_result = sign_extend(r, bits);
	e->lf_aux = lf_cf_of(cf, of);
}

void
i_shld(struct engine *e, const struct op *op)
{
	double_shift(e, op, op->imm, true);
}

void
i_shrd(struct engine *e, const struct op *op)
{
	double_shift(e, op, op->imm, false);
}

void
i_shld_cl(struct engine *e, const struct op *op)
{
	double_shift(e, op, e->v->r[ECX], true);
}

void
i_shrd_cl(struct engine *e, const struct op *op)
{
	double_shift(e, op, e->v->r[ECX], false);
}

/* ---- BT, BTS, BTR, BTC --------------------------------------------------------------- */

static uint32_t
bit_change(uint32_t what, uint32_t a, uint32_t bit)
{
	switch (what) {
	case 1:
		return a | 1u << bit;
	case 2:
		return a & ~(1u << bit);
	case 3:
		return a ^ 1u << bit;
	default:
		return a;
	}
}

/* op->imm2: 0 BT, 1 BTS, 2 BTR, 3 BTC.  A register index addresses a bit string: it is signed and
 * moves the address by whole operands.  LOCKed or not, the memory form writes atomically. */
static void
bit_test(struct engine *e, const struct op *op, uint32_t index, bool is_string)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), bits = size * 8, bit = index & (bits - 1), what = op->imm2;

	if (!(op->flags & OP_MEM)) {
		const uint32_t a = reg_get(v, op->rm, size);

		reg_put(v, op->rm, size, bit_change(what, a, bit));
		lf_put_cf(e, a >> bit & 1);
		return;
	}
	uint32_t offset = op_ea(e, op);

	if (is_string) {
		const int32_t signed_index = size == 2 ? (int16_t)index : (int32_t)index;

		offset += (uint32_t)(signed_index >> (size == 2 ? 4 : 5)) * size;
		if (op->flags & OP_ADDR16)
			offset &= 0xffff;
	}
	const uint32_t linear = seg_linear(e, op->seg, offset, size, what ? PF_W : 0);
	uint32_t a;

	if (what == 0) {
		a = mem_read(e, linear, size);
	} else if (op->flags & OP_LOCK) {
		a = atomic_update(e, linear, size, bit_change, what, bit);
	} else {
		mem_check_write(e, linear, size);
		a = mem_read(e, linear, size);
		mem_write(e, linear, size, bit_change(what, a, bit));
	}
	lf_put_cf(e, a >> bit & 1);
}

void
i_bt_reg(struct engine *e, const struct op *op)
{
	bit_test(e, op, reg_get(e->v, op->reg, op_bytes(op)), true);
}

void
i_bt_imm(struct engine *e, const struct op *op)
{
	bit_test(e, op, op->imm, false);
}

/* ---- BSF, BSR ------------------------------------------------------------------------- */

/* A zero source leaves the destination as it was and sets ZF; the other flags are undefined. */
static void
bit_scan(struct engine *e, const struct op *op, bool reverse)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op);
	const uint32_t a = op->flags & OP_MEM ? mem_read(e, op_linear(e, op, size, 0), size) :
	    reg_get(v, op->rm, size);

	if (a)
		reg_put(v, op->reg, size, reverse ? 31 - (uint32_t)__builtin_clz(a) : (uint32_t)__builtin_ctz(a));
	e->lf_result = sign_extend(a, size * 8);
	e->lf_aux = 0;
}

void
i_bsf(struct engine *e, const struct op *op)
{
	bit_scan(e, op, false);
}

void
i_bsr(struct engine *e, const struct op *op)
{
	bit_scan(e, op, true);
}

/* The operand size for a zero source.  CF and ZF are defined; the rest is what AMD's processors make of it. */
void
i_tzcnt(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op);
	const uint32_t a = op->flags & OP_MEM ? mem_read(e, op_linear(e, op, size, 0), size) :
	    reg_get(v, op->rm, size);
	const uint32_t count = a ? (uint32_t)__builtin_ctz(a) : size * 8;

	reg_put(v, op->reg, size, count);
	lf_put(e, lf_of(e) << 11 | (a ? 0 : FL_CF) | (count ? 0 : FL_ZF));
}
