/*
 * devices -- what a guest gets out of devices that the processor must ask: each access is an exit of a virtual machine.
 *
 *	DEVICE name operations ns
 *
 *	uart_read	reads of COM1's line status register, as a polling driver makes them
 *	uart_send	characters that go through the FIFO of COM2: one poll for every sixteen
 *	vga_read	loads of a byte from video memory where four planes have to be worked out
 *	vga_write	stores of a byte there
 *	cdrom_dma	bytes that the CD-ROM drive's bus master puts into memory, 64 KiB with each command
 */
#include "parts.h"

#define USUAL_COUNT	20000u
#define QUICK_COUNT	1000u

void
report(const char *name, uint64_t operations, uint64_t cycles)
{
	uint64_t ns = cycles_to_ns(cycles);

	print("DEVICE %s %llu %llu\n", name, operations, ns + !ns);
}

void
guest_main(void)
{
	uint32_t count = option_number("count", has_option("quick") ? QUICK_COUNT : USUAL_COUNT);

	count += !count;
	tsc_khz();
	measure_uart(count);
	measure_vga(count);
	if (has_option("cdrom"))
		measure_cdrom(count);
}
