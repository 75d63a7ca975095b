/*
 * watch.c -- asking the other vCPUs to give up write tags, and doing so when asked.  Invariants: watch.h.
 */
#include "watch.h"
#include "window.h"

static struct watch *
watch_of(struct engine *e, uint32_t ppn)
{
	return &e->watches[ppn % WATCHES];
}

static bool
watch_is(const struct watch *w, uint32_t ppn, uint32_t stamp)
{
	return w->epoch != 0 && w->ppn == ppn && w->stamp == stamp;
}

/* The request that this vCPU has obeyed; `now` while it runs nothing, since it obeys before it does. */
static uint64_t
obeyed_by(const struct control *c, uint64_t now)
{
	if (!__atomic_load_n(&c->running, __ATOMIC_SEQ_CST) || __atomic_load_n(&c->halted, __ATOMIC_SEQ_CST))
		return now;
	return __atomic_load_n(&c->watched, __ATOMIC_ACQUIRE);
}

static bool
obeyed_by_all(struct engine *e, uint64_t epoch)
{
	uint64_t least;
	uint32_t i;

	if (epoch <= e->watch_settled)
		return true;
	least = __atomic_load_n(&e->m->watch_epoch, __ATOMIC_SEQ_CST);	/* before anybody is looked at */
	for (i = 0; i < RF_VCPUS; i++)
		if (e->ctl_of[i] && e->ctl_of[i] != e->ctl) {
			const uint64_t obeyed = obeyed_by(e->ctl_of[i], least);

			least = obeyed < least ? obeyed : least;
		}
	if (least > e->watch_settled)
		e->watch_settled = least;
	return epoch <= e->watch_settled;
}

bool
watch_is_settled(struct engine *e, uint32_t ppn, uint32_t stamp)
{
	const struct watch *w = watch_of(e, ppn);

	if (!several_vcpus(e) || ppn >= e->m->ram_pages)
		return true;
	return watch_is(w, ppn, stamp) && obeyed_by_all(e, w->epoch);
}

/* Direct execution sees no attention bits: it is interrupted if stores to this page may be made there. */
static void
ask(struct engine *e, uint32_t vcpu, uint32_t ppn)
{
	if (__atomic_load_n(&e->page_flags[ppn], __ATOMIC_SEQ_CST) & (uint32_t)PG_WINDOW << vcpu)
		control_kick_by(e->ctl_of[vcpu], e->v->vcpu_id, ATTN_WATCH);
	else
		__atomic_fetch_or(&e->ctl_of[vcpu]->attention, ATTN_WATCH, __ATOMIC_SEQ_CST);
}

void
watch_begin(struct engine *e, uint32_t ppn, uint32_t stamp)
{
	struct watch *w = watch_of(e, ppn);
	uint32_t i;

	if (!several_vcpus(e) || ppn >= e->m->ram_pages || watch_is(w, ppn, stamp))
		return;
	w->ppn = ppn;
	w->stamp = stamp;
	w->epoch = __atomic_add_fetch(&e->m->watch_epoch, 1, __ATOMIC_SEQ_CST);
	for (i = 0; i < RF_VCPUS; i++)
		if (e->ctl_of[i] && e->ctl_of[i] != e->ctl && obeyed_by(e->ctl_of[i], w->epoch) < w->epoch)
			ask(e, i, ppn);
}

void
watch_obey(struct engine *e)
{
	const uint64_t epoch = __atomic_load_n(&e->m->watch_epoch, __ATOMIC_SEQ_CST);

	if (likely(e->ctl->watched == epoch))
		return;
	tlb_flush_all_writes(e);
	window_obey(e);
	__atomic_store_n(&e->ctl->watched, epoch, __ATOMIC_RELEASE);
}
