/*
 * syscalls -- three ways from ring 3 to ring 0 and back, what each keeps, and how long each takes.
 *
 *	SYSCALL name round-trips-per-second ns
 */
#include "guest.h"

#define MAPPED		(8u << 20)
#define USUAL_COUNT	100000u
#define QUICK_COUNT	5000u

/* What a round trip must leave alone. */
struct state {
	uint32_t eax, ebx, esi, edi, ebp, esp, cs, ss, eflags;
};

#define SAVE_STATE(s)										\
	"movl %%eax, 0+" s "; movl %%ebx, 4+" s "; movl %%esi, 8+" s "; movl %%edi, 12+" s "; "	\
	"movl %%ebp, 16+" s "; movl %%esp, 20+" s "; movl %%cs, %%ecx; movl %%ecx, 24+" s "; "	\
	"movl %%ss, %%ecx; movl %%ecx, 28+" s "; pushfl; popl 32+" s "\n\t"

extern struct state state_before, state_after;
struct state state_before, state_after;		/* named in assembly */

#define ROUND_TRIP(name, code)									\
	static uint32_t										\
	name(uint32_t unused)									\
	{											\
		(void)unused;									\
		__asm__ volatile("movl $0x1111, %%eax; movl $0x2222, %%ebx; movl $0x3333, %%esi; "	\
		    "movl $0x4444, %%edi; stc\n\t" SAVE_STATE("state_before") code "\n\t"		\
		    SAVE_STATE("state_after") : : : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc");	\
		return 0;									\
	}

ROUND_TRIP(once_by_int, "int $0x80")
ROUND_TRIP(once_by_call, "lcall $0x1F8, $0")
ROUND_TRIP(once_by_sysenter, "movl %%esp, %%ecx; movl $1f, %%edx; sysenter; 1:")

static const struct way {
	const char *name, *keeps;
	ring_function *once, *many;
} ways[] = {
	{ "int", "int_keeps_the_state", once_by_int, round_trips_int },
	{ "call_gate", "call_gate_keeps_the_state", once_by_call, round_trips_call },
	{ "sysenter", "sysenter_keeps_the_state", once_by_sysenter, round_trips_sysenter },
};

static void
measure(const struct way *way, uint32_t count)
{
	uint64_t start, cycles, ns;

	state_before = state_after = (struct state){ 0 };
	ring_call_flags(3, way->once, 0, EFL_IF);
	check(way->keeps, state_before.esp && !memcmp(&state_before, &state_after, sizeof(state_before)),
	    "CS %x to %x, SS %x to %x, ESP %x to %x, EFLAGS %x to %x", state_before.cs, state_after.cs, state_before.ss,
	    state_after.ss, state_before.esp, state_after.esp, state_before.eflags, state_after.eflags);
	start = read_tsc();
	ring_call_flags(3, way->many, count, EFL_IF);
	cycles = read_tsc() - start;
	ns = cycles_to_ns(cycles);
	ns += !ns;
	print("SYSCALL %s %llu %llu\n", way->name, count * 1000000000ull / ns, ns / count);
}

static uint32_t
try_sysexit(uint32_t unused)
{
	(void)unused;
	FAULT_OF("", "sysexit");
	return 0;
}

static uint32_t
try_sysenter(uint32_t unused)
{
	(void)unused;
	FAULT_OF("movl %%esp, %%ecx; movl $8f, %%edx", "sysenter");
	return 0;
}

void
guest_main(void)
{
	uint32_t count = option_number("count", has_option("quick") ? QUICK_COUNT : USUAL_COUNT);
	size_t i;

	count += !count;
	bare_gates_init();
	paging_on(identity_directory(MAPPED, PTE_P | PTE_W | PTE_U));
	tsc_khz();
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (ways[i].once != once_by_sysenter || has_sysenter())
			measure(&ways[i], count);
	if (!has_sysenter()) {
		skip("sysenter", "CPUID does not announce SEP");
		return;
	}
	ring_call(3, try_sysexit, 0);
	check_fault("ring3_sysexit_gp", probe.seen, VEC_GP, 0);
	write_msr(MSR_SYSENTER_CS, 0);
	ring_call(3, try_sysenter, 0);
	check_fault("sysenter_without_cs_gp", probe.seen, VEC_GP, 0);
}
