/*
 * priorities.c -- which request first, and which may interrupt which.
 *
 * IRQ 0 is the highest until the priorities are rotated.
 */
#include "parts.h"

static void
raise_both(void)
{
	listen();
	irq_unmask(IRQ_TIMER);
	irq_unmask(IRQ_COM1);
	raise_serial();
	raise_timer();
}

static void
check_order(const char *name, int first, int second)
{
	check(name, taken_count == 2 && taken[0].irq == first && taken[1].irq == second, "%u taken: IRQ %d, IRQ %d",
	    taken_count, taken[0].irq, taken[1].irq);
}

static void
check_nesting(void)
{
	/* Two handlers that enable interrupts before EOI: the timer's must not be interrupted by COM1. */
	raise_both();
	behaviour[IRQ_TIMER].nest = true;
	open_window();
	check_order("higher_request_comes_first", IRQ_TIMER, IRQ_COM1);
	check("lower_request_waits_for_eoi", taken[1].depth == 0, "depth %d", taken[1].depth);
}

static volatile bool timer_in_handler;

/* COM1's handler raises the timer itself, then enables interrupts. */
static void
serial_raises_timer(struct trap_frame *frame)
{
	(void)frame;
	drop_serial();
	raise_timer();
	timer_in_handler = false;
	interrupts_on();
	__asm__ volatile("nop; nop");
	interrupts_off();
	timer_in_handler = taken_count == 1 && taken[0].irq == IRQ_TIMER &&
	    taken[0].in_service == (1 << IRQ_TIMER | 1 << IRQ_COM1);
	irq_eoi(IRQ_COM1);
}

static void
check_preemption(void)
{
	listen();
	irq_unmask(IRQ_COM1);
	irq_unmask(IRQ_TIMER);
	on_trap(VEC_IRQ + IRQ_COM1, serial_raises_timer);
	raise_serial();
	open_window();
	check("higher_request_nests", timer_in_handler, "%u taken, ISR %x", taken_count, taken[0].in_service);
	check_equal("nested_service_ends", pic_isr(), 0);
}

static void
check_rotation(void)
{
	raise_both();
	out8(PIC_MASTER, OCW2_SET_PRIORITY | IRQ_TIMER);	/* IRQ 0 becomes the lowest, IRQ 1 the highest */
	open_window();
	check_order("set_priority_makes_irq0_lowest", IRQ_COM1, IRQ_TIMER);

	/* Rotation on EOI: who was served becomes the lowest. */
	raise_both();
	behaviour[IRQ_TIMER].eoi = OCW2_ROTATE_EOI;
	open_window();
	check_order("before_rotation_irq0_is_first", IRQ_TIMER, IRQ_COM1);
	taken_count = 0;
	raise_serial();
	raise_timer();
	behaviour[IRQ_TIMER].eoi = 0;
	open_window();
	check_order("rotated_irq0_is_last", IRQ_COM1, IRQ_TIMER);
}

/* Special mask mode: while IRQ 0 is in service and masked, lower requests get in. */
static void
check_special_mask(void)
{
	listen();
	irq_unmask(IRQ_TIMER);
	irq_unmask(IRQ_COM1);
	behaviour[IRQ_TIMER].no_eoi = true;
	raise_timer();
	open_window();
	raise_serial();
	open_window();
	check_equal("lower_request_waits_for_service", taken_count, 1);
	out8(PIC_MASTER, OCW3_SPECIAL_MASK);
	irq_mask(IRQ_TIMER);
	open_window();
	check_equal("special_mask_lets_lower_requests_in", taken_count, 2);
	out8(PIC_MASTER, OCW3_NORMAL_MASK);
	pic_init();
}

void
check_priorities(void)
{
	check_nesting();
	check_preemption();
	check_rotation();
	check_special_mask();
}
