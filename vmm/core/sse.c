/*
 * sse.c -- SSE and SSE2 floating-point arithmetic and comparison, and the map of all 0F opcodes of
 * MMX, SSE and SSE2.
 *
 * SSE3 and later are #UD.  Of an unmasked overflow or underflow the flags OE and UE are exact; PE
 * beside them is that of the masked result, where silicon tells whether the result with an unbounded
 * exponent would be inexact.
 *
 * Source: Intel SDM volume 1, 10.4, 11.4 and 11.5; volume 2, A.3.
 */
#include "sse_core.h"

#if defined(__x86_64__)

static bool
tiny32(uint32_t x)
{
	return !(x & 0x7f800000u) && (x & 0x007fffffu);
}

static bool
tiny64(uint64_t x)
{
	return !(x & 0x7ff0000000000000ull) && (x & 0x000fffffffffffffull);
}

static bool
result_is_tiny(const union xmm *r, enum tiny where)
{
	switch (where) {
	case TINY_SS: return tiny32(r->d[0]);
	case TINY_PS: return tiny32(r->d[0]) || tiny32(r->d[1]) || tiny32(r->d[2]) || tiny32(r->d[3]);
	case TINY_SD: return tiny64(r->q[0]);
	case TINY_PD: return tiny64(r->q[0]) || tiny64(r->q[1]);
	default: return false;
	}
}

/* core on a copy, under masks; the flags that it raises. */
static uint32_t
run_masked(core_fn *core, union xmm *copy, const union xmm *s, uint32_t mxcsr, enum tiny tiny)
{
	const bool underflow_unmasked = !(mxcsr & MXCSR_UE << MXCSR_MASK_SHIFT);
	uint32_t control = (mxcsr & ~(uint32_t)MXCSR_FLAGS) | MXCSR_MASKS, flags;

	if (underflow_unmasked)	/* "flush to zero is ignored if the underflow exception is not masked" */
		control &= ~(uint32_t)MXCSR_FTZ;
	__asm__ volatile("ldmxcsr %0" : : "m"(control));
	core(copy, s);
	__asm__ volatile("stmxcsr %0" : "=m"(flags));
	flags &= MXCSR_FLAGS;
	if (underflow_unmasked && result_is_tiny(copy, tiny))
		flags |= MXCSR_UE;
	return flags;
}

/* Pre-computation exceptions, when unmasked, keep the others from being found. */
NOINLINE void
sse_run_checked(struct engine *e, core_fn *core, union xmm *d, const union xmm *s, enum tiny tiny)
{
	const uint32_t before = MXCSR_IE | MXCSR_DE | MXCSR_ZE;
	struct fx_image *fx = fx_of(e);
	union xmm copy = *d;
	uint32_t flags, unmasked;

	sse_fold(e);
	flags = run_masked(core, &copy, s, fx->mxcsr, tiny);
	unmasked = flags & ~(fx->mxcsr >> MXCSR_MASK_SHIFT) & MXCSR_FLAGS;
	if (unmasked & before)
		flags &= before;
	sse_load_mxcsr(e, fx->mxcsr | flags);
	if (!unmasked) {
		*d = copy;
		return;
	}
	if (e->v->cr4 & CR4_OSXMMEXCPT)
		raise_noerr(e, V_XM);
	raise_ud(e);
}

/* ---- arithmetic -------------------------------------------------------------------------------- */

#define ARITHMETIC(name, tiny_ps, tiny_ss, tiny_pd, tiny_sd)				\
	CORE_PS(name##ps) BINARY(name##ps, source16, tiny_ps)				\
	CORE_PS(name##pd) BINARY(name##pd, source16, tiny_pd)				\
	CORE_SCALAR(name##ss, "movss", d) BINARY(name##ss, source4, tiny_ss)		\
	CORE_SCALAR(name##sd, "movsd", q) BINARY(name##sd, source8, tiny_sd)
#define CAN_BE_TINY(name) ARITHMETIC(name, TINY_PS, TINY_SS, TINY_PD, TINY_SD)
#define NEVER_TINY(name) ARITHMETIC(name, TINY_NONE, TINY_NONE, TINY_NONE, TINY_NONE)

CAN_BE_TINY(add)
CAN_BE_TINY(mul)
CAN_BE_TINY(sub)
CAN_BE_TINY(div)
NEVER_TINY(min)
NEVER_TINY(max)
NEVER_TINY(sqrt)

/* RCP and RSQRT raise nothing. */
CORE_PS(rcpps) BINARY(rcpps, source16, TINY_NONE)
CORE_PS(rsqrtps) BINARY(rsqrtps, source16, TINY_NONE)
CORE_SCALAR(rcpss, "movss", d) BINARY(rcpss, source4, TINY_NONE)
CORE_SCALAR(rsqrtss, "movss", d) BINARY(rsqrtss, source4, TINY_NONE)

/* ---- CMPccPS and its like: the predicate is in the immediate's low three bits ---------------------- */

#define COMPARE_CORES(kind, CORE)							\
	CORE(cmpeq##kind) CORE(cmplt##kind) CORE(cmple##kind) CORE(cmpunord##kind)	\
	CORE(cmpneq##kind) CORE(cmpnlt##kind) CORE(cmpnle##kind) CORE(cmpord##kind)
#define CORE_SS(name) CORE_SCALAR(name, "movss", d)
#define CORE_SD(name) CORE_SCALAR(name, "movsd", q)

#define COMPARE(kind, source, CORE)							\
COMPARE_CORES(kind, CORE)								\
static void										\
compare_##kind(struct engine *e, const struct op *op, const union xmm *s)		\
{											\
	union xmm *d = sse_reg(e, op);							\
											\
	switch (op->imm & 7) {								\
	case 0: run(e, x_cmpeq##kind, d, s, TINY_NONE); break;				\
	case 1: run(e, x_cmplt##kind, d, s, TINY_NONE); break;				\
	case 2: run(e, x_cmple##kind, d, s, TINY_NONE); break;				\
	case 3: run(e, x_cmpunord##kind, d, s, TINY_NONE); break;			\
	case 4: run(e, x_cmpneq##kind, d, s, TINY_NONE); break;				\
	case 5: run(e, x_cmpnlt##kind, d, s, TINY_NONE); break;				\
	case 6: run(e, x_cmpnle##kind, d, s, TINY_NONE); break;				\
	default: run(e, x_cmpord##kind, d, s, TINY_NONE); break;			\
	}										\
}											\
static void										\
r_cmp##kind(struct engine *e, const struct op *op)					\
{											\
	sse_begin(e);									\
	compare_##kind(e, op, sse_rm(e, op));						\
}											\
static void										\
m_cmp##kind(struct engine *e, const struct op *op)					\
{											\
	union xmm buffer;								\
											\
	sse_begin(e);									\
	compare_##kind(e, op, source(e, op, &buffer));					\
}

COMPARE(ps, source16, CORE_PS)
COMPARE(pd, source16, CORE_PS)
COMPARE(ss, source4, CORE_SS)
COMPARE(sd, source8, CORE_SD)

/* ---- COMIS, UCOMIS: d comes in as the register and goes out as EFLAGS ------------------------------- */

#define CORE_FLAGS(name, move, lane)							\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	uint32_t z, p, c;								\
											\
	__asm__ volatile(move " %3, %%xmm0\n\t" #name " %4, %%xmm0"			\
	    : "=@ccz"(z), "=@ccp"(p), "=@ccc"(c) : "m"(d->lane[0]), "m"(s->lane[0]) : "xmm0");	\
	d->d[0] = c | p << 2 | z << 6;							\
}

#define FLAGS(name, move, lane, source)							\
CORE_FLAGS(name, move, lane)								\
static inline void									\
flags_##name(struct engine *e, const struct op *op, const union xmm *s)			\
{											\
	union xmm io = *sse_reg(e, op);							\
											\
	run(e, x_##name, &io, s, TINY_NONE);						\
	lf_put(e, io.d[0]);								\
}											\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	sse_begin(e);									\
	flags_##name(e, op, sse_rm(e, op));						\
}											\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm buffer;								\
											\
	sse_begin(e);									\
	flags_##name(e, op, source(e, op, &buffer));					\
}

FLAGS(comiss, "movss", d, source4)
FLAGS(ucomiss, "movss", d, source4)
FLAGS(comisd, "movsd", q, source8)
FLAGS(ucomisd, "movsd", q, source8)

/* ---- the map -------------------------------------------------------------------------------------- */

static slow_insn *
sse_float_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm)
{
#define ROW(code, name)									\
	case 0x##code: return PICK(name##ps);						\
	case 0x66##code: return PICK(name##pd);						\
	case 0xf3##code: return PICK(name##ss);						\
	case 0xf2##code: return PICK(name##sd);

	switch (prefix << 8 | opcode) {
	ROW(51, sqrt)
	ROW(58, add)
	ROW(59, mul)
	ROW(5c, sub)
	ROW(5d, min)
	ROW(5e, div)
	ROW(5f, max)
	ROW(c2, cmp)
	case 0x52: return PICK(rsqrtps);
	case 0xf352: return PICK(rsqrtss);
	case 0x53: return PICK(rcpps);
	case 0xf353: return PICK(rcpss);
	case 0x2e: return PICK(ucomiss);
	case 0x662e: return PICK(ucomisd);
	case 0x2f: return PICK(comiss);
	case 0x662f: return PICK(comisd);
	default: return NULL;
	}
#undef ROW
}

slow_insn *
simd_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm)
{
	slow_insn *found = NULL;

	if (prefix == 0)
		found = mmx_lookup(opcode, modrm);
	else if (prefix == 0x66)
		found = sse_int_lookup(opcode, modrm);
	if (found == NULL)
		found = sse_move_lookup(opcode, prefix, modrm);
	if (found == NULL)
		found = sse_float_lookup(opcode, prefix, modrm);
	if (found == NULL)
		found = sse_convert_lookup(opcode, prefix, modrm);
	return found;
}

#else

slow_insn *
simd_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm)
{
	(void)opcode;
	(void)prefix;
	(void)modrm;
	return NULL;
}

#endif
