"""Whole machines with SCSI adapters: the guest that drives them passes, also suspended in its midst."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ringfence.errors import BadInput, HostRefused, RingfenceError
from tests.vmx.scsi_machine import adapter, config_of, is_all_zeros, load_guest, machine, make_disk, run
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create_child
from vmx.machine_config import AdapterKind, AdapterSpec, DriveKind, DriveMode, DriveSpec
from vmx.stop import StopKind
from vmx.suspend import open_saved, restore, suspend_soon

PASSED = 19  # checks of one adapter, and that PCI answers
MIDST = "has_no_unit_1"  # what the guest says before its reads and writes


@pytest.mark.parametrize("vcpus", [1, 2])
@pytest.mark.parametrize("kind", AdapterKind)
def test_drivers_of_each_adapter_pass(kind: AdapterKind, vcpus: int, tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.vmdk")
    with machine(config_of({0: adapter(kind, disk)}, tmp_path, vcpus)) as (made, line):
        load_guest(made, 1)
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        assert line.failures() == [] and line.said()[-1] == f"DONE {PASSED} passed, 0 failed"
    assert is_all_zeros(disk), "every block is as it was"


def test_four_adapters_work_side_by_side_over_disks_of_each_kind(tmp_path: Path) -> None:
    kinds = (Kind.MONOLITHIC_SPARSE, Kind.VMFS_SPARSE, Kind.THIN, Kind.TWO_GB_FLAT)
    disks = [make_disk(tmp_path / f"disk{number}.vmdk", kind) for number, kind in enumerate(kinds)]
    models = [AdapterKind.LSILOGIC, AdapterKind.BUSLOGIC, AdapterKind.LSILOGIC, AdapterKind.LSILOGIC]
    adapters = {number: adapter(models[number], disk) for number, disk in enumerate(disks)}
    with machine(config_of(adapters, tmp_path)) as (made, line):
        load_guest(made, 4)
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        assert line.failures() == [] and line.said()[-1].endswith(" 0 failed")


def test_bare_sectors_and_a_chain_are_disks_too(tmp_path: Path) -> None:
    raw, base, child = tmp_path / "disk.img", make_disk(tmp_path / "base.vmdk"), tmp_path / "child.vmdk"
    raw.write_bytes(bytes(1 << 20))
    create_child(child, base)
    adapters = {0: adapter(AdapterKind.LSILOGIC, raw), 1: adapter(AdapterKind.BUSLOGIC, child, write_through=True)}
    with machine(config_of(adapters, tmp_path)) as (made, line):
        load_guest(made, 2)
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        assert line.failures() == []
    assert is_all_zeros(child) and not any(raw.read_bytes())


@pytest.mark.parametrize("kind", AdapterKind)
def test_a_suspended_machine_goes_on_with_its_disk(kind: AdapterKind, tmp_path: Path) -> None:
    disk, saved = make_disk(tmp_path / "disk.vmdk"), tmp_path / "machine.vmss"
    config = config_of({0: adapter(kind, disk)}, tmp_path)
    failures: list[RingfenceError] = []
    with machine(config) as (made, line):
        load_guest(made, 1)
        line.at(MIDST, lambda: suspend_soon(made, saved, failures.append))
        assert run(made).kind is StopKind.SUSPENDED and not failures
        before = line.said()
    with machine(config, resumes=True) as (made, line):
        state = open_saved(saved)
        restore(made, state)
        state.close()
        assert run(made).kind is StopKind.EXITED, "\n".join(line.said())
        assert line.failures() == [] and line.said()[-1] == f"DONE {PASSED} passed, 0 failed"
    assert before[-1].endswith(MIDST) and is_all_zeros(disk)


def test_a_state_of_a_machine_with_another_adapter_is_refused(tmp_path: Path) -> None:
    disk, saved = make_disk(tmp_path / "disk.vmdk"), tmp_path / "machine.vmss"
    with machine(config_of({0: adapter(AdapterKind.LSILOGIC, disk)}, tmp_path)) as (made, line):
        load_guest(made, 1)
        line.at(MIDST, lambda: suspend_soon(made, saved, pytest.fail))
        run(made)
    with machine(config_of({0: adapter(AdapterKind.BUSLOGIC, disk)}, tmp_path)) as (made, line):
        state = open_saved(saved)
        with pytest.raises(BadInput, match=r"adapters: expected .*buslogic.* found .*lsilogic"):
            restore(made, state)
        state.close()


@pytest.mark.parametrize("mode", [DriveMode.NONPERSISTENT, DriveMode.INDEPENDENT_NONPERSISTENT])
def test_a_nonpersistent_disk_forgets_at_power_off_but_not_when_suspended(mode: DriveMode, tmp_path: Path) -> None:
    disk, saved = make_disk(tmp_path / "disk.vmdk"), tmp_path / "machine.vmss"
    before = disk.read_bytes()
    folder = tmp_path / "machine"
    folder.mkdir()
    config = config_of({0: adapter(AdapterKind.LSILOGIC, disk, mode)}, folder)
    with machine(config) as (made, line):
        load_guest(made, 1)
        line.at("reads_into_scattered_memory", lambda: suspend_soon(made, saved, pytest.fail))
        run(made)
    assert sorted(file.name for file in folder.iterdir()) == [
        "disk-nonpersistent-scsi0_0-delta.vmdk", "disk-nonpersistent-scsi0_0.vmdk",
    ]  # fmt: skip
    with machine(config, resumes=True) as (made, line):
        state = open_saved(saved)
        restore(made, state)
        state.close()
        assert run(made).kind is StopKind.EXITED and line.failures() == []
    with pytest.raises(BadInput, match="redo log: expected that of the"), machine(config, resumes=True):
        pytest.fail("it went on without what it had written")
    assert not list(folder.iterdir()) and disk.read_bytes() == before


def test_two_machines_share_a_nonpersistent_disk(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.vmdk")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    configs = [
        config_of({0: adapter(AdapterKind.LSILOGIC, disk, DriveMode.NONPERSISTENT)}, folder) for folder in folders
    ]
    persistent = config_of({0: adapter(AdapterKind.LSILOGIC, disk)}, tmp_path)
    with (
        machine(configs[0]), machine(configs[1]), pytest.raises(HostRefused, match=r"disk\.vmdk"), machine(persistent),
    ):  # fmt: skip
        pytest.fail("it was opened for writing")


def test_a_disk_has_one_writer(tmp_path: Path) -> None:
    config = config_of({0: adapter(AdapterKind.LSILOGIC, make_disk(tmp_path / "disk.vmdk"))}, tmp_path)
    with machine(config), pytest.raises(HostRefused, match=r"disk\.vmdk"), machine(config):
        pytest.fail("it was opened twice")


def test_a_disc_in_a_scsi_drive_comes_and_goes(tmp_path: Path) -> None:
    disc = tmp_path / "disc.iso"
    disc.write_bytes(bytes(40960))
    drives = {2: DriveSpec(DriveKind.CDROM, disc)}
    with machine(config_of({1: AdapterSpec(AdapterKind.LSILOGIC, drives)}, tmp_path)) as (made, _):
        (tray,) = made.attachments.all_trays()
        names = [device.name for device in made.board.removable.devices()]
        assert tray.name == "scsi1:2" in names and tray.medium is not None
        tray.disconnect()
        assert tray.medium is None


def test_an_adapter_answers_in_its_slot(tmp_path: Path) -> None:
    adapters = {number: AdapterSpec(AdapterKind.BUSLOGIC) for number in (0, 3)}
    with machine(config_of(adapters, tmp_path)) as (made, _):
        found = {slot for slot in made.board.pci.functions if slot[1] >= 0x10}
        assert found == {(0, 0x10, 0), (0, 0x13, 0)}
        assert [pin.slot for pin in made.board.interrupt_pins()] == [0x10, 0x13]


def test_ide_disks_are_vmdks_too(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk.vmdk", Kind.VMFS_SPARSE)
    config = replace(config_of({}, tmp_path), ide={(0, 0): DriveSpec(DriveKind.DISK, disk)})
    with machine(config) as (made, _):
        medium = made.attachments.drives[0, 0].medium  # type: ignore[union-attr]
        assert medium.blocks == 8 << 11
        medium.write(5, [memoryview(b"x" * 512)])
    with open_disk(disk) as chain:
        sector = memoryview(bytearray(512))
        chain.read(5 * 512, [sector])
    assert bytes(sector) == b"x" * 512
