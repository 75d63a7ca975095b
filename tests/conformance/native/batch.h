/*
 * batch.h -- one batch of test cases, shared by the generator (Python), the host runner and the
 * interpreter's driver.
 *
 * A case is a register state and some code; a result is the state at the first exception, which
 * is how every case ends: code memory is full of INT3.  Both drivers run a case over the same
 * linear memory:
 *
 *	CODE_BASE   4 pages, readable, writable, executable, filled with CCh; nothing on either side
 *	DATA_BASE   16 pages, never executable: page 8 read-only, page 9 absent, the others writable
 *
 * and report the 8-byte words that changed.  harness.py holds the same layouts as numpy types.
 */
#ifndef RF_BATCH_H
#define RF_BATCH_H

#include <stdint.h>

#define CODE_BASE 0x10000000u
#define CODE_BYTES 0x4000u
#define DATA_BASE 0x20000000u
#define DATA_BYTES 0x10000u
#define DATA_READ_ONLY 8
#define DATA_ABSENT 9
#define CODE_FILL 0xcc
#define CASE_CODE 256
#define CHANGES 12
#define FX_BYTES 288			/* FXSAVE image up to XMM7: what 32-bit code can see */
#define TRAP_TIMEOUT 0x100u		/* the case did not end in time */
#define TRAP_SYSCALL 0x101u		/* it asked the host's kernel for something */
#define TRAP_OTHER 0x102u		/* the engine left for another reason: in `error` */

struct test_case {
	uint32_t r[8];
	uint32_t eip;
	uint32_t eflags;
	uint32_t sel[6];		/* ES CS SS DS FS GS */
	uint32_t code_at;		/* offset into the code pages */
	uint32_t code_length;
	uint8_t code[CASE_CODE];
	uint8_t fx[FX_BYTES];
};

struct change { uint32_t offset, spare; uint64_t value; };

struct result {
	uint32_t r[8];
	uint32_t eip;
	uint32_t eflags;
	uint32_t sel[6];
	uint32_t trap;
	uint32_t error;
	uint32_t cr2;			/* of a page fault, else 0 */
	uint32_t changes;		/* words that changed; the first CHANGES of them are listed */
	uint64_t digest;		/* of all of them */
	struct change change[CHANGES];
	uint8_t fx[FX_BYTES];
};

/* Guest memory of one driver, and what it held before the case. */
struct arena {
	uint64_t *code, *data;
	uint64_t *code_before, *data_before;
	uint32_t whole;			/* no page of data memory is absent: real mode */
};

static inline void
note_changes(uint64_t *live, uint64_t *before, uint32_t words, uint32_t from, struct result *out)
{
	uint32_t i;

	for (i = 0; i < words; i++) {
		if (live[i] == before[i])
			continue;
		if (out->changes < CHANGES)
			out->change[out->changes] = (struct change){ from + i * 8, 0, live[i] };
		out->changes++;
		out->digest = (out->digest ^ (live[i] + from + i)) * 0x100000001b3ull;
		out->digest ^= out->digest >> 29;
		live[i] = before[i];
	}
}

static inline void
put_code(const struct arena *a, const struct test_case *c, int fill)
{
	uint8_t *live = (uint8_t *)a->code + c->code_at, *before = (uint8_t *)a->code_before + c->code_at;
	uint32_t i;

	for (i = 0; i < c->code_length && c->code_at + i < CODE_BYTES; i++)
		live[i] = before[i] = fill ? CODE_FILL : c->code[i];
}

/* Memory as before the case; its changes go into the result. */
static inline void
collect(const struct arena *a, const struct test_case *c, struct result *out)
{
	const uint32_t absent = DATA_ABSENT * 512, rest = absent + 512;

	out->changes = 0;
	out->digest = 0xcbf29ce484222325ull;
	note_changes(a->data, a->data_before, absent, 0, out);
	if (a->whole)
		note_changes(a->data + absent, a->data_before + absent, 512, absent * 8, out);
	note_changes(a->data + rest, a->data_before + rest, DATA_BYTES / 8 - rest, rest * 8, out);
	note_changes(a->code, a->code_before, CODE_BYTES / 8, 0x100000, out);
	put_code(a, c, 1);
}

#endif
