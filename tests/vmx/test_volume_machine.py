"""Machines that live on a VMFS volume: switched on from there, with everything in their folder, owned by one host."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3.hosts import make
from tests.vmkernel.storage.volume_lab import COUNTS, judge
from tests.vmx.lab import Lab, wait_until
from tests.vmx.snapshot_lab import DISKS, SECTORS, VMX, at_snapshots, current, run_guest
from vmkernel.storage.block_file import BlockFile, copy_file, replace_file
from vmkernel.storage.create import Kind, create
from vmkernel.storage.datastores import Datastores, resolve
from vmkernel.storage.errors import Locked
from vmkernel.storage.vmfs3.heartbeat import slots_in_use
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs_place import VolumePlace, place_in
from vmkernel.storage.vmfs_store import close_volumes
from vmx import snapshots
from vmx.vmsd import SnapshotTree

NOW_US = 1_150_000_000_000_000


class VolumeLab(Lab):
    """The same machine in a datastore that is a volume; `home` is its folder there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        (folder / "vmfs").mkdir()
        self.images = make(folder / "vmfs", label="san", counts=COUNTS)
        Datastores.of_user().add("san", self.images)
        resolve("[san] lab").mkdir()
        super().__init__(folder, monkeypatch)
        copy_file(folder / "toy.bin", self.home / "toy.bin")
        create(self.home / "lab.vmdk", Kind.THIN, 4 << 20)
        close_volumes()

    @property
    def home(self) -> VolumePlace:
        place = resolve("[san] lab")
        assert isinstance(place, VolumePlace)
        return place

    def describe(self, **changed: str) -> None:
        keys = {
            "config.version": "8", "virtualHW.version": "4", "displayName": "lab", "memsize": "16",
            "bios440.filename": "toy.bin", "serial0.present": "TRUE", "serial0.fileType": "pipe",
            "serial0.fileName": str(self.folder / "com1"), "scsi0.present": "TRUE", "scsi0:0.present": "TRUE",
            "scsi0:0.fileName": "lab.vmdk", "nvram": "lab.nvram",
        }  # fmt: skip
        keys |= {name.replace("_", "."): value for name, value in changed.items()}
        self.vmx = self.home / "lab.vmx"  # type: ignore[assignment]
        replace_file(self.vmx, "".join(f'{key} = "{value}"\n' for key, value in keys.items() if value).encode())

    def names(self) -> set[str]:
        close_volumes()  # as another process sees it
        return {path.name for path in self.home.iterdir()}

    def log(self) -> str:
        path = self.home / "vmware.log"
        return path.read_bytes().decode() if path.exists() else ""

    def pid(self) -> int:
        return self.home.joinpath("lab.vmx").holder_pid()

    def wait_off(self) -> None:
        wait_until(lambda: not self.pid(), f"the end of the machine\n{self.log()}")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VolumeLab]:
    made = VolumeLab(tmp_path, monkeypatch)
    yield made
    made.close()
    close_volumes()
    judge(made.images, killed=True)


def test_a_machine_runs_from_its_volume_and_its_files_are_in_its_folder(lab: VolumeLab) -> None:
    talk = lab.start()
    talk.expect("W01", asked="w")
    status = lab.status()
    assert (status["vmx"], status["power_state"]) == ("[san] lab/lab.vmx", "poweredOn")
    owner = status["pid"]
    wait_until(lambda: "lab.nvram" in lab.names(), "what other hosts see")
    (swap,) = (path for path in lab.home.iterdir() if path.suffix == ".vswp")
    assert (swap.stat().st_size, swap.stat().st_blocks) == (16 << 20, 0)
    kept = {"lab.vmx", "lab.vmdk", "lab-flat.vmdk", "toy.bin", "vmware.log", "lab.nvram"}
    assert lab.names() == kept | {swap.name}
    with pytest.raises(Locked, match=rf"locked by .* \(pid {owner}\)"):
        BlockFile.open(lab.home / swap.name, writable=True)
    line = lab.one_line("run", "[san] lab/lab.vmx")
    assert line.startswith("[san] lab/lab.vmx: the machine is switched on already, by ")
    assert line.endswith(f"(pid {owner})")
    line = lab.one_line("disk", "resize", "[san] lab/lab.vmdk", "8M")
    assert line.endswith(f"(pid {owner})") and "locked by" in line
    lab.vm("stop", "--hard")
    lab.wait_off()
    with Volume.open(lab.images) as seen:
        wait_until(lambda: slots_in_use(seen.lv) == [], "the end of the process")
    assert lab.names() == kept
    assert "POWERON: the machine runs" in lab.log()
    rows = json.loads(lab.ringfence("vm", "list", "--json").stdout)
    assert [(row["name"], row["power_state"], row["vmx"]) for row in rows] == [
        ("lab", "poweredOff", "[san] lab/lab.vmx")
    ]
    assert json.loads(lab.ringfence("vm", "lab", "status", "--json").stdout)["vmx"] == "[san] lab/lab.vmx"


def test_a_suspended_machine_goes_on_from_the_volume(lab: VolumeLab) -> None:
    lab.start().expect("W01", asked="w")
    lab.vm("suspend")
    assert lab.state() == "suspended"
    assert any(name.endswith(".vmss") for name in lab.names())
    lab.vm("resume")
    lab.talk().expect("W02", asked="w")
    wait_until(lambda: not any(name.endswith(".vmss") for name in lab.names()), "the end of the saved state")


def test_a_killed_machine_is_switched_on_again_at_once(lab: VolumeLab) -> None:
    talk = lab.start()
    talk.expect("W01", asked="w")
    os.kill(int(lab.status()["pid"]), signal.SIGKILL)
    assert talk.closed()
    (lab.folder / "com1").unlink()
    wait_until(lambda: lab.state() == "poweredOff", "the end of the process")
    lab.start().expect("W01", asked="w")
    wait_until(lambda: "vmware-1.log" in lab.names(), "the log of the run before")


def test_a_signal_switches_it_off_and_gives_the_volume_back(lab: VolumeLab) -> None:
    child = lab.in_front()
    lab.talk().expect("E", asked="e")
    child.send_signal(signal.SIGTERM)
    _, told = child.communicate(timeout=60)
    assert told == ""
    with Volume.open(lab.images) as seen:
        assert slots_in_use(seen.lv) == []
    assert "POWEROFF by signal SIGTERM" in lab.log()


def test_a_snapshot_of_a_running_machine_is_taken_and_returned_to(lab: VolumeLab) -> None:
    lab.start().expect("W01", asked="w")
    lab.vm("snapshot", "take", "first", "--memory")
    names = lab.names()
    assert {"lab.vmsd", "lab-000001.vmdk", "lab-000001-delta.vmdk"} <= names
    assert any(name.endswith(".vmsn") for name in names)
    lab.vm("stop", "--hard")
    lab.wait_off()
    (row,) = json.loads(lab.vm("snapshot", "list", "--json"))
    assert (row["name"], row["memory"], row["missing"]) == ("first", True, [])
    lab.vm("snapshot", "revert", "first")
    lab.start().expect("W02", asked="w")
    lab.vm("stop", "--hard")
    lab.wait_off()
    lab.vm("snapshot", "delete-all")
    assert {name for name in lab.names() if "0000" in name} == set()


def test_the_file_of_a_port_is_of_the_host(lab: VolumeLab) -> None:
    lab.describe(serial0_fileName="com1")
    assert "expected an absolute path of the host" in lab.one_line("run", str(lab.vmx))


# snapshots of a machine that is switched off


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[VolumePlace]:
    images = make(tmp_path, counts=COUNTS)
    folder = place_in(images, "web")
    folder.mkdir()
    replace_file(folder / "web.vmx", VMX.encode())
    for name, kind in DISKS.items():
        create(folder / name, kind, SECTORS * 512)
    yield folder / "web.vmx"
    close_volumes()
    judge(images)


def test_snapshots_of_a_machine_on_a_volume(
    machine: VolumePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    shown = {0: run_guest(machine, 1)}
    for uid in (1, 2):
        with snapshots.switched_off(machine) as files:
            assert snapshots.take(files, f"number {uid}", "", NOW_US + uid).uid == uid
        shown[uid] = current(machine)
        run_guest(machine, uid + 1)
    kept = at_snapshots(machine)
    assert {uid: kept[uid]["ide0:0"] for uid in kept} == {uid: shown[uid]["ide0:0"] for uid in (1, 2)}
    with snapshots.switched_off(machine) as files:
        snapshots.delete(files, 1)
    assert at_snapshots(machine)[2]["ide0:0"] == shown[2]["ide0:0"]
    with snapshots.switched_off(machine) as files:
        snapshots.revert(files, 2)
    assert current(machine)["ide0:0"] == shown[2]["ide0:0"]
    with snapshots.switched_off(machine) as files:
        snapshots.delete_all(files)
    assert SnapshotTree.read(machine.with_suffix(".vmsd")).snapshots == []
    left = {path.name for path in machine.parent.iterdir()}
    assert not any(name.endswith(".vmsn") for name in left)
