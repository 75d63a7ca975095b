"""PCI interrupt routing table: layouts; no behaviour.

Source: Microsoft, "PCI IRQ Routing Table Specification" 1.0.
"""

from ctypes import LittleEndianStructure, c_char, c_uint8, c_uint16, c_uint32, sizeof


class Packed(LittleEndianStructure):
    """A structure without holes."""

    _pack_ = 1


class RoutingHeader(Packed):
    """The table's header; one `RoutingSlot` for each slot follows. `compatible` is a router's vendor and device ids."""

    _fields_ = [("signature", c_char * 4), ("version", c_uint16), ("size", c_uint16), ("router_bus", c_uint8),
                ("router_function", c_uint8), ("exclusive_irqs", c_uint16), ("compatible", c_uint32),
                ("miniport", c_uint32), ("reserved", c_uint8 * 11), ("checksum", c_uint8)]  # fmt: skip


class RoutingPin(Packed):
    """Where a pin leads, in the router's terms (0: nowhere), and the ISA IRQs that can be chosen there."""

    _fields_ = [("link", c_uint8), ("irqs", c_uint16)]


class RoutingSlot(Packed):
    """A slot: its address, INTA# to INTD#, and the number printed on the board (0: none)."""

    _fields_ = [("bus", c_uint8), ("function", c_uint8), ("pins", RoutingPin * 4), ("slot", c_uint8),
                ("reserved", c_uint8)]  # fmt: skip


SIGNATURE = b"$PIR"
VERSION = 0x0100
ALIGNMENT = 16

assert (sizeof(RoutingHeader), sizeof(RoutingSlot)) == (32, 16)
