/*
 * slow.h -- slow instructions of segments, control transfer, system state and I/O.
 *
 * F: falls through; E: ends the block, going on at next_eip; J: has set v->eip.  Operands:
 * op->reg and op->rm as ModRM has them, op->imm an immediate or offset, op->imm16 a selector.
 */
#ifndef RF_SLOW_H
#define RF_SLOW_H

#include "engine.h"

/* segment.c */
slow_insn i_mov_sreg;		/* E: reg the segment register, rm the source */
slow_insn i_pop_sreg;		/* E: reg */
slow_insn i_push_sreg;		/* F: reg */
slow_insn i_lxs;		/* E: imm2 the segment register, reg the offset's destination */

/* descriptor.c */
slow_insn i_verr, i_verw, i_lar, i_lsl, i_arpl;	/* F */
slow_insn i_sldt, i_str;	/* F */
slow_insn i_lldt, i_ltr;	/* E */
slow_insn i_sgdt, i_sidt;	/* F */
slow_insn i_lgdt, i_lidt;	/* E */

/* stack.c */
slow_insn i_enter;		/* F: imm16 bytes, imm2 level */
slow_insn i_pusha, i_popa;	/* F */
slow_insn i_pushf;		/* F */
slow_insn i_popf;		/* E */
slow_insn i_cli;		/* F */
slow_insn i_sti;		/* E: sets v->inhibit */
slow_insn i_bound;		/* F */

/* transfer.c */
slow_insn i_jmp_far, i_call_far;	/* J: imm16:imm */
slow_insn i_jmp_far_m, i_call_far_m;	/* J */
slow_insn i_retf;		/* J */
slow_insn i_retf_imm;		/* J: imm16 bytes */
slow_insn i_sysenter, i_sysexit;	/* J */

/* deliver.c, iret.c */
slow_insn i_int;		/* J: imm the vector */
slow_insn i_int3, i_icebp;	/* J */
slow_insn i_into;		/* J: to next_eip when OF is clear */
slow_insn i_iret;		/* J */

/* system.c */
slow_insn i_mov_from_cr, i_mov_from_dr;	/* F: reg the control register, rm the general one */
slow_insn i_mov_to_cr, i_mov_to_dr;	/* E */
slow_insn i_smsw;		/* F */
slow_insn i_lmsw, i_clts, i_invlpg;	/* E */
slow_insn i_hlt;		/* E: sets v->activity */
slow_insn i_wbinvd, i_invd;	/* E: serialising */
slow_insn i_pause;		/* F: only with several vCPUs, else a NOP */
slow_insn i_ud, i_gp;		/* J: #UD, #GP(0) */

/* msr.c */
slow_insn i_rdmsr, i_rdtsc, i_rdpmc;	/* F */
slow_insn i_wrmsr, i_cpuid;	/* E: serialising */

/* ioport.c */
slow_insn i_in_imm, i_out_imm;	/* F: imm the port, imm2 the size in bytes */
slow_insn i_in_dx, i_out_dx;	/* F: imm2 the size in bytes */

#endif
