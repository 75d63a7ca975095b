/*
 * deliver.c -- interrupts and exceptions: through the IVT in real mode, the IDT otherwise.
 *
 * v->eip is the return address when an event is delivered.  Nothing changes before every check has
 * passed, so a fault here is raised with the state of before, and may become a double fault.
 * EXT is set in error codes but for INT n, INT3 and INTO (SDM 3A, 6.13).
 *
 * Source: Intel SDM 2A "INT n/INTO/INT3/INT1"; 3A sections 6.12 and 20.3.
 */
#include "segment.h"
#include "slow.h"

#define DR7_GD (1u << 13)

struct event {
	uint32_t vector;
	enum event_kind kind;
	bool has_error;
	uint32_t error;
	uint32_t ext;		/* 0 or ERROR_EXT */
	uint32_t flags;		/* the EFLAGS image that is pushed */
};

/* INT n, INT3 and INTO: the gate's DPL is checked. */
static bool
event_soft(const struct event *ev)
{
	return ev->kind == EV_SOFT || ev->kind == EV_SOFT_TRAP;
}

static NORETURN void
raise_vector(struct engine *e, uint32_t vector, const struct event *ev)
{
	raise_fault(e, vector, ev->vector << 3 | ERROR_IDT | ev->ext);
}

/* ---- real mode and VME redirection ------------------------------------------------------------ */

/* Push FLAGS, CS and IP, and go where the vector table at `table` says. */
static void
deliver_ivt(struct engine *e, const struct event *ev, uint32_t table, uint32_t clear)
{
	struct vcpu *v = e->v;
	const uint32_t entry = sys_read(e, table + 4 * ev->vector, 4);
	const uint32_t frame[3] = { ev->flags, v->seg[CS].selector, v->eip };
	struct stack s;

	stack_current(v, &s, 0);
	stack_check(e, &s, 2, 3);
	if ((entry & 0xffff) > v->seg[CS].limit)
		raise_gp0(e);
	v->r[ESP] = stack_push(e, &s, 2, frame, 3);
	v->eip = entry & 0xffff;
	if (v86_mode(v))
		segment_v86(&v->seg[CS], entry >> 16);
	else
		segment_real(&v->seg[CS], entry >> 16);
	v->eflags &= ~clear;
	state_changed(e);
}

static void
deliver_real(struct engine *e, const struct event *ev)
{
	const struct vcpu *v = e->v;

	if (ev->vector * 4 + 3 > v->idtr.limit)
		raise_vector(e, V_GP, ev);
	deliver_ivt(e, ev, v->idtr.base, FL_IF | FL_TF | FL_AC | FL_RF);
}

/* INT n of virtual-8086 code to the task's own handler; below IOPL 3 the image shows VIF as IF, and IOPL 3. */
static void
deliver_redirected(struct engine *e, struct event *ev)
{
	if (iopl(e->v) == 3) {
		deliver_ivt(e, ev, 0, FL_IF | FL_TF | FL_RF);
		return;
	}
	ev->flags = (ev->flags & ~(uint32_t)FL_IF) | FL_IOPL | (ev->flags & FL_VIF ? FL_IF : 0);
	deliver_ivt(e, ev, 0, FL_VIF | FL_TF | FL_RF);
}

/* ---- protected mode ----------------------------------------------------------------------------- */

static void
gate_find(struct engine *e, const struct event *ev, struct descriptor *gate)
{
	const struct vcpu *v = e->v;
	uint64_t raw;
	uint32_t type;

	if (ev->vector * 8 + 7 > v->idtr.limit)
		raise_vector(e, V_GP, ev);
	gate->selector = 0;
	gate->linear = v->idtr.base + ev->vector * 8;
	raw = sys_read64(e, gate->linear);
	gate->lo = (uint32_t)raw;
	gate->hi = (uint32_t)(raw >> 32);
	type = descriptor_system_type(gate);
	if (type != SYS_TASK_GATE && (type & ~SYS_32) != SYS_INT16 && (type & ~SYS_32) != SYS_TRAP16)
		raise_vector(e, V_GP, ev);
	if (event_soft(ev) && descriptor_dpl(gate) < v->cpl)
		raise_vector(e, V_GP, ev);
	if (!descriptor_present(gate))
		raise_vector(e, V_NP, ev);
}

static void
gate_code(struct engine *e, const struct event *ev, const struct descriptor *gate, struct descriptor *code)
{
	const uint32_t selector = gate_selector(gate);

	if (selector_null(selector))
		raise_fault(e, V_GP, ev->ext);
	descriptor_get(e, selector, code, V_GP, ev->ext);
	if (!descriptor_code(code) || descriptor_dpl(code) > e->v->cpl)
		raise_selector(e, V_GP, selector, ev->ext);
	if (!descriptor_present(code))
		raise_selector(e, V_NP, selector, ev->ext);
	if (v86_mode(e->v) && (descriptor_conforming(code) || descriptor_dpl(code) != 0))
		raise_selector(e, V_GP, selector, ev->ext);
}

/* EFLAGS, CS, EIP and the error code: the part of the frame that every delivery has. */
static uint32_t
frame_return(const struct vcpu *v, const struct event *ev, uint32_t *frame, uint32_t n)
{
	frame[n++] = ev->flags;
	frame[n++] = v->seg[CS].selector;
	frame[n++] = v->eip;
	if (ev->has_error)
		frame[n++] = ev->error;
	return n;
}

static void
check_gate_eip(struct engine *e, const struct event *ev, const struct descriptor *gate, const struct descriptor *code)
{
	if (gate_offset(gate) > descriptor_limit(code))
		raise_fault(e, V_GP, ev->ext);
}

static void
enter_handler(struct engine *e, const struct descriptor *gate, const struct descriptor *code, uint32_t cpl)
{
	struct vcpu *v = e->v;
	const bool interrupt_gate = (descriptor_system_type(gate) & ~SYS_32) == SYS_INT16;

	segment_fill(&v->seg[CS], (code->selector & ~SELECTOR_RPL) | cpl, code);
	v->eip = gate_offset(gate);
	v->eflags &= ~(uint32_t)(FL_TF | FL_VM | FL_RF | FL_NT | (interrupt_gate ? FL_IF : 0));
	set_cpl(e, cpl);
}

static void
deliver_same(struct engine *e, const struct event *ev, const struct descriptor *gate, struct descriptor *code)
{
	struct vcpu *v = e->v;
	const uint32_t size = gate_size(gate);
	uint32_t frame[4];
	const uint32_t n = frame_return(v, ev, frame, 0);
	struct stack s;

	stack_current(v, &s, ev->ext);
	stack_check(e, &s, size, n);
	check_gate_eip(e, ev, gate, code);
	descriptor_accessed(e, code);
	v->r[ESP] = stack_push(e, &s, size, frame, n);
	enter_handler(e, gate, code, v->cpl);
}

/* From virtual-8086 mode the data segments are pushed first and become null. */
static uint32_t
frame_v86(const struct vcpu *v, uint32_t *frame)
{
	static const uint8_t order[4] = { GS, FS, DS, ES };

	for (unsigned i = 0; i < 4; i++)
		frame[i] = v->seg[order[i]].selector;
	return 4;
}

static void
deliver_inner(struct engine *e, const struct event *ev, const struct descriptor *gate, struct descriptor *code)
{
	struct vcpu *v = e->v;
	const uint32_t cpl = descriptor_dpl(code), size = gate_size(gate);
	uint32_t frame[10], n = 0, selector, esp;
	struct descriptor ss;
	struct stack s;

	task_inner_stack(e, cpl, &selector, &esp, ev->ext);
	check_stack_segment(e, selector, cpl, &ss, V_TS, ev->ext);
	segment_fill(&s.ss, selector, &ss);
	s.esp = esp;
	s.inner = true;
	s.error = (selector & SELECTOR_ERROR) | ev->ext;
	if (v86_mode(v))
		n = frame_v86(v, frame);
	frame[n++] = v->seg[SS].selector;
	frame[n++] = v->r[ESP];
	n = frame_return(v, ev, frame, n);
	stack_check(e, &s, size, n);
	check_gate_eip(e, ev, gate, code);
	descriptor_accessed(e, &ss);
	descriptor_accessed(e, code);
	esp = stack_push(e, &s, size, frame, n);
	if (v86_mode(v)) {
		segment_null(&v->seg[GS], 0);
		segment_null(&v->seg[FS], 0);
		segment_null(&v->seg[DS], 0);
		segment_null(&v->seg[ES], 0);
	}
	segment_fill(&v->seg[SS], selector, &ss);
	set_esp(v, esp);
	enter_handler(e, gate, code, cpl);
}

/* The error code goes on the new task's stack, in the width of its TSS. */
static void
deliver_task(struct engine *e, const struct event *ev, const struct descriptor *gate)
{
	struct descriptor tss;

	task_find(e, gate_selector(gate), &tss, ev->ext);
	task_switch(e, &tss, TASK_EVENT, e->v->eip, ev->flags, ev->ext);
	if (ev->has_error)
		push_n(e, tss32(e->v) ? 4 : 2, ev->error);
}

static void
deliver_protected(struct engine *e, const struct event *ev)
{
	struct descriptor gate, code;

	gate_find(e, ev, &gate);
	if (descriptor_system_type(&gate) == SYS_TASK_GATE) {
		deliver_task(e, ev, &gate);
		return;
	}
	gate_code(e, ev, &gate, &code);
	if (!descriptor_conforming(&code) && descriptor_dpl(&code) < e->v->cpl)
		deliver_inner(e, ev, &gate, &code);
	else
		deliver_same(e, ev, &gate, &code);
}

/*
 * "For any fault-class exception except a debug exception generated in response to an instruction
 * breakpoint, the value pushed for RF is 1" (SDM 3B, 17.3.1.1); else it is the value at the time.
 */
static uint32_t
flags_image(struct engine *e, uint32_t vector, enum event_kind kind)
{
	const bool fault = kind == EV_EXCEPTION && vector != V_DB && vector != V_DF && vector != V_MC;

	return eflags_get(e) | (fault ? (uint32_t)FL_RF : 0);
}

void
deliver(struct engine *e, uint32_t vector, enum event_kind kind, bool has_error, uint32_t error)
{
	struct vcpu *v = e->v;
	struct event ev = { vector, kind, has_error, error, 0, flags_image(e, vector, kind) };

	ev.ext = event_soft(&ev) ? 0 : ERROR_EXT;
	if (!(v->cr0 & CR0_PE)) {
		deliver_real(e, &ev);
	} else if (v86_mode(v) && kind == EV_SOFT && (v->cr4 & CR4_VME) && vme_redirected(e, vector)) {
		deliver_redirected(e, &ev);
	} else {
		if (v86_mode(v) && kind == EV_SOFT && iopl(v) < 3)
			raise_gp0(e);
		deliver_protected(e, &ev);
	}
	e->step_trap = false;	/* an event in place of the next instruction: TF is clear now */
	if (vector == V_DB && (kind == EV_EXCEPTION || kind == EV_ICEBP) && (v->dr[7] & DR7_GD)) {
		v->dr[7] &= ~DR7_GD;	/* "cleared on entry to a debug exception handler" */
		state_changed(e);
	}
}

/* ---- instructions -------------------------------------------------------------------------------- */

void
i_int(struct engine *e, const struct op *op)
{
	const uint32_t vector = op->imm & 0xff;

	if (unlikely(e->ctl->trace_mask & TRACE_INT))
		trace(e, TRACE_INT, vector, 0, e->v->r[EAX]);
	e->v->eip = next_eip(e);
	deliver(e, vector, EV_SOFT, false, 0);
}

void
i_int3(struct engine *e, const struct op *op)
{
	(void)op;
	e->v->eip = next_eip(e);
	deliver(e, V_BP, EV_SOFT_TRAP, false, 0);
}

void
i_into(struct engine *e, const struct op *op)
{
	(void)op;
	e->v->eip = next_eip(e);
	if (lf_of(e))
		deliver(e, V_OF, EV_SOFT_TRAP, false, 0);
}

void
i_icebp(struct engine *e, const struct op *op)
{
	(void)op;
	e->v->eip = next_eip(e);
	deliver(e, V_DB, EV_ICEBP, false, 0);
}
