/*
 * vga.c -- video memory with the planes apart, as in the 16-colour modes.  [IBM PS/2 Hardware Interface Technical
 * Reference, "Sequencer Registers", "Graphics Controller Registers"]
 */
#include "parts.h"

#define SEQUENCER	0x3C4
#define GRAPHICS	0x3CE
#define MAP_MASK	2
#define MEMORY_MODE	4
#define READ_MAP	4
#define MODE		5
#define MISCELLANEOUS	6
#define BIT_MASK	8
#define ALL_PLANES	0x0F
#define WINDOW		((volatile uint8_t *)0xA0000)
#define WINDOW_BYTES	0x10000u

struct setting {
	uint16_t port;
	uint8_t index, value;
};

/* Four planes side by side at A0000, reads and writes as they are. */
static struct setting planar[] = {
	{ SEQUENCER, MAP_MASK, ALL_PLANES },
	{ SEQUENCER, MEMORY_MODE, 0x06 },	/* 256 KiB, neither odd/even nor chain 4 */
	{ GRAPHICS, READ_MAP, 0 },
	{ GRAPHICS, MODE, 0 },
	{ GRAPHICS, MISCELLANEOUS, 0x05 },	/* graphics, 64 KiB at A0000 */
	{ GRAPHICS, BIT_MASK, 0xFF },
};
#define SETTINGS	(sizeof(planar) / sizeof(planar[0]))

static uint8_t
read_register(uint16_t port, uint8_t index)
{
	out8(port, index);
	return in8(port + 1);
}

static void
write_register(uint16_t port, uint8_t index, uint8_t value)
{
	out8(port, index);
	out8(port + 1, value);
}

/* Put every register to its setting, and keep there what it was: twice is as if nothing had been. */
static void
exchange(void)
{
	size_t i;

	for (i = 0; i < SETTINGS; i++) {
		uint8_t was = read_register(planar[i].port, planar[i].index);

		write_register(planar[i].port, planar[i].index, planar[i].value);
		planar[i].value = was;
	}
}

static bool
planes_are_apart(void)
{
	bool apart = true;
	uint8_t plane;

	for (plane = 0; plane < 4; plane++) {
		write_register(SEQUENCER, MAP_MASK, (uint8_t)(1 << plane));
		*WINDOW = (uint8_t)(0x11 << plane);
	}
	for (plane = 0; plane < 4; plane++) {
		write_register(GRAPHICS, READ_MAP, plane);
		apart = apart && *WINDOW == (uint8_t)(0x11 << plane);
	}
	write_register(SEQUENCER, MAP_MASK, ALL_PLANES);
	write_register(GRAPHICS, READ_MAP, 0);
	return apart;
}

void
measure_vga(uint32_t count)
{
	uint32_t i, sum = 0;
	uint64_t start;

	exchange();
	if (read_register(SEQUENCER, MAP_MASK) != ALL_PLANES || read_register(GRAPHICS, MISCELLANEOUS) != 0x05) {
		skip("vga", "there is no VGA");
		return;
	}
	check("planes_are_apart", planes_are_apart(), "a plane does not keep a byte of its own");
	start = read_tsc();
	for (i = 0; i < count; i++)
		WINDOW[i % WINDOW_BYTES] = 1;
	report("vga_write", count, read_tsc() - start);
	start = read_tsc();
	for (i = 0; i < count; i++)
		sum += WINDOW[i % (count < WINDOW_BYTES ? count : WINDOW_BYTES)];
	report("vga_read", count, read_tsc() - start);
	check_equal("every_stored_byte_is_read", sum, count);
	exchange();
}
