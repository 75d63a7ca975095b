/*
 * direct.h -- when the run loop hands ring 1-3 code to the host processor; direct execution itself is
 * the world's alone (world_direct.c).
 *
 * Going there and coming back costs as much as some thousand interpreted instructions.  So each burst
 * of an outer ring begins in the interpreter and goes on directly only after `direct_wait`
 * instructions; how long to wait is learnt per address space and code page (world_habit.c).  The
 * interpreter's budget is cut to the wait; what was cut off is `direct_held`.
 */
#ifndef RF_DIRECT_H
#define RF_DIRECT_H

#include "engine.h"

#ifdef RF_WORLD

/* Run guest code directly if that is possible and pays.  True: the state is another; look at events again. */
bool direct_run(struct engine *e);
/* A burst begins: an outer ring was entered. */
void direct_burst_begins(struct engine *e);
/* An outer ring has met #UD at EIP. */
void direct_undefined(struct engine *e);
/* The guest's time in ns at the end of the last stay, if it was only some instructions ago; else 0. */
uint64_t direct_just_left(const struct engine *e);

#else

static inline bool direct_run(struct engine *e) { (void)e; return false; }
static inline void direct_burst_begins(struct engine *e) { (void)e; }
static inline void direct_undefined(struct engine *e) { (void)e; }
static inline uint64_t direct_just_left(const struct engine *e) { (void)e; return 0; }

#endif

/* Give back what was cut off the budget. */
static inline void
direct_release(struct engine *e)
{
	e->budget += e->direct_held;
	e->budget_mark += e->direct_held;
	e->direct_held = 0;
}

/* The ring has changed. */
static inline void
direct_ring_changed(struct engine *e)
{
	if (likely(e->direct == NULL))
		return;
	direct_release(e);
	if (e->v->cpl)
		direct_burst_begins(e);
}

/* Stop when the wait is over; the budget is not cut already. */
static inline void
direct_hold(struct engine *e)
{
	const int64_t wait = e->direct_wait > 0 ? e->direct_wait : 0;

	if (e->budget <= wait)
		return;
	e->direct_held = e->budget - wait;
	e->budget -= e->direct_held;
	e->budget_mark -= e->direct_held;
}

#endif
