/*
 * power.c -- the end of a run: the exit port, then ACPI soft-off, then a halt that nothing can wake.
 *
 * The PIIX4 power-management function decodes its registers at PMBASE, configuration register 40h, once PMIOSE, bit 0
 * of register 80h, is set.  SLP_EN with SLP_TYP 0 in PM1a_CNT is soft-off.  [Intel 82371AB data sheet, 7.2 and 7.3]
 */
#include "pci.h"
#include "report.h"
#include "x86.h"

#define EXIT_PORT	0xF4	/* Ringfence ends with the byte written here; QEMU's isa-debug-exit with 2 * byte + 1 */

#define PIIX4_PM	0x71138086u	/* device, vendor */
#define REG_PMBASE	0x40
#define REG_PMREGMISC	0x80
#define PMIOSE		0x01
#define PMBASE_MASK	0xFFC0u
#define PMBASE_DEFAULT	0xB000u		/* where we put it if no firmware has */
#define PM1A_CNT	4
#define SLP_EN		(1u << 13)

static void
acpi_soft_off(uint32_t function)
{
	uint32_t base = pci_read(function, REG_PMBASE) & PMBASE_MASK;

	if (!base) {
		base = PMBASE_DEFAULT;
		pci_write(function, REG_PMBASE, base | 1);
	}
	pci_write(function, REG_PMREGMISC, pci_read(function, REG_PMREGMISC) | PMIOSE);
	out16((uint16_t)(base + PM1A_CNT), SLP_EN);
}

void
power_off(uint8_t status)
{
	uint32_t function;

	out8(EXIT_PORT, status);
	for (function = 0; function < PCI_FUNCTIONS; function++)
		if (pci_read(function, PCI_ID) == PIIX4_PM)
			acpi_soft_off(function);
	for (;;)
		__asm__ volatile("cli; hlt");
}
