/*
 * signals.c -- exceptions by their vectors and error codes, page faults that are mended, nested and queued signals, a
 * stack of their own, and timer signals while every register holds something.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "stress.h"

#define FIXED_PAGES	8
#define FIXES		150
#define PF_PRESENT	1u
#define PF_FETCH	0x10u
#define FLAG_IF		0x200u
#define FLAG_AC		0x40000u
#define NESTING		12
#define QUEUED		6
#define OVERFLOWS	3
#define SMALL_STACK	(512 << 10)
#define TICK_US		2000
#define TICKS		12
#define TURNS		3000

static void
note_trap(const char *name)
{
	if (!caught.signal)
		note("%s: none", name);
	else
		note("%s: signal %d code %d trap %u error %#x eip %+d%s", name, caught.signal, caught.code, caught.trap,
		     caught.error, (int)(caught.eip - faulting_eip), caught.address == caught.eip ? ", told" : "");
}

#define TRAP(name, before, instruction, after)							\
	do {											\
		caught.signal = 0;								\
		FAULTING(before, instruction, after, : : :					\
			 "eax", "ebx", "ecx", "edx", "esi", "edi", "cc", "memory");		\
		note_trap(name);								\
	} while (0)

/* What may not be executed in ring 3, or is no instruction, and what traps on purpose. */
static void
traps(void)
{
	static const uint32_t bounds[2] = { 1, 5 };
	static const uint16_t with_zero_divide = 0x037b;

	catch_faults(NULL);
	TRAP("div by 0", "xorl %%ecx, %%ecx\n\txorl %%edx, %%edx", "divl %%ecx", "");
	TRAP("div overflow", "movl $1, %%ecx\n\tmovl $1, %%edx", "divl %%ecx", "");
	TRAP("idiv overflow", "movl $-1, %%ecx\n\tmovl $0x80000000, %%eax\n\tcltd", "idivl %%ecx", "");
	TRAP("aam 0", "movl $7, %%eax", ".byte 0xd4, 0", "");
	TRAP("int3", "", "int3", "");
	TRAP("int $3", "", ".byte 0xcd, 3", "");
	TRAP("into", "movb $0x7f, %%al\n\taddb $1, %%al", "into", "");
	TRAP("into, no overflow", "xorl %%eax, %%eax", "into", "");
	TRAP("int $4", "", "int $4", "");
	TRAP("int $0x0d", "", "int $0x0d", "");
	TRAP("int $0x81", "", "int $0x81", "");
	TRAP("int $0xff", "", "int $0xff", "");
	asm volatile("" : : "m"(bounds));
	caught.signal = 0;
	FAULTING("movl $6, %%eax", "bound %%eax, %0", "", : : "m"(bounds) : "eax", "memory");
	note_trap("bound");
	TRAP("ud2", "", "ud2", "");
	TRAP("lock nop", "", ".byte 0xf0, 0x90", "");
	TRAP("cmpxchg8b of a register", "", ".byte 0x0f, 0xc7, 0xc8", "");
	TRAP("lea of a register", "", ".byte 0x8d, 0xc0", "");
	TRAP("mov to cs", "", ".byte 0x8e, 0xc8", "");
	TRAP("hlt", "", "hlt", "");
	TRAP("cli", "", "cli", "");
	TRAP("sti", "", "sti", "");
	TRAP("in", "movl $0x80, %%edx", "inb %%dx, %%al", "");
	TRAP("out", "movl $0x80, %%edx", "outb %%al, %%dx", "");
	TRAP("mov from cr0", "", "movl %%cr0, %%eax", "");
	TRAP("mov to cr3", "xorl %%eax, %%eax", "movl %%eax, %%cr3", "");
	TRAP("mov from dr7", "", "movl %%dr7, %%eax", "");
	TRAP("clts", "", "clts", "");
	TRAP("invlpg", "", "invlpg (%%esp)", "");
	TRAP("wbinvd", "", "wbinvd", "");
	TRAP("rdmsr", "movl $0x10, %%ecx", "rdmsr", "");
	TRAP("lldt", "xorl %%eax, %%eax", "lldt %%ax", "");
	TRAP("lgdt", "", "lgdt (%%esp)", "");
	TRAP("es from beyond the table", "movl $0xfff3, %%eax", "movw %%ax, %%es", "");
	TRAP("ss of null", "xorl %%eax, %%eax", "movw %%ax, %%ss", "");
	TRAP("far jump to null", "", "ljmp $0, $0", "");
	TRAP("16 bytes", "", ".fill 15, 1, 0x66\n\t.byte 0x90", "");
	caught.signal = 0;
	FAULTING("fldcw %0\n\tfld1\n\tfldz\n\tfdivrp", "fwait", "fninit", : : "m"(with_zero_divide) : "memory");
	note_trap("x87 zero divide");
}

/* What ring 3 may not change in the flags stays as it was; what it may, it can. */
static void
flags(void)
{
	uint32_t after;

	asm volatile("pushl $0x200cd7\n\tpopf\n\tpushf\n\tpopl %0\n\tcld" : "=r"(after) : : "cc", "memory");
	note("all but IF and IOPL: %#x", after & ~FLAG_AC);
	asm volatile("pushl $0x3002\n\tpopf\n\tpushf\n\tpopl %0" : "=r"(after) : : "cc", "memory");
	note("none: %#x", after);
	REQUIRE(after & FLAG_IF);
}

static void
sse_exceptions(void)
{
	static const uint32_t unmasked[] = { 0x1f00, 0x1d80, 0x0f80 }, usual = 0x1f80;	/* IM, ZM, PM */
	static const char *const names[] = { "sse invalid", "sse zero divide", "sse inexact" };
	static const float operands[][2] = { { 0, 0 }, { 1, 0 }, { 1, 3 } };

	catch_faults(NULL);
	for (unsigned i = 0; i < 3; i++) {
		caught.signal = 0;
		FAULTING("ldmxcsr %0\n\tmovss %2, %%xmm1\n\tmovss %3, %%xmm0", "divss %%xmm0, %%xmm1", "ldmxcsr %1",
			 : : "m"(unmasked[i]), "m"(usual), "m"(operands[i][0]), "m"(operands[i][1])
			 : "xmm0", "xmm1", "memory");
		note_trap(names[i]);
	}
}

static void
alignment(void)
{
	uint32_t aligned[2] = { 1, 2 };

	catch_faults(NULL);
	caught.signal = 0;
	FAULTING("pushf\n\torl $0x40000, (%%esp)\n\tpopf", "movl 1(%0), %%eax",
		 "pushf\n\tandl $~0x40000, (%%esp)\n\tpopf", : : "r"(aligned) : "eax", "cc", "memory");
	note_trap("a misaligned word under AC");
}

static unsigned steps;
static uint32_t step_sum = SEED;

static void
count_step(void)
{
	const uint32_t at = caught.eip - faulting_eip;

	step_sum = fold(step_sum, &at, sizeof at);
	steps++;
}

/* The trap flag, set by the program itself. */
static void
own_steps(void)
{
	catch_faults(count_step);
	asm volatile("movl $771f, faulting_eip\n\tpushf\n\torl $0x100, (%%esp)\n\tpopf\n771:\tmovl $4, %%ecx\n"
		     "1:\tpushl %%ecx\n\tpopl %%eax\n\tloop 1b\n\tmovl $100, %%ecx\n\tmovl %%ds, %%eax\n"
		     "\tmovl %%eax, %%ds\n\tpushf\n\tandl $~0x100, (%%esp)\n\tpopf\n\tnop"
		     : : : "eax", "ecx", "cc", "memory");
	note("%u steps, %08x", steps, step_sum);
}

static uint8_t *fixed;
static unsigned fixed_bytes;

static void
allow_page(void)
{
	const uint32_t offset = caught.address - (uint32_t)fixed;

	REQUIRE(caught.signal == SIGSEGV && caught.trap == 14 && offset < fixed_bytes);
	note("%#x error %#x", offset, caught.error);
	REQUIRE(mprotect(fixed + (offset & ~(PAGE - 1)), PAGE,
			 PROT_READ | (caught.error & 2 ? PROT_WRITE : 0)) == 0);
}

/* Loads and stores to pages that may not be touched until the handler allows it. */
static void
page_faults(void)
{
	static const int protections[] = { PROT_NONE, PROT_READ };
	uint32_t state = SEED, total = 0;

	fixed_bytes = FIXED_PAGES * PAGE;
	fixed = map_pages(FIXED_PAGES);
	memset(fixed, 1, fixed_bytes);
	catch_faults(allow_page);
	for (unsigned i = 0; i < FIXES * scale; i++) {
		const uint32_t random = next_random(&state);
		volatile uint32_t *at = (uint32_t *)(fixed + (random >> 4) % (fixed_bytes - 4));

		REQUIRE(mprotect(fixed + random / 97 % FIXED_PAGES * PAGE, PAGE, protections[random & 1]) == 0);
		if (random & 2)
			*at += random;
		else if (random & 4)
			*at = random;
		else
			total += *at;
	}
	REQUIRE(mprotect(fixed, fixed_bytes, PROT_READ) == 0);
	note_bytes("total", &total, sizeof total);
	note_bytes("pages", fixed, fixed_bytes);
}

static void
allow_code(void)
{
	const uint32_t offset = caught.address - (uint32_t)fixed;

	REQUIRE(caught.signal == SIGSEGV && caught.trap == 14 && offset < fixed_bytes);
	/* Without PAE there is no fetch bit and what can be read can be executed. */
	REQUIRE((caught.error & ~(PF_FETCH | PF_PRESENT)) == 4);
	REQUIRE(mprotect(fixed + (offset & ~(PAGE - 1)), PAGE, PROT_READ | PROT_EXEC) == 0);
}

/* Calls of code on pages without permission, the last time with an instruction that reaches into the second. */
static void
code_faults(void)
{
	static const uint8_t code[] = { 0xb8, 0x78, 0x56, 0x34, 0x12, 0xc3 };	/* mov $0x12345678, %eax; ret */

	fixed_bytes = 2 * PAGE;
	fixed = map_pages(2);
	catch_faults(allow_code);
	for (unsigned i = 0; i < 7; i++) {
		uint8_t *at = fixed + PAGE - i;
		const unsigned before = caught_count;
		uint32_t (*function)(void) = (uint32_t (*)(void))at;

		REQUIRE(mprotect(fixed, fixed_bytes, PROT_READ | PROT_WRITE) == 0);
		memcpy(at, code, sizeof code);
		REQUIRE(mprotect(fixed, fixed_bytes, PROT_NONE) == 0);
		note("%u: %#x", i, function());
		note("%u faults", caught_count - before);
	}
}

static volatile unsigned depth, deepest;
static volatile int order[64], order_count;

static void
remember(int signal)
{
	order[order_count++ & 63] = signal;
}

static void
nest(int signal)
{
	const volatile double before = 1.0 / (depth + 3);
	volatile double kept = before;

	remember(signal == SIGUSR1 ? 1 : 2);
	if (++depth > deepest)
		deepest = depth;
	if (depth < NESTING)
		raise(depth & 1 ? SIGUSR2 : SIGUSR1);
	depth--;
	REQUIRE(kept == before);
	remember(signal == SIGUSR1 ? 3 : 4);
}

static void
queued(int signal, siginfo_t *info, void *context)
{
	(void)context;
	remember((signal - SIGRTMIN) * 100 + info->si_value.sival_int);
}

static void
nested_signals(void)
{
	struct sigaction nesting = { .sa_handler = nest, .sa_flags = SA_NODEFER };
	struct sigaction queueing = { .sa_sigaction = queued, .sa_flags = SA_SIGINFO };
	sigset_t all;

	sigaction(SIGUSR1, &nesting, NULL);
	sigaction(SIGUSR2, &nesting, NULL);
	for (unsigned i = 0; i < 3 * scale; i++)
		raise(SIGUSR1);
	REQUIRE(depth == 0);
	note("depth %u, %d handlers", deepest, order_count);
	sigfillset(&queueing.sa_mask);
	sigaction(SIGRTMIN, &queueing, NULL);
	sigaction(SIGRTMIN + 1, &queueing, NULL);
	sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = remember }, NULL);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	order_count = 0;
	for (int i = 0; i < QUEUED; i++) {
		REQUIRE(sigqueue(getpid(), SIGRTMIN + 1 - (i & 1), (union sigval){ .sival_int = i }) == 0);
		raise(SIGUSR1);		/* not queued: it comes once */
	}
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	for (int i = 0; i < order_count; i++)
		note("%d", order[i]);
}

static sigjmp_buf out;
static volatile uint32_t fault_address;

static void
leave(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	fault_address = (uint32_t)info->si_addr;
	siglongjmp(out, 1);
}

static unsigned __attribute__((noinline))
overflow(unsigned level)
{
	volatile uint8_t frame[512];

	frame[level % sizeof frame] = (uint8_t)level;
	return (depth > level ? level : overflow(level + 1)) + frame[level % sizeof frame];
}

/* A stack that has reached its limit: the handler cannot run on it, and leaves it by a long jump. */
static void
alternate_stack(void)
{
	static uint8_t stack[8 * PAGE];
	const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	const struct rlimit small = { .rlim_cur = SMALL_STACK, .rlim_max = RLIM_INFINITY };
	struct sigaction action = { .sa_sigaction = leave, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	const uint32_t here = (uint32_t)__builtin_frame_address(0);

	REQUIRE(setrlimit(RLIMIT_STACK, &small) == 0 && sigaltstack(&alternate, NULL) == 0);
	REQUIRE(sigaction(SIGSEGV, &action, NULL) == 0);
	for (volatile unsigned i = 0; i < OVERFLOWS * scale; i++) {
		if (!sigsetjmp(out, 1))
			note("never %u", overflow(i));
		REQUIRE(fault_address < here && here - fault_address <= SMALL_STACK + 16 * PAGE);
		note("overflow %u", i);
	}
}

static volatile unsigned ticks;

static void
tick(int signal)
{
	static const uint32_t mxcsr = 0x7f80;

	(void)signal;
	ticks++;
	asm volatile("fninit\n\tfldz\n\tfld1\n\tfldcw %1\n\tldmxcsr %0\n\tpcmpeqd %%xmm0, %%xmm0\n\t"
		     "movdqa %%xmm0, %%xmm3\n\tmovdqa %%xmm0, %%xmm7\n\tstd\n\tcld\n\t"
		     "movl $-1, %%eax\n\tmovl %%eax, %%ecx\n\tmovl %%eax, %%edx"
		     : : "m"(mxcsr), "m"((const uint16_t){ 0x0c7f })
		     : "eax", "ecx", "edx", "xmm0", "xmm3", "xmm7", "cc", "memory");
}

static void
timer_signals(void)
{
	const struct itimerval often = { { 0, TICK_US }, { 0, TICK_US } }, never = { { 0, 0 }, { 0, 0 } };
	struct held expected, found;
	uint32_t mxcsr;

	hold_registers(1, &expected);
	REQUIRE(!expected.wrong);
	REQUIRE(sigaction(SIGALRM, &(struct sigaction){ .sa_handler = tick }, NULL) == 0);
	REQUIRE(setitimer(ITIMER_REAL, &often, NULL) == 0);
	while (ticks < TICKS * scale) {
		hold_registers(TURNS, &found);
		REQUIRE(memcmp(&found, &expected, sizeof found) == 0);
	}
	REQUIRE(setitimer(ITIMER_REAL, &never, NULL) == 0);
	asm volatile("stmxcsr %0" : "=m"(mxcsr));
	note("mxcsr %#x", mxcsr & 0xffc0);
	note_bytes("registers", &expected, sizeof expected);
}

const struct trial signal_trials[] = {
	{ "traps", traps }, { "flags", flags }, { "sse_exceptions", sse_exceptions }, { "alignment", alignment },
	{ "own_steps", own_steps }, { "page_faults", page_faults }, { "code_faults", code_faults },
	{ "nested_signals", nested_signals }, { "alternate_stack", alternate_stack },
	{ "timer_signals", timer_signals }, { NULL, NULL },
};
