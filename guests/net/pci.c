/*
 * pci.c -- finds the adapters on bus 0, and gives their registers ports where nobody has.
 * [PCI Local Bus Specification 2.2, 3.2.2.3.2 and 6.2.5]
 */
#include "parts.h"

#define PCI_ADDRESS	0xCF8
#define PCI_DATA	0xCFC
#define PCI_ENABLE	0x80000000u
#define PCI_FUNCTIONS	256u
#define REG_ID		0x00
#define REG_COMMAND	0x04
#define REG_INTERRUPT	0x3C
#define COMMAND_IO	0x01u
#define COMMAND_MASTER	0x04u
#define IO_MASK		0xFFFCu
#define IO_DEFAULT	0xD000u		/* and on, 80h for each slot */

static const struct driver *const drivers[] = { &pcnet, &vmxnet };

uint32_t
pci_read(uint32_t function, uint32_t reg)
{
	out32(PCI_ADDRESS, PCI_ENABLE | function << 8 | reg);
	return in32(PCI_DATA);
}

static void
pci_write(uint32_t function, uint32_t reg, uint32_t value)
{
	out32(PCI_ADDRESS, PCI_ENABLE | function << 8 | reg);
	out32(PCI_DATA, value);
}

static const struct driver *
driver_of(uint32_t id)
{
	size_t i;

	for (i = 0; i < sizeof drivers / sizeof *drivers; i++)
		if (drivers[i]->id == id)
			return drivers[i];
	return 0;
}

static void
place(struct adapter *adapter)
{
	uint32_t function = adapter->function, slot = function >> 3 & 0x1F;

	if (!(pci_read(function, FIRST_BAR) & IO_MASK))
		pci_write(function, FIRST_BAR, IO_DEFAULT + slot * 0x80);
	pci_write(function, REG_COMMAND, (pci_read(function, REG_COMMAND) & 0xFFFF) | COMMAND_IO | COMMAND_MASTER);
	adapter->io = (uint16_t)(pci_read(function, FIRST_BAR) & IO_MASK);
}

/* The next adapter from *function on, which moves on behind it. */
bool
find_adapter(uint32_t *function, struct adapter *adapter)
{
	while (*function < PCI_FUNCTIONS) {
		uint32_t irq;

		adapter->function = (*function)++;
		adapter->driver = driver_of(pci_read(adapter->function, REG_ID));
		if (!adapter->driver)
			continue;
		place(adapter);
		irq = pci_read(adapter->function, REG_INTERRUPT) & 0xFF;
		adapter->irq = irq > 0 && irq < IRQS ? (int)irq : -1;
		return true;
	}
	return false;
}
