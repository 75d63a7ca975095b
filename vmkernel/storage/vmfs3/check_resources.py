"""Reads the four resource files without refusing what is wrong, and says what is: headers, cluster headers, bitmaps.

A Table is one resource file as the check sees it: where each cluster header and each resource lies in the logical
volume, and what the bitmaps say. What is in use is told by whoever looks at the files; `compare` sets that against the
bitmaps.
Source: vmfs-tools, libvmfs/vmfs_bitmap.c, fsck/fsck.c.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from construct import Int32ul
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import resource_spec as spec
from vmkernel.storage.vmfs3.check_geometry import Evidence
from vmkernel.storage.vmfs3.descriptor_spec import FD_BYTES, POINTER_BLOCK_BYTES
from vmkernel.storage.vmfs3.finding import Fault, Findings, Patch
from vmkernel.storage.vmfs3.geometry import ResourceGeometry
from vmkernel.storage.vmfs3.layout import offsets
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.volume_spec import SUB_BLOCK_BYTES, SUPERBLOCK, SUPERBLOCK_AT, LockType

Places = NDArray[np.int64]
HEADER_OFFSETS = offsets(spec.HEADER)
CLUSTER_OFFSETS = offsets(spec.CLUSTER)
SUPERBLOCK_OFFSETS = offsets(SUPERBLOCK)
LOCK_POSITION_AT = 4
SIZES = {
    LockType.FILE_BLOCKS: 0, LockType.FILE_DESCRIPTORS: FD_BYTES, LockType.POINTER_BLOCKS: POINTER_BLOCK_BYTES,
    LockType.SUB_BLOCKS: SUB_BLOCK_BYTES,
}  # fmt: skip
NAMES = {
    LockType.FILE_BLOCKS: ".fbb.sf", LockType.FILE_DESCRIPTORS: ".fdc.sf", LockType.POINTER_BLOCKS: ".pbc.sf",
    LockType.SUB_BLOCKS: ".sbc.sf",
}  # fmt: skip
WORDS = {
    LockType.FILE_BLOCKS: "file block", LockType.FILE_DESCRIPTORS: "FD", LockType.POINTER_BLOCKS: "pointer block",
    LockType.SUB_BLOCKS: "sub-block",
}  # fmt: skip
STRETCHES_MAX = 200  # runs of wrong bits of one file that are told one by one


class Unreadable(Exception):
    """A resource file that tells nothing; the finding is made."""


class Table:
    """A resource file. `blocks` are the numbers of the file blocks that it lies in, `length` is what its descriptor
    says; `lv` is read, never written."""

    def __init__(self, lv: LogicalVolume, kind: LockType, blocks: Places, block_size: int, length: int) -> None:
        self.lv, self.kind, self.block_size = lv, kind, block_size
        self.blocks, self.length = blocks, length
        self.name, self.word, self.size = NAMES[kind], WORDS[kind], SIZES[kind]
        self.header: Any = spec.HEADER.parse(self.read(0, spec.HEADER.sizeof()))
        self.geometry = ResourceGeometry(0, 0, 0)
        self.positions: Places = np.zeros(0, np.int64)
        self.clusters: NDArray[Any] = np.zeros(0, spec.CLUSTER)
        self.used: NDArray[np.bool_] = np.zeros(0, np.bool_)

    @property
    def room(self) -> int:
        return len(self.blocks) * self.block_size

    @property
    def header_at(self) -> int:
        return int(self.blocks[0]) * self.block_size

    @property
    def per_cluster(self) -> int:
        return self.geometry.per_cluster

    @property
    def total(self) -> int:
        return self.geometry.total

    def places(self, at: Places) -> Places:
        """Where bytes of the resource file lie in the logical volume."""
        return self.blocks[at // self.block_size] * self.block_size + at % self.block_size

    def runs(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Places and lengths in the logical volume, cut at file blocks that do not follow each other."""
        runs: list[tuple[int, int]] = []
        while length:
            step = min(length, self.block_size - offset % self.block_size)
            place = int(self.blocks[offset // self.block_size]) * self.block_size + offset % self.block_size
            if runs and sum(runs[-1]) == place:
                runs[-1] = (runs[-1][0], runs[-1][1] + step)
            else:
                runs.append((place, step))
            offset, length = offset + step, length - step
        return runs

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(self.lv.bytes_at(place, count) for place, count in self.runs(offset, length))

    def item_offsets(self, numbers: Places) -> Places:
        """Where resources begin in the file."""
        one = self.geometry
        cluster, resource = numbers // one.per_cluster, numbers % one.per_cluster
        group, inside = cluster // one.per_group, cluster % one.per_group
        at = spec.GROUP_OFFSET + group * one.group_size + one.headers_bytes
        return at + (inside * one.per_cluster + resource) * self.size

    def item_places(self, numbers: Places) -> Places:
        """Where resources begin in the logical volume."""
        if self.kind is LockType.FILE_BLOCKS:
            return numbers * self.block_size
        return self.places(self.item_offsets(numbers))

    def item_runs(self, number: int) -> list[tuple[int, int]]:
        """Where a resource's bytes lie in the logical volume."""
        if self.kind is LockType.FILE_BLOCKS:
            return [(number * self.block_size, self.block_size)]
        return self.runs(int(self.item_offsets(np.array([number]))[0]), self.size)

    def title(self, number: int) -> str:
        if self.kind is LockType.FILE_BLOCKS:
            return f"file block {number}"
        return f"{self.word} <{number // self.per_cluster},{number % self.per_cluster}>"

    def load(self, total: int, findings: Findings) -> None:
        """Header and cluster headers. `total`: of file blocks, 0 for other resources. Raises Unreadable."""
        self._limits(findings)
        evidence = Evidence(self.header, self.kind, self.size, self.length, self.room, total, self.read, self.places)
        geometry = evidence.geometry()
        if geometry is None:
            self._refuse(findings, "total", f"what {self.room} bytes hold", None)
        self.geometry = geometry
        for name, right in (
            ("resources_per_cluster", geometry.per_cluster), ("clusters_per_group", geometry.per_group),
            ("group_size", geometry.group_size), ("groups", geometry.groups), ("total", geometry.total),
        ):  # fmt: skip
            self._header(findings, name, right)
        numbers = np.arange(geometry.clusters, dtype=np.int64)
        group, inside = numbers // self.geometry.per_group, numbers % self.geometry.per_group
        self.positions = self.places(
            spec.GROUP_OFFSET + group * self.geometry.group_size + inside * spec.CLUSTER_HEADER_BYTES
        )
        raw = b"".join(
            self.read(self.geometry.group_at(one), self.geometry.headers_bytes) for one in range(self.geometry.groups)
        )
        self.clusters = np.frombuffer(raw, spec.CLUSTER)[: geometry.clusters]
        bits = np.unpackbits(self.clusters["bitmap"], axis=1, bitorder="little")
        self.used = bits[:, : self.per_cluster].reshape(-1)[: self.total] == 0

    def _limits(self, findings: Findings) -> None:
        """What cannot be, and leaves nothing to go by."""
        if self.header.group_offset != spec.GROUP_OFFSET:
            self._refuse(findings, "group_offset", spec.GROUP_OFFSET, spec.GROUP_OFFSET)
        if self.header.resource_size != self.size:
            self._refuse(findings, "resource_size", self.size, self.size)

    def _refuse(self, findings: Findings, name: str, expected: object, right: int | None) -> NoReturn:
        """`right`: what it has to be. Raises Unreadable."""
        at = self.header_at + HEADER_OFFSETS[name]
        patches = [] if right is None else [Patch(at, Int32ul.build(right))]
        plan = "" if right is None else f"{right} is written"
        findings.add(Fault.RESOURCE_FILE, at, self.name, name, expected, self.header[name], plan, *patches)
        raise Unreadable(self.name)

    def _header(self, findings: Findings, name: str, expected: int) -> None:
        if self.header[name] != expected:
            at = self.header_at + HEADER_OFFSETS[name]
            patch = Patch(at, Int32ul.build(expected))
            findings.add(
                Fault.RESOURCE_FILE, at, self.name, name, expected, self.header[name], "it is written", patch
            )  # fmt: skip

    def check_superblock(self, superblock: Any, findings: Findings) -> None:
        """The superblock repeats two numbers of .fdc.sf, which are what readers find the root directory by."""
        for name, right in (
            ("fdc_group_offset", spec.GROUP_OFFSET), ("fdc_clusters_per_group", self.geometry.per_group),
        ):  # fmt: skip
            if superblock[name] != right:
                at = SUPERBLOCK_AT + SUPERBLOCK_OFFSETS[name]
                patch = Patch(at, Int32ul.build(right))
                findings.add(
                    Fault.SUPERBLOCK, at, "superblock", name, f"{right}, as in {self.name}", superblock[name],
                    "it is written", patch,
                )  # fmt: skip

    def check_clusters(self, findings: Findings) -> None:
        """Everything in a cluster header but which of its resources are in use."""
        numbers = np.arange(len(self.clusters), dtype=np.int64)
        totals = np.minimum(self.per_cluster, self.total - numbers * self.per_cluster)
        lock = self.clusters["lock"]
        for what, field, found, expected in (
            ("lock type", "lock", lock["type"], np.full(len(numbers), int(self.kind))),
            ("lock position", "position", lock["position"], self.positions),
            ("number", "number", self.clusters["number"], numbers),
            ("total", "total", self.clusters["total"], totals),
        ):
            within = LOCK_POSITION_AT if field == "position" else CLUSTER_OFFSETS[field]
            for cluster in np.flatnonzero(found.astype(np.int64) != expected).tolist():
                at = int(self.positions[cluster]) + within
                value = int(expected[cluster])
                patch = Patch(at, value.to_bytes(8 if field == "position" else 4, "little"))
                values = [f"{int(one[cluster]):#x}" if within < 8 else str(one[cluster]) for one in (expected, found)]
                self._find(findings, cluster, at, what, values[0], values[1], "it is written", patch)
        for cluster in np.flatnonzero(self.clusters["next_free"] > totals).tolist():
            at = int(self.positions[cluster]) + CLUSTER_OFFSETS["next_free"]
            found_next = int(self.clusters["next_free"][cluster])
            patch = Patch(at, bytes(4))
            self._find(
                findings, cluster, at, "next_free", f"at most {totals[cluster]}", found_next, "0 is written", patch
            )  # fmt: skip

    def _find(
        self, findings: Findings, cluster: int, at: int, what: str, expected: object, found: object, plan: str,
        patch: Patch,
    ) -> None:  # fmt: skip
        findings.add(Fault.CLUSTER, at, f"{self.name} cluster {cluster}", what, expected, found, plan, patch)

    def bitmap_patch(self, cluster: int, used: NDArray[np.bool_]) -> tuple[Patch, Patch]:
        """Bitmap and free count of a cluster as `used`, of the whole file, says."""
        inside = used[cluster * self.per_cluster : (cluster + 1) * self.per_cluster]
        bits = np.zeros(spec.RESOURCES_MAX, np.bool_)
        bits[: len(inside)] = ~inside
        at = int(self.positions[cluster])
        free = Patch(at + CLUSTER_OFFSETS["free"], Int32ul.build(int(bits.sum())))
        return free, Patch(at + CLUSTER_OFFSETS["bitmap"], np.packbits(bits, bitorder="little").tobytes())

    def compare(self, used: NDArray[np.bool_], findings: Findings, *, may_free: bool) -> None:
        """Bitmaps against what is in use. `may_free`: everything that could be in use was seen."""
        right = used if may_free else used | self.used
        for fault, wrong, expected, found, plan in (
            (Fault.FREE, used & ~self.used, "in use", "free", "it is marked as in use"),
            (Fault.LOST, ~used & self.used, "free, as nothing refers to it", "in use", "it is freed" * may_free),
        ):
            firsts, lasts = stretches(np.flatnonzero(wrong), self.per_cluster)
            for first, last in zip(firsts[:STRETCHES_MAX].tolist(), lasts[:STRETCHES_MAX].tolist(), strict=True):
                title = self.title(first) + (f" to {self.title(last)}" if last > first else "")
                clusters = [first // self.per_cluster]
                self._find_bits(findings, fault, first, title, expected, found, plan, clusters, right)
            if len(rest := firsts[STRETCHES_MAX:]):
                clusters = np.unique(rest // self.per_cluster).tolist()
                title = f"{len(rest)} more runs of {self.word}s"
                self._find_bits(findings, fault, int(rest[0]), title, expected, found, plan, clusters, right)
        self._counts(right, findings)

    def _find_bits(
        self, findings: Findings, fault: Fault, first: int, title: str, expected: str, found: str, plan: str,
        clusters: list[int], right: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        cluster, inside = first // self.per_cluster, first % self.per_cluster
        at = int(self.positions[cluster]) + CLUSTER_OFFSETS["bitmap"] + inside // 8
        patches = [patch for one in clusters for patch in self.bitmap_patch(one, right)] if plan else []
        findings.add(fault, at, title, "state in the bitmap", expected, found, plan, *patches)

    def _counts(self, right: NDArray[np.bool_], findings: Findings) -> None:
        """The free counts, and the bits behind the last resource."""
        bits = np.unpackbits(self.clusters["bitmap"], axis=1, bitorder="little")
        numbers = np.arange(len(self.clusters), dtype=np.int64)
        totals = np.minimum(self.per_cluster, self.total - numbers * self.per_cluster)
        behind = bits * (np.arange(spec.RESOURCES_MAX) >= totals[:, None])
        free = bits.sum(axis=1) - behind.sum(axis=1)
        for cluster in np.flatnonzero(free != self.clusters["free"]).tolist():
            at = int(self.positions[cluster]) + CLUSTER_OFFSETS["free"]
            patches = self.bitmap_patch(cluster, right)
            findings.add(
                Fault.CLUSTER, at, f"{self.name} cluster {cluster}", "free", int(free[cluster]),
                int(self.clusters["free"][cluster]), "it is counted", *patches,
            )  # fmt: skip
        for cluster in np.flatnonzero(behind.any(axis=1)).tolist():
            at = int(self.positions[cluster]) + CLUSTER_OFFSETS["bitmap"]
            patches = self.bitmap_patch(cluster, right)
            findings.add(
                Fault.CLUSTER, at, f"{self.name} cluster {cluster}", "bits behind the last resource", 0, 1,
                "they are cleared", *patches,
            )  # fmt: skip


def stretches(numbers: Places, per_cluster: int) -> tuple[Places, Places]:
    """First and last of each run of following numbers within one cluster."""
    is_last = np.append((np.diff(numbers) != 1) | (np.diff(numbers // per_cluster) != 0), [True] * bool(len(numbers)))
    is_last = is_last.astype(np.bool_)
    return numbers[np.roll(is_last, 1)], numbers[is_last]
