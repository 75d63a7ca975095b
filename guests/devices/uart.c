/*
 * uart.c -- a polled register of COM1, and COM2 as a driver sends through it.  [National PC16550D data sheet]
 */
#include "parts.h"

#define COM1		0x3F8
#define COM2		0x2F8
#define THR		0
#define DLL		0
#define DLM		1
#define IER		1
#define FCR		2
#define LCR		3
#define MCR		4
#define LSR		5
#define SCR		7
#define FCR_ENABLE	0x01
#define LCR_8N1		0x03
#define LCR_DLAB	0x80
#define MCR_READY	0x03	/* DTR and RTS */
#define LSR_THRE	0x20
#define FIFO_DEPTH	16
#define SCRATCH		0x5A

static bool
is_there(uint16_t base)
{
	out8(base + SCR, SCRATCH);
	return in8(base + SCR) == SCRATCH;
}

static void
set_up(uint16_t base)
{
	out8(base + IER, 0);
	out8(base + LCR, LCR_DLAB);
	out8(base + DLL, 1);		/* 115200 baud */
	out8(base + DLM, 0);
	out8(base + LCR, LCR_8N1);
	out8(base + FCR, FCR_ENABLE);
	out8(base + MCR, MCR_READY);
}

/* The characters count up from 0, so that what arrives can be told from what was lost. */
static void
send(uint16_t base, uint32_t count)
{
	uint32_t sent;

	for (sent = 0; sent < count; sent++) {
		while (sent % FIFO_DEPTH == 0 && !(in8(base + LSR) & LSR_THRE))
			;
		out8(base + THR, (uint8_t)sent);
	}
}

void
measure_uart(uint32_t count)
{
	uint32_t i, busy = 0;
	uint64_t start;

	while (!(in8(COM1 + LSR) & LSR_THRE))
		;
	start = read_tsc();
	for (i = 0; i < count; i++)
		busy += !(in8(COM1 + LSR) & LSR_THRE);
	report("uart_read", count, read_tsc() - start);
	check_equal("an_idle_transmitter_stays_empty", busy, 0);
	if (!is_there(COM2)) {
		skip("uart_send", "there is no COM2");
		return;
	}
	set_up(COM2);
	start = read_tsc();
	send(COM2, count);
	report("uart_send", count, read_tsc() - start);
}
