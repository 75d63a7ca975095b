/*
 * memory.c -- the string functions the compiler expects, pages above the image, the loader's command line.
 */
#include "memory.h"
#include "report.h"
#include "x86.h"

#define MULTIBOOT_LOADED	0x2BADB002u
#define INFO_MEMORY		(1u << 0)
#define INFO_CMDLINE		(1u << 2)
#define DEFAULT_BYTES		(8u << 20)	/* when the loader says nothing */

struct multiboot_info {
	uint32_t flags, mem_lower_kib, mem_upper_kib, boot_device, cmdline;
};

extern char image_end[];

static uint32_t next_page, end_of_memory = DEFAULT_BYTES;
static char cmdline[256];

void *
memcpy(void *to, const void *from, size_t size)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return start;
}

void *
memmove(void *to, const void *from, size_t size)
{
	char *t = to;
	const char *f = from;

	if (t <= f)
		return memcpy(to, from, size);
	while (size--)
		t[size] = f[size];
	return to;
}

void *
memset(void *to, int byte, size_t size)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
	return start;
}

int
memcmp(const void *a, const void *b, size_t size)
{
	const uint8_t *x = a, *y = b;
	size_t i;

	for (i = 0; i < size; i++)
		if (x[i] != y[i])
			return x[i] - y[i];
	return 0;
}

size_t
strlen(const char *text)
{
	size_t length = 0;

	while (text[length])
		length++;
	return length;
}

int
strcmp(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return (uint8_t)*a - (uint8_t)*b;
}

int
strncmp(const char *a, const char *b, size_t size)
{
	for (; size; size--, a++, b++)
		if (*a != *b || !*a)
			return (uint8_t)*a - (uint8_t)*b;
	return 0;
}

void
memory_init(uint32_t multiboot_magic, const void *multiboot_info)
{
	const struct multiboot_info *info = multiboot_info;
	const char *text;
	size_t i;

	next_page = (uint32_t)image_end;
	if (multiboot_magic != MULTIBOOT_LOADED)
		return;
	if (info->flags & INFO_MEMORY)
		end_of_memory = 0x100000 + info->mem_upper_kib * 1024;
	if (!(info->flags & INFO_CMDLINE) || !info->cmdline)
		return;
	text = (const char *)info->cmdline;	/* copied: the loader's memory is not reserved */
	for (i = 0; i < sizeof(cmdline) - 1 && text[i]; i++)
		cmdline[i] = text[i];
}

uint32_t
memory_bytes(void)
{
	return end_of_memory;
}

void *
allocate_pages(uint32_t count)
{
	void *page = (void *)next_page;

	if (count > (end_of_memory - next_page) / PAGE_SIZE)
		stop("enough_memory", "%u pages wanted, the machine has %u KiB", count, end_of_memory / 1024);
	next_page += count * PAGE_SIZE;
	return memset(page, 0, count * PAGE_SIZE);
}

uint32_t
allocated_bytes(void)
{
	return next_page - (uint32_t)image_end;
}

const char *
command_line(void)
{
	return cmdline;
}

/* The text after `name` where it begins a word, or a null pointer. */
static const char *
find_word(const char *name)
{
	const char *text;
	size_t length = strlen(name);

	for (text = cmdline; *text; text++)
		if ((text == cmdline || text[-1] == ' ') && !strncmp(text, name, length))
			return text + length;
	return NULL;
}

bool
has_option(const char *word)
{
	const char *rest = find_word(word);

	return rest && (*rest == ' ' || !*rest);
}

bool
option_is(const char *name, const char *text, bool otherwise)
{
	const char *rest = find_word(name);
	size_t length = strlen(text);

	if (!rest || *rest != '=')
		return otherwise;
	return !strncmp(rest + 1, text, length) && (rest[1 + length] == ' ' || !rest[1 + length]);
}

uint32_t
option_number(const char *name, uint32_t otherwise)
{
	const char *rest = find_word(name);
	uint32_t number = 0;

	if (!rest || *rest != '=' || rest[1] < '0' || rest[1] > '9')
		return otherwise;
	for (rest++; *rest >= '0' && *rest <= '9'; rest++)
		number = number * 10 + (uint32_t)(*rest - '0');
	return number;
}
