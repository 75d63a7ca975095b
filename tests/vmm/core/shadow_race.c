/*
 * shadow_race.c -- walks while another processor stores to the same table entry.  Test only.
 */
#include <pthread.h>

#include "shadow_model.h"

struct other {
	uint32_t *pte;
	uint32_t resurrected;
	uint32_t stop;
};

/* Map and unmap a page, without a flush: once it has stored 0 nobody may make that anything else. */
static void *
other_processor(void *arg)
{
	struct other *o = arg;

	for (uint32_t i = 0; !__atomic_load_n(&o->stop, __ATOMIC_RELAXED); i++) {
		__atomic_store_n(o->pte, 40u << 12 | 7, __ATOMIC_SEQ_CST);
		for (volatile uint32_t wait = i % 64; wait; wait--)
			;
		__atomic_store_n(o->pte, 0, __ATOMIC_SEQ_CST);
		for (volatile uint32_t wait = 100; wait; wait--)
			;
		o->resurrected += __atomic_load_n(o->pte, __ATOMIC_SEQ_CST) != 0;
	}
	return NULL;
}

/* Accesses against another processor's stores to the same entry.  How many of its stores were undone; -1: wrong answers. */
int
model_race(uint32_t fills)
{
	struct driver *d = open_driver(1, 4 << 20, 2, NULL, 0);
	struct other o = { .pte = (uint32_t *)(void *)(d->e->ram + 4096) };
	bool wrong = false;
	pthread_t thread;

	*(uint32_t *)(void *)d->e->ram = 1u << 12 | 0x27;
	d->v->cr0 = 0x80010001u;
	shadow_mode_changed(d->e);
	if (pthread_create(&thread, NULL, other_processor, &o) != 0)
		return -1;
	while (fills > 0) {
		struct shadow_hit hit;

		shadow_invlpg(d->e, 0);
		if (shadow_access(d->e, 0, PF_W, &hit) == SHADOW_FILLED) {
			wrong |= hit.gpa != 40u << 12 || !(hit.spte & SPTE_W);
			fills--;
		} else {
			wrong |= hit.error != PF_W;
		}
	}
	__atomic_store_n(&o.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	close_driver(d);
	return wrong ? -1 : (int)o.resurrected;
}
