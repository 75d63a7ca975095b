/*
 * segment.c -- descriptors, the hidden parts of segment registers, and the instructions that load them.
 *
 * A load checks everything, then sets A in memory, then changes the register, so that a fault
 * leaves the register as it was.  Real mode changes the base alone: limit and attributes stay,
 * which is how "unreal mode" comes about.  Virtual-8086 mode gives fixed limits and rights.
 *
 * Source: Intel SDM 2A "MOV", 2B "POP", "LDS/LES/LFS/LGS/LSS"; 3A sections 3.4 and 5.5 to 5.8.
 */
#include "segment.h"
#include "slow.h"

bool
descriptor_find(struct engine *e, uint32_t selector, struct descriptor *d)
{
	const struct vcpu *v = e->v;
	const uint32_t offset = selector & SELECTOR_INDEX;
	uint32_t base = v->gdtr.base, limit = v->gdtr.limit;
	uint64_t raw;

	if (selector & SELECTOR_TI) {
		if (v->seg[LDTR].attr & SEG_UNUSABLE)
			return false;
		base = v->seg[LDTR].base;
		limit = v->seg[LDTR].limit;
	}
	if (limit < 7 || offset > limit - 7)
		return false;
	d->linear = base + offset;
	d->selector = selector & 0xffff;
	raw = sys_read64(e, d->linear);
	d->lo = (uint32_t)raw;
	d->hi = (uint32_t)(raw >> 32);
	return true;
}

void
raise_selector(struct engine *e, uint32_t vector, uint32_t selector, uint32_t ext)
{
	raise_fault(e, vector, (selector & SELECTOR_ERROR) | ext);
}

void
descriptor_get(struct engine *e, uint32_t selector, struct descriptor *d, uint32_t vector, uint32_t ext)
{
	if (!descriptor_find(e, selector, d))
		raise_selector(e, vector, selector, ext);
}

void
descriptor_accessed(struct engine *e, struct descriptor *d)
{
	if (d->hi & SEG_A << 8)
		return;
	d->hi |= SEG_A << 8;
	sys_update8(e, d->linear + 5, 0, SEG_A);
}

bool
descriptor_set_busy(struct engine *e, uint32_t linear, bool busy)
{
	return (sys_update8(e, linear + 5, busy ? 0 : SYS_BUSY, busy ? SYS_BUSY : 0) & SYS_BUSY) != 0;
}

void
segment_fill(struct segment *s, uint32_t selector, const struct descriptor *d)
{
	s->selector = selector & 0xffff;
	s->base = descriptor_base(d);
	s->limit = descriptor_limit(d);
	s->attr = descriptor_attr(d);
}

void
segment_null(struct segment *s, uint32_t selector)
{
	s->selector = selector & 0xffff;
	s->base = 0;
	s->limit = 0;
	s->attr = SEG_UNUSABLE;
}

void
segment_real(struct segment *s, uint32_t selector)
{
	s->selector = selector & 0xffff;
	s->base = s->selector << 4;
	if (s->attr & SEG_UNUSABLE) {	/* a null selector of protected mode left no rights to keep */
		s->limit = 0xffff;
		s->attr = ATTR_DATA16;
	}
}

void
segment_v86(struct segment *s, uint32_t selector)
{
	s->selector = selector & 0xffff;
	s->base = s->selector << 4;
	s->limit = 0xffff;
	s->attr = ATTR_DATA16 | SEG_DPL;
}

void
segments_drop_inner(struct vcpu *v, uint32_t cpl)
{
	static const uint8_t data[4] = { ES, DS, FS, GS };

	for (unsigned i = 0; i < 4; i++) {
		struct segment *s = &v->seg[data[i]];
		const bool conforming = (s->attr & (SEG_CODE | SEG_C)) == (SEG_CODE | SEG_C);

		if (!(s->attr & SEG_UNUSABLE) && !conforming && seg_dpl(s) < cpl)
			segment_null(s, 0);
	}
}

void
check_stack_segment(struct engine *e, uint32_t selector, uint32_t cpl, struct descriptor *d, uint32_t vector, uint32_t ext)
{
	if (selector_null(selector))
		raise_fault(e, vector, ext);
	descriptor_get(e, selector, d, vector, ext);
	if ((selector & SELECTOR_RPL) != cpl || !descriptor_writable_data(d) || descriptor_dpl(d) != cpl)
		raise_selector(e, vector, selector, ext);
	if (!descriptor_present(d))
		raise_selector(e, V_SS, selector, ext);
}

void
check_code_target(struct engine *e, const struct descriptor *d, uint32_t selector, uint32_t rpl, uint32_t ext)
{
	const uint32_t cpl = e->v->cpl, dpl = descriptor_dpl(d);

	if (!descriptor_code(d))
		raise_selector(e, V_GP, selector, ext);
	if (descriptor_conforming(d) ? dpl > cpl : rpl > cpl || dpl != cpl)
		raise_selector(e, V_GP, selector, ext);
	if (!descriptor_present(d))
		raise_selector(e, V_NP, selector, ext);
}

void
check_return_code(struct engine *e, uint32_t selector, struct descriptor *d)
{
	const uint32_t rpl = selector & SELECTOR_RPL;

	if (selector_null(selector))
		raise_gp0(e);
	descriptor_get(e, selector, d, V_GP, 0);
	if (!descriptor_code(d) || rpl < e->v->cpl)
		raise_selector(e, V_GP, selector, 0);
	if (descriptor_conforming(d) ? descriptor_dpl(d) > rpl : descriptor_dpl(d) != rpl)
		raise_selector(e, V_GP, selector, 0);
	if (!descriptor_present(d))
		raise_selector(e, V_NP, selector, 0);
}

static void
load_data(struct engine *e, uint32_t sreg, uint32_t selector)
{
	struct vcpu *v = e->v;
	struct descriptor d;

	if (selector_null(selector)) {
		segment_null(&v->seg[sreg], selector);
		return;
	}
	descriptor_get(e, selector, &d, V_GP, 0);
	if (!descriptor_readable(&d))
		raise_selector(e, V_GP, selector, 0);
	if (!descriptor_conforming(&d) && max_u32(v->cpl, selector & SELECTOR_RPL) > descriptor_dpl(&d))
		raise_selector(e, V_GP, selector, 0);
	if (!descriptor_present(&d))
		raise_selector(e, V_NP, selector, 0);
	descriptor_accessed(e, &d);
	segment_fill(&v->seg[sreg], selector, &d);
}

static void
load_stack(struct engine *e, uint32_t selector)
{
	struct vcpu *v = e->v;
	struct descriptor d;

	check_stack_segment(e, selector, v->cpl, &d, V_GP, 0);
	descriptor_accessed(e, &d);
	segment_fill(&v->seg[SS], selector, &d);
}

void
load_segment(struct engine *e, uint32_t sreg, uint32_t selector)
{
	struct vcpu *v = e->v;

	selector &= 0xffff;
	if (v86_mode(v))
		segment_v86(&v->seg[sreg], selector);
	else if (!(v->cr0 & CR0_PE))
		segment_real(&v->seg[sreg], selector);
	else if (sreg == SS)
		load_stack(e, selector);
	else
		load_data(e, sreg, selector);
	state_changed(e);
}

/* ---- instructions ---------------------------------------------------------------------------- */

void
i_mov_sreg(struct engine *e, const struct op *op)
{
	if (op->reg == CS || op->reg > GS)
		raise_ud(e);
	load_segment(e, op->reg, rm_get(e, op, 2));
	if (op->reg == SS)
		e->v->inhibit |= INHIBIT_SS;
}

void
i_pop_sreg(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), selector = stack_peek(e, 0, size);
	const uint32_t esp = sp_add(v, v->r[ESP], size);	/* by the B bit of the old SS */

	load_segment(e, op->reg, selector);
	v->r[ESP] = esp;
	if (op->reg == SS)
		v->inhibit |= INHIBIT_SS;
}

/* With a 32-bit operand ESP moves by 4, but only the low word is written (SDM 2B, "PUSH"). */
void
i_push_sreg(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), esp = sp_add(v, v->r[ESP], 0u - size);
	const uint32_t offset = v->seg[SS].attr & SEG_DB ? esp : esp & 0xffff;

	mem_write(e, seg_linear(e, SS, offset, size, PF_W), 2, v->seg[op->reg].selector);
	v->r[ESP] = esp;
}

void
i_lxs(struct engine *e, const struct op *op)
{
	const uint32_t size = op_bytes(op), linear = op_linear(e, op, size + 2, 0);
	const uint32_t offset = mem_read(e, linear, size), selector = mem_read(e, linear + size, 2);

	load_segment(e, op->imm2, selector);
	reg_put(e->v, op->reg, size, offset);
}
