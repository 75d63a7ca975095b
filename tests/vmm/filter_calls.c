/*
 * filter_calls.c -- installs a world's system-call filter and makes one call.
 *
 * filter_calls CASE [without]: status 0 when the call did what it is for, 7 when it came back but
 * has nothing to show for it, 9 for a case there is not.  A signal says that the filter refused it.
 */
#include <asm/ldt.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "sysraw.h"
#include "world_filter.c"

enum { CAME_BACK = 7, NO_SUCH_CASE = 9, BROKEN = 10, FILE_BYTES = 0x10000, X32 = 0x40000000, SHARED_FIXED = 0x11 };
enum { READ = 1, WRITE = 2, EXEC = 4, ANONYMOUS = 0x20, PRIVATE_FIXED = 0x12, CLONE_VFORKED = 0x4100 };

#define AT 0x10000000ull
#define GIB4 0x100000000ull
#define PAGE 0x1000ull
#define LARGE 0x200000ull
#define HIGH_AT 0x7e0000000000ull
#define UPPER 0x100000000ull		/* a bit that compares of 32 bits do not see */

static uint64_t ram, dev, other, self, another;	/* descriptors: three files, two processes */
static timer_t timer;
static uint32_t word;
static volatile sig_atomic_t got;

static void
on_signal(int number)
{
	got = number;
}

static uint64_t
file(const char *name)
{
	const int64_t fd = sys_call3(__NR_memfd_create, (uintptr_t)name, 0, 0);

	if (fd < 0 || sys_call3(__NR_ftruncate, (uint64_t)fd, FILE_BYTES, 0) != 0)
		sys_exit_group(BROKEN);
	return (uint64_t)fd;
}

static int64_t
map(uint64_t at, uint64_t bytes, uint64_t prot, uint64_t flags, uint64_t fd)
{
	return sys_call6(__NR_mmap, at, bytes, prot, flags, fd, 0);
}

static int64_t
int80(uint32_t number)
{
	int64_t result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "r8", "r9", "r10", "r11", "memory");
	return result;
}

/* ---- what must work; not 0 when it did ------------------------------------------------------------------ */

static int
can_map_memory(uint64_t flags)
{
	volatile uint32_t *at = (volatile uint32_t *)(uintptr_t)AT;

	if (map(AT, 2 * PAGE, READ | WRITE | EXEC, flags, ram) != (int64_t)AT)
		return 0;
	at[0] = 5;
	at[PAGE / 4] = 6;
	return map(AT, PAGE, READ, flags, ram) == (int64_t)AT && at[0] == 5 && at[PAGE / 4] == 6;
}

static int
can_map_device(void)
{
	return map(AT, PAGE, READ | EXEC, SHARED_FIXED, dev) == (int64_t)AT && *(volatile uint32_t *)(uintptr_t)AT == 0;
}

static int
can_protect(void)
{
	return can_map_memory(SHARED_FIXED) && sys_call3(__NR_mprotect, AT, PAGE, 0) == 0 &&
	    sys_call3(__NR_mprotect, AT, PAGE, READ | WRITE) == 0 && *(volatile uint32_t *)(uintptr_t)AT == 5;
}

static int
can_set_segment(uint64_t function)
{
	struct user_desc d = { .entry_number = 0, .base_addr = 0x1000, .limit = 0xfff, .seg_32bit = 1, .useable = 1 };
	uint32_t limit = 0;

	if (sys_call3(__NR_modify_ldt, function, (uintptr_t)&d, sizeof d) != 0)
		return 0;
	__asm__("lsll %1, %0" : "+r"(limit) : "r"(7) : "cc");
	return limit == 0xfff;
}

static int
can_send(void)
{
	return sys_call6(__NR_pidfd_send_signal, self, SIGUSR1, 0, 0, 0, 0) == 0 && got == SIGUSR1;
}

static int
can_arm_timer(void)
{
	const struct itimerspec once = { .it_value = { 0, 1000 } };
	struct timespec now;

	if (sys_call6(__NR_timer_settime, (uint64_t)(uintptr_t)timer, 0, (uintptr_t)&once, 0, 0, 0) != 0)
		return 0;
	while (got != SIGUSR2)
		if (sys_call3(__NR_clock_gettime, CLOCK_MONOTONIC, (uintptr_t)&now, 0) != 0)
			return 0;
	return 1;
}

static int
can_wait(void)
{
	enum { AGAIN = 11, TIMED_OUT = 110 };

	return sys_futex_wait(&word, word + 1, 1000) == -AGAIN && sys_futex_wait(&word, word, 1000) == -TIMED_OUT &&
	    sys_futex_wake(&word, 1) == 0;
}

struct allowed { const char *name; int (*works)(void); };

static int works_map(void) { return can_map_memory(SHARED_FIXED); }
static int works_map_populated(void) { return can_map_memory(SHARED_FIXED | POPULATE); }
static int works_map_end(void) { return map(GIB4 - PAGE, PAGE, READ, SHARED_FIXED, ram) == (int64_t)(GIB4 - PAGE); }
static int works_unmap(void) { return can_map_memory(SHARED_FIXED) && sys_munmap(AT, PAGE) == 0; }
static int works_unmap_all(void) { return can_map_memory(SHARED_FIXED) && sys_munmap(0, GIB4) == 0; }
static int works_ldt(void) { return can_set_segment(0x11); }
static int works_ldt_old(void) { return can_set_segment(1); }
static int can_set_tsc(uint64_t how) { return sys_call3(__NR_prctl, PRCTL_SET_TSC, how, 0) == 0; }
static int works_tsc(void) { return can_set_tsc(TSC_TRAPS) && can_set_tsc(TSC_RUNS); }
static int works_yield(void) { return sys_call3(__NR_sched_yield, 0, 0, 0) == 0; }
static int works_long_wait(void) { return sys_futex_wait(&word, word, 600ull * NS_PER_S) == 0; }

/* The host may know no large pages, or have none. */
static int
works_large_page(void)
{
	static uint8_t room[2 * LARGE];
	const uint64_t at = ((uint64_t)(uintptr_t)room + LARGE - 1) & ~(uint64_t)(LARGE - 1);
	const int64_t status = sys_call3(__NR_madvise, at, LARGE, ADVISE_COLLAPSE);

	return status == 0 || status == -EINVAL || status == -EAGAIN || status == -ENOMEM || status == -EBUSY;
}

static const struct allowed allowed[] = {
	{ "map", works_map }, { "map populated", works_map_populated }, { "map up to 4 GiB", works_map_end },
	{ "map device", can_map_device }, { "unmap", works_unmap }, { "unmap all", works_unmap_all },
	{ "protect", can_protect }, { "ldt", works_ldt }, { "ldt old", works_ldt_old }, { "send", can_send },
	{ "timer and clock", can_arm_timer }, { "futex", can_wait }, { "tsc", works_tsc }, { "yield", works_yield },
	{ "large page", works_large_page }, { "wait", works_long_wait }
};

/* ---- what must not ------------------------------------------------------------------------------------ */

struct denied { const char *name; uint64_t number, args[6]; };

static int
fill_denied(struct denied *d, const char *name)
{
	static const char path[] = "/proc/self/exe";
	static struct { uint64_t pad[16]; } room;
	const uint64_t text = (uintptr_t)path, space = (uintptr_t)&room, me = (uint64_t)sys_call3(__NR_getpid, 0, 0, 0);
	const uint64_t fine = SHARED_FIXED, none = 0;
	const struct denied calls[] = {
		{ "open", __NR_open, { text } }, { "openat", __NR_openat, { (uint64_t)-100, text } },
		{ "read", __NR_read, { ram, space, 8 } }, { "write", __NR_write, { ram, space, 8 } },
		{ "close", __NR_close, { ram } }, { "dup", __NR_dup, { ram } }, { "socket", __NR_socket, { 1, 1, 0 } },
		{ "ptrace", __NR_ptrace, { 0 } }, { "execve", __NR_execve, { none } },
		{ "execveat", __NR_execveat, { (uint64_t)-100, none } }, { "kill", __NR_kill, { me, 0 } },
		{ "tgkill", __NR_tgkill, { me, me, 0 } }, { "fork", __NR_fork, { none } }, { "vfork", __NR_clone, { CLONE_VFORKED } },
		{ "clone", __NR_clone, { SIGCHLD } }, { "arch_prctl", __NR_arch_prctl, { 0x1002, 0 } },
		{ "prctl", __NR_prctl, { 3 } }, { "prctl of upper bits", __NR_prctl, { PRCTL_SET_TSC | UPPER, 1 } },
		{ "tsc otherwise", __NR_prctl, { PRCTL_SET_TSC, 3 } },
		{ "tsc of upper bits", __NR_prctl, { PRCTL_SET_TSC, TSC_TRAPS | UPPER } },
		{ "sigaction", __NR_rt_sigaction, { SIGUSR1, 0, 0, 8 } },
		{ "madvise", __NR_madvise, { AT, PAGE, 4 } },
		{ "advice of upper bits", __NR_madvise, { AT, PAGE, ADVISE_COLLAPSE | UPPER } },
		{ "advice to remove", __NR_madvise, { AT, PAGE, 9 } }, { "mremap", __NR_mremap, { AT, PAGE, PAGE } },
		{ "process_vm_readv", __NR_process_vm_readv, { me } }, { "io_uring_setup", 425, { none } },
		{ "seccomp", __NR_seccomp, { 2, 0, space } }, { "getpid", __NR_getpid, { none } },
		{ "no such call", 9999, { none } },

		{ "map anonymous", __NR_mmap, { AT, PAGE, READ | WRITE, PRIVATE_FIXED | ANONYMOUS, (uint64_t)-1 } },
		{ "map anonymous shared", __NR_mmap, { AT, PAGE, READ | WRITE, SHARED_FIXED | ANONYMOUS, ram } },
		{ "map private", __NR_mmap, { AT, PAGE, READ, PRIVATE_FIXED, ram } },
		{ "map not fixed", __NR_mmap, { AT, PAGE, READ, 1, ram } },
		{ "map growing down", __NR_mmap, { AT, PAGE, READ, SHARED_FIXED | 0x100, ram } },
		{ "map another file", __NR_mmap, { AT, PAGE, READ, fine, other } },
		{ "map no file", __NR_mmap, { AT, PAGE, READ, fine, (uint64_t)-1 } },
		{ "map a file of upper bits", __NR_mmap, { AT, PAGE, READ, fine, ram | UPPER } },
		{ "map flags of upper bits", __NR_mmap, { AT, PAGE, READ, fine | UPPER, ram } },
		{ "map access of upper bits", __NR_mmap, { AT, PAGE, READ | UPPER, fine, dev } },
		{ "map device writable", __NR_mmap, { AT, PAGE, READ | WRITE, fine, dev } },
		{ "map device write only", __NR_mmap, { AT, PAGE, WRITE, fine, dev } },
		{ "map at 4 GiB", __NR_mmap, { GIB4, PAGE, READ, fine, ram } },
		{ "map high", __NR_mmap, { HIGH_AT, PAGE, READ, fine, ram } },
		{ "map across 4 GiB", __NR_mmap, { GIB4 - PAGE, 2 * PAGE, READ, fine, ram } },
		{ "map across 4 GiB by rounding", __NR_mmap, { GIB4 - PAGE, PAGE + 1, READ, fine, ram } },
		{ "map 4 GiB from a page on", __NR_mmap, { PAGE, GIB4, READ, fine, ram } },
		{ "map 4 GiB and a page", __NR_mmap, { 0, GIB4 + PAGE, READ, fine, ram } },
		{ "map 8 GiB", __NR_mmap, { 0, 2 * GIB4, READ, fine, ram } },
		{ "unmap high", __NR_munmap, { HIGH_AT, PAGE } }, { "unmap across 4 GiB", __NR_munmap, { GIB4 - PAGE, 2 * PAGE } },
		{ "unmap 4 GiB from a page on", __NR_munmap, { PAGE, GIB4 } },
		{ "unmap more than 4 GiB", __NR_munmap, { 0, GIB4 + PAGE } },
		{ "protect high", __NR_mprotect, { HIGH_AT, PAGE, READ } },
		{ "protect across 4 GiB", __NR_mprotect, { GIB4 - PAGE, 2 * PAGE, READ } },
		{ "protect growing down", __NR_mprotect, { AT, PAGE, READ | 0x01000000 } },
		{ "protect of upper bits", __NR_mprotect, { AT, PAGE, READ | UPPER } },

		{ "ldt read", __NR_modify_ldt, { 0, space, 8 } }, { "ldt default", __NR_modify_ldt, { 2, space, 8 } },
		{ "ldt of upper bits", __NR_modify_ldt, { 0x11 | UPPER, space, 0 } },
		{ "futex requeue", __NR_futex, { space, 3, 1, 1, space } }, { "futex lock", __NR_futex, { space, 6 } },
		{ "futex private", __NR_futex, { space, 128, 1 } }, { "futex of upper bits", __NR_futex, { space, 1 | UPPER, 1 } },
		{ "clock of a process", __NR_clock_gettime, { (uint64_t)(int64_t)-6, space } },
		{ "clock of upper bits", __NR_clock_gettime, { 1 | UPPER, space } },
		{ "send another signal", __NR_pidfd_send_signal, { self, 0 } },
		{ "send to another process", __NR_pidfd_send_signal, { another, SIGCONT } },
		{ "send a siginfo", __NR_pidfd_send_signal, { self, SIGUSR1, space } },
		{ "send with flags", __NR_pidfd_send_signal, { self, SIGUSR1, 0, 1 } },
		{ "send to a file of upper bits", __NR_pidfd_send_signal, { self | UPPER, SIGUSR1 } },
		{ "send a signal of upper bits", __NR_pidfd_send_signal, { self, SIGUSR1 | UPPER } },

		{ "x32 mmap", X32 | __NR_mmap, { AT, PAGE, READ, fine, ram } }, { "x32 yield", X32 | __NR_sched_yield, { 0 } },
		{ "x32 getpid", X32 | __NR_getpid, { 0 } }, { "x32 execve", X32 | 520, { 0 } },
		{ "x32 ptrace", X32 | 521, { 0 } }
	};
	uint32_t i;

	for (i = 0; i < sizeof calls / sizeof calls[0]; i++)
		if (strcmp(calls[i].name, name) == 0) {
			*d = calls[i];
			return 1;
		}
	return 0;
}

/* i386 numbers.  In 64-bit mode 11 is munmap, 9 mmap, 24 sched_yield and 231 exit_group. */
static int
through_int80(const char *name)
{
	static const struct { const char *name; uint32_t number; } calls[] = {
		{ "int80 open", 5 }, { "int80 link", 9 }, { "int80 execve", 11 }, { "int80 getpid", 20 }, { "int80 getuid", 24 },
		{ "int80 ptrace", 26 }, { "int80 kill", 37 }, { "int80 sched_yield", 158 }, { "int80 mmap2", 192 },
		{ "int80 fgetxattr", 231 }, { "int80 execveat", 358 }
	};
	uint32_t i;

	for (i = 0; i < sizeof calls / sizeof calls[0]; i++)
		if (strcmp(calls[i].name, name) == 0) {
			int80(calls[i].number);
			return 1;
		}
	return 0;
}

static void
prepare(void)
{
	struct sigevent by_signal = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };

	ram = file("ram");
	dev = file("dev");
	other = file("other");
	self = (uint64_t)sys_call3(__NR_pidfd_open, (uint64_t)sys_call3(__NR_getpid, 0, 0, 0), 0, 0);
	another = (uint64_t)sys_call3(__NR_pidfd_open, (uint64_t)sys_call3(__NR_getppid, 0, 0, 0), 0, 0);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	if ((int64_t)self < 0 || (int64_t)another < 0 || timer_create(CLOCK_MONOTONIC, &by_signal, &timer) != 0)
		sys_exit_group(BROKEN);
}

int
main(int argc, char **argv)
{
	struct filter_rules rules = { 0 };
	struct denied d = { 0 };
	int known;
	uint32_t i;

	prepare();
	if (argc < 2)
		sys_exit_group(NO_SUCH_CASE);
	rules.ram_fd = (int32_t)ram;
	rules.dev_fd = (int32_t)dev;
	rules.signal = SIGUSR1;
	rules.pidfds = 2;
	rules.pidfd[0] = 1000;
	rules.pidfd[1] = (int32_t)self;
	known = fill_denied(&d, argv[1]);
	if (argc == 2 && filter_install(&rules) != 0)
		sys_exit_group(BROKEN);
	for (i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
		if (strcmp(allowed[i].name, argv[1]) == 0)
			sys_exit_group(allowed[i].works() ? 0 : CAME_BACK);
	if (known)
		sys_call6((int64_t)d.number, d.args[0], d.args[1], d.args[2], d.args[3], d.args[4], d.args[5]);
	else if (!through_int80(argv[1]))
		sys_exit_group(NO_SUCH_CASE);
	sys_exit_group(CAME_BACK);
}
