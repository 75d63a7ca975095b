/*
 * insns.h -- slow instructions of the integer files: shift.c, muldiv.c, move.c, string.c, atomic.c.
 * Each runs one instruction; what it takes from its op is said where it is defined.
 */
#ifndef RF_INSNS_H
#define RF_INSNS_H

#include "engine.h"

slow_insn i_shld, i_shrd, i_shld_cl, i_shrd_cl, i_bt_reg, i_bt_imm, i_bsf, i_bsr, i_tzcnt;
slow_insn i_mul, i_imul, i_div, i_idiv, i_imul_rm, i_imul_rmi;
slow_insn i_daa, i_das, i_aaa, i_aas, i_aam, i_aad;
slow_insn i_xchg_rm, i_xlat, i_sahf, i_lahf, i_cmc, i_clc, i_stc, i_cld, i_std, i_salc, i_cbw, i_cwd;
slow_insn i_bswap, i_cmov, i_push_reg, i_push_imm, i_push_rm, i_pop_reg, i_pop_rm, i_leave, i_mov_from_sreg;
slow_insn i_jmp_near_rm, i_call_near_rm, i_call_rel, i_ret;
slow_insn i_movs, i_cmps, i_stos, i_lods, i_scas, i_ins, i_outs;
slow_insn i_locked_alu, i_locked_unary, i_cmpxchg, i_cmpxchg8b, i_xadd;

/* Atomically replace the `size` bytes at `linear` by change(what, old, operand); returns old. */
uint32_t atomic_update(struct engine *e, uint32_t linear, uint32_t size,
    uint32_t (*change)(uint32_t what, uint32_t old, uint32_t operand), uint32_t what, uint32_t operand);

#endif
