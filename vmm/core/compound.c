/*
 * compound.c -- simple instructions in a row, done by the handler of the first.
 *
 * From handler to handler is an indirect jump, and code that is not a tight loop has more of them than a host can
 * foresee.  So pairs of the moves that compilers make most, and the usual ways into and out of a function, have
 * handlers of their own.  Rules:
 *
 *   M1  the ops behind the first stay as they are.  What the micro TLB cannot do, the instruction's own handler does,
 *	 which goes on with the next op: it may be stale by then (C3 of codecache.h);
 *   M2  each instruction has ended before the next one begins, so that it finds what a fault may show of it.
 */
#include "chain.h"

enum kind {
	LOAD, STORE, STORE_IMM, MOVE, SET, LEA, PUSH, POP, NOP, ADD, SUB, BARE_ADD, XOR, BARE_XOR, TEST_Z, TEST_NZ,
	INNER, RET = INNER, CALL, KINDS, OTHER = KINDS
};
enum condition { CC_ZERO = 4, CC_NOT_ZERO = 5 };	/* as Jcc encodes them */
enum alu { ALU_ADD = 0, ALU_SUB = 5, ALU_XOR = 6 };
enum dead { DEAD_RR = 0, DEAD_RI = 3 };	/* columns of alu_dead_table */

/* Instruction n of a compound. */
#define DO_LOAD(n)									\
	const void *from##n = tlb_read_ptr(e, op[n].disp + v->r[op[n].base], 4);	\
	if (unlikely(from##n == NULL))							\
		return mov_table[F_RMG][2](v, op + n, e);				\
	R32(op[n].reg) = host_ld32(from##n);
#define DO_STORE(n)									\
	void *to##n = tlb_write_ptr(e, op[n].disp + v->r[op[n].base], 4);		\
	if (unlikely(to##n == NULL))							\
		return mov_table[F_MRG][2](v, op + n, e);				\
	host_st32(to##n, R32(op[n].reg));
#define DO_STORE_IMM(n)									\
	void *to##n = tlb_write_ptr(e, op[n].disp + v->r[op[n].base], 4);		\
	if (unlikely(to##n == NULL))							\
		return mov_table[F_MIG][2](v, op + n, e);				\
	host_st32(to##n, op[n].imm);
#define DO_MOVE(n) R32(op[n].rm) = R32(op[n].reg);
#define DO_SET(n) R32(op[n].rm) = op[n].imm;
#define DO_LEA(n) R32(op[n].reg) = op[n].disp + v->r[op[n].base] + (v->r[op[n].index] << op[n].scale);
#define DO_PUSH(n)									\
	void *to##n = tlb_write_ptr(e, v->r[ESP] - 4, 4);				\
	if (unlikely(to##n == NULL))							\
		return h_push32_rf(v, op + n, e);					\
	host_st32(to##n, R32(op[n].rm));						\
	v->r[ESP] -= 4;
#define DO_POP(n)									\
	const void *from##n = tlb_read_ptr(e, v->r[ESP], 4);				\
	if (unlikely(from##n == NULL))							\
		return h_pop32_rf(v, op + n, e);					\
	v->r[ESP] += 4;									\
	R32(op[n].rm) = host_ld32(from##n);

#define DO_NOP(n)
#define DO_ADD(n) R32(op[n].rm) = op_add32(e, R32(op[n].rm), op[n].imm);
#define DO_SUB(n) R32(op[n].rm) = op_sub32(e, R32(op[n].rm), op[n].imm);
#define DO_BARE_ADD(n) R32(op[n].rm) += op[n].imm;
#define DO_XOR(n) R32(op[n].rm) = op_xor32(e, R32(op[n].rm), R32(op[n].reg));
#define DO_BARE_XOR(n) R32(op[n].rm) ^= R32(op[n].reg);
#define DO_TEST(n, cc)									\
	op_logic32(e, R32(op[n].rm) & R32(op[n].reg));					\
	if (CC_##cc(e))									\
		return branch_away(v, op + n, e);
#define DO_TEST_Z(n) DO_TEST(n, Z)
#define DO_TEST_NZ(n) DO_TEST(n, NZ)

static NOINLINE H(branch_away)
{
	return take_side(v, op, e);
}

/* ---- pairs ------------------------------------------------------------------------------------------- */

#define FOR_EACH_SECOND(X, a)								\
	X(a, LOAD) X(a, STORE) X(a, STORE_IMM) X(a, MOVE) X(a, SET) X(a, LEA) X(a, PUSH) X(a, POP)	\
	X(a, NOP) X(a, ADD) X(a, SUB) X(a, BARE_ADD) X(a, XOR) X(a, BARE_XOR) X(a, TEST_Z) X(a, TEST_NZ)

#define PAIR(a, b)									\
static H(a##_##b)									\
{											\
	DO_##a(0)									\
	DO_##b(1)									\
	GO(op + 2);									\
}
#define PAIRS(a)									\
FOR_EACH_SECOND(PAIR, a)								\
static H(a##_RET)									\
{											\
	DO_##a(0)									\
	return h_ret_f(v, op + 1, e);							\
}											\
static H(a##_CALL)									\
{											\
	DO_##a(0)									\
	return h_call_f(v, op + 1, e);							\
}

PAIRS(LOAD)
PAIRS(STORE)
PAIRS(STORE_IMM)
PAIRS(MOVE)
PAIRS(SET)
PAIRS(LEA)
PAIRS(PUSH)
PAIRS(POP)
PAIRS(NOP)
PAIRS(ADD)
PAIRS(SUB)
PAIRS(BARE_ADD)
PAIRS(XOR)
PAIRS(BARE_XOR)
PAIRS(TEST_Z)
PAIRS(TEST_NZ)

#define COLUMN(a, b) [b] = a##_##b,
#define ROW(a) [a] = { FOR_EACH_SECOND(COLUMN, a) [RET] = a##_RET, [CALL] = a##_CALL },

static handler *const pairs[INNER][KINDS] = {
	ROW(LOAD) ROW(STORE) ROW(STORE_IMM) ROW(MOVE) ROW(SET) ROW(LEA) ROW(PUSH) ROW(POP)
	ROW(NOP) ROW(ADD) ROW(SUB) ROW(BARE_ADD) ROW(XOR) ROW(BARE_XOR) ROW(TEST_Z) ROW(TEST_NZ)
};

/* ---- into and out of a function ---------------------------------------------------------------------- */

/* All words of the stack lie in one page; none of the registers is ESP, but the source of a MOVE. */
#define POPPED(n) R32(op[n].rm) = host_ld32((const uint8_t *)from + 4 * (n));
#define POPS(name, count, pieces, end)							\
static H(name)										\
{											\
	const void *from = tlb_read_ptr(e, v->r[ESP], 4 * (count));			\
	if (unlikely(from == NULL))							\
		return h_pop32_rf(v, op, e);						\
	pieces										\
	v->r[ESP] += 4 * (count);							\
	end;										\
}

#define POPPED_2 POPPED(0) POPPED(1)
#define POPPED_3 POPPED_2 POPPED(2)
#define POPPED_4 POPPED_3 POPPED(3)
POPS(pops_2_ret, 2, POPPED_2, return h_ret_f(v, op + 2, e))
POPS(pops_3_ret, 3, POPPED_3, return h_ret_f(v, op + 3, e))
POPS(pops_4_ret, 4, POPPED_4, return h_ret_f(v, op + 4, e))
POPS(pops_2, 2, POPPED_2, GO(op + 2))
POPS(pops_3, 3, POPPED_3, GO(op + 3))
POPS(pops_4, 4, POPPED_4, GO(op + 4))

#define PUSHED(n) to -= 4; host_st32(to, R32(op[n].rm)); v->r[ESP] -= 4;
#define PUSHES(name, count, first, pieces, length)					\
static H(name)										\
{											\
	uint8_t *to = tlb_write_ptr(e, v->r[ESP] - 4 * (count), 4 * (count));		\
	if (unlikely(to == NULL))							\
		return first(v, op, e);							\
	to += 4 * (count);								\
	pieces										\
	GO(op + (length));								\
}

PUSHES(pushes_3, 3, h_push32_rf, PUSHED(0) PUSHED(1) PUSHED(2), 3)
PUSHES(frame_1, 2, h_push32_rf, PUSHED(0) DO_MOVE(1) PUSHED(2), 3)
PUSHES(frame_2, 3, h_push32_rf, PUSHED(0) DO_MOVE(1) PUSHED(2) PUSHED(3), 4)
PUSHES(frame_3, 4, h_push32_rf, PUSHED(0) DO_MOVE(1) PUSHED(2) PUSHED(3) PUSHED(4), 5)
PUSHES(lea_frame_0, 1, h_lea32, DO_LEA(0) PUSHED(1) DO_MOVE(2), 3)
PUSHES(lea_frame_1, 2, h_lea32, DO_LEA(0) PUSHED(1) DO_MOVE(2) PUSHED(3), 4)
PUSHES(lea_frame_2, 3, h_lea32, DO_LEA(0) PUSHED(1) DO_MOVE(2) PUSHED(3) PUSHED(4), 5)
PUSHES(lea_frame_3, 4, h_lea32, DO_LEA(0) PUSHED(1) DO_MOVE(2) PUSHED(3) PUSHED(4) PUSHED(5), 6)

/* ---- three moves ------------------------------------------------------------------------------------- */

#define TRIPLE(a, b, c)									\
static H(a##_##b##_##c)									\
{											\
	DO_##a(0)									\
	DO_##b(1)									\
	DO_##c(2)									\
	GO(op + 3);									\
}
#define TRIPLES(X)									\
	X(LOAD, LOAD, LOAD) X(LOAD, LOAD, STORE) X(LOAD, LOAD, MOVE) X(LOAD, LOAD, TEST_Z)	\
	X(LOAD, STORE, LOAD) X(LOAD, STORE, STORE) X(LOAD, STORE, MOVE) X(LOAD, MOVE, LOAD)	\
	X(LOAD, MOVE, MOVE) X(LOAD, MOVE, STORE) X(STORE, LOAD, LOAD) X(STORE, LOAD, STORE)	\
	X(STORE, STORE, LOAD) X(STORE, STORE, STORE) X(STORE, MOVE, LOAD) X(STORE, MOVE, MOVE)	\
	X(MOVE, LOAD, LOAD) X(MOVE, LOAD, STORE) X(MOVE, LOAD, MOVE) X(MOVE, MOVE, LOAD)		\
	X(MOVE, MOVE, MOVE) X(MOVE, STORE, LOAD) X(MOVE, PUSH, MOVE) X(MOVE, MOVE, PUSH)

TRIPLES(TRIPLE)

static H(MOVE_MOVE_CALL)
{
	DO_MOVE(0)
	DO_MOVE(1)
	return h_call_f(v, op + 2, e);
}

static H(MOVE_LOAD_CALL)
{
	DO_MOVE(0)
	DO_LOAD(1)
	return h_call_f(v, op + 2, e);
}

static H(LOAD_MOVE_CALL)
{
	DO_LOAD(0)
	DO_MOVE(1)
	return h_call_f(v, op + 2, e);
}

/* ---- finding them ------------------------------------------------------------------------------------ */

#define TRIPLE_ROW(a, b, c) { a##_##b##_##c, 3, { a, b, c } },

/* Longer ones before their beginnings. */
static const struct sequence {
	handler *fn;
	uint8_t length, kinds[6];
} sequences[] = {
	{ pops_4_ret, 5, { POP, POP, POP, POP, RET } },
	{ pops_3_ret, 4, { POP, POP, POP, RET } },
	{ pops_2_ret, 3, { POP, POP, RET } },
	{ pops_4, 4, { POP, POP, POP, POP } },
	{ pops_3, 3, { POP, POP, POP } },
	{ pops_2, 2, { POP, POP } },
	{ lea_frame_3, 6, { LEA, PUSH, MOVE, PUSH, PUSH, PUSH } },
	{ lea_frame_2, 5, { LEA, PUSH, MOVE, PUSH, PUSH } },
	{ lea_frame_1, 4, { LEA, PUSH, MOVE, PUSH } },
	{ lea_frame_0, 3, { LEA, PUSH, MOVE } },
	{ frame_3, 5, { PUSH, MOVE, PUSH, PUSH, PUSH } },
	{ frame_2, 4, { PUSH, MOVE, PUSH, PUSH } },
	{ frame_1, 3, { PUSH, MOVE, PUSH } },
	{ pushes_3, 3, { PUSH, PUSH, PUSH } },
	{ MOVE_MOVE_CALL, 3, { MOVE, MOVE, CALL } },
	{ MOVE_LOAD_CALL, 3, { MOVE, LOAD, CALL } },
	{ LOAD_MOVE_CALL, 3, { LOAD, MOVE, CALL } },
	TRIPLES(TRIPLE_ROW)
};

static enum kind
kind_of(const struct op *op)
{
	const struct { handler *fn; enum kind kind; } kinds[] = {
		{ mov_table[F_RMB][2], LOAD }, { mov_table[F_RR][2], MOVE }, { h_pop32_rf, POP }, { h_push32_rf, PUSH },
		{ h_lea32, LEA }, { mov_table[F_MRB][2], STORE }, { h_ret_f, RET }, { h_call_f, CALL },
		{ mov_table[F_MIB][2], STORE_IMM }, { mov_table[F_RI][2], SET }, { h_nop, NOP },
		{ fused_side_table[CC_ZERO][FUSE_TEST32_RR], TEST_Z },
		{ fused_side_table[CC_NOT_ZERO][FUSE_TEST32_RR], TEST_NZ },
		{ alu_table[ALU_XOR][F_RR][2], XOR }, { alu_dead_table[ALU_XOR][DEAD_RR], BARE_XOR },
		{ alu_table[ALU_ADD][F_RI][2], ADD }, { alu_dead_table[ALU_ADD][DEAD_RI], BARE_ADD },
		{ alu_table[ALU_SUB][F_RI][2], SUB }
	};
	uint32_t i;

	for (i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (op->fn == kinds[i].fn)
			return kinds[i].kind;
	return OTHER;
}

/* Does op change ESP otherwise than a sequence counts on? */
static bool
spoils_stack(const struct op *op, enum kind kind)
{
	return ((kind == PUSH || kind == POP || kind == MOVE) && op->rm == ESP) || (kind == LEA && op->reg == ESP);
}

static const struct sequence *
sequence_at(const struct op *op, const uint8_t *kinds, uint32_t left)
{
	uint32_t i, n;

	for (i = 0; i < sizeof sequences / sizeof *sequences; i++) {
		const struct sequence *s = &sequences[i];

		for (n = 0; n < s->length && n < left; n++)
			if (s->kinds[n] != kinds[n] || spoils_stack(&op[n], kinds[n]))
				break;
		if (n == s->length)
			return s;
	}
	return NULL;
}

void
compound(struct op *op, uint32_t count)
{
	uint8_t kinds[BLOCK_INSNS];
	uint32_t i, length;

	for (i = 0; i < count; i++)
		kinds[i] = (uint8_t)kind_of(&op[i]);
	for (i = 0; i + 1 < count; i += length) {
		const struct sequence *s = NULL;

		length = 1;
		if (kinds[i] <= POP)
			s = sequence_at(&op[i], &kinds[i], count - i);
		if (s) {
			op[i].fn = s->fn;
			length = s->length;
		} else if (kinds[i] < INNER && kinds[i + 1] < KINDS) {
			op[i].fn = pairs[kinds[i]][kinds[i + 1]];
			length = 2;
		}
	}
}
