/*
 * alu.c -- ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NOT NEG: every size and operand form.
 *
 * Invariant: nothing is committed, flags included, before the last access that can fault.  A
 * read-modify-write checks the write first; the slow path computes into copies of the flags,
 * since it may leave between the read and the write and start again.
 *
 * Source: Intel SDM volume 2, the instructions' pages.
 */
#include "handlers.h"

/* A read-modify-write of memory at `lin` with CALC, an expression in a; the general form. */
#define RMW(S, lin, CALC)								\
	do {										\
		const uint32_t lin_ = (lin);						\
		e->cur = op;								\
		mem_check_write(e, lin_, S / 8);					\
		const uint32_t a = mem_read(e, lin_, S / 8);				\
		const uint32_t old_result = e->lf_result, old_aux = e->lf_aux;		\
		const uint32_t r_ = CALC;						\
		const uint32_t new_result = e->lf_result, new_aux = e->lf_aux;		\
		e->lf_result = old_result;						\
		e->lf_aux = old_aux;							\
		mem_write(e, lin_, S / 8, r_);						\
		e->lf_result = new_result;						\
		e->lf_aux = new_aux;							\
	} while (0)

/* The same for flat segments; what the micro TLB cannot do is the general handler's. */
#define RMW_FAST(S, CALC, general) RMW_AT(S, EA_f(S, PF_W), CALC, general)
#define RMW_AT(S, linear, CALC, general)						\
	do {										\
		void *p_ = tlb_write_ptr(e, linear, S / 8);				\
		if (unlikely(p_ == NULL))						\
			return general(v, op, e);					\
		const uint32_t a = host_ld##S(p_);					\
		host_st##S(p_, CALC);							\
	} while (0)

#define IMM8 (op->imm & 0xff)
#define IMM16 (op->imm & 0xffff)
#define IMM32 (op->imm)

/* Forms that write their destination. */
#define DEFINE_ALU(name, S)								\
static H(name##S##_rr)									\
{											\
	PUT##S(op->rm, op_##name##S(e, GET##S(op->rm), GET##S(op->reg)));		\
	NEXT;										\
}											\
static H(name##S##_ri)									\
{											\
	PUT##S(op->rm, op_##name##S(e, GET##S(op->rm), IMM##S));			\
	NEXT;										\
}											\
static H(name##S##_rmg);									\
static H(name##S##_rmf)									\
{											\
	LOAD_FAST(S, b, name##S##_rmg);							\
	PUT##S(op->reg, op_##name##S(e, GET##S(op->reg), b));				\
	NEXT;										\
}											\
static H(name##S##_rmb)									\
{											\
	LOAD_AT(S, b, EA_b(S, 0), name##S##_rmg);							\
	PUT##S(op->reg, op_##name##S(e, GET##S(op->reg), b));				\
	NEXT;										\
}											\
static H(name##S##_rmg)									\
{											\
	const uint32_t b = ld##S(e, op, EA_g(S, 0));					\
	PUT##S(op->reg, op_##name##S(e, GET##S(op->reg), b));				\
	NEXT;										\
}											\
static H(name##S##_mrg);									\
static H(name##S##_mrf)									\
{											\
	RMW_FAST(S, op_##name##S(e, a, GET##S(op->reg)), name##S##_mrg);		\
	NEXT;										\
}											\
static H(name##S##_mrb)									\
{											\
	RMW_AT(S, EA_b(S, PF_W), op_##name##S(e, a, GET##S(op->reg)), name##S##_mrg);		\
	NEXT;										\
}											\
static H(name##S##_mrg)									\
{											\
	RMW(S, EA_g(S, PF_W), op_##name##S(e, a, GET##S(op->reg)));			\
	NEXT;										\
}											\
static H(name##S##_mig);									\
static H(name##S##_mif)									\
{											\
	RMW_FAST(S, op_##name##S(e, a, IMM##S), name##S##_mig);				\
	NEXT;										\
}											\
static H(name##S##_mib)									\
{											\
	RMW_AT(S, EA_b(S, PF_W), op_##name##S(e, a, IMM##S), name##S##_mig);				\
	NEXT;										\
}											\
static H(name##S##_mig)									\
{											\
	RMW(S, EA_g(S, PF_W), op_##name##S(e, a, IMM##S));				\
	NEXT;										\
}

/* CMP and TEST: read only. */
#define DEFINE_COMPARE(name, S)								\
static H(name##S##_rr)									\
{											\
	op_##name##S(e, GET##S(op->rm), GET##S(op->reg));				\
	NEXT;										\
}											\
static H(name##S##_ri)									\
{											\
	op_##name##S(e, GET##S(op->rm), IMM##S);					\
	NEXT;										\
}											\
static H(name##S##_rmg);									\
static H(name##S##_rmf)									\
{											\
	LOAD_FAST(S, b, name##S##_rmg);							\
	op_##name##S(e, GET##S(op->reg), b);						\
	NEXT;										\
}											\
static H(name##S##_rmb)									\
{											\
	LOAD_AT(S, b, EA_b(S, 0), name##S##_rmg);							\
	op_##name##S(e, GET##S(op->reg), b);						\
	NEXT;										\
}											\
static H(name##S##_rmg)									\
{											\
	const uint32_t b = ld##S(e, op, EA_g(S, 0));					\
	op_##name##S(e, GET##S(op->reg), b);						\
	NEXT;										\
}											\
static H(name##S##_mrg);									\
static H(name##S##_mrf)									\
{											\
	LOAD_FAST(S, a, name##S##_mrg);							\
	op_##name##S(e, a, GET##S(op->reg));						\
	NEXT;										\
}											\
static H(name##S##_mrb)									\
{											\
	LOAD_AT(S, a, EA_b(S, 0), name##S##_mrg);							\
	op_##name##S(e, a, GET##S(op->reg));						\
	NEXT;										\
}											\
static H(name##S##_mrg)									\
{											\
	const uint32_t a = ld##S(e, op, EA_g(S, 0));					\
	op_##name##S(e, a, GET##S(op->reg));						\
	NEXT;										\
}											\
static H(name##S##_mig);									\
static H(name##S##_mif)									\
{											\
	LOAD_FAST(S, a, name##S##_mig);							\
	op_##name##S(e, a, IMM##S);							\
	NEXT;										\
}											\
static H(name##S##_mib)									\
{											\
	LOAD_AT(S, a, EA_b(S, 0), name##S##_mig);							\
	op_##name##S(e, a, IMM##S);							\
	NEXT;										\
}											\
static H(name##S##_mig)									\
{											\
	const uint32_t a = ld##S(e, op, EA_g(S, 0));					\
	op_##name##S(e, a, IMM##S);							\
	NEXT;										\
}

#define ALL_SIZES(DEFINE, name) DEFINE(name, 8) DEFINE(name, 16) DEFINE(name, 32)

ALL_SIZES(DEFINE_ALU, add)
ALL_SIZES(DEFINE_ALU, or)
ALL_SIZES(DEFINE_ALU, adc)
ALL_SIZES(DEFINE_ALU, sbb)
ALL_SIZES(DEFINE_ALU, and)
ALL_SIZES(DEFINE_ALU, sub)
ALL_SIZES(DEFINE_ALU, xor)
ALL_SIZES(DEFINE_COMPARE, cmp)
ALL_SIZES(DEFINE_COMPARE, test)

#define SIZES(name, form) { name##8_##form, name##16_##form, name##32_##form }
#define ALU_ROW(name) { SIZES(name, rr), SIZES(name, rmb), SIZES(name, rmf), SIZES(name, rmg), \
	SIZES(name, mrb), SIZES(name, mrf), SIZES(name, mrg), SIZES(name, ri), SIZES(name, mib), \
	SIZES(name, mif), SIZES(name, mig) }

handler *const alu_table[9][FORMS][3] = {
	ALU_ROW(add), ALU_ROW(or), ALU_ROW(adc), ALU_ROW(sbb), ALU_ROW(and), ALU_ROW(sub), ALU_ROW(xor),
	ALU_ROW(cmp), ALU_ROW(test)
};

/* The same when the decoder has seen that the flags are overwritten unread. */
#define DEFINE_DEAD(name, EXPR)								\
static H(name##_dead_rr)								\
{											\
	const uint32_t a = R32(op->rm), b = R32(op->reg);				\
	R32(op->rm) = (EXPR);								\
	NEXT;										\
}											\
static H(name##_dead_rmb)								\
{											\
	LOAD_AT(32, b, EA_b(32, 0), name##32_rmg);							\
	const uint32_t a = R32(op->reg);						\
	R32(op->reg) = (EXPR);								\
	NEXT;										\
}											\
static H(name##_dead_rmf)								\
{											\
	LOAD_FAST(32, b, name##32_rmg);							\
	const uint32_t a = R32(op->reg);						\
	R32(op->reg) = (EXPR);								\
	NEXT;										\
}											\
static H(name##_dead_ri)								\
{											\
	const uint32_t a = R32(op->rm), b = op->imm;					\
	R32(op->rm) = (EXPR);								\
	NEXT;										\
}

DEFINE_DEAD(add, a + b)
DEFINE_DEAD(or, a | b)
DEFINE_DEAD(and, a & b)
DEFINE_DEAD(sub, a - b)
DEFINE_DEAD(xor, a ^ b)

#define DEAD_ROW(name) { name##_dead_rr, name##_dead_rmb, name##_dead_rmf, name##_dead_ri }

handler *const alu_dead_table[9][4] = {
	DEAD_ROW(add), DEAD_ROW(or), { 0 }, { 0 }, DEAD_ROW(and), DEAD_ROW(sub), DEAD_ROW(xor), { 0 }, { 0 }
};

#define DEFINE_UNARY(name, S)								\
static H(name##S##_r)									\
{											\
	PUT##S(op->rm, op_##name##S(e, GET##S(op->rm)));				\
	NEXT;										\
}											\
static H(name##S##_mg);									\
static H(name##S##_mf)									\
{											\
	RMW_FAST(S, op_##name##S(e, a), name##S##_mg);					\
	NEXT;										\
}											\
static H(name##S##_mg)									\
{											\
	RMW(S, EA_g(S, PF_W), op_##name##S(e, a));					\
	NEXT;										\
}

ALL_SIZES(DEFINE_UNARY, inc)
ALL_SIZES(DEFINE_UNARY, dec)
ALL_SIZES(DEFINE_UNARY, not)
ALL_SIZES(DEFINE_UNARY, neg)

#define UNARY_ROW(name) { SIZES(name, r), SIZES(name, mf), SIZES(name, mg) }

handler *const unary_table[4][UNARY_FORMS][3] = {
	UNARY_ROW(inc), UNARY_ROW(dec), UNARY_ROW(not), UNARY_ROW(neg)
};

static H(inc_dead)
{
	R32(op->rm)++;
	NEXT;
}

static H(dec_dead)
{
	R32(op->rm)--;
	NEXT;
}

static H(neg_dead)
{
	R32(op->rm) = 0 - R32(op->rm);
	NEXT;
}

handler *const unary_dead_table[4] = { inc_dead, dec_dead, NULL, neg_dead };
