/*
 * console.c -- COM1, a 16550A at 3F8h, polled; and print().
 *
 * The line is set up from scratch because no BIOS need have run.  A missing UART must not stop a guest, so the wait
 * for the transmitter has a bound.
 */
#include "console.h"
#include "x86.h"

#define COM1		0x3F8
#define THR		(COM1 + 0)
#define RBR		(COM1 + 0)
#define DLL		(COM1 + 0)
#define DLM		(COM1 + 1)
#define IER		(COM1 + 1)
#define LCR		(COM1 + 3)
#define MCR		(COM1 + 4)
#define LSR		(COM1 + 5)
#define LCR_8N1		0x03
#define LCR_DLAB	0x80
#define MCR_READY	0x0B	/* DTR, RTS, and OUT2, which gates the interrupt */
#define LSR_DR		0x01
#define LSR_THRE	0x20
#define SPIN_BOUND	1000000

/*
 * FCR is left alone: turning the FIFOs on empties them, and with them would go what was typed, or piped in, before the
 * guest began.
 */
void
console_init(void)
{
	out8(IER, 0);
	out8(LCR, LCR_DLAB);
	out8(DLL, 1);		/* 115200 baud */
	out8(DLM, 0);
	out8(LCR, LCR_8N1);
	out8(MCR, MCR_READY);
}

static void
transmit(char c)
{
	int spin;

	for (spin = 0; spin < SPIN_BOUND && !(in8(LSR) & LSR_THRE); spin++)
		;
	out8(THR, (uint8_t)c);
}

void
put_char(char c)
{
	if (c == '\n')
		transmit('\r');
	transmit(c);
}

void
put_text(const char *text)
{
	while (*text)
		put_char(*text++);
}

int
get_char(void)
{
	return in8(LSR) & LSR_DR ? in8(RBR) : -1;
}

static void
put_padding(int count, char pad)
{
	while (count-- > 0)
		put_char(pad);
}

static void
put_number(uint64_t value, unsigned base, bool negative, int width, char pad)
{
	char digits[24];
	int length = 0;

	do {
		digits[length++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	if (negative && pad == '0')
		put_char('-');
	put_padding(width - length - negative, pad);
	if (negative && pad != '0')
		put_char('-');
	while (length)
		put_char(digits[--length]);
}

static void
put_string(const char *text, int width, bool left)
{
	int length = 0;

	while (text[length])
		length++;
	if (!left)
		put_padding(width - length, ' ');
	put_text(text);
	if (left)
		put_padding(width - length, ' ');
}

void
vprint(const char *format, va_list args)
{
	for (; *format; format++) {
		char pad = ' ';
		bool left = false;
		int width = 0, longs = 0;
		uint64_t value;

		if (*format != '%') {
			put_char(*format);
			continue;
		}
		for (format++; *format == '-' || *format == '0'; format++) {
			left |= *format == '-';
			pad = *format == '0' ? '0' : pad;
		}
		for (; *format >= '0' && *format <= '9'; format++)
			width = width * 10 + (*format - '0');
		for (; *format == 'l'; format++)
			longs++;
		switch (*format) {
		case 'c':
			put_char((char)va_arg(args, int));
			break;
		case 's':
			put_string(va_arg(args, const char *), width, left);
			break;
		case 'd': {
			int64_t number = longs >= 2 ? va_arg(args, int64_t) : va_arg(args, int32_t);

			value = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
			put_number(value, 10, number < 0, width, pad);
			break;
		}
		case 'u':
		case 'x':
			value = longs >= 2 ? va_arg(args, uint64_t) : va_arg(args, uint32_t);
			put_number(value, *format == 'u' ? 10 : 16, false, width, pad);
			break;
		case 'p':
			put_number((uintptr_t)va_arg(args, void *), 16, false, 8, '0');
			break;
		case '%':
			put_char('%');
			break;
		default:
			return;
		}
	}
}

void
print(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprint(format, args);
	va_end(args);
}
