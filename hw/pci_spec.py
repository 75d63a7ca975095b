"""PCI configuration: mechanism 1 and the standard header; no behaviour.

Source: PCI Local Bus Specification 2.2, sections 3.2.2.3.2 and 6.1.
"""

from enum import IntFlag

CONFIG_ADDRESS = 0xCF8
CONFIG_DATA = 0xCFC
CONFIG_BYTES = 256


class ConfigAddress(IntFlag):
    """The dword latched at CF8."""

    ENABLE = 1 << 31
    BUS = 0xFF << 16
    DEVICE = 0x1F << 11
    FUNCTION = 7 << 8
    REGISTER = 0x3F << 2


LATCHED = (
    ConfigAddress.ENABLE | ConfigAddress.BUS | ConfigAddress.DEVICE | ConfigAddress.FUNCTION | ConfigAddress.REGISTER
)


class Command(IntFlag):
    """Command register, bits that matter to a device without bus mastering."""

    IO = 1 << 0
    MEMORY = 1 << 1
    MASTER = 1 << 2
    SERR = 1 << 8
