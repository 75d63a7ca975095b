/*
 * native.c -- the workloads as a 32-bit Linux program without a C library: the speed of the host processor itself.
 *
 *	compute-native [scale=N] [only=NAME]	prints the guest's COMPUTE lines; exit status 1 for a wrong checksum
 */
#include "workloads.h"

#define SYS_EXIT		1
#define SYS_WRITE		4
#define SYS_CLOCK_GETTIME	265
#define CLOCK_MONOTONIC		1
#define USUAL_SCALE		100u

void native_main(const uint32_t *stack) __attribute__((noreturn, used));

/* The kernel enters with argc and argv on the stack. */
__asm__(".globl _start; _start: movl %esp, %eax; andl $-16, %esp; subl $12, %esp; pushl %eax; call native_main");

static uint32_t
system_call(uint32_t number, uint32_t first, uint32_t second, uint32_t third)
{
	uint32_t result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
	return result;
}

static uint64_t
now_ns(void)
{
	uint32_t time[2];

	system_call(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, (uint32_t)time, 0);
	return time[0] * 1000000000ull + time[1];
}

static char line[128];
static uint32_t length;

static void
add_text(const char *words)
{
	while (*words)
		line[length++] = *words++;
}

static void
add_number(uint64_t number, uint32_t base, int digits)
{
	char reversed[24];
	int count = 0;

	do {
		reversed[count++] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number || count < digits);
	line[length++] = ' ';
	while (count)
		line[length++] = reversed[--count];
}

/* Where the text after `name` begins, or a null pointer. */
static const char *
value_of(const char *argument, const char *name)
{
	while (*name)
		if (*argument++ != *name++)
			return 0;
	return argument;
}

static int
same(const char *x, const char *y)
{
	while (*x && *x == *y)
		x++, y++;
	return *x == *y;
}

static int
run(const struct workload *w, uint32_t scale)
{
	uint32_t rounds = w->rounds * scale / USUAL_SCALE, checksum;
	uint64_t start, ns;

	rounds += !rounds;
	start = now_ns();
	checksum = w->run(rounds);
	ns = now_ns() - start;
	length = 0;
	add_text("COMPUTE ");
	add_text(w->name);
	add_number(checksum, 16, 8);
	add_number((uint64_t)rounds * w->ops_per_round, 10, 1);
	add_number(ns, 10, 1);
	add_text("\n");
	system_call(SYS_WRITE, 1, (uint32_t)line, length);
	return checksum != w->checksum;
}

void
native_main(const uint32_t *stack)
{
	const char *const *argument = (const char *const *)(stack + 1), *value, *only = 0;
	uint32_t scale = USUAL_SCALE, i, failed = 0;

	for (i = 1; i < stack[0]; i++) {
		if ((value = value_of(argument[i], "scale=")))
			for (scale = 0; *value >= '0' && *value <= '9'; value++)
				scale = scale * 10 + (uint32_t)(*value - '0');
		if ((value = value_of(argument[i], "only=")))
			only = value;
	}
	for (i = 0; i < WORKLOADS; i++)
		if (!only || same(only, workloads[i].name))
			failed |= (uint32_t)run(&workloads[i], scale);
	for (;;)
		system_call(SYS_EXIT, failed, 0, 0);
}
