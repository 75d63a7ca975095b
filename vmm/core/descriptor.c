/*
 * descriptor.c -- instructions that look at descriptors or at the descriptor-table registers.
 *
 * LAR, LSL, VERR and VERW answer in ZF what a load would be allowed; they never fault on the
 * descriptor itself.  Real and virtual-8086 mode do not know them: #UD before any other check.
 *
 * Source: Intel SDM 2A "ARPL", "LAR", "LGDT/LIDT", "LLDT", "LSL", "LTR"; 2B "SGDT", "SIDT",
 * "SLDT", "STR", "VERR/VERW".
 */
#include "segment.h"
#include "slow.h"

static void
require_protected(struct engine *e)
{
	if (!protected_mode(e->v))
		raise_ud(e);
}

static void
set_zf(struct engine *e, bool on)
{
	lf_put(e, (lf_get(e) & ~(uint32_t)FL_ZF) | (on ? (uint32_t)FL_ZF : 0));
}

/* The descriptor that the r/m operand names, when the current and requested privilege may see it. */
static bool
visible(struct engine *e, const struct op *op, struct descriptor *d)
{
	const uint32_t selector = rm_get(e, op, 2);

	if (selector_null(selector) || !descriptor_find(e, selector, d))
		return false;
	return descriptor_conforming(d) || max_u32(e->v->cpl, selector & SELECTOR_RPL) <= descriptor_dpl(d);
}

void
i_verr(struct engine *e, const struct op *op)
{
	struct descriptor d;

	require_protected(e);
	set_zf(e, visible(e, op, &d) && descriptor_readable(&d));
}

void
i_verw(struct engine *e, const struct op *op)
{
	struct descriptor d;

	require_protected(e);
	set_zf(e, visible(e, op, &d) && descriptor_writable_data(&d));
}

/* SDM 2A, "LAR", table "Segment and Gate Types". */
#define LAR_TYPES (1u << SYS_TSS16 | 1u << SYS_LDT | 1u << SYS_TSS16_BUSY | 1u << SYS_CALL16 | 1u << SYS_TASK_GATE | \
	1u << SYS_TSS32 | 1u << SYS_TSS32_BUSY | 1u << SYS_CALL32)
#define LSL_TYPES (1u << SYS_TSS16 | 1u << SYS_LDT | 1u << SYS_TSS16_BUSY | 1u << SYS_TSS32 | 1u << SYS_TSS32_BUSY)

static bool
visible_of(struct engine *e, const struct op *op, struct descriptor *d, uint32_t system_types)
{
	uint32_t type;

	if (!visible(e, op, d))
		return false;
	type = descriptor_system_type(d);
	return type == SYS_NONE || (system_types >> type & 1);
}

/* Bits 19-16 of the result are undefined: processors show the limit there. */
void
i_lar(struct engine *e, const struct op *op)
{
	struct descriptor d;
	bool found;

	require_protected(e);
	found = visible_of(e, op, &d, LAR_TYPES);
	if (found)
		reg_put(e->v, op->reg, op_bytes(op), d.hi & 0x00ffff00);
	set_zf(e, found);
}

void
i_lsl(struct engine *e, const struct op *op)
{
	struct descriptor d;
	bool found;

	require_protected(e);
	found = visible_of(e, op, &d, LSL_TYPES);
	if (found)
		reg_put(e->v, op->reg, op_bytes(op), descriptor_limit(&d));
	set_zf(e, found);
}

void
i_arpl(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t rpl = v->r[op->reg] & SELECTOR_RPL;
	uint32_t linear = 0, selector;
	bool raised;

	require_protected(e);
	if (op->flags & OP_MEM) {
		linear = op_linear(e, op, 2, 0);
		selector = mem_read(e, linear, 2);
	} else {
		selector = reg_get(v, op->rm, 2);
	}
	raised = (selector & SELECTOR_RPL) < rpl;
	if (raised) {
		selector = (selector & ~SELECTOR_RPL) | rpl;
		if (op->flags & OP_MEM)	/* only now must it be writable: silicon */
			mem_write(e, op_linear(e, op, 2, PF_W), 2, selector);
		else
			reg_put(v, op->rm, 2, selector);
	}
	set_zf(e, raised);
}

/* ---- LDTR and TR ------------------------------------------------------------------------------ */

static void
store_selector(struct engine *e, const struct op *op, uint32_t selector)
{
	require_protected(e);
	if (op->flags & OP_MEM)
		mem_write(e, op_linear(e, op, 2, PF_W), 2, selector);
	else
		reg_put(e->v, op->rm, op_bytes(op), selector);
}

void
i_sldt(struct engine *e, const struct op *op)
{
	store_selector(e, op, e->v->seg[LDTR].selector);
}

void
i_str(struct engine *e, const struct op *op)
{
	store_selector(e, op, e->v->seg[TR].selector);
}

static void
require_global(struct engine *e, uint32_t selector, struct descriptor *d)
{
	if (selector & SELECTOR_TI)
		raise_selector(e, V_GP, selector, 0);
	descriptor_get(e, selector, d, V_GP, 0);
}

/* A null selector is allowed: references through the LDT then raise #GP. */
void
i_lldt(struct engine *e, const struct op *op)
{
	struct descriptor d;
	uint32_t selector;

	require_protected(e);
	require_cpl0(e);
	selector = rm_get(e, op, 2);
	if (selector_null(selector)) {
		segment_null(&e->v->seg[LDTR], selector);
		return;
	}
	require_global(e, selector, &d);
	if (descriptor_system_type(&d) != SYS_LDT)
		raise_selector(e, V_GP, selector, 0);
	if (!descriptor_present(&d))
		raise_selector(e, V_NP, selector, 0);
	segment_fill(&e->v->seg[LDTR], selector, &d);
}

void
i_ltr(struct engine *e, const struct op *op)
{
	struct descriptor d;
	uint32_t selector, type;

	require_protected(e);
	require_cpl0(e);
	selector = rm_get(e, op, 2);
	if (selector_null(selector))
		raise_gp0(e);
	require_global(e, selector, &d);
	type = descriptor_system_type(&d);
	if (type != SYS_TSS16 && type != SYS_TSS32)
		raise_selector(e, V_GP, selector, 0);
	if (!descriptor_present(&d))
		raise_selector(e, V_NP, selector, 0);
	if (descriptor_set_busy(e, d.linear, true))	/* another vCPU was faster */
		raise_selector(e, V_GP, selector, 0);
	d.hi |= SYS_BUSY << 8;
	segment_fill(&e->v->seg[TR], selector, &d);
}

/* ---- GDTR and IDTR ------------------------------------------------------------------------------ */

/* All 32 bits of the base are stored, whatever the operand size. */
static void
store_table(struct engine *e, const struct op *op, const struct dtable *t)
{
	const uint32_t linear = op_linear(e, op, 6, PF_W);

	mem_check_write(e, linear, 2);
	mem_check_write(e, linear + 2, 4);
	mem_write(e, linear, 2, t->limit);
	mem_write(e, linear + 2, 4, t->base);
}

/* "If the operand-size attribute is 16 bits, ... a 24-bit base address is loaded". */
static void
load_table(struct engine *e, const struct op *op, struct dtable *t)
{
	uint32_t linear, limit, base;

	require_cpl0(e);
	linear = op_linear(e, op, 6, 0);
	limit = mem_read(e, linear, 2);
	base = mem_read(e, linear + 2, 4);
	t->limit = limit;
	t->base = op->flags & OP_SIZE16 ? base & 0xffffff : base;
}

void
i_sgdt(struct engine *e, const struct op *op)
{
	store_table(e, op, &e->v->gdtr);
}

void
i_sidt(struct engine *e, const struct op *op)
{
	store_table(e, op, &e->v->idtr);
}

void
i_lgdt(struct engine *e, const struct op *op)
{
	load_table(e, op, &e->v->gdtr);
}

void
i_lidt(struct engine *e, const struct op *op)
{
	load_table(e, op, &e->v->idtr);
}
