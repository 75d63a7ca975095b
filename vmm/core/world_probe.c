/*
 * world_probe.c -- tries what this host offers for direct execution, and measures it.
 *
 * The same executable as a world's, started with "probe=" and the descriptor of a struct
 * host_offers.  Most experiments run a few instructions below 4 GiB, as guest code is run, and look
 * at what comes back (world_snippet.c).  Invariants:
 *
 *   P1  under_test is stored before an experiment begins, so that its death says which it was;
 *   P2  what an experiment made to trap is put back, but for the filter, which is last.
 *
 * Source: Linux, Documentation/admin-guide/syscall-user-dispatch.rst; modify_ldt(2), arch_prctl(2)
 * ARCH_SET_CPUID, prctl(2) PR_SET_TSC, seccomp(2).
 */
#include <asm/ldt.h>
#include <asm/signal.h>
#include <asm/unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "host_offers.h"
#include "sysraw.h"
#include "world_filter.h"
#include "world_probe.h"
#include "world_snippet.h"

enum {
	READ_WRITE = 3, READ_WRITE_EXEC = 7, SHARED = 1, FIXED = 0x10, POPULATE = 0x8000,
	CLOSE_ON_EXEC = 1,				/* MFD_CLOEXEC */
	FROM_DISPATCH = 2,				/* si_code SYS_USER_DISPATCH */
	LDT_WRITE = 0x11,
	LDT_CODE = 0, LDT_DATA = 1
};

#define LOW_PAGES 0x10100000	/* where to map pages for a measurement */
#define DATA_WORD 0x5eed1e55u
#define SELECTOR(entry) ((entry) << 3 | 7)

HIDDEN extern const uint8_t __executable_start[], _etext[];

static uint8_t dispatch_selector;

/* ---- experiments -------------------------------------------------------------------------------------- */

/* Memory below 4 GiB is a file's, as a guest's is.  0, or a negative errno. */
static int32_t
code32(int32_t fd)
{
	const int64_t at = sys_mmap(LOW, LOW_STACK - LOW, READ_WRITE_EXEC, SHARED | FIXED, fd, 0);

	if (at < 0)
		return (int32_t)at;
	__builtin_memcpy((void *)(uintptr_t)LOW, probe_code, (size_t)(probe_code_end - probe_code));
	*(uint32_t *)(uintptr_t)LOW_DATA = DATA_WORD;
	snippet32(probe_run32, 0);
	return 0;
}

static int
ran_as_32(void)
{
	return seen.signal == SIGSEGV && seen.trap == TRAP_GP && seen.cs == USER32_CS && seen.eax == 0x103 && seen.ebx == 5;
}

static int
signals_resume(void)
{
	snippet(USER32_CS, address_of(probe_resume), 0, 1);	/* without a stack of its own */
	return seen.signal == SIGSEGV && seen.cs == USER32_CS && seen.on_its_stack && seen.esp == 0 && seen.ebx == MARK + 1;
}

static int32_t
set_segment(uint32_t entry, uint32_t base, uint32_t limit, uint32_t contents)
{
	struct user_desc d = {
		.entry_number = entry, .base_addr = base, .limit = limit, .seg_32bit = 1, .contents = contents & 3,
		.useable = 1
	};

	return (int32_t)sys_call3(SYS_modify_ldt, LDT_WRITE, (uint64_t)(uintptr_t)&d, sizeof d);
}

static int32_t
ldt(void)
{
	int32_t error = set_segment(LDT_CODE, LOW, PAGE_SIZE - 1, MODIFY_LDT_CONTENTS_CODE);

	if (!error)
		error = set_segment(LDT_DATA, LOW_DATA, 3, MODIFY_LDT_CONTENTS_DATA);
	if (!error)
		snippet(SELECTOR(LDT_CODE), offset_of(probe_ldt), LOW_STACK, 0);
	return error;
}

static int
ldt_has_base_and_limit(void)
{
	return seen.cs == SELECTOR(LDT_CODE) && seen.ebx == DATA_WORD && faulted_at(offset_of(probe_ldt_limit));
}

static enum host_gate_state
try_gate(uint32_t cs, const uint8_t *gate)
{
	dispatch_selector = DISPATCH_BLOCK;
	snippet(cs, address_of(gate), LOW_STACK - 16, 0);
	dispatch_selector = DISPATCH_ALLOW;
	if (seen.signal == SIGSYS)
		return seen.code == FROM_DISPATCH ? GATE_CAUGHT : GATE_OPEN;
	return seen.ip == address_of(gate) ? GATE_ABSENT : GATE_OPEN;
}

/*
 * Only this program's own code may call.  Not all above 4 GiB: after SYSENTER, and SYSCALL in 32-bit
 * code, the kernel takes the call for one from its vDSO page, wherever that lies: between text and data, say.
 */
static int32_t
dispatch(uint32_t *gates)
{
	const uint64_t first = (uint64_t)(uintptr_t)__executable_start, bytes = (uint64_t)(uintptr_t)_etext - first;
	const int32_t error = (int32_t)sys_call6(SYS_prctl, PRCTL_DISPATCH, DISPATCH_ON, first, bytes,
	    (uint64_t)(uintptr_t)&dispatch_selector, 0);

	if (error)
		return error;
	gates[GATE_SYSCALL64] = try_gate(USER_CS, probe_syscall64);
	gates[GATE_INT80] = try_gate(USER32_CS, probe_int80);
	gates[GATE_SYSENTER] = try_gate(USER32_CS, probe_sysenter);
	gates[GATE_SYSCALL32] = try_gate(USER32_CS, probe_syscall32);
	sys_call6(SYS_prctl, PRCTL_DISPATCH, DISPATCH_OFF, 0, 0, 0, 0);
	return 0;
}

static int
gates_are_shut(const uint32_t *gates)
{
	uint32_t i;

	for (i = 0; i < RF_HOST_GATES; i++)
		if (gates[i] != GATE_CAUGHT && gates[i] != GATE_ABSENT)
			return 0;
	return gates[GATE_SYSCALL64] == GATE_CAUGHT;
}

static int32_t
cpuid_fault(void)
{
	const int32_t error = (int32_t)sys_call3(SYS_arch_prctl, ARCH_SET_CPUID, CPUID_FAULTS, 0);

	if (error)
		return error;
	snippet32(probe_cpuid, 0);
	sys_call3(SYS_arch_prctl, ARCH_SET_CPUID, CPUID_RUNS, 0);
	return 0;
}

static int32_t
tsc_fault(void)
{
	const int32_t error = (int32_t)sys_call3(SYS_prctl, PRCTL_SET_TSC, TSC_TRAPS, 0);

	if (error)
		return error;
	snippet32(probe_rdtsc, 0);
	sys_call3(SYS_prctl, PRCTL_SET_TSC, TSC_RUNS, 0);
	return 0;
}

/* With UMIP it faults, or the kernel answers in its stead with an empty table, which no real one is. */
static int
sgdt_is_hidden(void)
{
	snippet32(probe_sgdt, 0);
	return seen.ip == address_of(probe_sgdt) || *(const uint16_t *)(uintptr_t)LOW_DATA == 0;
}

/* ---- costs ----------------------------------------------------------------------------------------------- */

enum { BATCHES = 8, CALLS = 256, ROUNDS = 128, PAGES = 32 };

static void
call_often(int32_t fd)
{
	uint32_t i;

	(void)fd;
	for (i = 0; i < CALLS; i++)
		sys_call3(SYS_getppid, 0, 0, 0);
}

static void
fault_often(int32_t fd)
{
	(void)fd;
	snippet32(probe_rounds, ROUNDS);
}

static void
map_often(int32_t fd)
{
	uint32_t i;

	for (i = 0; i < PAGES; i++)
		sys_mmap(LOW_PAGES + i * 2 * PAGE_SIZE, PAGE_SIZE, READ_WRITE_EXEC, SHARED | FIXED | POPULATE, fd, i * PAGE_SIZE);
}

/* Nanoseconds for one of `count`, in the best of some batches: the others were disturbed. */
static uint64_t
least_ns(void (*batch)(int32_t fd), int32_t fd, uint32_t count)
{
	uint64_t least = UINT64_MAX;
	uint32_t i;

	for (i = 0; i < BATCHES; i++) {
		const uint64_t start = sys_monotonic_ns();
		uint64_t took;

		batch(fd);
		took = sys_monotonic_ns() - start;
		least = took < least ? took : least;
		sys_munmap(LOW_PAGES, 2 * PAGES * PAGE_SIZE);
	}
	return least / count;
}

/* ---- filters --------------------------------------------------------------------------------------------- */

/* One call is refused with a number of ours; then a world's own filter goes on top.  1: it had no effect. */
static int32_t
filter(int32_t fd)
{
	enum { OURS = 77, ACTION_AVAILABLE = SECCOMP_GET_ACTION_AVAIL };
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | OURS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	};
	struct sock_fprog program = { .len = sizeof code / sizeof code[0], .filter = code };
	const struct filter_rules rules = { .ram_fd = fd, .dev_fd = fd };
	const uint32_t kill = SECCOMP_RET_KILL_PROCESS;
	int64_t error = sys_call3(__NR_seccomp, ACTION_AVAILABLE, 0, (uint64_t)(uintptr_t)&kill);

	if (!error)
		error = sys_call6(SYS_prctl, PRCTL_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	if (!error)
		error = sys_call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, (uint64_t)(uintptr_t)&program);
	if (!error)
		error = sys_call3(SYS_getppid, 0, 0, 0) != -OURS;
	if (!error)
		error = filter_install(&rules);
	if (!error)
		error = sys_munmap(LOW, LOW_STACK - LOW);
	return (int32_t)error;
}

/* ---- all of them ------------------------------------------------------------------------------------------ */

static void
begin(struct host_offers *o, uint32_t which)
{
	seen_nothing();
	__atomic_store_n(&o->under_test, which, __ATOMIC_SEQ_CST);	/* P1 */
}

static void
conclude(struct host_offers *o, int good, int32_t error)
{
	struct host_finding *f = &o->found[o->under_test];

	f->error = error;
	f->signal = seen.signal;
	f->trap = seen.trap;
	f->verdict = good && !error ? VERDICT_YES : VERDICT_NO;
}

static void
run_snippets(struct host_offers *o, int32_t fd)
{
	int32_t error;

	begin(o, OFFER_CODE32);
	error = code32(fd);
	conclude(o, ran_as_32(), error);
	if (o->found[OFFER_CODE32].verdict != VERDICT_YES)
		return;		/* the others are made of such code */
	begin(o, OFFER_SIGNALS);
	conclude(o, signals_resume(), 0);
	begin(o, OFFER_LDT);
	error = ldt();
	conclude(o, ldt_has_base_and_limit(), error);
	begin(o, OFFER_DISPATCH);
	error = dispatch(o->gate);
	conclude(o, gates_are_shut(o->gate), error);
	begin(o, OFFER_CPUID_FAULT);
	error = cpuid_fault();
	conclude(o, faulted_at(address_of(probe_cpuid)), error);
	begin(o, OFFER_TSC_FAULT);
	error = tsc_fault();
	conclude(o, faulted_at(address_of(probe_rdtsc)), error);
	begin(o, OFFER_UMIP);
	conclude(o, sgdt_is_hidden(), 0);
	begin(o, OFFER_COSTS);
	if (o->found[OFFER_SIGNALS].verdict == VERDICT_YES)
		o->signal_ns = least_ns(fault_often, fd, ROUNDS);
}

void
probe_main(int32_t page_fd)
{
	const int64_t at = sys_mmap(0, sizeof(struct host_offers), READ_WRITE, SHARED, page_fd, 0);
	struct host_offers *o = (void *)(uintptr_t)at;
	const int64_t fd = sys_call3(__NR_memfd_create, (uint64_t)(uintptr_t)"ringfence-probe", CLOSE_ON_EXEC, 0);

	if ((at < 0 && at > -(int64_t)PAGE_SIZE) || fd < 0 || sys_call3(__NR_ftruncate, (uint64_t)fd, PAGES * PAGE_SIZE, 0) != 0)
		sys_exit_group(STATUS_MAPS);
	o->version = RF_HOST_OFFERS_VERSION;
	snippets_begin();
	run_snippets(o, (int32_t)fd);
	begin(o, OFFER_COSTS);
	o->system_call_ns = least_ns(call_often, (int32_t)fd, CALLS);
	o->map_page_ns = least_ns(map_often, (int32_t)fd, PAGES);
	conclude(o, 1, 0);
	begin(o, OFFER_FILTER);
	conclude(o, 1, filter((int32_t)fd));
	begin(o, RF_HOST_OFFERS);
	sys_exit_group(STATUS_SHUTDOWN);
}
