"""What Debian's kernel finds in the machine: processors, interrupts, PCI, clock, CD-ROM and disk, and no complaint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.realguests import iso
from tests.realguests.guest import CONFIG, LONG_S, built, linux, running, with_drives
from tests.realguests.transcript import Transcript
from vmx.stop import StopKind

MakeBoot = Callable[[str, str], iso.Boot]

FLAVOURS = ("686", "686-pae")
CD_MODULES = "mods=ata_piix,sr_mod,sd_mod,isofs"
SECTOR, PATTERN_SECTOR, DISK_BYTES = 512, 2000, 8 << 20
CLOCK_TOLERANCE_S = 2

PCI = {
    "00:00.0": ("0600", "8086:7190"), "00:01.0": ("0604", "8086:7191"), "00:07.0": ("0601", "8086:7110"),
    "00:07.1": ("0101", "8086:7111"), "00:07.3": ("0680", "8086:7113"), "00:0f.0": ("0300", "15ad:0405"),
}  # fmt: skip

# The rows of /proc/interrupts, with the least that a boot that reads CD and disk takes of each.
IO_APIC = {
    "0": (1, "IO-APIC 2-edge timer"), "1": (1, "IO-APIC 1-edge i8042"), "4": (20, "IO-APIC 4-edge ttyS0"),
    "8": (0, "IO-APIC 8-edge rtc0"), "12": (1, "IO-APIC 12-edge i8042"), "14": (3, "IO-APIC 14-edge ata_piix"),
    "15": (20, "IO-APIC 15-edge ata_piix"), "LOC": (100, "Local timer interrupts"),
}  # fmt: skip
ACPI = IO_APIC | {"9": (0, "IO-APIC 9-fasteoi acpi")}
PIC = {name: (least, f"XT-PIC {what.split()[-1]}") for name, (least, what) in IO_APIC.items() if name != "LOC"}
WAYS = [(append, vcpus) for append in ("", "acpi=off") for vcpus in (1, 2, 4)] + [("acpi=off nolapic noapic", 1)]
NEVER = ("NMI", "SPU", "ERR", "MIS")


def has_interrupts(transcript: Transcript, expected: dict[str, tuple[int, str]]) -> None:
    rows = transcript.interrupts
    assert {name: " ".join(rows[name].what.split()) for name in expected} == {
        name: what for name, (_, what) in expected.items()
    }
    assert {name: row.total for name, row in rows.items() if row.total < expected.get(name, (0, ""))[0]} == {}
    assert {name: rows[name].total for name in NEVER if name in rows and rows[name].total} == {}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(DISK_BYTES)
    return path


def pattern_of(disk: Path) -> bytes:
    with disk.open("rb") as file:
        file.seek(PATTERN_SECTOR * SECTOR)
        return file.read(SECTOR)


def test_one_processor_sees_all_devices(raw_boot: MakeBoot, data_iso: Path, disk: Path) -> None:
    boot = raw_boot("686", f"{CD_MODULES},vmw_balloon wr=1 loglevel=6 end=poweroff")
    with running(with_drives(disk=disk, cd=data_iso), linux(boot)) as guest:
        guest.expect("T: clocksource ")
        guest.expect("T: rtc ")
        shown = guest.expect(" 0.000000")
        guest.expect("T: date ")
        now, date = time.time(), int(guest.expect("\n"))
        guest.expect("ALL DONE")
        guest.ended(StopKind.POWERED_OFF)
        transcript = guest.transcript
    assert pattern_of(disk) == b"pat-sda\n".ljust(SECTOR, b"\0")
    assert transcript.starting("disk sda") == [f"sectors {DISK_BYTES >> 9}"]
    assert transcript.starting("sda") == ["readback pat-sda"]
    assert transcript.sums == iso.data_sums()
    assert transcript.pci == PCI
    has_interrupts(transcript, ACPI)
    chip = datetime.strptime(shown.removesuffix(" 0.000000").strip(), "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    assert abs(date - now) <= CLOCK_TOLERANCE_S and abs(chip.timestamp() - now) <= CLOCK_TOLERANCE_S
    assert "Hypervisor detected: VMware" in transcript.text
    assert "clocksource tsc" in transcript.lines
    assert transcript.loaded == {"ata_piix", "sr_mod", "sd_mod", "isofs", "vmw_balloon"}
    assert not transcript.complaints
    assert "reboot: Power down" in transcript.text


def test_four_processors_by_acpi(raw_boot: MakeBoot, data_iso: Path) -> None:
    boot = raw_boot("686-pae", f"{CD_MODULES} end=poweroff")
    with running(with_drives(replace(CONFIG, vcpus=4), cd=data_iso), linux(boot)) as guest:
        guest.ended(StopKind.POWERED_OFF)
        transcript = guest.transcript
    assert transcript.cpus == 4
    assert transcript.sums == iso.data_sums()
    assert all(count > 100 for count in transcript.interrupts["LOC"].counts)
    assert " nx " in transcript.text and " pae " in transcript.text
    has_interrupts(transcript, ACPI | {"14": (0, "IO-APIC 14-edge ata_piix")})
    assert not transcript.complaints


def test_two_processors_by_the_mp_table(raw_boot: MakeBoot) -> None:
    boot = raw_boot("686", "mods=none checks=interrupts,pci,complaints acpi=off loglevel=7 end=reboot")
    with built(replace(CONFIG, vcpus=2), linux(boot)) as guest:
        guest.machine.reboots = False
        guest.start()
        guest.ended(StopKind.RESET)
        transcript = guest.transcript
    assert transcript.cpus == 2
    assert "Intel MultiProcessor Specification v1.4" in transcript.text
    assert transcript.pci == PCI
    assert min(transcript.interrupts["LOC"].counts) > 100
    assert not transcript.complaints


def test_the_8259_alone(raw_boot: MakeBoot, data_iso: Path, disk: Path) -> None:
    boot = raw_boot("686-pae", f"{CD_MODULES} acpi=off nolapic noapic end=reboot")
    with built(with_drives(disk=disk, cd=data_iso), linux(boot)) as guest:
        guest.machine.reboots = False
        guest.start()
        guest.ended(StopKind.RESET)
        transcript = guest.transcript
    has_interrupts(transcript, PIC)
    assert transcript.interrupts["0"].total > 100
    assert transcript.sums == iso.data_sums()
    assert not transcript.complaints


def passes_all_checks(boot: iso.Boot, vcpus: int, rows: dict[str, tuple[int, str]], disk: Path, cd: Path) -> str:
    """Boot with disk and CD until the guest resets the machine; what was printed."""
    with built(with_drives(replace(CONFIG, vcpus=vcpus), disk=disk, cd=cd), linux(boot)) as guest:
        guest.machine.reboots = False
        guest.start(LONG_S)
        guest.ended(StopKind.RESET)
        transcript = guest.transcript
    assert transcript.cpus == vcpus
    assert transcript.sums == iso.data_sums() and transcript.pci == PCI
    assert pattern_of(disk).startswith(b"pat-sda\n")
    has_interrupts(transcript, rows)
    assert not transcript.complaints
    return transcript.text


@pytest.mark.long
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("append", "vcpus"), WAYS)
def test_every_way_to_boot(
    flavour: str, append: str, vcpus: int, raw_boot: MakeBoot, data_iso: Path, disk: Path
) -> None:
    boot = raw_boot(flavour, f"{CD_MODULES},pcnet32,vmw_balloon wr=1 loglevel=6 {append} end=reboot")
    passes_all_checks(boot, vcpus, PIC if "nolapic" in append else IO_APIC if append else ACPI, disk, data_iso)


@pytest.mark.long
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("vcpus", [1, 4])
def test_the_kernel_as_shipped_takes_its_signed_modules(
    flavour: str, vcpus: int, stock_boot: MakeBoot, data_iso: Path, disk: Path
) -> None:
    boot = stock_boot(flavour, f"{CD_MODULES},pcnet32,vmw_balloon wr=1 loglevel=6 end=reboot")
    text = passes_all_checks(boot, vcpus, ACPI, disk, data_iso)
    assert "module verification failed" not in text
