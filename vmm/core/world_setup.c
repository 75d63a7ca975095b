/*
 * world_setup.c -- what a world asks of the host once, before it runs guest code.
 *
 * Every trap of guest code becomes a signal on the alternate stack.  Source: Linux, sigaction(2), sigaltstack(2),
 * timer_create(2), prctl(2): PR_SET_SYSCALL_USER_DISPATCH; arch_prctl(2): ARCH_SET_CPUID.
 */
#include "world_direct.h"

#include "hostclock.h"
#include "sysraw.h"
#include "world_signal.h"

enum {
	READ_WRITE = 3, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20,
	SA_NOCLDSTOP = 1, SA_SIGINFO = 4, SA_RESTORER = 0x04000000, SA_ONSTACK = 0x08000000, SA_NODEFER = 0x40000000,
	CLOCK_IS_MONOTONIC = 1, TIMER_IS_ABSOLUTE = 1, NOTIFY_SIGNAL = 0,
	STACK_ROOM = 4096		/* the passage, and what a guard page is to an array */
};

struct kernel_sigaction { void *handler; uint64_t flags; void *restorer; uint64_t mask; };
struct kernel_stack { void *base; int32_t flags; uint32_t reserved; uint64_t bytes; };
struct kernel_sigevent { uint64_t value; int32_t signal; int32_t notify; uint8_t rest[48]; };
struct kernel_itimer { struct sys_timespec interval, value; };

HIDDEN extern const char __executable_start[], _etext[];

static uint64_t
word(const void *pointer)
{
	return (uint64_t)(uintptr_t)pointer;
}

/* A member of the crew that the host stops for a while has not ended: SA_NOCLDSTOP. */
static bool
handle(uint32_t signal)
{
	const struct kernel_sigaction act = {
		(void *)(uintptr_t)passage_signal,
		SA_NOCLDSTOP | SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER,
		(void *)(uintptr_t)passage_restorer, 0
	};

	return sys_call6(SYS_rt_sigaction, signal, word(&act), 0, sizeof act.mask, 0, 0) == 0;
}

/* A stack that is aligned to its size, with the passage at its bottom. */
static struct passage *
make_stack(void)
{
	const int64_t at = sys_mmap(0, 2 * PASSAGE_STACK, READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uint64_t base = ((uint64_t)at + PASSAGE_STACK - 1) & ~(uint64_t)(PASSAGE_STACK - 1);
	const struct kernel_stack stack = { (void *)(uintptr_t)(base + STACK_ROOM), 0, 0, PASSAGE_STACK - STACK_ROOM };

	if (at < 0 && at > -(int64_t)PAGE_SIZE)
		return NULL;
	return sys_call3(SYS_sigaltstack, word(&stack), 0, 0) == 0 ? (struct passage *)(uintptr_t)base : NULL;
}

/* What fork() does not hand on. */
bool
direct_setup_member(struct direct *d, struct member *m)
{
	struct kernel_sigevent event = { .signal = SIGNAL_TIMER, .notify = NOTIFY_SIGNAL };

	if (sys_call3(SYS_timer_create, CLOCK_IS_MONOTONIC, word(&event), word(&m->timer)) != 0)
		return false;
	return sys_call6(SYS_prctl, PRCTL_DISPATCH, DISPATCH_ON, word(__executable_start),
	    word(_etext) - word(__executable_start), word(&d->passage->dispatch), 0) == 0;
}

/* One that has not takes TZCNT for BSF, which leaves the destination alone. */
static bool
host_has_tzcnt(void)
{
	uint32_t count = 0;

	__asm__("rep bsfl %1, %0" : "+r"(count) : "r"(0u) : "cc");
	return count != 0;
}

bool
direct_setup(struct engine *e, struct direct *d, int32_t ram_fd, int32_t dev_fd)
{
	static const uint8_t signals[] = {
		SIGNAL_ILL, SIGNAL_TRAP, SIGNAL_BUS, SIGNAL_FPE, SIGNAL_SEGV, SIGNAL_SYS, SIGNAL_KICK, SIGNAL_TIMER, SIGNAL_CHILD
	};

	d->vcpu = e->v->vcpu_id;
	d->ram_fd = ram_fd;
	d->dev_fd = dev_fd;
	d->crew = 1;
	d->passage = make_stack();
	if (!d->passage)
		return false;
	d->passage->engine = e;
	d->passage->dispatch = DISPATCH_BLOCK;
	for (uint32_t i = 0; i < sizeof signals; i++)
		if (!handle(signals[i]))
			return false;
	if (!direct_setup_member(d, &d->members[0]))
		return false;
	host_clock_dispatch(&d->passage->dispatch);
	if (!host_clock_trap_tsc(true) || !host_clock_trap_tsc(false))	/* it can, when it has to */
		return false;
	d->sensitive = ~0u;
	if (sys_call3(SYS_arch_prctl, ARCH_SET_CPUID, CPUID_FAULTS, 0) == 0)
		d->sensitive &= ~(uint32_t)SCAN_CPUID;
	if (host_has_tzcnt())
		d->sensitive &= ~(uint32_t)SCAN_TZCNT;
	costs_measure(d);
	e->direct = d;
	return true;
}

/* Let the timer fire at host time `until`, unless it will fire no later already. */
void
direct_arm(struct direct *d, uint64_t now, uint64_t until)
{
	const struct kernel_itimer when = {
		{ 0, 0 }, { (int64_t)(until / NS_PER_S), (int64_t)(until % NS_PER_S) }
	};
	struct member *m = me(d);

	if (m->armed > now && m->armed <= until)
		return;
	sys_call6(SYS_timer_settime, (uint64_t)(uint32_t)m->timer, TIMER_IS_ABSOLUTE, word(&when), 0, 0, 0);
	m->armed = until;
}
