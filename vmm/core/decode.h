/*
 * decode.h -- the decoder's state, shared by the files of the two opcode maps.
 */
#ifndef RF_DECODE_H
#define RF_DECODE_H

#include "codecache.h"
#include "fpu.h"
#include "handlers.h"
#include "slow.h"

#define MAX_INSN 15u		/* bytes of an instruction */

enum stop { STOP_NONE, STOP_BEFORE, STOP_GP };

/* What an instruction means to the flags before it. */
enum fact {
	FACT_FAULTS = 1,	/* may fault or leave: all flags must be there */
	FACT_READS = 2,
	FACT_KILLS = 4		/* overwrites all arithmetic flags */
};

struct decoded {
	handler *dead;		/* the handler to use when its flags are dead */
	uint8_t facts;
	uint8_t fuse;		/* enum fuse */
	bool side;		/* a branch out of the middle of the block */
};

struct decoder {
	struct engine *e;
	const uint8_t *page, *page2;	/* NULL where no memory answers: FFh */
	const uint8_t *memory, *memory2;	/* the same as they are in guest memory, when page and page2 are copies */
	struct op *op;
	handler *dead;
	uint64_t gpa2;
	uint32_t stamp2;		/* of that page, from before its bytes were read */
	uint32_t mode;
	uint32_t linear;	/* of the block's first byte */
	uint32_t pos;		/* next byte, from there; wraps for code before it */
	uint32_t range;		/* where the present run of contiguous code began */
	uint32_t start;		/* of the instruction, from there */
	uint32_t page_left;	/* bytes of the block's page */
	uint32_t limit;		/* bytes that the CS limit allows */
	int override;		/* segment register, or -1 */
	uint8_t rep;		/* 0, OP_REP, OP_REPNE */
	uint8_t facts, fuse, prev_fuse;
	uint8_t stop;		/* enum stop */
	bool side;		/* the instruction is a branch out of the middle of the block */
	bool follow;		/* the instruction is a JMP: decoding goes on at its target */
	bool pending;		/* the block is to be: V3 of watch.h */
	bool torn;		/* another vCPU stored there while we read */
	bool first, crossed, size16, addr16, prefix66, lock, lockable, end, fused;
};

/* decode_operand.c */
uint8_t decode_fetch8(struct decoder *d);
uint32_t decode_fetch16(struct decoder *d);
uint32_t decode_fetch32(struct decoder *d);
uint32_t decode_fetch_z(struct decoder *d);	/* an immediate of operand size */
uint32_t decode_fetch_signed8(struct decoder *d);
void decode_modrm(struct decoder *d);
void decode_modrm_bytes(struct decoder *d);	/* register operands are 8 bits wide */

/* decode_alu.c: `what` is the operation of opcodes 00..3F, 8 TEST; 0 INC, 1 DEC, 2 NOT, 3 NEG */
void decode_alu(struct decoder *d, uint32_t what, uint32_t form, bool byte);
void decode_alu_map(struct decoder *d, uint32_t opcode);
void decode_alu_rm_reg(struct decoder *d, uint32_t what, bool byte);
void decode_alu_rm_imm(struct decoder *d, uint32_t what, bool byte);
void decode_mov(struct decoder *d, enum form reg_form, enum form based, bool byte);
void decode_mov_reg_rm(struct decoder *d, bool byte);
void decode_unary(struct decoder *d, uint32_t what, bool byte);
void decode_shift_group(struct decoder *d, uint32_t opcode);
void decode_group3(struct decoder *d, bool byte);

/* LES LDS LSS LFS LGS. */
void decode_load_far(struct decoder *d, uint32_t sreg);
/* The maps: decode_1.c, decode_0f.c. */
void decode_one_byte(struct decoder *d, uint32_t opcode);
void decode_jcc(struct decoder *d, uint32_t cc, uint32_t rel);
void decode_two_byte(struct decoder *d);
void decode_fpu(struct decoder *d, uint32_t opcode);

/* ---- choosing handlers ------------------------------------------------------------------------ */

static inline bool
is_mem(const struct decoder *d)
{
	return (d->op->flags & OP_MEM) != 0;
}

/* May the memory operand go to linear memory unchecked? */
static inline bool
is_flat(const struct decoder *d)
{
	const uint8_t seg = d->op->seg;

	return (d->mode & MODE_FLAT) && !d->addr16 && (seg == DS || seg == SS || seg == ES);
}

/* The form of a memory operand, given its three. */
static inline uint32_t
mem_form(const struct decoder *d, uint32_t based, uint32_t flat, uint32_t general)
{
	return !is_flat(d) ? general : d->op->index == R_ZERO ? based : flat;
}

static inline bool
flat_stack(const struct decoder *d)
{
	return (d->mode & (MODE_FLAT | MODE_SS32)) == (MODE_FLAT | MODE_SS32) && !d->size16;
}

/* Flat 32-bit code, 32-bit operands: EIP needs no check. */
static inline bool
flat_code(const struct decoder *d)
{
	return (d->mode & (MODE_CS32 | MODE_CSFLAT)) == (MODE_CS32 | MODE_CSFLAT) && !d->size16;
}

static inline uint32_t
size_index(const struct decoder *d, bool byte)
{
	return byte ? 0 : d->size16 ? 1 : 2;
}

/* The byte offset into r[] of an 8-bit register: AL CL DL BL AH CH DH BH. */
static inline uint8_t
byte_reg(uint32_t n)
{
	return (uint8_t)((n & 3) * 4 + (n >> 2));
}

static inline void
slow(struct decoder *d, slow_insn *fn)
{
	d->op->fn = h_slow;
	d->op->slow = fn;
	d->facts = FACT_FAULTS;
}

static inline void
slow_end(struct decoder *d, slow_insn *fn)
{
	d->op->fn = h_slow_end;
	d->op->slow = fn;
	d->end = true;
}

/* What it changes of the engine's state, state_changed() or the code's context, it says itself. */
static inline void
slow_last(struct decoder *d, slow_insn *fn)
{
	d->op->fn = h_slow_last;
	d->op->slow = fn;
	d->end = true;
}

static inline void
slow_jump(struct decoder *d, slow_insn *fn)
{
	d->op->fn = h_slow_jump;
	d->op->slow = fn;
	d->end = true;
}

static inline void
undefined(struct decoder *d)
{
	slow_jump(d, i_ud);
	d->lockable = true;	/* #UD either way */
	d->facts = FACT_FAULTS;	/* and nothing of what the opcode would have been without LOCK */
	d->dead = NULL;
	d->fuse = 0;
}

static inline uint32_t
xmm_offset(uint32_t n)
{
	return (uint32_t)(offsetof(struct vcpu, fx) + offsetof(struct fx_image, xmm) + (n & 7) * sizeof(union xmm));
}

/* x87, MMX and SSE: a fast handler falls back on op->slow. */
static inline void
decode_forms(struct decoder *d, struct forms forms)
{
	if (!forms.slow) {
		undefined(d);
		return;
	}
	slow(d, forms.slow);
	if (!is_mem(d))
		d->op->fn = forms.based;
	else if (is_flat(d))
		d->op->fn = d->op->index == R_ZERO ? forms.based : forms.flat;
}

/* r: register form, f: flat, g: general memory form. */
static inline void
pick(struct decoder *d, handler *r, handler *f, handler *g)
{
	d->op->fn = !is_mem(d) ? r : is_flat(d) ? f : g;
	if (is_mem(d))
		d->facts |= FACT_FAULTS;
}

#endif
