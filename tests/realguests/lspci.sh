#!/bin/sh
# The functions of the PCI buses as `lspci -n` prints them.
for d in /sys/bus/pci/devices/*; do
	read v <$d/vendor; read i <$d/device; read c <$d/class; read r <$d/revision
	c=${c#0x}
	echo "${d##*/0000:} ${c%??}: ${v#0x}:${i#0x} (rev ${r#0x})"
done
