"""The disks of a .vmx file as snapshots see them: where each is plugged in, its file, and whether it takes part.

A disk in an independent mode is left out of snapshots; a CD-ROM drive is no disk. New redo logs go beside the disk, or
with `snapshot.redoNotWithParent` into the working directory.
Source: VMware, Basic System Administration (ESX Server 3), "Disk Modes"; virtual machine configuration files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ringfence.errors import BadInput
from vmkernel.storage.datastores import locate
from vmkernel.storage.formats import holds_vmdk
from vmkernel.storage.place import Place
from vmx.machine_config import DriveMode
from vmx.vmx_file import VmxFile, shown
from vmx.vmx_keys import text

PRESENT = re.compile(r"((?:ide[01]:[01])|(?:scsi[0-3]:(?:\d|1[0-5])))\.present", re.IGNORECASE)
NOT_DISKS = frozenset({"cdrom-image", "cdrom-raw", "atapi-cdrom", "scsi-passthru"})
INDEPENDENT = frozenset(
    {DriveMode.INDEPENDENT_PERSISTENT, DriveMode.INDEPENDENT_NONPERSISTENT, DriveMode.NONPERSISTENT}
)

WITH_REDO_LOG = frozenset({DriveMode.UNDOABLE, DriveMode.APPEND})


@dataclass(frozen=True, slots=True)
class MachineDisk:
    """A disk: its node such as ide0:0, the file of its youngest link, its mode, and the redo log in use, if any."""

    node: str
    path: Place
    mode: DriveMode
    redo: Place | None = None

    @property
    def key(self) -> str:
        return f"{self.node}.fileName"

    @property
    def redo_key(self) -> str:
        return f"{self.node}.redo"

    @property
    def takes_part(self) -> bool:
        return self.mode not in INDEPENDENT


def machine_disks(file: VmxFile) -> Iterator[MachineDisk]:
    """Raises BadInput, naming the line."""
    folder = file.path.absolute().parent
    for line in list(file):
        found = PRESENT.fullmatch(line.key)
        if not found or line.value.strip().lower() != "true":
            continue
        node = found[1].lower()
        name = file.get(f"{node}.fileName").strip()
        if not name or file.get(f"{node}.deviceType").strip().lower() in NOT_DISKS:
            continue
        word = file.get(f"{node}.mode").strip().lower() or DriveMode.PERSISTENT.value
        if word not in {mode.value for mode in DriveMode}:
            known = ", ".join(mode.value for mode in DriveMode)
            raise BadInput(file.where(f"{node}.mode"), f"{node}.mode", f"one of {known}", shown(word))
        mode = DriveMode(word)
        redo = text(file, f"{node}.redo").strip() if mode in WITH_REDO_LOG else ""
        yield MachineDisk(node, locate(folder, name), mode, locate(folder, redo) if redo else None)


def redo_folder(file: VmxFile, disk: Place) -> Place:
    """Where a new redo log of this disk goes."""
    if file.get("snapshot.redoNotWithParent").strip().lower() != "true":
        return disk.parent
    return file.path.absolute().parent / (file.get("workingDir").strip() or ".")


def refuse_bare_sectors(vmx: VmxFile, disk: MachineDisk) -> None:
    """Raises BadInput: only a disk with a descriptor can have children."""
    if not holds_vmdk(disk.path):
        what = f"disk in mode {disk.mode.value}" if disk.mode in WITH_REDO_LOG else "disk of a machine with snapshots"
        expected = "a VMDK, or mode independent-persistent"
        raise BadInput(f"{vmx.where(disk.key)}: {disk.key}", what, expected, disk.path.name)
