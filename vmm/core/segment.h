/*
 * segment.h -- descriptors and stack frames: what segment.c and stack.c give to the files of
 * control transfer (transfer.c, deliver.c, iret.c, task.c) and of system instructions.
 *
 * Source: Intel SDM 3A, chapter 3 (descriptors), chapter 5 (checks), chapter 7 (TSS).
 */
#ifndef RF_SEGMENT_H
#define RF_SEGMENT_H

#include "engine.h"
#include "flags.h"
#include "operand.h"

/* Types of system descriptors (S = 0). */
enum system_type {
	SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK_GATE = 5, SYS_INT16 = 6,
	SYS_TRAP16 = 7, SYS_TSS32 = 9, SYS_TSS32_BUSY = 11, SYS_CALL32 = 12, SYS_INT32 = 14, SYS_TRAP32 = 15,
	SYS_NONE = 0x100	/* code or data */
};

#define SYS_BUSY 2u		/* SYS_TSS* | SYS_BUSY is the busy one */
#define SYS_32 8u		/* set in the types of 32-bit gates and TSSs */
#define SELECTOR_TI 4u
#define SELECTOR_RPL 3u
#define SELECTOR_INDEX 0xfff8u
#define SELECTOR_ERROR 0xfffcu	/* what an error code holds of a selector */
#define ERROR_EXT 1u
#define ERROR_IDT 2u

/* The last fields of a 32-bit TSS. */
#define TSS32_DEBUG 0x64u	/* bit 0: T */
#define TSS32_IO_BASE 0x66u
#define TSS32_LIMIT 0x67u

#define ATTR_DATA16 (SEG_P | SEG_S | SEG_W | SEG_A)	/* 64 KiB, read/write */

/* A descriptor read from a table; it keeps where, so that A and busy bits can be set. */
struct descriptor {
	uint32_t lo;
	uint32_t hi;
	uint32_t linear;	/* of the descriptor */
	uint32_t selector;
};

static inline bool
selector_null(uint32_t selector)
{
	return (selector & SELECTOR_ERROR) == 0;
}

static inline uint32_t
descriptor_attr(const struct descriptor *d)
{
	return d->hi >> 8 & 0xf0ff;
}

static inline uint32_t
descriptor_dpl(const struct descriptor *d)
{
	return d->hi >> 13 & 3;
}

static inline bool
descriptor_present(const struct descriptor *d)
{
	return descriptor_attr(d) & SEG_P;
}

static inline uint32_t
descriptor_base(const struct descriptor *d)
{
	return d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000u);
}

/* In bytes, scaled by G. */
static inline uint32_t
descriptor_limit(const struct descriptor *d)
{
	const uint32_t limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

	return descriptor_attr(d) & SEG_G ? limit << 12 | 0xfff : limit;
}

static inline uint32_t
descriptor_system_type(const struct descriptor *d)
{
	const uint32_t attr = descriptor_attr(d);

	return attr & SEG_S ? SYS_NONE : attr & SEG_TYPE;
}

static inline bool
descriptor_code(const struct descriptor *d)
{
	return (descriptor_attr(d) & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}

static inline bool
descriptor_conforming(const struct descriptor *d)
{
	return (descriptor_attr(d) & (SEG_S | SEG_CODE | SEG_C)) == (SEG_S | SEG_CODE | SEG_C);
}

static inline bool
descriptor_writable_data(const struct descriptor *d)
{
	return (descriptor_attr(d) & (SEG_S | SEG_CODE | SEG_W)) == (SEG_S | SEG_W);
}

static inline bool
descriptor_readable(const struct descriptor *d)	/* data, or readable code */
{
	const uint32_t attr = descriptor_attr(d);

	return (attr & SEG_S) && (!(attr & SEG_CODE) || (attr & SEG_R));
}

static inline uint32_t
gate_selector(const struct descriptor *gate)
{
	return gate->lo >> 16;
}

/* A 16-bit gate has only 16 offset bits, whatever its last word holds. */
static inline uint32_t
gate_offset(const struct descriptor *gate)
{
	const uint32_t low = gate->lo & 0xffff;

	return descriptor_attr(gate) & SYS_32 ? low | (gate->hi & 0xffff0000u) : low;
}

static inline uint32_t
gate_size(const struct descriptor *gate)	/* bytes of what it pushes */
{
	return descriptor_attr(gate) & SYS_32 ? 4 : 2;
}

static inline uint32_t
max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* ---- segment.c ---------------------------------------------------------------------------- */

/* Read the descriptor that `selector` names.  False when it lies outside its table. */
bool descriptor_find(struct engine *e, uint32_t selector, struct descriptor *d);
/* The same, raising `vector` with the selector and `ext` as error code. */
void descriptor_get(struct engine *e, uint32_t selector, struct descriptor *d, uint32_t vector, uint32_t ext);
/* Raise `vector` with the selector as error code; ext is 0 or ERROR_EXT. */
NORETURN void raise_selector(struct engine *e, uint32_t vector, uint32_t selector, uint32_t ext);
/* Set the accessed bit in memory.  May raise #PF. */
void descriptor_accessed(struct engine *e, struct descriptor *d);
/* Write the busy bit of a TSS descriptor.  True when it was set before. */
bool descriptor_set_busy(struct engine *e, uint32_t linear, bool busy);

/* Hidden parts. */
void segment_fill(struct segment *s, uint32_t selector, const struct descriptor *d);
void segment_null(struct segment *s, uint32_t selector);
/* Real mode: the base alone changes.  Virtual-8086: base, 64 KiB, DPL 3. */
void segment_real(struct segment *s, uint32_t selector);
void segment_v86(struct segment *s, uint32_t selector);
/* ES, DS, FS, GS whose DPL is below the new CPL become null (SDM 2B, "RET", RETURN-TO-OUTER-PRIVILEGE-LEVEL). */
void segments_drop_inner(struct vcpu *v, uint32_t cpl);

/* A descriptor for SS at privilege `cpl`: #SS when not present, all else raises `vector`. */
void check_stack_segment(struct engine *e, uint32_t selector, uint32_t cpl, struct descriptor *d, uint32_t vector,
    uint32_t ext);
/* The target of a far JMP, CALL or call gate that keeps CPL. */
void check_code_target(struct engine *e, const struct descriptor *d, uint32_t selector, uint32_t rpl, uint32_t ext);
/* The target of RET or IRET: code, RPL >= CPL, DPL as the type asks. */
void check_return_code(struct engine *e, uint32_t selector, struct descriptor *d);

/* ---- stack.c ---------------------------------------------------------------------------------
 * A stack that a transfer pushes on, before SS:ESP themselves change.
 */
struct stack {
	struct segment ss;
	uint32_t esp;
	bool inner;		/* being switched to: supervisor accesses */
	uint32_t error;		/* error code of its #SS */
};

void stack_current(const struct vcpu *v, struct stack *s, uint32_t error);
/* Would `count` pushes of `size` bytes succeed?  Raises #SS or #PF if not. */
void stack_check(struct engine *e, const struct stack *s, uint32_t size, uint32_t count);
/* Push values[0] first; returns the ESP to commit.  Only after stack_check. */
uint32_t stack_push(struct engine *e, const struct stack *s, uint32_t size, const uint32_t *values, uint32_t count);
/* ESP after a far return: with a 16-bit stack segment bits 31-16 stay as they were. */
void set_esp(struct vcpu *v, uint32_t esp);

/* ---- task.c ----------------------------------------------------------------------------------- */

enum task_source { TASK_JUMP, TASK_CALL, TASK_EVENT, TASK_IRET };

/*
 * Switch to the task whose TSS descriptor is `tss`, already found and available (busy for
 * TASK_IRET).  `eip` and `eflags` are what the outgoing TSS is to hold.  Sets CS:EIP.  A fault of
 * the checks that follow the point of no return is the new task's.
 */
void task_switch(struct engine *e, const struct descriptor *tss, enum task_source source, uint32_t eip,
    uint32_t eflags, uint32_t ext);
/* Find a TSS by a task gate's selector: the GDT's, available, present. */
void task_find(struct engine *e, uint32_t selector, struct descriptor *d, uint32_t ext);
/* IRET with NT set. */
void task_return(struct engine *e);
/* SS:ESP of an inner ring from the current TSS.  Raises #TS(tr) beyond its limit. */
void task_inner_stack(struct engine *e, uint32_t cpl, uint32_t *selector, uint32_t *esp, uint32_t ext);
/* Is the current TSS a 32-bit one?  Only such a one has I/O and redirection bitmaps. */
bool tss32(const struct vcpu *v);
/* Virtual-8086 extensions: may INT `vector` go to the task's own handler?  The bit in the redirection bitmap is 0. */
bool vme_redirected(struct engine *e, uint32_t vector);

/* ---- system.c ---------------------------------------------------------------------------------- */

/* The PDPTEs that a load of CR3 with this value brings; #GP(0) when one has a reserved bit set. */
void pdptes_read(struct engine *e, uint32_t cr3, uint64_t pdpte[4]);

/* A write of a control register, or of an MSR by its number. */
static inline void
trace_cr(struct engine *e, uint32_t n, uint32_t value)
{
	if (unlikely(e->ctl->trace_mask & TRACE_CR))
		trace(e, TRACE_CR, n, value, 0);
}

/* As eflags_set, for a caller that goes on to set_cpl or state_changed itself. */
static inline void
eflags_put(struct engine *e, uint32_t value, uint32_t mask)
{
	struct vcpu *v = e->v;
	const uint32_t lazy = mask & FL_ARITH, kept = mask & ~(uint32_t)FL_ARITH;

	lf_put(e, (lf_get(e) & ~lazy) | (value & lazy));
	v->eflags = (v->eflags & ~kept) | (value & kept);
}

static inline void
require_cpl0(struct engine *e)
{
	if (e->v->cpl != 0)
		raise_gp0(e);
}

#endif
