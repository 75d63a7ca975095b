/*
 * sse_core.h -- how an SSE or SSE2 floating-point operation is run.
 *
 * A *core* is one asm statement that loads, executes and stores: core(d, s).  With every exception
 * masked by the guest it runs straight on the registers in v->fx.  With one unmasked it runs on a
 * copy, with all masked; the flags that it raised then say whether the guest gets #XM, and the
 * destination is left alone if so (SDM volume 1, 11.5.3).
 */
#ifndef RF_SSE_CORE_H
#define RF_SSE_CORE_H

#include "fpu.h"

typedef void core_fn(union xmm *d, const union xmm *s);

/* Where an unmasked underflow must be looked for in the result: "tiny" is enough when unmasked. */
enum tiny { TINY_NONE, TINY_SS, TINY_PS, TINY_SD, TINY_PD };

void sse_run_checked(struct engine *e, core_fn *core, union xmm *d, const union xmm *s, enum tiny tiny);

static inline void
run(struct engine *e, core_fn *core, union xmm *d, const union xmm *s, enum tiny tiny)
{
	if (unlikely(e->sse_unmasked))
		sse_run_checked(e, core, d, s, tiny);
	else
		core(d, s);
}

/* Operands of 4 and 8 bytes: only that many bytes of the union are there. */
static inline const union xmm *
source4(struct engine *e, const struct op *op, union xmm *buffer)
{
	return operand_source(e, op, 4, buffer);
}

static inline const union xmm *
source8(struct engine *e, const struct op *op, union xmm *buffer)
{
	return operand_source(e, op, 8, buffer);
}

static inline const union xmm *
source16(struct engine *e, const struct op *op, union xmm *buffer)
{
	return sse_source(e, op, buffer);
}

/* ---- cores ---------------------------------------------------------------------------------- */

#define CORE_PS(name)									\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\t" #name " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0"	\
	    : "+m"(*d) : "m"(*s) : "xmm0", "xmm1");					\
}

/* The host reads and writes the low element only, so the rest of d stays as it is. */
#define CORE_SCALAR(name, move, lane)							\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile(move " %0, %%xmm0\n\t" #name " %1, %%xmm0\n\t" move " %%xmm0, %0"	\
	    : "+m"(d->lane[0]) : "m"(s->lane[0]) : "xmm0");				\
}

/* The forms on a register and on a memory operand that `source` finds. */
#define BINARY(name, source, tiny)							\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	sse_begin(e);									\
	run(e, x_##name, sse_reg(e, op), sse_rm(e, op), tiny);				\
}											\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm buffer;								\
	const union xmm *s;								\
											\
	sse_begin(e);									\
	s = source(e, op, &buffer);							\
	run(e, x_##name, sse_reg(e, op), s, tiny);					\
}

#define PICK(name) (modrm_is_register(modrm) ? r_##name : m_##name)

#endif
