/*
 * report.c -- counting what passed and what failed.
 */
#include "report.h"
#include "console.h"
#include "memory.h"
#include "x86.h"

#define CPUID_HYPERVISOR	(1u << 31)	/* leaf 1, ECX: leaf 40000000h means something */
#define LEAF_HYPERVISOR		0x40000000u

static uint32_t passed, failed;

void
pass(const char *name)
{
	passed++;
	print("PASS %s\n", name);
}

static void
vfail(const char *name, const char *why, va_list args)
{
	failed++;
	print("FAIL %s: ", name);
	vprint(why, args);
	put_char('\n');
}

void
fail(const char *name, const char *why, ...)
{
	va_list args;

	va_start(args, why);
	vfail(name, why, args);
	va_end(args);
}

void
skip(const char *name, const char *why)
{
	print("SKIP %s: %s\n", name, why);
}

bool
check(const char *name, bool ok, const char *why, ...)
{
	va_list args;

	if (ok) {
		pass(name);
		return true;
	}
	va_start(args, why);
	vfail(name, why, args);
	va_end(args);
	return false;
}

bool
check_equal(const char *name, uint32_t found, uint32_t expected)
{
	return check(name, found == expected, "found %x, expected %x", found, expected);
}

/* QEMU without hardware assistance names itself in the hypervisor leaf: EBX, ECX, EDX spell "TCGTCGTCGTCG". */
bool
on_tcg(void)
{
	static enum { UNKNOWN, NO, YES } known;
	struct cpuid leaf;

	if (known == UNKNOWN) {
		known = NO;
		leaf = cpuid(LEAF_HYPERVISOR);
		if (cpuid(1).ecx & CPUID_HYPERVISOR && !memcmp(&leaf.ebx, "TCGTCGTCGTCG", 12))
			known = YES;
	}
	return known == YES;
}

bool
check_silicon(const char *name, bool ok, const char *emulator_does)
{
	if (ok)
		pass(name);
	else if (on_tcg())
		print("SKIP %s: this emulator %s\n", name, emulator_does);
	else
		fail(name, "it %s", emulator_does);
	return ok;
}

bool
skip_on_tcg(const char *name, const char *emulator_does)
{
	if (on_tcg())
		print("SKIP %s: this emulator %s\n", name, emulator_does);
	return on_tcg();
}

void
stop(const char *name, const char *why, ...)
{
	va_list args;

	va_start(args, why);
	vfail(name, why, args);
	va_end(args);
	finish();
}

void
finish(void)
{
	print("DONE %u passed, %u failed\n", passed, failed);
	power_off(failed != 0);
}
