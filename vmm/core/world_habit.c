/*
 * world_habit.c -- whether direct execution pays.
 *
 * Going direct and coming back costs some microseconds, each page that the window lacks some more;
 * interpreting costs about sixteen times the native time.  So a burst of an outer ring is interpreted
 * for `wait` instructions first: the dearer the last stretches for what they did, the longer; a burst
 * that ends before costs nothing more than it would without direct execution, and one that lasts
 * loses little.  Waits are remembered per address space and code page: where a burst goes on after
 * a system call says much about how long it will be.  Time counts, not how many: a burst of
 * milliseconds pays for hundreds in vain that begin in the same page.
 *
 * Nothing is settled for good: bursts that always end within the wait say nothing about whether they would pay.  When
 * so many instructions have been interpreted in them that a stay in vain is small beside it, the wait is halved; the
 * oftener that was in vain, the later the next time.
 */
#include "world_direct.h"

#include "direct.h"
#include "hostclock.h"

#define WAIT_FIRST 2048u	/* instructions */
#define WAIT_LEAST 256u
#define WAIT_MOST (1u << 18)	/* so a stay in vain costs a twentieth at the most */
#define WAIT_AGAIN 16u		/* after a stay that paid: what made it end is emulated, then on */
#define WAIT_LONGING 2048u	/* between two looks at whether a hand-over would pay */
#define WAIT_HAND_OVER 16384u
#define RETRY_AFTER (1u << 18)	/* instructions: a millisecond or two, against some 10 us */
#define PATIENCE_MOST 6u
#define STAY_DRIFT 1024u	/* stays after which the least cost is doubted a little */
#define COLD_SHARE 4u			/* one of so many: what a stay costs more than the least, as caches are */
#define MAPPING_NS 8000u	/* what a mapping that was changed costs afterwards: the host forgets translations */
#define BAD_MOST 5u		/* stays that do nothing, in time, before a burst is given up */
#define MEMORY_NS (1u << 20)	/* of bursts, to judge a habit by */
#define VAIN_MOST 10u		/* the same for what a burst may count in vain: a host that was busy does not decide */

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

static void
set_wait(struct engine *e, uint32_t wait)
{
	e->direct_wait = e->direct->wait_set = wait;
}

static void
lengthen(struct engine *e, struct habit *h)
{
	e->ctl->stats.direct_longer++;
	h->wait = h->wait * 2 > WAIT_MOST ? WAIT_MOST : h->wait * 2;
	h->patience = (uint8_t)(h->patience + (h->retried && h->patience < PATIENCE_MOST));
	h->retried = 0;
	h->idle = 0;
}

static void
shorten(struct engine *e, struct habit *h)
{
	e->ctl->stats.direct_shorter++;
	h->wait = h->wait / 2 < WAIT_LEAST ? WAIT_LEAST : h->wait / 2;
	h->patience = h->retried = 0;
	h->idle = 0;
}

/* The last burst ended before its wait did, `done` instructions after it had begun. */
static void
count_idle(struct engine *e, struct habit *h, uint32_t done)
{
	h->idle += done;
	if (likely(h->idle < RETRY_AFTER << h->patience))
		return;
	h->idle = 0;
	if (h->wait <= WAIT_LEAST)
		return;
	e->ctl->stats.direct_retrials++;
	h->wait /= 2;
	h->retried = 1;
}

void
direct_burst_begins(struct engine *e)
{
	struct direct *d = e->direct;
	const struct vcpu *v = e->v;
	struct habit *h = d->habit;

	d->begun++;
	if (h && d->wait_set > e->direct_wait && e->direct_wait > 0)
		count_idle(e, h, (uint32_t)(d->wait_set - e->direct_wait));
	if (!h || h->page != (v->seg[CS].base + v->eip) >> PAGE_SHIFT || h->cr3 != v->cr3)
		d->habit = h = habit_here(e);
	set_wait(e, d->eager ? 0 : h->wait);
	direct_hold(e);
}

/* Not now: interpret this many instructions before the next look. */
void
habit_declined(struct engine *e, uint32_t wait)
{
	direct_release(e);
	set_wait(e, e->direct->eager ? 1 : wait);
	direct_hold(e);
}

/*
 * In another process's window: interpreted until the space has done so much without a break that a
 * hand-over, there and back with cold caches, is small beside it; less where it has paid before.
 */
bool
habit_stays_here(struct engine *e, uint32_t to)
{
	struct direct *d = e->direct;
	const struct window *w = &d->members[to].window;
	const uint32_t most = w->space == shadow_of(e)->current && w->longing ? w->longing : WAIT_HAND_OVER;
	const uint32_t step = most < WAIT_LONGING ? most : WAIT_LONGING;

	if (to == d->active || d->eager)
		return false;
	if (d->wanted != e->v->cr3 || !d->longing)
		d->longing = 0;
	d->wanted = e->v->cr3;
	if (d->longing >= most) {
		d->longing = 0;
		return false;
	}
	d->longing += step;
	habit_declined(e, step);
	return true;
}

static uint64_t
mapping_calls(const struct engine *e)
{
	return e->ctl->stats.window_maps + e->ctl->stats.window_unmaps;
}

/* The first step towards guest code. */
void
habit_way_begins(struct engine *e)
{
	struct direct *d = e->direct;

	d->began_ns = host_ns();
	if (d->handed)			/* the first was made in another process */
		d->began_ns -= d->way_ns;
	else
		d->began_calls = mapping_calls(e);
}

void
habit_begins(struct direct *d, uint64_t now)
{
	d->spent = now - d->began_ns;
	d->useful = 0;
}

/*
 * A stay took `ns`, and what it asked for `fault_ns`.  What entering and leaving costs is the least that one ever took:
 * those that were measured beforehand count, or it would be taken for dear where none is short.
 */
void
habit_stay(struct direct *d, enum stay_kind kind, uint64_t ns, uint64_t fault_ns)
{
	struct stay_cost *c = &d->costs[kind];

	if (ns < c->ns)
		c->ns = ns;
	else if (++d->stays % STAY_DRIFT == 0 && c->ns < c->most)
		c->ns += c->ns / 16;
	d->spent += ns + fault_ns;
	d->useful += ns > c->ns + c->ns / COLD_SHARE ? ns - c->ns - c->ns / COLD_SHARE : 0;
}

/* Interpreting takes so much longer that an eighth of the time in guest code pays for the rest. */
#define WORTH 9u

static bool
pays(const struct direct *d)
{
	return d->useful * WORTH >= d->spent;
}

/* The burst that has ended, with those before it in this habit: do they pay? */
static bool
all_pay(const struct direct *d, struct habit *h)
{
	const uint64_t most = d->useful * WORTH + VAIN_MOST * d->costs[STAY_PAGE].ns;
	uint64_t spent = h->spent + (d->spent < most ? d->spent : most), useful = h->useful + d->useful;

	for (; spent > MEMORY_NS; spent /= 2)
		useful /= 2;
	h->spent = (uint32_t)spent;
	h->useful = (uint32_t)useful;
	return useful * WORTH >= spent;
}

/* The pages that the burst asks for cost more than it gains. */
bool
habit_is_bad(const struct direct *d)
{
	return !pays(d) && d->spent > BAD_MOST * d->costs[STAY_PAGE].ns && !d->eager;
}

/* The first burst after one has ended: had it better been interpreted? */
static void
judge_hand_over(struct window *w, bool paid)
{
	const uint32_t longing = w->longing ? w->longing : WAIT_HAND_OVER;

	if (paid)
		w->longing = longing / 2 < WAIT_LEAST ? WAIT_LEAST : longing / 2;
	else
		w->longing = longing * 2 > WAIT_MOST ? WAIT_MOST : longing * 2;
}

/* The burst goes on in the interpreter. */
void
habit_after(struct engine *e)
{
	struct direct *d = e->direct;
	struct habit *h = d->habit;

	d->spent += (mapping_calls(e) - d->began_calls) * MAPPING_NS;
	const bool bad = !pays(d), worth = h && all_pay(d, h);

	if (h && bad && !worth)
		lengthen(e, h);
	else if (h && !bad && d->useful * 2 > d->spent)
		shorten(e, h);
	if (d->handed)
		judge_hand_over(window_here(e), !bad);
	d->handed = 0;
	d->habit = habit_here(e);
	set_wait(e, d->eager ? 1 : bad ? d->habit->wait : WAIT_AGAIN);
}
