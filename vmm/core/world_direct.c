/*
 * world_direct.c -- direct execution: guest rings 1 to 3 on the host processor.
 *
 * Whatever ends a stay but a page that the window lacks is left to the interpreter: the state is that
 * of the instruction's first byte, and the same C core decides what the instruction does.  So there is
 * one implementation of faults, privileged instructions and transfers.  What traps behind the
 * instruction (INT3, INT n by user dispatch) is rewound.
 *
 * May it run directly?  PUSHF, POPF, CLI and STI of the host must mean what the guest's do (IF set, IOPL
 * 0), no debug facility may be in use, the FPU must be available to the guest, and code and stack
 * must be 32-bit.
 *
 * Source: Intel SDM 3A, chapter 6 "Interrupt and Exception Handling"; Linux, arch/x86/kernel/traps.c for
 * which exception becomes which signal; Documentation/admin-guide/syscall-user-dispatch.rst.
 */
#define _GNU_SOURCE
#include <ucontext.h>

#include "world_direct.h"

#include "direct.h"
#include "flags.h"
#include "fpu.h"
#include "hostclock.h"
#include "run.h"
#include "sysraw.h"
#include "world_signal.h"

#define HOST_CODE64 0x33
#define GUEST_FLAGS (FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID)	/* that ring 3 changes, IOPL being 0 */
#define WAIT_DECLINED 4096u
#define WAIT_FETCH 64u
#define JUST_NOW 64		/* instructions */
#define TSC_MET_MOST 512u	/* times 4096 instructions on pages with RDTSC: some milliseconds ... */
#define TSC_MET_NS 50000000u	/* ... of so many, and the guest is at work there */
#define TSC_TRAPS_NS 10000000000u
#define OPCODE_INT 0xcd
#define OPCODE_INT3 0xcc
#define OPCODE_INTO 0xce
#define OPCODE_ICEBP 0xf1
#define SI_CODE 2u		/* words before si_code in siginfo_t */
#define CODE_TRACE 2		/* TRAP_TRACE */
#define FX_VISIBLE 288u		/* of an FXSAVE image: control, ST0-7, XMM0-7 */

HIDDEN extern const char __executable_start[], _etext[];

/* ---- the signal handler -------------------------------------------------------------------------------- */

static bool
is_monitor(uint64_t rip)
{
	return rip >= (uint64_t)(uintptr_t)__executable_start && rip < (uint64_t)(uintptr_t)_etext;
}

static bool
is_entry(uint64_t rip)
{
	return rip >= (uint64_t)(uintptr_t)passage_enter_begin && rip < (uint64_t)(uintptr_t)passage_enter_end;
}

static void
keep_registers(struct passage *p, const greg_t *g)
{
	static const uint8_t from[8] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI };

	for (uint32_t i = 0; i < 8; i++)
		p->r[i] = (uint32_t)g[from[i]];
	p->eip = (uint32_t)g[REG_RIP];
	p->eflags = (uint32_t)g[REG_EFL];
	p->cs = (uint16_t)g[REG_CSGSFS];
	p->ss = (uint16_t)((uint64_t)g[REG_CSGSFS] >> 48);
}

/* The monitor itself has faulted: say where, for world.py, and end. */
NORETURN static void
monitor_fault(struct passage *p, uint64_t rip, uint64_t address)
{
	struct exit_info *x = &p->engine->ctl->exit;

	x->address = rip - (uint64_t)(uintptr_t)__executable_start;
	x->data[0] = address;
	x->data[1] = p->signal;
	p->engine->direct->ending = STATUS_FAULT;
	sys_exit_group(STATUS_FAULT);
	__builtin_unreachable();
}

int
passage_taken(int signal, void *info, void *context, struct passage *p)
{
	const ucontext_t *uc = context;
	const greg_t *g = uc->uc_mcontext.gregs;
	const uint64_t rip = (uint64_t)g[REG_RIP];
	const bool asynchronous = signal == SIGNAL_KICK || signal == SIGNAL_TIMER;

	if (signal == SIGNAL_CHILD)
		crew_lost(p->engine);
	if (!p->in_guest || ((uint16_t)g[REG_CSGSFS] == HOST_CODE64 && is_monitor(rip) && !is_entry(rip))) {
		if (asynchronous) {
			p->late = 1;
			if (signal == SIGNAL_KICK && p->member == 0)
				crew_forward(p->engine->direct);
			return 0;
		}
		p->signal = (uint32_t)signal;
		monitor_fault(p, rip, (uint64_t)g[REG_CR2]);
	}
	p->signal = (uint32_t)signal;	/* not before: one may come while another is being taken */
	p->code = ((const int32_t *)info)[SI_CODE];
	p->trap = (uint32_t)g[REG_TRAPNO];
	p->error = (uint32_t)g[REG_ERR];
	p->address = (uint64_t)g[REG_CR2];
	p->rip = rip;
	p->where = LEFT_GUEST;
	if ((uint16_t)g[REG_CSGSFS] == HOST_CODE64) {
		p->where = is_entry(rip) ? LEFT_ENTRY : LEFT_ESCAPED;
		return 1;
	}
	keep_registers(p, g);
	__builtin_memcpy(p->fx, uc->uc_mcontext.fpregs, FX_VISIBLE);
	return 1;
}

/* ---- may it run directly? ------------------------------------------------------------------------------ */

static uint32_t
why_not(const struct engine *e)
{
	const struct vcpu *v = e->v;
	const uint32_t flags = v->eflags;
	const uint32_t code = SEG_CODE | SEG_S | SEG_P | SEG_DB, stack = SEG_W | SEG_S | SEG_P | SEG_DB;

	if (!protected_mode(v) || v->cpl == 0)
		return DECLINE_MODE;
	if ((v->seg[CS].attr & (code | SEG_UNUSABLE)) != code || (v->seg[SS].attr & (stack | SEG_CODE | SEG_UNUSABLE)) != stack)
		return DECLINE_MODE;
	if ((flags & (FL_IF | FL_IOPL | FL_TF | FL_NT | FL_RF | FL_AC | FL_VIF | FL_VIP)) != FL_IF)
		return DECLINE_FLAGS;
	if ((v->cr0 & (CR0_EM | CR0_TS)) || v->ignne)
		return DECLINE_FPU;
	if ((e->mode & MODE_ONE) || e->data_watch || e->breakpoint_count)
		return DECLINE_DEBUG;
	if (e->intr->clock.mode != CLOCK_HOST || e->intr->clock.stunned)
		return DECLINE_CLOCK;
	return DECLINE_NONE;
}

/* Are instructions of this class to be kept from the host from now on? */
static void
be_sensitive(struct engine *e, uint32_t class, bool sensitive)
{
	struct direct *d = e->direct;

	if (likely(!(d->sensitive & class) == !sensitive))
		return;
	if (sensitive)
		window_forget_all(e);	/* pages are executable there that have them, or that nobody has looked at for them */
	d->sensitive ^= class;
}

/* SSE instructions are #UD until the guest sets CR4.OSFXSR, and the host has set its own. */
static void
look_at_osfxsr(struct engine *e)
{
	be_sensitive(e, SCAN_SSE, !(e->v->cr4 & CR4_OSFXSR));
}

/*
 * RDTSC has another clock for the guest than for the host.  To let it trap costs each look at the clock, and each way
 * from this process to another and back: so pages that have it are interpreted.  But not where the guest is at work in
 * them: then it traps for a while.
 */
static void
look_at_tsc(struct engine *e)
{
	struct direct *d = e->direct;

	if (likely(d->sensitive & SCAN_TSC) || host_ns() - d->tsc_since < TSC_TRAPS_NS)
		return;
	d->tsc_met = 0;
	be_sensitive(e, SCAN_TSC, true);
}

/* A page is interpreted for its RDTSC alone. */
static void
note_tsc(struct engine *e)
{
	struct direct *d = e->direct;
	const uint64_t now = host_ns();

	if (d->tsc_met++ == 0 || now - d->tsc_since > TSC_MET_NS) {
		d->tsc_met = 1;
		d->tsc_since = now;
	}
	if (d->tsc_met < TSC_MET_MOST)
		return;
	d->tsc_since = now;
	be_sensitive(e, SCAN_TSC, false);
}

static bool
decline(struct engine *e, uint32_t why, uint32_t wait)
{
	e->ctl->stats.direct_declines[why]++;
	e->direct->handed = 0;
	habit_declined(e, wait);
	return false;
}

/*
 * Whoever is found here twice in one burst, with instructions between, is at work: the clock need not have struck while
 * the first calls were made.
 */
static bool
is_stub(const struct engine *e, struct code_page *c)
{
	const uint32_t begun = e->direct->begun, insns = (uint32_t)e->ctl->stats.insns;

	if (!c->stub)
		return false;
	if (c->met != begun) {
		c->met = begun;
		c->met_at = insns;
	} else if (insns - c->met_at >= STUB_WORK) {
		c->stub = 0;
		c->work++;
	}
	return c->stub;
}

/* The code at EIP and the top of the stack, put into the window without a fault. */
static bool
prepare_pages(struct engine *e)
{
	const struct vcpu *v = e->v;
	const uint32_t user = v->cpl == 3 ? PF_U : 0;
	const uint32_t code = v->seg[CS].base + v->eip, stack = v->seg[SS].base + v->r[ESP];
	struct code_page *page = code_page(e, code);
	const struct entry *entry;

	if (!page)
		return decline(e, DECLINE_PAGE, WAIT_FETCH);
	if ((page->found & e->direct->sensitive) == SCAN_TSC)
		note_tsc(e);
	if (is_kept_away(e, page, page->found) || is_stub(e, page))
		return decline(e, DECLINE_CODE, WAIT_DECLINED);
	if (!window_has(e, code, PROT_EXEC) && window_map(e, code, user | PF_I, true) != WINDOW_MAPPED)
		return decline(e, DECLINE_PAGE, WAIT_DECLINED);
	entry = window_has(e, stack, PROT_READ) ? NULL : shadow_find(e, window_here(e)->view, stack);
	if (entry && (entry->spte & SPTE_W))
		window_map(e, stack, user | PF_W, false);
	return true;
}

/* ---- in -------------------------------------------------------------------------------------------------- */

static void
load_passage(struct engine *e)
{
	struct passage *p = e->direct->passage;
	const struct vcpu *v = e->v;

	__builtin_memcpy(p->r, v->r, sizeof p->r);
	p->eip = v->eip;
	p->eflags = (eflags_get(e) & GUEST_FLAGS) | FL_IF | FL_1;
	p->fx = e->v->fx;
	segments_enter(e->direct);	/* once: what the guest loads afterwards is in the passage when it goes on */
	e->direct->unknown = 0;
}

/* Until when the guest may run undisturbed, in host time. */
static uint64_t
host_deadline(const struct engine *e, uint64_t now)
{
	const uint64_t until = e->deadline < e->run_end_ns ? e->deadline : e->run_end_ns;
	const uint64_t guest_now = now - __atomic_load_n(&e->intr->clock.offset_ns, __ATOMIC_RELAXED);

	return until > guest_now ? now + (until - guest_now) : now;
}

uint64_t
direct_just_left(const struct engine *e)
{
	const struct direct *d = e->direct;
	const uint64_t offset = __atomic_load_n(&e->intr->clock.offset_ns, __ATOMIC_RELAXED);

	if (!d || e->intr->clock.mode != CLOCK_HOST || e->budget_mark - e->budget > JUST_NOW)
		return 0;
	return d->left_ns > offset ? d->left_ns - offset : 0;
}

/* One stay in guest code.  False: somebody wants attention, and nothing has run. */
static bool
stay(struct engine *e)
{
	struct passage *p = e->direct->passage;
	struct control *c = e->ctl;

	window_here(e)->entered = ++e->direct->entries;
	__atomic_store_n(&c->direct, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&c->attention, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&c->direct, 0, __ATOMIC_SEQ_CST);
		return false;
	}
	c->stats.direct_stays[e->v->cpl & 3]++;
	p->where = LEFT_ENTRY;
	passage_enter(p);
	__atomic_store_n(&c->direct, 0, __ATOMIC_SEQ_CST);
	if (p->where == LEFT_ENTRY)
		p->late = 0;	/* whoever calls looks at the time and at attention again */
	return p->where != LEFT_ENTRY;
}

/* ---- out --------------------------------------------------------------------------------------------------- */

/* The guest's byte at EIP - `n`; -1 when it is not to be had. */
static int32_t
byte_before(struct engine *e, uint32_t n)
{
	const uint32_t linear = e->v->seg[CS].base + e->direct->passage->eip - n;
	const struct entry *entry = shadow_find(e, window_here(e)->view, linear);
	struct shadow_hit hit;

	if (!entry || (entry->spte & (SPTE_MMIO | SPTE_DEV)))
		return -1;
	entry_hit(e, entry, &hit);
	return e->ram[(hit.spte & ~(uint64_t)(PAGE_SIZE - 1)) + (linear & (PAGE_SIZE - 1))];
}

/* INT3 and INTO are reported behind them: `opcode`, or CD and the vector. */
static void
rewind_trap(struct engine *e, int32_t opcode)
{
	struct passage *p = e->direct->passage;
	const int32_t last = byte_before(e, 1);

	if (last == opcode)
		p->eip -= 1;
	else if (last == (int32_t)p->trap && byte_before(e, 2) == OPCODE_INT)
		p->eip -= 2;
}

/*
 * #DB: POPF has set TF, and one more instruction has run; or ICEBP, which is to be run again.  It is a trap, but KVM on
 * AMD (6.18) reports it at the instruction.
 */
static void
take_debug(struct engine *e)
{
	struct passage *p = e->direct->passage;

	if (p->code == CODE_TRACE)
		e->v->pending_dr6 |= DR6_BS;
	else if (byte_before(e, 0) != OPCODE_ICEBP && byte_before(e, 1) == OPCODE_ICEBP)
		p->eip -= 1;
}

static void
note_code(struct engine *e, uint32_t eip, bool call)
{
	struct code_page *c = code_page(e, e->v->seg[CS].base + eip);

	if (!c)
		return;
	if (!call) {
		c->work++;
		return;
	}
	if (++c->calls >= STUB_CALLS && !c->work && !c->stub) {
		c->stub = 1;
		window_code_changed(e, c->ppn);
	}
}

/* INT 80h, SYSENTER and SYSCALL are two bytes. */
static void
take_call(struct engine *e)
{
	e->direct->passage->eip -= 2;
	note_code(e, e->direct->passage->eip, true);
	e->ctl->stats.direct_calls++;
}

/* What the exit says beside the registers. */
static void
note_exit(struct engine *e)
{
	const struct passage *p = e->direct->passage;
	struct run_stats *s = &e->ctl->stats;

	switch (p->signal) {
	case SIGNAL_KICK: case SIGNAL_TIMER:
		s->direct_kicks++;
		note_code(e, p->eip, false);
		break;
	case SIGNAL_SYS:
		take_call(e);
		break;
	case SIGNAL_TRAP:
		s->direct_faults++;
		if (p->trap == V_BP)
			rewind_trap(e, OPCODE_INT3);
		else
			take_debug(e);
		break;
	case SIGNAL_SEGV:
		if (p->trap == V_OF)
			rewind_trap(e, OPCODE_INTO);
		if (p->trap == V_GP)
			s->direct_privileged++;
		else
			s->direct_faults++;
		break;
	default:
		s->direct_faults++;
	}
}

static void
store_passage(struct engine *e)
{
	const struct passage *p = e->direct->passage;
	struct vcpu *v = e->v;

	__builtin_memcpy(v->r, p->r, sizeof p->r);
	v->eip = p->eip;
	v->eflags = (v->eflags & ~(uint32_t)GUEST_FLAGS) | (p->eflags & (GUEST_FLAGS & ~(uint32_t)FL_ARITH)) | FL_1;
	lf_put(e, p->eflags & FL_ARITH);
}

/* ---- faults that the window makes -------------------------------------------------------------------------------- */

static uint32_t
access_of(const struct engine *e, uint32_t error)
{
	return (error & (PF_W | PF_I)) | (e->v->cpl == 3 ? PF_U : 0);
}

/* True when the page is there now and the guest may go on. */
static bool
hidden_fault(struct engine *e)
{
	struct direct *d = e->direct;
	const struct passage *p = d->passage;
	const bool begins = p->address == e->v->seg[CS].base + p->eip;

	if (p->signal != SIGNAL_SEGV || p->trap != V_PF || p->address >> 32)
		return false;
	if (window_map(e, (uint32_t)p->address, access_of(e, p->error), begins) != WINDOW_MAPPED)
		return false;
	e->ctl->stats.direct_hidden++;
	return true;
}

/* ---- a burst -------------------------------------------------------------------------------------------- */

enum outcome {
	NOTHING_RAN,
	WENT_COLD,	/* the pages that it asks for cost more than it gains; the state is an instruction boundary */
	LEFT		/* the passage says why */
};

/* Stays, until one ends in something that is not a hidden fault. */
static enum outcome
burst(struct engine *e)
{
	struct direct *d = e->direct;
	struct run_stats *s = &e->ctl->stats;
	enum outcome outcome = NOTHING_RAN;
	uint64_t now = d->left_ns = host_ns(), then;

	s->direct_bursts++;
	habit_begins(d, now);
	for (;;) {
		direct_arm(d, now, host_deadline(e, now));
		if (!stay(e))
			return outcome;
		then = now;
		if (d->passage->where == LEFT_ESCAPED)
			return LEFT;
		const uint64_t left = host_ns();
		const bool hidden = hidden_fault(e);

		now = d->left_ns = hidden ? host_ns() : left;
		s->ns_direct += now - then;
		habit_stay(d, stay_kind(d->passage), left - then, now - left);
		if (!hidden)
			return LEFT;
		if (habit_is_bad(d)) {
			s->direct_declines[DECLINE_COLD]++;
			return WENT_COLD;
		}
		outcome = WENT_COLD;		/* what attention at the next entry would find */
	}
}

/* What the guest did to a data segment register with a selector that the host knows too. */
static void
reload_segments(struct engine *e)
{
	const struct passage *p = e->direct->passage;
	const uint16_t now[6] = { [ES] = p->es, [SS] = p->ss, [DS] = p->ds, [FS] = p->fs, [GS] = p->gs };
	const uint32_t unknown = e->direct->unknown;

	for (uint32_t i = ES; i <= GS; i++)
		if (i != CS && (unknown >> i & 1))
			load_segment(e, i, now[i]);
}

NORETURN static void
lost(struct engine *e, enum error_reason reason)
{
	e->ctl->exit.reason = reason;
	e->ctl->exit.address = e->direct->passage->rip;
	leave(e, EXIT_ERROR);
}

static void
take_over(struct engine *e, enum outcome outcome)
{
	struct direct *d = e->direct;

	if (d->passage->where == LEFT_ESCAPED)
		lost(e, ERR_GUEST_ESCAPED);
	if (outcome == LEFT)
		note_exit(e);
	d->unknown = segments_store(e, d);
	store_passage(e);
	if (d->unknown >> CS & 1)
		lost(e, ERR_HOST_SELECTOR);
}

bool
direct_run(struct engine *e)
{
	struct direct *d = e->direct;
	enum outcome outcome;
	uint32_t why, to;

	if (!d)
		return false;
	count_insns(e);
	why = why_not(e);
	if (why != DECLINE_NONE)
		return decline(e, why, WAIT_DECLINED);
	habit_way_begins(e);
	look_at_osfxsr(e);
	look_at_tsc(e);
	to = crew_choose(e, e->v->cpl == 3 ? VIEW_USER : VIEW_SUPERVISOR);
	if (habit_stays_here(e, to))
		return false;
	if (to != d->active) {
		d->handed = 1;
		crew_hand_over(e, to);
		return true;
	}
	window_prepare(e);
	if (!prepare_pages(e))
		return false;
	if (!segments_load(e, d))
		return decline(e, DECLINE_SEGMENT, WAIT_DECLINED);
	if (!host_clock_trap_tsc(!(d->sensitive & SCAN_TSC)))
		return decline(e, DECLINE_CODE, WAIT_DECLINED);
	direct_release(e);
	fpu_leave(e);
	load_passage(e);
	outcome = burst(e);
	fpu_enter(e);
	if (outcome != NOTHING_RAN) {
		take_over(e, outcome);
		habit_after(e);
	}
	if (host_deadline(e, d->left_ns) == d->left_ns)
		poll_soon(e);
	state_changed(e);
	direct_hold(e);
	if (d->unknown)
		reload_segments(e);
	return true;
}
