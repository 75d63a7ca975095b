/*
 * turn.c -- the VMX and a world take turns on one control page.
 *
 * Invariants:
 *
 *   T1  the turn changes only by whoever has it, in one atomic exchange: all that was stored
 *       before is seen by the other side;
 *   T2  a waiter sleeps only on a word that says so (TURN_ASLEEP), and it alone sets that bit;
 *   T3  a wait ends early only for the caller's timeout: a world may die at any instruction, and
 *       then nobody hands the turn back.
 *
 * Source: Linux, futex(2), "FUTEX_WAIT", "FUTEX_WAKE"; execveat(2); prctl(2), PR_SET_PDEATHSIG.
 */
#include "hostclock.h"
#include "sysraw.h"
#include "turn.h"

#define TIMED_OUT 110		/* ETIMEDOUT; a world has no errno.h */
#define SPINS 256		/* between two looks at the clock, which cost as much as some ten of them and see no turn */

/* Is it `mine`?  Looks for spin_ns, which only pays when the other side runs on another CPU. */
static int
spin_for_turn(const uint32_t *turn, uint32_t mine, uint32_t spin_ns)
{
	const uint64_t end = spin_ns ? host_ns() + spin_ns : 0;

	do {
		uint32_t i;

		for (i = 0; i < SPINS; i++) {
			if (__atomic_load_n(turn, __ATOMIC_ACQUIRE) == mine)
				return 1;
			if (!spin_ns)
				return 0;
			cpu_relax();
		}
	} while (spin_ns && host_ns() < end);
	return 0;
}

int
turn_wait(uint32_t *turn, uint32_t mine, uint32_t spin_ns, uint64_t timeout_ns)
{
	if (spin_for_turn(turn, mine, spin_ns))
		return 1;
	for (;;) {
		const uint32_t now = __atomic_load_n(turn, __ATOMIC_ACQUIRE);
		const uint64_t nap = timeout_ns < TURN_NAP_NS ? timeout_ns : TURN_NAP_NS;
		uint32_t expect = now;

		if ((now & ~(uint32_t)TURN_ASLEEP) == mine)
			return 1;
		if (timeout_ns == 0)
			return 0;
		if (!(now & TURN_ASLEEP) && !__atomic_compare_exchange_n(turn, &expect, now | TURN_ASLEEP, 0,
		    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			continue;
		/* By naps that were slept out, not by the clock: it costs half of what falling asleep does. */
		if (sys_futex_wait(turn, now | TURN_ASLEEP, nap) == -TIMED_OUT && timeout_ns != TURN_FOREVER)
			timeout_ns -= nap;
	}
}

void
turn_give(uint32_t *turn, uint32_t to)
{
	if (__atomic_exchange_n(turn, to, __ATOMIC_ACQ_REL) & TURN_ASLEEP)
		sys_futex_wake(turn, 1);
}

int
world_wait(struct control *ctl, uint32_t spin_ns, uint64_t timeout_ns)
{
	return turn_wait(&ctl->turn, TURN_VMX, spin_ns, timeout_ns);
}

int
world_turn(struct control *ctl, uint32_t spin_ns, uint64_t timeout_ns)
{
	turn_give(&ctl->turn, TURN_WORLD);
	return world_wait(ctl, spin_ns, timeout_ns);
}

int
world_run(struct control *ctl, uint32_t quantum_us, uint32_t spin_ns, uint64_t timeout_ns)
{
	if ((__atomic_load_n(&ctl->turn, __ATOMIC_ACQUIRE) & ~(uint32_t)TURN_ASLEEP) != TURN_VMX)
		return RUN_NOT_OURS;
	ctl->command = WORLD_RUN;
	ctl->quantum_us = quantum_us;
	return world_turn(ctl, spin_ns, timeout_ns) ? (int)ctl->exit.kind : RUN_LATE;
}

/* ---- starting a world ----------------------------------------------------------------------- */

#ifdef __x86_64__

enum {
	CLONE_VFORK = 0x4000, SIGNAL_CHILD = 17, SIGNAL_KILL = 9, PR_SET_PDEATHSIG = 1, FD_SET_FLAGS = 2,
	CLOSE_RANGE_CLOEXEC = 4, EXEC_EMPTY_PATH = 0x1000, STATUS_NOT_STARTED = 127
};

static uint64_t
word(const void *pointer)
{
	return (uint64_t)(uintptr_t)pointer;
}

/* In the child: nothing but system calls, for other threads held locks when it was made. */
static void
become_world(int32_t image_fd, const int32_t *fds, uint32_t count, const char *argument, int64_t parent)
{
	const char *const argv[] = { "ringfence-world", argument, NULL };
	const char *const envp[] = { NULL };
	uint32_t i;

	sys_call3(SYS_prctl, PR_SET_PDEATHSIG, SIGNAL_KILL, 0);
	if (sys_call3(SYS_getppid, 0, 0, 0) != parent)
		sys_exit_group(STATUS_NOT_STARTED);
	sys_call3(SYS_setsid, 0, 0, 0);		/* a terminal's Ctrl-C is for the VMX */
	sys_call3(SYS_close_range, 0, ~0u, CLOSE_RANGE_CLOEXEC);
	for (i = 0; i < count; i++)
		sys_call3(SYS_fcntl, (uint64_t)fds[i], FD_SET_FLAGS, 0);
	sys_call6(SYS_execveat, (uint64_t)image_fd, word(""), word(argv), word(envp), EXEC_EMPTY_PATH, 0);
	sys_exit_group(STATUS_NOT_STARTED);
}

int
world_spawn(int32_t image_fd, const int32_t *fds, uint32_t count, const char *argument)
{
	const int64_t parent = sys_call3(SYS_getpid, 0, 0, 0);
	/* The parent waits until the child has become a world; memory is not shared, so no stack is needed. */
	const int64_t child = sys_call6(SYS_clone, CLONE_VFORK | SIGNAL_CHILD, 0, 0, 0, 0, 0);

	if (child == 0)
		become_world(image_fd, fds, count, argument, parent);
	return (int)child;
}

#else

int
world_spawn(int32_t image_fd, const int32_t *fds, uint32_t count, const char *argument)
{
	enum { NOT_IMPLEMENTED = 38 };

	(void)image_fd, (void)fds, (void)count, (void)argument;
	return -NOT_IMPLEMENTED;
}

#endif
