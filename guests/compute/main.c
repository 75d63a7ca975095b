/*
 * compute -- how fast does user code run?  Each workload runs in ring 3, paged, with a 100 Hz timer, as under a system.
 *
 *	COMPUTE name checksum operations nanoseconds
 */
#include "guest.h"
#include "workloads.h"

#define USER_MEMORY	(8u << 20)
#define TICKS_PER_S	100
#define USUAL_SCALE	100u
#define QUICK_SCALE	5u

static volatile uint32_t ticks;

static void
tick(struct trap_frame *frame)
{
	(void)frame;
	ticks++;
	irq_eoi(IRQ_TIMER);
}

static void
run(const struct workload *w, uint32_t scale)
{
	uint32_t rounds = w->rounds * scale / USUAL_SCALE, checksum;
	uint64_t start, ns, ops;

	rounds += !rounds;
	ops = (uint64_t)rounds * w->ops_per_round;
	start = read_tsc();
	checksum = ring_call_flags(3, w->run, rounds, EFL_IF);
	ns = cycles_to_ns(read_tsc() - start);
	ns += !ns;
	print("COMPUTE %s %08x %llu %llu\n", w->name, checksum, ops, ns);
	print("        %u.%03u s, %u thousand operations per second\n", (uint32_t)(ns / 1000000000),
	    (uint32_t)(ns / 1000000 % 1000), (uint32_t)(ops * 1000000 / ns));
	check_equal(w->name, checksum, w->checksum);
}

void
guest_main(void)
{
	uint32_t scale = option_number("scale", has_option("quick") ? QUICK_SCALE : USUAL_SCALE);
	size_t i;

	write_cr4(read_cr4() | CR4_OSFXSR);
	paging_on(identity_directory(USER_MEMORY, PTE_P | PTE_W | PTE_U));
	tsc_khz();
	on_trap(VEC_IRQ + IRQ_TIMER, tick);
	pit_start(TICKS_PER_S);
	irq_unmask(IRQ_TIMER);
	for (i = 0; i < WORKLOADS; i++)
		if (option_is("only", workloads[i].name, true))
			run(&workloads[i], scale);
	irq_mask(IRQ_TIMER);
}
