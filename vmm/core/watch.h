/*
 * watch.h -- how a vCPU that runs code from a page comes to see the stores of the others to it.
 *
 * A store through a write tag of the micro TLB bumps no stamp.  So before a vCPU may rely on a
 * page's stamp, the others must have given up their write tags for it; and nobody may be waited
 * for, since a vCPU can be outside run(), asleep, or without a host CPU.  So it asks, goes on,
 * and until all have obeyed it compares the bytes of a block each time before it runs it.
 *
 *   V1  A watch (page, stamp, epoch) of a vCPU says: at that stamp it had set bits of the page's
 *       codemap and then counted machine.watch_epoch up to `epoch`.  A vCPU obeys by reading the
 *       counter, dropping all its write tags, and storing what it read in control.watched; it
 *       does so before its first instruction in run() and after each sleep, and at an event
 *       boundary when ATTN_WATCH asks.  A watch is settled once each other vCPU has obeyed it or
 *       was seen outside run() or asleep.  Its silent stores are visible then, too.
 *   V2  Where the codemap is cleared the stamp is bumped before and after.  So while the stamp of
 *       a settled watch stands, the page has a codemap, and no vCPU can get a write tag for it.
 *       A watch begun between the two bumps is settled only after the second.
 *   V3  A block that was decoded while the watch of its page was not settled is pending: its
 *       stamp never matches, so that no link or hint leads into it, and code_lookup compares its
 *       bytes.  Once the watch is settled it is decoded anew. Whether it is settled
 *       is asked after the stamp and before the bytes are read: of a silent store in between there
 *       would be no other witness.
 *   V4  A store is made, then the codemap is looked at; code is marked in the codemap, then its
 *       bytes are looked at.  One of the two sees the other.  What is decoded is a copy, so that
 *       all looks at a byte agree.
 *
 * What the guest is given: a store that another vCPU's load, locked operation or interrupt is
 * ordered behind is seen by the code that it enters by a branch after that, and by all code after
 * a serialising instruction or an interrupt.  [SDM 3A, 8.1.3 "Handling Self- and Cross-Modifying Code"]
 */
#ifndef RF_WATCH_H
#define RF_WATCH_H

#include "engine.h"

static inline bool
several_vcpus(const struct engine *e)
{
	return unlikely(e->m->vcpus > 1);
}

/* May the page's stamp be relied on, as long as it is this one? */
bool watch_is_settled(struct engine *e, uint32_t ppn, uint32_t stamp);

/* Code of the page was marked in the codemap, after its stamp was read: ask the others, unless that was done. */
void watch_begin(struct engine *e, uint32_t ppn, uint32_t stamp);

/* What others asked for: V1. */
void watch_obey(struct engine *e);

#endif
