"""The virtual hardware that a guest sees: buses, chipset, serial ports. It does not know who runs the processor."""
