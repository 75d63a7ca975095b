/*
 * shadows.c -- exactly where a pending interrupt is taken.
 *
 * STI holds interrupts back until the next instruction has been executed, so that STI; HLT and STI; RET are safe.  A
 * load of SS does so for the instruction that loads ESP.  POPF and IRET do not.  [SDM 3, 6.8.3]
 */
#include "parts.h"

#define FAST_HZ		5000
#define SHADOW_TICKS	200u

extern char after_sti[], after_two_sti[], inside_mov_ss[], inside_pop_ss[], after_popf[], after_iret[], after_hlt[];

static void
pending(void)
{
	listen();
	irq_unmask(IRQ_COM1);
	raise_serial();
}

static void
check_place(const char *name, const char *place)
{
	check(name, taken_count == 1 && taken[0].eip == (uint32_t)place, "%u taken, at %x, expected %x", taken_count,
	    taken[0].eip, (uint32_t)place);
}

static void
check_sti(void)
{
	pending();
	__asm__ volatile("sti; nop; after_sti: nop; cli" : : : "memory");
	check_place("sti_lets_one_instruction_pass", after_sti);
	pending();
	__asm__ volatile("sti; cli" : : : "memory");
	check_equal("sti_cli_lets_nothing_in", taken_count, 0);
	open_window();
	pending();
	__asm__ volatile("sti; sti; after_two_sti: nop; nop; cli" : : : "memory");
	check_place("second_sti_holds_nothing_back", after_two_sti);
}

static volatile uint32_t torn, ticks;

static void
tick(struct trap_frame *frame)
{
	ticks++;
	torn += frame->eip == (uint32_t)inside_mov_ss || frame->eip == (uint32_t)inside_pop_ss;
	irq_eoi(IRQ_TIMER);
}

/* With a fast timer, SS is loaded all the time; no interrupt may come before the instruction behind it. */
static void
check_stack_segment(void)
{
	listen();
	on_trap(VEC_IRQ + IRQ_TIMER, tick);
	irq_unmask(IRQ_TIMER);
	pit_start(FAST_HZ);
	interrupts_on();
	while (ticks < SHADOW_TICKS)
		__asm__ volatile("movl %%ss, %%eax; movl $1000, %%ecx;"
		    "1: movl %%eax, %%ss; inside_mov_ss: nop; pushl %%ss; popl %%ss; inside_pop_ss: nop; loop 1b"
		    : : : "eax", "ecx", "memory", "cc");
	interrupts_off();
	irq_mask(IRQ_TIMER);
	check("ss_load_is_never_parted_from_the_next", !torn, "%u of %u interrupts came in between", torn, ticks);
}

static void
check_flags(void)
{
	pending();
	__asm__ volatile("pushfl; orl $0x200, (%%esp); popfl; after_popf: nop; cli" : : : "memory", "cc");
	check_place("popf_lets_it_in_at_once", after_popf);
	pending();
	__asm__ volatile("pushfl; orl $0x200, (%%esp); pushl %%cs; pushl $after_iret; iret; after_iret: nop; cli" : : :
	    "memory", "cc");
	check_place("iret_lets_it_in_at_once", after_iret);
}

static void
check_halt(void)
{
	listen();
	irq_unmask(IRQ_TIMER);
	pit_once(2000);
	__asm__ volatile("sti; hlt; after_hlt: cli" : : : "memory");
	check_place("hlt_wakes_behind_itself", after_hlt);
	check_equal("hlt_is_woken_by_the_timer", (uint32_t)taken[0].irq, IRQ_TIMER);
	/* A request that is there already: HLT does not even begin to wait. */
	pending();
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	check_equal("hlt_with_a_pending_request_goes_on", taken_count, 1);
}

static uint32_t
in_ring3(uint32_t unused)
{
	uint32_t spin;

	(void)unused;
	for (spin = 0; spin < 100000000 && !taken_count; spin++)
		;
	return read_eflags();
}

/* An interrupt out of ring 3 switches to the stack of ring 0 and comes back with IF as it was. */
static void
check_outer_ring(void)
{
	uint32_t eflags;

	pending();
	eflags = ring_call_flags(3, in_ring3, 0, EFL_IF);
	check_equal("interrupt_out_of_ring3_is_taken", taken_count, 1);
	check("ring3_has_its_if_back", eflags & EFL_IF, "EFLAGS %x", eflags);
}

void
check_shadows(void)
{
	check_sti();
	check_stack_segment();
	check_flags();
	check_halt();
	check_outer_ring();
}
