/*
 * fpu_ops.c -- x87 operations: one small function for each, and the map by which the decoder
 * finds it.
 *
 * A register form is executed by the host as the very bytes that the guest has, so aliases
 * (DC D0.., D9 D8.., DF D0..) do what silicon does.  A memory form is the host's instruction on
 * a host pointer.  FNOP, FFREE, FFREEP, FINCSTP and FDECSTP are control instructions: they leave
 * FOP, FIP and FDP alone (SDM volume 1, 5.2.6 and 8.1.8).
 *
 * f_ are slow instructions; h_ fast handlers, b_ those of a memory operand without an index.
 *
 * FISTTP is SSE3's and #UD.
 *
 * Source: Intel SDM volume 2, appendix A.5; opcode map of sandpile.org for the aliases.
 */
#include "fpu.h"

#if defined(__x86_64__)

/* ---- register forms ------------------------------------------------------------------ */

#define EXECUTE(code, modrm) __asm__ volatile(".byte 0x" #code ", 0x" #modrm)
#define FOP(code, modrm) ((0x##code & 7u) << 8 | 0x##modrm)

/* F4, or the slow form. */
#define X87_FAST									\
	if (unlikely(e->x87_slow))							\
		return h_slow(v, op, e)

/* An operation on registers, which may raise. */
#define REG(code, modrm)									\
static void										\
f_##code##_##modrm(struct engine *e, const struct op *o)					\
{											\
	x87_begin(e);									\
	x87_record(e, o);								\
	EXECUTE(code, modrm);								\
	x87_end(e);									\
}											\
static H(h_##code##_##modrm)								\
{											\
	X87_FAST;									\
	x87_record(e, op);								\
	EXECUTE(code, modrm);								\
	NEXT;										\
}

/* A control instruction on registers. */
#define CTL(code, modrm)									\
static void										\
f_##code##_##modrm(struct engine *e, const struct op *o)					\
{											\
	(void)o;									\
	x87_begin(e);									\
	EXECUTE(code, modrm);								\
	x87_end(e);									\
}

/*
 * FCOMI and its like.  "OF, SF and AF are set to 0"; whether an unmasked invalid operand leaves ZF,
 * PF and CF alone is the host's affair, so it is given the guest's flags when one may be.
 */
#define COMI(code, modrm)								\
static void										\
f_##code##_##modrm(struct engine *e, const struct op *o)				\
{											\
	uint32_t z, p, c;								\
											\
	x87_begin(e);									\
	x87_record(e, o);								\
	__asm__ volatile(WITH_FLAGS(".byte 0x" #code ", 0x" #modrm)			\
	    : "=@ccz"(z), "=@ccp"(p), "=@ccc"(c) : "r"((uint64_t)lf_get(e)));		\
	lf_put(e, c | p << 2 | z << 6);							\
	x87_end(e);									\
}											\
static H(h_##code##_##modrm)								\
{											\
	uint32_t z, p, c;								\
											\
	X87_FAST;									\
	x87_record(e, op);								\
	__asm__ volatile(".byte 0x" #code ", 0x" #modrm : "=@ccz"(z), "=@ccp"(p), "=@ccc"(c));	\
	lf_put(e, c | p << 2 | z << 6);							\
	NEXT;										\
}

/* `insn` with the flags of operand 3; the push must not land in the compiler's red zone. */
#define WITH_FLAGS(insn) "leaq -128(%%rsp), %%rsp\n\tpushq %3\n\tpopfq\n\t" insn "\n\tleaq 128(%%rsp), %%rsp"

/* FCMOVcc: the guest's condition becomes the host's CF, for FCMOVB (DA C0..). */
#define CMOV(code, modrm, i, condition)							\
static void										\
f_##code##_##modrm(struct engine *e, const struct op *o)					\
{											\
	x87_begin(e);									\
	x87_record(e, o);								\
	__asm__ volatile("btl $0, %0\n\t.byte 0xda, 0xc0 + " #i : : "r"((uint32_t)(condition)) : "cc");	\
	x87_end(e);									\
}

#define LOW8(X, code, row) X(code, row##0) X(code, row##1) X(code, row##2) X(code, row##3) \
	X(code, row##4) X(code, row##5) X(code, row##6) X(code, row##7)
#define HIGH8(X, code, row) X(code, row##8) X(code, row##9) X(code, row##A) X(code, row##B) \
	X(code, row##C) X(code, row##D) X(code, row##E) X(code, row##F)
#define ROW(X, code, row) LOW8(X, code, row) HIGH8(X, code, row)
#define CMOV_LOW8(code, row, condition) CMOV(code, row##0, 0, condition) CMOV(code, row##1, 1, condition)	\
	CMOV(code, row##2, 2, condition) CMOV(code, row##3, 3, condition) CMOV(code, row##4, 4, condition)	\
	CMOV(code, row##5, 5, condition) CMOV(code, row##6, 6, condition) CMOV(code, row##7, 7, condition)
#define CMOV_HIGH8(code, row, condition) CMOV(code, row##8, 0, condition) CMOV(code, row##9, 1, condition)	\
	CMOV(code, row##A, 2, condition) CMOV(code, row##B, 3, condition) CMOV(code, row##C, 4, condition)	\
	CMOV(code, row##D, 5, condition) CMOV(code, row##E, 6, condition) CMOV(code, row##F, 7, condition)

/*
 * The map of register forms, by kind.  D9 E0..FF: FCHS FABS - - FTST FXAM - - FLD1 FLDL2T FLDL2E
 * FLDPI FLDLG2 FLDLN2 FLDZ - F2XM1 FYL2X FPTAN FPATAN FXTRACT FPREM1 FDECSTP FINCSTP FPREM
 * FYL2XP1 FSQRT FSINCOS FRNDINT FSCALE FSIN FCOS.
 */
#define REG_FORMS(X)									\
	ROW(X, D8, C) ROW(X, D8, D) ROW(X, D8, E) ROW(X, D8, F)				\
	ROW(X, D9, C) HIGH8(X, D9, D)							\
	X(D9, E0) X(D9, E1) X(D9, E4) X(D9, E5)						\
	X(D9, E8) X(D9, E9) X(D9, EA) X(D9, EB) X(D9, EC) X(D9, ED) X(D9, EE)		\
	X(D9, F0) X(D9, F1) X(D9, F2) X(D9, F3) X(D9, F4) X(D9, F5) HIGH8(X, D9, F)	\
	X(DA, E9)									\
	ROW(X, DC, C) ROW(X, DC, D) ROW(X, DC, E) ROW(X, DC, F)				\
	HIGH8(X, DD, C) ROW(X, DD, D) ROW(X, DD, E)					\
	ROW(X, DE, C) LOW8(X, DE, D) X(DE, D9) ROW(X, DE, E) ROW(X, DE, F)		\
	HIGH8(X, DF, C) ROW(X, DF, D)

#define CTL_FORMS(X) X(D9, D0) X(D9, F6) X(D9, F7) LOW8(X, DD, C) LOW8(X, DF, C)
#define COMI_FORMS(X) HIGH8(X, DB, E) LOW8(X, DB, F) HIGH8(X, DF, E) LOW8(X, DF, F)
#define CMOV_FORMS(X) ROW(X, DA, C) ROW(X, DA, D) ROW(X, DB, C) ROW(X, DB, D)

REG_FORMS(REG)
CTL_FORMS(CTL)
COMI_FORMS(COMI)
CMOV_LOW8(DA, C, CC_B(e))
CMOV_HIGH8(DA, C, CC_Z(e))
CMOV_LOW8(DA, D, CC_BE(e))
CMOV_HIGH8(DA, D, CC_P(e))
CMOV_LOW8(DB, C, CC_NB(e))
CMOV_HIGH8(DB, C, CC_NZ(e))
CMOV_LOW8(DB, D, CC_NBE(e))
CMOV_HIGH8(DB, D, CC_NP(e))

/* ---- memory forms ------------------------------------------------------------------------ */

struct bytes2 { uint8_t b[2]; } __attribute__((may_alias));
struct bytes4 { uint8_t b[4]; } __attribute__((may_alias));
struct bytes8 { uint8_t b[8]; } __attribute__((may_alias));
struct bytes10 { uint8_t b[10]; } __attribute__((may_alias));

/* Reads `size` bytes and operates. */
#define LOAD(name, insn, size)								\
static void										\
f_##name(struct engine *e, const struct op *op)						\
{											\
	struct bytes##size buffer;							\
	const struct bytes##size *p;							\
	uint32_t offset;								\
											\
	x87_begin(e);									\
	offset = operand_offset(e, op);							\
	p = operand_bytes(e, operand_linear(e, op, offset, size, 0), size, &buffer);	\
	x87_record_operand(e, op, offset);						\
	__asm__ volatile(insn " %0" : : "m"(*p));					\
	x87_end(e);									\
}											\
static H(b_##name)									\
{											\
	LOAD_FORM(insn, size, EA_b(size * 8, 0));					\
}											\
static H(h_##name)									\
{											\
	LOAD_FORM(insn, size, EA_f(size * 8, 0));					\
}

#define LOAD_FORM(insn, size, ea)							\
	const uint32_t linear = (ea);							\
	const struct bytes##size *p = fast_read(e->tlb_x87, linear, size);		\
											\
	if (unlikely(p == NULL))						\
		return h_slow(v, op, e);						\
	x87_record_operand(e, op, linear);						\
	__asm__ volatile(insn " %0" : : "m"(*p));					\
	NEXT

/* Writes `size` bytes.  The host writes nothing if an unmasked exception forbids it. */
#define STORE(name, insn, size)								\
static void										\
s_##name(void *to)									\
{											\
	__asm__ volatile(insn " %0" : "+m"(*(struct bytes##size *)to));			\
}											\
static void										\
f_##name(struct engine *e, const struct op *op)						\
{											\
	uint32_t offset, linear;							\
	void *p;									\
											\
	x87_begin(e);									\
	offset = operand_offset(e, op);							\
	linear = operand_linear(e, op, offset, size, PF_W);				\
	p = tlb_write_ptr(e, linear, size);						\
	if (unlikely(p == NULL)) {							\
		x87_store_slow(e, linear, size, s_##name);				\
		x87_record_operand(e, op, offset);					\
		return;									\
	}										\
	x87_record_operand(e, op, offset);						\
	s_##name(p);									\
	x87_end(e);									\
}											\
static H(b_##name)									\
{											\
	STORE_FORM(name, size, EA_b(size * 8, PF_W));					\
}											\
static H(h_##name)									\
{											\
	STORE_FORM(name, size, EA_f(size * 8, PF_W));					\
}

#define STORE_FORM(name, size, ea)							\
	const uint32_t linear = (ea);							\
	void *p = fast_write(e->tlb_x87, linear, size);					\
											\
	if (unlikely(p == NULL))						\
		return h_slow(v, op, e);						\
	x87_record_operand(e, op, linear);						\
	s_##name(p);									\
	NEXT

LOAD(fadd_m32, "fadds", 4) LOAD(fmul_m32, "fmuls", 4) LOAD(fcom_m32, "fcoms", 4) LOAD(fcomp_m32, "fcomps", 4)
LOAD(fsub_m32, "fsubs", 4) LOAD(fsubr_m32, "fsubrs", 4) LOAD(fdiv_m32, "fdivs", 4) LOAD(fdivr_m32, "fdivrs", 4)
LOAD(fadd_m64, "faddl", 8) LOAD(fmul_m64, "fmull", 8) LOAD(fcom_m64, "fcoml", 8) LOAD(fcomp_m64, "fcompl", 8)
LOAD(fsub_m64, "fsubl", 8) LOAD(fsubr_m64, "fsubrl", 8) LOAD(fdiv_m64, "fdivl", 8) LOAD(fdivr_m64, "fdivrl", 8)
LOAD(fiadd_m32, "fiaddl", 4) LOAD(fimul_m32, "fimull", 4) LOAD(ficom_m32, "ficoml", 4) LOAD(ficomp_m32, "ficompl", 4)
LOAD(fisub_m32, "fisubl", 4) LOAD(fisubr_m32, "fisubrl", 4) LOAD(fidiv_m32, "fidivl", 4) LOAD(fidivr_m32, "fidivrl", 4)
LOAD(fiadd_m16, "fiadds", 2) LOAD(fimul_m16, "fimuls", 2) LOAD(ficom_m16, "ficoms", 2) LOAD(ficomp_m16, "ficomps", 2)
LOAD(fisub_m16, "fisubs", 2) LOAD(fisubr_m16, "fisubrs", 2) LOAD(fidiv_m16, "fidivs", 2) LOAD(fidivr_m16, "fidivrs", 2)
LOAD(fld_m32, "flds", 4) LOAD(fld_m64, "fldl", 8) LOAD(fld_m80, "fldt", 10) LOAD(fbld, "fbld", 10)
LOAD(fild_m16, "filds", 2) LOAD(fild_m32, "fildl", 4) LOAD(fild_m64, "fildll", 8)

STORE(fst_m32, "fsts", 4) STORE(fstp_m32, "fstps", 4) STORE(fst_m64, "fstl", 8) STORE(fstp_m64, "fstpl", 8)
STORE(fstp_m80, "fstpt", 10) STORE(fbstp, "fbstp", 10)
STORE(fist_m16, "fists", 2) STORE(fistp_m16, "fistps", 2) STORE(fist_m32, "fistl", 4) STORE(fistp_m32, "fistpl", 4)
STORE(fistp_m64, "fistpll", 8)

/* FNSTSW AX. */
static H(h_fnstsw_ax)
{
	X87_FAST;
	R32(EAX) = (R32(EAX) & 0xffff0000u) | host_fsw();
	NEXT;
}

/* FLDCW and FNSTCW surround every conversion to an integer that C asks for. */
#define CONTROL_FORMS(suffix, EA)							\
static H(suffix##_fldcw)								\
{											\
	const uint32_t linear = EA(16, 0);						\
	const void *p = fast_read(e->tlb_x87, linear, 2);				\
	uint16_t cw;									\
											\
	if (unlikely(p == NULL))							\
		return h_slow(v, op, e);						\
	cw = fcw_defined(host_ld16(p));							\
	if (unlikely(~cw & FCW_MASKS))							\
		return h_slow(v, op, e);						\
	__asm__ volatile("fldcw %0" : : "m"(cw));					\
	NEXT;										\
}											\
static H(suffix##_fnstcw)								\
{											\
	const uint32_t linear = EA(16, PF_W);						\
	struct bytes2 *p = fast_write(e->tlb_x87, linear, 2);				\
											\
	if (unlikely(p == NULL))							\
		return h_slow(v, op, e);						\
	__asm__ volatile("fnstcw %0" : "=m"(*p));					\
	NEXT;										\
}

CONTROL_FORMS(b, EA_b)
CONTROL_FORMS(h, EA_f)

#define BOTH(name) MEM_FORM(f_##name, b_##name, h_##name)

static struct forms
memory_form(uint32_t opcode, uint8_t modrm)
{
	switch ((opcode & 7) << 3 | (modrm >> 3 & 7)) {
	case 000: return BOTH(fadd_m32);
	case 001: return BOTH(fmul_m32);
	case 002: return BOTH(fcom_m32);
	case 003: return BOTH(fcomp_m32);
	case 004: return BOTH(fsub_m32);
	case 005: return BOTH(fsubr_m32);
	case 006: return BOTH(fdiv_m32);
	case 007: return BOTH(fdivr_m32);
	case 010: return BOTH(fld_m32);
	case 012: return BOTH(fst_m32);
	case 013: return BOTH(fstp_m32);
	case 014: return SLOW_FORM(x87_fldenv);
	case 015: return MEM_FORM(x87_fldcw, b_fldcw, h_fldcw);
	case 016: return SLOW_FORM(x87_fnstenv);
	case 017: return MEM_FORM(x87_fnstcw, b_fnstcw, h_fnstcw);
	case 020: return BOTH(fiadd_m32);
	case 021: return BOTH(fimul_m32);
	case 022: return BOTH(ficom_m32);
	case 023: return BOTH(ficomp_m32);
	case 024: return BOTH(fisub_m32);
	case 025: return BOTH(fisubr_m32);
	case 026: return BOTH(fidiv_m32);
	case 027: return BOTH(fidivr_m32);
	case 030: return BOTH(fild_m32);
	case 032: return BOTH(fist_m32);
	case 033: return BOTH(fistp_m32);
	case 035: return BOTH(fld_m80);
	case 037: return BOTH(fstp_m80);
	case 040: return BOTH(fadd_m64);
	case 041: return BOTH(fmul_m64);
	case 042: return BOTH(fcom_m64);
	case 043: return BOTH(fcomp_m64);
	case 044: return BOTH(fsub_m64);
	case 045: return BOTH(fsubr_m64);
	case 046: return BOTH(fdiv_m64);
	case 047: return BOTH(fdivr_m64);
	case 050: return BOTH(fld_m64);
	case 052: return BOTH(fst_m64);
	case 053: return BOTH(fstp_m64);
	case 054: return SLOW_FORM(x87_frstor);
	case 056: return SLOW_FORM(x87_fnsave);
	case 057: return SLOW_FORM(x87_fnstsw);
	case 060: return BOTH(fiadd_m16);
	case 061: return BOTH(fimul_m16);
	case 062: return BOTH(ficom_m16);
	case 063: return BOTH(ficomp_m16);
	case 064: return BOTH(fisub_m16);
	case 065: return BOTH(fisubr_m16);
	case 066: return BOTH(fidiv_m16);
	case 067: return BOTH(fidivr_m16);
	case 070: return BOTH(fild_m16);
	case 072: return BOTH(fist_m16);
	case 073: return BOTH(fistp_m16);
	case 074: return BOTH(fbld);
	case 075: return BOTH(fild_m64);
	case 076: return BOTH(fbstp);
	case 077: return BOTH(fistp_m64);
	default: return UNDEFINED;
	}
}

#define FAST(code, modrm) case FOP(code, modrm): return REG_FORM(f_##code##_##modrm, h_##code##_##modrm);
#define ONLY(code, modrm) case FOP(code, modrm): return SLOW_FORM(f_##code##_##modrm);

struct forms
fpu_lookup(uint32_t opcode, uint8_t modrm)
{
	if (modrm < 0xc0)
		return memory_form(opcode, modrm);
	switch ((opcode & 7) << 8 | modrm) {
	REG_FORMS(FAST)
	CTL_FORMS(ONLY)
	COMI_FORMS(FAST)
	CMOV_FORMS(ONLY)
	case FOP(DB, E0):
	case FOP(DB, E1):
	case FOP(DB, E4):
		return SLOW_FORM(x87_fnop_nowait);
	case FOP(DB, E2):
		return SLOW_FORM(x87_fnclex);
	case FOP(DB, E3):
		return SLOW_FORM(x87_fninit);
	case FOP(DF, E0):
		return REG_FORM(x87_fnstsw_ax, h_fnstsw_ax);
	default:
		return UNDEFINED;
	}
}

#else

struct forms
fpu_lookup(uint32_t opcode, uint8_t modrm)
{
	(void)opcode;
	(void)modrm;
	return UNDEFINED;
}

#endif
