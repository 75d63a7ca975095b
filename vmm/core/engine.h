/*
 * engine.h -- the interpreter's own state and the contracts between its files.
 *
 * A `struct engine` lives at the start of the arena that is handed to engine_init; it and
 * all that it points to belong to one process.  Guest-visible state is never kept here.
 *
 * Instructions are of two kinds.  A *handler* runs an op of a decoded block and goes on to
 * the next by a sibling call.  A *slow instruction* is a plain function
 *
 *	void i_name(struct engine *e, const struct op *op)
 *
 * called by the handlers h_slow (falls through to the next op), h_slow_end (the block ends,
 * execution goes on at next_eip), h_slow_last (the same, of one that calls state_changed() itself
 * where it must) and h_slow_jump (the function has set v->eip itself).  It may
 * leave by raise_*() or leave(), neither of which returns: so it commits registers only when
 * nothing can fail any more.
 */
#ifndef RF_ENGINE_H
#define RF_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core.h"
#include "interrupts.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define COLD __attribute__((noinline, cold))
#define NORETURN __attribute__((noreturn, noinline, cold))

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096u
#define PAGE_MASK 0xfffff000u

/* Page-fault error code bits, also the access that a walk is asked for. */
enum pf { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };

/* ---- micro TLB ------------------------------------------------------------------
 * A direct-mapped cache of host addresses in front of the shadow page table, one array per
 * view (supervisor, user).  A tag is the page's linear address when that access may go
 * straight to host memory, TLB_NONE otherwise: then the slow path of mem.c decides.
 */
#define TLB_ENTRIES 1024
#define TLB_WORDS (2 * TLB_ENTRIES / 64)
#define TLB_WRITTEN_WORDS 8
#define TLB_NONE 0x800u		/* no page, nor the address of an aligned operand as sse_core.h compares it */

struct tlb_entry {
	uint32_t rtag;
	uint32_t wtag;
	uint32_t xtag;		/* instruction fetch */
	uint32_t ppn;
	uintptr_t addend;	/* host address = addend + linear */
	uint64_t global;	/* SPTE_G or 0: outlives a load of CR3.  32 bytes: an index is a shift */
};

enum view { VIEW_SUPERVISOR, VIEW_USER };

/* ---- decoded code ---------------------------------------------------------------- */

struct engine;
struct op;
typedef const struct op *handler(struct vcpu *v, const struct op *op, struct engine *e);
typedef void slow_insn(struct engine *e, const struct op *op);

enum op_flag {
	OP_SIZE16 = 1 << 0,	/* operand size 16 (16/32-bit instructions) */
	OP_ADDR16 = 1 << 1,	/* address size 16 */
	OP_REP = 1 << 2,	/* F3 */
	OP_REPNE = 1 << 3,	/* F2 */
	OP_LOCK = 1 << 4,
	OP_MEM = 1 << 5,	/* ModRM names memory */
	OP_STACK16 = 1 << 6,	/* SS.B == 0 */
	OP_FUSED = 1 << 7	/* and the Jcc behind it: two instructions */
};

/*
 * One decoded instruction.  Effective address: disp + r[base] + (r[index] << scale), cut to
 * 16 bits when OP_ADDR16; base and index are R_ZERO when absent.
 */
struct op {
	handler *fn;
	union {
		slow_insn *slow;	/* h_slow* */
		uint32_t link[2];	/* branches: arena offsets of the taken and not-taken blocks; no_block none */
	};
	uint32_t disp;
	uint32_t imm;		/* branches: target, from the start of the block */
	uint8_t reg;		/* ModRM.reg; for 8-bit operands the byte offset into r[] */
	uint8_t rm;		/* ModRM.rm if a register; for 8-bit operands the byte offset */
	uint8_t base;
	uint8_t index;
	uint8_t scale;
	uint8_t seg;		/* enum sreg of the memory operand, overrides applied */
	uint8_t length;		/* bytes of the instruction */
	uint8_t flags;		/* enum op_flag */
	int16_t offset;		/* of the instruction from the start of its block, which may lie behind it */
	uint16_t imm16;		/* far pointers: the selector; ENTER, RET n, RETF n: the size */
	uint8_t imm2;		/* ENTER: level; else what the instruction's function says: a size or a sub-operation */
	uint8_t opcode;		/* last opcode byte */
	uint8_t modrm;
	uint8_t prefix;		/* 66 F3 F2 as it selects an SSE form, else 0 */
	uint32_t xmm_reg;	/* SSE: where XMM register reg is, in bytes from the vCPU */
	union {
		uint32_t cc_imm;	/* fused compare and branch: the compare's immediate */
		uint32_t xmm_rm;	/* SSE: XMM register rm */
	};
};

struct block {
	uint64_t paddr;		/* physical address of the first byte */
	const uint32_t *stamp_cell;	/* of its page; compared with stamp at every entry */
	uint32_t stamp;
	uint32_t mode;		/* enum block_mode */
	uint32_t ppn;
	uint32_t ppn2;		/* the second page of a block that crosses, else ~0 */
	uint32_t stamp2;
	uint32_t next;		/* hash chain: arena offset */
	uint32_t eip, gen;	/* where it was last found, and the code_gen or global_gen at which it is there */
	uint16_t count;		/* instructions */
	uint16_t length;	/* bytes */
	uint16_t ops_count;
	uint16_t pending;	/* V3 of watch.h: a copy of the `length` bytes follows the ops */
	struct op ops[];
};

/* What decoding depended on, beside the bytes. */
enum block_mode {
	MODE_CS32 = 1 << 0, MODE_SS32 = 1 << 1,
	MODE_FLAT = 1 << 2,	/* DS, ES, SS: base 0, limit 4 GiB - 1, writable, expand-up */
	MODE_CSFLAT = 1 << 3,	/* CS: base 0, limit 4 GiB - 1 */
	MODE_ONE = 1 << 4	/* one instruction per block: TF, single step, replay of an exit */
};

/* ---- replay ----------------------------------------------------------------------
 * An access that Python answers leaves run() before the instruction has committed anything;
 * the instruction is then executed again and finds the answer here.
 */
#define REPLAYS 256	/* more than any instruction makes: a task switch between TSSs in MMIO */
struct replay_entry { uint64_t address; uint64_t data[2]; uint32_t width; uint32_t is_port; uint32_t write; uint32_t units; };
struct replay {
	uint32_t count, cursor;
	struct replay_entry log[REPLAYS];
};
struct asked { uint64_t address; uint32_t width; uint32_t write; uint32_t units; uint32_t string; };

/* Where an indirect branch went: valid at one code_gen. */
#define JUMP_HINTS 4096
#define CODE_VPNS 16384
struct jump_hint { uint32_t eip; uint32_t gen; struct block *block; };

/* A page that this vCPU runs code from, and when it asked the others to give up their write tags: watch.h */
#define WATCHES 4096
struct watch { uint64_t epoch; uint32_t ppn; uint32_t stamp; };	/* epoch 0: none */

/* How an event is delivered. */
enum event_kind {
	EV_EXTERNAL,		/* INTR, NMI */
	EV_EXCEPTION,		/* hardware exception */
	EV_SOFT,		/* INT n: gate DPL checked, no EXT */
	EV_SOFT_TRAP,		/* INT3, INTO: as EV_SOFT but never redirected by VME */
	EV_ICEBP		/* F1: no DPL check */
};

/* An event whose delivery left run(): begun again at the next one. */
struct event_args { uint32_t vector; uint32_t kind; uint32_t error; bool has_error; bool due; };

struct fault {
	uint32_t vector;
	uint32_t error;
	bool has_error;
	bool pending;
};

/* A breakpoint of the debugger. */
struct breakpoint { uint32_t linear; uint32_t length; uint32_t kind; uint32_t used; };
#define BREAKPOINTS 64

/* x87 state lives in the host's unit or in v->fx. */
enum fpu_where { FPU_IN_MEMORY, FPU_IN_HOST };

struct engine {
	/* hot: touched by every block */
	struct tlb_entry *tlb_cur;	/* tlb[view], or tlb_off */
	uint32_t lf_result;	/* lazy flags: see flags.h */
	uint32_t lf_aux;
	uint32_t eip_base;	/* EIP of the running block's first byte */
	uint32_t code_gen;	/* changes whenever linear code may mean something else */
	uint32_t global_gen;	/* likewise for the pages that a load of CR3 leaves alone */
	int64_t budget;		/* instructions until the next poll */
	uint32_t *stamps;
	struct control *ctl;
	uint32_t mode;		/* enum block_mode of the current state */
	uint32_t code_flushes;	/* times the whole code cache was dropped */
	struct block *block;	/* the running block */
	uint32_t zero_stamp;	/* the stamp of pages that never change */
	uint32_t no_block;	/* arena offset of a block that is never valid: what an unset link names */
	const struct op *cur;	/* the instruction in a slow path; NULL outside one */
	struct vcpu *v;
	int64_t budget_mark;	/* value of budget when insns were last counted */

	/* the machine */
	struct machine *m;
	struct interrupts *intr;
	struct control *ctl_of[RF_VCPUS];
	struct vcpu *vcpu_of[RF_VCPUS];
	uint8_t *ram;
	uint8_t *dev;
	uint8_t *pages;
	uint64_t *codemap;
	uint8_t *page_flags;
	uint64_t *pmap;
	uint32_t slot_generation;
	struct cpu_model model;

	/* leaving */
	uint32_t leaving;		/* enum exit_kind, or EXIT_NONE while the loop goes on */
	uint32_t delivering_vector;
	bool in_delivery;		/* deliver_event() is running */
	struct event_args event;
	uint32_t first_vector;		/* of a chain of faults */
	uint32_t fault_chain;
	void *jump[5];		/* __builtin_setjmp of the run loop */
	struct fault fault;
	struct replay replay;
	struct asked asked;		/* the access that left run() */
	uint32_t left_by;		/* enum exit_kind of the last exit */
	bool answer_due;		/* it was an access whose answer joins the replay log */
	bool hypercall_answered;
	bool step_trap;			/* TF was set when the running instruction began; deliver() clears it */
	bool one_shot;			/* run one instruction only, then look at events */
	uint32_t began_rf, began_inhibit;	/* EFLAGS.RF and inhibit as the running instruction found them (MODE_ONE) */
	bool watch_hit;			/* the debugger's watchpoint was met, at watch_linear */
	uint32_t watch_linear;
	uint32_t data_hits;		/* DR6 bits of data breakpoints met by the running instruction */
	uint8_t string_data[RF_IO_BUFFER];	/* INS: the batch that was read */
	uint32_t delivering;		/* an exception (delivering_vector) is being delivered: a fault now may be a double fault */

	/* FPU */
	uint8_t x87_slow;	/* fpu_changed(): a fast x87 handler may not run now */
	uint8_t sse_slow;	/* likewise SSE */
	struct tlb_entry *tlb_x87;	/* tlb_cur; tlb_off while x87_slow, so that one test does */
	struct tlb_entry *tlb_sse;
	uint16_t x87_selectors[6];	/* by enum sreg: those that the pending notes mean */
	/* FOP to FDS before x87_fold().  Apart from one another, or gcc merges the stores by way of an XMM register. */
	uint32_t x87_last_note;
	uint32_t fpu_where;	/* enum fpu_where */
	uint32_t x87_last_base;	/* eip_base */
	uint32_t fpu_unmasked;	/* some x87 exception is unmasked in the guest's control word */
	uint32_t x87_last_operand_note;
	uint32_t host_mxcsr;
	uint32_t x87_last_operand;
	uint32_t sse_unmasked;	/* some SIMD exception is unmasked */
	uint32_t fpu_ignored;	/* IGNNE#: 0x10000 | the guest's FCW while the host's unit has it masked */
	uint32_t fpu_host_cw;	/* the host's own x87 control word */

	struct tlb_entry tlb[2][TLB_ENTRIES];
	uint64_t tlb_used[2][TLB_WORDS];	/* bits by entry of tlb: it may hold something; [1]: a global page */
	uint64_t tlb_words[2];	/* bits by word of tlb_used: it may not be 0 */
	uint64_t tlb_written[TLB_WRITTEN_WORDS];	/* bits by PPN, modulo their number: some entry may have a write tag */
	struct tlb_entry tlb_off[TLB_ENTRIES];	/* never hits: alignment checks, watchpoints */
	uint32_t tlb_disabled;	/* use tlb_off */
	struct jump_hint jumps[JUMP_HINTS];

	uint32_t breakpoint_count;
	uint32_t data_watch;	/* DR7 or the debugger watches data somewhere */
	struct breakpoint breakpoints[BREAKPOINTS];

	/* what code_gen stands for: see codecache.c */
	uint32_t gen_last, context_next, context_now;
	uint64_t code_vpns[2][CODE_VPNS / 64];	/* bit VPN % CODE_VPNS: a jump hint or link may lead there; [1]: it is global */
	uint64_t code_words[2][CODE_VPNS / 64 / 64];	/* bits by word of code_vpns: it is not 0 */
	struct { uint32_t mode, view, cs_base, gen, global_gen; } contexts[8];

	/* other vCPUs: watch.c */
	uint64_t watch_settled;	/* every request up to this one has been obeyed by all */
	struct watch watches[WATCHES];	/* at PPN % WATCHES */
	uint8_t seen[PAGE_SIZE + 16];	/* what is decoded: a copy, since others may store meanwhile; then of the second page */
	uint32_t pauses;	/* PAUSE instructions since the last poll */
	uint32_t one_stamp;	/* 1; this or zero_stamp is what a block is compared with that must not match */

	/* clock and accounting */
	uint64_t run_end_ns;	/* guest_now at which the quantum ends */
	uint64_t last_poll_ns;
	bool clock_is_fresh;		/* last_poll_ns was read for this run(), and no instruction has run since */
	uint64_t deadline;		/* of the next timer, guest ns */
	uint32_t counted_cpl;		/* ring to which the instructions since budget_mark belong */

	/* direct execution: direct.h */
	struct direct *direct;		/* NULL: there is none */
	int64_t direct_wait;		/* instructions of an outer ring to interpret before it */
	int64_t direct_held;		/* cut off the budget meanwhile */
	uint64_t windows_show;		/* bits (2 * space + view) % 64 of what the crew's windows show: window.h */

	/* arena: the code cache and the shadow page table manage their own parts */
	uint64_t arena_bytes;
	uint64_t arena_asked;	/* bits of its pages of 2 MiB: world_arena.c */
	uint64_t code_start, code_next, code_end;	/* arena offsets */
	uint64_t hash_start;	/* uint32_t[CODE_HASH] */
	uint64_t shadow_start, shadow_end;
};

#define CODE_HASH_BITS 17
#define CODE_HASH (1u << CODE_HASH_BITS)	/* of some 100,000 blocks that a booted kernel has */
#define PAUSES_BEFORE_YIELD 512	/* between two polls: some 10 us of spinning */

static inline void *
arena_at(struct engine *e, uint64_t offset)
{
	return (uint8_t *)e + offset;
}

/* ---- leaving an instruction (run.c) ---------------------------------------------- */

NORETURN void raise_fault(struct engine *e, uint32_t vector, uint32_t error);	/* with an error code */
NORETURN void raise_noerr(struct engine *e, uint32_t vector);
NORETURN void raise_pf(struct engine *e, uint32_t linear, uint32_t error);	/* sets CR2, counts a true fault */
#define raise_ud(e) raise_noerr((e), V_UD)
#define raise_gp0(e) raise_fault((e), V_GP, 0)
/* Leave run() with ctl->exit filled in; the instruction is executed again at the next run(). */
NORETURN void leave(struct engine *e, uint32_t exit_kind);

static inline uint32_t
op_offset(const struct op *op)
{
	return (uint32_t)(int32_t)op->offset;
}

static inline uint32_t
cur_eip(const struct engine *e)
{
	return e->cur ? e->eip_base + op_offset(e->cur) : e->v->eip;
}

/* EIP after the current instruction, cut to 16 bits in 16-bit code. */
static inline uint32_t
next_eip(const struct engine *e)
{
	uint32_t ip = e->eip_base + op_offset(e->cur) + e->cur->length;

	return e->mode & MODE_CS32 ? ip : ip & 0xffff;
}

static inline bool
protected_mode(const struct vcpu *v)	/* CR0.PE and not virtual-8086 */
{
	return (v->cr0 & CR0_PE) && !(v->eflags & FL_VM);
}

static inline bool
v86_mode(const struct vcpu *v)
{
	return (v->eflags & FL_VM) != 0;
}

static inline uint32_t
iopl(const struct vcpu *v)
{
	return (v->eflags & FL_IOPL) >> FL_IOPL_SHIFT;
}

static inline uint32_t
seg_dpl(const struct segment *s)
{
	return (s->attr & SEG_DPL) >> SEG_DPL_SHIFT;
}

/* ---- flags (flags.h holds the lazy scheme) ---------------------------------------- */

uint32_t eflags_get(struct engine *e);	/* the complete register, lazy flags included */
/* Replace the bits in mask.  Handles arithmetic flags, and TF/AC/IF/VM side effects (state_changed). */
void eflags_set(struct engine *e, uint32_t value, uint32_t mask);

/* ---- memory (mem.c) ----------------------------------------------------------------
 * Linear accesses.  `acc` is PF_W for a write, PF_U for an access with user rights; the plain
 * forms use the rights of the current CPL.  All raise #PF (or #AC) or leave run(); none returns
 * an error.  Values are little-endian and zero-extended.
 */
uint32_t mem_read(struct engine *e, uint32_t linear, uint32_t size);		/* 1, 2, 4 */
void mem_write(struct engine *e, uint32_t linear, uint32_t size, uint32_t value);
uint64_t mem_read64(struct engine *e, uint32_t linear);
void mem_write64(struct engine *e, uint32_t linear, uint64_t value);
void mem_read_bytes(struct engine *e, uint32_t linear, void *to, uint32_t size);	/* <= 512, crosses at most one page edge */
void mem_write_bytes(struct engine *e, uint32_t linear, const void *from, uint32_t size);
/* Would a write of `size` bytes succeed?  Raises if not; A and D are set.  MMIO passes. */
void mem_check_write(struct engine *e, uint32_t linear, uint32_t size);
void mem_check_read(struct engine *e, uint32_t linear, uint32_t size);
/* Implicit supervisor accesses: descriptor tables, TSS, inner stacks being switched to. */
uint32_t sys_read(struct engine *e, uint32_t linear, uint32_t size);
void sys_write(struct engine *e, uint32_t linear, uint32_t size, uint32_t value);
uint64_t sys_read64(struct engine *e, uint32_t linear);
void sys_check_write(struct engine *e, uint32_t linear, uint32_t size);
/* One locked update of a byte of a descriptor; the value that was there. */
uint32_t sys_update8(struct engine *e, uint32_t linear, uint32_t clear, uint32_t set);

/* Locked read-modify-write of `size` bytes: a host pointer if plain RAM within one cache-safe
 * page, else NULL (the caller then uses mem_read/mem_write).  Raises as a write would. */
void *mem_locked(struct engine *e, uint32_t linear, uint32_t size);
void mem_locked_done(struct engine *e, uint32_t linear, uint32_t size);	/* after the store through it */

/* Segment-checked address of a memory operand: raises #GP(0)/#SS(0).  acc: 0 or PF_W. */
uint32_t seg_linear(struct engine *e, uint32_t sreg, uint32_t offset, uint32_t size, uint32_t acc);
/* Effective address of op, before the segment. */
uint32_t op_ea(const struct engine *e, const struct op *op);
/* Both. */
uint32_t op_linear(struct engine *e, const struct op *op, uint32_t size, uint32_t acc);

/* Guest physical accesses by the core itself (page walks).  Beyond RAM: all ones, writes dropped. */
uint32_t phys_read32(struct engine *e, uint64_t gpa);
uint64_t phys_read64(struct engine *e, uint64_t gpa);
/* Atomically set bits in a table entry.  False when the entry no longer equals `expect`. */
bool phys_cas32(struct engine *e, uint64_t gpa, uint32_t expect, uint32_t value);
bool phys_cas64(struct engine *e, uint64_t gpa, uint64_t expect, uint64_t value);

void tlb_init(struct engine *e);
void tlb_flush(struct engine *e);			/* the whole micro TLB, and code_gen */
void tlb_flush_space(struct engine *e);			/* all but the global pages */
void tlb_flush_page(struct engine *e, uint32_t linear);
void tlb_flush_writes(struct engine *e, uint32_t ppn);	/* a page became code or traced */
void tlb_flush_all_writes(struct engine *e);		/* a page became code on another vCPU */

/* A store reached ppn (offset, size within the page): drop what was cached of it. */
void page_written(struct engine *e, uint32_t ppn, uint32_t offset, uint32_t size);

/* ---- shadow page table (shadow.c) --------------------------------------------------
 * SPTE: bits 12.. the MPN, i.e. host page index within its file; low bits enum spte_bit.
 */
enum spte_bit {
	SPTE_P = 1, SPTE_W = 2,		/* writable in this view, and D is set in the guest's entry */
	SPTE_X = 4,			/* executable (NX clear) */
	SPTE_DEV = 8,			/* the file is dev, not ram */
	SPTE_TRACED = 16,		/* a guest page table: every store must be seen */
	SPTE_G = 32,			/* global */
	SPTE_LARGE = 64,		/* a slice of a 4 MiB or 2 MiB page */
	SPTE_MMIO = 128,		/* no memory behind it: bits 12.. are the PPN */
	SPTE_ROM = 256,			/* stores are dropped */
	SPTE_FB = 512			/* framebuffer: stores set dirty bits */
};

enum shadow_result { SHADOW_FILLED, SHADOW_TRUE_FAULT, SHADOW_FAULT_PPN };

struct shadow_hit {
	uint64_t spte;
	uint64_t gpa;		/* of the page, A20 applied */
	uint32_t error;		/* SHADOW_TRUE_FAULT: the guest's error code */
};
void tlb_put(struct engine *e, uint32_t linear, uint32_t acc, const struct shadow_hit *hit);

/*
 * Translate `linear` for an access (PF_W, PF_U, PF_I bits), filling the table and setting the
 * guest's A and D bits as hardware does.  PF_U absent means supervisor rights.
 */
enum shadow_result shadow_access(struct engine *e, uint32_t linear, uint32_t acc, struct shadow_hit *hit);
void shadow_init(struct engine *e);
void shadow_load_cr3(struct engine *e);		/* after v->cr3 (and pdpte) changed: keeps what is true */
void shadow_invlpg(struct engine *e, uint32_t linear);
void shadow_mode_changed(struct engine *e);	/* after CR0.PG/WP, CR4.PSE/PAE/PGE, EFER.NXE, A20 or slots changed: drops all */
/* The slot that holds ppn, or NULL. */
const struct slot *slot_find(const struct engine *e, uint32_t ppn);
/* Walk without side effects, supervisor read.  False when not present. */
bool shadow_peek(struct engine *e, uint32_t linear, uint64_t *gpa);

/* ---- segments and transfers (segment.c, transfer.c, task.c) ------------------------- */

void load_segment(struct engine *e, uint32_t sreg, uint32_t selector);	/* MOV/POP/LxS: ES SS DS FS GS, every mode */
void far_jump(struct engine *e, uint32_t selector, uint32_t offset, bool op16);
void far_call(struct engine *e, uint32_t selector, uint32_t offset, bool op16);
/* Deliver an event through the IDT or IVT.  v->eip is the return address.  Sets CS:EIP. */
void deliver(struct engine *e, uint32_t vector, enum event_kind kind, bool has_error, uint32_t error);
/* After any change of CPL, CR0, CR4, EFLAGS.VM/TF/AC, DR7 or a segment: recompute mode, view, code_gen. */
void state_changed(struct engine *e);
void set_cpl(struct engine *e, uint32_t cpl);	/* counts the transition, then state_changed */

void code_page_forget(struct engine *e, uint32_t linear);	/* one page may map elsewhere */
void code_contexts_forget(struct engine *e);	/* linear addresses may map elsewhere: every code_gen is new */
void code_space_forget(struct engine *e);	/* those of global pages map where they did */
void code_stale_running(struct engine *e, uint32_t ppn);	/* C3 of codecache.h */

/* I/O permission: raises #GP(0) if the TSS bitmap or IOPL forbids it. */
void check_io(struct engine *e, uint32_t port, uint32_t size);
/* Port access after the permission check; answers from the core or leaves run(). */
uint32_t port_in(struct engine *e, uint32_t port, uint32_t size);
void port_out(struct engine *e, uint32_t port, uint32_t size, uint32_t value);
bool port_string_done(struct engine *e, uint32_t port, uint32_t size, uint32_t *n, bool write);
void port_string(struct engine *e, uint32_t port, uint32_t size, uint32_t n, const uint8_t *data, bool write);
bool hypercall_done(struct engine *e);		/* true once, after the VMX has answered EXIT_HYPERCALL */
uint64_t mmio_read(struct engine *e, uint64_t gpa, uint32_t size);
void mmio_write(struct engine *e, uint64_t gpa, uint32_t size, uint64_t value);
void kick_vcpus(struct engine *e, uint32_t mask);
/* control_kick() by the process of vCPU `who`; RF_VCPUS: the VMX. */
void control_kick_by(struct control *ctl, uint32_t who, uint32_t bits);
void replay_collect(struct engine *e);
void replay_expect(struct engine *e, uint32_t exit_kind);

/* One trace event into the control page's ring; the caller has looked at trace_mask. */
void trace(struct engine *e, uint32_t kind, uint32_t what, uint32_t value, uint32_t extra);

/* ---- stack helpers: push/pop on SS with SS.B, limit and page checks ------------------ */
void push_n(struct engine *e, uint32_t size, uint32_t value);		/* 2 or 4; commits ESP */
/* ESP with n added (n may be negative), wrapped as SS.B says. */
static inline uint32_t
sp_add(const struct vcpu *v, uint32_t sp, uint32_t n)
{
	return v->seg[SS].attr & SEG_DB ? sp + n : (sp & 0xffff0000u) | ((sp + n) & 0xffff);
}
/* Read at SS:(ESP + n) without committing. */
uint32_t stack_peek(struct engine *e, uint32_t n, uint32_t size);

/* ---- time ------------------------------------------------------------------------- */
uint64_t tsc_now(struct engine *e);
/* Add the instructions since the last call to the statistics, and to a counted clock. */
void count_insns(struct engine *e);
/* Make the running block the last one before the run loop looks at events and the clock. */
void poll_soon(struct engine *e);

/* ---- FPU (fpu.c, sse.c) -------------------------------------------------------------- */
void fpu_enter(struct engine *e);	/* start of run(): host MXCSR saved, the guest's loaded, masked */
void fpu_leave(struct engine *e);	/* end of run(): x87 state back in v->fx, host control restored */
void fpu_sync(struct engine *e);	/* x87 state into v->fx, now */
void fpu_changed(struct engine *e);	/* from state_changed(): CR0, CR4 or a selector may be another */

#endif
