/*
 * atomic.c -- LOCKed arithmetic, CMPXCHG, CMPXCHG8B, XADD.
 *
 * The update of memory is one atomic operation of the host whether or not LOCK is there; only
 * then are flags and registers committed.  CMPXCHG always writes (the old value when unequal), so
 * a read-only destination faults either way.
 * Source: Intel SDM volume 2; volume 3A, 8.1.2.2.
 */
#include "handlers.h"
#include "insns.h"
#include "operand.h"

/* ---- atomic read-modify-write ---------------------------------------------------------------------------- */

/* Several vCPUs share guest memory: a LOCKed update is one compare-and-swap of the host. */
#define DEFINE_CAS(S, T)								\
typedef T unaligned##S __attribute__((aligned(1), may_alias));				\
static uint32_t										\
cas_loop##S(void *p, uint32_t (*change)(uint32_t, uint32_t, uint32_t), uint32_t what, uint32_t operand)	\
{											\
	unaligned##S *cell = p;								\
	T old = *cell;									\
	while (!__atomic_compare_exchange_n(cell, &old, (T)change(what, old, operand), false,		\
	    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))					\
		;									\
	return old;									\
}

DEFINE_CAS(8, uint8_t)
DEFINE_CAS(16, uint16_t)
DEFINE_CAS(32, uint32_t)

uint32_t
atomic_update(struct engine *e, uint32_t linear, uint32_t size,
    uint32_t (*change)(uint32_t what, uint32_t old, uint32_t operand), uint32_t what, uint32_t operand)
{
	void *p = mem_locked(e, linear, size);
	uint32_t old;

	if (p == NULL) {	/* MMIO, ROM, or split over two pages: not atomic, as on a bus without split locks */
		mem_check_write(e, linear, size);
		old = mem_read(e, linear, size);
		mem_write(e, linear, size, change(what, old, operand));
		return old;
	}
	if (size == 1)
		old = cas_loop8(p, change, what, operand);
	else if (size == 2)
		old = cas_loop16(p, change, what, operand);
	else
		old = cas_loop32(p, change, what, operand);
	mem_locked_done(e, linear, size);
	return old;
}

/* ---- instructions ---------------------------------------------------------------------------- */

enum { LOCKED_ADD, LOCKED_OR, LOCKED_ADC, LOCKED_SBB, LOCKED_AND, LOCKED_SUB, LOCKED_XOR, LOCKED_INC = 8, LOCKED_DEC, LOCKED_NOT, LOCKED_NEG };

/* The new value; `what` is the operation, with CF for ADC and SBB in bit 8. */
static uint32_t
alu_change(uint32_t what, uint32_t old, uint32_t operand)
{
	const uint32_t cf = what >> 8;

	switch (what & 0xff) {
	case LOCKED_ADD:
		return old + operand;
	case LOCKED_OR:
		return old | operand;
	case LOCKED_ADC:
		return old + operand + cf;
	case LOCKED_SBB:
		return old - operand - cf;
	case LOCKED_AND:
		return old & operand;
	case LOCKED_SUB:
		return old - operand;
	case LOCKED_XOR:
		return old ^ operand;
	case LOCKED_INC:
		return old + 1;
	case LOCKED_DEC:
		return old - 1;
	case LOCKED_NOT:
		return ~old;
	default:
		return 0 - old;
	}
}

/* The flags, from the value that was there. */
#define DEFINE_ALU_FLAGS(S)								\
static void										\
alu_flags##S(struct engine *e, uint32_t what, uint32_t old, uint32_t operand)		\
{											\
	switch (what) {									\
	case LOCKED_ADD:								\
		op_add##S(e, old, operand);						\
		break;									\
	case LOCKED_OR:									\
		op_or##S(e, old, operand);						\
		break;									\
	case LOCKED_ADC:								\
		op_adc##S(e, old, operand);						\
		break;									\
	case LOCKED_SBB:								\
		op_sbb##S(e, old, operand);						\
		break;									\
	case LOCKED_AND:								\
		op_and##S(e, old, operand);						\
		break;									\
	case LOCKED_SUB:								\
		op_sub##S(e, old, operand);						\
		break;									\
	case LOCKED_XOR:								\
		op_xor##S(e, old, operand);						\
		break;									\
	case LOCKED_INC:								\
		op_inc##S(e, old);							\
		break;									\
	case LOCKED_DEC:								\
		op_dec##S(e, old);							\
		break;									\
	case LOCKED_NEG:								\
		op_neg##S(e, old);							\
		break;									\
	default:									\
		break;									\
	}										\
}

DEFINE_ALU_FLAGS(8)
DEFINE_ALU_FLAGS(16)
DEFINE_ALU_FLAGS(32)

static void
locked(struct engine *e, const struct op *op, uint32_t what, uint32_t operand)
{
	const uint32_t size = 1u << (op->imm2 & 3), linear = op_linear(e, op, size, PF_W);
	const uint32_t old = atomic_update(e, linear, size, alu_change, what | lf_cf(e) << 8, operand);

	if (size == 1)
		alu_flags8(e, what, old, operand);
	else if (size == 2)
		alu_flags16(e, what, old, operand);
	else
		alu_flags32(e, what, old, operand);
}

/* LOCK op m, r or m, imm.  imm2: log2 of the size, | operation << 4, | 4 when the operand is a register. */
void
i_locked_alu(struct engine *e, const struct op *op)
{
	const uint32_t size = 1u << (op->imm2 & 3);
	uint32_t operand = op->imm2 & 4 ? reg_get(e->v, op->reg, size) : op->imm;

	if (size < 4)
		operand &= (1u << (8 * size)) - 1;
	locked(e, op, op->imm2 >> 4, operand);
}

/* LOCK INC, DEC, NOT, NEG: imm2 likewise, operations 8.. */
void
i_locked_unary(struct engine *e, const struct op *op)
{
	locked(e, op, op->imm2 >> 4, 0);
}

/* `what` is the accumulator, operand the replacement. */
static uint32_t
exchange_if_equal(uint32_t what, uint32_t old, uint32_t operand)
{
	return old == what ? operand : old;
}

/* imm2: the size in bytes. */
void
i_cmpxchg(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op->imm2, acc = reg_get(v, EAX, size), new = reg_get(v, op->reg, size);
	uint32_t old;

	if (op->flags & OP_MEM) {
		old = atomic_update(e, op_linear(e, op, size, PF_W), size, exchange_if_equal, acc, new);
	} else {
		old = reg_get(v, op->rm, size);
		if (old == acc)
			reg_put(v, op->rm, size, new);
	}
	compare_flags(e, size, acc, old);
	if (old != acc)
		reg_put(v, EAX, size, old);
}

static uint32_t
add_change(uint32_t what, uint32_t old, uint32_t operand)
{
	(void)what;
	return old + operand;
}

/* XADD r/m, r: imm2 is the size in bytes.  With both operands one register the sum stays. */
void
i_xadd(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op->imm2, b = reg_get(v, op->reg, size);
	uint32_t old;

	if (op->flags & OP_MEM) {
		old = atomic_update(e, op_linear(e, op, size, PF_W), size, add_change, 0, b);
		reg_put(v, op->reg, size, old);
	} else {
		old = reg_get(v, op->rm, size);
		reg_put(v, op->reg, size, old);
		reg_put(v, op->rm, size, old + b);
	}
	if (size == 1)
		op_add8(e, old, b);
	else if (size == 2)
		op_add16(e, old, b);
	else
		op_add32(e, old, b);
}

typedef uint64_t unaligned64 __attribute__((aligned(1), may_alias));

/* Only ZF changes. */
void
i_cmpxchg8b(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint64_t expected = (uint64_t)v->r[EDX] << 32 | v->r[EAX], new = (uint64_t)v->r[ECX] << 32 | v->r[EBX];
	const uint32_t linear = op_linear(e, op, 8, PF_W);
	unaligned64 *p = mem_locked(e, linear, 8);
	uint64_t old = expected;

	if (p) {
		if (!__atomic_compare_exchange_n(p, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			__atomic_fetch_or(p, 0, __ATOMIC_SEQ_CST);	/* the write that unequal operands make too */
		mem_locked_done(e, linear, 8);
	} else {
		mem_check_write(e, linear, 8);
		old = mem_read64(e, linear);
		mem_write64(e, linear, old == expected ? new : old);
	}
	if (old != expected) {
		v->r[EAX] = (uint32_t)old;
		v->r[EDX] = (uint32_t)(old >> 32);
	}
	lf_put(e, (lf_get(e) & ~(uint32_t)FL_ZF) | (old == expected ? FL_ZF : 0));
}
