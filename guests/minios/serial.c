/*
 * serial.c -- received characters wait in a ring until the shell takes them.
 *
 * When the ring is full the rest stays in the UART, whose sender then waits.  The timer looks too, so that a character
 * whose interrupt was lost does not stay there for ever.
 */
#include "kernel.h"

#define COM1_IER	0x3F9
#define IER_RECEIVED	0x01
#define RING_SIZE	256u	/* a power of two: the counters may wrap */

static char ring[RING_SIZE];
static uint32_t put, taken;

void
serial_poll(void)
{
	int c;

	while (put - taken < RING_SIZE && (c = get_char()) >= 0)
		ring[put++ % RING_SIZE] = (char)c;
}

static void
received(struct trap_frame *frame)
{
	(void)frame;
	serial_poll();
	irq_eoi(IRQ_COM1);
}

void
serial_init(void)
{
	on_trap(VEC_IRQ + IRQ_COM1, received);
	irq_unmask(IRQ_COM1);
	out8(COM1_IER, IER_RECEIVED);
}

bool
serial_waiting(void)
{
	return put != taken;
}

int
serial_take(void)
{
	return serial_waiting() ? (uint8_t)ring[taken++ % RING_SIZE] : -1;
}

bool
serial_interrupted(void)
{
	uint32_t i;

	for (i = taken; i != put; i++)
		if (ring[i % RING_SIZE] == CTRL_C) {
			taken = i + 1;
			return true;
		}
	return false;
}
