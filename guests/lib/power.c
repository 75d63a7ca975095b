/*
 * power.c -- the end of a run: the exit port, then ACPI soft-off, then a halt that nothing can wake.
 *
 * The PIIX4 power-management function decodes its registers at PMBASE, configuration register 40h, once PMIOSE, bit 0
 * of register 80h, is set.  SLP_EN with SLP_TYP 0 in PM1a_CNT is soft-off.  [Intel 82371AB data sheet, 7.2 and 7.3]
 */
#include "report.h"
#include "x86.h"

#define EXIT_PORT	0xF4	/* Ringfence ends with the byte written here; QEMU's isa-debug-exit with 2 * byte + 1 */

#define PCI_ADDRESS	0xCF8
#define PCI_DATA	0xCFC
#define PCI_ENABLE	0x80000000u
#define PCI_SLOTS	32
#define PCI_FUNCTIONS	8
#define PIIX4_PM	0x71138086u	/* device, vendor */
#define REG_PMBASE	0x40
#define REG_PMREGMISC	0x80
#define PMIOSE		0x01
#define PMBASE_MASK	0xFFC0u
#define PMBASE_DEFAULT	0xB000u		/* where we put it if no firmware has */
#define PM1A_CNT	4
#define SLP_EN		(1u << 13)

static uint32_t
pci_address(uint32_t slot, uint32_t function, uint32_t reg)
{
	return PCI_ENABLE | slot << 11 | function << 8 | reg;
}

static uint32_t
pci_read(uint32_t device, uint32_t reg)
{
	out32(PCI_ADDRESS, device | reg);
	return in32(PCI_DATA);
}

static void
pci_write(uint32_t device, uint32_t reg, uint32_t value)
{
	out32(PCI_ADDRESS, device | reg);
	out32(PCI_DATA, value);
}

static void
acpi_soft_off(uint32_t device)
{
	uint32_t base = pci_read(device, REG_PMBASE) & PMBASE_MASK;

	if (!base) {
		base = PMBASE_DEFAULT;
		pci_write(device, REG_PMBASE, base | 1);
	}
	pci_write(device, REG_PMREGMISC, pci_read(device, REG_PMREGMISC) | PMIOSE);
	out16((uint16_t)(base + PM1A_CNT), SLP_EN);
}

void
power_off(uint8_t status)
{
	uint32_t slot, function;

	out8(EXIT_PORT, status);
	for (slot = 0; slot < PCI_SLOTS; slot++)
		for (function = 0; function < PCI_FUNCTIONS; function++)
			if (pci_read(pci_address(slot, function, 0), 0) == PIIX4_PM)
				acpi_soft_off(pci_address(slot, function, 0));
	for (;;)
		__asm__ volatile("cli; hlt");
}
