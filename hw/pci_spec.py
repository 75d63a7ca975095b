"""PCI configuration mechanism 1, and the board's interrupt links; no behaviour.

Source: PCI Local Bus Specification 2.2, sections 2.2.6 and 3.2.2.3.2.
"""

from enum import IntFlag

CONFIG_ADDRESS = 0xCF8
CONFIG_DATA = 0xCFC
LINKS = 4
NO_IRQ = 0xFF  # in an interrupt line register: not connected


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
