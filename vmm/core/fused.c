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

/* How the pair ends: j the last of its block, s in the middle of it. */
#define END_j(taken) return (taken) ? take(v, op, e, op->imm, 0) : take(v, op, e, AFTER, 1)
#define END_s(taken)									\
	do {										\
		if (taken)								\
			return take_side(v, op, e);					\
		NEXT;									\
	} while (0)
#define IMMEDIATE8 (op->cc_imm & 0xff)
#define IMMEDIATE32 (op->cc_imm)

/* CMP of two values that cannot fault. */
#define COMPARE(x, kind, S, A, B, cc)						\
static H(kind##_##x##cc)									\
{											\
	const uint32_t a = (A), b = (B);						\
	op_sub##S(e, a, b);								\
	END_##x(CMP_##cc(S, a, b));							\
}

/* m is the memory operand. */
#define COMPARE_MEMORY(x, kind, S, A, B, cc)					\
static NOINLINE H(kind##_##x##cc##_slow)							\
{											\
	e->cur = op;									\
	const uint32_t m = mem_read(e, op_linear(e, op, S / 8, 0), S / 8), a = (A), b = (B);	\
	op_sub##S(e, a, b);								\
	END_##x(CMP_##cc(S, a, b));							\
}											\
static H(kind##_##x##cc)									\
{											\
	LOAD_FAST(S, m, kind##_##x##cc##_slow);						\
	const uint32_t a = (A), b = (B);						\
	op_sub##S(e, a, b);								\
	END_##x(CMP_##cc(S, a, b));							\
}

/* An operation on registers whose condition comes from its flags. */
#define OPERATE(x, kind, STATEMENT, cc)						\
static H(kind##_##x##cc)									\
{											\
	STATEMENT;									\
	END_##x(CC_##cc(e));								\
}

#define TEST_MEMORY(x, kind, S, B, cc)						\
static NOINLINE H(kind##_##x##cc##_slow)							\
{											\
	e->cur = op;									\
	op_logic##S(e, mem_read(e, op_linear(e, op, S / 8, 0), S / 8) & (B));		\
	END_##x(CC_##cc(e));								\
}											\
static H(kind##_##x##cc)									\
{											\
	LOAD_FAST(S, m, kind##_##x##cc##_slow);						\
	op_logic##S(e, m & (B));							\
	END_##x(CC_##cc(e));								\
}

#define UPDATE(name, B) R32(op->rm) = op_##name##32(e, R32(op->rm), (B))

#define DEFINE_PAIRS(x, cc)							\
	COMPARE(x, cmp32_rr, 32, R32(op->rm), R32(op->reg), cc)				\
	COMPARE(x, cmp32_ri, 32, R32(op->rm), IMMEDIATE32, cc)				\
	COMPARE(x, cmp8_rr, 8, R8(op->rm), R8(op->reg), cc)				\
	COMPARE(x, cmp8_ri, 8, R8(op->rm), IMMEDIATE8, cc)					\
	COMPARE_MEMORY(x, cmp32_rm, 32, R32(op->reg), m, cc)				\
	COMPARE_MEMORY(x, cmp32_mr, 32, m, R32(op->reg), cc)				\
	COMPARE_MEMORY(x, cmp32_mi, 32, m, IMMEDIATE32, cc)				\
	COMPARE_MEMORY(x, cmp8_rm, 8, R8(op->reg), m, cc)					\
	COMPARE_MEMORY(x, cmp8_mr, 8, m, R8(op->reg), cc)					\
	COMPARE_MEMORY(x, cmp8_mi, 8, m, IMMEDIATE8, cc)					\
	OPERATE(x, test32_rr, op_logic32(e, R32(op->rm) & R32(op->reg)), cc)		\
	OPERATE(x, test32_ri, op_logic32(e, R32(op->rm) & IMMEDIATE32), cc)		\
	OPERATE(x, test8_rr, op_logic8(e, R8(op->rm) & R8(op->reg)), cc)			\
	OPERATE(x, test8_ri, op_logic8(e, R8(op->rm) & IMMEDIATE8), cc)			\
	TEST_MEMORY(x, test8_mi, 8, IMMEDIATE8, cc)					\
	OPERATE(x, add32_ri, UPDATE(add, IMMEDIATE32), cc)					\
	OPERATE(x, sub32_ri, UPDATE(sub, IMMEDIATE32), cc)					\
	OPERATE(x, and32_ri, UPDATE(and, IMMEDIATE32), cc)					\
	OPERATE(x, add32_rr, UPDATE(add, R32(op->reg)), cc)				\
	OPERATE(x, sub32_rr, UPDATE(sub, R32(op->reg)), cc)				\
	OPERATE(x, and32_rr, UPDATE(and, R32(op->reg)), cc)				\
	OPERATE(x, or32_rr, UPDATE(or, R32(op->reg)), cc)					\
	OPERATE(x, inc32, R32(op->rm) = op_inc32(e, R32(op->rm)), cc)			\
	OPERATE(x, dec32, R32(op->rm) = op_dec32(e, R32(op->rm)), cc)

#define DEFINE_FUSED(cc) DEFINE_PAIRS(j, cc) DEFINE_PAIRS(s, cc)

FOR_EACH_CC(DEFINE_FUSED)

#define PAIRS_ROW(x, cc) {								\
	[FUSE_CMP32_RR] = cmp32_rr_##x##cc, [FUSE_CMP32_RI] = cmp32_ri_##x##cc,		\
	[FUSE_CMP8_RR] = cmp8_rr_##x##cc, [FUSE_CMP8_RI] = cmp8_ri_##x##cc,			\
	[FUSE_CMP32_RM] = cmp32_rm_##x##cc, [FUSE_CMP32_MR] = cmp32_mr_##x##cc,		\
	[FUSE_CMP32_MI] = cmp32_mi_##x##cc, [FUSE_CMP8_RM] = cmp8_rm_##x##cc,		\
	[FUSE_CMP8_MR] = cmp8_mr_##x##cc, [FUSE_CMP8_MI] = cmp8_mi_##x##cc,			\
	[FUSE_TEST32_RR] = test32_rr_##x##cc, [FUSE_TEST32_RI] = test32_ri_##x##cc,		\
	[FUSE_TEST8_RR] = test8_rr_##x##cc, [FUSE_TEST8_RI] = test8_ri_##x##cc,		\
	[FUSE_TEST8_MI] = test8_mi_##x##cc,						\
	[FUSE_ADD_RI] = add32_ri_##x##cc, [FUSE_SUB_RI] = sub32_ri_##x##cc, [FUSE_AND_RI] = and32_ri_##x##cc,	\
	[FUSE_ADD_RR] = add32_rr_##x##cc, [FUSE_SUB_RR] = sub32_rr_##x##cc, [FUSE_AND_RR] = and32_rr_##x##cc,	\
	[FUSE_OR_RR] = or32_rr_##x##cc, [FUSE_INC] = inc32_##x##cc, [FUSE_DEC] = dec32_##x##cc,	\
},

#define FUSED_ROW(cc) PAIRS_ROW(j, cc)
#define FUSED_SIDE_ROW(cc) PAIRS_ROW(s, cc)

handler *const fused_table[16][FUSE_KINDS] = { FOR_EACH_CC(FUSED_ROW) };
handler *const fused_side_table[16][FUSE_KINDS] = { FOR_EACH_CC(FUSED_SIDE_ROW) };
