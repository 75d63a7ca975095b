/*
 * cdrom.c -- a CD-ROM drive read by the PIIX's bus master, one command at a time.  [Intel 82371AB data sheet, chapter
 * 6.5; ATA/ATAPI-6, PACKET; SFF-8020i, READ(10) and READ CD-ROM CAPACITY]
 */
#include "parts.h"

#include "pci.h"

#define REG_CLASS	0x08
#define REG_BAR4	0x20
#define REG_IDETIM	0x40
#define CLASS_IDE	0x0101u
#define IDE_MASTERS	0x8000u		/* in the same doubleword: the programming interface's bit 7 */
#define IDETIM_DECODE	0x80008000u	/* both channels answer */
#define BLOCK_DEFAULT	0xC000u		/* where we put it if no firmware has */

#define DATA		0
#define FEATURES	1
#define COUNT_LOW	4	/* of the byte count limit; the signature of a packet device is here, too */
#define COUNT_HIGH	5
#define DEVICE		6
#define STATUS		7
#define COMMAND		7
#define STATUS_ERR	0x01
#define STATUS_DRQ	0x08
#define STATUS_BSY	0x80
#define NO_DRIVE	0xFF
#define DEVICE_1	0x10
#define SIGNATURE_LOW	0x14
#define SIGNATURE_HIGH	0xEB
#define FEATURE_DMA	0x01
#define ATA_PACKET	0xA0
#define ATA_IDENTIFY	0xEC
#define SCSI_READ_10	0x28
#define SCSI_CAPACITY	0x25

#define BM_COMMAND	0
#define BM_STATUS	2
#define BM_TABLE	4
#define BM_START	0x01
#define BM_TO_MEMORY	0x08
#define BM_ERROR	0x02
#define BM_INTERRUPT	0x04

#define SECTOR		2048u
#define SECTORS		32u		/* in each command */
#define PAGES		(SECTORS * SECTOR / PAGE_SIZE)
#define PRD_EOT		0x8000u
#define PER_COMMAND	100u		/* so many register accesses count like one command */
#define POLL_BOUND	1000000u
#define TRIES		4		/* the first commands may report that the disc was changed */

struct prd {
	uint32_t base;
	uint16_t bytes, flags;
};

struct drive {
	uint16_t ports, master;		/* the channel's command block and its bus master's registers */
	int irq;
	struct prd *table;
	uint8_t *buffer;
};

static int channel_irq;

static void
handle_interrupt(struct trap_frame *frame)
{
	(void)frame;
	irq_eoi(channel_irq);
}

/* The bus master's registers, switched on; 0 if no function of bus 0 is one. */
static uint16_t
find_master(void)
{
	uint32_t function;

	for (function = 0; function < PCI_FUNCTIONS; function++) {
		uint32_t kind = pci_read(function, REG_CLASS);

		if (kind >> 16 != CLASS_IDE || !(kind & IDE_MASTERS))
			continue;
		pci_write(function, REG_IDETIM, pci_read(function, REG_IDETIM) | IDETIM_DECODE);
		pci_enable(function, PCI_IO | PCI_MASTER);
		return pci_ports(function, REG_BAR4, BLOCK_DEFAULT);
	}
	return 0;
}

/* Wait until BSY is 0; the status, or NO_DRIVE. */
static uint8_t
settled(uint16_t ports)
{
	uint32_t polls;
	uint8_t status;

	for (polls = 0; polls < POLL_BOUND; polls++) {
		status = in8(ports + STATUS);
		if (status == NO_DRIVE || !(status & STATUS_BSY))
			return status;
	}
	return NO_DRIVE;
}

/* A packet device refuses IDENTIFY DEVICE and shows its signature. */
static bool
is_packet_device(uint16_t ports, uint8_t device)
{
	out8(ports + DEVICE, device);
	if (settled(ports) == NO_DRIVE)
		return false;
	out8(ports + COMMAND, ATA_IDENTIFY);
	settled(ports);
	return in8(ports + COUNT_LOW) == SIGNATURE_LOW && in8(ports + COUNT_HIGH) == SIGNATURE_HIGH;
}

static bool
find_drive(struct drive *drive)
{
	static const struct { uint16_t ports; int irq; } channels[] = { { 0x170, 15 }, { 0x1F0, 14 } };
	uint16_t master = find_master();
	size_t i;

	for (i = 0; master && i < 2; i++) {
		drive->ports = channels[i].ports;
		drive->irq = channel_irq = channels[i].irq;
		drive->master = (uint16_t)(master + (channels[i].irq == 15 ? 8 : 0));
		if (is_packet_device(drive->ports, 0) || is_packet_device(drive->ports, DEVICE_1))
			return true;
	}
	return false;
}

static void
lay_table(struct drive *drive, uint32_t bytes)
{
	uint32_t i;

	for (i = 0; i * PAGE_SIZE < bytes; i++) {
		uint32_t rest = bytes - i * PAGE_SIZE;

		drive->table[i].base = (uint32_t)drive->buffer + i * PAGE_SIZE;
		drive->table[i].bytes = (uint16_t)(rest < PAGE_SIZE ? rest : PAGE_SIZE);
		drive->table[i].flags = rest <= PAGE_SIZE ? PRD_EOT : 0;
	}
}

/* Carry out a command whose data the table describes.  Interrupts are off, but for while we wait. */
static bool
command(const struct drive *drive, const uint16_t cdb[6])
{
	uint16_t ports = drive->ports, master = drive->master;
	uint8_t status;
	int i;

	out8(master + BM_COMMAND, 0);
	out32(master + BM_TABLE, (uint32_t)drive->table);
	out8(master + BM_STATUS, BM_INTERRUPT | BM_ERROR);
	out8(ports + FEATURES, FEATURE_DMA);
	out8(ports + COUNT_LOW, 0);
	out8(ports + COUNT_HIGH, 0);
	out8(ports + COMMAND, ATA_PACKET);
	if (!(settled(ports) & STATUS_DRQ))
		return false;
	for (i = 0; i < 6; i++)
		out16(ports + DATA, cdb[i]);
	out8(master + BM_COMMAND, BM_TO_MEMORY);
	out8(master + BM_COMMAND, BM_TO_MEMORY | BM_START);
	while (!(in8(master + BM_STATUS) & BM_INTERRUPT))
		wait_for_interrupt();
	status = in8(ports + STATUS);
	out8(master + BM_COMMAND, 0);
	return !(status & (STATUS_ERR | STATUS_BSY | STATUS_DRQ)) && !(in8(master + BM_STATUS) & BM_ERROR);
}

static uint32_t
big_endian(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static uint32_t
disc_sectors(struct drive *drive)
{
	static const uint16_t cdb[6] = { SCSI_CAPACITY };
	int i;

	lay_table(drive, 8);
	for (i = 0; i < TRIES; i++)
		if (command(drive, cdb))
			return big_endian(drive->buffer) + 1;
	return 0;
}

static bool
read_sectors(const struct drive *drive, uint32_t lba)
{
	/* Bytes in the order of the data port's words: opcode, LBA from byte 2, length from byte 7, big-endian. */
	const uint16_t cdb[6] = {
		SCSI_READ_10, (uint16_t)(lba >> 24 | (lba >> 16 & 0xFF) << 8), (uint16_t)((lba >> 8 & 0xFF) | (lba & 0xFF) << 8),
		0, SECTORS, 0,
	};

	return command(drive, cdb);
}

static uint32_t
sectors_in_place(const struct drive *drive, uint32_t lba)
{
	uint32_t i, found = 0;

	for (i = 0; i < SECTORS; i++)
		found += *(const volatile uint32_t *)(drive->buffer + i * SECTOR) == lba + i;
	return found;
}

static void
read_disc(struct drive *drive, uint32_t commands, uint32_t sectors)
{
	uint32_t i, lba = 0, found = 0;
	uint64_t start;

	lay_table(drive, SECTORS * SECTOR);
	start = read_tsc();
	for (i = 0; i < commands && read_sectors(drive, lba); i++) {
		found += sectors_in_place(drive, lba);
		lba = lba + 2 * SECTORS <= sectors ? lba + SECTORS : 0;
	}
	report("cdrom_dma", (uint64_t)i * SECTORS * SECTOR, read_tsc() - start);
	check_equal("every_sector_is_in_its_place", found, commands * SECTORS);
}

void
measure_cdrom(uint32_t count)
{
	struct drive drive;
	uint32_t sectors;

	if (!find_drive(&drive)) {
		fail("cdrom", "no bus-mastering IDE controller has a packet device");
		return;
	}
	drive.table = allocate_pages(1);
	drive.buffer = allocate_pages(PAGES);
	on_trap(VEC_IRQ + drive.irq, handle_interrupt);
	irq_unmask(drive.irq);
	sectors = disc_sectors(&drive);
	if (check("disc_has_sectors", sectors >= SECTORS, "it has %u, and one command reads %u", sectors, SECTORS))
		read_disc(&drive, count / PER_COMMAND + !(count / PER_COMMAND), sectors);
	irq_mask(drive.irq);
}
