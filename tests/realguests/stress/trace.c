/*
 * trace.c -- a traced child: single steps, a breakpoint written into its code, a watchpoint in a debug register.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stress.h"

#define FLAGS		0x8d5u		/* CF PF AF ZF SF OF */
#define DR7_WRITE_4	0xd0001u	/* breakpoint 0: on, at writes of four bytes */
#define DR6_HITS	15l
#define INT3		0xccu
#define STEPS_MAX	500u

static uint32_t
offset_of_register(unsigned number)
{
	return offsetof(struct user, u_debugreg) + number * sizeof(int);
}

static struct user_regs_struct
registers_of(pid_t child)
{
	struct user_regs_struct regs;

	REQUIRE(ptrace(PTRACE_GETREGS, child, NULL, &regs) == 0);
	return regs;
}

static void
await_stop(pid_t child, int signal)
{
	int how;

	REQUIRE(waitpid(child, &how, 0) == child);
	if (!WIFSTOPPED(how) || WSTOPSIG(how) != signal)
		fail("the child's status is %#x, expected a stop by signal %d", (unsigned)how, signal);
}

/* A child that is stopped before the first instruction of `stepped`, to which a breakpoint has taken it. */
static pid_t
start_traced(void)
{
	struct user_regs_struct regs;
	long word;
	pid_t child = fork();

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		((void (*)(void))stepped)();
		_exit(7);
	}
	await_stop(child, SIGSTOP);
	word = ptrace(PTRACE_PEEKTEXT, child, stepped, NULL);
	REQUIRE(ptrace(PTRACE_POKETEXT, child, stepped, (word & ~0xffl) | INT3) == 0);
	REQUIRE(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
	await_stop(child, SIGTRAP);
	regs = registers_of(child);
	note("breakpoint at %+d", (int)(regs.eip - (long)stepped));
	regs.eip = (long)stepped;
	regs.eax = regs.ecx = regs.edx = 0;
	regs.eflags &= ~(long)FLAGS;
	REQUIRE(ptrace(PTRACE_SETREGS, child, NULL, &regs) == 0);
	REQUIRE(ptrace(PTRACE_POKETEXT, child, stepped, word) == 0);
	return child;
}

static void
finish(pid_t child)
{
	REQUIRE(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
	expect_exit(child, 7);
}

static void
single_steps(void)
{
	for (unsigned turn = 0; turn < 2 * scale; turn++) {
		pid_t child = start_traced();
		unsigned steps = 0;

		for (; steps < STEPS_MAX; steps++) {
			const struct user_regs_struct regs = registers_of(child);
			const uint32_t at = (uint32_t)(regs.eip - (long)stepped);
			const int pid_in_eax = (pid_t)regs.eax == child;

			if (at >= (uint32_t)(stepped_end - stepped))
				break;
			note("%u: +%u, eax %#lx, ecx %ld, flags %#lx", steps, at,
			     pid_in_eax ? 0 : (unsigned long)regs.eax, regs.ecx, regs.eflags & FLAGS);
			REQUIRE(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
			await_stop(child, SIGTRAP);
		}
		note("%u steps", steps);
		finish(child);
	}
}

static void
watchpoint(void)
{
	for (unsigned turn = 0; turn < 2 * scale; turn++) {
		pid_t child = start_traced();

		REQUIRE(ptrace(PTRACE_POKEUSER, child, offset_of_register(0), &watched) == 0);
		REQUIRE(ptrace(PTRACE_POKEUSER, child, offset_of_register(7), DR7_WRITE_4) == 0);
		for (unsigned hit = 0; hit < 2; hit++) {
			struct user_regs_struct regs;
			long status, value;

			REQUIRE(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
			await_stop(child, SIGTRAP);
			regs = registers_of(child);
			status = ptrace(PTRACE_PEEKUSER, child, offset_of_register(6), NULL);
			value = ptrace(PTRACE_PEEKDATA, child, &watched, NULL);
			note("hit at %+d, status %#lx, value %#lx", (int)(regs.eip - (long)stepped), status & DR6_HITS,
			     value);
			REQUIRE(ptrace(PTRACE_POKEUSER, child, offset_of_register(6), 0) == 0);
		}
		REQUIRE(ptrace(PTRACE_POKEUSER, child, offset_of_register(7), 0) == 0);
		finish(child);
	}
}

const struct trial trace_trials[] = {
	{ "single_steps", single_steps }, { "watchpoint", watchpoint }, { NULL, NULL },
};
