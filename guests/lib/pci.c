/*
 * pci.c -- configuration space of PCI bus 0.
 * [PCI Local Bus Specification 2.2, 3.2.2.3.2, 6.2.4 and 6.2.5]
 */
#include "pci.h"

#define PCI_ADDRESS	0xCF8
#define PCI_DATA	0xCFC
#define PCI_ENABLE	0x80000000u
#define REG_INTERRUPT	0x3C
#define IO_MASK		0xFFFCu
#define MEMORY_MASK	0xFFFFFFF0u

uint32_t
pci_read(uint32_t function, uint32_t reg)
{
	out32(PCI_ADDRESS, PCI_ENABLE | function << 8 | reg);
	return in32(PCI_DATA);
}

void
pci_write(uint32_t function, uint32_t reg, uint32_t value)
{
	out32(PCI_ADDRESS, PCI_ENABLE | function << 8 | reg);
	out32(PCI_DATA, value);
}

uint16_t
pci_ports(uint32_t function, uint32_t bar, uint32_t otherwise)
{
	if (!(pci_read(function, bar) & IO_MASK))
		pci_write(function, bar, otherwise);
	return (uint16_t)(pci_read(function, bar) & IO_MASK);
}

uint32_t
pci_memory(uint32_t function, uint32_t bar, uint32_t otherwise)
{
	if (!(pci_read(function, bar) & MEMORY_MASK))
		pci_write(function, bar, otherwise);
	return pci_read(function, bar) & MEMORY_MASK;
}

void
pci_enable(uint32_t function, uint32_t bits)
{
	pci_write(function, PCI_COMMAND, (pci_read(function, PCI_COMMAND) & 0xFFFF) | bits);
}

int
pci_irq(uint32_t function)
{
	const uint32_t irq = pci_read(function, REG_INTERRUPT) & 0xFF;

	return irq > 0 && irq < IRQS ? (int)irq : -1;
}
