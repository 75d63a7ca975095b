/*
 * interrupts.h -- the 8259A pair and the interrupt rate of the 8254.
 */
#pragma once

#include "x86.h"

#define IRQ_TIMER	0
#define IRQ_CASCADE	2
#define IRQ_COM1	4
#define IRQ_SPURIOUS	7
#define IRQS		16

#define PIT_HZ		1193182u

/* ICW1..ICW4: IRQ 0..15 become vectors 20h..2Fh, everything masked. */
void pic_init(void);
void pic_init_mode(uint8_t icw4);
#define ICW4_8086	0x01
#define ICW4_AEOI	0x02
#define ICW4_SFNM	0x10

void irq_mask(int irq);
void irq_unmask(int irq);
void irq_eoi(int irq);			/* specific, and to the master too for IRQ 8..15 */
uint8_t pic_irr(void);			/* the master's request and in-service registers */
uint8_t pic_isr(void);

#define PIC_MASTER	0x20
#define PIC_SLAVE	0xA0
#define OCW2_EOI	0x20
#define OCW2_SPECIFIC_EOI 0x60
#define OCW2_ROTATE_EOI	0xA0
#define OCW2_SET_PRIORITY 0xC0
#define OCW3_READ_IRR	0x0A
#define OCW3_READ_ISR	0x0B
#define OCW3_POLL	0x0C
#define OCW3_SPECIAL_MASK 0x68
#define OCW3_NORMAL_MASK 0x48

/* Counter 0, mode 2. */
void pit_start(uint32_t hz);
/* Counter 0, mode 0: one interrupt after `count` periods of PIT_HZ. */
void pit_once(uint16_t count);
