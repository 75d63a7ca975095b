/*
 * scan.c -- which instructions of a page the host would answer itself, without a trap.
 *
 * Before a page of 32-bit code may run directly it is swept, instruction by instruction.
 *
 *   N1  What runs on from the entry is code, and so is what its branches lead to, up to an instruction that never runs
 *       on into the next (a jump, a return, UD2, padding of zeros).  Code counts.
 *   N2  What lies behind that is code most likely: the next function, with or without padding.  It counts unless the
 *       sweeps that begin a little before it miss it.
 *   N3  The rest is swept from 16 offsets at once: x86 code synchronises itself, wrong sweeps fall into step with the
 *       right one within a few instructions.  An instruction counts if it shares no byte with code, and nearly all
 *       sweeps that begin a little before it meet it.  Undefined opcodes end a sweep; behind them the same is done.
 *   N4  CPUID counts if any sweep meets it: a wrong answer is worse than a page that runs slowly.
 *
 * Not found is what nobody executes who comes along the page's code: a guest that jumps into the middle of one of its
 * instructions gets the host's answers.  They tell it that it runs in a virtual machine, and give it no rights.
 */
#include "scan.h"
#include "scan_insn.h"

#define SSE_BIT 7
#define SWEEPS 16u		/* beginnings behind an unknown place: no instruction that hides one is longer */
#define VOTERS 16u
#define VOTE_NEAREST 32u	/* bytes before the instruction in question: enough to fall into step */
#define VOTES_MOST 24u		/* more doubts have tables, and rows of stubs of one length: there nothing falls into step */

/* ---- instructions by themselves -------------------------------------------------------------------------- */

static struct insn
insn_of(const uint8_t *bytes, uint32_t available)
{
	uint8_t copy[SCAN_LOOKAHEAD] = { 0 };

	if (available >= SCAN_LOOKAHEAD)
		return insn_at(bytes);
	__builtin_memcpy(copy, bytes, available);
	return insn_at(copy);
}

uint32_t
insn_length32(const uint8_t *bytes, uint32_t available)
{
	const struct insn x = insn_of(bytes, available);

	return x.length <= available ? x.length : 0;
}

uint32_t
insn_class32(const uint8_t *bytes, uint32_t available)
{
	const struct insn x = insn_of(bytes, available);

	return x.told <= available ? x.class : 0;
}

/* ---- a page ---------------------------------------------------------------------------------------------- */

enum belief { SURE, LIKELY, UNKNOWN };		/* N1, N2, N3 */
enum verdict { MET, MISSED, LOST, VERDICTS };

struct scan {
	const uint8_t *page;
	struct scan_result *r;
	uint32_t available;		/* bytes from the page's first */
	uint32_t found;			/* enum scan_class */
	uint32_t votes, sse_votes, later_votes;	/* held; the commoner classes may not use up the others' */
	uint64_t code[PAGE_SIZE / 64];		/* an instruction begins here: N1, N2 */
	uint64_t targets[PAGE_SIZE / 64];	/* of branches in code */
	uint64_t after[PAGE_SIZE / 64];		/* behind code that is sure */
	uint64_t swept[PAGE_SIZE / 64];		/* some other sweep has been here */
	uint64_t begins[PAGE_SIZE / 64 + 1];	/* one is to begin here; a word more than the page has */
	uint8_t seam[2 * SCAN_LOOKAHEAD];	/* the bytes on both sides of the page's end */
};

static inline bool
bit_at(const uint64_t *map, uint32_t offset)
{
	return map[offset >> 6] >> (offset & 63) & 1;
}

static inline void
set_bit(uint64_t *map, uint32_t offset)
{
	map[offset >> 6] |= 1ull << (offset & 63);
}

static inline const uint8_t *
bytes_in(const struct scan *s, uint32_t offset)
{
	const uint32_t seam = PAGE_SIZE - SCAN_LOOKAHEAD;

	return likely(offset < seam) ? s->page + offset : s->seam + (offset - seam);
}

static NOINLINE struct insn
insn_in(const struct scan *s, uint32_t offset)
{
	return insn_at(bytes_in(s, offset));
}

static inline uint32_t
byte_in(const struct scan *s, uint32_t offset)
{
	return offset < PAGE_SIZE ? s->page[offset] : s->seam[offset - (PAGE_SIZE - SCAN_LOOKAHEAD)];
}

static void
begin_at_each_of(struct scan *s, uint32_t offset, uint32_t count)
{
	const uint64_t mask = (1ull << count) - 1;
	const uint32_t shift = offset & 63;

	if (offset >= PAGE_SIZE)
		return;
	s->begins[offset >> 6] |= mask << shift;
	if (shift)
		s->begins[(offset >> 6) + 1] |= mask >> (64 - shift);
}

/* Does a sweep from `at` meet the instruction at `offset`?  For CPUID, one that covers it. */
static enum verdict
meets(const struct scan *s, uint32_t at, uint32_t offset, uint32_t class)
{
	while (at < offset) {
		const struct insn x = insn_in(s, at);

		if (x.length == 0)
			return LOST;
		if (class == SCAN_CPUID && x.class == SCAN_CPUID && at + x.length > offset)
			return MET;
		at += x.length;
	}
	return at == offset ? MET : MISSED;
}

static uint32_t *
votes_of(struct scan *s, uint32_t class)
{
	return class == SCAN_SSE ? &s->sse_votes : class & (SCAN_LATER | SCAN_TZCNT | SCAN_PLAIN) ? &s->later_votes : &s->votes;
}

/* Do the sweeps that begin a little before an instruction bear out that it is one? */
static bool
vote(struct scan *s, uint32_t offset, uint32_t class, enum belief belief)
{
	const uint32_t to = offset >= VOTE_NEAREST + VOTERS ? offset - VOTE_NEAREST : offset < VOTERS ? offset : VOTERS;
	const uint32_t misses_most = belief == UNKNOWN && class != SCAN_CPUID ? VOTERS / 4 : VOTERS;
	uint32_t at = to >= VOTERS ? to - VOTERS : 0, votes[VERDICTS] = { 0 };

	if ((*votes_of(s, class))++ >= VOTES_MOST)
		return class == SCAN_CPUID;
	for (; at < to && votes[MISSED] < misses_most; at++)
		votes[meets(s, at, offset, class)]++;
	if (class == SCAN_CPUID)
		return votes[MET] != 0;
	if (belief == LIKELY)
		return votes[MISSED] <= 3 * votes[MET];
	return votes[MET] >= VOTERS / 2 && votes[MET] > 3 * votes[MISSED];
}

/* Does an instruction that is not code share bytes with one that is? */
static bool
overlaps_code(const struct scan *s, uint32_t offset, uint32_t length)
{
	uint32_t at;

	for (at = offset + 1; at < offset + length && at < PAGE_SIZE; at++)
		if (bit_at(s->code, at))
			return true;
	for (at = offset; at-- > 0 && offset - at < MAX_LENGTH;)
		if (bit_at(s->code, at))
			return at + insn_in(s, at).length > offset;
	return false;
}

static void
count(struct scan *s, uint32_t offset, uint32_t class)
{
	uint16_t *first = &s->r->first[__builtin_ctz(class)];

	s->found |= class;
	if (offset < *first)
		*first = (uint16_t)offset;
}

/* Not yet counted at an earlier offset, and its class is told by bytes that are there. */
static inline bool
is_news(const struct scan *s, uint32_t offset, struct insn x)
{
	return unlikely(x.class) && offset + x.told <= s->available && offset < s->r->first[__builtin_ctz(x.class)];
}

/* Code reaches the page's end. */
static void
note_end(struct scan *s, uint32_t offset, uint32_t length)
{
	if (offset + length > PAGE_SIZE)
		s->r->tail = (uint16_t)offset;
	if (offset + length <= s->available)
		s->r->carry = (uint16_t)(offset + length - PAGE_SIZE);
}

/* The displacement that ends before `behind`. */
static uint32_t
displacement(const struct scan *s, uint32_t behind, bool near)
{
	if (near)
		return (uint32_t)(int8_t)byte_in(s, behind - 1);
	return byte_in(s, behind - 4) | byte_in(s, behind - 3) << 8 | byte_in(s, behind - 2) << 16 |
	    byte_in(s, behind - 1) << 24;
}

/* The first byte other than zero. */
static uint32_t
zeros_end(const struct scan *s, uint32_t offset)
{
	while (offset < PAGE_SIZE && s->page[offset] == 0)
		offset++;
	return offset;
}

/* N1 and N2: from an offset where an instruction begins. */
static void
sweep_code(struct scan *s, uint32_t offset, enum belief belief)
{
	while (offset < PAGE_SIZE && !bit_at(s->code, offset)) {
		const struct insn x = insn_at(bytes_in(s, offset));
		const uint32_t behind = offset + x.length;

		set_bit(s->code, offset);
		if (is_news(s, offset, x) &&
		    (belief == SURE || x.class == SCAN_CPUID || vote(s, offset, x.class, belief)))
			count(s, offset, x.class);
		if (unlikely(x.length == 0)) {
			begin_at_each_of(s, offset + 1, SWEEPS);
			return;
		}
		if (x.branches && behind <= s->available) {
			const uint32_t target = behind + displacement(s, behind, x.near);

			if (target < PAGE_SIZE)
				set_bit(s->targets, target);
		}
		if (x.stops && s->page[offset] == 0) {
			begin_at_each_of(s, zeros_end(s, offset), SWEEPS);
			return;
		}
		if (x.stops && belief == SURE) {
			if (behind < PAGE_SIZE)
				set_bit(s->after, behind);
			return;
		}
		if (behind >= PAGE_SIZE && belief == SURE)
			note_end(s, offset, x.length);
		offset = behind;
	}
}

/* N3: from anywhere until another sweep's track is met. */
static void
sweep_unknown(struct scan *s, uint32_t offset)
{
	while (offset < PAGE_SIZE && !bit_at(s->swept, offset) && !bit_at(s->code, offset)) {
		const struct insn x = insn_at(bytes_in(s, offset));

		set_bit(s->swept, offset);
		if (is_news(s, offset, x) && (x.class == SCAN_CPUID ||
		    (!overlaps_code(s, offset, x.length) && vote(s, offset, x.class, UNKNOWN))))
			count(s, offset, x.class);
		if (unlikely(x.length == 0)) {
			begin_at_each_of(s, offset + 1, SWEEPS);
			return;
		}
		if (x.stops && s->page[offset] == 0) {
			begin_at_each_of(s, zeros_end(s, offset) - 1, SWEEPS);
			return;
		}
		offset += x.length;
	}
}

/* Sweep from all targets, and from those that are found meanwhile. */
static void
follow(struct scan *s, enum belief belief)
{
	bool more = true;
	uint32_t i;

	while (more) {
		more = false;
		for (i = 0; i < PAGE_SIZE / 64; i++) {
			while (s->targets[i]) {
				const uint32_t bit = (uint32_t)__builtin_ctzll(s->targets[i]);

				s->targets[i] &= s->targets[i] - 1;
				sweep_code(s, i * 64 + bit, belief);
				more = true;
			}
		}
	}
}

/* N4: the pairs that no sweep has met. */
static void
look_for_cpuid(struct scan *s)
{
	const uint64_t ones = ~0ull / 255;
	uint32_t at, i;

	for (at = 0; at < PAGE_SIZE; at += 8) {
		uint64_t word;

		__builtin_memcpy(&word, s->page + at, 8);
		word ^= 0x0f * ones;
		if (likely(!((word - ones) & ~word & 0x80 * ones)))
			continue;
		for (i = at; i < at + 8; i++)
			if (s->page[i] == 0x0f && i + 1 < s->available && byte_in(s, i + 1) == 0xa2 && vote(s, i, SCAN_CPUID, UNKNOWN))
				count(s, i, SCAN_CPUID);
	}
}

uint32_t
scan_page(const uint8_t page[PAGE_SIZE], uint32_t entry, const uint8_t *next, bool sse, struct scan_result *r)
{
	struct scan s = { .page = page, .r = r, .available = next ? PAGE_SIZE + SCAN_LOOKAHEAD : PAGE_SIZE };
	uint32_t i;

	for (i = 0; i < SCAN_CLASSES; i++)
		r->first[i] = PAGE_SIZE;
	if (!sse)
		r->first[SSE_BIT] = 0;		/* so that it is no news anywhere */
	r->tail = r->carry = PAGE_SIZE;
	__builtin_memcpy(s.seam, page + PAGE_SIZE - SCAN_LOOKAHEAD, SCAN_LOOKAHEAD);
	if (next)
		__builtin_memcpy(s.seam + SCAN_LOOKAHEAD, next, SCAN_LOOKAHEAD);
	if (entry < PAGE_SIZE)
		set_bit(s.targets, entry);
	follow(&s, SURE);
	__builtin_memcpy(s.targets, s.after, sizeof s.targets);
	follow(&s, LIKELY);
	begin_at_each_of(&s, 0, SWEEPS);
	for (i = 0; i < PAGE_SIZE / 64; i++) {
		while (s.begins[i]) {
			const uint32_t bit = (uint32_t)__builtin_ctzll(s.begins[i]);

			s.begins[i] &= s.begins[i] - 1;
			sweep_unknown(&s, i * 64 + bit);
		}
	}
	if (!(s.found & SCAN_CPUID))
		look_for_cpuid(&s);
	if (!sse)
		r->first[SSE_BIT] = PAGE_SIZE;
	return s.found;
}

uint32_t
scan_seam(const uint8_t page[PAGE_SIZE], const uint8_t next[PAGE_SIZE], uint32_t tail)
{
	struct scan s = { .page = page, .available = PAGE_SIZE + SCAN_LOOKAHEAD };
	uint32_t before;

	__builtin_memcpy(s.seam, page + PAGE_SIZE - SCAN_LOOKAHEAD, SCAN_LOOKAHEAD);
	__builtin_memcpy(s.seam + SCAN_LOOKAHEAD, next, SCAN_LOOKAHEAD);
	for (before = 1; before < MAX_LENGTH; before++) {
		const uint32_t offset = PAGE_SIZE - before;
		const struct insn x = insn_in(&s, offset);

		if (x.told <= before || (s.found & x.class))
			continue;
		if (offset == tail || ((tail == PAGE_SIZE || x.class == SCAN_CPUID) && vote(&s, offset, x.class, UNKNOWN)))
			s.found |= x.class;
	}
	return s.found;
}
