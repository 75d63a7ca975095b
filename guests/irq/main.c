/*
 * irq -- from a device's line through the 8259A to a handler, and when the processor lets it through.
 */
#include "parts.h"

#define COM1_IER	0x3F9
#define COM1_IIR	0x3FA
#define COM1_LSR	0x3FD
#define IER_TRANSMIT	0x02
#define LSR_IDLE	0x60
#define WAIT_BOUND	10000000u
#define SOON		200	/* periods of the 8254 */

struct taken taken[MAX_TAKEN];
volatile uint32_t taken_count;
struct behaviour behaviour[IRQS];

static int depth;

static void
handle(struct trap_frame *frame)
{
	int irq = (int)frame->vector - VEC_IRQ;
	struct taken *entry = &taken[taken_count < MAX_TAKEN ? taken_count : MAX_TAKEN - 1];

	*entry = (struct taken){
		.irq = irq, .depth = depth, .eip = frame->eip, .eflags = frame->eflags, .in_service = pic_isr(),
		.interrupts_enabled = read_eflags() & EFL_IF,
	};
	taken_count++;
	depth++;
	if (irq == IRQ_COM1)
		drop_serial();
	if (behaviour[irq].nest) {
		interrupts_on();
		__asm__ volatile("nop");
		interrupts_off();
	}
	if (behaviour[irq].eoi)
		out8(PIC_MASTER, behaviour[irq].eoi);
	else if (!behaviour[irq].no_eoi)
		irq_eoi(irq);
	depth--;
}

void
listen(void)
{
	int irq;

	for (irq = 0; irq < IRQS; irq++) {
		on_trap(VEC_IRQ + irq, handle);
		behaviour[irq] = (struct behaviour){ 0 };
	}
	memset(taken, 0, sizeof(taken));
	taken_count = 0;
	pic_init();
}

static void
wait_for_request(int irq)
{
	uint32_t spin;

	for (spin = 0; spin < WAIT_BOUND; spin++)
		if (pic_irr() & 1 << irq)
			return;
	stop("device_raises_its_line", "IRQ %d does not come", irq);
}

void
raise_timer(void)
{
	pit_once(SOON);
	wait_for_request(IRQ_TIMER);
}

void
raise_serial(void)
{
	uint32_t spin;

	drop_serial();			/* an edge needs a line that was low */
	for (spin = 0; spin < WAIT_BOUND && (in8(COM1_LSR) & LSR_IDLE) != LSR_IDLE; spin++)
		;
	out8(COM1_IER, IER_TRANSMIT);
	wait_for_request(IRQ_COM1);
}

void
drop_serial(void)
{
	out8(COM1_IER, 0);
	in8(COM1_IIR);
}

void
open_window(void)
{
	interrupts_on();
	__asm__ volatile("nop; nop");
	interrupts_off();
}

void
guest_main(void)
{
	listen();
	check_pic();
	check_priorities();
	check_slave();
	check_shadows();
	check_timer();
}
