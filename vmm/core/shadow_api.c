/*
 * shadow_api.c -- the shadow page table shown to Python, between two runs.
 *
 * Looking compares a leaf with the guest's tables where the engine would, and so may forget
 * entries that the engine would forget; it fills nothing and sets no A or D.
 */
#include "shadow.h"

#include "shadow_api.h"

static void
entry_show(struct engine *e, const struct entry *entry, uint32_t vpn, uint32_t view, struct shadow_entry *out)
{
	struct shadow_hit hit;

	entry_hit(e, entry, &hit);
	*out = (struct shadow_entry){ vpn, view, hit.spte, hit.gpa };
}

int
shadow_lookup(void *arena, uint32_t linear, uint32_t view, struct shadow_entry *out)
{
	struct engine *e = arena;
	const struct entry *entry;

	if (view > VIEW_USER)
		return 0;
	entry = shadow_find(e, view, linear);
	if (entry == NULL)
		return 0;
	entry_show(e, entry, linear >> PAGE_SHIFT, view, out);
	return 1;
}

/* One leaf's range of the dump: the space's entries, and the global ones where it has none. */
static uint64_t
dump_slot(struct engine *e, uint32_t view, uint32_t slot, struct shadow_entry *out, uint64_t room)
{
	const uint32_t linear = slot << LEAF_SHIFT;
	uint64_t count = 0;

	if (space_at(e, shadow_of(e)->current)->directory[view][slot] == NO_LEAF
	    && space_at(e, GLOBAL_SPACE)->directory[view][slot] == NO_LEAF)
		return 0;
	for (uint32_t i = 0; i < LEAF_ENTRIES; i++) {
		struct shadow_entry found;

		if (!shadow_lookup(e, linear + (i << PAGE_SHIFT), view, &found))
			continue;
		if (count < room)
			out[count] = found;
		count++;
	}
	return count;
}

uint64_t
shadow_dump(void *arena, struct shadow_entry *out, uint64_t max)
{
	uint64_t count = 0;

	for (uint32_t view = VIEW_SUPERVISOR; view <= VIEW_USER; view++)
		for (uint32_t slot = 0; slot < DIRECTORY_ENTRIES; slot++)
			count += dump_slot(arena, view, slot, out + (count < max ? count : max), count < max ? max - count : 0);
	return count;
}

static uint64_t
leaf_entries(const struct leaf *l)
{
	uint64_t count = 0;

	for (uint32_t i = leaf_next(l, 0); i < LEAF_ENTRIES; i = leaf_next(l, i + 1))
		count++;
	return count;
}

void
shadow_count(void *arena, struct shadow_counts *out)
{
	struct engine *e = arena;
	const struct shadow *sh = shadow_of(e);

	*out = (struct shadow_counts){
		.spaces_max = sh->space_count - 1, .leaves = sh->leaves_used, .leaves_max = sh->leaf_count,
		.recycled = sh->recycled,
	};
	for (uint32_t i = 0; i < sh->space_count; i++) {
		const struct space *s = space_at(e, i);

		out->spaces += s->kind == SPACE_IDENTITY || s->kind == SPACE_PAGED;
		for (uint32_t at = s->first; at != NO_LEAF; at = leaf_at(e, at)->next) {
			out->entries += leaf_entries(leaf_at(e, at));
			out->entries_global += i == GLOBAL_SPACE ? leaf_entries(leaf_at(e, at)) : 0;
		}
	}
}

int
shadow_probe(void *arena, uint32_t linear, uint32_t access, uint64_t *gpa, uint32_t *error)
{
	struct walk w;

	if (walk_guest(arena, linear, (access & (PF_W | PF_U | PF_I)) | WALK_PEEK, &w) != SHADOW_FILLED) {
		*error = w.error;
		return -1;
	}
	*gpa = w.gpa | (linear & (PAGE_SIZE - 1));
	return 0;
}
