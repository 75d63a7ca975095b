"""Checks a whole volume: every structure, every reference both ways, and says what is wrong, where, and what mends it.

    devices -> superblock, heartbeats -> resource files -> descriptors -> directories -> addresses -> bitmaps -> locks

A layer that tells nothing ends the check: its finding is the last. Nothing is written, and nothing that was read is
believed without the layer below it. What waits in a journal to be replayed is seen as if it had been. A volume that a
host is writing meanwhile is seen as of no one moment.
Not modelled: VMFS-5, which is refused.
Source: vmfs-tools, fsck/fsck.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from vmkernel.storage.errors import HostTrouble, Unsupported
from vmkernel.storage.vmfs3 import lvm_spec, volume_spec
from vmkernel.storage.vmfs3.check_files import Files
from vmkernel.storage.vmfs3.check_head import (
    check_heartbeats,
    check_superblock,
    read_heartbeats,
    read_superblock,
    waiting_sectors,
)
from vmkernel.storage.vmfs3.check_locks import check_locks, of_clusters, of_files
from vmkernel.storage.vmfs3.check_lvm import check_devices
from vmkernel.storage.vmfs3.check_resources import Places, Table, Unreadable
from vmkernel.storage.vmfs3.check_system import SystemFiles
from vmkernel.storage.vmfs3.check_tree import Tree
from vmkernel.storage.vmfs3.errors import CorruptVolume, IncompleteVolume
from vmkernel.storage.vmfs3.finding import Fault, Finding, Findings
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.overlay import OverlaidLun, lay_over
from vmkernel.storage.vmfs3.volume_spec import LockType


def check(paths: Sequence[Path]) -> list[Finding]:
    """Everything that is wrong with a volume; empty: nothing is. Raises NotVmfs, Unsupported, HostRefused."""
    with ExitStack() as stack:
        one = Check(open_luns(paths, stack))
        one.run()
        return one.result()


def open_luns(paths: Sequence[Path], stack: ExitStack, *, writable: bool = False) -> list[OverlaidLun]:
    """In the order of their extents."""
    luns = []
    for path in paths:
        lun = Lun.open(path, writable=writable)
        stack.callback(lun.close)
        luns.append(OverlaidLun.over(lun))
    return sorted(luns, key=first_pe)


def first_pe(lun: Lun) -> int:
    if lun.is_bare:
        return 0
    raw = lun.bytes_at(lvm_spec.DESCRIPTORS_AT, lvm_spec.VOLUME_DESCRIPTOR.sizeof())
    return int(lvm_spec.VOLUME_DESCRIPTOR.parse(raw).first_pe)


def judge_file_system(lv: LogicalVolume, superblock: Any) -> None:
    """Raises Unsupported for a later version, whose structures are others."""
    if superblock.major in (volume_spec.MAJOR_VMFS5, volume_spec.MAJOR_VMFS6):
        raise Unsupported(lv.name, "check", "VMFS-3", f"VMFS-{superblock.major // 10 + 4}")


class Check:
    """One check. What it read stays, for whoever mends by it: `tables` and `files` are empty if it fell short."""

    def __init__(self, luns: Sequence[OverlaidLun]) -> None:
        self.luns = list(luns)
        self.findings = Findings()
        self.tables: dict[LockType, Table] = {}
        self.files: Files | None = None
        self.lv: LogicalVolume | None = None

    def result(self) -> list[Finding]:
        return self.findings.all(self.files.paths() if self.files else None)

    def run(self) -> None:
        """Raises Unsupported for what is no VMFS-3."""
        self.judge_version()
        if not self.luns[0].is_bare:
            check_devices(self.luns, self.findings)
        try:
            self.lv = LogicalVolume.open(self.luns)
            lay_over(self.lv, {})
        except IncompleteVolume:
            if not len(self.findings):
                raise
            return
        except CorruptVolume as error:
            self._refused(error)
            return
        try:
            self._volume(self.lv)
        except HostTrouble as error:
            self.findings.add(Fault.LVM, error.offset, self.lv.name, "reading", "data", error.reason)
        except Unreadable:
            return

    def _refused(self, error: CorruptVolume) -> None:
        """What a reader says, where the check has no finding of its own."""
        if not len(self.findings):
            device = 0 if error.device else None
            self.findings.add(
                Fault.LVM, error.offset, error.volume, error.what, error.expected, error.found, device=device
            )  # fmt: skip

    def judge_version(self) -> None:
        """Raises Unsupported."""
        for lun in self.luns:
            if lun.is_bare:
                continue
            header = lvm_spec.DEVICE_HEADER.parse(lun.bytes_at(lvm_spec.HEADER_AT, lvm_spec.SECTOR_BYTES))
            if header.major != lvm_spec.MAJOR_LVM3:
                raise Unsupported(str(lun), "check", "LVM 3, of VMFS-3", f"LVM {header.major}")

    def _volume(self, lv: LogicalVolume) -> None:
        if lv.size < volume_spec.FIXED_END:
            return
        judge_file_system(lv, read_superblock(lv))
        superblock = check_superblock(lv, self.findings)
        if superblock is None:
            return
        block_size = int(superblock.block_size)
        blocks = lv.size // block_size
        slots = read_heartbeats(lv)
        journals = check_heartbeats(slots, blocks, self.findings)
        lay_over(lv, waiting_sectors(lv, slots, journals, block_size, self.findings))
        system = SystemFiles(lv, superblock, self.findings)
        self.tables = system.tables()
        for table in self.tables.values():
            table.check_clusters(self.findings)
        files = self.files = Files(self.tables, block_size, self.findings, system.known)
        tree = Tree(files)
        if not tree.walk():
            return
        tree.tell()
        files.check_fields()
        files.gather()
        files.check_ends()
        files.check_counts()
        files.check_shared()
        self._check_journals(files, journals)
        for kind, table in self.tables.items():
            table.compare(files.used(kind, journals[journals >= 0]), self.findings, may_free=not files.is_opaque)
        for locks in [of_files(files), *map(of_clusters, self.tables.values())]:
            check_locks(locks, slots, self.findings)

    def _check_journals(self, files: Files, journals: Places) -> None:
        """A journal's block belongs to nobody else."""
        claims = files.claims[LockType.FILE_BLOCKS]
        for slot in np.flatnonzero(journals >= 0).tolist():
            for claim in np.flatnonzero(claims.numbers == journals[slot])[:1].tolist():
                found = f"file block {journals[slot]}, which {files.title(int(claims.rows[claim]))} has"
                at = volume_spec.HEARTBEATS_AT + slot * volume_spec.HEARTBEAT_BYTES
                self.findings.add(Fault.JOURNAL, at, f"slot {slot}", "block of its journal", "one of its own", found)

