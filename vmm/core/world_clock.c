/*
 * world_clock.c -- the host's clock in a world: the vDSO's function, which reads the TSC.
 *
 * It may have to ask the kernel after all (a host whose TSC is no clock), and syscall user dispatch does not know its
 * address: so dispatch lets everything pass meanwhile.  While RDTSC traps, it would trap in the vDSO too: then the
 * kernel is asked at once.
 *
 * Source: Linux, vdso(7); System V ABI, AMD64 supplement, 3.4.3 "Auxiliary Vector"; System V gABI, "Hash Table" and
 * "Symbol Table"; prctl(2), PR_SET_TSC; Documentation/admin-guide/syscall-user-dispatch.rst.
 */
#include <elf.h>
#include <stddef.h>

#include "hostclock.h"
#include "sysraw.h"

typedef int gettime(int clock, struct sys_timespec *ts);

static gettime *from_vdso;	/* NULL: there is none */
static gettime *fast;		/* the same, NULL while RDTSC traps */
static bool trapping;
static uint8_t nobody;
static volatile uint8_t *selector = &nobody;

/* ---- the vDSO ------------------------------------------------------------------------------------ */

static bool
same(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return *a == *b;
}

struct symbols {
	const Elf64_Sym *table;
	const char *names;
	uint32_t count;
};

/* Tables that are not all there have no symbols. */
static struct symbols
symbols_of(const Elf64_Dyn *d, uint64_t moved)
{
	struct symbols s = { NULL, NULL, 0 };

	for (; d->d_tag != DT_NULL; d++) {
		const uint8_t *at = (const uint8_t *)(uintptr_t)(d->d_un.d_ptr + moved);

		if (d->d_tag == DT_SYMTAB)
			s.table = (const void *)at;
		else if (d->d_tag == DT_STRTAB)
			s.names = (const void *)at;
		else if (d->d_tag == DT_HASH)
			s.count = ((const uint32_t *)(const void *)at)[1];	/* nchain */
	}
	return s.table && s.names ? s : (struct symbols){ NULL, NULL, 0 };
}

static gettime *
look_up(const uint8_t *image, const char *name)
{
	const Elf64_Ehdr *h = (const void *)image;
	const Elf64_Phdr *p = (const void *)(image + h->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	uint64_t moved = 0;
	struct symbols s;
	uint32_t i;

	for (i = 0; i < h->e_phnum; i++) {
		if (p[i].p_type == PT_LOAD && p[i].p_offset == 0)
			moved = (uint64_t)(uintptr_t)image - p[i].p_vaddr;
		else if (p[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(image + p[i].p_offset);
	}
	if (!dynamic)
		return NULL;
	s = symbols_of(dynamic, moved);
	for (i = 0; i < s.count; i++)
		if (s.table[i].st_shndx != SHN_UNDEF && same(s.names + s.table[i].st_name, name))
			return (gettime *)(uintptr_t)(s.table[i].st_value + moved);
	return NULL;
}

/* argc, the arguments, NULL, the environment, NULL, pairs of which the last is AT_NULL. */
void
host_clock_begin(const uint64_t *stack)
{
	const uint64_t *at = stack + 1 + stack[0] + 1;

	while (*at)
		at++;
	for (at++; at[0] != AT_NULL; at += 2)
		if (at[0] == AT_SYSINFO_EHDR && at[1])
			from_vdso = look_up((const uint8_t *)(uintptr_t)at[1], "__vdso_clock_gettime");
	fast = from_vdso;
}

/* ---- the clock ----------------------------------------------------------------------------------- */

void
host_clock_dispatch(volatile uint8_t *byte)
{
	selector = byte;
}

bool
host_clock_trap_tsc(bool traps)
{
	if (traps == trapping)
		return true;
	if (sys_call3(SYS_prctl, PRCTL_SET_TSC, traps ? TSC_TRAPS : TSC_RUNS, 0) != 0)
		return false;
	trapping = traps;
	fast = traps ? NULL : from_vdso;
	return true;
}

uint64_t
host_ns(void)
{
	struct sys_timespec ts;
	int failed;

	if (!fast)
		return sys_monotonic_ns();
	*selector = DISPATCH_ALLOW;
	failed = fast(SYS_CLOCK_MONOTONIC, &ts);
	*selector = DISPATCH_BLOCK;
	return failed ? sys_monotonic_ns() : (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}
