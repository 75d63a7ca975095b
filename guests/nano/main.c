/*
 * nano -- what single operations cost, after Adams and Agesen, "A comparison of software and hardware techniques for
 * x86 virtualization" (ASPLOS 2006), section 6.3.
 *
 *	NANO name cycles ns		with two decimals; the cost of the loop itself is taken off
 *
 *	syscall		from ring 3 to ring 0 and back, by SYSENTER where there is one, else by INT
 *	in		a read of a port in ring 0
 *	cr3wr		a load of CR3 with what it holds
 *	callret		a call and its return in ring 0
 *	pgfault		a load from an absent page in ring 3; the handler steps over it
 *	divzero		a division by zero in ring 3; the handler steps over it
 *	ptemod		a change of a page-table entry in ring 0, not yet used
 *	ptemod_use	the same, INVLPG, and a load through it
 */
#include "guest.h"

#define MAPPED		(8u << 20)
#define ABSENT		0x40000000u
#define USUAL_COUNT	20000u
#define QUICK_COUNT	1000u
#define TRIES		3	/* the fastest counts */

/* In nano_loops.S: ring functions that repeat one thing so many times. */
uint32_t loop_empty(uint32_t count);
uint32_t loop_in(uint32_t count);
uint32_t loop_cr3(uint32_t count);
uint32_t loop_callret(uint32_t count);
uint32_t loop_pgfault(uint32_t count);
uint32_t loop_divzero(uint32_t count);
uint32_t loop_ptemod(uint32_t count);
uint32_t loop_ptemod_use(uint32_t count);
extern char step_over_pgfault[], step_over_divzero[];
extern volatile uint32_t nano_faults;
extern page_table *nano_pte;

static const struct bench {
	const char *name;
	int ring;
	ring_function *loop;
} benches[] = {
	{ "syscall", 3, NULL },
	{ "in", 0, loop_in },
	{ "cr3wr", 0, loop_cr3 },
	{ "callret", 0, loop_callret },
	{ "pgfault", 3, loop_pgfault },
	{ "divzero", 3, loop_divzero },
	{ "ptemod", 0, loop_ptemod },
	{ "ptemod_use", 0, loop_ptemod_use },
};

static uint64_t
fastest(int ring, ring_function *loop, uint32_t count)
{
	uint64_t best = ~0ull, start, cycles;
	int i;

	for (i = 0; i < TRIES; i++) {
		start = read_tsc();
		ring_call_flags(ring, loop, count, ring == 3 ? EFL_IF : 0);
		cycles = read_tsc() - start;
		best = cycles < best ? cycles : best;
	}
	return best;
}

static void
measure(const struct bench *bench, uint32_t count)
{
	ring_function *loop = bench->loop;
	uint64_t cycles, empty, ns;

	if (!loop)
		loop = has_sysenter() ? round_trips_sysenter : round_trips_int;
	nano_faults = 0;
	cycles = fastest(bench->ring, loop, count);
	empty = fastest(bench->ring, loop_empty, count);
	cycles = cycles > empty ? cycles - empty : 0;
	ns = cycles_to_ns(cycles * 100) / count;
	cycles = cycles * 100 / count;
	print("NANO %s %llu.%02u %llu.%02u\n", bench->name, cycles / 100, (uint32_t)(cycles % 100), ns / 100,
	    (uint32_t)(ns % 100));
	if (loop == loop_pgfault || loop == loop_divzero)
		check_equal(loop == loop_pgfault ? "every_pgfault_is_raised" : "every_divzero_is_raised", nano_faults,
		    count * TRIES);
}

void
guest_main(void)
{
	uint32_t count = option_number("count", has_option("quick") ? QUICK_COUNT : USUAL_COUNT);
	page_table *directory = identity_directory(MAPPED, PTE_P | PTE_W | PTE_U);
	size_t i;

	count += !count;
	map_page(directory, ABSENT, 0, 0);
	map_page(directory, ABSENT + PAGE_SIZE, 0, PTE_P | PTE_W);
	nano_pte = pte_of(directory, ABSENT + PAGE_SIZE);
	bare_gates_init();
	idt[VEC_PF] = gate(KERNEL_CS, (uint32_t)step_over_pgfault, TYPE_INT32, 0, 0);
	idt[VEC_DE] = gate(KERNEL_CS, (uint32_t)step_over_divzero, TYPE_INT32, 0, 0);
	paging_on(directory);
	tsc_khz();
	for (i = 0; i < sizeof(benches) / sizeof(benches[0]); i++)
		measure(&benches[i], count);
}
