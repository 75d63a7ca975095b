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
	CORE_SCALAR(name##ss, d) BINARY(name##ss, source4, tiny_ss)		\
	CORE_SCALAR(name##sd, q) BINARY(name##sd, source8, tiny_sd)
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
CORE_SCALAR(rcpss, d) BINARY(rcpss, source4, TINY_NONE)
CORE_SCALAR(rsqrtss, d) BINARY(rsqrtss, source4, TINY_NONE)

/* ---- CMPccPS and its like: the predicate is in the immediate's low three bits ---------------------- */

#define COMPARE_CORES(kind, CORE)							\
	CORE(cmpeq##kind) CORE(cmplt##kind) CORE(cmple##kind) CORE(cmpunord##kind)	\
	CORE(cmpneq##kind) CORE(cmpnlt##kind) CORE(cmpnle##kind) CORE(cmpord##kind)
#define CORE_SS(name) CORE_SCALAR(name, d)
#define CORE_SD(name) CORE_SCALAR(name, q)

#define PREDICATES(kind, RUN)								\
	switch (op->imm & 7) {								\
	case 0: RUN(x_cmpeq##kind); break;						\
	case 1: RUN(x_cmplt##kind); break;						\
	case 2: RUN(x_cmple##kind); break;						\
	case 3: RUN(x_cmpunord##kind); break;						\
	case 4: RUN(x_cmpneq##kind); break;						\
	case 5: RUN(x_cmpnlt##kind); break;						\
	case 6: RUN(x_cmpnle##kind); break;						\
	default: RUN(x_cmpord##kind); break;						\
	}
#define RUN_SLOW(core) run(e, core, sse_reg(e, op), s, TINY_NONE)
#define RUN_FAST(core) core(FAST_REG, s)

#define COMPARE(kind, source, CORE)							\
	COMPARE_CORES(kind, CORE)							\
	INSTRUCTION(cmp##kind, source, PREDICATES(kind, RUN_SLOW), PREDICATES(kind, RUN_FAST))

COMPARE(ps, source16, CORE_PS)
COMPARE(pd, source16, CORE_PS)
COMPARE(ss, source4, CORE_SS)
COMPARE(sd, source8, CORE_SD)

/* ---- COMIS, UCOMIS: d comes in as the register and goes out as EFLAGS ------------------------------- */

#define FLAGS(name, move, lane, source)							\
static inline uint32_t									\
compare_##name(const union xmm *d, const union xmm *s)					\
{											\
	uint32_t z, p, c;								\
											\
	__asm__ volatile(move " %3, %%xmm0\n\t" #name " %4, %%xmm0"			\
	    : "=@ccz"(z), "=@ccp"(p), "=@ccc"(c) : "m"(d->lane[0]), "m"(s->lane[0]) : "xmm0");	\
	return c | p << 2 | z << 6;							\
}											\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	d->d[0] = compare_##name(d, s);							\
}											\
static inline void									\
flags_##name(struct engine *e, const struct op *op, const union xmm *s)			\
{											\
	union xmm io = *sse_reg(e, op);							\
											\
	run(e, x_##name, &io, s, TINY_NONE);						\
	lf_put(e, io.d[0]);								\
}											\
INSTRUCTION(name, source, flags_##name(e, op, s), lf_put(e, compare_##name(FAST_REG, s)))

FLAGS(comiss, "movss", d, source4)
FLAGS(ucomiss, "movss", d, source4)
FLAGS(comisd, "movsd", q, source8)
FLAGS(ucomisd, "movsd", q, source8)

/* ---- pairs ---------------------------------------------------------------------------------------- */

/*
 * Instructions that compilers put behind one another and where the second, on registers, uses what the
 * first has made: the value need not go by way of memory.  Behind F4 the second cannot fault; when the
 * first is not for a fast handler, it falls back alone, and the second runs by its own handler.
 */
/* A product, and a sum or difference of it. */
#define PRODUCT(mul, add, source)							\
static inline void									\
x_##mul##_##add(union xmm *d, union xmm *sum, const union xmm *s)			\
{											\
	__asm__ volatile("movups %0, %%xmm0\n\t" #mul " %2, %%xmm0\n\tmovups %%xmm0, %0\n\t"	\
	    "movups %1, %%xmm1\n\t" #add " %%xmm0, %%xmm1\n\tmovups %%xmm1, %1"		\
	    : "+m"(*d), "+m"(*sum) : "m"(*s) : "xmm0", "xmm1");				\
}											\
static H(hr_##mul##_##add)								\
{											\
	SSE_FAST;									\
	x_##mul##_##add(FAST_REG, XMM_AT(op[1].xmm_reg), FAST_RM);			\
	NEXT_BUT_ONE;									\
}											\
static H(hb_##mul##_##add)								\
{											\
	PRODUCT_MEMORY(mul, add, source, EA_b(128, 0));					\
}											\
static H(hf_##mul##_##add)								\
{											\
	PRODUCT_MEMORY(mul, add, source, EA_f(128, 0));					\
}
#define PRODUCT_MEMORY(mul, add, source, linear)					\
	const union xmm *s = fast_##source(linear);					\
											\
	if (unlikely(s == NULL))						\
		return h_slow(v, op, e);						\
	x_##mul##_##add(FAST_REG, XMM_AT(op[1].xmm_reg), s);				\
	NEXT_BUT_ONE

#define PRODUCTS(X)									\
	X(mulps, addps, source16) X(mulpd, addpd, source16) X(mulss, addss, source4) X(mulsd, addsd, source8)	\
	X(mulps, subps, source16) X(mulpd, subpd, source16) X(mulss, subss, source4) X(mulsd, subsd, source8)

PRODUCTS(PRODUCT)

handler *
simd_pair(const struct op *first, const struct op *second)
{
#define ROW(mul, add, source)								\
	{ hr_##mul, hr_##add, hr_##mul##_##add }, { hb_##mul, hr_##add, hb_##mul##_##add },	\
	{ hf_##mul, hr_##add, hf_##mul##_##add },
	static const struct { handler *first, *second, *both; } pairs[] = { PRODUCTS(ROW) };
#undef ROW

	if (second->xmm_rm != first->xmm_reg)
		return NULL;
	for (uint32_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
		if (pairs[i].first == first->fn && pairs[i].second == second->fn)
			return pairs[i].both;
	return sse_move_pair(first, second);
}

/* ---- the map -------------------------------------------------------------------------------------- */

static struct forms
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
	default: return UNDEFINED;
	}
#undef ROW
}

struct forms
simd_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm)
{
	struct forms found = UNDEFINED;

	if (prefix == 0)
		found = mmx_lookup(opcode, modrm);
	else if (prefix == 0x66)
		found = sse_int_lookup(opcode, modrm);
	if (found.slow == NULL)
		found = sse_move_lookup(opcode, prefix, modrm);
	if (found.slow == NULL)
		found = sse_float_lookup(opcode, prefix, modrm);
	if (found.slow == NULL)
		found = sse_convert_lookup(opcode, prefix, modrm);
	return found;
}

#else

struct forms
simd_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm)
{
	(void)opcode;
	(void)prefix;
	(void)modrm;
	return UNDEFINED;
}

#endif
