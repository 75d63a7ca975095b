"""The MP table, found and read as the MultiProcessor Specification says, by offsets."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest

from hw.firmware.board import BoardFacts
from hw.firmware.tables import FirmwareTables
from hw.pci import PciLinks
from tests.hw.firmware.machines import PINS, Ram, facts

SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}
INT, NMI, EXTINT = 0, 1, 3


class MpTable(NamedTuple):
    """What a system reads: the pointer, the header's fields, the entries by type."""

    pointer: bytes
    header: tuple[object, ...]
    entries: dict[int, list[bytes]]


def read_table(machine: BoardFacts) -> MpTable:
    ram = Ram()
    FirmwareTables(machine).place(ram.write)
    (gpa,) = ram.find(b"_MP_")
    pointer = ram.read(gpa, 16)
    assert sum(pointer) % 256 == 0
    table_at, length, specification = struct.unpack_from("<IBB", pointer, 4)
    assert (length, specification, pointer[11:]) == (1, 4, bytes(5))
    signature, size = struct.unpack("<4sH", ram.read(table_at, 6))
    table = ram.read(table_at, size)
    assert signature == b"PCMP"
    assert sum(table) % 256 == 0
    header = struct.unpack_from("<BB8s12sIHHIHBB", table, 6)
    entries: dict[int, list[bytes]] = {kind: [] for kind in SIZES}
    at, kinds = 44, []
    while at < size:
        kinds.append(table[at])
        entries[table[at]].append(table[at : at + SIZES[table[at]]])
        at += SIZES[table[at]]
    assert at == size
    assert kinds == sorted(kinds), "entries come in ascending order of type"
    assert header[6] == len(kinds)
    return MpTable(pointer, header, entries)


def interrupts(rows: list[bytes]) -> list[tuple[int, ...]]:
    """(kind, flags, source bus, source IRQ, APIC, input) of interrupt entries."""
    return [struct.unpack("<BHBBBB", row[1:]) for row in rows]


@pytest.mark.parametrize("vcpus", [1, 2, 3, 4])
def test_processors_and_the_io_apic_behind_them(vcpus: int) -> None:
    table = read_table(facts(vcpus, cpu_signature=0x6B1, cpu_features=0x383FBFF))
    processors = [struct.unpack("<BBBBII", row[:12]) for row in table.entries[0]]
    assert [row[:3] for row in processors] == [(0, index, 0x11) for index in range(vcpus)]
    assert [row[3] for row in processors] == [3] + [1] * (vcpus - 1), "all enabled, the first is the bootstrap one"
    assert {row[4:] for row in processors} == {(0x6B1, 0x383FBFF)}
    assert table.entries[2] == [struct.pack("<BBBBI", 2, vcpus, 0x11, 1, 0xFEC00000)]


def test_the_header() -> None:
    table = read_table(facts())
    assert table.header[0] == 4
    assert table.header[2:4] == (b"RNGFNC  ", b"440BX       ")
    assert table.header[7] == 0xFEE00000
    assert (table.header[4], table.header[5], table.header[8]) == (0, 0, 0), "no OEM table, no extended entries"


def test_buses() -> None:
    buses = [(row[1], row[2:]) for row in read_table(facts()).entries[1]]
    assert buses == [(0, b"PCI   "), (1, b"PCI   "), (2, b"ISA   ")]


def test_isa_interrupts_are_edges_on_their_own_input_but_for_timer_and_sci() -> None:
    rows = [row for row in interrupts(read_table(facts(2)).entries[3]) if row[2] == 2]
    irqs = {irq: (flags, apic, pin) for _, flags, _, irq, apic, pin in rows}
    assert {row[0] for row in rows} == {INT}
    assert irqs.pop(0) == (0, 2, 2)
    assert irqs.pop(9) == (0b1101, 2, 9), "level, active high"
    assert irqs == {irq: (0, 2, irq) for irq in range(1, 16) if irq not in {2, 9}}


def test_pci_interrupts_are_on_the_inputs_that_the_board_drives() -> None:
    links = PciLinks()
    rows = [row for row in interrupts(read_table(facts(4)).entries[3]) if row[2] == 0]
    expected = [
        (INT, 0, 0, pin.slot << 2 | pin.pin - 1, 4, 16 + links.pin(pin.slot, pin.pin).link)
        for pin in PINS
        if (pin.slot, pin.pin) != (7, 1)
    ]
    assert rows == expected


def test_local_interrupts_are_the_8259s_and_nmi() -> None:
    rows = interrupts(read_table(facts()).entries[4])
    assert [(kind, apic, pin) for kind, _, _, _, apic, pin in rows] == [(EXTINT, 0, 0), (NMI, 0xFF, 1)]
