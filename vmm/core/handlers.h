/*
 * handlers.h -- how handlers are written, and the tables by which the decoder finds them.
 *
 * A handler takes the vCPU, its op and the engine in registers and goes on to the next op by
 * a sibling call (with RF_LOOP_DISPATCH, for builds that cannot rely on one, it returns the
 * next op instead).  It returns NULL to the run loop with v->eip set.
 *
 * Names: _rr register with register, _rm register with memory, _mr memory with register,
 * _ri, _mi immediates; a trailing f means flat segments and a 32-bit address, b the same without
 * an index register, g any.
 */
#ifndef RF_HANDLERS_H
#define RF_HANDLERS_H

#include "engine.h"
#include "flags.h"
#include "mem.h"

#define H(name) const struct op *name(struct vcpu *v, const struct op *op, struct engine *e)

#ifdef RF_LOOP_DISPATCH
#define GO(o) return (o)
#else
#define GO(o) return (o)->fn(v, (o), e)
#endif
#define NEXT GO(op + 1)

/* Registers as operands. */
#define R32(n) (v->r[n])
#define R8(offset) (((uint8_t *)v->r)[offset])
#define R16(n) (((uint16_t *)(void *)v->r)[2 * (n)])
#define GET8(n) R8(n)
#define GET16(n) ((uint32_t)R16(n))
#define GET32(n) R32(n)
#define PUT8(n, x) (R8(n) = (uint8_t)(x))
#define PUT16(n, x) (R16(n) = (uint16_t)(x))
#define PUT32(n, x) (R32(n) = (x))

/* Addresses of memory operands: flat, and the general form which checks the segment. */
#define EA_f(S, acc) (op->disp + v->r[op->base] + (v->r[op->index] << op->scale))
#define EA_b(S, acc) (op->disp + v->r[op->base])	/* flat, no index: most operands */
#define EA_g(S, acc) (e->cur = op, op_linear(e, op, S / 8, acc))

/*
 * A flat load or store.  What the micro TLB cannot do is handed to the general handler of the
 * same instruction, by a sibling call: so the fast handlers call nothing and save no registers.
 */
#define LOAD_FAST(S, x, general) LOAD_AT(S, x, EA_f(S, 0), general)
#define LOAD_AT(S, x, linear, general)							\
	const void *p_##x = tlb_read_ptr(e, linear, S / 8);				\
	if (unlikely(p_##x == NULL))							\
		return general(v, op, e);						\
	const uint32_t x = host_ld##S(p_##x)

#define STORE_FAST(S, value, general) STORE_AT(S, EA_f(S, PF_W), value, general)
#define STORE_AT(S, linear, value, general)						\
	do {										\
		void *p_ = tlb_write_ptr(e, linear, S / 8);				\
		if (unlikely(p_ == NULL))						\
			return general(v, op, e);					\
		host_st##S(p_, (value));						\
	} while (0)

/* By operand size: [0] 8, [1] 16, [2] 32 bits. */
enum form { F_RR, F_RMB, F_RMF, F_RMG, F_MRB, F_MRF, F_MRG, F_RI, F_MIB, F_MIF, F_MIG, FORMS };
enum unary_form { U_R, U_MF, U_MG, UNARY_FORMS };
enum movx_form { X_R, X_MB, X_MF, X_MG, MOVX_FORMS };

extern handler *const alu_table[9][FORMS][3];	/* ADD OR ADC SBB AND SUB XOR CMP TEST */
extern handler *const alu_dead_table[9][4];	/* 32 bits, flags never read: RR, RMB, RMF, RI; NULL where none */
extern handler *const unary_dead_table[4];	/* 32-bit registers */
extern handler *const shift_dead_table[8];	/* 32-bit registers by an immediate other than 0; NULL where none */
extern handler *const unary_table[4][UNARY_FORMS][3];	/* INC DEC NOT NEG */
extern handler *const mov_table[FORMS][3];
extern handler *const movx_table[2][2][MOVX_FORMS][2];	/* [zero, sign][from 8, 16][form][to 16, 32] */
extern handler *const shift_table[8][2][3][3];	/* ROL ROR RCL RCR SHL SHR SAL SAR; [imm, CL][R MF MG][size] */
extern handler *const jcc_table[16];
extern handler *const side_table[16];	/* Jcc in the middle of a block */
extern handler *const setcc_table[16][3];	/* R MF MG */
extern handler *const cmov_table[16][3];	/* 32 bits: R MF MG */

/* Instructions that a Jcc behind them is fused with: fused.c. */
enum fuse {
	FUSE_NONE, FUSE_CMP32_RR, FUSE_CMP32_RI, FUSE_CMP8_RR, FUSE_CMP8_RI, FUSE_CMP32_RM, FUSE_CMP32_MR, FUSE_CMP32_MI,
	FUSE_CMP8_RM, FUSE_CMP8_MR, FUSE_CMP8_MI, FUSE_TEST32_RR, FUSE_TEST32_RI, FUSE_TEST8_RR, FUSE_TEST8_RI,
	FUSE_TEST8_MI, FUSE_ADD_RI, FUSE_SUB_RI, FUSE_AND_RI, FUSE_ADD_RR, FUSE_SUB_RR, FUSE_AND_RR, FUSE_OR_RR,
	FUSE_INC, FUSE_DEC, FUSE_KINDS
};
extern handler *const fused_table[16][FUSE_KINDS];
extern handler *const fused_side_table[16][FUSE_KINDS];	/* in the middle of a block */

H(h_slow); H(h_slow_end); H(h_slow_last); H(h_slow_jump); H(h_fall); H(h_stale); H(h_breakpoint); H(h_nop);
H(h_mov32_ri); H(h_lea32); H(h_lea_g);
H(h_push32_rf); H(h_push32_if); H(h_push32_mf); H(h_pop32_rf); H(h_leave32_f);
H(h_jmp); H(h_call_f); H(h_ret_f); H(h_jmp_r); H(h_jmp_mf); H(h_call_rf); H(h_call_mf);
H(h_imul32_rr); H(h_imul32_rmf); H(h_imul32_rri); H(h_imul32_dead_rr); H(h_imul32_dead_rri); H(h_cdq); H(h_bswap32); H(h_xchg32_rr);
H(h_loop);

/* What moves eight bytes by way of two registers does it at once from now on. */
void move_pairs(struct op *op, uint32_t count);

/* Simple instructions in a row are done by the handler of the first from now on: compound.c. */
void compound(struct op *op, uint32_t count);

/* Go on at v->eip: the first op of the block there, or NULL when the run loop must look at events. */
const struct op *dispatch(struct vcpu *v, struct engine *e);

#endif
