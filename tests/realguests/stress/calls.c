/*
 * calls.c -- system calls by each gate with their registers, restarted ones, clocks that never go back, CPUID.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stress.h"

#define CALLS		400
#define READINGS	1500
#define READERS		4
#define NS_PER_S	1000000000ll
#define SLEEP_NS	30000000ll
#define TICK_US		3000
#define INTERRUPTIONS	4

/* The kernel's own code for system calls, which uses sysenter where the processor has it; and what goes in EBP. */
uint32_t kernel_entry, sixth_argument;

#define BY_INT		"int $0x80"
#define BY_ENTRY	"call *kernel_entry"

/* Six arguments; `kept` says whether all registers but EAX came back as they were. */
#define CALL(gate, number, a, b, c, d, e, f, result, kept)					\
	do {											\
		const uint32_t before[5] = { (uint32_t)(a), (uint32_t)(b), (uint32_t)(c),	\
					     (uint32_t)(d), (uint32_t)(e) };			\
		uint32_t ebx = before[0], ecx = before[1], edx = before[2], esi = before[3], edi = before[4];	\
												\
		sixth_argument = (uint32_t)(f);							\
		asm volatile("pushl %%ebp\n\tmovl sixth_argument, %%ebp\n\t" gate			\
			     "\n\tmovl %%ebp, sixth_argument\n\tpopl %%ebp"			\
			     : "=a"(result), "+b"(ebx), "+c"(ecx), "+d"(edx), "+S"(esi), "+D"(edi)	\
			     : "0"(number) : "memory", "cc");					\
		kept = ebx == before[0] && ecx == before[1] && edx == before[2] && esi == before[3] &&	\
		       edi == before[4] && sixth_argument == (uint32_t)(f);			\
	} while (0)

static void
both_gates(const char *name, uint32_t number, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f)
{
	uint32_t by_int, by_entry;
	int int_kept, entry_kept;

	CALL(BY_INT, number, a, b, c, d, e, f, by_int, int_kept);
	CALL(BY_ENTRY, number, a, b, c, d, e, f, by_entry, entry_kept);
	note("%s: %d %d, kept %d %d", name, (int)by_int, (int)by_entry, int_kept, entry_kept);
}

static void
system_calls(void)
{
	const uint32_t self = (uint32_t)getpid();
	uint32_t *page = map_pages(1), result;
	int kept, ends[2];

	kernel_entry = (uint32_t)getauxval(AT_SYSINFO);
	REQUIRE(kernel_entry != 0);
	for (unsigned i = 0; i < CALLS * scale; i++) {
		CALL(BY_INT, SYS_getpid, 1, 2, 3, 4, 5, i, result, kept);
		REQUIRE(result == self && kept);
		CALL(BY_ENTRY, SYS_getpid, 1, 2, 3, 4, 5, i, result, kept);
		REQUIRE(result == self && kept);
	}
	both_gates("no such call", 0x7fff, 1, 2, 3, 4, 5, 6);
	both_gates("bad file", SYS_read, 0xffff, (uint32_t)page, 4, 4, 5, 6);
	both_gates("bad address", SYS_pipe, 4, 2, 3, 4, 5, 6);
	both_gates("mprotect", SYS_mprotect, (uint32_t)page, PAGE, PROT_READ | PROT_WRITE, 4, 5, 6);
	both_gates("mmap2 with a misaligned fixed address", SYS_mmap2, (uint32_t)page + 1, PAGE, PROT_READ,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1u, 0);
	CALL(BY_ENTRY, SYS_mmap2, page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0,
	     result, kept);
	REQUIRE(result == (uint32_t)page && *page == 0);
	note("mmap2: kept %d", kept);
	REQUIRE(pipe(ends) == 0);
	both_gates("write", SYS_write, (uint32_t)ends[1], (uint32_t)"of this length", 14, 4, 5, 6);
	both_gates("read", SYS_read, (uint32_t)ends[0], (uint32_t)page, 14, 4, 5, 6);
	note_bytes("read", page, 14);
}

static volatile unsigned *ticks;	/* shared with a child */

static void
tick(int signal)
{
	(void)signal;
	++*ticks;
}

static int64_t
now(void)
{
	struct timespec time;

	REQUIRE(clock_gettime(CLOCK_MONOTONIC, &time) == 0);
	return time.tv_sec * NS_PER_S + time.tv_nsec;
}

/* A read that is interrupted goes on or ends, as the handler's action says; a sleep goes on after a stop. */
static void
restarted_calls(void)
{
	const struct itimerval often = { { 0, TICK_US }, { 0, TICK_US } }, never = { { 0, 0 }, { 0, 0 } };
	const struct timespec sleep = { .tv_nsec = SLEEP_NS };
	char byte = 0;
	int ends[2], how;
	int64_t started;
	pid_t child;

	ticks = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(ticks != MAP_FAILED && pipe(ends) == 0);
	child = fork();
	if (child == 0) {
		while (*ticks < INTERRUPTIONS)
			sched_yield();
		write_all(ends[1], "x", 1);
		_exit(0);
	}
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = tick, .sa_flags = SA_RESTART }, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	REQUIRE(read(ends[0], &byte, 1) == 1 && byte == 'x');
	expect_exit(child, 0);
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = tick }, NULL);
	REQUIRE(read(ends[0], &byte, 1) == -1 && errno == EINTR);
	setitimer(ITIMER_REAL, &never, NULL);
	started = now();
	child = fork();
	if (child == 0)
		_exit(nanosleep(&sleep, NULL) ? 1 : 0);
	for (unsigned i = 0; i < 3; i++) {
		kill(child, SIGSTOP);
		REQUIRE(waitpid(child, &how, WUNTRACED) == child);
		if (!WIFSTOPPED(how))
			break;
		kill(child, SIGCONT);
	}
	if (WIFSTOPPED(how))
		expect_exit(child, 0);
	else
		REQUIRE(WIFEXITED(how) && WEXITSTATUS(how) == 0);
	REQUIRE(now() - started >= SLEEP_NS);
	note("restarted");
}

static int64_t *latest;		/* shared by the readers */

static uint64_t
time_stamp(void)
{
	uint32_t low, high;

	asm volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* Nobody reads a time before one that somebody else has already read; 0, or which clock did. */
static uint32_t
read_clocks(unsigned who)
{
	uint64_t stamp = time_stamp();
	struct timespec by_call;
	struct timeval day, last_day = { 0, 0 };

	for (unsigned i = 0; i < READINGS * scale; i++) {
		int64_t seen = __atomic_load_n(latest, __ATOMIC_SEQ_CST);
		const int64_t time = now();
		const uint64_t next = time_stamp();

		if (time < seen)
			return 1;
		while (time > seen && !__atomic_compare_exchange_n(latest, &seen, time, 0, __ATOMIC_SEQ_CST,
								   __ATOMIC_SEQ_CST))
			;
		if (next <= stamp)
			return 2;
		stamp = next;
		if (i % 16 == who) {
			REQUIRE(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &by_call) == 0);
			if (by_call.tv_sec * NS_PER_S + by_call.tv_nsec < time)
				return 3;
			REQUIRE(gettimeofday(&day, NULL) == 0);
			if (timercmp(&day, &last_day, <))
				return 4;
			last_day = day;
		}
	}
	return 0;
}

static void
clocks(void)
{
	static const char *const names[] = {
		"", "the monotonic clock", "the time stamp", "a system call's clock", "the day's clock"
	};
	uint32_t wrong[READERS];

	latest = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(latest != MAP_FAILED);
	at_once(READERS, read_clocks, wrong);
	for (unsigned i = 0; i < READERS; i++)
		if (wrong[i])
			fail("%s went back", names[wrong[i]]);
	note("they never went back");
}

static char *
cpuinfo(char *text, const char *key)
{
	char *line = strstr(text, key);
	char *value = line ? strchr(line, ':') : NULL;

	REQUIRE(value != NULL);
	return value + 2;
}

static uint32_t
number_in(char *text, const char *key)
{
	return (uint32_t)strtoul(cpuinfo(text, key), NULL, 10);
}

/* What CPUID says to a program is what it said to the kernel. */
static void
cpuid(void)
{
	/* As /proc/cpuinfo names the bits of leaf 1's edx; the reserved ones have no name. */
	static const char *const names[] = {
		"fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", NULL, "sep", "mtrr", "pge", "mca",
		"cmov", "pat", "pse36", "pn", "clflush", NULL, "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht",
		"tm", "ia64", "pbe",
	};
	/* HT, APIC, SEP, PSE, PAT: the kernel takes them off or puts them on for reasons of its own. */
	static const uint32_t kernels_choice = 1u << 28 | 1u << 9 | 1u << 11 | 1u << 3 | 1u << 16;
	static const uint32_t reserved = 1u << 10 | 1u << 20;
	static char text[16384];
	char vendor[13], word[16];
	uint32_t eax, ebx, ecx, edx, family, model, told = 0;
	FILE *file = fopen("/proc/cpuinfo", "r");
	char *flags;

	REQUIRE(file != NULL);
	text[fread(text, 1, sizeof text - 1, file)] = '\0';
	fclose(file);
	__cpuid(0, eax, ebx, ecx, edx);
	memcpy(vendor, &ebx, 4);
	memcpy(vendor + 4, &edx, 4);
	memcpy(vendor + 8, &ecx, 4);
	vendor[12] = '\0';
	if (strncmp(cpuinfo(text, "vendor_id"), vendor, 12))
		fail("vendor %s, in cpuinfo %.12s", vendor, cpuinfo(text, "vendor_id"));
	__cpuid(1, eax, ebx, ecx, edx);
	family = (eax >> 8 & 15) + ((eax >> 8 & 15) == 15 ? eax >> 20 & 0xff : 0);
	model = (eax >> 4 & 15) + (family >= 6 ? eax >> 12 & 0xf0 : 0);
	if (family != number_in(text, "cpu family") || model != number_in(text, "model\t"))
		fail("family %u model %u, in cpuinfo %u %u", family, model, number_in(text, "cpu family"),
		     number_in(text, "model\t"));
	flags = cpuinfo(text, "flags");
	*strchrnul(flags, '\n') = '\0';
	strcat(flags, " ");
	for (unsigned bit = 0; bit < sizeof names / sizeof names[0]; bit++) {
		if (!names[bit])
			continue;
		snprintf(word, sizeof word, " %s ", names[bit]);
		if (strstr(flags - 1, word))
			told |= 1u << bit;
	}
	if ((told ^ edx) & ~(kernels_choice | reserved))
		fail("features %#x, in cpuinfo %#x", edx, told);
	note("the same");
}

const struct trial call_trials[] = {
	{ "system_calls", system_calls }, { "restarted_calls", restarted_calls }, { "clocks", clocks },
	{ "cpuid", cpuid }, { NULL, NULL },
};
