/*
 * parts.h -- the parts of this guest, and its two interrupt sources.
 *
 * IRQ 0 is raised by the timer, IRQ 4 by COM1 when its transmit interrupt is enabled while it has nothing to send.
 */
#pragma once

#include "guest.h"

/* One interrupt taken: where it came from, what it interrupted, what the PIC said. */
struct taken {
	int irq;
	int depth;		/* how many were being served already */
	uint32_t eip, eflags;
	uint8_t in_service;
	bool interrupts_enabled;	/* in the handler, as it was entered */
};

#define MAX_TAKEN 16
extern struct taken taken[MAX_TAKEN];
extern volatile uint32_t taken_count;

/* What a handler does beside recording. */
struct behaviour {
	bool nest;		/* STI before EOI */
	bool no_eoi;
	uint8_t eoi;		/* 0: specific; else this OCW2 */
};
extern struct behaviour behaviour[IRQS];

void listen(void);		/* forget what was taken, default behaviour, handlers in place, all masked */
void raise_timer(void);		/* IRQ 0, and wait until the PIC has it */
void raise_serial(void);	/* IRQ 4 */
void drop_serial(void);
/* Let what is pending come. */
void open_window(void);

void check_pic(void);
void check_priorities(void);
void check_slave(void);
void check_shadows(void);
void check_timer(void);
