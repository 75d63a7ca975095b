/*
 * move.c -- data movement: MOV, MOVZX, MOVSX, LEA, XCHG, CMOVcc, SETcc, PUSH, POP and kin.
 *
 * Source: Intel SDM volume 2.  CMOVcc with a memory operand always reads it, and a 32-bit CMOVcc
 * whose condition is false still is a write of the register (no visible effect in 32-bit mode).
 */
#include "handlers.h"
#include "insns.h"
#include "operand.h"

/* ---- MOV ------------------------------------------------------------------------------ */

#define DEFINE_MOV(S)									\
static H(mov##S##_rr)									\
{											\
	PUT##S(op->rm, GET##S(op->reg));						\
	NEXT;										\
}											\
static H(mov##S##_rmg);									\
static H(mov##S##_rmf)									\
{											\
	LOAD_FAST(S, x, mov##S##_rmg);							\
	PUT##S(op->reg, x);								\
	NEXT;										\
}											\
static H(mov##S##_rmb)									\
{											\
	LOAD_AT(S, x, EA_b(S, 0), mov##S##_rmg);							\
	PUT##S(op->reg, x);								\
	NEXT;										\
}											\
static H(mov##S##_rmg)									\
{											\
	PUT##S(op->reg, ld##S(e, op, EA_g(S, 0)));					\
	NEXT;										\
}											\
static H(mov##S##_mrg);									\
static H(mov##S##_mrf)									\
{											\
	STORE_FAST(S, GET##S(op->reg), mov##S##_mrg);					\
	NEXT;										\
}											\
static H(mov##S##_mrb)									\
{											\
	STORE_AT(S, EA_b(S, PF_W), GET##S(op->reg), mov##S##_mrg);					\
	NEXT;										\
}											\
static H(mov##S##_mrg)									\
{											\
	st##S(e, op, EA_g(S, PF_W), GET##S(op->reg));					\
	NEXT;										\
}											\
static H(mov##S##_ri)									\
{											\
	PUT##S(op->rm, op->imm);							\
	NEXT;										\
}											\
static H(mov##S##_mig);									\
static H(mov##S##_mif)									\
{											\
	STORE_FAST(S, op->imm, mov##S##_mig);						\
	NEXT;										\
}											\
static H(mov##S##_mib)									\
{											\
	STORE_AT(S, EA_b(S, PF_W), op->imm, mov##S##_mig);						\
	NEXT;										\
}											\
static H(mov##S##_mig)									\
{											\
	st##S(e, op, EA_g(S, PF_W), op->imm);						\
	NEXT;										\
}

DEFINE_MOV(8)
DEFINE_MOV(16)
DEFINE_MOV(32)

#define MOV_SIZES(form) { mov8_##form, mov16_##form, mov32_##form }

handler *const mov_table[FORMS][3] = {
	MOV_SIZES(rr), MOV_SIZES(rmb), MOV_SIZES(rmf), MOV_SIZES(rmg), MOV_SIZES(mrb), MOV_SIZES(mrf),
	MOV_SIZES(mrg), MOV_SIZES(ri), MOV_SIZES(mib), MOV_SIZES(mif), MOV_SIZES(mig)
};

/*
 * Two loads and two stores of eight bytes in a row, as compilers and kernels copy: done at once where the micro TLB can,
 * else one by one, for the other three ops are still there.
 */
static H(copy64)
{
	const struct op *second = op + 1, *store = op + 2;
	const uint8_t *from = tlb_read_ptr(e, EA_b(32, 0), 8);
	uint8_t *to = tlb_write_ptr(e, store->disp + v->r[store->base], 8);

	if (unlikely(from == NULL || to == NULL))
		return mov32_rmb(v, op, e);
	R32(op->reg) = host_ld32(from);
	R32(second->reg) = host_ld32(from + 4);
	host_st32(to, R32(op->reg));
	host_st32(to + 4, R32(second->reg));
	GO(op + 4);
}

void
move_pairs(struct op *op, uint32_t count)
{
	const struct op *end = op + count;

	for (; end - op >= 4; op++) {
		const bool moves = op[0].fn == mov32_rmb && op[1].fn == mov32_rmb && op[2].fn == mov32_mrb &&
		    op[3].fn == mov32_mrb;
		const bool in_a_row = op[1].base == op[0].base && op[1].disp == op[0].disp + 4 &&
		    op[3].base == op[2].base && op[3].disp == op[2].disp + 4;
		const bool by_way_of = op[2].reg == op[0].reg && op[3].reg == op[1].reg && op[0].reg != op[1].reg;
		const uint32_t bases = 1u << op[0].base | 1u << op[2].base;

		if (moves && in_a_row && by_way_of && !(bases & (1u << op[0].reg | 1u << op[1].reg)))
			op->fn = copy64;
	}
}

#define ZX(FROM, x) (x)
#define SIGNX(FROM, x) SX##FROM(x)
#define DEFINE_MOVX(name, FROM, TO, EXT)						\
static H(name##_r)									\
{											\
	PUT##TO(op->reg, EXT(FROM, GET##FROM(op->rm)));					\
	NEXT;										\
}											\
static H(name##_mg);									\
static H(name##_mf)									\
{											\
	LOAD_FAST(FROM, x, name##_mg);							\
	PUT##TO(op->reg, EXT(FROM, x));							\
	NEXT;										\
}											\
static H(name##_mb)									\
{											\
	LOAD_AT(FROM, x, EA_b(FROM, 0), name##_mg);							\
	PUT##TO(op->reg, EXT(FROM, x));							\
	NEXT;										\
}											\
static H(name##_mg)									\
{											\
	PUT##TO(op->reg, EXT(FROM, ld##FROM(e, op, EA_g(FROM, 0))));			\
	NEXT;										\
}

DEFINE_MOVX(zx8_16, 8, 16, ZX)
DEFINE_MOVX(zx8_32, 8, 32, ZX)
DEFINE_MOVX(zx16_16, 16, 16, ZX)
DEFINE_MOVX(zx16_32, 16, 32, ZX)
DEFINE_MOVX(sx8_16, 8, 16, SIGNX)
DEFINE_MOVX(sx8_32, 8, 32, SIGNX)
DEFINE_MOVX(sx16_16, 16, 16, SIGNX)
DEFINE_MOVX(sx16_32, 16, 32, SIGNX)

#define MOVX_FORM(from, form) { from##_16_##form, from##_32_##form }
#define MOVX_ROW(from) { MOVX_FORM(from, r), MOVX_FORM(from, mb), MOVX_FORM(from, mf), MOVX_FORM(from, mg) }

handler *const movx_table[2][2][MOVX_FORMS][2] = {
	{ MOVX_ROW(zx8), MOVX_ROW(zx16) }, { MOVX_ROW(sx8), MOVX_ROW(sx16) }
};

H(h_lea32)
{
	R32(op->reg) = EA_f(32, 0);
	NEXT;
}

H(h_lea_g)
{
	reg_put(v, op->reg, op_bytes(op), op_ea(e, op));
	NEXT;
}

H(h_nop)
{
	NEXT;
}

H(h_cdq)
{
	v->r[EDX] = (uint32_t)((int32_t)v->r[EAX] >> 31);
	NEXT;
}

H(h_bswap32)
{
	R32(op->rm) = __builtin_bswap32(R32(op->rm));
	NEXT;
}

H(h_xchg32_rr)
{
	const uint32_t a = R32(op->rm);

	R32(op->rm) = R32(op->reg);
	R32(op->reg) = a;
	NEXT;
}

/* ---- SETcc, CMOVcc ------------------------------------------------------------------------ */

#define DEFINE_SETCC(cc)								\
static H(set##cc##_r)									\
{											\
	PUT8(op->rm, CC_##cc(e));							\
	NEXT;										\
}											\
static H(set##cc##_mg);									\
static H(set##cc##_mf)									\
{											\
	STORE_FAST(8, CC_##cc(e), set##cc##_mg);					\
	NEXT;										\
}											\
static H(set##cc##_mg)									\
{											\
	st8(e, op, EA_g(8, PF_W), CC_##cc(e));						\
	NEXT;										\
}											\
static H(cmov##cc##_r)									\
{											\
	const uint32_t b = R32(op->rm);							\
	if (CC_##cc(e))									\
		R32(op->reg) = b;							\
	NEXT;										\
}											\
static H(cmov##cc##_mg);									\
static H(cmov##cc##_mf)									\
{											\
	LOAD_FAST(32, b, cmov##cc##_mg);						\
	if (CC_##cc(e))									\
		R32(op->reg) = b;							\
	NEXT;										\
}											\
static H(cmov##cc##_mg)									\
{											\
	const uint32_t b = ld32(e, op, EA_g(32, 0));					\
	if (CC_##cc(e))									\
		R32(op->reg) = b;							\
	NEXT;										\
}

FOR_EACH_CC(DEFINE_SETCC)

#define SETCC_ROW(cc) { set##cc##_r, set##cc##_mf, set##cc##_mg },
#define CMOV_ROW(cc) { cmov##cc##_r, cmov##cc##_mf, cmov##cc##_mg },

handler *const setcc_table[16][3] = { FOR_EACH_CC(SETCC_ROW) };
handler *const cmov_table[16][3] = { FOR_EACH_CC(CMOV_ROW) };

#define CC_VALUE(cc) (uint32_t)CC_##cc(e),

/* CMOVcc of 16 bits; op->imm2 is the condition. */
void
i_cmov(struct engine *e, const struct op *op)
{
	const uint32_t taken[16] = { FOR_EACH_CC(CC_VALUE) };
	const uint32_t b = rm_get(e, op, 2);

	if (taken[op->imm2])
		reg_put(e->v, op->reg, 2, b);
}

/* ---- the stack ------------------------------------------------------------------------------ */

/* Flat 32-bit stacks.  What the micro TLB cannot do, the slow instruction does. */
#define BY_SLOW(name, slow_fn)								\
static NOINLINE H(name)									\
{											\
	e->cur = op;									\
	slow_fn(e, op);									\
	NEXT;										\
}

BY_SLOW(push_reg_slow, i_push_reg)
BY_SLOW(push_imm_slow, i_push_imm)
BY_SLOW(push_rm_slow, i_push_rm)
BY_SLOW(pop_reg_slow, i_pop_reg)
BY_SLOW(leave_slow, i_leave)

#define PUSH_FAST(value, slow)								\
	do {										\
		const uint32_t sp_ = v->r[ESP] - 4;					\
		void *p_ = tlb_write_ptr(e, sp_, 4);					\
		if (unlikely(p_ == NULL))						\
			return slow(v, op, e);						\
		host_st32(p_, (value));							\
		v->r[ESP] = sp_;							\
	} while (0)

H(h_push32_rf)
{
	PUSH_FAST(R32(op->rm), push_reg_slow);
	NEXT;
}

H(h_push32_if)
{
	PUSH_FAST(op->imm, push_imm_slow);
	NEXT;
}

H(h_push32_mf)
{
	LOAD_FAST(32, x, push_rm_slow);
	PUSH_FAST(x, push_rm_slow);
	NEXT;
}

H(h_pop32_rf)
{
	const void *p = tlb_read_ptr(e, v->r[ESP], 4);

	if (unlikely(p == NULL))
		return pop_reg_slow(v, op, e);
	v->r[ESP] += 4;
	R32(op->rm) = host_ld32(p);
	NEXT;
}

H(h_leave32_f)
{
	const uint32_t bp = v->r[EBP];
	const void *p = tlb_read_ptr(e, bp, 4);

	if (unlikely(p == NULL))
		return leave_slow(v, op, e);
	v->r[ESP] = bp + 4;
	v->r[EBP] = host_ld32(p);
	NEXT;
}

void
i_push_reg(struct engine *e, const struct op *op)
{
	push_n(e, op_bytes(op), reg_get(e->v, op->rm, op_bytes(op)));
}

void
i_push_imm(struct engine *e, const struct op *op)
{
	push_n(e, op_bytes(op), op->imm);
}

void
i_push_rm(struct engine *e, const struct op *op)
{
	push_n(e, op_bytes(op), rm_get(e, op, op_bytes(op)));
}

void
i_pop_reg(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), x = stack_peek(e, 0, size);

	v->r[ESP] = sp_add(v, v->r[ESP], size);
	reg_put(v, op->rm, size, x);
}

/* ESP is incremented before it is used in the address of the destination. */
void
i_pop_rm(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), x = stack_peek(e, 0, size), old = v->r[ESP];
	const uint32_t new = sp_add(v, old, size);

	if (!(op->flags & OP_MEM)) {
		v->r[ESP] = new;
		reg_put(v, op->rm, size, x);
		return;
	}
	v->r[ESP] = new;
	const uint32_t ea = op_ea(e, op);

	v->r[ESP] = old;	/* a fault of the store restores ESP */
	mem_write(e, seg_linear(e, op->seg, ea, size, PF_W), size, x);
	v->r[ESP] = new;
}

void
i_leave(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), old = v->r[ESP];
	const uint32_t frame = sp_add(v, (old & 0xffff0000u) | (v->r[EBP] & 0xffff), 0);
	uint32_t x;

	v->r[ESP] = v->seg[SS].attr & SEG_DB ? v->r[EBP] : frame;
	const uint32_t sp = v->r[ESP];

	v->r[ESP] = old;
	x = mem_read(e, seg_linear(e, SS, v->seg[SS].attr & SEG_DB ? sp : sp & 0xffff, size, 0), size);
	v->r[ESP] = sp_add(v, sp, size);
	reg_put(v, EBP, size, x);
}

/* ---- the rest --------------------------------------------------------------------------------- */

static uint32_t
exchange(uint32_t what, uint32_t old, uint32_t operand)
{
	(void)what;
	(void)old;
	return operand;
}

/* XCHG: with memory it is locked whether or not LOCK is there.  imm2: size in bytes. */
void
i_xchg_rm(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op->imm2, b = reg_get(v, op->reg, size);
	uint32_t a;

	if (op->flags & OP_MEM) {
		a = atomic_update(e, op_linear(e, op, size, PF_W), size, exchange, 0, b);
	} else {
		a = reg_get(v, op->rm, size);
		reg_put(v, op->rm, size, b);
	}
	reg_put(v, op->reg, size, a);
}

void
i_xlat(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	uint32_t offset = v->r[EBX] + reg_get(v, EAX, 1);

	if (op->flags & OP_ADDR16)
		offset &= 0xffff;
	reg_put(v, EAX, 1, mem_read(e, seg_linear(e, op->seg, offset, 1, 0), 1));
}

void
i_sahf(struct engine *e, const struct op *op)
{
	const uint32_t kept = lf_of(e) << 11;

	(void)op;
	lf_put(e, (reg_get(e->v, 1, 1) & (FL_SF | FL_ZF | FL_AF | FL_PF | FL_CF)) | kept);
}

void
i_lahf(struct engine *e, const struct op *op)
{
	(void)op;
	reg_put(e->v, 1, 1, (lf_get(e) & 0xd5) | FL_1);
}

void
i_cmc(struct engine *e, const struct op *op)
{
	(void)op;
	lf_put_cf(e, !lf_cf(e));
}

void
i_clc(struct engine *e, const struct op *op)
{
	(void)op;
	lf_put_cf(e, 0);
}

void
i_stc(struct engine *e, const struct op *op)
{
	(void)op;
	lf_put_cf(e, 1);
}

void
i_cld(struct engine *e, const struct op *op)
{
	(void)op;
	e->v->eflags &= ~(uint32_t)FL_DF;
}

void
i_std(struct engine *e, const struct op *op)
{
	(void)op;
	e->v->eflags |= FL_DF;
}

/* SALC, opcode D6: AL = CF ? FF : 00. */
void
i_salc(struct engine *e, const struct op *op)
{
	(void)op;
	reg_put(e->v, EAX, 1, lf_cf(e) ? 0xff : 0);
}

void
i_cbw(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;

	if (op->flags & OP_SIZE16)
		reg_put(v, EAX, 2, SX8(v->r[EAX]));
	else
		v->r[EAX] = SX16(v->r[EAX]);
}

void
i_cwd(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;

	if (op->flags & OP_SIZE16)
		reg_put(v, EDX, 2, v->r[EAX] & 0x8000 ? 0xffff : 0);
	else
		v->r[EDX] = v->r[EAX] & 0x80000000u ? 0xffffffffu : 0;
}

/* BSWAP of a 16-bit register gives 0 (undefined; what silicon does). */
void
i_bswap(struct engine *e, const struct op *op)
{
	reg_put(e->v, op->rm, 2, 0);
}

/* MOV r/m, Sreg (8C): a register gets the selector zero-extended, memory always 16 bits. */
void
i_mov_from_sreg(struct engine *e, const struct op *op)
{
	const uint32_t selector = e->v->seg[op->reg].selector & 0xffff;

	if (op->flags & OP_MEM)
		mem_write(e, op_linear(e, op, 2, PF_W), 2, selector);
	else
		reg_put(e->v, op->rm, op_bytes(op), selector);
}
