/*
 * ipis.c -- messages between processors: who gets them, and how often.  [SDM 3, 10.6]
 */
#include "parts.h"

#define SETTLE_US	2000u
#define DEADLINE_US	5000000u

static void
forget_taken(void)
{
	uint32_t id;

	for (id = 0; id < MAX_CPUS; id++)
		cpus[id].taken = 0;
}

static uint32_t
total_taken(void)
{
	uint32_t id, total = 0;

	for (id = 0; id < cpu_count; id++)
		total += cpus[id].taken;
	return total;
}

/* Who has taken it: bit n for processor n, once each. */
static uint32_t
who_took(uint32_t wanted)
{
	uint64_t until = read_tsc() + (uint64_t)tsc_khz() * (DEADLINE_US / 1000);
	uint32_t id, mask;

	interrupts_on();
	while (total_taken() < wanted && read_tsc() < until)
		relax();
	delay_us(SETTLE_US);	/* for those that should not */
	interrupts_off();
	for (mask = id = 0; id < cpu_count; id++)
		if (cpus[id].taken)
			mask |= (cpus[id].taken == 1 ? 1u : 1u << 16) << id;
	return mask;
}

static void
check_message(const char *name, uint32_t icr, uint32_t destination, uint32_t expected)
{
	uint32_t id, wanted = 0;

	for (id = 0; id < cpu_count; id++)
		wanted += expected >> id & 1;
	forget_taken();
	send_ipi(icr | VEC_COUNT, destination);
	check_equal(name, who_took(wanted), expected);
}

static void
check_destinations(void)
{
	uint32_t all = (1u << cpu_count) - 1, last = cpu_count - 1;

	check_message("physical_destination_reaches_one", ICR_FIXED, last, 1u << last);
	check_message("logical_destination_reaches_one", ICR_LOGICAL, 1u << last, 1u << last);
	check_message("logical_destination_reaches_several", ICR_LOGICAL, all & ~1u, all & ~1u);
	check_message("physical_broadcast_reaches_all", ICR_FIXED, 0xFF, all);
	check_message("shorthand_others", ICR_OTHERS, 0, all & ~1u);
	check_message("shorthand_all", ICR_ALL, 0, all);
	check_message("shorthand_self", ICR_SELF, 0, 1);
	check_message("no_such_destination_reaches_nobody", ICR_FIXED, 0x0E, 0);
}

static void
check_lowest_priority(void)
{
	uint32_t others = ((1u << cpu_count) - 1) & ~1u, i, n = 50;
	bool each = true;

	for (i = 0; i < n; i++) {
		forget_taken();
		send_ipi(ICR_LOGICAL | ICR_LOWEST | VEC_COUNT, others);
		WAIT_FOR(total_taken());
		delay_us(20);
		each &= total_taken() == 1;
	}
	check("lowest_priority_reaches_exactly_one", each, "not each of %u messages", n);
}

/* Everybody sends to everybody; a message that meets one of its kind may be merged with it, but none is lost. */
static volatile uint32_t notices[MAX_CPUS], noticed[MAX_CPUS];

static void
take_notice(struct trap_frame *frame)
{
	uint32_t me = my_id(), sum = 0, id;

	(void)frame;
	for (id = 0; id < cpu_count; id++)
		sum += notices[id];
	noticed[me] = sum;
	apic_eoi();
}

static void
storm(uint32_t n)
{
	uint32_t me = my_id(), i;

	meet();
	interrupts_on();
	for (i = 0; i < n; i++) {
		notices[me]++;
		send_ipi(ICR_OTHERS | VEC_NOTICE, 0);
	}
	meet();
	delay_us(SETTLE_US);
	meet();
	interrupts_off();
}

static void
check_storm(void)
{
	uint32_t n = rounds(5000), id, worst = ~0u, most;

	on_trap(VEC_NOTICE, take_notice);
	work_everywhere(storm, n);
	/* The last message of the last sender found all counters at their final values, everywhere but there. */
	most = n * cpu_count;
	for (id = 0; id < cpu_count; id++)
		if (noticed[id] < worst)
			worst = noticed[id];
	check("no_message_of_many_is_lost", worst >= most - n, "a processor last saw %u of %u", worst, most);
}

void
check_ipis(void)
{
	check_destinations();
	check_lowest_priority();
	check_storm();
}

/* ---- NMI ---- */

static volatile uint32_t nmi_depth, nmi_deepest, nmi_hold, nmi_second_sent, resumed;

static void
take_nmi(struct trap_frame *frame)
{
	struct cpu *me = &cpus[my_id()];

	(void)frame;
	if (++nmi_depth > nmi_deepest)
		nmi_deepest = nmi_depth;
	me->nmis++;
	if (nmi_hold && me->nmis == 1) {
		WAIT_FOR(nmi_second_sent);
		delay_us(1000);
	}
	nmi_depth--;
}

static void
wait_for_nmis(uint32_t wanted)
{
	WAIT_FOR(cpus[my_id()].nmis >= wanted);
}

static void
halt_for_good(uint32_t unused)
{
	(void)unused;
	__asm__ volatile("hlt" : : : "memory");
	resumed = 1;
}

void
check_nmi(void)
{
	uint32_t id = cpu_count - 1, tries;
	struct cpu *one = &cpus[id];

	on_trap(VEC_NMI, take_nmi);
	one->nmis = 0;
	begin_work(id, wait_for_nmis, 1);
	send_ipi(ICR_NMI | ICR_ASSERT, id);
	end_work(id);
	check_equal("nmi_comes_through_with_if_clear", one->nmis, 1);

	one->nmis = 0;
	nmi_hold = 1;
	nmi_deepest = nmi_second_sent = 0;
	begin_work(id, wait_for_nmis, 2);
	send_ipi(ICR_NMI | ICR_ASSERT, id);
	WAIT_FOR(one->nmis == 1);
	send_ipi(ICR_NMI | ICR_ASSERT, id);
	nmi_second_sent = 1;
	end_work(id);
	check("second_nmi_waits_for_iret", one->nmis == 2 && nmi_deepest == 1, "%u taken, %u deep", one->nmis, nmi_deepest);

	nmi_hold = 0;
	begin_work(id, halt_for_good, 0);
	for (tries = 0; tries < 1000 && !resumed; tries++) {	/* the first may come before it has halted */
		delay_us(2000);
		if (!resumed)
			send_ipi(ICR_NMI | ICR_ASSERT, id);
	}
	check("nmi_wakes_a_halt_with_if_clear", resumed, "not after %u of them", tries);
	end_work(id);
}
