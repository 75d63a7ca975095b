/*
 * main.c -- what INT 13h does with the disk that this was booted from.  Output on COM1; ends like the other guests.
 * [Enhanced Disk Drive specification 1.1; IBM PC AT technical reference, BIOS listing, INT 13h]
 */
#include "parts.h"

#define COM1		0x3F8
#define LSR		5
#define LSR_EMPTY	0x20
#define EXIT_PORT	0xF4

#define RESET		0x00
#define LAST_STATUS	0x01
#define READ		0x02
#define WRITE		0x03
#define VERIFY		0x04
#define PARAMETERS	0x08
#define READY		0x10
#define RECALIBRATE	0x11
#define KIND		0x15
#define EXTENSIONS	0x41
#define READ_LBA	0x42
#define WRITE_LBA	0x43
#define VERIFY_LBA	0x44
#define SEEK_LBA	0x47
#define LBA_PARAMETERS	0x48
#define NO_FUNCTION	0x6B
#define BAD_COMMAND	0x01
#define FIXED_DISK	3
#define BDA_DISKS	0x475

#define BUFFER		0xD000u		/* 16 sectors */
#define FAR_SEGMENT	0x2000u
#define MANY		127		/* the most that one packet may ask for */
#define SOME		1000
#define WRITE_AT	5000
#define WRITTEN		5

struct packet {
	uint8_t size, reserved;
	uint16_t count, offset, segment;
	uint32_t lba, lba_high;
};

struct lba_parameters {
	uint16_t size, flags;
	uint32_t cylinders, heads, track, sectors, sectors_high;
	uint16_t sector_bytes;
	uint8_t more[46];
} __attribute__((packed));

static uint32_t passed, failed;
static uint32_t heads, track, disk_sectors;
static struct packet packet;
static struct lba_parameters about;
static struct registers r;

uint8_t
in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

void
out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void
put_char(char character)
{
	while (!(in8(COM1 + LSR) & LSR_EMPTY))
		;
	out8(COM1, (uint8_t)character);
}

static void
put_text(const char *text)
{
	while (*text)
		put_char(*text++);
}

static void
put_number(uint32_t value, uint32_t base)
{
	if (value >= base)
		put_number(value / base, base);
	put_char("0123456789abcdef"[value % base]);
}

static void
check(const char *name, bool ok)
{
	put_text(ok ? "PASS " : "FAIL ");
	put_text(name);
	if (ok) {
		passed++;
	} else {
		failed++;
		put_text(": AX ");
		put_number(r.eax & 0xFFFF, 16);
		put_text(", BX ");
		put_number(r.ebx & 0xFFFF, 16);
		put_text(", CX ");
		put_number(r.ecx & 0xFFFF, 16);
		put_text(", DX ");
		put_number(r.edx & 0xFFFF, 16);
		put_text(", flags ");
		put_number(r.flags, 16);
	}
	put_char('\n');
}

static uint8_t
status(void)
{
	return (uint8_t)(r.eax >> 8);
}

static bool
carry(void)
{
	return r.flags & FLAG_CF;
}

/* Is it said that it has worked? */
static bool
good(void)
{
	return !carry() && !status();
}

static void
call(uint8_t function, uint8_t low)
{
	r.eax = (uint32_t)function << 8 | low;
	r.edx = (r.edx & ~0xFFu) | boot_drive;
	call_int13(&r);
}

static void
by_lba(uint8_t function, uint32_t lba, uint16_t count, uint16_t offset, uint16_t segment)
{
	packet = (struct packet){ sizeof packet, 0, count, offset, segment, lba, 0 };
	r.esi = (uint32_t)&packet;
	call(function, 0);
}

static void
by_chs(uint8_t function, uint32_t lba, uint8_t count)
{
	uint32_t sector = lba % track + 1, head = lba / track % heads, cylinder = lba / track / heads;

	r.ebx = BUFFER;
	r.es = 0;
	r.ecx = (cylinder & 0xFF) << 8 | (cylinder >> 2 & 0xC0) | sector;
	r.edx = head << 8;
	call(function, count);
}

static volatile uint32_t *
buffer(uint32_t sector)
{
	return (volatile uint32_t *)(BUFFER + sector * SECTOR_BYTES);
}

static void
clear(uint32_t sectors)
{
	uint32_t i;

	for (i = 0; i < sectors * SECTOR_BYTES / 4; i++)
		buffer(0)[i] = 0xCCCCCCCC;
}

/* Do the sectors in the buffer bear these numbers? */
static bool
numbered(uint32_t first, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		if (*buffer(i) != first + i || buffer(i)[1])
			return false;
	return true;
}

static void
check_disk(void)
{
	uint32_t i, disks, there = 0;

	check("booted_from_a_hard_disk", boot_drive >= 0x80);
	call(RESET, 0);
	check("reset", good());
	call(READY, 0);
	check("disk_is_ready", good());
	call(RECALIBRATE, 0);
	check("recalibrate", good());
	call(EXTENSIONS, 0);
	r.ebx = 0x55AA;
	call(EXTENSIONS, 0);
	check("extensions_are_there", !carry() && (r.ebx & 0xFFFF) == 0xAA55 && status() && r.ecx & 1);
	about.size = 26;
	r.esi = (uint32_t)&about;
	call(LBA_PARAMETERS, 0);
	disk_sectors = about.sectors;
	check("size_of_the_disk", good() && about.size == 26 && disk_sectors == DISK_SECTORS && !about.sectors_high);
	check("size_of_a_sector", about.sector_bytes == SECTOR_BYTES);
	call(KIND, 0);
	check("kind_is_a_fixed_disk", !carry() && status() == FIXED_DISK);
	r.edx = 0;
	r.es = 0;
	r.edi = 0;
	call(PARAMETERS, 0);
	track = r.ecx & 0x3F;
	heads = (r.edx >> 8 & 0xFF) + 1;
	check("geometry", good() && track && heads > 1 && track * heads <= disk_sectors);
	disks = r.edx & 0xFF;
	check("disks_are_counted", disks == (peek(BDA_DISKS) & 0xFF) && disks);
	for (i = 0; i < disks; i++) {
		r.eax = KIND << 8;
		r.edx = 0x80 + i;
		call_int13(&r);
		there += !carry() && status() == FIXED_DISK;
	}
	check("each_disk_answers", there == disks);
	r.eax = READ << 8 | 1;
	r.ebx = BUFFER;
	r.ecx = 1;
	r.edx = 0x80 + disks;
	call_int13(&r);
	check("no_disk_after_the_last", carry() && status());
}

static void
check_reads(void)
{
	uint32_t i, wrong = 0;

	clear(1);
	by_lba(READ_LBA, SOME, 1, BUFFER, 0);
	check("one_sector_by_lba", good() && numbered(SOME, 1));
	clear(8);
	by_lba(READ_LBA, SOME, 8, BUFFER, 0);
	check("eight_sectors_by_lba", good() && numbered(SOME, 8));
	by_lba(READ_LBA, SOME, 1, BUFFER & 15, BUFFER >> 4);
	check("buffer_is_segment_and_offset", good() && numbered(SOME, 1));
	by_lba(READ_LBA, SOME, MANY, 0, FAR_SEGMENT);
	for (i = 0; i < MANY; i++)
		wrong += peek((FAR_SEGMENT << 4) + i * SECTOR_BYTES) != SOME + i;
	check("as_many_as_fit_64_kib", good() && !wrong);
	clear(1);
	by_lba(READ_LBA, disk_sectors - 1, 1, BUFFER, 0);
	check("last_sector", good() && numbered(disk_sectors - 1, 1));
	clear(3);
	by_chs(READ, 4 * track - 1, 3);
	check("sectors_by_cylinder_head_sector", good() && numbered(4 * track - 1, 3) && (r.eax & 0xFF) == 3);
	by_chs(READ, track * heads, 2);
	check("next_cylinder", good() && numbered(track * heads, 2));
	by_lba(VERIFY_LBA, SOME, 8, 0, 0);
	check("verify_by_lba", good());
	by_chs(VERIFY, SOME, 8);
	check("verify_by_cylinder_head_sector", good());
	by_lba(SEEK_LBA, SOME, 1, 0, 0);
	check("seek_by_lba", good());
}

static void
check_writes(void)
{
	uint32_t i;
	bool kept;

	for (i = 0; i < WRITTEN * SECTOR_BYTES / 4; i++)
		buffer(0)[i] = 0x12345678 * (i + 1);
	by_lba(WRITE_LBA, WRITE_AT, WRITTEN, BUFFER, 0);
	check("write_by_lba", good());
	clear(WRITTEN + 2);
	by_lba(READ_LBA, WRITE_AT - 1, WRITTEN + 2, BUFFER, 0);
	kept = good() && *buffer(0) == WRITE_AT - 1 && *buffer(WRITTEN + 1) == WRITE_AT + WRITTEN;
	for (i = 0; i < WRITTEN * SECTOR_BYTES / 4; i++)
		kept &= buffer(1)[i] == 0x12345678 * (i + 1);
	check("what_was_written_is_read_and_no_more", kept);
	*buffer(0) = 0xABCD0123;
	buffer(0)[1] = 0;
	by_chs(WRITE, WRITE_AT, 1);
	kept = good();
	clear(1);
	by_lba(READ_LBA, WRITE_AT, 1, BUFFER, 0);
	check("write_by_cylinder_head_sector", kept && good() && numbered(0xABCD0123, 1));
}

static void
check_errors(void)
{
	by_lba(READ_LBA, disk_sectors, 1, BUFFER, 0);
	check("no_sector_after_the_last", carry() && status());
	call(LAST_STATUS, 0);
	check("status_is_kept", carry() && status());
	clear(2);
	by_lba(READ_LBA, disk_sectors - 1, 2, BUFFER, 0);
	check("half_past_the_end", carry() && status());
	by_lba(WRITE_LBA, disk_sectors, 1, BUFFER, 0);
	check("no_write_after_the_last", carry() && status());
	packet = (struct packet){ sizeof packet, 0, 1, BUFFER, 0, 0, 1 };
	r.esi = (uint32_t)&packet;
	call(READ_LBA, 0);
	check("no_sector_beyond_32_bits", carry() && status());
	packet.size = 8;
	call(READ_LBA, 0);
	check("short_packet", carry() && status() == BAD_COMMAND);
	call(NO_FUNCTION, 0);
	check("no_such_function", carry() && status() == BAD_COMMAND);
	r.edx = 0;
	r.ecx = 0;
	r.ebx = BUFFER;
	call(READ, 1);
	check("no_sector_0", carry() && status());
	call(RESET, 0);
	by_lba(READ_LBA, SOME, 1, BUFFER, 0);
	check("goes_on_after_errors", good() && numbered(SOME, 1));
	call(LAST_STATUS, 0);
	check("status_is_good_again", good());
}

static void
check_registers(void)
{
	struct registers before;

	r.ebx = 0x11223344;
	r.ecx = 0x55667788;
	r.edx = 0x99AABB00;
	r.edi = 0x13572468;
	r.ebp = 0x24681357;
	r.es = 0x1234;
	by_lba(READ_LBA, SOME, 1, BUFFER, 0);
	before = r;
	check("registers_are_kept", good() && r.ebx == 0x11223344 && r.ecx == 0x55667788 && r.edi == 0x13572468 &&
	    r.ebp == 0x24681357 && r.es == 0x1234 && !r.ds && r.esi == (uint32_t)&packet &&
	    r.edx == (0x99AABB00 | boot_drive));
	check("interrupts_stay_on", before.flags & FLAG_IF);
}

void boot_main(void);

void
boot_main(void)
{
	check_disk();
	if (track && heads && disk_sectors == DISK_SECTORS) {
		check_reads();
		check_writes();
		check_errors();
		check_registers();
	}
	put_text("DONE ");
	put_number(passed, 10);
	put_text(" passed, ");
	put_number(failed, 10);
	put_text(" failed\n");
	while ((in8(COM1 + LSR) & 0x60) != 0x60)
		;
	out8(EXIT_PORT, failed ? 1 : 0);
	for (;;)
		__asm__ volatile("cli; hlt");
}
