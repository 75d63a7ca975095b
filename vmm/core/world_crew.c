/*
 * world_crew.c -- the processes of a world: one user window each.
 *
 * A guest address space can be mapped only at host addresses 0 to 4 GiB, so each that is to be kept needs
 * a host address space.  The world forks its crew before it runs guest code: all share the engine, and
 * differ in their window, LDT, timer and stack.  One of them is active: it runs the engine's loop, guest
 * code, and takes the VMX's turns.  When guest code of an address space is to run whose window another one
 * has, that one becomes active and goes on with the loop; a switch of address spaces costs a hand-over,
 * not its page faults again.
 *
 *   C1  only the active process touches the engine; the others sleep in crew_hand_over() or wait();
 *   C2  whoever hands over has given the FPU back (fpu_leave), and whoever goes on takes it;
 *   C3  the first process, whose id the VMX knows, forwards kicks, and ends with any of the others; they
 *	 end with it.
 *
 * Source: Linux, clone(2), futex(2), prctl(2): PR_SET_PDEATHSIG.
 */
#include "world_direct.h"

#include "fpu.h"
#include "hostclock.h"
#include "run.h"
#include "sysraw.h"
#include "world_signal.h"

enum { SET_DEATH_SIGNAL = 1, SIGNAL_KILL = 9, FIRST = 0, NAP_S = 3600 };


static void
wait_turn(struct member *m)
{
	while (!__atomic_exchange_n(&m->awake, 0, __ATOMIC_ACQ_REL))
		sys_futex_wait(&m->awake, 0, (uint64_t)NAP_S * NS_PER_S);
}

/* ---- hand over ---------------------------------------------------------------------------------- */

/* `to` goes on with the loop; returns when this process is to. */
void
crew_hand_over(struct engine *e, uint32_t to)
{
	struct direct *d = e->direct;
	struct member *mine = me(d);
	void *jump[5];

	__builtin_memcpy(jump, e->jump, sizeof jump);
	fpu_leave(e);
	__atomic_store_n(&d->active, to, __ATOMIC_SEQ_CST);
	__atomic_store_n(&d->members[to].awake, 1, __ATOMIC_RELEASE);
	sys_futex_wake(&d->members[to].awake, 1);
	wait_turn(mine);
	d->way_ns = host_ns() - d->began_ns;
	__builtin_memcpy(e->jump, jump, sizeof jump);
	fpu_enter(e);
	e->ctl->stats.crew_turns++;
}

/* Whose window the present address space has, or should take: the one that was not entered for longest. */
uint32_t
crew_choose(struct engine *e, uint32_t view)
{
	struct direct *d = e->direct;
	const uint32_t space = shadow_of(e)->current;
	uint32_t oldest = d->active;

	for (uint32_t n = 0; n < d->crew; n++) {
		const struct window *w = &d->members[n].window;

		if (w->space == space && w->view == view)
			return n;
		if (w->entered < d->members[oldest].window.entered)
			oldest = n;
	}
	return oldest;
}

/* A kick reached the first process: whoever runs is meant. */
void
crew_forward(struct direct *d)
{
	const uint32_t active = __atomic_load_n(&d->active, __ATOMIC_SEQ_CST);

	if (active != FIRST && active < d->crew)
		sys_pidfd_signal(d->members[active].pidfd, SIGNAL_KICK);
}

/* ---- muster ---------------------------------------------------------------------------------- */

static void
become_member(struct engine *e, uint32_t n, int64_t parent)
{
	struct direct *d = e->direct;

	d->passage->member = n;
	sys_call3(SYS_prctl, SET_DEATH_SIGNAL, SIGNAL_KILL, 0);
	if (sys_call3(SYS_getppid, 0, 0, 0) != parent || !direct_setup_member(d, &d->members[n]))
		sys_exit_group(STATUS_NOT_SETTLED);
}

/*
 * Fork the others, before any system call is given up.  Returns in each: its number, 0 in the first.
 * Where the host refuses, the crew stays smaller.
 */
uint32_t
crew_muster(struct engine *e)
{
	struct direct *d = e->direct;
	const int64_t parent = sys_call3(SYS_getpid, 0, 0, 0);

	for (uint32_t n = 1; n < CREW; n++) {
		const int64_t pid = sys_call6(SYS_clone, SIGNAL_CHILD, 0, 0, 0, 0, 0);

		if (pid < 0)
			break;
		if (pid == 0) {
			become_member(e, n, parent);
			return n;
		}
		d->members[n].pidfd = (int32_t)sys_call3(SYS_pidfd_open, (uint64_t)pid, 0, 0);
		if (d->members[n].pidfd < 0)
			sys_exit_group(STATUS_NOT_SETTLED);
		e->ctl->crew[n] = (int32_t)pid;
		d->crew = n + 1;
	}
	return 0;
}

/* What a member does first: wait until guest code of its window is to run, in the middle of a run(). */
void
crew_join(struct engine *e, uint32_t n)
{
	struct direct *d = e->direct;

	wait_turn(&d->members[n]);
	d->way_ns = host_ns() - d->began_ns;
	fpu_enter(e);
	engine_continue(e);
}

/* In the first process: another one has ended, and with it the world. */
void
crew_lost(struct engine *e)
{
	sys_exit_group(e->ctl->shutdown ? STATUS_SHUTDOWN : e->direct->ending ? e->direct->ending : STATUS_CREW);
}
