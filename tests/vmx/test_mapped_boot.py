"""A machine whose boot disk is a raw device mapping on a volume: firmware and guest see the device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guests import build
from tests.vmkernel.storage.volume_lab import images, judge, volume_folder
from tests.vmx.machines import CollectingSerial
from vmkernel.storage.raw_device import create_mapping
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import LockMode
from vmkernel.storage.vmfs_store import close_volumes
from vmx import roms, runner
from vmx.machine import Machine
from vmx.machine_config import AdapterKind, AdapterSpec, DriveKind, DriveSpec, MachineConfig
from vmx.plug import plug_in
from vmx.stop import StopKind

DONE = "DONE 37 passed, 0 failed"
LIMIT_S = 60


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the firmware that boots disks, and a user whose LUNs are this test's."""
    if roms.find(roms.BIOS) is None:
        if os.environ.get("CI"):
            pytest.fail("SeaBIOS is not installed")
        pytest.skip("SeaBIOS is not installed, so nothing boots from a disk")
    for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", str(tmp_path / name.lower()))


@pytest.mark.parametrize("passthrough", [False, True])
def test_a_machine_boots_from_a_raw_device_mapping(tmp_path: Path, passthrough: bool) -> None:
    """bootdisk writes to its disk and reads it again: the writes are the device's, and the mapping is locked."""
    device = tmp_path / "device.img"
    device.write_bytes(build("bootdisk").read_bytes())
    before = device.read_bytes()
    path = volume_folder(tmp_path) / "map.vmdk"
    create_mapping(path, device, passthrough=passthrough)
    line = CollectingSerial()
    disk = DriveSpec(DriveKind.DISK, path)
    config = MachineConfig(
        memory_mib=16, engine="interp", serials=(None, None), scsi={0: AdapterSpec(AdapterKind.LSILOGIC, {0: disk})}
    )
    attached = plug_in(config, lambda text: None, lambda byte: None, firmware=True)
    attached.plug_serial(0, line)
    machine = Machine(config, attached)
    try:
        with Volume.open(images(tmp_path)) as other:
            assert int(other.lookup(f"/vm/map-rdm{'p' * passthrough}.vmdk").lock["mode"]) == LockMode.EXCLUSIVE
        machine.limit_time(LIMIT_S)
        machine.start()
        stop = runner.run(machine)
    finally:
        machine.close()
        close_volumes()
    lines = line.output.decode("latin-1").splitlines()
    assert (stop.kind, stop.status, lines[-1]) == (StopKind.EXITED, 0, DONE), lines
    assert device.read_bytes() != before
    judge(images(tmp_path))
