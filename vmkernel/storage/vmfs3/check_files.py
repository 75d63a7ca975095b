"""Reads all file descriptors without refusing what is wrong, and says what is: fields, addresses, space used twice.

Rows are the descriptors that are in use or once were. What each refers to is gathered as claims: which resource, by
whose row, and where the address word lies. One that is deleted claims nothing.
Source: vmfs-tools, libvmfs/vmfs_inode.c, fsck/fsck.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import addresses as addressing
from vmkernel.storage.vmfs3 import descriptor_spec as spec
from vmkernel.storage.vmfs3.check_kinds import right_levels
from vmkernel.storage.vmfs3.check_resources import Places, Table
from vmkernel.storage.vmfs3.check_system import Known
from vmkernel.storage.vmfs3.descriptor_spec import AddressType, FileBlockFlag, FileType, ZeroLevel
from vmkernel.storage.vmfs3.finding import Fault, Findings, Mend, Patch, Separate
from vmkernel.storage.vmfs3.layout import fields
from vmkernel.storage.vmfs3.volume_spec import SUB_BLOCK_BYTES, LockType

Words = NDArray[np.uint32]
FIELDS = {one.name: one for one in fields(spec.DESCRIPTOR)}
BLOCK_BYTES_OF = {ZeroLevel.NONE: spec.RDM_BLOCK_BYTES, ZeroLevel.SUB_BLOCK: SUB_BLOCK_BYTES}
TYPES_OF = {
    ZeroLevel.FILE_BLOCK: AddressType.FILE_BLOCK, ZeroLevel.SUB_BLOCK: AddressType.SUB_BLOCK,
    ZeroLevel.POINTER_BLOCK: AddressType.POINTER_BLOCK,
}  # fmt: skip
KIND_OF = {
    AddressType.FILE_BLOCK: LockType.FILE_BLOCKS, AddressType.SUB_BLOCK: LockType.SUB_BLOCKS,
    AddressType.POINTER_BLOCK: LockType.POINTER_BLOCKS, AddressType.FILE_DESCRIPTOR: LockType.FILE_DESCRIPTORS,
}  # fmt: skip
FILE_TYPES = (FileType.DIRECTORY, FileType.REGULAR, FileType.SYMLINK, FileType.SYSTEM, FileType.RDM)
NO_ROW = -1
FILE_DESCRIPTOR = int(AddressType.FILE_DESCRIPTOR)
POINTERS_AT_ONCE = 2048


@dataclass(slots=True)
class Claims:
    """Addresses of one kind of resource, as columns: number, row, index in the file, place of the word, the word."""

    numbers: Places = field(default_factory=lambda: np.zeros(0, np.int64))
    rows: Places = field(default_factory=lambda: np.zeros(0, np.int64))
    index: Places = field(default_factory=lambda: np.zeros(0, np.int64))
    at: Places = field(default_factory=lambda: np.zeros(0, np.int64))
    words: Words = field(default_factory=lambda: np.zeros(0, np.uint32))

    def take(self, chosen: NDArray[Any]) -> Claims:
        return Claims(*(getattr(self, name)[chosen] for name in CLAIM_COLUMNS))

    def __len__(self) -> int:
        return len(self.numbers)


CLAIM_COLUMNS = ("numbers", "rows", "index", "at", "words")


def joined(parts: list[Claims]) -> Claims:
    if not parts:
        return Claims()
    return Claims(*(np.concatenate([getattr(part, name) for part in parts]) for name in CLAIM_COLUMNS))


class Files:
    """All descriptors of a volume. `names` has a path for a row once the tree was walked.

    `known`: by their addresses, what is known better than descriptors say it.
    """

    def __init__(
        self, tables: dict[LockType, Table], block_size: int, findings: Findings, known: Mapping[int, Known]
    ) -> None:  # fmt: skip
        self.tables, self.block_size, self.findings = tables, block_size, findings
        self.fdc = tables[LockType.FILE_DESCRIPTORS]
        self.names: dict[int, str] = {}
        self.claims: dict[LockType, Claims] = {}
        self.is_opaque = False  # some descriptor in use cannot be understood: what it refers to is not known
        parts, numbers = [], []
        one = self.fdc.geometry
        for group in range(one.groups):
            first = group * one.per_group * one.per_cluster
            count = min(one.per_group * one.per_cluster, one.total - first)
            raw = self.fdc.read(one.group_at(group) + one.headers_bytes, count * spec.FD_BYTES)
            found = np.frombuffer(raw, spec.DESCRIPTOR)
            chosen = np.flatnonzero(
                self.fdc.used[first : first + count] | (found["lock"]["type"] != 0) | (found["nlink"] != 0)
            )
            parts.append(found[chosen])
            numbers.append(chosen + first)
        self.fds: NDArray[Any] = np.concatenate(parts)
        self.numbers: Places = np.concatenate(numbers).astype(np.int64)
        self.at = self.fdc.item_places(self.numbers)
        self.row_of = np.full(one.total, NO_ROW, np.int64)
        self.row_of[self.numbers] = np.arange(len(self.numbers))
        self.types = self.fds["type"].astype(np.int64)
        self.generations = self.fds["generation"].astype(np.int64)
        self.allocated = self.fdc.used[self.numbers]
        self.live = self.allocated & (self.fds["nlink"] != 0)
        for address, one_known in known.items():
            if (row := self.row(address)) != NO_ROW:
                for name, right in (("type", FileType.SYSTEM), ("zla", ZeroLevel.FILE_BLOCK)):
                    if self.fds[name][row] != right:
                        self.learn(row, name, int(right), f"{int(right)}, as it is a file of the system")
                self.fds["length"][row] = one_known.length
                for index, word in one_known.words.items():
                    self.fds["contents"][row, index] = word
        for row, level in right_levels(self.fds, np.flatnonzero(self.live), block_size).items():
            self.learn(row, "zla", level, f"{level}, by what else it says")

    def learn(self, row: int, name: str, value: int, expected: str) -> None:
        """What a field has to be, from what is known besides; from now on it is."""
        found = int(self.fds[name][row])
        self.find(Fault.DESCRIPTOR, row, name, expected, f"{found:#x}", "it is written", self.put(row, name, value))
        self.fds[name][row] = value
        if name == "type":
            self.types[row] = value

    def __len__(self) -> int:
        return len(self.numbers)

    def address(self, row: int) -> int:
        number = int(self.numbers[row])
        return addressing.descriptor(number // self.fdc.per_cluster, number % self.fdc.per_cluster)

    def row(self, address: int) -> int:
        """NO_ROW where the address is of no descriptor that is or was in use."""
        return int(self.rows(np.array([address], np.uint32))[0])

    def rows(self, words: Words) -> Places:
        """The same for many."""
        cluster, resource = addressing.places(words, AddressType.FILE_DESCRIPTOR)
        numbers = cluster * self.fdc.per_cluster + resource
        good = (words & spec.TYPE_MASK == FILE_DESCRIPTOR) & (resource < self.fdc.per_cluster)
        good &= numbers < self.fdc.total
        return np.where(good, self.row_of[np.where(good, numbers, 0)], NO_ROW)

    def title(self, row: int) -> str:
        return self.fdc.title(int(self.numbers[row]))

    def paths(self) -> dict[str, str]:
        """By the titles of descriptors."""
        return {self.title(row): name for row, name in self.names.items()}

    def find(
        self, fault: Fault, row: int, name: str, expected: object, found: object, plan: str = "", *mends: Mend,
        what: str = "",
    ) -> None:  # fmt: skip
        """Of a field of a descriptor."""
        at = int(self.at[row]) + FIELDS[name].offset
        self.findings.add(fault, at, self.title(row), what or name, expected, found, plan, *mends)

    def put(self, row: int, name: str, value: int) -> Patch:
        return Patch(int(self.at[row]) + FIELDS[name].offset, value.to_bytes(FIELDS[name].size, "little"))

    def find_value(self, fault: Fault, row: int, name: str, expected: int, *, as_hex: bool = False) -> None:
        """A field that is mended by writing what it should be."""
        found = int(self.fds[name][row])
        values = [f"{value:#x}" if as_hex else str(value) for value in (expected, found)]
        self.find(fault, row, name, values[0], values[1], "it is written", self.put(row, name, expected))

    # the fields

    def check_fields(self) -> None:
        """Of the live ones, but for what needs the claims."""
        fds, live = self.fds, self.live
        lock = fds["lock"]
        self._check_lock(np.flatnonzero(live & (lock["type"] != LockType.FILE_DESCRIPTOR)), "type")
        self._check_lock(np.flatnonzero(live & (lock["position"].astype(np.int64) != self.at)), "position")
        cluster, resource = self.numbers // self.fdc.per_cluster, self.numbers % self.fdc.per_cluster
        own = resource << spec.FD_RESOURCE_SHIFT | cluster << spec.CLUSTER_SHIFT | AddressType.FILE_DESCRIPTOR
        for row in np.flatnonzero(live & (fds["address"] != own)).tolist():
            self.find_value(Fault.DESCRIPTOR, row, "address", int(own[row]), as_hex=True)
        for row in np.flatnonzero(live & (fds["generation"] == 0)).tolist():
            self.find_value(Fault.DESCRIPTOR, row, "generation", 1)
        for row in np.flatnonzero(live & ~np.isin(fds["type"], FILE_TYPES)).tolist():
            self.is_opaque = True
            self.find(Fault.DESCRIPTOR, row, "type", "2 to 6", int(fds["type"][row]))
        for row in np.flatnonzero(live & (fds["cow"] != 0)).tolist():
            self.find_value(Fault.COUNT, row, "cow", 0)
        self._check_reach()

    def _check_lock(self, rows: Places, name: str) -> None:
        for row in rows.tolist():
            right = int(LockType.FILE_DESCRIPTOR) if name == "type" else int(self.at[row])
            at = int(self.at[row]) + (0 if name == "type" else 4)
            found = int(self.fds["lock"][name][row])
            patch = Patch(at, right.to_bytes(4 if name == "type" else 8, "little"))
            self.findings.add(
                Fault.DESCRIPTOR, at, self.title(row), f"lock {name}", f"{right:#x}", f"{found:#x}", "it is written",
                patch,
            )  # fmt: skip

    def _check_reach(self) -> None:
        """zla, block size and length agree with each other and with the type."""
        fds = self.fds
        zla, rdm = fds["zla"], fds["type"] == FileType.RDM
        known = np.isin(zla, [int(level) for level in TYPES_OF]) & ~rdm | (zla == ZeroLevel.NONE) & rdm
        for row in np.flatnonzero(self.live & ~known).tolist():
            self.is_opaque = True
            expected = "0" if rdm[row] else "1, 2 or 3"
            self.find(Fault.DESCRIPTOR, row, "zla", expected, f"{int(zla[row]):#x}")
        size = np.full(len(self), self.block_size, np.int64)
        reach = np.full(len(self), spec.ADDRESSES * self.block_size, np.int64)
        for level, count in ((ZeroLevel.NONE, 0), (ZeroLevel.SUB_BLOCK, spec.ADDRESSES)):
            size[zla == level] = BLOCK_BYTES_OF[level]
            reach[zla == level] = count * BLOCK_BYTES_OF[level]
        reach[zla == ZeroLevel.POINTER_BLOCK] *= spec.PER_POINTER_BLOCK
        sane = self.live & known
        for row in np.flatnonzero(sane & (fds["block_size"] != size)).tolist():
            self.find_value(Fault.DESCRIPTOR, row, "block_size", int(size[row]))
        for row in np.flatnonzero(sane & ~rdm & (fds["length"] > reach)).tolist():
            text, found = f"at most {reach[row]}, by its zla", int(fds["length"][row])
            self.find(
                Fault.DESCRIPTOR, row, "length", text, found, "it is cut", self.put(row, "length", int(reach[row]))
            )  # fmt: skip
        shift = fds["block_offset_shift"]
        right = np.log2(size).astype(np.int64)
        for row in np.flatnonzero(sane & (shift != 0) & (shift != right)).tolist():
            self.find_value(Fault.DESCRIPTOR, row, "block_offset_shift", int(right[row]))

    # the addresses

    def gather(self) -> None:
        """All claims of the live ones. What cannot be an address is found, and claims nothing."""
        parts: dict[LockType, list[Claims]] = {kind: [] for kind in LockType}
        for level, kind in TYPES_OF.items():
            rows = np.flatnonzero(
                self.live & (self.fds["zla"] == level) & np.isin(self.fds["type"], FILE_TYPES)
                & (self.fds["type"] != FileType.RDM)
            )  # fmt: skip
            found = self._valid(self._direct(rows), kind)
            parts[KIND_OF[kind]].append(found)
            if level is ZeroLevel.POINTER_BLOCK:
                parts[LockType.FILE_BLOCKS] += self._through(found)
        self.claims = {kind: joined(found) for kind, found in parts.items()}

    def _direct(self, rows: Places) -> Claims:
        """The words of descriptors that are not 0."""
        words = self.fds["contents"][rows]
        which, index = np.nonzero(words)
        at = self.at[rows][which] + spec.CONTENTS_AT + index * spec.ADDRESS.itemsize
        return Claims(np.zeros(len(which), np.int64), rows[which], index.astype(np.int64), at, words[which, index])

    def _through(self, pointers: Claims) -> list[Claims]:
        """The words of pointer blocks that are not 0."""
        table, found = self.tables[LockType.POINTER_BLOCKS], []
        for start in range(0, len(pointers), POINTERS_AT_ONCE):
            some = pointers.take(slice(start, start + POINTERS_AT_ONCE))  # type: ignore[arg-type]
            offsets = table.item_offsets(some.numbers)
            raw = b"".join(table.read(int(at), spec.POINTER_BLOCK_BYTES) for at in offsets)
            words = np.frombuffer(raw, spec.ADDRESS).reshape(len(some), spec.PER_POINTER_BLOCK)
            which, index = np.nonzero(words)
            at = table.places(offsets)[which] + index * spec.ADDRESS.itemsize
            within = some.index[which] * spec.PER_POINTER_BLOCK + index
            one = Claims(np.zeros(len(which), np.int64), some.rows[which], within, at, words[which, index])
            found.append(self._valid(one, AddressType.FILE_BLOCK))
        return found

    def _valid(self, claims: Claims, kind: AddressType) -> Claims:
        """Those that can be, with their numbers."""
        table = self.tables[KIND_OF[kind]]
        words = claims.words
        if kind is AddressType.FILE_BLOCK:
            numbers = words.astype(np.int64) >> spec.BLOCK_SHIFT
            flags = words & 0x38 & ~np.uint32(FileBlockFlag.TBZ)
            good = numbers < table.total
        else:
            cluster, resource = addressing.places(words, kind)
            numbers = cluster * table.per_cluster + resource
            flags = words & 0x38
            good = (resource < table.per_cluster) & (numbers < table.total)
        good &= (words & spec.TYPE_MASK == kind) & (words != 0)
        claims.numbers = numbers
        for claim in np.flatnonzero(~good).tolist():
            found, at = addressing.describe(int(words[claim])), int(claims.at[claim])
            where = f"address of block {int(claims.index[claim])}"
            plan, patch = "it becomes a hole", Patch(at, bytes(spec.ADDRESS.itemsize))
            if self._is_needed(int(claims.rows[claim]), int(claims.index[claim])):
                plan = ""
            self.findings.add(
                Fault.ADDRESS, at, self.title(int(claims.rows[claim])), where, f"a {table.word} below {table.total}",
                found, plan, *[patch] * bool(plan),
            )  # fmt: skip
        for claim in np.flatnonzero(good & (flags != 0)).tolist():
            right = int(words[claim]) & ~int(flags[claim])
            self.findings.add(
                Fault.ADDRESS, int(claims.at[claim]), self.title(int(claims.rows[claim])),
                f"flags in the address of block {int(claims.index[claim])}", f"{right:#x}", f"{int(words[claim]):#x}",
                "they are cleared", Patch(int(claims.at[claim]), right.to_bytes(4, "little")),
            )  # fmt: skip
        return claims.take(good)

    def _is_needed(self, row: int, index: int) -> bool:
        """Files of the system have no holes."""
        fd = self.fds[row]
        return fd["type"] == FileType.SYSTEM and index * self.block_size < fd["length"]

    def check_ends(self) -> None:
        """No block lies behind a file's end. Where the count of blocks has them too, the end is what is wrong."""
        counts = self._counts()
        for kind in (LockType.FILE_BLOCKS, LockType.SUB_BLOCKS):
            claims = self.claims[kind]
            size = self.block_size if kind is LockType.FILE_BLOCKS else SUB_BLOCK_BYTES
            blocks = -(-self.fds["length"].astype(np.int64) // size)
            behind = np.flatnonzero(claims.index >= np.maximum(blocks[claims.rows], 1))
            counted = self.fds["num_blocks"][claims.rows[behind]].astype(np.int64) == counts[claims.rows[behind]]
            counted &= self.types[claims.rows[behind]] == FileType.REGULAR
            for row in np.unique(claims.rows[behind[counted]]).tolist():
                end = (int(claims.index[claims.rows == row].max()) + 1) * size
                expected, found = f"{end}, up to the last of its {counts[row]} blocks", int(self.fds["length"][row])
                plan = "it is written"
                self.find(Fault.DESCRIPTOR, row, "length", expected, found, plan, self.put(row, "length", end))
            for claim in behind[~counted].tolist():
                row, word = int(claims.rows[claim]), addressing.describe(int(claims.words[claim]))
                at = int(claims.at[claim])
                self.findings.add(
                    Fault.ADDRESS, at, self.title(row), f"address of block {int(claims.index[claim])}",
                    f"none behind the end at {int(self.fds['length'][row])}", word, "it is let go",
                    Patch(at, bytes(spec.ADDRESS.itemsize)),
                )  # fmt: skip
            stays = np.ones(len(claims), np.bool_)
            stays[behind[~counted]] = False
            self.claims[kind] = claims.take(stays)

    def _counts(self) -> Places:
        """How many blocks each has."""
        blocks, sub_blocks = self.claims[LockType.FILE_BLOCKS], self.claims[LockType.SUB_BLOCKS]
        return np.bincount(blocks.rows, minlength=len(self)) + np.bincount(sub_blocks.rows, minlength=len(self))

    def check_counts(self) -> None:
        """numBlocks and tbz of the live ones."""
        blocks = self.claims[LockType.FILE_BLOCKS]
        counts = self._counts()
        tbz = np.bincount(blocks.rows[blocks.words & FileBlockFlag.TBZ != 0], minlength=len(self))
        known = self.live & np.isin(self.fds["type"], FILE_TYPES)
        for name, right in (("num_blocks", counts), ("tbz", tbz)):
            for row in np.flatnonzero(known & (self.fds[name].astype(np.int64) != right)).tolist():
                self.find_value(Fault.COUNT, row, name, int(right[row]))

    def check_shared(self) -> None:
        """Space that two claim. The system's files keep it, then the first; the others get copies."""
        for kind, claims in self.claims.items():
            if not len(claims):
                continue
            order = np.lexsort((claims.at, claims.rows, claims.numbers))
            again = np.flatnonzero(np.diff(claims.numbers[order]) == 0) + 1
            for one in again.tolist():
                claim, other = int(order[one]), int(order[one - 1])
                row, word, at = int(claims.rows[claim]), int(claims.words[claim]), int(claims.at[claim])
                index, number = int(claims.index[claim]), int(claims.numbers[claim])
                title = self.tables[kind].title(number)
                self.findings.add(
                    Fault.SHARED, at, self.title(row), f"address of block {index}",
                    f"{self.tables[kind].word} of its own",
                    f"{title}, which {self.title(int(claims.rows[other]))} has at block {int(claims.index[other])}",
                    "it gets a copy of its own", Separate(at, word),
                )  # fmt: skip

    def used(self, kind: LockType, journals: Places) -> NDArray[np.bool_]:
        """Which resources are in use, by what refers to them."""
        used = np.zeros(self.tables[kind].total, np.bool_)
        if kind is LockType.FILE_DESCRIPTORS:
            used[self.numbers[self.live]] = True
            return used
        used[self.claims[kind].numbers] = True
        if kind is LockType.FILE_BLOCKS:
            used[journals] = True
        return used
