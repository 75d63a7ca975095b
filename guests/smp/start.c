/*
 * start.c -- starting the other processors, and giving them work.
 *
 * An idle processor is halted with interrupts enabled; work is a function in its mailbox and a wake-up IPI.
 * [MultiProcessor Specification 1.4, B.4 "Application Processor Startup"]
 */
#include "parts.h"

#define TRAMPOLINE	0x8000u
#define SECOND_PAGE	0x9000u
#define INIT_US		10000u
#define STARTUP_US	200u
#define QUIET_US	250000u

extern uint8_t trampoline[], trampoline_gdt[], trampoline_end[];
void processor_main(uint32_t id, uint32_t cs);

struct cpu cpus[MAX_CPUS] __attribute__((aligned(64)));
uint32_t cpu_count = 1;

static volatile uint32_t arrived = 1, met, meetings;

void
relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

void
delay_us(uint32_t us)
{
	uint64_t until = read_tsc() + (uint64_t)tsc_khz() * us / 1000;

	while (read_tsc() < until)
		relax();
}

uint64_t
wait_limit(void)
{
	return read_tsc() + (uint64_t)tsc_khz() * 1000 * WAIT_LIMIT_S;
}

uint32_t
rounds(uint32_t usual)
{
	return has_option("quick") ? usual / 10 : usual;
}

/* ---- on the other processors ---- */

static void
wake(struct trap_frame *frame)
{
	(void)frame;
	apic_eoi();
}

static void
count(struct trap_frame *frame)
{
	(void)frame;
	cpus[my_id()].taken++;
	apic_eoi();
}

void
processor_main(uint32_t id, uint32_t cs)
{
	struct cpu *me = &cpus[id % MAX_CPUS];

	load_gdt();
	load_idt();
	write_cr0(read_cr0() | CR0_NE | CR0_MP);
	__asm__ volatile("fninit");
	apic_enable();
	me->arrival_cs = cs;
	me->arrivals++;
	__asm__ volatile("lock incl %0" : "+m"(arrived));
	for (;;) {
		while (!me->work)
			wait_for_interrupt();
		me->work(me->argument);
		me->work = NULL;
	}
}

/* ---- on the one that booted ---- */

void
copy_trampoline(uint32_t address)
{
	uint8_t *to = (uint8_t *)address;
	struct table_register gdtr = { sizeof(gdt) - 1, (uint32_t)gdt };

	memcpy(to, trampoline, (size_t)(trampoline_end - trampoline));
	memcpy(to + (trampoline_gdt - trampoline), &gdtr, sizeof(gdtr));
}

/* Two startup messages, as the specification asks: the second must be ignored by whoever obeyed the first. */
void
find_processors(void)
{
	uint32_t expected = option_number("cpus", 0), seen;
	uint64_t quiet, last;

	on_trap(VEC_WAKE, wake);
	on_trap(VEC_COUNT, count);
	quiet = (uint64_t)tsc_khz() * QUIET_US / 1000;
	copy_trampoline(TRAMPOLINE);
	send_ipi(ICR_OTHERS | ICR_INIT | ICR_ASSERT, 0);
	delay_us(INIT_US);
	send_ipi(ICR_OTHERS | ICR_STARTUP | ICR_ASSERT | TRAMPOLINE >> 12, 0);
	delay_us(STARTUP_US);
	send_ipi(ICR_OTHERS | ICR_STARTUP | ICR_ASSERT | TRAMPOLINE >> 12, 0);
	if (expected)
		WAIT_FOR(arrived >= expected);
	seen = arrived;
	last = read_tsc();
	while (read_tsc() - last < (expected ? quiet / 25 : quiet)) {
		relax();
		if (arrived != seen) {
			seen = arrived;
			last = read_tsc();
		}
	}
	cpu_count = seen;
}

void
begin_work(uint32_t id, work *function, uint32_t argument)
{
	cpus[id].argument = argument;
	cpus[id].work = function;
	send_ipi(ICR_FIXED | VEC_WAKE, id);
}

void
end_work(uint32_t id)
{
	WAIT_FOR(!cpus[id].work);
}

void
work_everywhere(work *function, uint32_t argument)
{
	uint32_t id;

	met = meetings = 0;
	for (id = 1; id < cpu_count; id++)
		begin_work(id, function, argument);
	function(argument);
	for (id = 1; id < cpu_count; id++)
		end_work(id);
}

void
meet(void)
{
	uint32_t number = meetings, place = 1;

	__asm__ volatile("lock xaddl %0, %1" : "+r"(place), "+m"(met) : : "memory");
	if (place + 1 == cpu_count) {
		met = 0;
		meetings = number + 1;
	} else {
		WAIT_FOR(meetings != number);
	}
}

/* ---- checks ---- */

void
check_start(void)
{
	uint32_t id, once = 0, page = 0;

	for (id = 1; id < cpu_count; id++) {
		once += cpus[id].arrivals == 1;
		page += cpus[id].arrival_cs == TRAMPOLINE >> 4;
	}
	check("every_processor_arrives_once", once == cpu_count - 1, "%u of %u", once, cpu_count - 1);
	check("startup_begins_at_its_page", page == cpu_count - 1, "%u of %u", page, cpu_count - 1);
}

static void
nothing(uint32_t unused)
{
	(void)unused;
}

static void
check_wakes(void)
{
	uint32_t n = rounds(1000), i, id;

	for (i = 0; i < n; i++)
		for (id = 1; id < cpu_count; id++) {
			begin_work(id, nothing, 0);
			end_work(id);
		}
	pass("idle_processors_wake_every_time");
}

/* INIT, and what it leaves; the last check, since it takes a processor's state away. */
void
check_restart(void)
{
	uint32_t id = cpu_count - 1;
	struct cpu *one = &cpus[id];

	check_wakes();
	send_ipi(ICR_STARTUP | ICR_ASSERT | TRAMPOLINE >> 12, id);
	send_ipi(ICR_INIT | ICR_LEVEL, id);
	delay_us(INIT_US);
	begin_work(id, nothing, 0);
	end_work(id);
	check_equal("startup_without_init_is_ignored", one->arrivals, 1);

	one->taken = 0;
	send_ipi(ICR_INIT | ICR_ASSERT, id);
	delay_us(INIT_US);
	send_ipi(ICR_FIXED | VEC_COUNT, id);
	delay_us(INIT_US);
	check_equal("init_stops_a_processor", one->taken, 0);
	copy_trampoline(SECOND_PAGE);
	send_ipi(ICR_STARTUP | ICR_ASSERT | SECOND_PAGE >> 12, id);
	WAIT_FOR(one->arrivals == 2);
	check_equal("startup_vector_names_the_page", one->arrival_cs, SECOND_PAGE >> 4);
	begin_work(id, nothing, 0);
	end_work(id);
	check_equal("init_drops_what_was_requested", one->taken, 0);
}
