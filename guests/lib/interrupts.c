/*
 * interrupts.c -- the 8259A pair and counter 0 of the 8254.  [Intel 8259A and 8254 data sheets]
 */
#include "interrupts.h"

#define ICW1_INIT	0x11	/* edge triggered, cascade, ICW4 follows */
#define PIT_COUNTER0	0x40
#define PIT_CONTROL	0x43
#define PIT_MODE2	0x34	/* counter 0, low byte then high byte, rate generator */
#define PIT_MODE0	0x30	/* counter 0, low byte then high byte, interrupt on terminal count */

void
pic_init_mode(uint8_t icw4)
{
	out8(PIC_MASTER, ICW1_INIT);
	out8(PIC_SLAVE, ICW1_INIT);
	out8(PIC_MASTER + 1, VEC_IRQ);
	out8(PIC_SLAVE + 1, VEC_IRQ + 8);
	out8(PIC_MASTER + 1, 1 << IRQ_CASCADE);
	out8(PIC_SLAVE + 1, IRQ_CASCADE);
	out8(PIC_MASTER + 1, icw4);
	out8(PIC_SLAVE + 1, ICW4_8086);
	out8(PIC_MASTER + 1, 0xFF & ~(1 << IRQ_CASCADE));
	out8(PIC_SLAVE + 1, 0xFF);
}

void
pic_init(void)
{
	pic_init_mode(ICW4_8086);
}

static uint16_t
mask_port(int irq)
{
	return irq < 8 ? PIC_MASTER + 1 : PIC_SLAVE + 1;
}

void
irq_mask(int irq)
{
	out8(mask_port(irq), in8(mask_port(irq)) | (uint8_t)(1 << (irq & 7)));
}

void
irq_unmask(int irq)
{
	out8(mask_port(irq), in8(mask_port(irq)) & (uint8_t)~(1 << (irq & 7)));
}

void
irq_eoi(int irq)
{
	if (irq >= 8) {
		out8(PIC_SLAVE, (uint8_t)(OCW2_SPECIFIC_EOI | (irq & 7)));
		irq = IRQ_CASCADE;
	}
	out8(PIC_MASTER, (uint8_t)(OCW2_SPECIFIC_EOI | irq));
}

uint8_t
pic_irr(void)
{
	out8(PIC_MASTER, OCW3_READ_IRR);
	return in8(PIC_MASTER);
}

uint8_t
pic_isr(void)
{
	out8(PIC_MASTER, OCW3_READ_ISR);
	return in8(PIC_MASTER);
}

static void
pit_load(uint8_t mode, uint32_t count)
{
	out8(PIT_CONTROL, mode);
	out8(PIT_COUNTER0, (uint8_t)count);
	out8(PIT_COUNTER0, (uint8_t)(count >> 8));
}

void
pit_start(uint32_t hz)
{
	pit_load(PIT_MODE2, PIT_HZ / hz);
}

void
pit_once(uint16_t count)
{
	pit_load(PIT_MODE0, count);
}
