/*
 * transfer.c -- far JMP, CALL and RET, call gates, SYSENTER and SYSEXIT, and the current privilege level.
 *
 * Everything is computed and checked first: descriptors, the new stack, the limit of the new EIP.
 * Then A bits, then the frame, then the registers.
 *
 * Source: Intel SDM 2A "CALL", "JMP", 2B "RET", "SYSENTER", "SYSEXIT"; 3A sections 5.8.1 to 5.8.7.
 */
#include "direct.h"
#include "segment.h"
#include "slow.h"

/* A flat code or data segment as SYSENTER and SYSEXIT set it, without a look at the GDT. */
#define ATTR_FLAT_CODE (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_A)
#define ATTR_FLAT_DATA (SEG_G | SEG_DB | ATTR_DATA16)

void
set_cpl(struct engine *e, uint32_t cpl)
{
	struct vcpu *v = e->v;

	if (cpl != v->cpl)
		e->ctl->stats.transitions[(v->cpl & 3) * 4 + cpl]++;
	v->cpl = cpl;
	state_changed(e);
	direct_ring_changed(e);
}

/* CS:EIP in the hidden terms of a checked descriptor; the selector's RPL becomes CPL. */
static void
enter_code(struct engine *e, const struct descriptor *d, uint32_t cpl, uint32_t eip)
{
	struct vcpu *v = e->v;

	segment_fill(&v->seg[CS], (d->selector & ~SELECTOR_RPL) | cpl, d);
	v->eip = eip;
	set_cpl(e, cpl);
}

static void
check_eip(struct engine *e, uint32_t eip, uint32_t limit)
{
	if (eip > limit)
		raise_gp0(e);
}

/* Real and virtual-8086 mode: the selector gives the base, the limit stays. */
static void
enter_real(struct engine *e, uint32_t selector, uint32_t eip)
{
	struct vcpu *v = e->v;

	if (v86_mode(v))
		segment_v86(&v->seg[CS], selector);
	else
		segment_real(&v->seg[CS], selector);
	v->eip = eip;
	state_changed(e);
}

/* ---- JMP --------------------------------------------------------------------------------------- */

/* max(CPL, RPL) against the DPL of a gate or TSS, then its present bit. */
static void
check_system(struct engine *e, const struct descriptor *d, uint32_t selector)
{
	if (max_u32(e->v->cpl, selector & SELECTOR_RPL) > descriptor_dpl(d))
		raise_selector(e, V_GP, selector, 0);
	if (!descriptor_present(d))
		raise_selector(e, V_NP, selector, 0);
}

/* JMP or CALL to a task gate or an available TSS; false when the descriptor is neither. */
static bool
transfer_task(struct engine *e, const struct descriptor *d, uint32_t selector, enum task_source source)
{
	const uint32_t type = descriptor_system_type(d);
	struct descriptor tss = *d;

	if (type == SYS_TASK_GATE) {
		check_system(e, d, selector);
		task_find(e, gate_selector(d), &tss, 0);
	} else if (type == SYS_TSS16 || type == SYS_TSS32) {
		if (max_u32(e->v->cpl, selector & SELECTOR_RPL) > descriptor_dpl(d))
			raise_selector(e, V_GP, selector, 0);
		task_find(e, selector, &tss, 0);
	} else {
		return false;
	}
	task_switch(e, &tss, source, next_eip(e), eflags_get(e), 0);
	return true;
}

/* The code segment that a call gate leads to. */
static void
gate_target(struct engine *e, const struct descriptor *gate, struct descriptor *code)
{
	const uint32_t selector = gate_selector(gate);

	if (selector_null(selector))
		raise_gp0(e);
	descriptor_get(e, selector, code, V_GP, 0);
	if (!descriptor_code(code) || descriptor_dpl(code) > e->v->cpl)
		raise_selector(e, V_GP, selector, 0);
}

void
far_jump(struct engine *e, uint32_t selector, uint32_t offset, bool op16)
{
	struct vcpu *v = e->v;
	struct descriptor d, code;
	uint32_t type;

	if (op16)
		offset &= 0xffff;
	if (!protected_mode(v)) {
		check_eip(e, offset, v->seg[CS].limit);
		enter_real(e, selector, offset);
		return;
	}
	if (selector_null(selector))
		raise_gp0(e);
	descriptor_get(e, selector, &d, V_GP, 0);
	type = descriptor_system_type(&d);
	if (transfer_task(e, &d, selector, TASK_JUMP))
		return;
	if (type == SYS_CALL16 || type == SYS_CALL32) {	/* "RPL of the gate's selector is not checked" */
		check_system(e, &d, selector);
		gate_target(e, &d, &code);
		check_code_target(e, &code, code.selector, 0, 0);
		offset = gate_offset(&d);
	} else {
		check_code_target(e, &d, selector, selector & SELECTOR_RPL, 0);
		code = d;
	}
	check_eip(e, offset, descriptor_limit(&code));
	descriptor_accessed(e, &code);
	enter_code(e, &code, v->cpl, offset);
}

/* ---- CALL -------------------------------------------------------------------------------------- */

/* Push CS:EIP on the current stack and go to a code segment of the same privilege. */
static void
call_same(struct engine *e, struct descriptor *code, uint32_t offset, uint32_t size)
{
	struct vcpu *v = e->v;
	const uint32_t frame[2] = { v->seg[CS].selector, next_eip(e) };
	struct stack s;

	stack_current(v, &s, 0);
	stack_check(e, &s, size, 2);
	check_eip(e, offset, descriptor_limit(code));
	descriptor_accessed(e, code);
	v->r[ESP] = stack_push(e, &s, size, frame, 2);
	enter_code(e, code, v->cpl, offset);
}

/* Through a call gate to more privilege: SS:ESP, parameters and CS:EIP go on the inner stack. */
static void
call_inner(struct engine *e, const struct descriptor *gate, struct descriptor *code)
{
	struct vcpu *v = e->v;
	const uint32_t cpl = descriptor_dpl(code), size = gate_size(gate), params = gate->hi & 31;
	const uint32_t offset = gate_offset(gate);
	uint32_t frame[4 + 31], n = 0, selector, esp;
	struct descriptor ss;
	struct stack s;

	task_inner_stack(e, cpl, &selector, &esp, 0);
	check_stack_segment(e, selector, cpl, &ss, V_TS, 0);
	segment_fill(&s.ss, selector, &ss);
	s.esp = esp;
	s.inner = true;
	s.error = selector & SELECTOR_ERROR;
	frame[n++] = v->seg[SS].selector;
	frame[n++] = v->r[ESP];
	for (uint32_t i = params; i-- > 0;)
		frame[n++] = stack_peek(e, i * size, size);
	frame[n++] = v->seg[CS].selector;
	frame[n++] = next_eip(e);
	stack_check(e, &s, size, n);
	check_eip(e, offset, descriptor_limit(code));
	descriptor_accessed(e, &ss);
	descriptor_accessed(e, code);
	esp = stack_push(e, &s, size, frame, n);
	segment_fill(&v->seg[SS], selector, &ss);
	set_esp(v, esp);
	enter_code(e, code, cpl, offset);
}

static void
call_gate(struct engine *e, const struct descriptor *gate, uint32_t selector)
{
	struct descriptor code;

	check_system(e, gate, selector);
	gate_target(e, gate, &code);
	if (!descriptor_present(&code))
		raise_selector(e, V_NP, code.selector, 0);
	if (!descriptor_conforming(&code) && descriptor_dpl(&code) < e->v->cpl)
		call_inner(e, gate, &code);
	else
		call_same(e, &code, gate_offset(gate), gate_size(gate));
}

static void
call_real(struct engine *e, uint32_t selector, uint32_t offset, uint32_t size)
{
	struct vcpu *v = e->v;
	const uint32_t frame[2] = { v->seg[CS].selector, next_eip(e) };
	struct stack s;

	stack_current(v, &s, 0);
	stack_check(e, &s, size, 2);
	check_eip(e, offset, v->seg[CS].limit);
	v->r[ESP] = stack_push(e, &s, size, frame, 2);
	enter_real(e, selector, offset);
}

void
far_call(struct engine *e, uint32_t selector, uint32_t offset, bool op16)
{
	const uint32_t size = op16 ? 2 : 4;
	struct descriptor d;
	uint32_t type;

	if (op16)
		offset &= 0xffff;
	if (!protected_mode(e->v)) {
		call_real(e, selector, offset, size);
		return;
	}
	if (selector_null(selector))
		raise_gp0(e);
	descriptor_get(e, selector, &d, V_GP, 0);
	type = descriptor_system_type(&d);
	if (transfer_task(e, &d, selector, TASK_CALL))
		return;
	if (type == SYS_CALL16 || type == SYS_CALL32) {
		call_gate(e, &d, selector);
		return;
	}
	check_code_target(e, &d, selector, selector & SELECTOR_RPL, 0);
	call_same(e, &d, offset, size);
}

/* ---- RET --------------------------------------------------------------------------------------- */

/* To an outer ring: ESP and SS lie above the parameters, which are dropped from both stacks. */
static void
ret_outer(struct engine *e, struct descriptor *code, uint32_t eip, uint32_t size, uint32_t drop)
{
	struct vcpu *v = e->v;
	const uint32_t cpl = code->selector & SELECTOR_RPL;
	const uint32_t esp = stack_peek(e, 2 * size + drop, size);
	const uint32_t selector = stack_peek(e, 3 * size + drop, size) & 0xffff;
	struct descriptor ss;

	check_stack_segment(e, selector, cpl, &ss, V_GP, 0);
	check_eip(e, eip, descriptor_limit(code));
	descriptor_accessed(e, &ss);
	descriptor_accessed(e, code);
	segment_fill(&v->seg[SS], selector, &ss);
	set_esp(v, esp + drop);
	segments_drop_inner(v, cpl);
	enter_code(e, code, cpl, eip);
}

static void
ret_far(struct engine *e, const struct op *op, uint32_t drop)
{
	struct vcpu *v = e->v;
	const uint32_t size = op_bytes(op);
	const uint32_t eip = stack_peek(e, 0, size), selector = stack_peek(e, size, size) & 0xffff;
	struct descriptor code;

	if (!protected_mode(v)) {
		check_eip(e, eip, v->seg[CS].limit);
		v->r[ESP] = sp_add(v, v->r[ESP], 2 * size + drop);
		enter_real(e, selector, eip);
		return;
	}
	check_return_code(e, selector, &code);
	if ((selector & SELECTOR_RPL) > v->cpl) {
		ret_outer(e, &code, eip, size, drop);
		return;
	}
	check_eip(e, eip, descriptor_limit(&code));
	descriptor_accessed(e, &code);
	v->r[ESP] = sp_add(v, v->r[ESP], 2 * size + drop);
	enter_code(e, &code, v->cpl, eip);
}

/* ---- instructions ------------------------------------------------------------------------------- */

void
i_jmp_far(struct engine *e, const struct op *op)
{
	far_jump(e, op->imm16, op->imm, op->flags & OP_SIZE16);
}

void
i_call_far(struct engine *e, const struct op *op)
{
	far_call(e, op->imm16, op->imm, op->flags & OP_SIZE16);
}

static uint32_t
far_pointer(struct engine *e, const struct op *op, uint32_t *offset)
{
	const uint32_t size = op_bytes(op), linear = op_linear(e, op, size + 2, 0);

	*offset = mem_read(e, linear, size);
	return mem_read(e, linear + size, 2);
}

void
i_jmp_far_m(struct engine *e, const struct op *op)
{
	uint32_t offset;
	const uint32_t selector = far_pointer(e, op, &offset);

	far_jump(e, selector, offset, op->flags & OP_SIZE16);
}

void
i_call_far_m(struct engine *e, const struct op *op)
{
	uint32_t offset;
	const uint32_t selector = far_pointer(e, op, &offset);

	far_call(e, selector, offset, op->flags & OP_SIZE16);
}

void
i_retf(struct engine *e, const struct op *op)
{
	ret_far(e, op, 0);
}

void
i_retf_imm(struct engine *e, const struct op *op)
{
	ret_far(e, op, op->imm16);
}

static void
segment_flat(struct segment *s, uint32_t selector, uint32_t attr, uint32_t cpl)
{
	s->selector = (selector & SELECTOR_ERROR) | cpl;
	s->base = 0;
	s->limit = 0xffffffff;
	s->attr = attr | cpl << SEG_DPL_SHIFT;
}

void
i_sysenter(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;

	(void)op;
	if (!(v->cr0 & CR0_PE) || selector_null(v->msr_sysenter_cs))
		raise_gp0(e);
	v->eflags &= ~(uint32_t)(FL_VM | FL_IF);
	segment_flat(&v->seg[CS], v->msr_sysenter_cs, ATTR_FLAT_CODE, 0);
	segment_flat(&v->seg[SS], v->msr_sysenter_cs + 8, ATTR_FLAT_DATA, 0);
	v->r[ESP] = v->msr_sysenter_esp;
	v->eip = v->msr_sysenter_eip;
	set_cpl(e, 0);
}

void
i_sysexit(struct engine *e, const struct op *op)
{
	struct vcpu *v = e->v;

	(void)op;
	if (!(v->cr0 & CR0_PE) || v->cpl != 0 || selector_null(v->msr_sysenter_cs))
		raise_gp0(e);
	segment_flat(&v->seg[CS], v->msr_sysenter_cs + 16, ATTR_FLAT_CODE, 3);
	segment_flat(&v->seg[SS], v->msr_sysenter_cs + 24, ATTR_FLAT_DATA, 3);
	v->r[ESP] = v->r[ECX];
	v->eip = v->r[EDX];
	set_cpl(e, 3);
}
