"""Finds the descriptors of the four resource files and the blocks they lie in, before anything else can be found.

All four were laid out at once, each in file blocks one behind the other, and the first cluster of each says itself
where it lies. By that an address that was lost is known again. What is known better than a descriptor says it is kept,
so that whoever looks at the file later sees it as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from construct import Int64ul
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3 import descriptor_spec as spec
from vmkernel.storage.vmfs3.check_resources import Places, Table, Unreadable
from vmkernel.storage.vmfs3.check_version import descriptor, first_descriptors, is_descriptor
from vmkernel.storage.vmfs3.descriptor_spec import FD_BYTES, AddressType, FileType, SystemFile
from vmkernel.storage.vmfs3.finding import Fault, Findings, Patch
from vmkernel.storage.vmfs3.geometry import fdc_base
from vmkernel.storage.vmfs3.layout import offsets
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.resource_spec import CLUSTER, GROUP_OFFSET
from vmkernel.storage.vmfs3.volume_spec import FIXED_END, SUPERBLOCK_AT, LockType

# Which descriptor each resource file has.
SYSTEM_FILES = {
    LockType.FILE_BLOCKS: SystemFile.FBB, LockType.FILE_DESCRIPTORS: SystemFile.FDC,
    LockType.POINTER_BLOCKS: SystemFile.PBC, LockType.SUB_BLOCKS: SystemFile.SBC,
}  # fmt: skip
FIRST_BLOCKS = 4096  # of a volume: its own files begin there
LOCK = CLUSTER["lock"]
LENGTH_AT = offsets(spec.DESCRIPTOR)["length"]


@dataclass(frozen=True, slots=True)
class Known:
    """What a descriptor of a resource file ought to say."""

    length: int
    words: dict[int, int]  # addresses, by their places


class SystemFiles:
    """The resource files of a volume whose superblock can be believed. `known` is filled as they are loaded."""

    def __init__(self, lv: LogicalVolume, superblock: Any, findings: Findings) -> None:
        self.lv, self.superblock, self.findings = lv, superblock, findings
        self.block_size = int(superblock.block_size)
        self.blocks = lv.size // self.block_size
        self.first = self._first_descriptor()
        self.fds = {kind: self._descriptor(kind) for kind in SYSTEM_FILES}
        self.known: dict[int, Known] = {}
        self._words: dict[LockType, dict[int, int]] = {kind: {} for kind in SYSTEM_FILES}

    def tables(self) -> dict[LockType, Table]:
        """All four, loaded. Raises Unreadable."""
        tables = {
            kind: Table(self.lv, kind, self._blocks(kind), self.block_size, int(fd["length"]))
            for kind, fd in self.fds.items()
        }
        for kind, table in tables.items():
            table.load(self.blocks if kind is LockType.FILE_BLOCKS else 0, self.findings)
            if kind is LockType.FILE_DESCRIPTORS:
                table.check_superblock(self.superblock, self.findings)
            self._check_length(table)
            self.known[SYSTEM_FILES[kind]] = Known(table.length, self._words[kind])
        self._check_head()
        return tables

    # descriptors

    def place(self, kind: LockType) -> int:
        return self.first + (SYSTEM_FILES[kind] >> spec.FD_RESOURCE_SHIFT) * FD_BYTES

    def _first_descriptor(self) -> int:
        """Of the root. Raises Unreadable."""
        base = fdc_base(self.block_size) * self.block_size
        within = first_descriptors(self.lv, base, self.superblock)
        if not within:
            self.findings.add(
                Fault.SUPERBLOCK, SUPERBLOCK_AT, "superblock", "place of .fdc.sf", "within the volume", f"{base:#x}"
            )  # fmt: skip
            raise Unreadable("superblock")
        for place in within:
            fd = self._at(place)
            is_root = fd["address"] == SystemFile.ROOT and fd["type"] == FileType.DIRECTORY
            if is_root or is_descriptor(self.lv, place):
                return place
        return within[0]

    def _at(self, place: int) -> Any:
        return descriptor(self.lv, place)

    def _descriptor(self, kind: LockType) -> Any:
        return self._at(self.place(kind))

    def _check_length(self, table: Table) -> None:
        """A resource file reaches to its last resource; .fdc.sf has a whole file block at least."""
        least = table.geometry.length
        if not least <= table.length <= table.room:
            right = max(least, table.block_size) if table.kind is LockType.FILE_DESCRIPTORS else least
            at = self.place(table.kind) + LENGTH_AT
            patch = Patch(at, Int64ul.build(right))
            self.findings.add(
                Fault.RESOURCE_FILE, at, table.name, "length", right, table.length, "it is written", patch
            )  # fmt: skip
            table.length = right

    def _check_head(self) -> None:
        """.vh.sf is the head of the volume, so all of it is known."""
        at = self.first + (SystemFile.VH >> spec.FD_RESOURCE_SHIFT) * FD_BYTES
        fd, name = self._at(at), spec.SYSTEM_NAMES[SystemFile.VH]
        length = max(int(fd["length"]), FIXED_END)
        words = {number: addresses.file_block(number) for number in range(fdc_base(self.block_size))}
        if fd["length"] < FIXED_END:
            patch = Patch(at + LENGTH_AT, Int64ul.build(FIXED_END))
            self.findings.add(
                Fault.DESCRIPTOR, patch.offset, name, "length", FIXED_END, int(fd["length"]), "it is written", patch
            )  # fmt: skip
        for index, word in words.items():
            if fd["contents"][index] != word:
                self._wrong_word(name, at, index, int(fd["contents"][index]), word)
        self.known[SystemFile.VH] = Known(length, words)

    def _wrong_word(self, name: str, at: int, index: int, found: int, right: int) -> None:
        where = at + spec.CONTENTS_AT + index * spec.ADDRESS.itemsize
        patch = Patch(where, right.to_bytes(spec.ADDRESS.itemsize, "little"))
        self.findings.add(
            Fault.RESOURCE_FILE, where, name, f"address of block {index}", addresses.describe(right),
            addresses.describe(found), "it is written", patch,
        )  # fmt: skip

    # blocks

    def _blocks(self, kind: LockType) -> Places:
        """Up to what can be none and cannot be told. Raises Unreadable."""
        fd = self.fds[kind]
        words, at = fd["contents"], self.place(kind)
        numbers, good = self._numbers(words)
        count = min(max(-(-int(fd["length"]) // self.block_size), 1), len(words))
        for index in np.flatnonzero(~good[:count]).tolist():
            right = self._next(kind, numbers, good, index) if index else self._first_block(kind)
            if right is None:
                break
            word = addresses.file_block(right)
            self._wrong_word(self._name(kind), at, index, int(words[index]), word)
            numbers[index], good[index] = right, True
            self._words[kind][index] = word
        bad = np.flatnonzero(~good)
        count = int(bad[0]) if len(bad) else len(words)
        if not count:
            found = addresses.describe(int(words[0]))
            self.findings.add(Fault.RESOURCE_FILE, at, self._name(kind), "address of block 0", "a file block", found)
            raise Unreadable(self._name(kind))
        return numbers[:count]

    def _numbers(self, words: NDArray[np.uint32]) -> tuple[Places, NDArray[np.bool_]]:
        numbers = words.astype(np.int64) >> spec.BLOCK_SHIFT
        return numbers, (words & spec.TYPE_MASK == AddressType.FILE_BLOCK) & (numbers < self.blocks)

    @staticmethod
    def _name(kind: LockType) -> str:
        return spec.SYSTEM_NAMES[SYSTEM_FILES[kind]]

    def _next(self, kind: LockType, numbers: Places, good: NDArray[np.bool_], index: int) -> int | None:
        """The block behind the one before, if nothing speaks against it: the blocks of .fbb.sf may be a later one."""
        following = int(numbers[index - 1]) + 1
        if not good[index - 1] or following >= self.blocks:
            return None
        if index + 1 < len(numbers) and good[index + 1]:
            return following if numbers[index + 1] == following + 1 else None
        return None if kind is LockType.FILE_BLOCKS or following in set(self._taken(kind)) else following

    def _taken(self, kind: LockType) -> Iterator[int]:
        """Blocks of the root directory and of the other resource files."""
        fds = [self._at(self.first), *(fd for other, fd in self.fds.items() if other is not kind)]
        for fd in fds:
            numbers, good = self._numbers(fd["contents"])
            yield from numbers[good].tolist()

    def _first_block(self, kind: LockType) -> int | None:
        """By the header of the first cluster, which says where it lies."""
        for number in range(min(self.blocks, FIRST_BLOCKS)):
            place = number * self.block_size + GROUP_OFFSET
            lock = np.frombuffer(self.lv.bytes_at(place, LOCK.itemsize), LOCK)[0]
            if lock["type"] == kind and lock["position"] == place:
                return number
        return None
