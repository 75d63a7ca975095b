/*
 * muldiv.c -- multiply, divide, and decimal adjustment.
 *
 * MUL and IMUL: CF and OF say whether the high half matters; SF, ZF and PF are undefined and
 * follow the low half; AF is 0.  DIV and IDIV leave the flags alone, as P6 does.
 * Source: Intel SDM volume 2.
 */
#include "handlers.h"
#include "insns.h"
#include "operand.h"

/* Operand size of F6/F7: imm2 holds it in bytes. */
static inline uint32_t
group3_size(const struct op *op)
{
	return op->imm2;
}

static void
product_flags(struct engine *e, uint32_t low, uint32_t size, bool overflow)
{
	e->lf_result = extend_sign(low, size);
	e->lf_aux = lf_cf_of(overflow, overflow);
}

void
i_mul(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = group3_size(op), b = rm_get(e, op, size);
	const uint64_t p = (uint64_t)reg_get(v, EAX, size) * b;

	if (size == 1) {
		reg_put(v, EAX, 2, (uint32_t)p);
		product_flags(e, (uint32_t)p & 0xff, 1, p >> 8 != 0);
	} else {
		const uint32_t high = (uint32_t)(p >> (size * 8));

		reg_put(v, EAX, size, (uint32_t)p);
		reg_put(v, EDX, size, high);
		product_flags(e, (uint32_t)p, size, size == 2 ? (high & 0xffff) != 0 : high != 0);
	}
}

void
i_imul(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = group3_size(op);
	const int64_t a = (int32_t)extend_sign(reg_get(v, EAX, size), size);
	const int64_t b = (int32_t)extend_sign(rm_get(e, op, size), size);
	const int64_t p = a * b;
	const bool overflow = p != (int32_t)extend_sign((uint32_t)p, size);

	if (size == 1) {
		reg_put(v, EAX, 2, (uint32_t)p);
	} else {
		reg_put(v, EAX, size, (uint32_t)p);
		reg_put(v, EDX, size, (uint32_t)((uint64_t)p >> (size * 8)));
	}
	product_flags(e, (uint32_t)p, size, overflow);
}

void
i_div(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = group3_size(op), b = rm_get(e, op, size);
	uint64_t a;

	if (size == 1)
		a = reg_get(v, EAX, 2);
	else
		a = (uint64_t)reg_get(v, EDX, size) << (size * 8) | reg_get(v, EAX, size);
	if (b == 0 || a / b >> (size * 8))
		raise_noerr(e, V_DE);
	const uint32_t q = (uint32_t)(a / b), r = (uint32_t)(a % b);

	if (size == 1) {
		reg_put(v, EAX, 2, r << 8 | q);
	} else {
		reg_put(v, EAX, size, q);
		reg_put(v, EDX, size, r);
	}
}

void
i_idiv(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = group3_size(op);
	const int64_t b = (int32_t)extend_sign(rm_get(e, op, size), size);
	int64_t a;

	if (size == 1)
		a = (int16_t)reg_get(v, EAX, 2);
	else if (size == 2)
		a = (int32_t)(reg_get(v, EDX, 2) << 16 | reg_get(v, EAX, 2));
	else
		a = (int64_t)((uint64_t)v->r[EDX] << 32 | v->r[EAX]);
	/* The most negative dividend by -1 overflows every quotient, and the host's too. */
	if (b == 0 || (b == -1 && a == INT64_MIN))
		raise_noerr(e, V_DE);
	const int64_t q = a / b, r = a % b;

	if (q != (int32_t)extend_sign((uint32_t)q, size))
		raise_noerr(e, V_DE);
	if (size == 1) {
		reg_put(v, EAX, 2, ((uint32_t)r & 0xff) << 8 | ((uint32_t)q & 0xff));
	} else {
		reg_put(v, EAX, size, (uint32_t)q);
		reg_put(v, EDX, size, (uint32_t)r);
	}
}

static void
imul_to_reg(struct engine *e, const struct op *op, uint32_t a, uint32_t b)
{
	const uint32_t size = op_bytes(op);
	const int64_t p = (int64_t)(int32_t)extend_sign(a, size) * (int32_t)extend_sign(b, size);

	reg_put(e->v, op->reg, size, (uint32_t)p);
	product_flags(e, (uint32_t)p, size, p != (int32_t)extend_sign((uint32_t)p, size));
}

void
i_imul_rm(struct engine *e, const struct op *op)
{
	const uint32_t b = rm_get(e, op, op_bytes(op));

	imul_to_reg(e, op, reg_get(e->v, op->reg, op_bytes(op)), b);
}

void
i_imul_rmi(struct engine *e, const struct op *op)
{
	imul_to_reg(e, op, rm_get(e, op, op_bytes(op)), op->imm);
}

/* The 32-bit forms that compilers emit. */
static inline uint32_t
imul32(struct engine *e, uint32_t a, uint32_t b)
{
	const int64_t p = (int64_t)(int32_t)a * (int32_t)b;
	const bool overflow = p != (int32_t)p;

	e->lf_result = (uint32_t)p;
	e->lf_aux = lf_cf_of(overflow, overflow);
	return (uint32_t)p;
}

H(h_imul32_rr)
{
	R32(op->reg) = imul32(e, R32(op->reg), R32(op->rm));
	NEXT;
}

static NOINLINE H(imul_slow)
{
	e->cur = op;
	i_imul_rm(e, op);
	NEXT;
}

H(h_imul32_rmf)
{
	LOAD_FAST(32, b, imul_slow);

	R32(op->reg) = imul32(e, R32(op->reg), b);
	NEXT;
}

H(h_imul32_rri)
{
	R32(op->reg) = imul32(e, R32(op->rm), op->imm);
	NEXT;
}

H(h_imul32_dead_rr)
{
	R32(op->reg) *= R32(op->rm);
	NEXT;
}

H(h_imul32_dead_rri)
{
	R32(op->reg) = R32(op->rm) * op->imm;
	NEXT;
}

/* ---- decimal ------------------------------------------------------------------------ */

static void
adjusted(struct engine *e, uint32_t al, uint32_t cf, uint32_t af)
{
	e->lf_result = SX8(al);
	e->lf_aux = lf_cf_of(cf, 0) | (af ? LF_AF : 0);
}

void
i_daa(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t old = reg_get(v, EAX, 1), old_cf = lf_cf(e), af = (old & 0xf) > 9 || lf_af(e);
	const uint32_t cf = old > 0x99 || old_cf;
	uint32_t al = old;

	(void)op;
	if (af)
		al += 6;
	if (cf)
		al += 0x60;
	reg_put(v, EAX, 1, al);
	adjusted(e, al, cf, af);
}

void
i_das(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t old = reg_get(v, EAX, 1), old_cf = lf_cf(e), af = (old & 0xf) > 9 || lf_af(e);
	uint32_t al = old, cf = 0;

	(void)op;
	if (af) {
		cf = old_cf || old < 6;
		al -= 6;
	}
	if (old > 0x99 || old_cf) {
		al -= 0x60;
		cf = 1;
	}
	reg_put(v, EAX, 1, al);
	adjusted(e, al, cf, af);
}

static void
ascii_adjust(struct engine *e, bool subtract)
{
	struct vcpu *v = e->v;
	const uint32_t ax = reg_get(v, EAX, 2), adjust = (ax & 0xf) > 9 || lf_af(e);
	uint32_t r = ax;

	if (adjust)
		r = subtract ? ax - 0x106 : ax + 0x106;
	reg_put(v, EAX, 2, r & 0xff0f);
	adjusted(e, r & 0xf, adjust, adjust);
}

void
i_aaa(struct engine *e, const struct op *op)
{
	(void)op;
	ascii_adjust(e, false);
}

void
i_aas(struct engine *e, const struct op *op)
{
	(void)op;
	ascii_adjust(e, true);
}

void
i_aam(struct engine *e, const struct op *op)
{
	const uint32_t al = reg_get(e->v, EAX, 1), base = op->imm & 0xff;

	if (base == 0)
		raise_noerr(e, V_DE);
	reg_put(e->v, EAX, 2, al / base << 8 | al % base);
	adjusted(e, al % base, 0, 0);
}

void
i_aad(struct engine *e, const struct op *op)
{
	const uint32_t ax = reg_get(e->v, EAX, 2), al = ((ax & 0xff) + (ax >> 8) * (op->imm & 0xff)) & 0xff;

	reg_put(e->v, EAX, 2, al);
	adjusted(e, al, 0, 0);
}
