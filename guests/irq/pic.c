/*
 * pic.c -- the 8259A: masks, requests, service, and the ways to end it.  [Intel 8259A data sheet]
 */
#include "parts.h"

static void
check_masks(void)
{
	listen();
	out8(PIC_MASTER + 1, 0xA5);
	check_equal("mask_reads_back", in8(PIC_MASTER + 1), 0xA5);
	listen();

	raise_serial();
	open_window();
	check_equal("masked_request_waits", taken_count, 0);
	check("masked_request_shows_in_irr", pic_irr() & 1 << IRQ_COM1, "IRR %x", pic_irr());
	irq_unmask(IRQ_COM1);
	check_equal("request_waits_for_if", taken_count, 0);
	open_window();
	check_equal("unmasked_request_is_taken", taken_count, 1);
	check_equal("vector_is_base_plus_irq", (uint32_t)taken[0].irq, IRQ_COM1);
	check_equal("in_service_while_handled", taken[0].in_service, 1 << IRQ_COM1);
	check("interrupt_gate_clears_if", !taken[0].interrupts_enabled, "IF is set in the handler");
	check("interrupted_flags_have_if", taken[0].eflags & EFL_IF, "EFLAGS %x", taken[0].eflags);
	check_equal("eoi_ends_service", pic_isr(), 0);
	check("request_is_gone", !(pic_irr() & 1 << IRQ_COM1), "IRR %x", pic_irr());
}

static void
check_trap_gate(void)
{
	uint64_t saved = idt[VEC_IRQ + IRQ_COM1];

	listen();
	idt[VEC_IRQ + IRQ_COM1] = gate(KERNEL_CS, trap_stub(VEC_IRQ + IRQ_COM1), TYPE_TRAP32, 0, 0);
	irq_unmask(IRQ_COM1);
	raise_serial();
	open_window();
	check("trap_gate_keeps_if", taken_count == 1 && taken[0].interrupts_enabled, "%u taken", taken_count);
	idt[VEC_IRQ + IRQ_COM1] = saved;
}

static void
check_end_of_interrupt(void)
{
	/* Without EOI the same line and all below stay shut. */
	listen();
	irq_unmask(IRQ_COM1);
	behaviour[IRQ_COM1].no_eoi = true;
	raise_serial();
	open_window();
	raise_serial();
	open_window();
	check_equal("no_eoi_shuts_the_line", taken_count, 1);
	check_equal("no_eoi_stays_in_service", pic_isr(), 1 << IRQ_COM1);
	behaviour[IRQ_COM1].no_eoi = false;
	out8(PIC_MASTER, OCW2_EOI);
	open_window();
	check_equal("nonspecific_eoi_opens_it", taken_count, 2);
	check_equal("nonspecific_eoi_ends_service", pic_isr(), 0);

	listen();
	irq_unmask(IRQ_COM1);
	behaviour[IRQ_COM1].no_eoi = true;
	raise_serial();
	open_window();
	out8(PIC_MASTER, OCW2_SPECIFIC_EOI | IRQ_TIMER);
	check_equal("specific_eoi_ends_its_own_only", pic_isr(), 1 << IRQ_COM1);

	listen();
	pic_init_mode(ICW4_8086 | ICW4_AEOI);
	irq_unmask(IRQ_COM1);
	behaviour[IRQ_COM1].no_eoi = true;
	raise_serial();
	open_window();
	check("automatic_eoi_leaves_nothing_in_service", taken_count == 1 && !taken[0].in_service, "%u taken, ISR %x",
	    taken_count, taken[0].in_service);
}

/* A poll is an acknowledgement by software.  No printing in between: each character sent would raise the line again. */
static void
check_poll(void)
{
	uint8_t idle, answer, in_service;

	listen();
	irq_unmask(IRQ_COM1);
	out8(PIC_MASTER, OCW3_POLL);
	idle = in8(PIC_MASTER);
	raise_serial();
	out8(PIC_MASTER, OCW3_POLL);
	answer = in8(PIC_MASTER);
	in_service = pic_isr();
	drop_serial();
	out8(PIC_MASTER, OCW2_EOI);
	open_window();
	check("poll_without_request", !(idle & 0x80), "answer %x", idle);
	check_equal("poll_names_the_request", answer, 0x80 | IRQ_COM1);
	check_equal("poll_acknowledges", in_service, 1 << IRQ_COM1);
	check_equal("polled_request_is_not_taken_again", taken_count, 0);
}

/* A request that vanishes before it is acknowledged is either not seen at all, or as IRQ 7 with no bit in service. */
static void
check_spurious(void)
{
	bool ok;

	listen();
	irq_unmask(IRQ_COM1);
	irq_unmask(IRQ_SPURIOUS);
	behaviour[IRQ_SPURIOUS].no_eoi = true;
	raise_serial();
	drop_serial();
	open_window();
	ok = !taken_count || (taken_count == 1 && taken[0].irq == IRQ_SPURIOUS &&
	    !(taken[0].in_service & 1 << IRQ_SPURIOUS));
	check_silicon("vanished_request_is_spurious", ok, "keeps an edge although its line has fallen");
	pic_init();
}

void
check_pic(void)
{
	check_masks();
	check_trap_gate();
	check_end_of_interrupt();
	check_poll();
	check_spurious();
}
