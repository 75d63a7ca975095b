"""All tables of a machine, put into its memory: what the memory map says, and what cannot be described."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.firmware.acpi import FACS_FILE, LOADER_FILE, RSDP_FILE
from hw.firmware.acpi import TABLES_FILE as ACPI_FILE
from hw.firmware.board import BoardFacts, PciInterrupt, link_of
from hw.firmware.linker_spec import NAME_BYTES
from hw.firmware.smbios import ANCHOR_FILE
from hw.firmware.smbios import TABLES_FILE as SMBIOS_FILE
from hw.firmware.tables import FirmwareTables, HighZone, LowZone, Placement
from hw.fw_cfg_spec import E820Type
from hw.pci import PciLinks
from ringfence.errors import BadInput, BadOption
from tests.hw.firmware.machines import Ram, facts
from tests.hw.firmware.test_acpi import find_tables

TABLES = {E820Type.ACPI, E820Type.NVS}
MEMORY_SIZES = pytest.mark.parametrize("memory_mib", [2, 3, 64, 256, 2048, 3072])


WHERE = pytest.mark.parametrize("below_1_mib", [False, True])


def place(machine: BoardFacts, below_1_mib: bool = False) -> tuple[Ram, Placement]:
    ram = Ram()
    return ram, FirmwareTables(machine).place(ram.write, below_1_mib=below_1_mib)


@WHERE
@MEMORY_SIZES
def test_rows_of_the_memory_map_are_in_order_and_apart(memory_mib: int, below_1_mib: bool) -> None:
    _, placement = place(facts(memory_mib=memory_mib), below_1_mib)
    end = 0
    for address, length, _ in placement.memory_map:
        assert address >= end
        assert length > 0
        end = address + length
    assert end == 1 << 32
    extended = [row for row in placement.memory_map if 1 << 20 <= row[0] < memory_mib << 20]
    assert sum(length for _, length, _ in extended) == (memory_mib << 20) - (1 << 20)
    assert {kind for _, _, kind in extended} == {E820Type.RAM} | (set() if below_1_mib else TABLES)


@WHERE
@MEMORY_SIZES
def test_what_is_placed_lies_where_the_guest_will_not_write(memory_mib: int, below_1_mib: bool) -> None:
    ram, placement = place(facts(memory_mib=memory_mib), below_1_mib)
    kept = [row for row in placement.memory_map if row[2] != E820Type.RAM]
    for gpa, data in ram.pieces.items():
        (home,) = (kind for first, length, kind in kept if first <= gpa and gpa + len(data) <= first + length)
        assert (home == E820Type.NVS) == data.startswith(b"FACS")
        assert (home == E820Type.ACPI) == data.startswith(b"DSDT")


@WHERE
@pytest.mark.parametrize("vcpus", [1, 2, 3, 4])
def test_everything_that_systems_search_for_is_there_once(vcpus: int, below_1_mib: bool) -> None:
    ram, placement = place(facts(vcpus), below_1_mib)
    assert ram.find(b"RSD PTR ") == [placement.rsdp]
    assert [len(ram.find(signature)) for signature in (b"_SM_", b"_MP_", b"$PIR")] == [1, 1, 1]
    assert b"DSDT" in find_tables(ram)


def test_below_1_mib_all_memory_above_is_the_guests() -> None:
    ram, _ = place(facts(), True)
    assert min(ram.pieces) >= 0xC0000
    assert max(gpa + len(data) for gpa, data in ram.pieces.items()) <= 0x100000


def test_a_zone_that_is_full_is_an_error() -> None:
    high, low = HighZone(0x102000, 0x100000), LowZone(0xFFFE0, 0x100000)
    assert high.allocate(1, 64) == 0x101000
    with pytest.raises(BadInput, match="memory: expected 1 bytes free above 0x100000, found none"):
        high.allocate(1, 64)
    assert low.allocate(17, 16) == 0xFFFE0
    with pytest.raises(BadInput, match="F segment: expected 1 bytes free, found 0"):
        low.allocate(1, 16)


def test_the_same_machine_has_the_same_tables() -> None:
    assert FirmwareTables(facts()).fw_cfg_files() == FirmwareTables(facts()).fw_cfg_files()
    assert place(facts())[0].pieces == place(facts())[0].pieces


def test_firmware_gets_six_files() -> None:
    files = FirmwareTables(facts()).fw_cfg_files()
    assert set(files) == {RSDP_FILE, FACS_FILE, ACPI_FILE, LOADER_FILE, ANCHOR_FILE, SMBIOS_FILE}
    assert all(len(name) < NAME_BYTES for name in files)
    assert len(files[LOADER_FILE]) % 128 == 0


def test_links_are_those_of_the_pci_bus() -> None:
    links = PciLinks()
    every = [(slot, pin) for slot in range(32) for pin in range(1, 5)]
    assert [link_of(*place) for place in every] == [links.pin(*place).link for place in every]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"vcpus": 0}, "processors: expected 1 to 4, found 0"),
        ({"vcpus": 5}, "processors: expected 1 to 4, found 5"),
        ({"memory_mib": 1}, "memory: expected 2 to 3072 MiB, found 1"),
        ({"memory_mib": 3073}, "memory: expected 2 to 3072 MiB, found 3073"),
        ({"uuid": b"short"}, "UUID: expected 16 bytes, found 5"),
    ],
)
def test_a_machine_that_cannot_be_described_is_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(BadOption, match=what):
        FirmwareTables(replace(facts(), **change))  # type: ignore[arg-type]


def test_a_machine_without_devices_has_tables() -> None:
    ram, _ = place(facts(1, interrupts=(), serial_ports=0, parallel_port=False))
    assert len(ram.find(b"$PIR")) == 1
    ram, _ = place(facts(1, interrupts=tuple(PciInterrupt(slot, pin) for slot in range(32) for pin in range(1, 5))))
    assert len(ram.find(b"_MP_")) == 1
