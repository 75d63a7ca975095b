/*
 * bursts.c -- rings 1, 2 and 3 at work for a while, interrupts on: checksums over a page that only they should see.
 *
 * Each ring works on until the timer has interrupted it some times, and its result is that of the same sum in ring 0.
 */
#include "attempts.h"
#include "burst_code.h"
#include "rings_checks.h"

#define MAPPED		(16u << 20)
#define TIMER_HZ	1000
#define TICKS_EACH	3

struct burst {
	uint8_t *page;
	uint32_t expected;
	uint32_t rounds;
	volatile uint32_t ticks;
	uint32_t until;
};

_Static_assert(offsetof(struct burst, page) == BURST_PAGE, "burst_code.h");
_Static_assert(offsetof(struct burst, expected) == BURST_EXPECTED, "burst_code.h");
_Static_assert(offsetof(struct burst, rounds) == BURST_ROUNDS, "burst_code.h");
_Static_assert(offsetof(struct burst, ticks) == BURST_TICKS, "burst_code.h");
_Static_assert(offsetof(struct burst, until) == BURST_UNTIL, "burst_code.h");

uint32_t burst_work(uint32_t burst);

static struct burst burst;
static uint8_t supervisor_page[PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t user_page[PAGE_SIZE] __attribute__((aligned(4096)));

static void
tick(struct trap_frame *frame)
{
	(void)frame;
	burst.ticks++;
	irq_eoi(IRQ_TIMER);
}

/* What burst_work computes. */
static uint32_t
checksum(const uint8_t *page)
{
	uint32_t sum = 0, at = 0, steps, word;

	for (steps = BURST_STEPS; steps; steps--) {
		memcpy(&word, page + at, sizeof(word));
		sum = (sum << 3 | sum >> 29) ^ word;
		sum += steps;
		at = (at + 4) & (BURST_HALF - 4);
	}
	return sum;
}

static void
work_in(int ring, uint8_t *page)
{
	uint32_t i, sum;

	for (i = 0; i < PAGE_SIZE; i++)
		page[i] = (uint8_t)(i * 7 + (uint32_t)ring);
	burst = (struct burst){ .page = page, .expected = checksum(page), .until = TICKS_EACH };
	sum = ring_call_flags(ring, burst_work, (uint32_t)&burst, EFL_IF);
	check_equal(ring_name(ring, "works_with_interrupts_on"), sum, burst.expected);
	check(ring_name(ring, "is_interrupted"), burst.ticks >= TICKS_EACH, "%u times in %u rounds", burst.ticks,
	    burst.rounds);
	memcpy(&i, page + BURST_HALF + (BURST_STEPS - 1) * 4 % BURST_HALF, sizeof(i));
	check_equal(ring_name(ring, "leaves_its_result"), i, sum);
}

void
check_bursts(void)
{
	page_table *directory = identity_directory(MAPPED, PTE_P | PTE_W | PTE_U);

	*pte_of(directory, (uint32_t)supervisor_page) &= ~PTE_U;
	paging_on(directory);
	pic_init();
	on_trap(VEC_IRQ + IRQ_TIMER, tick);
	pit_start(TIMER_HZ);
	irq_unmask(IRQ_TIMER);
	work_in(1, supervisor_page);
	work_in(2, supervisor_page);
	work_in(3, user_page);
	irq_mask(IRQ_TIMER);
	on_trap(VEC_IRQ + IRQ_TIMER, 0);
	paging_off();
}
