/*
 * pci.c -- finds the adapters on bus 0, and gives their registers ports where nobody has.
 */
#include "parts.h"

#define IO_DEFAULT	0xD000u		/* and on, 80h for each device */

static const struct driver *const drivers[] = { &pcnet, &vmxnet };

static const struct driver *
driver_of(uint32_t id)
{
	size_t i;

	for (i = 0; i < sizeof drivers / sizeof *drivers; i++)
		if (drivers[i]->id == id)
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
		adapter->io = pci_ports(here, FIRST_BAR, IO_DEFAULT + device * 0x80);
		pci_enable(here, PCI_IO | PCI_MASTER);
		adapter->irq = pci_irq(here);
		return true;
	}
	return false;
}
