"""The PCI interrupt routing table, read by its specification's offsets."""

from __future__ import annotations

import struct

from hw.firmware.tables import FirmwareTables
from hw.pci import PciLinks
from hw.piix4_isa_spec import BRIDGE
from tests.hw.firmware.machines import PINS, Ram, facts


def read_table() -> tuple[bytes, list[bytes]]:
    ram = Ram()
    FirmwareTables(facts()).place(ram.write)
    (gpa,) = ram.find(b"$PIR")
    version, size = struct.unpack("<HH", ram.read(gpa + 4, 4))
    table = ram.read(gpa, size)
    assert version == 0x0100
    assert size % 16 == 0
    assert sum(table) % 256 == 0
    return table[:32], [table[at : at + 16] for at in range(32, size, 16)]


def test_the_router_is_the_piix4() -> None:
    header, _ = read_table()
    bus, function, exclusive, vendor, device = struct.unpack_from("<BBHHH", header, 8)
    assert (bus, function, exclusive) == (0, 7 << 3, 0)
    assert (vendor, device) == (0x8086, 0x7110)


def test_each_slot_leads_to_the_registers_of_its_links() -> None:
    links = PciLinks()
    _, slots = read_table()
    assert [(row[0], row[1]) for row in slots] == [(0, slot << 3) for slot in sorted({pin.slot for pin in PINS})]
    for row in slots:
        pins = [struct.unpack_from("<BH", row, 2 + 3 * index) for index in range(4)]
        slot = row[1] >> 3
        registers = [BRIDGE.by_name[f"PIRQRC{'ABCD'[links.pin(slot, pin).link]}"].offset for pin in range(1, 5)]
        expected = [(register, 0x0E20) for register in registers]
        if slot == 7:
            expected[0] = (0, 0)
        assert pins == expected
