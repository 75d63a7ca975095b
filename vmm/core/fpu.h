/*
 * fpu.h -- x87, MMX and SSE state: where it lives, and how an instruction gets at it.
 *
 * The guest's floating-point operations are executed by the host's own unit, so results,
 * rounding, flags and undocumented encodings are the host's to the bit.  Invariants:
 *
 *   F1  v->fx is an FXSAVE image.  The XMM registers are always there; FCW, FSW, FTW and ST0..7
 *       are there when e->fpu_where is FPU_IN_MEMORY, else in the host's x87 unit; FOP, FIP, FCS,
 *       FDP and FDS are there after x87_fold();
 *   F2  no unmasked x87 exception is pending in the host's unit between two instructions, so
 *       none of our own waiting or MMX instructions can fault.  One that is pending for the
 *       guest has FSW.ES set in v->fx, and the state is in memory;
 *   F3  inside run() the host's MXCSR is the guest's with every exception masked; flags raised
 *       since are only there until sse_fold();
 *   F4  x87_slow is 0 only while the state is in the host's unit, every exception is masked and
 *       CR0 allows x87 instructions; sse_slow is 0 only while every exception is masked and CR0
 *       and CR4 allow SSE instructions.  tlb_x87 and tlb_sse never hit otherwise.
 *
 * An instruction is a slow instruction, and for the frequent ones also a fast handler around the
 * same operation, which does what needs no check beyond F4 and a hit in the micro TLB; everything
 * else it hands to h_slow.
 *
 * On hosts other than x86-64 the lookups answer NULL (#UD): the CPU model must then hide FPU,
 * MMX, FXSR, SSE and SSE2.
 *
 * Source: Intel SDM volume 1, chapters 8 to 11; volume 3A, chapters 12 and 13.
 */
#ifndef RF_FPU_H
#define RF_FPU_H

#include "engine.h"
#include "handlers.h"

/* How an encoding is run: slow is NULL for #UD; both handlers are h_slow where there is no fast one. */
struct forms {
	slow_insn *slow;
	handler *based;		/* flat memory operand without an index; also register operands */
	handler *flat;		/* flat memory operand */
};

#define UNDEFINED ((struct forms){ NULL, NULL, NULL })
#define SLOW_FORM(insn) ((struct forms){ insn, h_slow, h_slow })
#define REG_FORM(insn, fast) ((struct forms){ insn, fast, fast })
#define MEM_FORM(insn, based, flat) ((struct forms){ insn, based, flat })

/* opcode: D8..DF, or the byte after 0F. */
struct forms fpu_lookup(uint32_t opcode, uint8_t modrm);
/* prefix: 0, 0x66, 0xF3 or 0xF2, the last of F2 and F3 winning over 66. */
struct forms simd_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm);
/* One handler for what two SSE instructions do that stand behind one another, or NULL: sse.c. */
handler *simd_pair(const struct op *first, const struct op *second);
slow_insn i_fwait;	/* 9B */

/* The guest wrote port F0h: IRQ 13 drops, and IGNNE# is asserted until the error is cleared. */
void x87_port_f0(struct engine *e);

/* v->fx after RESET#: FCW 0040h, all registers +0.0 and valid, MXCSR 1F80h. */
void fpu_reset(struct vcpu *v);

/* ---- the FXSAVE image ------------------------------------------------------------- */

/* Packed: a pointer to one may point at a guest's misaligned operand. */
union xmm {
	uint8_t b[16];
	uint16_t w[8];
	uint32_t d[4];
	uint64_t q[2];
} __attribute__((packed, may_alias));

struct st_slot {
	uint64_t mantissa;
	uint16_t exponent;	/* with the sign */
	uint16_t reserved[3];
} __attribute__((may_alias));

struct fx_image {
	uint16_t fcw;
	uint16_t fsw;
	uint8_t ftw;		/* abridged: bit n set if physical register n is not empty */
	uint8_t reserved0;
	uint16_t fop;
	uint32_t fip;
	uint16_t fcs;
	uint16_t reserved1;
	uint32_t fdp;
	uint16_t fds;
	uint16_t reserved2;
	uint32_t mxcsr;
	uint32_t mxcsr_mask;
	struct st_slot st[8];	/* ST0 first, whatever TOP is */
	union xmm xmm[8];
	uint8_t unused[224];
} __attribute__((may_alias));

_Static_assert(sizeof(struct fx_image) == sizeof(((struct vcpu *)0)->fx), "FXSAVE image");
_Static_assert(offsetof(struct fx_image, xmm) == 160, "XMM0 in the FXSAVE image");
_Static_assert(offsetof(struct vcpu, fx) % 16 == 0, "XMM registers are aligned as the vCPU is");

enum fcw { FCW_MASKS = 0x3f, FCW_DEFINED = 0x1f3f, FCW_ONE = 0x40, FCW_INIT = 0x37f };

enum fsw {
	FSW_IE = 1 << 0, FSW_DE = 1 << 1, FSW_ZE = 1 << 2, FSW_OE = 1 << 3, FSW_UE = 1 << 4, FSW_PE = 1 << 5,
	FSW_EXCEPTIONS = 0x3f, FSW_SF = 1 << 6, FSW_ES = 1 << 7, FSW_TOP_SHIFT = 11, FSW_TOP = 7 << 11, FSW_B = 1 << 15
};

enum mxcsr {
	MXCSR_IE = 1 << 0, MXCSR_DE = 1 << 1, MXCSR_ZE = 1 << 2, MXCSR_OE = 1 << 3, MXCSR_UE = 1 << 4, MXCSR_PE = 1 << 5,
	MXCSR_FLAGS = 0x3f, MXCSR_DAZ = 1 << 6, MXCSR_MASKS = 0x1f80, MXCSR_MASK_SHIFT = 7, MXCSR_FTZ = 1 << 15,
	MXCSR_INIT = 0x1f80, MXCSR_VALID = 0xffff	/* what MXCSR_MASK says: DAZ exists */
};

static inline struct fx_image *
fx_of(const struct engine *e)
{
	return (struct fx_image *)(void *)e->v->fx;
}

/* ---- memory operands ---------------------------------------------------------------- */

static inline uint32_t
operand_offset(const struct engine *e, const struct op *op)
{
	const uint32_t *r = e->v->r;
	const uint32_t ea = op->disp + r[op->base] + (r[op->index] << op->scale);

	return unlikely(op->flags & OP_ADDR16) ? ea & 0xffff : ea;
}

static inline uint32_t
operand_linear(struct engine *e, const struct op *op, uint32_t offset, uint32_t size, uint32_t acc)
{
	const uint32_t flat = 1u << ES | 1u << SS | 1u << DS;

	if (likely((e->mode & MODE_FLAT) && (flat >> op->seg & 1)))
		return offset;
	return seg_linear(e, op->seg, offset, size, acc);
}

/* `size` bytes at linear: in place when the micro TLB has the page, else a copy in buffer. */
static inline const void *
operand_bytes(struct engine *e, uint32_t linear, uint32_t size, void *buffer)
{
	const void *p = tlb_read_ptr(e, linear, size);

	if (likely(p != NULL))
		return p;
	mem_read_bytes(e, linear, buffer, size);
	return buffer;
}

/* The bytes of op's memory operand, without an alignment rule. */
static inline const void *
operand_source(struct engine *e, const struct op *op, uint32_t size, void *buffer)
{
	return operand_bytes(e, operand_linear(e, op, operand_offset(e, op), size, 0), size, buffer);
}

/* ---- memory operands of fast handlers -------------------------------------------------------- */

/* In tlb_x87 or tlb_sse.  The index in bytes, at once. */
#define FAST_SLOT_SHIFT (PAGE_SHIFT - 5)
_Static_assert(sizeof(struct tlb_entry) == 1 << (PAGE_SHIFT - FAST_SLOT_SHIFT), "an index is a shift");

static inline const struct tlb_entry *
fast_slot(const struct tlb_entry *tlb, uint32_t linear)
{
	return (const void *)((const uint8_t *)tlb + (linear >> FAST_SLOT_SHIFT & (TLB_ENTRIES - 1) * sizeof *tlb));
}

static inline void *
fast_read(const struct tlb_entry *tlb, uint32_t linear, uint32_t size)
{
	const struct tlb_entry *t = fast_slot(tlb, linear);

	return likely(t->rtag == ((linear + size - 1) & PAGE_MASK)) ? host_address(t, linear) : NULL;
}

static inline void *
fast_write(const struct tlb_entry *tlb, uint32_t linear, uint32_t size)
{
	const struct tlb_entry *t = fast_slot(tlb, linear);

	return likely(t->wtag == ((linear + size - 1) & PAGE_MASK)) ? host_address(t, linear) : NULL;
}

/* ---- x87 ------------------------------------------------------------------------------ */

void x87_acquire(struct engine *e);	/* the slow half of x87_begin */
void x87_check(struct engine *e);	/* the slow half of x87_end */
void x87_store_slow(struct engine *e, uint32_t linear, uint32_t size, void (*store)(void *to));
NORETURN void x87_no_device(struct engine *e);
/* A waiting instruction met FSW.ES.  Returns only while IGNNE# is asserted. */
void x87_pending(struct engine *e);

/* Of every waiting instruction: #NM, then a pending #MF, then the state is in the host's unit. */
static inline void
x87_begin(struct engine *e)
{
	if (unlikely((e->v->cr0 & (CR0_EM | CR0_TS)) | (e->fpu_where ^ FPU_IN_HOST)))
		x87_acquire(e);
}

/* Of FNSTSW and the like, which work wherever the state is. */
static inline void
x87_begin_nowait(struct engine *e)
{
	if (unlikely(e->v->cr0 & (CR0_EM | CR0_TS)))
		x87_no_device(e);
}

/* After every instruction that can raise an exception: keeps F2. */
static inline void
x87_end(struct engine *e)
{
	if (unlikely(e->fpu_unmasked))
		x87_check(e);
}

/*
 * "The last non-control instruction executed": SDM volume 1, 8.1.8.  The decoder puts into imm a
 * note of what is known by then: FOP in bits 0..10, the operand's segment register in 12..14, 1 in
 * 15, the offset from the block's start, signed, in 16..31.  The image gets it by x87_fold().
 */
#define X87_NOTE_SEG_SHIFT 12
#define X87_NOTE 0x8000u
#define X87_NOTE_OFFSET_SHIFT 16

static inline uint32_t
x87_note(const struct op *op)
{
	return (op->opcode & 7u) << 8 | op->modrm | (uint32_t)op->seg << X87_NOTE_SEG_SHIFT | X87_NOTE |
	    op_offset(op) << X87_NOTE_OFFSET_SHIFT;
}

static inline void
x87_record(struct engine *e, const struct op *op)
{
	e->x87_last_note = op->imm;
	e->x87_last_base = e->eip_base;
}

static inline void
x87_record_operand(struct engine *e, const struct op *op, uint32_t offset)
{
	x87_record(e, op);
	e->x87_last_operand_note = op->imm;
	e->x87_last_operand = offset;
}

void x87_fold(struct engine *e);	/* the pending notes into v->fx */

/* FSW.ES and B are functions of the flags and the masks. */
static inline void
fx_summarise(struct fx_image *fx)
{
	fx->fsw = (uint16_t)(fx->fsw & ~(FSW_ES | FSW_B));
	if (fx->fsw & ~fx->fcw & FSW_EXCEPTIONS)
		fx->fsw |= FSW_ES | FSW_B;
}

static inline uint32_t
fx_top(const struct fx_image *fx)
{
	return (uint32_t)(fx->fsw & FSW_TOP) >> FSW_TOP_SHIFT;
}

static inline uint16_t
fcw_defined(uint32_t value)
{
	return (uint16_t)((value & FCW_DEFINED) | FCW_ONE);
}

#if defined(__x86_64__)
static inline uint16_t
host_fsw(void)
{
	uint16_t x;

	__asm__ volatile("fnstsw %0" : "=a"(x));
	return x;
}
#endif

void fx_set_top(struct fx_image *fx, uint32_t top);
void fx_settle(struct engine *e);
void x87_set_control(struct engine *e, uint16_t cw);	/* FCW, while FPU_IN_HOST and not ignored */
void x87_to_memory(struct engine *e);	/* only while FPU_IN_HOST */

slow_insn x87_fldcw, x87_fnstcw, x87_fnstsw, x87_fnstsw_ax, x87_fninit, x87_fnclex, x87_fldenv, x87_fnstenv,
    x87_frstor, x87_fnsave, x87_fnop_nowait, fx_save, fx_restore;

/* ---- MMX -------------------------------------------------------------------------------- */

void mmx_acquire(struct engine *e);
void mmx_take_over(struct engine *e);

/* CR0.EM is #UD here, TS #NM; then a pending #MF; then the state is in memory. */
static inline void
mmx_begin(struct engine *e)
{
	if (unlikely((e->v->cr0 & (CR0_EM | CR0_TS)) || e->fpu_where == FPU_IN_HOST || (fx_of(e)->fsw & FSW_ES)))
		mmx_acquire(e);
}

/*
 * The instruction can't fault any more.  TOP becomes 0 and every register valid, after which
 * MMn lies in st[n].
 */
static inline void
mmx_commit(struct engine *e)
{
	const struct fx_image *fx = fx_of(e);

	if (unlikely(fx->ftw != 0xff || (fx->fsw & FSW_TOP)))
		mmx_take_over(e);
}

/* MMn before mmx_commit. */
static inline uint64_t
mmx_peek(const struct engine *e, uint32_t n)
{
	const struct fx_image *fx = fx_of(e);

	return fx->st[(n - fx_top(fx)) & 7].mantissa;
}

static inline void
mmx_put(struct engine *e, uint32_t n, uint64_t value)
{
	struct fx_image *fx = fx_of(e);

	fx->st[n & 7].mantissa = value;
	fx->st[n & 7].exponent = 0xffff;
}

/*
 * 0F opcodes of packed-integer operations, dest = dest op source, that exist both for MMX
 * registers and, with the prefix 66, for XMM registers.
 */
#define PACKED_INTEGER_OPS(X)								\
	X(63, packsswb) X(64, pcmpgtb) X(65, pcmpgtw) X(66, pcmpgtd) X(67, packuswb)	\
	X(68, punpckhbw) X(69, punpckhwd) X(6A, punpckhdq) X(6B, packssdw)		\
	X(74, pcmpeqb) X(75, pcmpeqw) X(76, pcmpeqd)					\
	X(D1, psrlw) X(D2, psrld) X(D3, psrlq) X(D4, paddq) X(D5, pmullw)		\
	X(D8, psubusb) X(D9, psubusw) X(DA, pminub) X(DB, pand)				\
	X(DC, paddusb) X(DD, paddusw) X(DE, pmaxub) X(DF, pandn)			\
	X(E0, pavgb) X(E1, psraw) X(E2, psrad) X(E3, pavgw) X(E4, pmulhuw) X(E5, pmulhw)	\
	X(E8, psubsb) X(E9, psubsw) X(EA, pminsw) X(EB, por)				\
	X(EC, paddsb) X(ED, paddsw) X(EE, pmaxsw) X(EF, pxor)				\
	X(F1, psllw) X(F2, pslld) X(F3, psllq) X(F4, pmuludq) X(F5, pmaddwd) X(F6, psadbw)	\
	X(F8, psubb) X(F9, psubw) X(FA, psubd) X(FB, psubq)				\
	X(FC, paddb) X(FD, paddw) X(FE, paddd)

/* Shifts by an immediate: opcode, ModRM.reg, operation. */
#define PACKED_SHIFTS(X)								\
	X(71, 2, psrlw) X(71, 4, psraw) X(71, 6, psllw)					\
	X(72, 2, psrld) X(72, 4, psrad) X(72, 6, pslld)					\
	X(73, 2, psrlq) X(73, 6, psllq)

/* MASKMOVQ, MASKMOVDQU: the bytes of data whose mask has bit 7, to DS:(E)DI or as overridden. */
void masked_store(struct engine *e, const struct op *op, const uint8_t *data, const uint8_t *mask, uint32_t size);

static inline bool
modrm_is_register(uint8_t modrm)
{
	return modrm >= 0xc0;
}

/* 0F opcodes without prefix that work on MMX registers alone. */
struct forms mmx_lookup(uint32_t opcode, uint8_t modrm);

/* ---- SSE -------------------------------------------------------------------------------- */

NORETURN void sse_refuse(struct engine *e);
NORETURN void sse_misaligned(struct engine *e);

/* #UD for CR0.EM or without CR4.OSFXSR, #NM for TS. */
static inline void
sse_begin(struct engine *e)
{
	const struct vcpu *v = e->v;

	if (unlikely((v->cr0 & (CR0_EM | CR0_TS)) | (~v->cr4 & CR4_OSFXSR)))
		sse_refuse(e);
}

/* A 16-byte operand, which must be aligned. */
static inline const void *
sse_source(struct engine *e, const struct op *op, void *buffer)
{
	const uint32_t linear = operand_linear(e, op, operand_offset(e, op), 16, 0);

	if (unlikely(linear & 15))
		sse_misaligned(e);
	return operand_bytes(e, linear, 16, buffer);
}

static inline void
sse_store(struct engine *e, const struct op *op, const union xmm *value)
{
	const uint32_t linear = operand_linear(e, op, operand_offset(e, op), 16, PF_W);

	if (unlikely(linear & 15))
		sse_misaligned(e);
	st128(e, op, linear, value);
}

static inline union xmm *
sse_reg(const struct engine *e, const struct op *op)
{
	return &fx_of(e)->xmm[op->reg & 7];
}

static inline union xmm *
sse_rm(const struct engine *e, const struct op *op)
{
	return &fx_of(e)->xmm[op->rm & 7];
}

void sse_fold(struct engine *e);	/* sticky flags of the host's MXCSR into the guest's */
void sse_load_mxcsr(struct engine *e, uint32_t value);

struct forms sse_convert_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm);
struct forms sse_move_lookup(uint32_t opcode, uint32_t prefix, uint8_t modrm);
handler *sse_move_pair(const struct op *first, const struct op *second);
struct forms sse_int_lookup(uint32_t opcode, uint8_t modrm);	/* prefix 66 */

#endif
