/*
 * transit -- what leaving ring 3 costs in the middle of long stretches of user code.
 *
 * A monitor that runs user code on the host's own processor pays for each crossing, not for what lies between; one that
 * interprets pays the other way round.  `nano` times crossings alone, so the former would not run them directly at all.
 * Here a stretch of `stretch` microseconds comes before each, as long on every machine, and is taken off.
 *
 *	TRANSIT name ns		with two decimals
 *
 *	stretch		the stretch itself
 *	syscall_int, syscall_sysenter	into ring 0, which does nothing, and back
 *	refused		HLT in ring 3: the general protection fault is the guest's own; the handler steps over it
 *	pgfault		a load from an absent page: the same for a page fault
 *	core_port	a read of port 80h, which the I/O permission bitmap allows; nothing answers on a PC
 *	device_port	a read of COM1's line status register, allowed likewise
 *	fresh		the first load from a page that the tables allow; its accessed bit is clear
 *	known		the same where accessed and dirty bits of all pages are set, so that neighbours may be brought along
 *	switch		another address space by way of ring 0, and loads from 16 pages of it that were used before
 *	rdtsc		a read of the time stamp counter; the last, for a monitor may do otherwise after it
 */
#include "parts.h"

#define MAPPED		(8u << 20)
#define FRESH		0x80000000u
#define WORKING_SET	0x60000000u	/* as in transit_loops.S */
#define WORKING_PAGES	16u
#define FRAMES		256u		/* the fresh pages lead to these, over and over */
#define VEC_EXCHANGE	0x82
#define CORE_PORT	0x80
#define DEVICE_PORT	0x3FD
#define USUAL_COUNT	3000u
#define QUICK_COUNT	100u
#define COUNT_MAX	65536u		/* of fresh pages there must be tables */
#define USUAL_STRETCH_US 20u
#define BATCH		20u		/* crossings timed at once; the fastest batch counts, on a host that has other work */
#define CALIBRATION_NS	1000000u
#define CALIBRATION_BATCHES 3
#define WARM_UP_CROSSINGS 2000u
#define FIRST_TURNS	1000u

struct crossing {
	const char *name;
	ring_function *loop;
	const char *check;		/* each crossing is a fault of the guest's own, by this name */
	uint32_t page_flags;		/* each crossing is to a fresh page */
};

static const struct crossing crossings[] = {
	{ "syscall_int", loop_syscall_int, NULL, 0 },
	{ "syscall_sysenter", loop_syscall_sysenter, NULL, 0 },
	{ "refused", loop_refused, "every_hlt_is_refused", 0 },
	{ "pgfault", loop_pgfault, "every_pgfault_is_raised", 0 },
	{ "core_port", loop_core_port, NULL, 0 },
	{ "device_port", loop_device_port, NULL, 0 },
	{ "fresh", loop_fresh, NULL, PTE_P | PTE_W | PTE_U },
	{ "known", loop_fresh, NULL, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D },
	{ "switch", loop_switch, NULL, 0 },
	{ "rdtsc", loop_rdtsc, NULL, 0 },
};

static const struct crossing alone = { "stretch", loop_stretch, NULL, 0 };
static page_table *directory;
static uint32_t frames;

static uint64_t
timed(ring_function *loop, uint32_t count)
{
	uint64_t start = read_tsc();

	ring_call_flags(3, loop, count, EFL_IF);
	return cycles_to_ns(read_tsc() - start);
}

/* `count` pages that nobody has touched: another stretch of addresses each time. */
static void
map_fresh_pages(uint32_t count, uint32_t flags)
{
	static uint32_t next = FRESH;
	uint32_t i;

	transit_next_page = next;
	for (i = 0; i < count; i++, next += PAGE_SIZE)
		map_page(directory, next, frames + i % FRAMES * PAGE_SIZE, flags);
}

/* Of `count` crossings, in batches, the time of the fastest batch. */
static uint64_t
fastest(const struct crossing *crossing, uint32_t count)
{
	uint64_t best = ~0ull, ns;
	uint32_t done;

	for (done = 0; done < count; done += BATCH) {
		if (crossing->page_flags)
			map_fresh_pages(BATCH, crossing->page_flags);
		ns = timed(crossing->loop, BATCH);
		best = ns < best ? ns : best;
	}
	return best;
}

/* Turns of the delay that take `us`: more and more of them, until a run is long enough to tell. */
static void
calibrate(uint32_t us)
{
	uint32_t turns;
	uint64_t ns = 0;

	for (turns = FIRST_TURNS; ns < CALIBRATION_NS; turns *= 2) {
		transit_turns = turns;
		ns = fastest(&alone, CALIBRATION_BATCHES * BATCH);
	}
	ns = us * 1000ull * BATCH * transit_turns / (ns + !ns);
	transit_turns = (uint32_t)ns + !ns;
}

/* Twice, for an engine may run what it does not know yet at another speed. */
static void
warm_up(uint32_t us)
{
	calibrate(us);
	timed(loop_syscall_int, WARM_UP_CROSSINGS);
	calibrate(us);
}

/* `ns` is the time of a batch. */
static void
say(const char *name, uint64_t ns)
{
	ns = ns * 100 / BATCH;
	print("TRANSIT %s %llu.%02u\n", name, ns / 100, (uint32_t)(ns % 100));
}

/* The stretch is timed anew beside each kind, for the host's processor changes its speed. */
static void
measure(const struct crossing *crossing, uint32_t count)
{
	uint64_t stretch, ns;

	transit_faults = 0;
	stretch = fastest(&alone, count);
	ns = fastest(crossing, count);
	say(crossing->name, ns > stretch ? ns - stretch : 0);
	if (crossing->check)
		check_equal(crossing->check, transit_faults, count);
	else if (transit_faults)
		fail(crossing->name, "%u faults", transit_faults);
}

static void
allow_port(uint16_t port)
{
	main_tss.tss.io_map_base = offsetof(struct main_tss, io_map);
	main_tss.io_map[port / 8] &= (uint8_t)~(1u << port % 8);
}

/* Two address spaces that differ in the frames of the working set. */
static void
make_spaces(void)
{
	page_table *other = identity_directory(MAPPED, PTE_P | PTE_W | PTE_U);
	page_table *both[2];
	uint32_t i, n;

	directory = identity_directory(MAPPED, PTE_P | PTE_W | PTE_U);
	both[0] = directory;
	both[1] = other;
	for (n = 0; n < 2; n++)
		for (i = 0; i < WORKING_PAGES; i++)
			map_page(both[n], WORKING_SET + i * PAGE_SIZE, (uint32_t)allocate_pages(1),
			    PTE_P | PTE_W | PTE_U);
	transit_spaces = (uint32_t)directory ^ (uint32_t)other;
}

static bool
is_asked_for(const struct crossing *crossing)
{
	if (crossing->loop == loop_syscall_sysenter && !has_sysenter())
		return false;
	return option_is("only", crossing->name, true);
}

void
guest_main(void)
{
	uint32_t count = option_number("count", has_option("quick") ? QUICK_COUNT : USUAL_COUNT);
	size_t i;

	count = count > COUNT_MAX ? COUNT_MAX : count;
	count = (count + BATCH - 1) / BATCH * BATCH + (count ? 0 : BATCH);	/* an even number of switches leads back */
	frames = (uint32_t)allocate_pages(FRAMES);
	make_spaces();
	bare_gates_init();
	idt[VEC_GP] = gate(KERNEL_CS, (uint32_t)step_over_gp, TYPE_INT32, 0, 0);
	idt[VEC_PF] = gate(KERNEL_CS, (uint32_t)step_over_pf, TYPE_INT32, 0, 0);
	idt[VEC_EXCHANGE] = gate(KERNEL_CS, (uint32_t)exchange_space, TYPE_INT32, 3, 0);
	allow_port(CORE_PORT);
	allow_port(DEVICE_PORT);
	paging_on(directory);
	tsc_khz();
	warm_up(option_number("stretch", USUAL_STRETCH_US));
	say(alone.name, fastest(&alone, count));
	for (i = 0; i < sizeof(crossings) / sizeof(crossings[0]); i++)
		if (is_asked_for(&crossings[i]))
			measure(&crossings[i], count);
	check("every_page_is_the_tables_own", read_cr3() == (uint32_t)directory, "CR3 is %x", read_cr3());
}
