/*
 * programs.c -- the programs.  They run in ring 3 and reach the rest of the machine by system calls only.
 */
#include "kernel.h"

#define SECOND		TICKS_PER_S

/* The first word of the process's own memory: every process has one at this address. */
#define MY_WORD		((volatile uint32_t *)PRIVATE_BASE)

/* The end of our own memory is unmapped above and the kernel's data is closed to us. */
extern char data_start[];

/* A line is put together in our own memory and written at once, or another process might write into it. */
struct line {
	uint32_t length;
	char text[120];
};
#define MY_LINE		((struct line *)(PRIVATE_BASE + sizeof(uint32_t)))

static void
say(const char *text)
{
	struct line *line = MY_LINE;

	while (*text && line->length < sizeof(line->text) - 1) {
		line->text[line->length++] = *text;
		if (*text++ == '\n') {
			line->text[line->length] = 0;
			system_call(SYS_WRITE, (uint32_t)line->text);
			line->length = 0;
		}
	}
}

static void
say_number(uint32_t number)
{
	char digits[11], *first = digits + sizeof(digits) - 1;

	*first = 0;
	do
		*--first = (char)('0' + number % 10);
	while (number /= 10);
	say(first);
}

static void
leave(void)
{
	for (;;)
		system_call(SYS_EXIT, 0);
}

static void
run_primes(void)
{
	uint32_t count = 0, n, divisor, last = 0;

	for (n = 2; n < 20000; n++) {
		for (divisor = 2; divisor * divisor <= n && n % divisor; divisor++)
			;
		if (divisor * divisor > n)
			count++, last = n;
	}
	say("primes: there are ");
	say_number(count);
	say(" below 20000, the last is ");
	say_number(last);
	say("\n");
	leave();
}

static uint32_t
fib(uint32_t n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void
run_fib(void)
{
	uint32_t n;

	for (n = 5; n <= 25; n += 5) {
		say("fib(");
		say_number(n);
		say(") = ");
		say_number(fib(n));
		say("\n");
	}
	leave();
}

static void
run_count(void)
{
	uint32_t i;

	for (i = 1; i <= 3; i++) {
		say("count [");
		say_number(system_call(SYS_PID, 0));
		say("]: ");
		say_number(i);
		say("\n");
		system_call(SYS_SLEEP, SECOND / 5);
	}
	leave();
}

static void
run_spin(void)
{
	for (;;)
		++*MY_WORD;
}

static void
run_private(void)
{
	uint32_t pid = system_call(SYS_PID, 0);

	*MY_WORD = pid;
	system_call(SYS_SLEEP, SECOND / 10);
	say("private [");
	say_number(pid);
	say("]: my word at 40000000h is ");
	say_number(*MY_WORD);
	say("\n");
	leave();
}

static void
run_crash(void)
{
	say("crash: I write into the kernel\n");
	*(volatile uint32_t *)data_start = 0;
	say("crash: nothing stopped me\n");
	leave();
}

static void
run_cheat(void)
{
	say("cheat: I turn the interrupts off\n");
	__asm__ volatile("cli");
	say("cheat: nothing stopped me\n");
	leave();
}

const struct program programs[] = {
	{ "primes", run_primes, "counts prime numbers" },
	{ "fib", run_fib, "Fibonacci numbers by recursion" },
	{ "count", run_count, "counts to three, sleeping in between" },
	{ "spin", run_spin, "uses the processor for ever" },
	{ "private", run_private, "writes to an address that every process has, and looks again" },
	{ "crash", run_crash, "writes into the kernel" },
	{ "cheat", run_cheat, "executes a privileged instruction" },
};
const size_t programs_count = sizeof(programs) / sizeof(programs[0]);
