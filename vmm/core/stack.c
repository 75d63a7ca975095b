/*
 * stack.c -- frames that transfers push, and instructions that push or pop more than one value.
 *
 * A frame is checked whole before any of it is written, and ESP changes last: an instruction that
 * faults has changed nothing (SDM 3A, 6.5).  Values below a 16-bit SP wrap at 64 KiB one by one.
 *
 * Source: Intel SDM 2A "ENTER", "PUSHA", "POPA", "PUSHF", "POPF", "CLI", "STI", "BOUND"; 3A 20.3 (VME).
 */
#include "segment.h"
#include "slow.h"

void
stack_current(const struct vcpu *v, struct stack *s, uint32_t error)
{
	s->ss = v->seg[SS];
	s->esp = v->r[ESP];
	s->inner = false;
	s->error = error;
}

static uint32_t
stack_offset(const struct stack *s, uint32_t below)
{
	const uint32_t offset = s->esp - below;

	return s->ss.attr & SEG_DB ? offset : offset & 0xffff;
}

static bool
stack_room(const struct segment *ss, uint32_t offset, uint32_t bytes)
{
	const uint32_t last = offset + bytes - 1;

	if (ss->attr & SEG_UNUSABLE)
		return false;
	if (last < offset)	/* across 4 GiB: only a flat segment reaches both ends */
		return !(ss->attr & SEG_E) && ss->base == 0 && ss->limit == 0xffffffffu;
	if ((ss->attr & (SEG_CODE | SEG_E)) == SEG_E)	/* expand-down: valid above the limit */
		return offset > ss->limit && last <= (ss->attr & SEG_DB ? 0xffffffffu : 0xffff);
	return last <= ss->limit;
}

static void
stack_check_at(struct engine *e, const struct stack *s, uint32_t offset, uint32_t bytes)
{
	if (!stack_room(&s->ss, offset, bytes))
		raise_fault(e, V_SS, s->error);
	if (s->inner)
		sys_check_write(e, s->ss.base + offset, bytes);
	else
		mem_check_write(e, s->ss.base + offset, bytes);
}

void
stack_check(struct engine *e, const struct stack *s, uint32_t size, uint32_t count)
{
	const uint32_t total = size * count, top = stack_offset(s, 0);

	/* Implicit accesses know no #AC, so the range may be checked at once. */
	if (s->inner && (top == 0 || top >= total)) {
		stack_check_at(e, s, stack_offset(s, total), total);
		return;
	}
	for (uint32_t i = 1; i <= count; i++)
		stack_check_at(e, s, stack_offset(s, i * size), size);
}

uint32_t
stack_push(struct engine *e, const struct stack *s, uint32_t size, const uint32_t *values, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t linear = s->ss.base + stack_offset(s, (i + 1) * size);

		if (s->inner)
			sys_write(e, linear, size, values[i]);
		else
			mem_write(e, linear, size, values[i]);
	}
	return s->ss.attr & SEG_DB ? s->esp - size * count : (s->esp & 0xffff0000u) | stack_offset(s, size * count);
}

void
set_esp(struct vcpu *v, uint32_t esp)
{
	v->r[ESP] = v->seg[SS].attr & SEG_DB ? esp : (v->r[ESP] & 0xffff0000u) | (esp & 0xffff);
}

/* ---- instructions ---------------------------------------------------------------------------- */

/*
 * ENTER: level - 1 frame pointers are copied from the old frame.  "#PF if a write using the final
 * value of the stack pointer (within the current stack segment) would cause a page fault".
 */
void
i_enter(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op), level = op->imm2 & 31;
	const bool big = v->seg[SS].attr & SEG_DB;
	uint32_t values[32], count = 0, bp = v->r[EBP], final, frame;
	struct stack s;

	stack_current(v, &s, 0);
	values[count++] = bp;
	frame = sp_add(v, v->r[ESP], 0u - size);
	for (uint32_t i = 1; i < level; i++) {
		bp = sp_add(v, bp, 0u - size);
		values[count++] = mem_read(e, seg_linear(e, SS, big ? bp : bp & 0xffff, size, 0), size);
	}
	if (level)
		values[count++] = frame;
	stack_check(e, &s, size, count);
	final = sp_add(v, v->r[ESP], 0u - (size * count + op->imm16));
	mem_check_write(e, seg_linear(e, SS, big ? final : final & 0xffff, size, PF_W), size);
	bp = v->r[EBP];
	for (uint32_t i = 0; i < count; i++) {
		if (i && i < level) {	/* once more: an old frame that overlaps the new one is read as it is being pushed */
			bp = sp_add(v, bp, 0u - size);
			values[i] = mem_read(e, seg_linear(e, SS, big ? bp : bp & 0xffff, size, 0), size);
		}
		mem_write(e, s.ss.base + stack_offset(&s, (i + 1) * size), size, values[i]);
	}
	reg_put(v, EBP, size, frame);
	v->r[ESP] = final;
}

void
i_pusha(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op);
	struct stack s;

	stack_current(v, &s, 0);
	stack_check(e, &s, size, 8);
	v->r[ESP] = stack_push(e, &s, size, v->r, 8);	/* the order of encoding, and the old ESP */
}

void
i_popa(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op);
	uint32_t values[8];

	for (uint32_t i = 0; i < 8; i++)
		values[i] = i == 7 - ESP ? 0 : stack_peek(e, i * size, size);
	for (uint32_t i = 0; i < 8; i++)
		if (i != 7 - ESP)
			reg_put(v, 7 - i, size, values[i]);
	v->r[ESP] = sp_add(v, v->r[ESP], 8 * size);
}

void
i_pushf(struct engine *e, const struct op *op)
{
	const struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op);
	uint32_t image = eflags_get(e) & ~(uint32_t)(FL_VM | FL_RF);

	if (v86_mode(v) && iopl(v) < 3) {
		if (!(v->cr4 & CR4_VME) || size == 4)
			raise_gp0(e);
		image = (image & ~(uint32_t)FL_IF) | FL_IOPL | (image & FL_VIF ? FL_IF : 0);
	}
	push_n(e, size, image);
}

static uint32_t
popf_virtual(struct engine *e, uint32_t image, uint32_t size)
{
	struct vcpu *v = e->v;

	if (!(v->cr4 & CR4_VME) || size == 4)
		raise_gp0(e);
	if ((image & FL_TF) || ((image & FL_IF) && (v->eflags & FL_VIP)))
		raise_gp0(e);
	return image & FL_IF ? FL_VIF : 0;
}

/* VM, VIP and VIF never change but for VME's VIF; IF needs CPL <= IOPL, IOPL needs CPL 0. */
void
i_popf(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op);
	uint32_t image, mask = FL_ARITH | FL_TF | FL_DF | FL_NT;

	if (v86_mode(v) && iopl(v) < 3 && (!(v->cr4 & CR4_VME) || size == 4))
		raise_gp0(e);
	image = stack_peek(e, 0, size);
	if (v86_mode(v) && iopl(v) < 3) {
		image = (image & mask) | popf_virtual(e, image, size);
		mask |= FL_VIF;
	} else {
		if (v->cpl <= iopl(v))
			mask |= FL_IF;
		if (v->cpl == 0)
			mask |= FL_IOPL;
		if (size == 4) {
			mask |= FL_RF | FL_AC | FL_ID;
			image &= ~(uint32_t)FL_RF;
		}
	}
	v->r[ESP] = sp_add(v, v->r[ESP], size);
	eflags_set(e, image, mask);
}

/* Which flag do CLI and STI change: IF, VIF (VME, PVI) or none? */
static uint32_t
interrupt_flag(const struct vcpu *v)
{
	if (!(v->cr0 & CR0_PE))
		return FL_IF;
	if (v86_mode(v))
		return iopl(v) == 3 ? FL_IF : v->cr4 & CR4_VME ? FL_VIF : 0;
	if (v->cpl <= iopl(v))
		return FL_IF;
	return v->cpl == 3 && (v->cr4 & CR4_PVI) ? FL_VIF : 0;
}

void
i_cli(struct engine *e, const struct op *op)
{
	const uint32_t flag = interrupt_flag(e->v);

	(void)op;
	if (flag == 0)
		raise_gp0(e);
	e->v->eflags &= ~flag;
}

/* The instruction after an STI that changed IF is not preceded by an interrupt. */
void
i_sti(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;
	const uint32_t flag = interrupt_flag(v);

	(void)op;
	if (flag == 0 || (flag == FL_VIF && (v->eflags & FL_VIP)))
		raise_gp0(e);
	if (flag == FL_IF && !(v->eflags & FL_IF))
		v->inhibit |= INHIBIT_STI;
	v->eflags |= flag;
}

void
i_bound(struct engine *e, const struct op *op)
{
	const uint32_t size = op_bytes(op), linear = op_linear(e, op, 2 * size, 0);
	const int32_t low = (int32_t)extend_sign(mem_read(e, linear, size), size);
	const int32_t high = (int32_t)extend_sign(mem_read(e, linear + size, size), size);
	const int32_t index = (int32_t)extend_sign(reg_get(e->v, op->reg, size), size);

	if (index < low || index > high)
		raise_noerr(e, V_BR);
}
