/*
 * world_habit.c -- whether direct execution pays.
 *
 * Going direct and coming back costs some microseconds, each page that the window lacks some more;
 * interpreting costs about sixteen times the native time.  So a burst of an outer ring is interpreted
 * for `wait` instructions first: the dearer the last stretches for what they did, the longer; a burst
 * that ends before costs nothing more than it would without direct execution, and one that lasts
 * loses little.  Waits are remembered per address space and code page: where a burst goes on after
 * a system call says much about how long it will be.
 */
#include "world_direct.h"

#include "direct.h"

#define WAIT_FIRST 2048u	/* instructions */
#define WAIT_LEAST 256u
#define WAIT_MOST (1u << 18)	/* so a stay in vain costs a twentieth at the most */
#define WAIT_AGAIN 16u		/* after a stay that paid: what made it end is emulated, then on */
#define COST_FIRST 2000u	/* ns */
#define COST_DRIFT 1024u	/* stays after which the least cost is doubted a little */

static struct habit *
habit_here(struct engine *e)
{
	const struct vcpu *v = e->v;
	const uint32_t page = (v->seg[CS].base + v->eip) >> PAGE_SHIFT, cr3 = v->cr3;
	struct habit *h = &e->direct->habits[(page ^ page >> 10 ^ cr3 >> PAGE_SHIFT ^ cr3 >> 5) % HABITS];

	if (h->page != page || h->cr3 != cr3 || !h->wait)
		*h = (struct habit){ .cr3 = cr3, .page = page, .wait = WAIT_FIRST };
	return h;
}

void
direct_burst_begins(struct engine *e)
{
	struct direct *d = e->direct;
	const struct vcpu *v = e->v;
	struct habit *h = d->habit;

	if (!h || h->page != (v->seg[CS].base + v->eip) >> PAGE_SHIFT || h->cr3 != v->cr3)
		d->habit = h = habit_here(e);
	d->bad = 0;
	e->direct_wait = d->eager ? 0 : h->wait;
	direct_hold(e);
}

/* Not now: interpret this many instructions before the next look. */
void
habit_declined(struct engine *e, uint32_t wait)
{
	direct_release(e);
	e->direct_wait = e->direct->eager ? 1 : wait;
	direct_hold(e);
}

/*
 * A stay took `ns`.  What entering and leaving costs is the least that one ever took; interpreting
 * is so much slower that an eighth of that cost in guest code pays for it.
 */
void
habit_stay(struct direct *d, uint64_t ns, bool hidden)
{
	struct cost *c = &d->cost[hidden];

	if (c->least == 0)
		c->least = COST_FIRST;
	if (ns < c->least || c->count == 0)
		c->least = ns;
	else if (c->count % COST_DRIFT == 0)
		c->least += c->least / 16;
	c->count++;
	d->bad = ns < c->least + c->least / 8 ? d->bad + 1 : 0;
	d->good = ns > 2 * c->least;
}

/* The burst goes on in the interpreter. */
void
habit_after(struct engine *e)
{
	struct direct *d = e->direct;
	struct habit *h = d->habit;

	if (h && d->bad)
		h->wait = h->wait * 2 > WAIT_MOST ? WAIT_MOST : h->wait * 2;
	else if (h && d->good)
		h->wait = h->wait / 2 < WAIT_LEAST ? WAIT_LEAST : h->wait / 2;
	d->habit = habit_here(e);
	e->direct_wait = d->eager ? 1 : d->bad ? d->habit->wait : WAIT_AGAIN;
	d->bad = 0;
}
