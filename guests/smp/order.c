/*
 * order.c -- in which order one processor's stores are seen by another, and one time for all.  [SDM 3, 8.2.2, 17.13]
 */
#include "parts.h"

static volatile uint32_t data, flag, too_old;

/* "Writes by a single processor are observed in the same order by all processors." */
static void
pass_messages(uint32_t n)
{
	uint32_t i, f;

	meet();
	if (my_id() == 0) {
		for (i = 1; i <= n; i++) {
			data = i;
			flag = i;
		}
		return;
	}
	do {
		f = flag;
		if (data < f)
			too_old++;
	} while (f < n);
}

/* "Reads or writes cannot pass (be carried out ahead of) ... locked instructions." */
static volatile uint32_t side[2], read_back[2], both_zero;

static void
cross_stores(uint32_t n)
{
	uint32_t me = my_id(), i;

	for (i = 0; i < n; i++) {
		meet();
		if (me < 2) {
			side[me] = 1;
			__asm__ volatile("lock addl $0, (%%esp)" : : : "memory", "cc");
			read_back[me] = side[!me];
		}
		meet();
		if (me == 0) {
			both_zero += !read_back[0] && !read_back[1];
			side[0] = side[1] = 0;
		}
	}
}

static volatile uint64_t handed_tsc;
static volatile uint32_t turn, backwards;

static void
hand_time_on(uint32_t n)
{
	uint32_t me = my_id();

	meet();
	for (;;) {
		uint32_t now = turn;

		if (now >= n)
			return;
		if (now % cpu_count != me) {
			relax();
			continue;
		}
		uint64_t tsc = read_tsc();

		backwards += tsc < handed_tsc;
		handed_tsc = tsc;
		turn = now + 1;
	}
}

void
check_order(void)
{
	uint32_t n = rounds(1000000);

	work_everywhere(pass_messages, n);
	check("stores_are_seen_in_order", !too_old, "%u times the flag came before the data", too_old);
	work_everywhere(cross_stores, rounds(500));
	check("locked_instruction_orders_a_load_behind_a_store", !both_zero, "%u times neither saw the other's", both_zero);
	work_everywhere(hand_time_on, rounds(1000));
	check("time_stamp_counters_agree", !backwards, "%u times it went backwards", backwards);
}
