/*
 * sysraw.h -- Linux x86-64 system calls without a C library.
 *
 * The core runs where there is no libc (worlds) and where libc's wrappers may not be used: errno is thread-local storage.
 * Each function returns the kernel's own result: a negative errno on failure.  Other hosts than x86-64 have no
 * worlds: there the extension goes through libc.
 *
 * Source: Linux, Documentation/x86/entry_64 and the System V ABI, AMD64 supplement, A.2.1:
 * number in RAX, arguments in RDI, RSI, RDX, R10, R8, R9; RCX and R11 are destroyed.
 */
#ifndef RF_SYSRAW_H
#define RF_SYSRAW_H

#include <stddef.h>
#include <stdint.h>

#ifndef __x86_64__
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
enum sys_number {
	SYS_write = 1, SYS_close = 3, SYS_mmap = 9, SYS_mprotect = 10, SYS_munmap = 11, SYS_rt_sigaction = 13, SYS_rt_sigprocmask = 14,
	SYS_sched_yield = 24, SYS_mremap = 25, SYS_madvise = 28,
	SYS_sigaltstack = 131, SYS_modify_ldt = 154, SYS_prctl = 157, SYS_arch_prctl = 158, SYS_futex = 202,
	SYS_timer_create = 222, SYS_timer_settime = 223, SYS_clock_gettime = 228, SYS_exit_group = 231,
	SYS_pidfd_send_signal = 424,
	SYS_pidfd_open = 434,
	SYS_getpid = 39, SYS_clone = 56, SYS_fcntl = 72, SYS_getppid = 110, SYS_setsid = 112, SYS_execveat = 322,
	SYS_close_range = 436
};
#endif

enum { ADVISE_LARGE = 14, ADVISE_COLLAPSE = 25 };	/* madvise(2) */
enum { SYS_CLOCK_MONOTONIC = 1, SYS_FUTEX_WAIT = 0, SYS_FUTEX_WAKE = 1 };

/* prctl(2) and arch_prctl(2), and what they are given. */
enum {
	PRCTL_SET_TSC = 26, TSC_RUNS = 1, TSC_TRAPS = 2,
	PRCTL_NO_NEW_PRIVS = 38,
	PRCTL_DISPATCH = 59, DISPATCH_OFF = 0, DISPATCH_ON = 1, DISPATCH_ALLOW = 0, DISPATCH_BLOCK = 1,
	ARCH_SET_CPUID = 0x1012, CPUID_FAULTS = 0, CPUID_RUNS = 1
};

#define NS_PER_S 1000000000u

struct sys_timespec { int64_t tv_sec; int64_t tv_nsec; };

#ifdef __x86_64__
static inline int64_t
sys_call6(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	int64_t result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return result;
}

static inline int64_t
sys_call3(int64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	int64_t result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}
#else
static inline int64_t
sys_call6(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	const int64_t result = syscall(number, a, b, c, d, e, f);

	return result == -1 ? -(int64_t)errno : result;
}

static inline int64_t
sys_call3(int64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	return sys_call6(number, a, b, c, 0, 0, 0);
}
#endif

/* Let the other hyper-thread have the core while this one spins. */
static inline void
cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__asm__ volatile("pause");
#endif
}

/* CLOCK_MONOTONIC in ns. */
static inline uint64_t
sys_monotonic_ns(void)
{
	struct sys_timespec ts;

	sys_call3(SYS_clock_gettime, SYS_CLOCK_MONOTONIC, (uint64_t)(uintptr_t)&ts, 0);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Sleep while *word == expected, at most `ns`; between processes (not FUTEX_PRIVATE).  May wake early. */
static inline int64_t
sys_futex_wait(uint32_t *word, uint32_t expected, uint64_t ns)
{
	struct sys_timespec ts = { (int64_t)(ns / NS_PER_S), (int64_t)(ns % NS_PER_S) };

	return sys_call6(SYS_futex, (uint64_t)(uintptr_t)word, SYS_FUTEX_WAIT, expected, (uint64_t)(uintptr_t)&ts, 0, 0);
}

static inline int64_t
sys_futex_wake(uint32_t *word, uint32_t count)
{
	return sys_call3(SYS_futex, (uint64_t)(uintptr_t)word, SYS_FUTEX_WAKE, count);
}

/* Let another thread have this host CPU, if one waits for it. */
static inline void
sys_yield(void)
{
	sys_call3(SYS_sched_yield, 0, 0, 0);
}

static inline int64_t
sys_mmap(uint64_t address, uint64_t length, uint32_t prot, uint32_t flags, int32_t fd, uint64_t offset)
{
	return sys_call6(SYS_mmap, address, length, prot, flags, (uint64_t)(int64_t)fd, offset);
}

static inline int64_t
sys_munmap(uint64_t address, uint64_t length)
{
	return sys_call3(SYS_munmap, address, length, 0);
}

static inline int64_t
sys_pidfd_signal(int32_t pidfd, uint32_t signal)
{
	return sys_call6(SYS_pidfd_send_signal, (uint64_t)(int64_t)pidfd, signal, 0, 0, 0, 0);
}

static inline void
sys_exit_group(int32_t status)
{
	for (;;)
		sys_call3(SYS_exit_group, (uint64_t)(int64_t)status, 0, 0);
}

#endif
