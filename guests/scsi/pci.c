/*
 * pci.c -- finds the adapters on bus 0, and gives their registers addresses where nobody has.
 */
#include "parts.h"

#define IO_DEFAULT	0xC000u		/* and on, 100h for each device */
#define MEMORY_DEFAULT	0xF4000000u	/* and on, 40000h for each */

static const struct driver *const drivers[] = { &lsilogic, &buslogic };

static const struct driver *
driver_of(uint32_t id)
{
	size_t i, j;

	for (i = 0; i < sizeof drivers / sizeof *drivers; i++)
		for (j = 0; j < 2; j++)
			if (id && drivers[i]->ids[j] == id)
				return drivers[i];
	return 0;
}

/* The next adapter from *function on, which moves on behind it. */
bool
find_adapter(uint32_t *function, struct adapter *adapter)
{
	while (*function < PCI_FUNCTIONS) {
		const uint32_t here = (*function)++, device = here >> 3;

		adapter->function = here;
		adapter->driver = driver_of(pci_read(here, PCI_ID));
		if (!adapter->driver)
			continue;
		adapter->io = pci_ports(here, FIRST_BAR, IO_DEFAULT + device * 0x100);
		adapter->memory = pci_memory(here, SECOND_BAR, MEMORY_DEFAULT + device * 0x40000);
		pci_enable(here, PCI_IO | PCI_MEMORY | PCI_MASTER);
		adapter->irq = pci_irq(here);
		return true;
	}
	return false;
}
