"""The SMBIOS structures, read by dmidecode."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from hw.firmware.smbios import smbios_files
from hw.firmware.tables import FirmwareTables
from tests.hw.firmware.machines import UUID, Ram, facts
from tests.hw.firmware.peers import dmidecode

Sections = dict[str, list[dict[str, str]]]


def read_by_dmidecode(vcpus: int, memory_mib: int, folder: Path, **more: int) -> tuple[str, Sections]:
    """What dmidecode says, and by title each structure's lines with a value."""
    machine = facts(vcpus, memory_mib, **more)
    ram = Ram()
    FirmwareTables(machine).place(ram.write)
    (gpa,) = ram.find(b"_SM_")
    entry = ram.read(gpa, 0x1F)
    size, address = struct.unpack_from("<HI", entry, 0x16)
    dumped = bytearray(entry)
    struct.pack_into("<I", dumped, 0x18, 32)  # as `dmidecode --dump-bin` does: where the file has the structures
    for at, first, end in ((0x15, 0x10, 0x1F), (0x04, 0, 0x1F)):
        dumped[at] = (dumped[at] - sum(dumped[first:end])) % 256
    said = dmidecode(bytes(dumped), ram.read(address, size), folder)
    found: Sections = {}
    for block in said.split("\n\n"):
        lines = block.splitlines()
        if len(lines) > 1 and lines[0].startswith("Handle"):
            pairs = (line.strip().partition(": ") for line in lines[2:] if ": " in line)
            found.setdefault(lines[1], []).append({name: value for name, _, value in pairs})
    return said, found


def test_linux_and_vmwares_tools_recognise_the_machine(tmp_path: Path) -> None:
    _, found = read_by_dmidecode(2, 256, tmp_path)
    (system,) = found["System Information"]
    assert system["Manufacturer"] == "VMware, Inc."
    assert system["Product Name"] == "VMware Virtual Platform"
    assert system["Serial Number"] == "VMware-56 4d 12 34 56 78 9a bc-de f0 11 22 33 44 55 66"
    assert system["UUID"].lower() == "564d1234-5678-9abc-def0-112233445566"


def test_dmidecode_finds_nothing_wrong(tmp_path: Path) -> None:
    said, found = read_by_dmidecode(2, 256, tmp_path)
    assert "SMBIOS 2.4 present." in said
    for sign in ("Wrong", "Invalid", "BROKEN", "<BAD", "OUT OF SPEC", "truncated", "announced"):
        assert sign not in said
    assert list(found) == ["BIOS Information", "System Information", "Base Board Information", "Chassis Information",
                           "Processor Information", "Physical Memory Array", "Memory Device",
                           "Memory Array Mapped Address", "System Boot Information", "End Of Table"]  # fmt: skip
    handles = re.findall(r"^Handle (0x\w+)", said, re.M)
    assert len(handles) == len(set(handles))


def test_linux_believes_the_pci_windows_of_so_new_a_bios(tmp_path: Path) -> None:
    """Before 2008 Linux ignores them on a machine with 32-bit addresses."""
    _, found = read_by_dmidecode(1, 64, tmp_path)
    (bios,) = found["BIOS Information"]
    assert int(bios["Release Date"].rpartition("/")[2]) >= 2008
    assert bios["ROM Size"] == "256 kB"


@pytest.mark.parametrize("vcpus", [1, 2, 3, 4])
def test_each_vcpu_is_a_populated_socket(vcpus: int, tmp_path: Path) -> None:
    _, found = read_by_dmidecode(vcpus, 256, tmp_path, cpu_signature=0x6B1, cpu_features=0x383FBFF)
    sockets = found["Processor Information"]
    assert [socket["Socket Designation"] for socket in sockets] == [f"CPU {index}" for index in range(vcpus)]
    assert {socket["Status"] for socket in sockets} == {"Populated, Enabled"}
    assert {socket["ID"] for socket in sockets} == {"B1 06 00 00 FF FB 83 03"}


@pytest.mark.parametrize(
    ("memory_mib", "size", "last"), [(2, "2 MB", 0x1FFFFF), (256, "256 MB", 0xFFFFFFF), (3072, "3 GB", 0xBFFFFFFF)]
)
def test_one_module_is_all_of_memory(memory_mib: int, size: str, last: int, tmp_path: Path) -> None:
    _, found = read_by_dmidecode(1, memory_mib, tmp_path)
    (module,), (mapped,), (array,) = (
        found[title] for title in ("Memory Device", "Memory Array Mapped Address", "Physical Memory Array")
    )
    assert module["Size"] == size
    assert (int(mapped["Starting Address"], 16), int(mapped["Ending Address"], 16)) == (0, last)
    assert (array["Maximum Capacity"], array["Number Of Devices"]) == ("3 GB", "1")


def test_firmware_gets_an_anchor_whose_sums_hold_and_sizes_match() -> None:
    """SeaBIOS refuses the structures otherwise."""
    anchor, structures = smbios_files(facts()).values()
    assert (anchor[:4], anchor[5], anchor[0x10:0x15]) == (b"_SM_", 0x1F, b"_DMI_")
    assert sum(anchor) % 256 == sum(anchor[0x10:]) % 256 == 0
    size, address, count = struct.unpack_from("<HIH", anchor, 0x16)
    assert (size, address) == (len(structures), 0)
    sizes, at = [], 0
    while at < size:
        end = structures.index(b"\0\0", at + structures[at + 1]) + 2
        sizes.append(end - at)
        at = end
    assert at == size
    assert (count, struct.unpack_from("<H", anchor, 8)[0]) == (len(sizes), max(sizes))


def test_the_serial_number_is_the_uuid() -> None:
    anchor, structures = smbios_files(facts()).values()
    assert anchor and UUID in structures
