/*
 * chain.h -- from the end of one block to the next.
 */
#ifndef RF_CHAIN_H
#define RF_CHAIN_H

#include "codecache.h"
#include "handlers.h"

/* The slow half of take(): v->eip is where to go on.  Looks the block up and links it. */
const struct op *take_slow(struct vcpu *v, const struct op *op, struct engine *e, unsigned n);

/* Go on at eip_base + delta; n: 0 taken, 1 fall through. */
static inline const struct op *
take(struct vcpu *v, const struct op *op, struct engine *e, uint32_t delta, unsigned n)
{
	const uint32_t link = op->link[n], eip = e->eip_base + delta;
	struct block *b = block_at(e, link & ~LINK_CHECKED);

	if (likely(!(link & LINK_CHECKED) || block_is_at(e, b, eip)) &&
	    likely(block_valid(b)) && likely(block_enter(e, b, eip)))
		GO(b->ops);
	v->eip = eip;
	return take_slow(v, op, e, n);
}

/* A branch in the middle of a block is taken: imm16 instructions behind it were counted and do not run. */
static inline const struct op *
take_side(struct vcpu *v, const struct op *op, struct engine *e)
{
	e->budget += op->imm16;
	return take(v, op, e, op->imm, 0);
}

/* Distance of the next instruction from the start of the block. */
#define AFTER (op_offset(op) + op->length)

#endif
