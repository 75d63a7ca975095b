/*
 * run.c -- engine_run: the loop of instruction boundaries.
 *
 * Blocks run until something needs attention: the budget between two polls is used up, somebody
 * set a bit in the control page, or an instruction changed what may run next.  Then, in the
 * order of SDM 3A table 6-2: traps of the last instruction, NMI, INTR, and the next instruction.
 * Faults and exits unwind to the loop by raise_*() and leave(); the state is then that of the
 * instruction's first byte.
 */
#include "codecache.h"
#include "direct.h"
#include "fpu.h"
#include "handlers.h"
#include "run.h"
#include "sysraw.h"
#include "watch.h"

#define POLL_INSNS 16384	/* between two looks at the clock: some tens of microseconds */

/* ---- unwinding ------------------------------------------------------------------------------ */

/* Instructions of the running block from op on: counted at entry, not retired. */
int64_t
block_rest(const struct engine *e, const struct op *op)
{
	const struct block *b = e->block;
	const struct op *before;
	int64_t rest;

	if (!b || op < b->ops || op >= b->ops + b->ops_count)
		return 0;
	rest = b->count;
	for (before = b->ops; before < op; before++)
		rest -= op_insns(before);
	return rest;
}

/* Back to the instruction's first byte. */
static void
rewind_insn(struct engine *e)
{
	if (!e->cur)
		return;
	e->v->eip = e->mode & MODE_CS32 ? cur_eip(e) : cur_eip(e) & 0xffff;
	e->budget += block_rest(e, e->cur);
	e->cur = NULL;
}

NORETURN static void
unwind(struct engine *e)
{
	__builtin_longjmp(e->jump, 1);
}

NORETURN static void
raise_any(struct engine *e, uint32_t vector, bool has_error, uint32_t error)
{
	rewind_insn(e);
	if (unlikely(vector == V_UD))
		direct_undefined(e);
	e->replay.count = e->replay.cursor = 0;
	e->began_rf = e->began_inhibit = 0;
	e->in_delivery = false;
	e->fault = (struct fault){ vector, error, has_error, true };
	unwind(e);
}

void
raise_fault(struct engine *e, uint32_t vector, uint32_t error)
{
	raise_any(e, vector, true, error);
}

void
raise_noerr(struct engine *e, uint32_t vector)
{
	raise_any(e, vector, false, 0);
}

void
raise_pf(struct engine *e, uint32_t linear, uint32_t error)
{
	e->v->cr2 = linear;
	e->ctl->stats.true_faults++;
	raise_any(e, V_PF, true, error);
}

void
leave(struct engine *e, uint32_t exit_kind)
{
	rewind_insn(e);
	e->replay.cursor = 0;
	e->v->eflags |= e->began_rf;	/* what held for the instruction holds when it begins again */
	e->v->inhibit |= e->began_inhibit;
	e->began_rf = e->began_inhibit = 0;
	e->event.due |= e->in_delivery;
	e->in_delivery = false;
	replay_expect(e, exit_kind);
	e->leaving = exit_kind;
	unwind(e);
}

void
trace(struct engine *e, uint32_t kind, uint32_t what, uint32_t value, uint32_t extra)
{
	struct control *c = e->ctl;
	struct trace_event *t = &c->trace[c->trace_count++ % RF_TRACE_EVENTS];

	*t = (struct trace_event){ kind, what, cur_eip(e), e->v->seg[CS].selector, value, extra, clock_now(e->intr) };
}

/* ---- accounting -------------------------------------------------------------------------------- */

void
count_insns(struct engine *e)
{
	struct run_stats *s = &e->ctl->stats;
	const int64_t done = e->budget_mark - e->budget;

	s->insns += (uint64_t)done;
	if (e->counted_cpl == 3)
		s->insns_user += (uint64_t)done;
	if (e->counted_cpl)
		e->direct_wait -= done;
	e->counted_cpl = e->v->cpl;
	e->budget_mark = e->budget;
	if (e->intr->clock.mode == CLOCK_COUNTED && done > 0)
		clock_retired(e->intr, (uint64_t)done);
}

/* Time of the last stretch, given to the ring that it ended in: sampled, not exact. */
static void
count_time(struct engine *e, uint64_t now)
{
	struct run_stats *s = &e->ctl->stats;

	if (e->v->cpl == 3)
		s->ns_user += now - e->last_poll_ns;
	else
		s->ns_system += now - e->last_poll_ns;
	e->last_poll_ns = now;
}

/* ---- events --------------------------------------------------------------------------------------- */

/*
 * An access was answered, or an event acknowledged, and what asked for it is not done: that is known here alone, not in
 * the vCPU's state, so the runner does not get the vCPU back before.
 */
static bool
unfinished(const struct engine *e)
{
	return e->replay.count || e->hypercall_answered || e->event.due || e->fault.pending;
}

/* Between these two others need not wait for us: V1 of watch.h. */
static void
fall_asleep(struct engine *e)
{
	__atomic_store_n(&e->ctl->halted, 1, __ATOMIC_SEQ_CST);
}

static void
wake_up(struct engine *e)
{
	__atomic_store_n(&e->ctl->halted, 0, __ATOMIC_SEQ_CST);
	watch_obey(e);
}

/* The guest spins: whom it waits for may be waiting for this host CPU. */
static void
give_way(struct engine *e)
{
	fall_asleep(e);
	sys_yield();
	wake_up(e);
}

/* Expire timers, end the quantum, start a new budget. */
static void
poll(struct engine *e)
{
	uint32_t kick = 0;
	uint64_t now;

	count_insns(e);
	now = e->clock_is_fresh ? e->last_poll_ns : clock_now(e->intr);
	e->clock_is_fresh = false;
	count_time(e, now);
	e->ctl->stats.polls++;
	e->deadline = intr_timers(e->intr, e->v->vcpu_id, now, &kick);
	kick_vcpus(e, kick);
	if (unlikely(e->pauses >= PAUSES_BEFORE_YIELD))
		give_way(e);
	e->pauses = 0;
	e->budget = e->budget_mark = POLL_INSNS;
	e->direct_held = 0;
	if (e->direct && e->v->cpl)
		direct_hold(e);
	if (now < e->run_end_ns)
		return;
	if (!unfinished(e))
		leave(e, EXIT_QUANTUM);
	e->budget = e->budget_mark = 0;		/* one more instruction */
	e->direct_held = 0;
}

void
poll_soon(struct engine *e)
{
	count_insns(e);
	e->budget = e->budget_mark = -1;
	e->direct_held = 0;
}

/* A fault happened while another event was being delivered: SDM 3A table 6-5. */
static void
combine_faults(struct engine *e)
{
	const uint32_t contributory = 1 << V_DE | 1 << V_TS | 1 << V_NP | 1 << V_SS | 1 << V_GP;
	const uint32_t first = e->delivering_vector, second = e->fault.vector;
	const bool second_bad = (contributory >> second & 1) || second == V_PF;

	if (!e->delivering)
		return;
	if (first == V_DF && second_bad) {
		e->v->activity = ACT_SHUTDOWN;
		e->ctl->exit.vector = e->first_vector;
		e->fault.pending = false;
		e->delivering = 0;
		leave(e, EXIT_SHUTDOWN);
	}
	if ((first == V_PF && second_bad) || ((contributory >> first & 1) && (contributory >> second & 1)))
		e->fault = (struct fault){ V_DF, 0, true, true };
}

static void
deliver_event(struct engine *e, uint32_t vector, enum event_kind kind, bool has_error, uint32_t error)
{
	e->delivering = kind == EV_EXCEPTION;
	e->delivering_vector = vector;
	e->ctl->resume_breakpoint = 0;	/* the next instruction is the handler's */
	e->event = (struct event_args){ vector, kind, error, has_error, false };
	e->in_delivery = true;
	deliver(e, vector, kind, has_error, error);
	e->in_delivery = false;
	e->delivering = 0;
	e->fault_chain = 0;
}

/* For the debugger, the way into an exception's handler is a step of its own. */
static void
exception_stepped(struct engine *e)
{
	if (!e->ctl->single_step)
		return;
	e->ctl->exit.reason = DEBUG_STEP;
	e->ctl->exit.address = e->v->eip;
	leave(e, EXIT_DEBUG);
}

/* What the delivery asked for when it left run() has been answered. */
static void
deliver_again(struct engine *e)
{
	const struct event_args a = e->event;

	deliver_event(e, a.vector, (enum event_kind)a.kind, a.has_error, a.error);
	e->replay.count = e->replay.cursor = 0;
	if (a.kind == EV_EXCEPTION)
		exception_stepped(e);
}

static void
deliver_fault(struct engine *e)
{
	struct fault f;

	if (!e->delivering)
		e->first_vector = e->fault.vector;
	combine_faults(e);
	f = e->fault;
	e->fault.pending = false;
	if (++e->fault_chain > FAULT_CHAIN_MAX) {	/* serial faults without an instruction between: never on hardware */
		e->ctl->exit.reason = ERR_RUNAWAY_FAULTS;
		leave(e, EXIT_ERROR);
	}
	e->ctl->stats.exceptions[f.vector & 31]++;
	e->budget--;	/* a handler whose first instruction faults retires nothing, but time must pass */
	e->budget_mark--;
	if (e->intr->clock.mode == CLOCK_COUNTED)
		clock_retired(e->intr, 1);
	if (unlikely(e->ctl->trace_mask & TRACE_FAULT))
		trace(e, TRACE_FAULT, f.vector, f.error, e->v->cr2);
	deliver_event(e, f.vector, EV_EXCEPTION, f.has_error, f.error);
	exception_stepped(e);
}

static void
take_init(struct engine *e)
{
	struct vcpu *v = e->v;

	intr_take(e->intr, v->vcpu_id, INTR_INIT);
	vcpu_init_signal(v, e->model.leaves);
	v->activity = v->msr_apic_base & APIC_BASE_BSP ? ACT_RUNNING : ACT_WAIT_SIPI;
	engine_flush(e);
	state_changed(e);
}

static void
take_sipi(struct engine *e)
{
	struct vcpu *v = e->v;
	const uint32_t vector = intr_take(e->intr, v->vcpu_id, INTR_SIPI);

	if (v->activity != ACT_WAIT_SIPI)
		return;
	v->seg[CS].selector = vector << 8;
	v->seg[CS].base = vector << 12;
	v->eip = 0;
	v->activity = ACT_RUNNING;
	state_changed(e);
}

static void
take_nmi(struct engine *e)
{
	struct vcpu *v = e->v;

	intr_take(e->intr, v->vcpu_id, INTR_NMI);
	v->activity = ACT_RUNNING;
	v->nmi_blocked = 1;
	e->ctl->stats.interrupts++;
	deliver_event(e, V_NMI, EV_EXTERNAL, false, 0);
}

static bool
take_interrupt(struct engine *e)
{
	struct vcpu *v = e->v;
	const int32_t vector = intr_acknowledge(e->intr, v->vcpu_id);

	if (vector < 0)
		return false;
	v->activity = ACT_RUNNING;
	e->ctl->stats.interrupts++;
	if (unlikely(e->ctl->trace_mask & TRACE_IRQ))
		trace(e, TRACE_IRQ, (uint32_t)vector, 0, 0);
	deliver_event(e, (uint32_t)vector, EV_EXTERNAL, false, 0);
	return true;
}

/* #DB causes that the last instruction left: a trap. */
static void
take_debug_trap(struct engine *e)
{
	struct vcpu *v = e->v;

	v->activity = ACT_RUNNING;	/* it may have been HLT that was stepped */
	v->dr[6] |= v->pending_dr6;
	v->pending_dr6 = 0;
	e->ctl->stats.exceptions[V_DB]++;
	if (unlikely(e->ctl->trace_mask & TRACE_FAULT))
		trace(e, TRACE_FAULT, V_DB, v->dr[6], 0);
	deliver_event(e, V_DB, EV_EXCEPTION, false, 0);
}

/* True when an event was taken: look again. */
static bool
take_events(struct engine *e)
{
	struct vcpu *v = e->v;
	const uint32_t pending = intr_pending(e->intr, v->vcpu_id);

	if (several_vcpus(e))
		kick_vcpus(e, intr_owed(e->intr));	/* by what was taken before this look */

	if (pending & INTR_INIT) {
		take_init(e);
		return true;
	}
	if (pending & INTR_SIPI) {
		take_sipi(e);
		return true;
	}
	if (v->activity == ACT_WAIT_SIPI || (v->inhibit & INHIBIT_SS))
		return false;
	if (v->pending_dr6) {
		take_debug_trap(e);
		return true;
	}
	if ((pending & INTR_NMI) && !v->nmi_blocked) {
		take_nmi(e);
		return true;
	}
	if (e->ctl->single_step == STEP_ALONE && v->activity == ACT_RUNNING)
		return false;
	return (pending & INTR_EXT) && (v->eflags & FL_IF) && !v->inhibit && take_interrupt(e);
}

/* Attention bits that others set. */
static void
take_attention(struct engine *e)
{
	const uint32_t bits = __atomic_exchange_n(&e->ctl->attention, 0, __ATOMIC_SEQ_CST);

	watch_obey(e);
	if (bits & ATTN_FLUSH)
		engine_flush(e);
	if (bits & ATTN_KICK) {
		if (!unfinished(e))
			leave(e, EXIT_KICK);
		__atomic_fetch_or(&e->ctl->attention, ATTN_KICK, __ATOMIC_SEQ_CST);
	}
	if ((bits & ATTN_INTERRUPT) && e->v->vcpu_id == 0)
		poll_soon(e);		/* a device may have moved a deadline */
}

/* Nothing to run: sleep until the next deadline, the end of the quantum, or a kick. */
static void
halt(struct engine *e)
{
	struct vcpu *v = e->v;
	struct control *c = e->ctl;
	uint64_t now, until;

	c->exit.interruptible = v->activity == ACT_HALTED && (v->eflags & FL_IF) != 0;
	if (v->activity == ACT_HALTED && !c->exit.interruptible && !several_vcpus(e))	/* others could send NMI or INIT */
		leave(e, EXIT_HLT);
	poll(e);
	until = e->deadline < e->run_end_ns ? e->deadline : e->run_end_ns;
	now = clock_now(e->intr);
	if (until > now) {
		if (e->intr->clock.mode == CLOCK_COUNTED) {
			clock_advance(e->intr, until - now);
		} else {
			fall_asleep(e);
			if (__atomic_load_n(&c->attention, __ATOMIC_SEQ_CST) == 0)
				sys_futex_wait(&c->attention, 0, until - now);
			wake_up(e);
		}
		const uint64_t after = clock_now(e->intr);

		c->stats.ns_halted += after - e->last_poll_ns;
		e->last_poll_ns = after;
	}
	if (clock_now(e->intr) >= e->run_end_ns && !intr_pending(e->intr, v->vcpu_id)) {
		uint32_t kick = 0;

		intr_timers(e->intr, v->vcpu_id, clock_now(e->intr), &kick);
		kick_vcpus(e, kick);
		if (!intr_pending(e->intr, v->vcpu_id))
			leave(e, EXIT_HLT);
	}
	poll_soon(e);
}

/* ---- the next instruction, alone (MODE_ONE) ------------------------------------------------------------ */

/* Code breakpoints of DR7: a fault, before the instruction; RF holds it off once. */
static void
check_code_breakpoints(struct engine *e)
{
	struct vcpu *v = e->v;
	const uint32_t linear = v->seg[CS].base + v->eip;
	uint32_t i, hits = 0;

	for (i = 0; i < 4; i++)
		if ((v->dr[7] >> (2 * i) & 3) && (v->dr[7] >> (16 + 4 * i) & 3) == 0 && v->dr[i] == linear)
			hits |= 1u << i;
	if (!hits || (v->eflags & FL_RF) || e->replay.count || e->hypercall_answered)	/* it has begun already */
		return;
	v->dr[6] |= hits;
	raise_noerr(e, V_DB);
}

static void
check_debugger(struct engine *e)
{
	const uint32_t linear = e->v->seg[CS].base + e->v->eip;
	uint32_t i;

	if (e->ctl->resume_breakpoint || e->replay.count || e->hypercall_answered)
		return;
	for (i = 0; i < e->breakpoint_count; i++)
		if (e->breakpoints[i].kind == 0 && e->breakpoints[i].linear == linear) {
			e->ctl->exit.reason = DEBUG_BREAKPOINT;
			e->ctl->exit.address = linear;
			leave(e, EXIT_DEBUG);
		}
}

static void
after_one(struct engine *e)
{
	struct vcpu *v = e->v;
	const bool step = e->ctl->single_step != 0, watch = e->watch_hit;

	e->replay.count = e->replay.cursor = 0;
	e->began_rf = e->began_inhibit = 0;
	e->one_shot = false;
	e->ctl->resume_breakpoint = 0;
	if (e->step_trap && !(v->inhibit & INHIBIT_SS))	/* a load of SS is not followed by a single-step trap */
		v->pending_dr6 |= DR6_BS;
	v->pending_dr6 |= e->data_hits;
	e->step_trap = false;
	e->data_hits = 0;
	e->watch_hit = false;
	state_changed(e);
	if (watch || step) {
		e->ctl->exit.reason = watch ? DEBUG_WATCHPOINT : DEBUG_STEP;
		e->ctl->exit.address = watch ? e->watch_linear : v->eip;
		leave(e, EXIT_DEBUG);
	}
}

static void
run_blocks(struct engine *e, struct block *b)
{
	const struct op *op = b->ops;

#ifdef RF_LOOP_DISPATCH
	while (op)
		op = op->fn(e->v, op, e);
#else
	op->fn(e->v, op, e);
#endif
}

static void
run_one(struct engine *e)
{
	struct vcpu *v = e->v;
	struct block *b;

	check_code_breakpoints(e);
	check_debugger(e);
	e->step_trap = (v->eflags & FL_TF) != 0;
	e->data_hits = 0;
	e->watch_hit = false;
	e->began_rf = v->eflags & FL_RF;
	e->began_inhibit = v->inhibit;
	v->eflags &= ~(uint32_t)FL_RF;
	v->inhibit = 0;
	b = code_lookup(e);
	if (!block_enter(e, b, v->eip)) {	/* a kick came: nothing has happened yet */
		e->one_shot = true;
		return;
	}
	run_blocks(e, b);
	e->cur = NULL;
	e->fault_chain = 0;
	after_one(e);
}

/* ---- the loop --------------------------------------------------------------------------------------------- */

static void
boundary(struct engine *e)
{
	struct vcpu *v = e->v;

	e->cur = NULL;
	if (__atomic_load_n(&e->ctl->attention, __ATOMIC_RELAXED))
		take_attention(e);
	if (e->budget < 0 && e->direct_held) {
		direct_release(e);
		count_insns(e);
	}
	if (e->budget < 0)
		poll(e);
	if (e->fault.pending) {
		deliver_fault(e);
		return;
	}
	if (unlikely(e->event.due)) {
		deliver_again(e);
		return;
	}
	if (!e->replay.count && !e->hypercall_answered && take_events(e))
		return;
	if (unlikely(v->activity != ACT_RUNNING)) {
		halt(e);
		return;
	}
	if (v->inhibit || e->one_shot)
		state_changed(e);
	if (e->mode & MODE_ONE) {
		run_one(e);
		return;
	}
	if (unlikely(e->direct != NULL) && v->cpl && e->direct_wait <= 0 && direct_run(e))
		return;
	struct block *b = code_at(e);

	if (block_enter(e, b, v->eip)) {
		run_blocks(e, b);
		e->fault_chain = 0;
	}
}

/* Returns the exit's kind.  Apart from its caller because of setjmp: no local lives across it. */
static NOINLINE uint32_t
loop(struct engine *e)
{
	__builtin_setjmp(e->jump);
	while (!e->leaving)
		boundary(e);
	return e->leaving;
}

int
engine_continue(struct engine *e)
{
	struct control *c = e->ctl;
	const uint32_t kind = loop(e);
	const uint64_t left = direct_just_left(e);	/* a look at the clock is a system call */

	count_insns(e);
	count_time(e, left > e->last_poll_ns ? left : clock_now(e->intr));
	fpu_leave(e);
	e->v->eflags |= lf_get(e);
	c->exit.kind = kind;
	if (kind < RF_EXIT_KINDS)
		c->stats.exits[kind]++;
	__atomic_store_n(&c->running, 0, __ATOMIC_SEQ_CST);
	return (int)kind;
}

int
engine_run(void *arena, uint32_t quantum_us)
{
	struct engine *e = arena;

	__atomic_store_n(&e->ctl->running, 1, __ATOMIC_SEQ_CST);
	watch_obey(e);
	replay_collect(e);
	engine_state_loaded(e);
	fpu_enter(e);
	e->leaving = EXIT_NONE;
	e->last_poll_ns = clock_now(e->intr);
	e->clock_is_fresh = true;
	e->run_end_ns = e->last_poll_ns + (uint64_t)quantum_us * 1000;
	e->budget = -1;		/* timers first */
	e->budget_mark = -1;
	e->direct_held = 0;
	return engine_continue(e);
}

uint64_t
tsc_now(struct engine *e)
{
	if (e->intr->clock.mode == CLOCK_COUNTED)
		count_insns(e);
	return clock_tsc(e->intr) + e->v->msr_tsc_offset;
}
