"""The DSDT, evaluated by ACPICA's interpreter: what a system learns of the board from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hw.firmware.board import LINK_IRQS, BoardFacts
from hw.pci import PciLinks
from hw.piix4_isa_spec import ROUTABLE_IRQS
from tests.hw.firmware.machines import facts
from tests.hw.firmware.peers import disassemble, evaluate, integers
from tests.hw.firmware.test_acpi import tables_of

ENABLED, DISABLED = 0xB, 0x9
PIN_NAMES = ("Zero", "One", "0x02", "0x03")


def dsdt(machine: BoardFacts) -> bytes:
    return tables_of(machine)[b"DSDT"]


def rows(text: str) -> list[tuple[int, int, int]]:
    """(slot, pin from 0, source index) of each row of a _PRT whose sources are all 0."""
    found = integers(text)
    assert found[2::4] == [0] * (len(found) // 4)
    return [(found[i] >> 16, found[i + 1], found[i + 3]) for i in range(0, len(found), 4)]


def test_with_the_io_apic_each_pin_has_the_input_that_the_board_drives(tmp_path: Path) -> None:
    _, prt = evaluate(dsdt(facts()), tmp_path, "execute \\_PIC 1", "execute \\_SB.PCI0._PRT")
    links = PciLinks()
    expected = [(slot, pin, 16 + links.pin(slot, pin + 1).link) for slot in range(1, 32) for pin in range(4)]
    assert rows(prt) == [row for row in expected if row[:2] != (7, 0)], "7.0 is the SCI's, which no link carries"


def test_with_the_8259s_each_pin_has_the_link_that_the_board_drives(tmp_path: Path) -> None:
    """Read by iasl: with the links' paths in it, the result is too long for the interpreter's debugger."""
    text = disassemble(dsdt(facts()), tmp_path)
    before = text[text.index("Name (PPRT") : text.index("Name (APRT")]
    row = re.compile(r"(0x\w+), \s+(\w+), \s+\\_SB\.LNK([A-D]), \s+Zero\s+}")
    found = [(int(address, 16) >> 16, PIN_NAMES.index(pin), link) for address, pin, link in row.findall(before)]
    links = PciLinks()
    expected = [(slot, pin, "ABCD"[links.pin(slot, pin + 1).link]) for slot in range(1, 32) for pin in range(4)]
    assert found == [row for row in expected if row[:2] != (7, 0)]
    assert re.search(r"Method \(_PRT.*\s+{\s+If \(\\PICM\)\s+{\s+Return \(APRT\).*\s+}\s+Return \(PPRT\)", text)


@pytest.mark.parametrize("link", "ABCD")
def test_a_link_takes_each_interrupt_that_it_offers(link: str, tmp_path: Path) -> None:
    templates = [f"23 {1 << irq & 0xFF:02X} {1 << irq >> 8:02X} 18 79 00" for irq in LINK_IRQS]
    path = f"\\_SB.LNK{link}"
    commands = [
        command
        for template in templates
        for command in (f"execute {path}._SRS ({template})", f"execute {path}._STA", f"execute {path}._CRS")
    ]
    answers = evaluate(dsdt(facts()), tmp_path, *commands)
    for index, template in enumerate(templates):
        set_, status, current = answers[3 * index : 3 * index + 3]
        assert "No object was returned" in set_
        assert integers(status) == [ENABLED]
        assert template in current


def test_a_link_that_is_off_has_no_interrupt(tmp_path: Path) -> None:
    path = "\\_SB.LNKC"
    _, off, none, _, other = evaluate(
        dsdt(facts()), tmp_path, f"execute {path}._DIS", f"execute {path}._STA", f"execute {path}._CRS",
        f"execute {path}._SRS (23 00 00 18 79 00)", f"execute {path}._STA",
    )  # fmt: skip
    assert integers(off) == integers(other) == [DISABLED]
    assert "23 00 00 18 79 00" in none


def test_links_offer_only_what_the_piix4_can_route() -> None:
    assert set(LINK_IRQS) <= ROUTABLE_IRQS


@pytest.mark.parametrize("vcpus", [1, 2, 3, 4])
def test_processors_are_those_of_the_machine(vcpus: int, tmp_path: Path) -> None:
    text = disassemble(dsdt(facts(vcpus)), tmp_path)
    found = re.findall(r"Processor \((CPU\d), (0x\d\d), 0x00000000, 0x00\)", text)
    assert found == [(f"CPU{index}", f"0x{index:02d}") for index in range(vcpus)]


@pytest.mark.parametrize("memory_mib", [2, 64, 256, 2048, 3072])
def test_the_pci_window_begins_where_memory_ends(memory_mib: int, tmp_path: Path) -> None:
    text = disassemble(dsdt(facts(memory_mib=memory_mib)), tmp_path)
    windows = re.findall(r"DWordMemory \(.*?\n.*?\n\s+0x(\w+), .*\n\s+0x(\w+), .*\n.*\n\s+0x(\w+),", text)
    first, last, length = (int(number, 16) for number in windows[1])
    assert (first, last) == (memory_mib << 20, 0xFEBFFFFF)
    assert length == last - first + 1


def test_devices_are_those_of_the_board(tmp_path: Path) -> None:
    every = re.findall(r"Device \((\w+)\)", disassemble(dsdt(facts(floppy=True)), tmp_path, "every"))
    assert every == ["PCI0", "ISA", "PIC", "DMAC", "TMR", "RTC", "SPKR", "FPU", "SYSR", "PS2K", "PS2M", "COM1", "COM2",
                     "LPT1", "FDC", "LNKA", "LNKB", "LNKC", "LNKD"]  # fmt: skip
    fewest = dsdt(facts(serial_ports=0, parallel_port=False, floppy=False))
    least = re.findall(r"Device \((\w+)\)", disassemble(fewest, tmp_path, "least"))
    assert set(every) - set(least) == {"COM1", "COM2", "LPT1", "FDC"}


def test_where_power_management_lies_is_nobody_elses(tmp_path: Path) -> None:
    (resources,) = evaluate(
        dsdt(facts(pm_base=0x1000, smbus_base=0x1040)), tmp_path, "execute \\_SB.PCI0.ISA.SYSR._CRS"
    )
    data = bytes.fromhex("".join(re.findall(r"[0-9A-F]{4}: ((?:[0-9A-F]{2} )+)", resources)))
    assert bytes.fromhex("47 01 0010 0010 01 40") in data
    assert bytes.fromhex("47 01 4010 4010 01 10") in data


def test_soft_off_is_sleep_type_0(tmp_path: Path) -> None:
    """PIIX4: SLP_TYP 000 is soft-off, 101 working."""
    off, working = evaluate(dsdt(facts()), tmp_path, "execute \\_S5", "execute \\_S0")
    assert integers(off)[:2] == [0, 0]
    assert integers(working)[:2] == [5, 5]
