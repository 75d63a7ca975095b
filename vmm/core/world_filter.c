/*
 * world_filter.c -- gives up every system call but those that direct execution needs, arguments included.
 *
 * Guest code that reaches the host's 64-bit code selector has this process's rights; this leaves
 * them at what the monitor itself does.  Any other call ends the process with SIGSYS.  Invariants:
 *
 *   F1  mappings change only in the user window, linear addresses 0 to 4 GiB, end included;
 *   F2  nothing is mapped there but guest memory and, never writable, device memory;
 *   F3  an argument is compared in both its 32-bit halves, also where the kernel ignores the upper one;
 *   F4  other numbers of the same call do not pass: int 80h is another architecture, and an x32
 *       number has bit 30 set.
 *
 * restart_syscall is there because the kernel issues it by itself for a futex wait when a stopped
 * process goes on.  The host's mitigation of store bypass for filtered processes is declined: whoever
 * runs in this process may read all of it anyway.
 *
 * Not checked: mprotect cannot tell which file a page belongs to, so device memory can be made
 * writable; its one machine alone sees that.
 *
 * Source: Linux, Documentation/userspace-api/seccomp_filter.rst; seccomp(2); prctl(2), PR_SET_TSC; mmap(2), madvise(2),
 * modify_ldt(2), futex(2), pidfd_send_signal(2), restart_syscall(2).
 */
#include <asm/ldt.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

#include "sysraw.h"
#include "world_filter.h"

enum {
	ERROR_TOO_BIG = 7,
	ACCESS_WRITE = 2, ACCESS_ALL = 7,	/* PROT_WRITE, PROT_READ | PROT_WRITE | PROT_EXEC */
	WINDOW_MAP = 0x11, POPULATE = 0x8000,	/* MAP_SHARED | MAP_FIXED; MAP_POPULATE */
	LDT_WRITE_OLD = 1, LDT_WRITE = 0x11,
	CLOCKS = 16				/* larger ones name a clock of another process or a descriptor's */
};

enum half { LOW, HIGH };

#define PROGRAM_MAX 224		/* with FILTER_PIDFDS of them it takes 167 */

struct program {
	uint32_t length;
	struct sock_filter code[PROGRAM_MAX];
};

/* ---- instructions ------------------------------------------------------------------------------- */

static void
emit(struct program *p, uint32_t code, uint32_t k, uint32_t if_true, uint32_t if_false)
{
	if (p->length < PROGRAM_MAX) {
		struct sock_filter *at = &p->code[p->length];

		at->code = (uint16_t)code;
		at->jt = (uint8_t)if_true;
		at->jf = (uint8_t)if_false;
		at->k = k;
	}
	p->length++;
}

static void
load(struct program *p, uint32_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void
load_argument(struct program *p, uint32_t n, enum half half)
{
	load(p, (uint32_t)(offsetof(struct seccomp_data, args) + n * sizeof(uint64_t) + half * sizeof(uint32_t)));
}

/* Distances count from the next instruction. */
static void
jump_if_equal(struct program *p, uint32_t k, uint32_t if_true, uint32_t if_false)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, k, if_true, if_false);
}

static void
answer(struct program *p, uint32_t action)
{
	emit(p, BPF_RET | BPF_K, action, 0, 0);
}

/* ---- what an argument must be; each falls through when it is ---------------------------------------- */

static void
must_be_short(struct program *p, uint32_t n)
{
	load_argument(p, n, HIGH);
	jump_if_equal(p, 0, 1, 0);
	answer(p, SECCOMP_RET_KILL_PROCESS);
}

static void
must_be_one_of(struct program *p, uint32_t n, const int32_t *values, uint32_t count)
{
	uint32_t i;

	must_be_short(p, n);
	load_argument(p, n, LOW);
	for (i = 0; i < count; i++)
		jump_if_equal(p, (uint32_t)values[i], count - i, 0);
	answer(p, SECCOMP_RET_KILL_PROCESS);
}

static void
must_be(struct program *p, uint32_t n, int32_t value)
{
	must_be_one_of(p, n, &value, 1);
}

static void
must_be_below(struct program *p, uint32_t n, uint32_t limit)
{
	must_be_short(p, n);
	load_argument(p, n, LOW);
	emit(p, BPF_JMP | BPF_JGE | BPF_K, limit, 0, 1);
	answer(p, SECCOMP_RET_KILL_PROCESS);
}

/*
 * Address and length, arguments 0 and 1.  Addresses are of whole pages, or the call fails, so what
 * the kernel rounds the length up to does not pass 4 GiB either.
 */
static void
must_lie_in_window(struct program *p)
{
	must_be_short(p, 0);
	load_argument(p, 1, HIGH);
	jump_if_equal(p, 0, 5, 0);		/* to: shorter than 4 GiB */
	jump_if_equal(p, 1, 0, 10);		/* 4 GiB: only all of them, from 0 */
	load_argument(p, 1, LOW);
	jump_if_equal(p, 0, 0, 8);
	load_argument(p, 0, LOW);
	jump_if_equal(p, 0, 7, 6);
	load_argument(p, 0, LOW);		/* shorter than 4 GiB */
	emit(p, BPF_MISC | BPF_TAX, 0, 0, 0);
	load_argument(p, 1, LOW);
	emit(p, BPF_ALU | BPF_ADD | BPF_X, 0, 0, 0);
	emit(p, BPF_JMP | BPF_JGE | BPF_X, 0, 2, 0);	/* address + length has not wrapped, */
	jump_if_equal(p, 0, 1, 0);			/* or is 4 GiB */
	answer(p, SECCOMP_RET_KILL_PROCESS);
}

/* Argument 2 is the access, 4 the descriptor. */
static void
must_be_ours(struct program *p, const struct filter_rules *rules)
{
	must_be_short(p, 4);
	load_argument(p, 4, LOW);
	jump_if_equal(p, (uint32_t)rules->ram_fd, 4, 0);
	jump_if_equal(p, (uint32_t)rules->dev_fd, 0, 2);
	load_argument(p, 2, LOW);
	emit(p, BPF_JMP | BPF_JSET | BPF_K, ACCESS_WRITE, 0, 1);
	answer(p, SECCOMP_RET_KILL_PROCESS);
}

/* ---- calls -------------------------------------------------------------------------------------------- */

/* What lies between begin() and end() always answers, so the accumulator holds the number again behind end(). */
static uint32_t
begin(struct program *p, uint32_t number)
{
	jump_if_equal(p, number, 0, 0);
	return p->length;
}

static void
end(struct program *p, uint32_t start)
{
	answer(p, SECCOMP_RET_ALLOW);
	if (p->length <= PROGRAM_MAX)
		p->code[start - 1].jf = (uint8_t)(p->length - start);
}

static void
allow_mappings(struct program *p, const struct filter_rules *rules)
{
	static const int32_t flags[] = { WINDOW_MAP, WINDOW_MAP | POPULATE };
	uint32_t start = begin(p, __NR_mmap);

	must_lie_in_window(p);
	must_be_below(p, 2, ACCESS_ALL + 1);
	must_be_one_of(p, 3, flags, 2);
	must_be_ours(p, rules);
	end(p, start);

	start = begin(p, __NR_munmap);
	must_lie_in_window(p);
	end(p, start);

	start = begin(p, __NR_mprotect);
	must_lie_in_window(p);
	must_be_below(p, 2, ACCESS_ALL + 1);
	end(p, start);
}

/* Of any memory: it holds what it held before. */
static void
allow_large_pages(struct program *p)
{
	const uint32_t start = begin(p, __NR_madvise);

	must_be(p, 2, ADVISE_COLLAPSE);
	end(p, start);
}

static void
allow_descriptors_of_segments(struct program *p)
{
	static const int32_t functions[] = { LDT_WRITE, LDT_WRITE_OLD };
	const uint32_t start = begin(p, __NR_modify_ldt);

	must_be_one_of(p, 0, functions, 2);
	end(p, start);
}

static void
allow_waiting(struct program *p)
{
	static const int32_t operations[] = { SYS_FUTEX_WAIT, SYS_FUTEX_WAKE };
	uint32_t start = begin(p, __NR_futex);

	must_be_one_of(p, 1, operations, 2);
	end(p, start);

	start = begin(p, __NR_clock_gettime);
	must_be_below(p, 0, CLOCKS);
	end(p, start);
}

static void
allow_tsc_traps(struct program *p)
{
	static const int32_t runs_or_traps[] = { TSC_RUNS, TSC_TRAPS };
	const uint32_t start = begin(p, __NR_prctl);

	must_be(p, 0, PRCTL_SET_TSC);
	must_be_one_of(p, 1, runs_or_traps, 2);
	end(p, start);
}

static void
allow_kicks(struct program *p, const struct filter_rules *rules)
{
	const uint32_t start = begin(p, __NR_pidfd_send_signal);

	must_be_one_of(p, 0, rules->pidfd, rules->pidfds);
	must_be(p, 1, rules->signal);
	must_be(p, 2, 0);		/* the siginfo: the kernel's own */
	must_be(p, 3, 0);
	end(p, start);
}

static void
allow_always(struct program *p)
{
	static const uint32_t calls[] = {
		__NR_rt_sigreturn, __NR_sched_yield, __NR_timer_settime, __NR_restart_syscall, __NR_exit_group
	};
	uint32_t i;

	for (i = 0; i < sizeof calls / sizeof calls[0]; i++)
		end(p, begin(p, calls[i]));
}

static void
build(struct program *p, const struct filter_rules *rules)
{
	load(p, offsetof(struct seccomp_data, arch));
	jump_if_equal(p, AUDIT_ARCH_X86_64, 1, 0);
	answer(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
	allow_always(p);
	allow_mappings(p, rules);
	allow_large_pages(p);
	allow_descriptors_of_segments(p);
	allow_waiting(p);
	allow_tsc_traps(p);
	allow_kicks(p, rules);
	answer(p, SECCOMP_RET_KILL_PROCESS);
}

int
filter_install(const struct filter_rules *rules)
{
	struct program p;
	struct sock_fprog named;
	int64_t status;

	p.length = 0;
	if (rules->pidfds > FILTER_PIDFDS)
		return -ERROR_TOO_BIG;
	build(&p, rules);
	if (p.length > PROGRAM_MAX)
		return -ERROR_TOO_BIG;
	status = sys_call6(__NR_prctl, PRCTL_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	if (status < 0)
		return (int)status;
	named.len = (uint16_t)p.length;
	named.filter = p.code;
	return (int)sys_call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	    (uint64_t)(uintptr_t)&named);
}
