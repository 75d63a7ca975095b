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

/* ---- fast handlers --------------------------------------------------------------------------- */

/* F4, or the slow form. */
#define SSE_FAST									\
	if (unlikely(e->sse_slow))							\
		return h_slow(v, op, e)

#define XMM_AT(offset) ((union xmm *)(void *)((uint8_t *)v + (offset)))
#define FAST_REG XMM_AT(op->xmm_reg)
#define FAST_RM XMM_AT(op->xmm_rm)
/* Of a pair: sse.c. */
#define NEXT_BUT_ONE									\
	do {										\
		op++;									\
		NEXT;									\
	} while (0)

/* TLB_NONE has none of the bits that are compared. */
#define ALIGNED16 (PAGE_MASK | 15u)

static inline void *
fast_read_aligned(const struct tlb_entry *tlb, uint32_t linear)
{
	const struct tlb_entry *t = fast_slot(tlb, linear);

	return likely(t->rtag == (linear & ALIGNED16)) ? host_address(t, linear) : NULL;
}

static inline void *
fast_write_aligned(const struct tlb_entry *tlb, uint32_t linear)
{
	const struct tlb_entry *t = fast_slot(tlb, linear);

	return likely(t->wtag == (linear & ALIGNED16)) ? host_address(t, linear) : NULL;
}

/* Host address of an operand, as source4 to source16 and source16u below find it. */
#define fast_source4(linear) fast_read(e->tlb_sse, linear, 4)
#define fast_source8(linear) fast_read(e->tlb_sse, linear, 8)
#define fast_source16(linear) fast_read_aligned(e->tlb_sse, linear)
#define fast_source16u(linear) fast_read(e->tlb_sse, linear, 16)

/* `run` is done with s, an operand in memory. */
#define FAST_MEMORY(source, linear, run)						\
	const union xmm *s = fast_##source(linear);					\
											\
	if (unlikely(s == NULL))						\
		return h_slow(v, op, e);						\
	run;										\
	NEXT

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

static inline const union xmm *
source16u(struct engine *e, const struct op *op, union xmm *buffer)
{
	return operand_source(e, op, 16, buffer);
}

/* ---- instructions ---------------------------------------------------------------------------- */

/*
 * Of one XMM register and a source, s: r_ and m_ are the slow instructions for a register and a
 * memory operand, which do slow_run; hr_, hb_ and hf_ their fast handlers, which do fast_run.
 */
#define INSTRUCTION(name, source, slow_run, fast_run)					\
	INSTRUCTION_FROM(name, source, sse_rm(e, op), FAST_RM, slow_run, fast_run)
#define INSTRUCTION_FROM(name, source, slow_rm, fast_rm, slow_run, fast_run)		\
static void										\
r_##name(struct engine *e, const struct op *op)						\
{											\
	const union xmm *s = slow_rm;							\
											\
	sse_begin(e);									\
	slow_run;									\
}											\
static H(hr_##name)									\
{											\
	SSE_FAST;									\
	const union xmm *s = fast_rm;							\
	fast_run;									\
	NEXT;										\
}											\
FROM_MEMORY(name, source, slow_run, fast_run)

#define FROM_MEMORY(name, source, slow_run, fast_run)					\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm buffer __attribute__((aligned(16)));								\
	const union xmm *s;								\
											\
	sse_begin(e);									\
	s = source(e, op, &buffer);							\
	slow_run;									\
}											\
static H(hb_##name)									\
{											\
	FAST_MEMORY(source, EA_b(128, 0), fast_run);					\
}											\
static H(hf_##name)									\
{											\
	FAST_MEMORY(source, EA_f(128, 0), fast_run);					\
}

/* x_name(d, s), which may raise SIMD exceptions, and one which never does. */
#define BINARY(name, source, tiny)							\
	INSTRUCTION(name, source, run(e, x_##name, sse_reg(e, op), s, tiny), x_##name(FAST_REG, s))
#define PLAIN(name, source)								\
	INSTRUCTION(name, source, x_##name(sse_reg(e, op), s), x_##name(FAST_REG, s))

/* A general register as a source or destination of 4 bytes. */
#define GENERAL(v, n) ((union xmm *)(void *)&(v)->r[n])

/* Stores `size` bytes, as `x_name(to, register)` does, to `fast_dest` or through a buffer. */
#define TO_MEMORY(name, size, fast_dest, aligned)					\
static void										\
m_##name(struct engine *e, const struct op *op)						\
{											\
	union xmm buffer, *p;								\
	uint32_t linear;								\
											\
	sse_begin(e);									\
	linear = operand_linear(e, op, operand_offset(e, op), size, PF_W);		\
	if ((aligned) && unlikely(linear & 15))						\
		sse_misaligned(e);							\
	p = tlb_write_ptr(e, linear, size);						\
	x_##name(p == NULL ? &buffer : p, sse_reg(e, op));				\
	if (unlikely(p == NULL))							\
		mem_write_bytes(e, linear, &buffer, size);				\
}											\
static H(hb_##name)									\
{											\
	STORE_XMM(name, fast_dest(EA_b(128, PF_W)));					\
}											\
static H(hf_##name)									\
{											\
	STORE_XMM(name, fast_dest(EA_f(128, PF_W)));					\
}

#define STORE_XMM(name, where)								\
	union xmm *p = where;								\
											\
	if (unlikely(p == NULL))						\
		return h_slow(v, op, e);						\
	x_##name(p, FAST_REG);						\
	NEXT

#define fast_dest4(linear) fast_write(e->tlb_sse, linear, 4)
#define fast_dest8(linear) fast_write(e->tlb_sse, linear, 8)
#define fast_dest16(linear) fast_write_aligned(e->tlb_sse, linear)
#define fast_dest16u(linear) fast_write(e->tlb_sse, linear, 16)

H(h_xmm_zero);

static inline bool
modrm_is_same(uint8_t modrm)	/* a register with itself */
{
	return modrm_is_register(modrm) && (modrm >> 3 & 7) == (modrm & 7);
}

#define REGISTER(name) REG_FORM(r_##name, hr_##name)
#define MEMORY(name) MEM_FORM(m_##name, hb_##name, hf_##name)
#define PICK(name) (modrm_is_register(modrm) ? REGISTER(name) : MEMORY(name))
#define PICK_SLOW(name) SLOW_FORM(modrm_is_register(modrm) ? r_##name : m_##name)

/* ---- cores ---------------------------------------------------------------------------------- */

/*
 * s must be aligned: a register, what source16 found, or a buffer of ours that is.
 * A register is always written whole, in one store: the next instruction reads it whole, and a
 * processor forwards a load from one store only.
 */
#define CORE_PS(name)									\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile("movups %0, %%xmm0\n\t" #name " %1, %%xmm0\n\tmovups %%xmm0, %0"	\
	    : "+m"(*d) : "m"(*s) : "xmm0");						\
}

/* The host reads the low element of s only. */
#define CORE_SCALAR(name, lane) CORE_LOW(name, #name, lane)
#define CORE_LOW(name, insn, lane)							\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile("movups %0, %%xmm0\n\t" insn " %1, %%xmm0\n\tmovups %%xmm0, %0"	\
	    : "+m"(*d) : "m"(s->lane[0]) : "xmm0");					\
}

/* The old value of d does not matter. */
#define CORE_LOAD(name, insn, lane)							\
static inline void									\
x_##name(union xmm *d, const union xmm *s)						\
{											\
	__asm__ volatile(insn " %1, %%xmm0\n\tmovups %%xmm0, %0"			\
	    : "=m"(*d) : "m"(s->lane[0]) : "xmm0");					\
}

typedef uint32_t dwords __attribute__((vector_size(16)));

static inline void
xmm_put(union xmm *d, dwords x)
{
	__builtin_memcpy(d, &x, 16);
}

#endif
