"""Headers and base address registers as rows."""

import pytest

from ringfence.pci_header import IoBar, MemBar, PciIds, Pin, RomBar, bridge_header, header
from ringfence.registers import RegBank

IDS = PciIds(0x15AD, 0x0405, 0x030000, 1, 0x15AD, 0x0405)


def test_a_header_is_where_software_looks_for_it() -> None:
    bank = RegBank("x", 256, *header(IDS, (IoBar(0, 16), MemBar(2, 1 << 23), RomBar(0x8000)), pin=Pin.INTC))
    image = bank.resets
    assert image[:4] == bytes.fromhex("ad150504")
    assert image[8:12] == bytes.fromhex("01000003")
    assert image[0x2C:0x30] == bytes.fromhex("ad150504")
    assert image[0x3D] == 3
    assert bank.by_name["BAR0"].rw == 0xFFFFFFF0
    assert bank.by_name["BAR2"].rw == 0xFF800000
    assert bank.by_name["ROM_BAR"].rw == 0xFFFF8001


def test_a_bridge_is_closed_at_first() -> None:
    image = RegBank("x", 256, *bridge_header(IDS)).resets
    assert image[0x0E] == 1
    assert image[0x1C] > image[0x1D]
    assert image[0x20:0x22] > image[0x22:0x24]


def test_a_size_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(AssertionError):
        header(IDS, (MemBar(0, 0x3000),))
