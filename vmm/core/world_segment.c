/*
 * world_segment.c -- guest segments as host selectors.
 *
 * A flat segment is the host's own; any other gets a descriptor in the process's LDT with the guest's
 * base, limit and type, all at DPL 3.  So a segment need not be "reversible": what is loaded is its
 * hidden part, whatever the guest's tables say by now.  On the way out a register that holds what was loaded
 * stands for the segment that it stood for.
 *
 * Source: Linux, modify_ldt(2), arch/x86/include/uapi/asm/ldt.h; Intel SDM 3A, 3.4.5 "Segment Descriptors".
 */
#include "world_direct.h"

#include "segment.h"
#include "sysraw.h"

enum { HOST_CODE32 = 0x23, HOST_DATA = 0x2b, LDT_WRITE = 0x11, SELECTOR_LDT3 = 7, SELECTOR_NULL = 3 };
enum { DATA_UP, DATA_DOWN, CODE_PLAIN };	/* user_desc.contents */

/* struct user_desc, its bit-field spelt out. */
enum {
	DESC_32BIT = 1 << 0, DESC_CONTENTS = 3 << 1, DESC_READ_EXEC_ONLY = 1 << 3, DESC_LIMIT_IN_PAGES = 1 << 4,
	DESC_NOT_PRESENT = 1 << 5, DESC_USEABLE = 1 << 6
};
struct user_desc {
	uint32_t entry_number;
	uint32_t base;
	uint32_t limit;
	uint32_t flags;		/* DESC_ */
};
_Static_assert(sizeof(struct user_desc) == 16, "ldt.h");

static bool
is_flat(const struct segment *s)
{
	return s->base == 0 && s->limit == 0xffffffffu;
}

static bool
is_null(const struct segment *s)
{
	return (s->attr & SEG_UNUSABLE) != 0;
}

/* The limit as a descriptor has it; false when neither granularity can say it. */
static bool
describe_limit(const struct segment *s, struct user_desc *d)
{
	if (s->limit <= 0xfffff) {
		d->limit = s->limit;
		return true;
	}
	d->limit = s->limit >> PAGE_SHIFT;
	d->flags |= DESC_LIMIT_IN_PAGES;
	return (s->limit & (PAGE_SIZE - 1)) == PAGE_SIZE - 1;
}

static bool
describe(const struct segment *s, struct user_desc *d)
{
	const uint32_t contents = s->attr & SEG_CODE ? CODE_PLAIN : s->attr & SEG_E ? DATA_DOWN : DATA_UP;

	*d = (struct user_desc){ .base = s->base, .flags = DESC_USEABLE | contents << 1 };
	if (s->attr & SEG_DB)
		d->flags |= DESC_32BIT;
	if (!(s->attr & (s->attr & SEG_CODE ? SEG_R : SEG_W)))
		d->flags |= DESC_READ_EXEC_ONLY;
	return describe_limit(s, d);
}

/* The LDT selector for a segment; 0 when there is none. */
static uint16_t
ldt_selector(struct direct *d, const struct segment *s)
{
	struct member *m = me(d);
	const uint32_t kind = s->attr & (SEG_TYPE & ~SEG_A), db = s->attr & SEG_DB;
	struct user_desc desc;
	uint32_t i;

	for (i = 0; i < LDT_SLOTS; i++) {
		const struct ldt_slot *slot = &m->ldt[i];

		if (slot->used && slot->base == s->base && slot->limit == s->limit && slot->attr == (kind | db))
			return (uint16_t)(i << 3 | SELECTOR_LDT3);
	}
	if (!describe(s, &desc))
		return 0;
	do
		i = m->ldt_next++ % LDT_SLOTS;
	while (m->ldt[i].used == d->ldt_round);		/* loaded for this entry */
	desc.entry_number = i;
	m->ldt[i].used = 0;
	if (sys_call3(SYS_modify_ldt, LDT_WRITE, (uint64_t)(uintptr_t)&desc, sizeof desc) != 0)
		return 0;
	m->ldt[i] = (struct ldt_slot){ s->base, s->limit, kind | db, d->ldt_round };
	return (uint16_t)(i << 3 | SELECTOR_LDT3);
}

static uint16_t
data_selector(struct direct *d, const struct segment *s)
{
	const uint32_t flat = SEG_DB | SEG_W;

	if (is_null(s))
		return SELECTOR_NULL;
	if (is_flat(s) && (s->attr & (SEG_DB | SEG_CODE | SEG_E | SEG_W)) == flat)
		return HOST_DATA;
	return ldt_selector(d, s);
}

static uint16_t
code_selector(struct direct *d, const struct segment *s)
{
	return is_flat(s) && (s->attr & SEG_R) ? HOST_CODE32 : ldt_selector(d, s);
}

bool
segments_load(struct engine *e, struct direct *d)
{
	const struct segment *seg = e->v->seg;
	uint32_t i;

	d->ldt_round = d->ldt_round % 0x7fffffff + 1;
	d->loaded[CS] = code_selector(d, &seg[CS]);
	for (i = ES; i <= GS; i++)
		if (i != CS)
			d->loaded[i] = data_selector(d, &seg[i]);
	for (i = ES; i <= GS; i++)
		if (!d->loaded[i])
			return false;
	return true;
}

void
segments_enter(struct direct *d)
{
	struct passage *p = d->passage;

	p->cs = d->loaded[CS];
	p->ss = d->loaded[SS];
	p->ds = d->loaded[DS];
	p->es = d->loaded[ES];
	p->fs = d->loaded[FS];
	p->gs = d->loaded[GS];
}

/* A register holds another selector than was loaded: a null one, or another register's. */
static bool
follow(struct engine *e, struct direct *d, uint32_t sreg, uint32_t selector)
{
	struct segment *seg = e->v->seg;
	uint32_t i;

	if (selector <= SELECTOR_NULL && sreg != SS) {
		if (!is_null(&seg[sreg]))
			segment_null(&seg[sreg], selector);
		return true;
	}
	for (i = ES; i <= GS; i++)
		if (d->loaded[i] == selector && (sreg == CS) == (i == CS)) {
			seg[sreg] = seg[i];
			return true;
		}
	return false;
}

/*
 * Take over what the guest has done to its segment registers.  The result has the bits of those that hold
 * a selector of the host's which was not loaded: what it means to the guest is not known here.
 */
uint32_t
segments_store(struct engine *e, struct direct *d)
{
	const struct passage *p = d->passage;
	const uint16_t now[6] = { [ES] = p->es, [CS] = p->cs, [SS] = p->ss, [DS] = p->ds, [FS] = p->fs, [GS] = p->gs };
	uint32_t i, unknown = 0;

	for (i = ES; i <= GS; i++)
		if (now[i] != d->loaded[i] && !follow(e, d, i, now[i]))
			unknown |= 1u << i;
	return unknown;
}
