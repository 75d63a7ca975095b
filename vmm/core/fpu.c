/*
 * fpu.c -- where the x87 state is: moving it between v->fx and the host's unit, and pending
 * exceptions.  Also what MMX and SSE instructions check before they run.
 *
 * The host's unit holds the guest's own control word, so exceptions that the guest masked are
 * handled by the silicon.  When one is unmasked, x87_end looks at FSW.ES after every operation
 * and moves the state to memory, because the host's next waiting instruction would deliver a
 * signal.  While IGNNE# is asserted the host's unit runs with everything masked instead.
 *
 * Source: Intel SDM volume 1, 8.1 and 8.7, 9.5; appendix D.
 */
#include "fpu.h"

#define FPU_ERROR_LINE 13

void
fpu_reset(struct vcpu *v)
{
	struct fx_image *fx = (struct fx_image *)(void *)v->fx;

	for (uint32_t i = 0; i < sizeof v->fx; i++)
		v->fx[i] = 0;
	fx->fcw = FCW_ONE;
	fx->ftw = 0xff;
	fx->mxcsr = MXCSR_INIT;
	fx->mxcsr_mask = MXCSR_VALID;
	v->ignne = 0;
}

/* Another TOP over the same physical registers: the image's slots are relative to it. */
void
fx_set_top(struct fx_image *fx, uint32_t top)
{
	const uint32_t turn = fx_top(fx) - top;
	struct st_slot old[8];

	for (uint32_t i = 0; i < 8; i++)
		old[i] = fx->st[i];
	for (uint32_t i = 0; i < 8; i++)
		fx->st[(i + turn) & 7] = old[i];
	fx->fsw = (uint16_t)((fx->fsw & ~(uint32_t)FSW_TOP) | (top & 7) << FSW_TOP_SHIFT);
}

/* FSW.ES and B anew.  IGNNE# is taken back when the error that it was for is gone. */
void
fx_settle(struct engine *e)
{
	struct fx_image *fx = fx_of(e);

	fx_summarise(fx);
	if (!(fx->fsw & FSW_ES))
		e->v->ignne = 0;
}

#if defined(__x86_64__)

void
x87_fold(struct engine *e)
{
	struct fx_image *fx = fx_of(e);
	const uint32_t note = e->x87_last_note, operand_note = e->x87_last_operand_note;

	if (!note)
		return;
	fx->fop = note & 0x7ff;
	fx->fip = e->x87_last_base + (uint32_t)((int32_t)note >> X87_NOTE_OFFSET_SHIFT);
	fx->fcs = e->x87_selectors[CS];
	e->x87_last_note = 0;
	if (operand_note) {
		fx->fdp = e->x87_last_operand;
		fx->fds = e->x87_selectors[operand_note >> X87_NOTE_SEG_SHIFT & 7];
		e->x87_last_operand_note = 0;
	}
}

/* What pending notes say of selectors is true until one changes. */
static void
keep_selectors(struct engine *e)
{
	x87_fold(e);
	for (uint32_t i = 0; i < 6; i++)
		e->x87_selectors[i] = (uint16_t)e->v->seg[i].selector;
}

/* F4 */
static void
fast_or_not(struct engine *e)
{
	const uint32_t refused = e->v->cr0 & (CR0_EM | CR0_TS);

	e->x87_slow = refused || e->fpu_where != FPU_IN_HOST || e->fpu_unmasked;
	e->sse_slow = refused || !(e->v->cr4 & CR4_OSFXSR) || e->sse_unmasked;
	e->tlb_x87 = e->x87_slow ? e->tlb_off : e->tlb_cur;
	e->tlb_sse = e->sse_slow ? e->tlb_off : e->tlb_cur;
}

void
fpu_changed(struct engine *e)
{
	if (e->fpu_where == FPU_IN_HOST)
		keep_selectors(e);
	else
		x87_fold(e);
	fast_or_not(e);
}

void
x87_set_control(struct engine *e, uint16_t cw)
{
	__asm__ volatile("fldcw %0" : : "m"(cw));
	e->fpu_unmasked = (~cw & FCW_MASKS) != 0;
	fast_or_not(e);
}

#define CLOBBER_XMM "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
	"xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static inline uint32_t
host_mxcsr(void)
{
	uint32_t x;

	__asm__ volatile("stmxcsr %0" : "=m"(x));
	return x;
}

static inline void
host_set_mxcsr(uint32_t x)
{
	__asm__ volatile("ldmxcsr %0" : : "m"(x));
}

/* v->fx to the host's unit.  The caller decides when e->fpu_where says so. */
static void
host_load(struct engine *e)
{
	const struct fx_image *fx = fx_of(e);
	struct fx_image image __attribute__((aligned(16)));

	image.fcw = fx->fcw;
	image.fsw = fx->fsw;
	image.ftw = fx->ftw;
	image.fop = 0;
	image.fip = 0;
	image.fdp = 0;
	image.mxcsr = host_mxcsr();
	for (uint32_t i = 0; i < 8; i++) {
		image.st[i].mantissa = fx->st[i].mantissa;
		image.st[i].exponent = fx->st[i].exponent;
	}
	e->fpu_ignored = 0;
	if (fx->fsw & ~fx->fcw & FSW_EXCEPTIONS) {
		e->fpu_ignored = 0x10000u | fx->fcw;
		image.fcw |= FCW_MASKS;
	}
	e->fpu_unmasked = e->fpu_ignored || (~fx->fcw & FCW_MASKS);
	__asm__ volatile("fxrstor %0" : : "m"(image) : CLOBBER_XMM);
}

/* What the host's unit held, into v->fx. */
static void
take_image(struct engine *e, const struct fx_image *image)
{
	struct fx_image *fx = fx_of(e);

	fx->fcw = e->fpu_ignored ? (uint16_t)e->fpu_ignored : image->fcw;
	fx->fsw = image->fsw;
	fx->ftw = image->ftw;
	for (uint32_t i = 0; i < 8; i++) {
		fx->st[i].mantissa = image->st[i].mantissa;
		fx->st[i].exponent = image->st[i].exponent;
	}
	e->fpu_ignored = 0;
	e->fpu_where = FPU_IN_MEMORY;
	fast_or_not(e);
	fx_settle(e);
}

/* Save the host's unit; what could fault later (F2) is cleared there. */
static inline void
host_save(struct fx_image *image)
{
	__asm__ volatile("fxsave %0" : "=m"(*image));
	if (image->fsw & FSW_ES)
		__asm__ volatile("fnclex");
}

NOINLINE void
x87_to_memory(struct engine *e)
{
	struct fx_image image __attribute__((aligned(16)));

	host_save(&image);
	take_image(e, &image);
}

void
fpu_sync(struct engine *e)
{
	if (e->fpu_where == FPU_IN_HOST)
		x87_to_memory(e);
	x87_fold(e);
	sse_fold(e);
}

void
fpu_enter(struct engine *e)
{
	struct fx_image *fx = fx_of(e);
	uint16_t cw;

	__asm__ volatile("fnstcw %0" : "=m"(cw));
	e->fpu_host_cw = cw;
	e->host_mxcsr = host_mxcsr();
	e->fpu_where = FPU_IN_MEMORY;
	e->fpu_ignored = 0;
	e->x87_last_note = e->x87_last_operand_note = 0;
	fx->fcw = fcw_defined(fx->fcw);
	fx->mxcsr_mask = MXCSR_VALID;
	fx_settle(e);
	sse_load_mxcsr(e, fx->mxcsr & MXCSR_VALID);
	fpu_changed(e);
}

void
fpu_leave(struct engine *e)
{
	const uint16_t cw = (uint16_t)e->fpu_host_cw;

	fpu_sync(e);
	__asm__ volatile("fninit\n\tfldcw %0" : : "m"(cw));
	host_set_mxcsr(e->host_mxcsr);
}

void
sse_fold(struct engine *e)
{
	fx_of(e)->mxcsr |= host_mxcsr() & MXCSR_FLAGS;
}

/* The guest's MXCSR becomes value, and the host's with it (F3). */
void
sse_load_mxcsr(struct engine *e, uint32_t value)
{
	fx_of(e)->mxcsr = value;
	e->sse_unmasked = (~value & MXCSR_MASKS) != 0;
	host_set_mxcsr(value | MXCSR_MASKS);
	fast_or_not(e);
}

/* ---- exceptions ------------------------------------------------------------------- */

NORETURN void
x87_no_device(struct engine *e)
{
	raise_noerr(e, V_NM);
}

/*
 * "If CR0.NE is clear, FERR# is asserted and the processor stops immediately before executing
 * the next waiting x87 instruction, until an interrupt" (SDM volume 1, D.2).  The platform
 * wires FERR# to IRQ 13; stopping is leaving run(), and finding the same instruction again.
 */
void
x87_pending(struct engine *e)
{
	if (e->v->cr0 & CR0_NE)
		raise_noerr(e, V_MF);
	if (e->v->ignne)
		return;
	kick_vcpus(e, intr_set_line(e->intr, FPU_ERROR_LINE, 1));
	leave(e, EXIT_KICK);
}

void
x87_port_f0(struct engine *e)
{
	intr_set_line(e->intr, FPU_ERROR_LINE, 0);
	if (e->fpu_where == FPU_IN_MEMORY && (fx_of(e)->fsw & FSW_ES))
		e->v->ignne = 1;
}

void
x87_acquire(struct engine *e)
{
	if (e->v->cr0 & (CR0_EM | CR0_TS))
		x87_no_device(e);
	if (fx_of(e)->fsw & FSW_ES)
		x87_pending(e);
	host_load(e);
	e->fpu_where = FPU_IN_HOST;
	keep_selectors(e);
	fast_or_not(e);
}

void
x87_check(struct engine *e)
{
	if (e->fpu_ignored || (host_fsw() & FSW_ES))
		x87_to_memory(e);
}

/*
 * A store that can't go straight to host memory: it may fault, or leave run() to be executed
 * again.  So v->fx is the checkpoint until the bytes are written, and the outcome replaces it.
 * "The destination operand is unchanged" if invalid operation, overflow or underflow is
 * unmasked and found: SDM volume 1, 8.5.
 */
void
x87_store_slow(struct engine *e, uint32_t linear, uint32_t size, void (*store)(void *to))
{
	struct fx_image after __attribute__((aligned(16)));
	uint8_t bytes[16];

	mem_check_write(e, linear, size);
	if (e->fpu_where == FPU_IN_HOST)
		x87_to_memory(e);
	host_load(e);
	store(bytes);
	host_save(&after);
	if (!(after.fsw & ~after.fcw & (FSW_IE | FSW_OE | FSW_UE)))
		mem_write_bytes(e, linear, bytes, size);
	take_image(e, &after);
}

/* "MP controls the interaction of WAIT with TS": #NM only when both are set. */
void
i_fwait(struct engine *e, const struct op *op)
{
	const uint32_t both = CR0_MP | CR0_TS;

	(void)op;
	if ((e->v->cr0 & both) == both)
		raise_noerr(e, V_NM);
	if (e->fpu_where == FPU_IN_MEMORY && (fx_of(e)->fsw & FSW_ES))
		x87_pending(e);
}

void
mmx_acquire(struct engine *e)
{
	if (e->v->cr0 & CR0_EM)
		raise_ud(e);
	if (e->v->cr0 & CR0_TS)
		raise_noerr(e, V_NM);
	if (e->fpu_where == FPU_IN_HOST)
		x87_to_memory(e);
	if (fx_of(e)->fsw & FSW_ES)
		x87_pending(e);
}

void
mmx_take_over(struct engine *e)
{
	struct fx_image *fx = fx_of(e);

	fx_set_top(fx, 0);
	fx->ftw = 0xff;
}

NORETURN void
sse_refuse(struct engine *e)
{
	if ((e->v->cr0 & CR0_EM) || !(e->v->cr4 & CR4_OSFXSR))
		raise_ud(e);
	raise_noerr(e, V_NM);
}

NORETURN void
sse_misaligned(struct engine *e)
{
	raise_gp0(e);
}

#else	/* no unit to run on */

void fpu_enter(struct engine *e) { (void)e; }
void fpu_leave(struct engine *e) { (void)e; }
void fpu_sync(struct engine *e) { (void)e; }
void fpu_changed(struct engine *e) { (void)e; }
void x87_port_f0(struct engine *e) { (void)e; }
void i_fwait(struct engine *e, const struct op *op) { (void)e; (void)op; }

#endif
