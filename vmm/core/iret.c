/*
 * iret.c -- IRET: to the same ring, to an outer one, to virtual-8086 mode, to the task before.
 *
 * All values are read and checked before anything changes, but for the unblocking of NMI, which
 * happens even when IRET faults (SDM 3A, 6.7.1).
 *
 * Source: Intel SDM 2A "IRET/IRETD".
 */
#include "segment.h"
#include "slow.h"

struct image {
	uint32_t size;
	uint32_t eip;
	uint32_t cs;
	uint32_t flags;
};

static void
image_read(struct engine *e, const struct op *op, struct image *im)
{
	im->size = op_bytes(op);
	im->eip = stack_peek(e, 0, im->size);
	im->cs = stack_peek(e, im->size, im->size) & 0xffff;
	im->flags = stack_peek(e, 2 * im->size, im->size);
}

static void
check_limit(struct engine *e, uint32_t eip, uint32_t limit)
{
	if (eip > limit)
		raise_gp0(e);
}

/* Flags that an IRET of this size sets at the given privilege.  VM changes on one path only, below. */
static uint32_t
flags_mask(const struct image *im, uint32_t cpl, uint32_t current_iopl)
{
	uint32_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;

	if (im->size == 4)
		mask |= FL_RF | FL_AC | FL_ID;
	if (cpl <= current_iopl)
		mask |= FL_IF;
	if (cpl == 0)
		mask |= FL_IOPL | (im->size == 4 ? FL_VIF | FL_VIP : 0);
	return mask;
}

static void
iret_real(struct engine *e, const struct image *im)
{
	struct vcpu *v = e->v;

	check_limit(e, im->eip, v->seg[CS].limit);
	v->r[ESP] = sp_add(v, v->r[ESP], 3 * im->size);
	segment_real(&v->seg[CS], im->cs);
	v->eip = im->eip;
	eflags_put(e, im->flags, flags_mask(im, 0, 0) & ~(uint32_t)(FL_VIF | FL_VIP));
	state_changed(e);
}

/* In virtual-8086 mode; with IOPL below 3 only VME allows it, with 16 bits, working on VIF. */
static void
iret_in_v86(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	uint32_t mask = FL_ARITH | FL_TF | FL_DF | FL_NT;
	struct image im;

	if (iopl(v) < 3 && (!(v->cr4 & CR4_VME) || op_bytes(op) == 4))
		raise_gp0(e);
	image_read(e, op, &im);
	if (iopl(v) == 3) {
		mask = flags_mask(&im, 3, 3);
	} else {
		if ((im.flags & FL_TF) || ((im.flags & FL_IF) && (v->eflags & FL_VIP)))
			raise_gp0(e);
		im.flags |= im.flags & FL_IF ? FL_VIF : 0;
		mask |= FL_VIF;
	}
	check_limit(e, im.eip, v->seg[CS].limit);
	v->r[ESP] = sp_add(v, v->r[ESP], 3 * im.size);
	segment_v86(&v->seg[CS], im.cs);
	v->eip = im.eip;
	eflags_put(e, im.flags, mask);
	state_changed(e);
}

/* From ring 0, VM set in the image: ESP, SS and the data segments follow it on the stack. */
static void
iret_to_v86(struct engine *e, const struct image *im)
{
	static const uint8_t order[6] = { ESP, SS, ES, DS, FS, GS };
	struct vcpu *v = e->v;
	uint32_t values[6];

	for (uint32_t i = 0; i < 6; i++)
		values[i] = stack_peek(e, (3 + i) * 4, 4);
	check_limit(e, im->eip, 0xffff);
	for (uint32_t i = 1; i < 6; i++)
		segment_v86(&v->seg[order[i]], values[i]);
	segment_v86(&v->seg[CS], im->cs);
	v->r[ESP] = values[0];
	v->eip = im->eip;
	eflags_put(e, im->flags, flags_mask(im, 0, 0) | FL_VM);
	set_cpl(e, 3);
}

static void
iret_same(struct engine *e, const struct image *im, struct descriptor *code)
{
	struct vcpu *v = e->v;

	check_limit(e, im->eip, descriptor_limit(code));
	descriptor_accessed(e, code);
	v->r[ESP] = sp_add(v, v->r[ESP], 3 * im->size);
	segment_fill(&v->seg[CS], im->cs, code);
	v->eip = im->eip;
	eflags_put(e, im->flags, flags_mask(im, v->cpl, iopl(v)));
	set_cpl(e, v->cpl);
}

static void
iret_outer(struct engine *e, const struct image *im, struct descriptor *code)
{
	struct vcpu *v = e->v;
	const uint32_t cpl = im->cs & SELECTOR_RPL, mask = flags_mask(im, v->cpl, iopl(v));
	const uint32_t esp = stack_peek(e, 3 * im->size, im->size);
	const uint32_t selector = stack_peek(e, 4 * im->size, im->size) & 0xffff;
	struct descriptor ss;

	check_stack_segment(e, selector, cpl, &ss, V_GP, 0);
	check_limit(e, im->eip, descriptor_limit(code));
	descriptor_accessed(e, &ss);
	descriptor_accessed(e, code);
	segment_fill(&v->seg[SS], selector, &ss);
	segment_fill(&v->seg[CS], im->cs, code);
	set_esp(v, esp);
	segments_drop_inner(v, cpl);
	v->eip = im->eip;
	eflags_put(e, im->flags, mask);
	set_cpl(e, cpl);
}

static void
iret_protected(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	struct descriptor code;
	struct image im;

	if (v->eflags & FL_NT) {
		task_return(e);
		return;
	}
	image_read(e, op, &im);
	if (im.size == 4 && (im.flags & FL_VM) && v->cpl == 0) {
		iret_to_v86(e, &im);
		return;
	}
	check_return_code(e, im.cs, &code);
	if ((im.cs & SELECTOR_RPL) > v->cpl)
		iret_outer(e, &im, &code);
	else
		iret_same(e, &im, &code);
}

void
i_iret(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	struct image im;

	if (v->nmi_blocked) {
		v->nmi_blocked = 0;
		e->one_shot = true;	/* one may be waiting */
	}
	if (!(v->cr0 & CR0_PE)) {
		image_read(e, op, &im);
		iret_real(e, &im);
	} else if (v86_mode(v)) {
		iret_in_v86(e, op);
	} else {
		iret_protected(e, op);
	}
}
