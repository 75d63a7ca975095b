"""Machines with disks and no process, for the tests of snapshots: written, looked at, and judged as a whole."""

from __future__ import annotations

from pathlib import Path

from tests.vmkernel.storage.lab import SECTOR, contents, data, put
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create
from vmx.snapshot_disks import machine_disks
from vmx.snapshot_files import MachineFiles
from vmx.vmsd import SnapshotTree
from vmx.vmx_file import VmxFile

SECTORS = 96
VMX = """\
config.version = "8"
displayName = "web"
memsize = "16"
ide0:0.present = "TRUE"
ide0:0.fileName = "web.vmdk"
ide0:1.present = "TRUE"
ide0:1.fileName = "web_1.vmdk"
ide1:0.present = "TRUE"
ide1:0.fileName = "kept.vmdk"
ide1:0.mode = "independent-persistent"
ide1:1.present = "TRUE"
ide1:1.deviceType = "cdrom-image"
ide1:1.fileName = "cd.iso"
"""
DISKS = {"web.vmdk": Kind.THIN, "web_1.vmdk": Kind.MONOLITHIC_SPARSE, "kept.vmdk": Kind.THIN}
Shown = dict[str, bytes]


def make_machine(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "web.vmx").write_text(VMX)
    for name, kind in DISKS.items():
        create(folder / name, kind, SECTORS * SECTOR)
    return folder / "web.vmx"


def files_of_machine(vmx: Path) -> MachineFiles:
    return MachineFiles(VmxFile.read(vmx))


def run_guest(vmx: Path, seed: int) -> Shown:
    """A guest that writes to each of its disks, and is switched off; what they show then."""
    for number, disk in enumerate(machine_disks(VmxFile.read(vmx))):
        with open_disk(disk.path, writable=True) as chain:
            put(chain, (seed * 11 + number) % (SECTORS - 3), data(seed << 4 | number, 2))
    return current(vmx)


def current(vmx: Path) -> Shown:
    return {disk.node: contents(disk.path) for disk in machine_disks(VmxFile.read(vmx))}


def at_snapshots(vmx: Path) -> dict[int, Shown]:
    """What each snapshot would show."""
    tree = SnapshotTree.read(vmx.with_suffix(".vmsd"))
    return {
        snapshot.uid: {disk.node: contents(vmx.parent / disk.file) for disk in snapshot.disks}
        for snapshot in tree.snapshots
    }


def without_independent(shown: Shown) -> Shown:
    return {node: content for node, content in shown.items() if node != "ide1:0"}


def links_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix == ".vmdk"}
