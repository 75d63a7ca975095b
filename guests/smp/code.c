/*
 * code.c -- code that one processor writes and another runs.
 *
 * The protocol: store, tell the other, and it serialises before it goes there.  [SDM 3, 8.1.3]
 */
#include "parts.h"

#define MOV_EAX		0xB8
#define RET		0xC3
#define CODE_OFFSET	3u	/* so that the constant is aligned */
#define FUNCTION_BYTES	6u
#define PAGES		64u
#define VERSIONS	4u

typedef uint32_t function(void);

static uint8_t *page;
static volatile uint32_t round, answered, wrong, stop_running;

static void
serialise(void)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

static uint32_t
run_page(const uint8_t *code)
{
	return ((function *)(code + CODE_OFFSET))();
}

/* `return value`, stored in one of the ways that there are. */
static void
write_function(uint8_t *code, uint32_t value, uint32_t way)
{
	uint8_t whole[FUNCTION_BYTES] = { MOV_EAX, 0, 0, 0, 0, RET };
	volatile uint32_t *constant = (volatile uint32_t *)(code + CODE_OFFSET + 1);

	memcpy(whole + 1, &value, sizeof(value));
	switch (way % 4) {
	case 0:
		memcpy(code + CODE_OFFSET, whole, FUNCTION_BYTES);
		break;
	case 1:
		*constant = value;
		break;
	case 2:
		__asm__ volatile("xchgl %0, %1" : "+r"(value), "+m"(*constant) : : "memory");
		break;
	default:
		__asm__ volatile("fildl %1; fistpl %0" : "=m"(*constant) : "m"(value) : "memory");
	}
}

static void
judge(uint32_t found, uint32_t expected)
{
	wrong += found != expected;
}

/* ---- one writes, one runs, in turn ---- */

static void
run_each_round(uint32_t n)
{
	uint32_t i;

	for (i = 1; i <= n; i++) {
		WAIT_FOR(round >= i);
		serialise();
		judge(run_page(page), i);
		answered = i;
	}
}

static void
check_rounds(void)
{
	uint32_t n = rounds(5000), i;

	write_function(page, 0, 0);
	round = answered = wrong = 0;
	begin_work(1, run_each_round, n);
	for (i = 1; i <= n; i++) {
		write_function(page, i, i);
		round = i;
		WAIT_FOR(answered == i);
	}
	end_work(1);
	check("changed_code_is_seen_after_serialising", !wrong, "%u of %u rounds ran old code", wrong, n);
}

/* ---- a page that was data to its writer a moment ago ---- */

static void
run_fresh_pages(uint32_t first)
{
	uint32_t i;

	for (i = 1; i <= PAGES * VERSIONS; i++) {
		WAIT_FOR(round >= i);
		serialise();
		judge(run_page((uint8_t *)first + (i - 1) / VERSIONS * PAGE_SIZE), i);
		answered = i;
	}
}

static void
check_fresh_pages(void)
{
	uint8_t *pages = allocate_pages(PAGES);
	uint32_t i;

	round = answered = wrong = 0;
	begin_work(1, run_fresh_pages, (uint32_t)pages);
	for (i = 1; i <= PAGES * VERSIONS; i++) {
		write_function(pages + (i - 1) / VERSIONS * PAGE_SIZE, i, i % VERSIONS == 1 ? 0 : i);
		round = i;
		WAIT_FOR(answered == i);
	}
	end_work(1);
	check("data_page_becomes_code_elsewhere", !wrong, "%u of %u versions ran old code", wrong, PAGES * VERSIONS);
}

/* ---- the writer does not wait: code is changed while it runs, then an interrupt tells ---- */

static volatile uint32_t told;

static void
take_news(struct trap_frame *frame)
{
	(void)frame;
	told = round;
	apic_eoi();
}

static void
run_always(uint32_t unused)
{
	uint32_t least, found;

	(void)unused;
	interrupts_on();
	while (!stop_running) {
		least = told;
		found = run_page(page);
		wrong += found < least;
		relax();
	}
	interrupts_off();
}

static void
check_interrupted(void)
{
	uint32_t n = rounds(5000), i;

	write_function(page, 0, 0);
	on_trap(VEC_NOTICE, take_news);
	round = told = wrong = stop_running = 0;
	begin_work(1, run_always, 0);
	for (i = 1; i <= n; i++) {
		write_function(page, i, i % 2 + 1);
		round = i;
		send_ipi(ICR_FIXED | VEC_NOTICE, 1);
		WAIT_FOR(told == i);
	}
	stop_running = 1;
	end_work(1);
	check_silicon("changed_code_is_seen_after_an_interrupt", !wrong, "translates code while another processor stores to it");
}

/* ---- everybody in turn writes what all run ---- */

static void
write_in_turn(uint32_t n)
{
	uint32_t me = my_id(), i;

	for (i = 1; i <= n; i++) {
		if (i % cpu_count == me)
			write_function(page + (i / 8 % 4) * PAGE_SIZE, i, i % 8 ? i : 0);
		meet();
		serialise();
		if (run_page(page + (i / 8 % 4) * PAGE_SIZE) != i)
			__asm__ volatile("lock incl %0" : "+m"(wrong) : : "memory");
		meet();
	}
}

static void
check_turns(void)
{
	uint32_t i, n = rounds(500);

	for (i = 0; i < 4; i++)
		write_function(page + i * PAGE_SIZE, 0, 0);
	wrong = 0;
	work_everywhere(write_in_turn, n);
	check("code_of_every_writer_is_seen_by_all", !wrong, "%u times old code in %u rounds", wrong, n);
}

void
check_code(void)
{
	page = allocate_pages(4);
	check_rounds();
	check_fresh_pages();
	check_interrupted();
	check_turns();
}
