/*
 * fpu_env.c -- x87 control instructions, environments and state images: FLDCW, FNSTSW, FNINIT,
 * FNSTENV, FRSTOR, FXSAVE and their like.
 *
 * None of them updates FOP, FIP and FDP.  Those without waiting ("N") run whether an exception
 * is pending or not, and wherever the state is.
 *
 * Source: Intel SDM volume 1, 8.1.10 and 10.5; volume 2, FLDCW to FXRSTOR.
 */
#include "fpu.h"

#if defined(__x86_64__)

/* FNENI, FNDISI and FNSETPM: "treated as integer no-operations" since the 387. */
void
x87_fnop_nowait(struct engine *e, const struct op *op)
{
	(void)op;
	x87_begin_nowait(e);
}

void
x87_fldcw(struct engine *e, const struct op *op)
{
	uint16_t buffer, cw;

	x87_begin(e);
	cw = fcw_defined(host_ld16(operand_source(e, op, 2, &buffer)));
	if (e->fpu_ignored) {
		x87_to_memory(e);
		fx_of(e)->fcw = cw;
		fx_settle(e);
		return;
	}
	x87_set_control(e, cw);
	x87_end(e);
}

void
x87_fnstcw(struct engine *e, const struct op *op)
{
	uint16_t cw = fx_of(e)->fcw;

	x87_begin_nowait(e);
	if (e->fpu_where == FPU_IN_HOST)
		__asm__ volatile("fnstcw %0" : "=m"(cw));
	st16(e, op, operand_linear(e, op, operand_offset(e, op), 2, PF_W), cw);
}

static uint16_t
status_word(struct engine *e)
{
	x87_begin_nowait(e);
	return e->fpu_where == FPU_IN_HOST ? host_fsw() : fx_of(e)->fsw;
}

void
x87_fnstsw(struct engine *e, const struct op *op)
{
	const uint16_t sw = status_word(e);

	st16(e, op, operand_linear(e, op, operand_offset(e, op), 2, PF_W), sw);
}

void
x87_fnstsw_ax(struct engine *e, const struct op *op)
{
	(void)op;
	e->v->r[EAX] = (e->v->r[EAX] & 0xffff0000u) | status_word(e);
}

/* Registers keep their contents and become empty. */
static void
initialise(struct engine *e)
{
	struct fx_image *fx = fx_of(e);

	if (e->fpu_where == FPU_IN_HOST) {
		__asm__ volatile("fninit");
		x87_set_control(e, FCW_INIT);
	} else {
		fx_set_top(fx, 0);
		fx->fcw = FCW_INIT;
		fx->fsw = 0;
		fx->ftw = 0;
	}
	x87_fold(e);
	fx->fop = 0;
	fx->fip = 0;
	fx->fcs = 0;
	fx->fdp = 0;
	fx->fds = 0;
	e->v->ignne = 0;
}

void
x87_fninit(struct engine *e, const struct op *op)
{
	(void)op;
	x87_begin_nowait(e);
	initialise(e);
}

void
x87_fnclex(struct engine *e, const struct op *op)
{
	struct fx_image *fx = fx_of(e);

	(void)op;
	x87_begin_nowait(e);
	if (e->fpu_where == FPU_IN_HOST) {
		__asm__ volatile("fnclex");
		return;
	}
	fx->fsw = (uint16_t)(fx->fsw & ~(FSW_EXCEPTIONS | FSW_SF | FSW_ES | FSW_B));
	e->v->ignne = 0;
}

/* ---- environments ------------------------------------------------------------------- */

/* The two-bit tags that FSTENV shows are derived from the registers. */
static uint16_t
full_tags(const struct fx_image *fx)
{
	const uint32_t top = fx_top(fx);
	uint32_t tags = 0;

	for (uint32_t i = 0; i < 8; i++) {
		const struct st_slot *st = &fx->st[(i - top) & 7];
		const uint32_t exponent = st->exponent & 0x7fff;
		uint32_t tag = 0;	/* valid */

		if (!(fx->ftw >> i & 1))
			tag = 3;
		else if (exponent == 0 && st->mantissa == 0)
			tag = 1;
		else if (exponent == 0 || exponent == 0x7fff || !(st->mantissa >> 63))
			tag = 2;
		tags |= tag << 2 * i;
	}
	return (uint16_t)tags;
}

static uint8_t
abridged_tags(uint32_t tags)
{
	uint32_t abridged = 0;

	for (uint32_t i = 0; i < 8; i++)
		if ((tags >> 2 * i & 3) != 3)
			abridged |= 1u << i;
	return (uint8_t)abridged;
}

/*
 * The environment as the mode and operand size have it (SDM volume 1, figures 8-9 to 8-12),
 * in 7 words of 2 or 4 bytes.  Real and virtual-8086 mode: linear pointers, and the opcode.
 */
static uint32_t
put_environment(struct engine *e, const struct op *op, uint8_t *to)
{
	const struct fx_image *fx = fx_of(e);
	const uint32_t ip = fx->fip + ((uint32_t)fx->fcs << 4), dp = fx->fdp + ((uint32_t)fx->fds << 4);
	uint32_t w[7] = { fx->fcw, fx->fsw, full_tags(fx), fx->fip, fx->fcs, fx->fdp, fx->fds };

	if (op->flags & OP_SIZE16) {
		if (!protected_mode(e->v)) {
			w[3] = ip;
			w[4] = (ip >> 4 & 0xf000) | (fx->fop & 0x7ff);
			w[5] = dp;
			w[6] = dp >> 4 & 0xf000;
		}
		for (uint32_t i = 0; i < 7; i++)
			host_st16(to + 2 * i, w[i]);
		return 14;
	}
	w[0] |= 0xffff0000u;
	w[1] |= 0xffff0000u;
	w[2] |= 0xffff0000u;
	if (protected_mode(e->v)) {
		w[4] |= (uint32_t)(fx->fop & 0x7ff) << 16;
		w[6] |= 0xffff0000u;
	} else {
		w[3] = ip | 0xffff0000u;
		w[4] = (ip >> 4 & 0x0ffff000) | (fx->fop & 0x7ff);
		w[5] = dp | 0xffff0000u;
		w[6] = dp >> 4 & 0x0ffff000;
	}
	for (uint32_t i = 0; i < 7; i++)
		host_st32(to + 4 * i, w[i]);
	return 28;
}

static void
get_environment(struct engine *e, const struct op *op, const uint8_t *from)
{
	struct fx_image *fx = fx_of(e);
	const bool narrow = op->flags & OP_SIZE16;
	uint32_t w[7];

	for (uint32_t i = 0; i < 7; i++)
		w[i] = narrow ? host_ld16(from + 2 * i) : host_ld32(from + 4 * i);
	if (protected_mode(e->v)) {
		fx->fip = w[3];
		fx->fcs = (uint16_t)w[4];
		fx->fop = narrow ? fx->fop : w[4] >> 16 & 0x7ff;
		fx->fdp = w[5];
		fx->fds = (uint16_t)w[6];
	} else {
		const uint32_t high = narrow ? 0xf000 : 0x0ffff000;

		fx->fip = (w[3] & 0xffff) | (w[4] & high) << 4;
		fx->fcs = 0;
		fx->fop = w[4] & 0x7ff;
		fx->fdp = (w[5] & 0xffff) | (w[6] & high) << 4;
		fx->fds = 0;
	}
	fx_set_top(fx, (w[1] & FSW_TOP) >> FSW_TOP_SHIFT);
	fx->fcw = fcw_defined(w[0]);
	fx->fsw = (uint16_t)w[1];
	fx->ftw = abridged_tags(w[2]);
	fx_settle(e);
}

/* The state in v->fx, without regard to pending exceptions. */
static void
to_memory(struct engine *e)
{
	x87_fold(e);
	if (e->fpu_where == FPU_IN_HOST)
		x87_to_memory(e);
}

static uint32_t
environment_bytes(const struct op *op)
{
	return op->flags & OP_SIZE16 ? 14 : 28;
}

/* "Saves the environment, then masks all floating-point exceptions." */
void
x87_fnstenv(struct engine *e, const struct op *op)
{
	const uint32_t size = environment_bytes(op);
	uint8_t image[28];
	uint32_t linear;

	x87_begin_nowait(e);
	linear = operand_linear(e, op, operand_offset(e, op), size, PF_W);
	to_memory(e);
	put_environment(e, op, image);
	mem_write_bytes(e, linear, image, size);
	fx_of(e)->fcw |= FCW_MASKS;
	fx_settle(e);
}

void
x87_fldenv(struct engine *e, const struct op *op)
{
	uint8_t image[28];

	x87_begin(e);
	mem_read_bytes(e, operand_linear(e, op, operand_offset(e, op), environment_bytes(op), 0), image,
	    environment_bytes(op));
	to_memory(e);
	get_environment(e, op, image);
}

void
x87_fnsave(struct engine *e, const struct op *op)
{
	const uint32_t size = environment_bytes(op) + 80;
	const struct fx_image *fx = fx_of(e);
	uint8_t image[108];
	uint32_t linear, at;

	x87_begin_nowait(e);
	linear = operand_linear(e, op, operand_offset(e, op), size, PF_W);
	to_memory(e);
	at = put_environment(e, op, image);
	for (uint32_t i = 0; i < 8; i++, at += 10) {
		__builtin_memcpy(image + at, &fx->st[i].mantissa, 8);
		host_st16(image + at + 8, fx->st[i].exponent);
	}
	mem_write_bytes(e, linear, image, size);
	initialise(e);
}

void
x87_frstor(struct engine *e, const struct op *op)
{
	const uint32_t size = environment_bytes(op) + 80;
	struct fx_image *fx = fx_of(e);
	uint8_t image[108];
	uint32_t at = environment_bytes(op);

	x87_begin(e);
	mem_read_bytes(e, operand_linear(e, op, operand_offset(e, op), size, 0), image, size);
	to_memory(e);
	get_environment(e, op, image);
	for (uint32_t i = 0; i < 8; i++, at += 10) {
		__builtin_memcpy(&fx->st[i].mantissa, image + at, 8);
		fx->st[i].exponent = (uint16_t)host_ld16(image + at + 8);
	}
}

/* ---- FXSAVE, FXRSTOR -------------------------------------------------------------------- */

#define FX_X87_BYTES 160	/* the header and ST0..7 */
#define FX_BYTES 288		/* and XMM0..7; what follows is reserved and left alone */
#define FX_MXCSR 24		/* offset of MXCSR and its mask */

static uint32_t
fx_operand(struct engine *e, const struct op *op, uint32_t acc)
{
	uint32_t linear;

	x87_begin_nowait(e);
	linear = operand_linear(e, op, operand_offset(e, op), sizeof e->v->fx, acc);
	if (linear & 15)
		raise_gp0(e);
	return linear;
}

/* Without CR4.OSFXSR neither instruction touches MXCSR and the XMM registers. */
void
fx_save(struct engine *e, const struct op *op)
{
	const uint32_t linear = fx_operand(e, op, PF_W);
	struct fx_image *fx = fx_of(e);

	mem_check_write(e, linear, sizeof *fx);
	fpu_sync(e);
	fx->reserved0 = 0;
	if (e->v->cr4 & CR4_OSFXSR) {
		mem_write_bytes(e, linear, fx, FX_BYTES);
		return;
	}
	mem_write_bytes(e, linear, fx, FX_MXCSR);
	mem_write_bytes(e, linear + 32, fx->st, FX_X87_BYTES - 32);
}

void
fx_restore(struct engine *e, const struct op *op)
{
	const uint32_t linear = fx_operand(e, op, 0);
	struct fx_image *fx = fx_of(e);
	struct fx_image image;

	mem_read_bytes(e, linear, &image, sizeof image);
	if ((e->v->cr4 & CR4_OSFXSR) && (image.mxcsr & ~(uint32_t)MXCSR_VALID))
		raise_gp0(e);
	to_memory(e);
	fx->fcw = fcw_defined(image.fcw);
	fx->fsw = image.fsw;
	fx->ftw = image.ftw;
	fx->fop = image.fop & 0x7ff;
	fx->fip = image.fip;
	fx->fcs = image.fcs;
	fx->fdp = image.fdp;
	fx->fds = image.fds;
	for (uint32_t i = 0; i < 8; i++) {
		fx->st[i].mantissa = image.st[i].mantissa;
		fx->st[i].exponent = image.st[i].exponent;
	}
	fx_settle(e);
	if (!(e->v->cr4 & CR4_OSFXSR))
		return;
	for (uint32_t i = 0; i < 8; i++)
		fx->xmm[i] = image.xmm[i];
	sse_load_mxcsr(e, image.mxcsr);
}

#endif
