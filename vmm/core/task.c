/*
 * task.c -- hardware task switches, and what else lies in a task-state segment.
 *
 * Up to the point of no return everything is checked: limits, presence, and that each access of
 * both TSSs and of the GDT will succeed.  From there on we are the new task: the selectors are
 * loaded as selectors, then checked, and a fault is raised with its CS:EIP (SDM 3A, 7.3).
 * e->cur becomes NULL then, so that the fault's EIP is v->eip.
 *
 * Undefined, chosen here: a 16-bit TSS clears the upper halves of the general registers.
 * Short of the manual: a host page that must be fetched for the checks after the point of no
 * return (a swapped-out GDT of the new task) is taken as one that was resident.
 *
 * Source: Intel SDM 3A, chapter 7, table 7-1; 20.3.1 (interrupt redirection bitmap).
 */
#include "segment.h"

/* Offsets in a TSS; registers and selectors are `size` bytes apart. */
struct tss_layout {
	uint32_t size;
	uint32_t limit;		/* the least that is allowed */
	uint32_t cr3;		/* 0: none */
	uint32_t eip;
	uint32_t eflags;
	uint32_t gprs;
	uint32_t sregs;
	uint32_t sreg_count;
	uint32_t ldt;
};

static const struct tss_layout layout16 = { 2, 0x2b, 0, 0x0e, 0x10, 0x12, 0x22, 4, 0x2a };
static const struct tss_layout layout32 = { 4, TSS32_LIMIT, 0x1c, 0x20, 0x24, 0x28, 0x48, 6, 0x60 };

#define TSS_LINK 0u
#define TASK_FLAGS (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID)
#define DR7_LOCAL 0x155u	/* L0 to L3, LE */

struct incoming {
	uint32_t gpr[8];
	uint32_t selector[6];
	uint32_t ldt;
	uint32_t eip;
	uint32_t eflags;
	uint32_t cr3;
	uint32_t debug;
	uint64_t pdpte[4];
};

bool
tss32(const struct vcpu *v)
{
	return (v->seg[TR].attr & (SEG_UNUSABLE | SEG_S | SYS_32)) == SYS_32;
}

static const struct tss_layout *
layout_of(uint32_t attr)
{
	return attr & SYS_32 ? &layout32 : &layout16;
}

/* ---- the current TSS --------------------------------------------------------------------------- */

void
task_inner_stack(struct engine *e, uint32_t cpl, uint32_t *selector, uint32_t *esp, uint32_t ext)
{
	const struct segment *tr = &e->v->seg[TR];
	const uint32_t size = tss32(e->v) ? 4 : 2, offset = size + 2 * size * cpl;

	if ((tr->attr & SEG_UNUSABLE) || offset + size + 1 > tr->limit)
		raise_selector(e, V_TS, tr->selector, ext);
	*esp = sys_read(e, tr->base + offset, size);
	*selector = sys_read(e, tr->base + offset + size, 2);
}

bool
vme_redirected(struct engine *e, uint32_t vector)
{
	const struct segment *tr = &e->v->seg[TR];
	uint32_t offset;

	if (!tss32(e->v) || tr->limit < TSS32_LIMIT)
		raise_gp0(e);
	offset = sys_read(e, tr->base + TSS32_IO_BASE, 2) - 32 + vector / 8;
	if (offset > tr->limit)
		raise_gp0(e);
	return !(sys_read(e, tr->base + offset, 1) >> (vector & 7) & 1);
}

/* ---- finding the TSS ---------------------------------------------------------------------------- */

void
task_find(struct engine *e, uint32_t selector, struct descriptor *d, uint32_t ext)
{
	uint32_t type;

	if (selector & SELECTOR_TI)
		raise_selector(e, V_GP, selector, ext);
	descriptor_get(e, selector, d, V_GP, ext);
	type = descriptor_system_type(d);
	if (type != SYS_TSS16 && type != SYS_TSS32)
		raise_selector(e, V_GP, selector, ext);
	if (!descriptor_present(d))
		raise_selector(e, V_NP, selector, ext);
}

void
task_return(struct engine *e)
{
	struct vcpu *v = e->v;
	struct descriptor d;
	uint32_t selector, type;

	if ((v->seg[TR].attr & SEG_UNUSABLE) || v->seg[TR].limit < TSS_LINK + 1)
		raise_selector(e, V_TS, v->seg[TR].selector, 0);
	selector = sys_read(e, v->seg[TR].base + TSS_LINK, 2);
	if (selector & SELECTOR_TI)
		raise_selector(e, V_TS, selector, 0);
	descriptor_get(e, selector, &d, V_TS, 0);
	type = descriptor_system_type(&d);
	if (type != SYS_TSS16_BUSY && type != SYS_TSS32_BUSY)
		raise_selector(e, V_TS, selector, 0);
	if (!descriptor_present(&d))
		raise_selector(e, V_NP, selector, 0);
	task_switch(e, &d, TASK_IRET, next_eip(e), eflags_get(e) & ~(uint32_t)FL_NT, 0);
}

/* ---- before the point of no return ---------------------------------------------------------------- */

static void
incoming_read(struct engine *e, const struct descriptor *tss, struct incoming *in)
{
	const struct tss_layout *t = layout_of(descriptor_attr(tss));
	const uint32_t base = descriptor_base(tss);

	for (uint32_t i = 0; i < 8; i++)
		in->gpr[i] = sys_read(e, base + t->gprs + i * t->size, t->size);
	for (uint32_t i = 0; i < 6; i++)
		in->selector[i] = i < t->sreg_count ? sys_read(e, base + t->sregs + i * t->size, 2) : 0;
	in->eip = sys_read(e, base + t->eip, t->size);
	in->eflags = sys_read(e, base + t->eflags, t->size);
	in->ldt = sys_read(e, base + t->ldt, 2);
	in->cr3 = t->cr3 ? sys_read(e, base + t->cr3, 4) : 0;
	in->debug = t == &layout32 ? sys_read(e, base + TSS32_DEBUG, 2) & 1 : 0;
}

static bool
loads_cr3(const struct vcpu *v, const struct descriptor *tss)
{
	return (v->cr0 & CR0_PG) && layout_of(descriptor_attr(tss))->cr3;
}

/* Every access up to the load of the new state will succeed, or we fault in the old task. */
static void
check_memory(struct engine *e, const struct descriptor *tss, enum task_source source, uint32_t ext, struct incoming *in)
{
	const struct vcpu *v = e->v;
	const struct segment *tr = &v->seg[TR];
	const struct tss_layout *old = layout_of(tr->attr);

	if (descriptor_limit(tss) < layout_of(descriptor_attr(tss))->limit)
		raise_selector(e, V_TS, tss->selector, ext);
	if ((tr->attr & SEG_UNUSABLE) || tr->limit < old->limit)
		raise_selector(e, V_TS, tr->selector, ext);
	incoming_read(e, tss, in);
	if (loads_cr3(v, tss) && (v->cr4 & CR4_PAE))
		pdptes_read(e, in->cr3, in->pdpte);
	sys_check_write(e, tr->base + old->eip, old->ldt - old->eip);
	if (source == TASK_JUMP || source == TASK_IRET)
		sys_check_write(e, v->gdtr.base + (tr->selector & SELECTOR_INDEX) + 5, 1);
	if (source == TASK_CALL || source == TASK_EVENT)
		sys_check_write(e, descriptor_base(tss) + TSS_LINK, 2);
	if (source != TASK_IRET)
		sys_check_write(e, tss->linear + 5, 1);
}

static void
outgoing_save(struct engine *e, uint32_t eip, uint32_t eflags)
{
	const struct vcpu *v = e->v;
	const struct tss_layout *t = layout_of(v->seg[TR].attr);
	const uint32_t base = v->seg[TR].base;

	sys_write(e, base + t->eip, t->size, eip);
	sys_write(e, base + t->eflags, t->size, eflags);
	for (uint32_t i = 0; i < 8; i++)
		sys_write(e, base + t->gprs + i * t->size, t->size, v->r[i]);
	for (uint32_t i = 0; i < t->sreg_count; i++)
		sys_write(e, base + t->sregs + i * t->size, 2, v->seg[i].selector);
}

/* ---- the new task ----------------------------------------------------------------------------------- */

static void
incoming_commit(struct engine *e, struct descriptor *tss, const struct incoming *in)
{
	struct vcpu *v = e->v;
	const bool v86 = in->eflags & FL_VM;
	const uint32_t cpl = v86 ? 3 : in->selector[CS] & SELECTOR_RPL;

	tss->hi |= SYS_BUSY << 8;
	segment_fill(&v->seg[TR], tss->selector & ~SELECTOR_RPL, tss);
	v->cr0 |= CR0_TS;
	v->dr[7] &= ~DR7_LOCAL;
	for (uint32_t i = 0; i < 8; i++)
		v->r[i] = in->gpr[i];
	for (uint32_t i = 0; i < 6; i++) {
		if (v86)
			segment_v86(&v->seg[i], in->selector[i]);
		else
			segment_null(&v->seg[i], in->selector[i]);
	}
	segment_null(&v->seg[LDTR], in->ldt);
	v->eip = in->eip;
	e->cur = NULL;
	eflags_put(e, in->eflags, TASK_FLAGS);
	if (loads_cr3(v, tss)) {
		v->cr3 = in->cr3;
		trace_cr(e, 3, in->cr3);
		if (v->cr4 & CR4_PAE)
			__builtin_memcpy(v->pdpte, in->pdpte, sizeof v->pdpte);
		shadow_load_cr3(e);
	}
	set_cpl(e, cpl);
}

static void
validate_ldt(struct engine *e, uint32_t selector, uint32_t ext)
{
	struct descriptor d;

	if (selector & SELECTOR_TI)
		raise_selector(e, V_TS, selector, ext);
	if (selector_null(selector))
		return;
	descriptor_get(e, selector, &d, V_TS, ext);
	if (descriptor_system_type(&d) != SYS_LDT || !descriptor_present(&d))
		raise_selector(e, V_TS, selector, ext);
	segment_fill(&e->v->seg[LDTR], selector, &d);
}

/* CPL is the RPL of CS already.  A conforming segment's DPL may be less than it. */
static void
validate_code(struct engine *e, uint32_t selector, uint32_t ext)
{
	const uint32_t cpl = e->v->cpl;
	struct descriptor d;

	if (selector_null(selector))
		raise_selector(e, V_TS, selector, ext);
	descriptor_get(e, selector, &d, V_TS, ext);
	if (!descriptor_code(&d))
		raise_selector(e, V_TS, selector, ext);
	if (descriptor_conforming(&d) ? descriptor_dpl(&d) > cpl : descriptor_dpl(&d) != cpl)
		raise_selector(e, V_TS, selector, ext);
	if (!descriptor_present(&d))
		raise_selector(e, V_NP, selector, ext);
	descriptor_accessed(e, &d);
	segment_fill(&e->v->seg[CS], selector, &d);
	state_changed(e);
}

static void
validate_data(struct engine *e, uint32_t sreg, uint32_t selector, uint32_t ext)
{
	struct descriptor d;

	if (selector_null(selector))
		return;
	descriptor_get(e, selector, &d, V_TS, ext);
	if (!descriptor_readable(&d))
		raise_selector(e, V_TS, selector, ext);
	if (!descriptor_conforming(&d) && max_u32(e->v->cpl, selector & SELECTOR_RPL) > descriptor_dpl(&d))
		raise_selector(e, V_TS, selector, ext);
	if (!descriptor_present(&d))
		raise_selector(e, V_NP, selector, ext);
	descriptor_accessed(e, &d);
	segment_fill(&e->v->seg[sreg], selector, &d);
}

static void
validate(struct engine *e, const struct incoming *in, uint32_t ext)
{
	static const uint8_t data[4] = { DS, ES, FS, GS };
	struct vcpu *v = e->v;
	struct descriptor ss;

	validate_ldt(e, in->ldt, ext);
	if (!v86_mode(v)) {
		validate_code(e, in->selector[CS], ext);
		check_stack_segment(e, in->selector[SS], v->cpl, &ss, V_TS, ext);
		descriptor_accessed(e, &ss);
		segment_fill(&v->seg[SS], in->selector[SS], &ss);
		for (unsigned i = 0; i < 4; i++)
			validate_data(e, data[i], in->selector[data[i]], ext);
		state_changed(e);
	}
	if (v->eip > v->seg[CS].limit)
		raise_fault(e, V_GP, ext);
}

void
task_switch(struct engine *e, const struct descriptor *found, enum task_source source, uint32_t eip, uint32_t eflags,
    uint32_t ext)
{
	struct vcpu *v = e->v;
	struct descriptor tss = *found;
	const uint32_t old_selector = v->seg[TR].selector;
	struct incoming in;

	check_memory(e, &tss, source, ext, &in);
	outgoing_save(e, eip, eflags);
	if (descriptor_base(&tss) == v->seg[TR].base)
		incoming_read(e, &tss, &in);	/* IRET to itself sees what was just saved */
	if (source == TASK_JUMP || source == TASK_IRET)
		descriptor_set_busy(e, v->gdtr.base + (old_selector & SELECTOR_INDEX), false);
	if (source == TASK_CALL || source == TASK_EVENT) {
		sys_write(e, descriptor_base(&tss) + TSS_LINK, 2, old_selector);
		in.eflags |= FL_NT;
	}
	if (source != TASK_IRET)
		descriptor_set_busy(e, tss.linear, true);
	incoming_commit(e, &tss, &in);
	validate(e, &in, ext);
	if (in.debug) {
		v->pending_dr6 |= DR6_BT;
		e->one_shot = true;	/* the trap comes before the new task's first instruction */
		state_changed(e);
	}
}
