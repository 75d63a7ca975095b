/*
 * pci.h -- configuration space of PCI bus 0, by mechanism 1, and places for registers that nobody has given any.
 * A function is named by its device and function number, DDDDDFFFb.
 */
#pragma once

#include "guest.h"

#define PCI_FUNCTIONS	256u
#define PCI_ID		0x00	/* vendor, device << 16; all ones where there is none */
#define PCI_COMMAND	0x04
#define PCI_IO		0x01u	/* bits of the command register: answer to ports, */
#define PCI_MEMORY	0x02u	/* to addresses, */
#define PCI_MASTER	0x04u	/* reach memory by itself */

uint32_t pci_read(uint32_t function, uint32_t reg);
void pci_write(uint32_t function, uint32_t reg, uint32_t value);

/* Where the registers of a base address register are; at `otherwise` from now on, if they were nowhere. */
uint16_t pci_ports(uint32_t function, uint32_t bar, uint32_t otherwise);
uint32_t pci_memory(uint32_t function, uint32_t bar, uint32_t otherwise);

/* Set bits of the command register. */
void pci_enable(uint32_t function, uint32_t bits);

/* The IRQ that the firmware noted; -1: none. */
int pci_irq(uint32_t function);
