/*
 * slave.c -- the second 8259A, through IRQ 2 of the first; its source is the periodic interrupt of the clock, IRQ 8.
 */
#include "parts.h"

#define RTC_INDEX	0x70
#define RTC_DATA	0x71
#define RTC_A		0x0A
#define RTC_B		0x0B
#define RTC_C		0x0C
#define RTC_D		0x0D
#define RTC_VALID	0x80	/* in D: the battery is good */
#define RTC_1024HZ	0x26
#define RTC_PIE		0x40
#define IRQ_RTC		8
#define WAIT_BOUND	10000000u

static uint8_t
rtc_read(uint8_t index)
{
	out8(RTC_INDEX, index);
	return in8(RTC_DATA);
}

static void
rtc_write(uint8_t index, uint8_t value)
{
	out8(RTC_INDEX, index);
	out8(RTC_DATA, value);
}

static uint8_t slave_isr, master_isr;

static void
handle_rtc(struct trap_frame *frame)
{
	(void)frame;
	taken_count++;
	out8(PIC_SLAVE, OCW3_READ_ISR);
	slave_isr = in8(PIC_SLAVE);
	master_isr = pic_isr();
	rtc_write(RTC_B, rtc_read(RTC_B) & (uint8_t)~RTC_PIE);
	rtc_read(RTC_C);
	irq_eoi(IRQ_RTC);
}

void
check_slave(void)
{
	uint32_t spin;
	uint8_t b;

	if (rtc_read(RTC_D) != RTC_VALID) {
		skip("slave_pic", "there is no clock to raise IRQ 8");
		return;
	}
	listen();
	on_trap(VEC_IRQ + IRQ_RTC, handle_rtc);
	irq_unmask(IRQ_RTC);
	b = rtc_read(RTC_B);
	rtc_write(RTC_A, RTC_1024HZ);
	rtc_read(RTC_C);
	rtc_write(RTC_B, b | RTC_PIE);
	for (spin = 0; spin < WAIT_BOUND && !taken_count; spin++)
		open_window();
	rtc_write(RTC_B, b);
	check_equal("slave_request_is_taken", taken_count, 1);
	check_equal("slave_is_in_service", slave_isr, 1 << (IRQ_RTC - 8));
	check_equal("master_serves_the_cascade", master_isr, 1 << IRQ_CASCADE);
	out8(PIC_SLAVE, OCW3_READ_ISR);
	check("both_eois_end_service", !in8(PIC_SLAVE) && !pic_isr(), "master ISR %x", pic_isr());
}
