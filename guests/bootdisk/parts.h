/*
 * parts.h -- the boot disk's program: real mode with every segment 0, so that a pointer is an offset below 64 KiB.
 */
#ifndef BOOTDISK_PARTS_H
#define BOOTDISK_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR_BYTES	512
#define PROGRAM_SECTOR	1
#define PROGRAM_SECTORS	40
#define PATTERN_SECTOR	64	/* from here on each sector begins with its own number */
#define DISK_SECTORS	8064	/* whole cylinders of 16 heads and 63 sectors, as firmware takes small disks */

#define FLAG_CF		0x0001
#define FLAG_IF		0x0200

/* What INT 13h gets, and what it gives back.  DS is 0 for the call; ES as here. */
struct registers {
	uint32_t eax, ebx, ecx, edx, esi, edi, ebp;
	uint16_t es, ds, flags;
};

void call_int13(struct registers *registers);
uint32_t peek(uint32_t address);
uint8_t in8(uint16_t port);
void out8(uint16_t port, uint8_t value);

extern uint8_t boot_drive;

#endif
