/*
 * fused.c -- an instruction that sets flags and the Jcc behind it, as one op.
 *
 * Only in flat 32-bit code, where the Jcc cannot fault.  The flags are stored for whoever reads
 * them next; a comparison's condition comes straight from its operands.  disp addresses the memory
 * operand, cc_imm is the immediate, imm the branch's target; offset and length span both
 * instructions, and the first is the one that may fault.
 */
#include "chain.h"

#define SIGNED8(x) ((int8_t)(x))
#define SIGNED32(x) ((int32_t)(x))
#define CMP_O(S, a, b) CC_O(e)
#define CMP_NO(S, a, b) CC_NO(e)
#define CMP_B(S, a, b) ((a) < (b))
#define CMP_NB(S, a, b) ((a) >= (b))
#define CMP_Z(S, a, b) ((a) == (b))
#define CMP_NZ(S, a, b) ((a) != (b))
#define CMP_BE(S, a, b) ((a) <= (b))
#define CMP_NBE(S, a, b) ((a) > (b))
#define CMP_S(S, a, b) (SIGNED##S((a) - (b)) < 0)
#define CMP_NS(S, a, b) (SIGNED##S((a) - (b)) >= 0)
#define CMP_P(S, a, b) CC_P(e)
#define CMP_NP(S, a, b) CC_NP(e)
#define CMP_L(S, a, b) (SIGNED##S(a) < SIGNED##S(b))
#define CMP_NL(S, a, b) (SIGNED##S(a) >= SIGNED##S(b))
#define CMP_LE(S, a, b) (SIGNED##S(a) <= SIGNED##S(b))
#define CMP_NLE(S, a, b) (SIGNED##S(a) > SIGNED##S(b))

#define BRANCH(taken) return (taken) ? take(v, op, e, op->imm, 0) : take(v, op, e, AFTER, 1)
#define IMMEDIATE8 (op->cc_imm & 0xff)
#define IMMEDIATE32 (op->cc_imm)

/* CMP of two values that cannot fault. */
#define COMPARE(kind, S, A, B, cc)							\
static H(kind##_j##cc)									\
{											\
	const uint32_t a = (A), b = (B);						\
	op_sub##S(e, a, b);								\
	BRANCH(CMP_##cc(S, a, b));							\
}

/* x is the memory operand. */
#define COMPARE_MEMORY(kind, S, A, B, cc)						\
static NOINLINE H(kind##_j##cc##_slow)							\
{											\
	e->cur = op;									\
	const uint32_t x = mem_read(e, op_linear(e, op, S / 8, 0), S / 8), a = (A), b = (B);	\
	op_sub##S(e, a, b);								\
	BRANCH(CMP_##cc(S, a, b));							\
}											\
static H(kind##_j##cc)									\
{											\
	LOAD_FAST(S, x, kind##_j##cc##_slow);						\
	const uint32_t a = (A), b = (B);						\
	op_sub##S(e, a, b);								\
	BRANCH(CMP_##cc(S, a, b));							\
}

/* An operation on registers whose condition comes from its flags. */
#define OPERATE(kind, STATEMENT, cc)							\
static H(kind##_j##cc)									\
{											\
	STATEMENT;									\
	BRANCH(CC_##cc(e));								\
}

#define TEST_MEMORY(kind, S, B, cc)							\
static NOINLINE H(kind##_j##cc##_slow)							\
{											\
	e->cur = op;									\
	op_logic##S(e, mem_read(e, op_linear(e, op, S / 8, 0), S / 8) & (B));		\
	BRANCH(CC_##cc(e));								\
}											\
static H(kind##_j##cc)									\
{											\
	LOAD_FAST(S, x, kind##_j##cc##_slow);						\
	op_logic##S(e, x & (B));							\
	BRANCH(CC_##cc(e));								\
}

#define UPDATE(name, B) R32(op->rm) = op_##name##32(e, R32(op->rm), (B))

#define DEFINE_FUSED(cc)								\
	COMPARE(cmp32_rr, 32, R32(op->rm), R32(op->reg), cc)				\
	COMPARE(cmp32_ri, 32, R32(op->rm), IMMEDIATE32, cc)				\
	COMPARE(cmp8_rr, 8, R8(op->rm), R8(op->reg), cc)				\
	COMPARE(cmp8_ri, 8, R8(op->rm), IMMEDIATE8, cc)					\
	COMPARE_MEMORY(cmp32_rm, 32, R32(op->reg), x, cc)				\
	COMPARE_MEMORY(cmp32_mr, 32, x, R32(op->reg), cc)				\
	COMPARE_MEMORY(cmp32_mi, 32, x, IMMEDIATE32, cc)				\
	COMPARE_MEMORY(cmp8_rm, 8, R8(op->reg), x, cc)					\
	COMPARE_MEMORY(cmp8_mr, 8, x, R8(op->reg), cc)					\
	COMPARE_MEMORY(cmp8_mi, 8, x, IMMEDIATE8, cc)					\
	OPERATE(test32_rr, op_logic32(e, R32(op->rm) & R32(op->reg)), cc)		\
	OPERATE(test32_ri, op_logic32(e, R32(op->rm) & IMMEDIATE32), cc)		\
	OPERATE(test8_rr, op_logic8(e, R8(op->rm) & R8(op->reg)), cc)			\
	OPERATE(test8_ri, op_logic8(e, R8(op->rm) & IMMEDIATE8), cc)			\
	TEST_MEMORY(test8_mi, 8, IMMEDIATE8, cc)					\
	OPERATE(add32_ri, UPDATE(add, IMMEDIATE32), cc)					\
	OPERATE(sub32_ri, UPDATE(sub, IMMEDIATE32), cc)					\
	OPERATE(and32_ri, UPDATE(and, IMMEDIATE32), cc)					\
	OPERATE(add32_rr, UPDATE(add, R32(op->reg)), cc)				\
	OPERATE(sub32_rr, UPDATE(sub, R32(op->reg)), cc)				\
	OPERATE(and32_rr, UPDATE(and, R32(op->reg)), cc)				\
	OPERATE(or32_rr, UPDATE(or, R32(op->reg)), cc)					\
	OPERATE(inc32, R32(op->rm) = op_inc32(e, R32(op->rm)), cc)			\
	OPERATE(dec32, R32(op->rm) = op_dec32(e, R32(op->rm)), cc)

FOR_EACH_CC(DEFINE_FUSED)

#define FUSED_ROW(cc) {									\
	[FUSE_CMP32_RR] = cmp32_rr_j##cc, [FUSE_CMP32_RI] = cmp32_ri_j##cc,		\
	[FUSE_CMP8_RR] = cmp8_rr_j##cc, [FUSE_CMP8_RI] = cmp8_ri_j##cc,			\
	[FUSE_CMP32_RM] = cmp32_rm_j##cc, [FUSE_CMP32_MR] = cmp32_mr_j##cc,		\
	[FUSE_CMP32_MI] = cmp32_mi_j##cc, [FUSE_CMP8_RM] = cmp8_rm_j##cc,		\
	[FUSE_CMP8_MR] = cmp8_mr_j##cc, [FUSE_CMP8_MI] = cmp8_mi_j##cc,			\
	[FUSE_TEST32_RR] = test32_rr_j##cc, [FUSE_TEST32_RI] = test32_ri_j##cc,		\
	[FUSE_TEST8_RR] = test8_rr_j##cc, [FUSE_TEST8_RI] = test8_ri_j##cc,		\
	[FUSE_TEST8_MI] = test8_mi_j##cc,						\
	[FUSE_ADD_RI] = add32_ri_j##cc, [FUSE_SUB_RI] = sub32_ri_j##cc, [FUSE_AND_RI] = and32_ri_j##cc,	\
	[FUSE_ADD_RR] = add32_rr_j##cc, [FUSE_SUB_RR] = sub32_rr_j##cc, [FUSE_AND_RR] = and32_rr_j##cc,	\
	[FUSE_OR_RR] = or32_rr_j##cc, [FUSE_INC] = inc32_j##cc, [FUSE_DEC] = dec32_j##cc,	\
},

handler *const fused_table[16][FUSE_KINDS] = { FOR_EACH_CC(FUSED_ROW) };
