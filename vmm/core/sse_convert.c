/*
 * sse_convert.c -- SSE and SSE2 conversions between integers, single and double precision.
 *
 * Those with an MMX register are run as the XMM conversion of two elements that they equal, so the
 * host's MMX state is not involved.  With a memory operand CVTPI2PS and CVTPI2PD touch no MMX
 * register and make no transition from x87 to MMX.
 *
 * Source: Intel SDM volume 1, 11.4.1.6; volume 2, CVTDQ2PD to CVTTSS2SI.
 */
#include "sse_core.h"

#if defined(__x86_64__)

/* ---- XMM to XMM ---------------------------------------------------------------------------- */

/* `load` reads s into xmm1, `store` writes as much of d as the instruction defines. */
#define CORE_CONVERT(name, insn, load, store)						\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile(load " %1, %%xmm1\n\t" insn " %%xmm1, %%xmm0\n\t" store " %%xmm0, %0"	\
	    : "+m"(*d) : "m"(*s) : "xmm0", "xmm1");					\
}

#define CONVERT(name, load, store, source, tiny) CORE_CONVERT(name, #name, load, store) BINARY(name, source, tiny)

CONVERT(cvtps2pd, "movq", "movups", source8, TINY_NONE)
CONVERT(cvtpd2ps, "movups", "movups", source16, TINY_PS)
CONVERT(cvtdq2ps, "movups", "movups", source16, TINY_NONE)
CONVERT(cvtps2dq, "movups", "movups", source16, TINY_NONE)
CONVERT(cvttps2dq, "movups", "movups", source16, TINY_NONE)
CONVERT(cvtdq2pd, "movq", "movups", source8, TINY_NONE)
CONVERT(cvtpd2dq, "movups", "movups", source16, TINY_NONE)
CONVERT(cvttpd2dq, "movups", "movups", source16, TINY_NONE)

/* The rest of the register stays. */
CORE_SCALAR(cvtss2sd, d) BINARY(cvtss2sd, source4, TINY_NONE)
CORE_SCALAR(cvtsd2ss, q) BINARY(cvtsd2ss, source8, TINY_SS)

/* ---- MMX to XMM ---------------------------------------------------------------------------- */

CORE_CONVERT(cvtpi2ps, "cvtdq2ps", "movq", "movlps")
CORE_CONVERT(cvtpi2pd, "cvtdq2pd", "movq", "movups")

#define FROM_MMX(name)									\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm s;									\
											\
	sse_begin(e);									\
	mmx_begin(e);									\
	s.q[0] = mmx_peek(e, op->rm);							\
	run(e, x_##name, sse_reg(e, op), &s, TINY_NONE);				\
	mmx_commit(e);									\
}											\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm buffer __attribute__((aligned(16)));								\
	const union xmm *s;								\
											\
	sse_begin(e);									\
	s = source8(e, op, &buffer);							\
	run(e, x_##name, sse_reg(e, op), s, TINY_NONE);					\
}

FROM_MMX(cvtpi2ps)
FROM_MMX(cvtpi2pd)

/* ---- XMM to MMX: the result is built in a register of ours ------------------------------------ */

CORE_CONVERT(cvtps2pi, "cvtps2dq", "movq", "movups")
CORE_CONVERT(cvttps2pi, "cvttps2dq", "movq", "movups")
CORE_CONVERT(cvtpd2pi, "cvtpd2dq", "movups", "movups")
CORE_CONVERT(cvttpd2pi, "cvttpd2dq", "movups", "movups")

#define TO_MMX(name, source)								\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm result = { .q = { 0, 0 } };						\
											\
	sse_begin(e);									\
	mmx_begin(e);									\
	run(e, x_##name, &result, sse_rm(e, op), TINY_NONE);				\
	mmx_commit(e);									\
	mmx_put(e, op->reg, result.q[0]);						\
}											\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm buffer __attribute__((aligned(16))), result = { .q = { 0, 0 } };					\
	const union xmm *s;								\
											\
	sse_begin(e);									\
	mmx_begin(e);									\
	s = source(e, op, &buffer);							\
	run(e, x_##name, &result, s, TINY_NONE);					\
	mmx_commit(e);									\
	mmx_put(e, op->reg, result.q[0]);						\
}

TO_MMX(cvtps2pi, source8)
TO_MMX(cvttps2pi, source8)
TO_MMX(cvtpd2pi, source16)
TO_MMX(cvttpd2pi, source16)

/* ---- general registers ------------------------------------------------------------------------ */

/* From r/m32. */
#define FROM_INTEGER(name)								\
	CORE_LOW(name, #name "l", d)							\
	INSTRUCTION_FROM(name, source4, GENERAL(e->v, op->rm), GENERAL(v, op->rm),	\
	    run(e, x_##name, sse_reg(e, op), s, TINY_NONE), x_##name(FAST_REG, s))

FROM_INTEGER(cvtsi2ss)
FROM_INTEGER(cvtsi2sd)

/* To r32. */
#define TO_INTEGER(name, source, lane)							\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile(#name " %1, %0" : "=r"(d->d[0]) : "m"(s->lane[0]));		\
}											\
static inline void									\
integer_##name(struct engine *e, const struct op *op, const union xmm *s)		\
{											\
	union xmm result = { .q = { 0, 0 } };						\
											\
	run(e, x_##name, &result, s, TINY_NONE);					\
	e->v->r[op->reg] = result.d[0];							\
}											\
INSTRUCTION(name, source, integer_##name(e, op, s), x_##name(GENERAL(v, op->reg), s))

TO_INTEGER(cvtss2si, source4, d)
TO_INTEGER(cvttss2si, source4, d)
TO_INTEGER(cvtsd2si, source8, q)
TO_INTEGER(cvttsd2si, source8, q)

/* ---- the map ------------------------------------------------------------------------------------ */

struct forms
sse_convert_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm)
{
	switch (prefix << 8 | opcode) {
	case 0x2a: return PICK_SLOW(cvtpi2ps);
	case 0x662a: return PICK_SLOW(cvtpi2pd);
	case 0xf32a: return PICK(cvtsi2ss);
	case 0xf22a: return PICK(cvtsi2sd);
	case 0x2c: return PICK_SLOW(cvttps2pi);
	case 0x662c: return PICK_SLOW(cvttpd2pi);
	case 0xf32c: return PICK(cvttss2si);
	case 0xf22c: return PICK(cvttsd2si);
	case 0x2d: return PICK_SLOW(cvtps2pi);
	case 0x662d: return PICK_SLOW(cvtpd2pi);
	case 0xf32d: return PICK(cvtss2si);
	case 0xf22d: return PICK(cvtsd2si);
	case 0x5a: return PICK(cvtps2pd);
	case 0x665a: return PICK(cvtpd2ps);
	case 0xf35a: return PICK(cvtss2sd);
	case 0xf25a: return PICK(cvtsd2ss);
	case 0x5b: return PICK(cvtdq2ps);
	case 0x665b: return PICK(cvtps2dq);
	case 0xf35b: return PICK(cvttps2dq);
	case 0xf3e6: return PICK(cvtdq2pd);
	case 0x66e6: return PICK(cvttpd2dq);
	case 0xf2e6: return PICK(cvtpd2dq);
	default: return UNDEFINED;
	}
}

#endif
