"""The disk that firmware boots, from each of the adapters, beside other disks, and on another PC."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guests import build, list_guests
from tests.guests import qemu
from tests.tools.command import ringfence_here
from tests.vmx.machines import CollectingSerial
from vmx import roms, runner
from vmx.machine import Machine
from vmx.machine_config import AdapterKind, AdapterSpec, DriveKind, DriveSpec, MachineConfig
from vmx.plug import plug_in
from vmx.stop import StopKind

PASSED = 37
DONE = f"DONE {PASSED} passed, 0 failed"
LIMIT_S = 60


@pytest.fixture(autouse=True)
def firmware() -> None:
    if roms.find(roms.BIOS) is None:
        if os.environ.get("CI"):
            pytest.fail("SeaBIOS is not installed")
        pytest.skip("SeaBIOS is not installed, so nothing boots from a disk")


def boot(folder: Path, kind: AdapterKind, beside: dict[int, Path], ide: Path | None = None) -> list[str]:
    """What the guest says, from the disk with the smallest id; a disk on the IDE channel comes before it."""
    disk = folder / "disk.img"
    disk.write_bytes(build("bootdisk").read_bytes())
    drives = {number: DriveSpec(DriveKind.DISK, path) for number, path in ({0: disk} | beside).items()}
    line = CollectingSerial()
    config = MachineConfig(
        memory_mib=16, engine="interp", serials=(None, None), scsi={0: AdapterSpec(kind, drives)},
        ide={(0, 0): DriveSpec(DriveKind.DISK, ide)} if ide else {},
    )  # fmt: skip
    attached = plug_in(config, lambda text: None, lambda byte: None, firmware=True)
    attached.plug_serial(0, line)
    machine = Machine(config, attached)
    try:
        machine.limit_time(LIMIT_S)
        machine.start()
        stop = runner.run(machine)
    finally:
        machine.close()
    lines = line.output.decode("latin-1").splitlines()
    assert (stop.kind, stop.status) == (StopKind.EXITED, 0), lines
    return lines


def blank(path: Path) -> Path:
    path.write_bytes(bytes(4 << 20))
    return path


@pytest.mark.parametrize("kind", AdapterKind)
def test_it_boots_from_either_adapter(tmp_path: Path, kind: AdapterKind) -> None:
    lines = boot(tmp_path, kind, {})
    assert [line for line in lines if not line.startswith("PASS ")] == [DONE]


@pytest.mark.long
@pytest.mark.parametrize("kind", AdapterKind)
def test_other_disks_of_the_adapter_are_there_too(tmp_path: Path, kind: AdapterKind) -> None:
    others = {number: blank(tmp_path / f"{number}.img") for number in (3, 15)}
    assert boot(tmp_path, kind, others)[-1] == DONE


def test_disks_of_the_option_rom_come_after_those_of_the_firmware(tmp_path: Path) -> None:
    ide = tmp_path / "ide.img"
    ide.write_bytes(build("bootdisk").read_bytes())
    assert boot(tmp_path, AdapterKind.BUSLOGIC, {1: blank(tmp_path / "1.img")}, ide)[-1] == DONE


def test_the_command_knows_it(capfd: pytest.CaptureFixture[str]) -> None:
    image = build("bootdisk")
    before = image.read_bytes()
    done = ringfence_here("run", "bootdisk", "--scsi-adapter", "buslogic", "--timeout", str(LIMIT_S))
    assert (done.returncode, done.stderr) == (0, "") and capfd.readouterr().out.splitlines()[-1] == DONE
    assert image.read_bytes() == before, "it wrote to a copy"
    assert next(guest for guest in list_guests() if guest.name == "bootdisk").boots


def test_another_pc_agrees() -> None:
    qemu.need_qemu()
    run = qemu.run(build("bootdisk"))
    assert run.status == qemu.PASSED and run.lines[-1] == DONE
