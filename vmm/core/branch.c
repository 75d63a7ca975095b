/*
 * branch.c -- near branches, calls and returns, and how one block leads to the next.
 *
 * A branch's target is kept relative to the start of its block, so that one block serves every
 * linear address its page is mapped at.  In flat 32-bit code a taken branch follows its link;
 * all other code goes through dispatch, which wraps EIP and checks the CS limit.
 * Source: Intel SDM volume 2, Jcc, JMP, CALL, RET, LOOP; a target beyond the limit is #GP(0) of
 * the branch itself, before anything is pushed.
 */
#include "chain.h"
#include "insns.h"
#include "operand.h"

const struct op *
dispatch(struct vcpu *v, struct engine *e)
{
	struct block *b;

	e->cur = NULL;
	if (unlikely(e->budget < 0 || __atomic_load_n(&e->ctl->attention, __ATOMIC_RELAXED) || (e->mode & MODE_ONE)))
		return NULL;
	b = code_at(e);
	if (!block_enter(e, b, v->eip))
		return NULL;
	GO(b->ops);
}

/* May op's link n lead to b, which starts at v->eip?  (C4, C5) */
static void
link_blocks(struct engine *e, struct op *op, unsigned n, struct block *b, uint32_t from_eip)
{
	const uint32_t needed = MODE_CS32 | MODE_CSFLAT;

	if ((e->mode & (needed | MODE_ONE)) != needed || b->ppn2 != ~0u || b->mode != e->mode)
		return;
	if (n == 0 && (op->flags & OP_SIZE16))
		return;
	op->link[n] = block_offset(e, b) | ((from_eip ^ e->v->eip) & PAGE_MASK ? LINK_CHECKED : 0);
}

/* The slow half of take(): v->eip is where to go on. */
const struct op *
take_slow(struct vcpu *v, const struct op *op, struct engine *e, unsigned n)
{
	const uint32_t from = e->eip_base + op_offset(op), flushes = e->code_flushes;
	struct block *b;

	if (n == 0 && (op->flags & OP_SIZE16))
		v->eip &= 0xffff;
	else if (!(e->mode & MODE_CS32) && n == 1)
		v->eip &= 0xffff;
	if (n == 0 && unlikely(v->eip > v->seg[CS].limit)) {
		e->cur = op;
		raise_gp0(e);
	}
	e->cur = NULL;
	if (unlikely(e->budget < 0 || __atomic_load_n(&e->ctl->attention, __ATOMIC_RELAXED) || (e->mode & MODE_ONE)))
		return NULL;
	b = code_at(e);
	if (e->code_flushes == flushes)		/* else op is gone */
		link_blocks(e, (struct op *)(uintptr_t)op, n, b, from);
	if (!block_enter(e, b, v->eip))
		return NULL;
	GO(b->ops);
}

H(h_fall)
{
	return take(v, op, e, op_offset(op), 1);	/* a pseudo op: length 0 */
}

#define DEFINE_JCC(cc)									\
static H(j##cc)										\
{											\
	if (CC_##cc(e))									\
		return take(v, op, e, op->imm, 0);					\
	return take(v, op, e, AFTER, 1);						\
}

FOR_EACH_CC(DEFINE_JCC)

#define JCC_ROW(cc) j##cc,

handler *const jcc_table[16] = { FOR_EACH_CC(JCC_ROW) };

/* In the middle of a block: not taken, the block goes on. */
#define DEFINE_SIDE(cc)									\
static H(side##cc)									\
{											\
	if (CC_##cc(e))									\
		return take_side(v, op, e);						\
	NEXT;										\
}

FOR_EACH_CC(DEFINE_SIDE)

#define SIDE_ROW(cc) side##cc,

handler *const side_table[16] = { FOR_EACH_CC(SIDE_ROW) };

H(h_jmp)
{
	return take(v, op, e, op->imm, 0);
}

/* ---- indirect ------------------------------------------------------------------------------ */

/* Flat 32-bit code: no limit, no wrap. */
static inline const struct op *
jump_to(struct vcpu *v, struct engine *e, uint32_t eip)
{
	struct block *b = hinted(e, jump_hint(e, eip), eip);

	if (likely(b != NULL) && likely(block_enter(e, b, eip)))
		GO(b->ops);
	v->eip = eip;
	return dispatch(v, e);
}

/* What the micro TLB cannot do, the slow instruction does. */
#define BY_SLOW(name, slow_fn)								\
static NOINLINE H(name)									\
{											\
	e->cur = op;									\
	slow_fn(e, op);									\
	return dispatch(v, e);								\
}

BY_SLOW(call_rel_slow, i_call_rel)
BY_SLOW(call_rm_slow, i_call_near_rm)
BY_SLOW(jmp_rm_slow, i_jmp_near_rm)
BY_SLOW(ret_slow, i_ret)

/* Push the return address of a flat 32-bit call. */
#define PUSH_RETURN(slow)								\
	do {										\
		const uint32_t sp_ = v->r[ESP] - 4;					\
		void *p_ = tlb_write_ptr(e, sp_, 4);					\
		if (unlikely(p_ == NULL))						\
			return slow(v, op, e);						\
		host_st32(p_, e->eip_base + AFTER);					\
		v->r[ESP] = sp_;							\
	} while (0)

H(h_call_f)	/* flat 32-bit code and stack */
{
	PUSH_RETURN(call_rel_slow);
	return take(v, op, e, op->imm, 0);
}

H(h_ret_f)
{
	const void *p = tlb_read_ptr(e, v->r[ESP], 4);

	if (unlikely(p == NULL))
		return ret_slow(v, op, e);
	v->r[ESP] += 4 + op->imm16;
	return jump_to(v, e, host_ld32(p));
}

H(h_jmp_r)
{
	return jump_to(v, e, R32(op->rm));
}

H(h_jmp_mf)
{
	LOAD_FAST(32, eip, jmp_rm_slow);

	return jump_to(v, e, eip);
}

H(h_call_rf)
{
	const uint32_t eip = R32(op->rm);	/* may be ESP, as it was before the push */

	PUSH_RETURN(call_rm_slow);
	return jump_to(v, e, eip);
}

H(h_call_mf)
{
	LOAD_FAST(32, eip, call_rm_slow);

	PUSH_RETURN(call_rm_slow);
	return jump_to(v, e, eip);
}

/* ---- every other kind of code: slow instructions that set v->eip ---------------------------- */

/* A near target: cut to the operand size, checked against the limit. */
static uint32_t
near_target(struct engine *e, const struct op *op, uint32_t eip)
{
	if (op->flags & OP_SIZE16)
		eip &= 0xffff;
	if (eip > e->v->seg[CS].limit)
		raise_gp0(e);
	return eip;
}

void
i_jmp_near_rm(struct engine *e, const struct op *op)
{
	e->v->eip = near_target(e, op, rm_get(e, op, op_bytes(op)));
}

void
i_call_near_rm(struct engine *e, const struct op *op)
{
	const uint32_t eip = near_target(e, op, rm_get(e, op, op_bytes(op)));

	push_n(e, op_bytes(op), next_eip(e));
	e->v->eip = eip;
}

void
i_call_rel(struct engine *e, const struct op *op)
{
	const uint32_t eip = near_target(e, op, e->eip_base + op->imm);

	push_n(e, op_bytes(op), next_eip(e));
	e->v->eip = eip;
}

void
i_ret(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), eip = near_target(e, op, stack_peek(e, 0, size));

	v->r[ESP] = sp_add(v, v->r[ESP], size + op->imm16);
	v->eip = eip;
}

/* ---- LOOP, LOOPE, LOOPNE, JCXZ: the counter's width is the address size ------------------------ */

/* imm2: 0 LOOPNE, 1 LOOPE, 2 LOOP, 3 JCXZ: the low opcode bits.  A branch that faults has not
 * counted. */
static inline bool
loop_taken(struct vcpu *v, const struct op *op, struct engine *e, uint32_t *counter)
{
	const uint32_t mask = op->flags & OP_ADDR16 ? 0xffff : 0xffffffffu;
	const uint32_t count = (v->r[ECX] - (op->imm2 != 3)) & mask;

	*counter = (v->r[ECX] & ~mask) | count;
	switch (op->imm2) {
	case 0:
		return count != 0 && !lf_zf(e);
	case 1:
		return count != 0 && lf_zf(e);
	case 2:
		return count != 0;
	default:
		return count == 0;
	}
}

H(h_loop)
{
	uint32_t counter;
	const bool taken = loop_taken(v, op, e, &counter);

	if (taken && unlikely(!(e->mode & MODE_CSFLAT))) {
		uint32_t eip = e->eip_base + op->imm;

		e->cur = op;
		near_target(e, op, eip);
	}
	v->r[ECX] = counter;
	return taken ? take(v, op, e, op->imm, 0) : take(v, op, e, AFTER, 1);
}
