/*
 * main.c -- every SCSI adapter on bus 0 that a driver here knows, one after the other, driven by its interrupt.
 */
#include "parts.h"

#define TICK_HZ		100
#define LIMIT_TICKS	(60 * TICK_HZ)

static struct adapter adapter;
static volatile uint32_t ticks, interrupts;

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
	adapter.driver->collect();
	irq_eoi(adapter.irq);
}

/* Interrupts are off, but for while we wait. */
bool
wait_until(bool (*condition)(const void *), const void *argument)
{
	uint32_t start = ticks;

	while (!condition(argument) && ticks - start < LIMIT_TICKS) {
		if (adapter.irq < 0)
			adapter.driver->collect();
		if (!condition(argument))
			wait_for_interrupt();
	}
	return condition(argument);
}

static bool
is_over(const void *argument)
{
	const struct request *request = argument;

	return request->outcome != OUTCOME_PENDING;
}

/* Hand a request to the driver, unless that has been done. */
void
begin(struct request *request)
{
	if (!request->begun) {
		request->begun = true;
		adapter.driver->begin(request);
	}
}

/* And wait for its end. */
void
run(struct request *request)
{
	begin(request);
	if (!wait_until(is_over, request))
		stop("request_ends", "%s: command %x to target %u has not ended", adapter.driver->name, request->cdb[0],
		    request->target);
}

static void
try_adapter(void)
{
	print("%s at %x.%x, ports %x, IRQ %d\n", adapter.driver->name, adapter.function >> 3, adapter.function & 7,
	    adapter.io, adapter.irq);
	interrupts = 0;
	if (adapter.irq >= 0) {
		on_trap(VEC_IRQ + adapter.irq, handle_interrupt);
		irq_unmask(adapter.irq);
	}
	check_adapter(&adapter);
	if (adapter.irq >= 0) {
		irq_mask(adapter.irq);
		check("adapter_interrupts", interrupts > 0, "%s never did", adapter.driver->name);
	}
}

void
guest_main(void)
{
	uint32_t function = 0, found = 0, bridge = pci_read(0, 0);

	on_trap(VEC_IRQ + IRQ_TIMER, handle_tick);
	irq_unmask(IRQ_TIMER);
	pit_start(TICK_HZ);
	check("pci_answers", bridge != 0 && bridge != 0xFFFFFFFF, "function 0 of bus 0 reads %x", bridge);
	for (; find_adapter(&function, &adapter); found++)
		try_adapter();
	if (found)
		print("%u SCSI adapters\n", found);
	else
		print("no SCSI adapter was found, so none was tried: ringfence run scsi --scsi FILE gives the machine one\n");
	if (option_number("adapters", found) != found)
		fail("adapters_are_there", "there are %u", found);
}
