/*
 * operand.h -- operands of slow integer instructions, by size in bytes.
 */
#ifndef RF_OPERAND_H
#define RF_OPERAND_H

#include "engine.h"
#include "flags.h"

/* Operand size of a 16/32-bit instruction, in bytes. */
static inline uint32_t
op_bytes(const struct op *op)
{
	return op->flags & OP_SIZE16 ? 2 : 4;
}

/* A register operand; for size 1, n is the byte offset into r[]. */
static inline uint32_t
reg_get(const struct vcpu *v, uint32_t n, uint32_t size)
{
	switch (size) {
	case 1:
		return ((const uint8_t *)v->r)[n];
	case 2:
		return v->r[n] & 0xffff;
	default:
		return v->r[n];
	}
}

static inline void
reg_put(struct vcpu *v, uint32_t n, uint32_t size, uint32_t x)
{
	switch (size) {
	case 1:
		((uint8_t *)v->r)[n] = (uint8_t)x;
		break;
	case 2:
		v->r[n] = (v->r[n] & 0xffff0000u) | (x & 0xffff);
		break;
	default:
		v->r[n] = x;
	}
}

/* The r/m operand of op, read. */
static inline uint32_t
rm_get(struct engine *e, const struct op *op, uint32_t size)
{
	return op->flags & OP_MEM ? mem_read(e, op_linear(e, op, size, 0), size) : reg_get(e->v, op->rm, size);
}

/* The flags of a - b. */
static inline void
compare_flags(struct engine *e, uint32_t size, uint32_t a, uint32_t b)
{
	if (size == 1)
		op_sub8(e, a, b);
	else if (size == 2)
		op_sub16(e, a, b);
	else
		op_sub32(e, a, b);
}

static inline uint32_t
extend_sign(uint32_t x, uint32_t size)
{
	return size == 1 ? SX8(x) : size == 2 ? SX16(x) : x;
}

#endif
