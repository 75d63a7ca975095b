"""The ACPI tables in guest memory, found from the RSDP as a system finds them, and read by iasl."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from hw.firmware.acpi import LOADER_FILE
from hw.firmware.board import BoardFacts
from hw.firmware.tables import FirmwareTables
from hw.piix4_pm_spec import BLOCK, ApmCommand
from tests.hw.firmware.machines import Ram, facts
from tests.hw.firmware.peers import disassemble, place_by_seabios

ALL_VCPUS = pytest.mark.parametrize("vcpus", [1, 2, 3, 4])


def find_tables(ram: Ram) -> dict[bytes, bytes]:
    """Every table by signature, each with its checksum verified; FACS and RSDP included."""
    (rsdp_at,) = ram.find(b"RSD PTR ")
    rsdp = ram.read(rsdp_at, 20)
    assert sum(rsdp) % 256 == 0
    assert rsdp[15] == 0, "revision of ACPI 1.0"
    found = {b"RSDP": rsdp}
    pointers = list(struct.unpack("<I", rsdp[16:]))
    while pointers:
        gpa = pointers.pop()
        signature, length = struct.unpack("<4sI", ram.read(gpa, 8))
        table = ram.read(gpa, length)
        assert signature not in found
        found[signature] = table
        if signature == b"FACS":
            assert gpa % 64 == 0
            continue
        assert sum(table) % 256 == 0, f"checksum of {signature!r}"
        assert (table[8], table[10:16]) == (1, b"RNGFNC")
        if signature == b"RSDT":
            pointers += struct.unpack(f"<{(length - 36) // 4}I", table[36:])
        elif signature == b"FACP":
            pointers += struct.unpack("<II", table[36:44])
    return found


def tables_of(machine: BoardFacts) -> dict[bytes, bytes]:
    ram = Ram()
    FirmwareTables(machine).place(ram.write)
    return find_tables(ram)


def entries(madt: bytes) -> list[bytes]:
    """The MADT's entries, each with type and length."""
    found, at = [], 44
    while at < len(madt):
        found.append(madt[at : at + madt[at + 1]])
        at += madt[at + 1]
    assert at == len(madt)
    return found


def test_a_system_finds_every_table() -> None:
    found = tables_of(facts())
    assert set(found) == {b"RSDP", b"RSDT", b"FACP", b"FACS", b"DSDT", b"APIC", b"BOOT"}
    assert (len(found[b"FACP"]), len(found[b"FACS"]), len(found[b"BOOT"])) == (116, 64, 40)


@ALL_VCPUS
def test_iasl_reads_every_table_and_makes_it_again(vcpus: int, tmp_path: Path) -> None:
    for signature, table in tables_of(facts(vcpus)).items():
        if signature != b"RSDP":
            name = signature.decode()
            disassemble(table, tmp_path, name)
            again = (tmp_path / f"{name}-again.aml").read_bytes()
            if signature == b"FACS":
                assert again == table
            elif signature != b"DSDT":
                assert unsigned(again) == unsigned(table), name


def unsigned(table: bytes) -> bytes:
    """The table without the compiler's name and version, and so without its checksum."""
    return table[:9] + table[10:28] + table[36:]


@ALL_VCPUS
def test_the_madt_has_the_processors_and_the_io_apic_behind_them(vcpus: int) -> None:
    madt = tables_of(facts(vcpus))[b"APIC"]
    assert len(madt) == 0x2C + 8 * vcpus + 0x0C + 2 * 0x0A + 6 * vcpus
    assert struct.unpack_from("<II", madt, 36) == (0xFEE00000, 1)
    rows = entries(madt)
    assert rows[:vcpus] == [struct.pack("<BBBBI", 0, 8, index, index, 1) for index in range(vcpus)]
    assert rows[vcpus] == struct.pack("<BBBBII", 1, 12, vcpus, 0, 0xFEC00000, 0)
    nmi = [struct.pack("<BBBHB", 4, 6, index, 0b0101, 1) for index in range(vcpus)]
    assert rows[-vcpus:] == nmi, "LINT1, an edge, active high"


def test_the_timer_is_at_input_2_and_the_sci_is_a_high_level() -> None:
    overrides = [struct.unpack("<BBBBIH", row) for row in entries(tables_of(facts())[b"APIC"]) if row[0] == 2]
    assert overrides == [(2, 10, 0, 0, 2, 0b0101), (2, 10, 0, 9, 9, 0b1101)]


@pytest.mark.parametrize("base", [0x600, 0x1000, 0xB000])
def test_the_fadt_names_the_piix4s_registers(base: int, tmp_path: Path) -> None:
    text = disassemble(tables_of(facts(pm_base=base))[b"FACP"], tmp_path)
    rows = re.findall(r"^(?:\[.*?\])? *([^:\[\]\n]+?) : ([0-9A-F]+)(?: \[.*)?$", text, re.M)
    fields = {name: int(value, 16) for name, value in rows}
    expected = {
        "SCI Interrupt": 9, "SMI Command Port": 0xB2, "ACPI Enable Value": ApmCommand.ACPI_ENABLE,
        "ACPI Disable Value": ApmCommand.ACPI_DISABLE,
        "PM1A Event Block Address": base, "PM1 Event Block Length": 4,
        "PM1A Control Block Address": base + BLOCK.by_name["PM1_CNT"].offset, "PM1 Control Block Length": 2,
        "PM Timer Block Address": base + 8, "PM Timer Block Length": 4,
        "GPE0 Block Address": base + BLOCK.by_name["GPSTS"].offset, "GPE0 Block Length": 4,
        "PM1B Event Block Address": 0, "PM2 Control Block Address": 0, "GPE1 Block Address": 0,
        "RTC Century Index": 0x32,
        "WBINVD instruction is operational (V1)": 1, "All CPUs support C1 (V1)": 1, "C2 works on MP system (V1)": 0,
        "Control Method Power Button (V1)": 0, "Control Method Sleep Button (V1)": 1,
        "RTC wake not in fixed reg space (V1)": 0, "32-bit PM Timer (V1)": 0,
    }  # fmt: skip
    assert {name: fields[name] for name in expected} == expected
    assert fields["C2 Latency"] > 100 and fields["C3 Latency"] > 1000, "there are no such states"


def test_seabios_places_the_same_tables(tmp_path: Path) -> None:
    """It carries out the script by itself: what it leaves differs from our placing in the addresses only."""
    machine = facts(3, 64)
    files = FirmwareTables(machine).fw_cfg_files()
    given = {name: data for name, data in files.items() if "acpi" in name or name == LOADER_FILE}
    low, high = place_by_seabios(given, 3, 64, [(0xF0000, 0x10000), (0x3FC0000, 0x40000)], tmp_path)
    ram = Ram()
    ram.write(0xF0000, low)
    ram.write(0x3FC0000, high)
    placed, ours = find_tables(ram), tables_of(machine)
    assert set(placed) == set(ours)
    for signature in (b"DSDT", b"APIC", b"BOOT", b"FACS"):
        assert placed[signature] == ours[signature]
    assert placed[b"FACP"][44:] == ours[b"FACP"][44:]
