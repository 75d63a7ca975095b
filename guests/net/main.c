/*
 * main.c -- every network adapter on bus 0 that a driver here knows, one after the other, driven by its interrupt.
 */
#include "parts.h"

#define LIMIT_TICKS	(10 * TICK_HZ)

static struct adapter *current;
static volatile uint32_t ticks, interrupts;

struct kept_frame *kept;
volatile uint32_t frames_in;
void (*taker)(const uint8_t *frame, uint32_t bytes);

static void
handle_tick(struct trap_frame *frame)
{
	(void)frame;
	ticks++;
	irq_eoi(IRQ_TIMER);
}

static void
handle_interrupt(struct trap_frame *frame)
{
	(void)frame;
	interrupts++;
	current->driver->collect();
	irq_eoi(current->irq);
}

void
drive(struct adapter *adapter)
{
	current = adapter;
	interrupts = 0;
	frames_in = 0;
	if (adapter->irq >= 0) {
		on_trap(VEC_IRQ + adapter->irq, handle_interrupt);
		irq_unmask(adapter->irq);
	}
}

uint32_t
interrupts_seen(void)
{
	return interrupts;
}

void
frame_came(const void *frame, uint32_t bytes)
{
	struct kept_frame *place = &kept[frames_in % FRAMES_KEPT];

	if (taker) {
		taker(frame, bytes);
		return;
	}
	place->bytes = bytes;
	memcpy(place->data, frame, bytes < BUFFER_BYTES ? bytes : BUFFER_BYTES);
	frames_in++;
}

uint32_t
now_ticks(void)
{
	return ticks;
}

/* Interrupts are off, but for here and while we wait. */
void
let_interrupts_in(void)
{
	interrupts_on();
	__asm__ volatile("nop" ::: "memory");	/* they are taken behind the instruction after STI */
	interrupts_off();
}

bool
wait_until(bool (*condition)(const void *), const void *argument)
{
	uint32_t start = ticks;

	while (!condition(argument) && ticks - start < LIMIT_TICKS) {
		if (current->irq < 0)
			current->driver->collect();
		if (!condition(argument))
			wait_for_interrupt();
	}
	return condition(argument);
}

void
guest_main(void)
{
	uint32_t function = 0, found = 0, bridge = pci_read(0, 0);
	static struct adapter adapter;

	kept = allocate_pages((FRAMES_KEPT * sizeof *kept + PAGE_SIZE - 1) / PAGE_SIZE);
	on_trap(VEC_IRQ + IRQ_TIMER, handle_tick);
	irq_unmask(IRQ_TIMER);
	pit_start(TICK_HZ);
	check("pci_answers", bridge != 0 && bridge != 0xFFFFFFFF, "function 0 of bus 0 reads %x", bridge);
	if (has_role()) {
		if (check("there_is_an_adapter", find_adapter(&function, &adapter), "none that a driver here knows"))
			play_role(&adapter);
		return;
	}
	for (; find_adapter(&function, &adapter); found++) {
		print("%s at %x.%x, ports %x, IRQ %d\n", adapter.driver->name, adapter.function >> 3, adapter.function & 7,
		    adapter.io, adapter.irq);
		check_adapter(&adapter);
		if (adapter.irq >= 0)
			irq_mask(adapter.irq);
	}
	print("%u network adapters\n", found);
	if (option_number("adapters", found) != found)
		fail("adapters_are_there", "there are %u", found);
}
