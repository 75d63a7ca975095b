/*
 * slowpath.c -- the handlers that run slow instructions, and the ones that end a block oddly.
 */
#include "codecache.h"
#include "handlers.h"

/* May an interrupt be taken now that could not before, or does the loop wait for this one instruction?  The
 * block's mode, not the current one: POPF and IRET may have cleared TF, and their trap is still due. */
static inline bool
must_look(const struct vcpu *v, struct engine *e)
{
	return ((v->eflags & FL_IF) && intr_pending(e->intr, v->vcpu_id)) || (e->block->mode & MODE_ONE);
}

H(h_slow)
{
	e->cur = op;
	op->slow(e, op);
	NEXT;
}

/* Run the block's last instruction; v->eip is then where to go on. */
static inline void
last_slow(struct vcpu *v, const struct op *op, struct engine *e)
{
	uint32_t eip;

	e->cur = op;
	eip = next_eip(e);
	op->slow(e, op);
	v->eip = eip;
}

H(h_slow_end)
{
	last_slow(v, op, e);
	state_changed(e);
	return must_look(v, e) || v->activity != ACT_RUNNING ? NULL : dispatch(v, e);
}

H(h_slow_last)
{
	last_slow(v, op, e);
	return must_look(v, e) ? NULL : dispatch(v, e);
}

H(h_slow_jump)
{
	e->cur = op;
	op->slow(e, op);
	return must_look(v, e) ? NULL : dispatch(v, e);
}

/* The bytes of this op were overwritten by an earlier instruction of its block. */
H(h_stale)
{
	e->budget += block_rest(e, op);
	v->eip = e->eip_base + op_offset(op);
	return dispatch(v, e);
}

H(h_breakpoint)
{
	v->eip = e->eip_base + op_offset(op);
	e->cur = NULL;
	e->ctl->exit.reason = DEBUG_BREAKPOINT;
	e->ctl->exit.address = v->seg[CS].base + v->eip;
	leave(e, EXIT_DEBUG);
}
