"""Walks all directories without refusing what is wrong, and says what is: entries, names, link counts, loops, orphans.

First everything is read, then what each directory ought to hold is decided, then it is told; so every finding of a
directory carries the same new contents. A file without a name gets one in the root, `lost-CLUSTER-RESOURCE`. A
directory whose first address is lost is known by the `.` that its contents begin with; one of which nothing is left is
removed.
Source: vmfs-tools, libvmfs/vmfs_dirent.c, fsck/fsck.c.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import addresses as addressing
from vmkernel.storage.vmfs3 import descriptor_spec as spec
from vmkernel.storage.vmfs3.check_files import FIELDS, FILE_TYPES, NO_ROW, Files
from vmkernel.storage.vmfs3.check_resources import Table
from vmkernel.storage.vmfs3.descriptor_spec import SYSTEM_NAMES, AddressType, FileType, SystemFile, ZeroLevel
from vmkernel.storage.vmfs3.directory_spec import ENTRY, ENTRY_BYTES, NAME_MAX, PARENT, SELF
from vmkernel.storage.vmfs3.finding import Fault, Patch
from vmkernel.storage.vmfs3.layout import offsets
from vmkernel.storage.vmfs3.volume_spec import LockType

ENTRY_OFFSETS = offsets(ENTRY)
SPECIAL = (SELF.encode(), PARENT.encode())
SYSTEM_ROWS = frozenset(map(int, SYSTEM_NAMES))
DIRECTORY = int(FileType.DIRECTORY)
CONTENTS = {ZeroLevel.FILE_BLOCK: LockType.FILE_BLOCKS, ZeroLevel.SUB_BLOCK: LockType.SUB_BLOCKS}
WHOLE = -1  # in the place of an entry's number: the directory's descriptor
DIRECTORY_BYTES_MAX = 1 << 26  # more than all descriptors that a volume can have
Run = tuple[int, int]


class Problem(NamedTuple):
    """Something wrong in a directory; its finding is made when the new contents are known."""

    entry: int
    field: str
    what: str
    expected: object
    found: object
    plan: str


class Directory:
    """One directory: what it holds, and what it ought to."""

    def __init__(self, row: int, parent: int, runs: list[Run], entries: NDArray[Any]) -> None:
        self.row, self.parent, self.runs, self.entries = row, parent, runs, entries
        self.names: list[bytes] = entries["name"].tolist()
        self.generations: list[int] = entries["generation"].tolist()
        self.types: list[int] = entries["type"].tolist()
        self.right: dict[int, Any] = {}  # entries that are kept, and as what
        self.added: list[Any] = []
        self.heads: list[Any] = []  # what `.` and `..` ought to be
        self.problems: list[Problem] = []

    @property
    def room(self) -> int:
        return sum(length for _, length in self.runs)

    def place(self, offset: int) -> int:
        """Of a byte of the contents, in the logical volume."""
        for start, length in self.runs:
            if offset < length:
                return start + offset
            offset -= length
        return self.runs[-1][0] if self.runs else 0

    def contents(self) -> bytes:
        kept = [self.right[index] for index in sorted(self.right)]
        return np.array([*self.heads, *kept, *self.added], ENTRY).tobytes()

    def patches(self) -> list[Patch]:
        """The new contents, written where the old ones lie. Empty: they do not fit."""
        data = self.contents()
        if len(data) > self.room:
            return []
        patches = []
        for start, length in self.runs:
            if data:
                patches.append(Patch(start, data[:length]))
            data = data[length:]
        return patches


class Tree:
    """All directories of a volume, the root's first."""

    def __init__(self, files: Files) -> None:
        self.files, self.root = files, files.row(SystemFile.ROOT)
        self.directories: dict[int, Directory] = {}
        self.references = np.zeros(len(files), np.int64)
        self.subdirectories = np.zeros(len(files), np.int64)
        self.orphans: list[int] = []
        self.found: dict[int, tuple[int, int]] = {}  # by row: the first address of a directory, and what it has to be
        self._beginnings: dict[LockType, dict[bytes, int]] = {}

    # reading

    def walk(self) -> bool:
        """Read everything that has a name, then what has none. False: the root cannot be read."""
        files = self.files
        root = self.root
        if root == NO_ROW:
            at = int(files.fdc.item_places(np.zeros(1, np.int64))[0])
            files.findings.add(Fault.DIRECTORY, at, "FD <0,0>", "root directory", "a directory", "none")
            return False
        if files.types[root] != DIRECTORY:
            files.learn(root, "type", DIRECTORY, f"{DIRECTORY}, as it is the root")
        files.live[root] = True
        self._descend(root, root, "/")
        for row in self._nameless():
            self.orphans.append(row)
            self.references[row] += 1
            if files.types[row] == DIRECTORY:
                self._descend(row, root, f"(no name)/{self._lost_name(row)}")
        self._settle()
        return True

    def _nameless(self) -> list[int]:
        """Live rows that nothing names, but those that get their names from others of these."""
        files = self.files
        left = np.flatnonzero(files.live & (self.references == 0)).tolist()
        left = [row for row in left if row not in self.directories]
        empty = [row for row in left if files.types[row] == DIRECTORY and not self._read(row)[0]]
        files.live[empty] = False
        left = [row for row in left if row not in empty]
        named = {row: self._named(row) for row in left if files.types[row] == DIRECTORY}
        inside = {row for rows in named.values() for row in rows}
        reached: set[int] = set()

        def reach(row: int) -> None:
            waiting = [row]
            while waiting:
                one = waiting.pop()
                if one not in reached:
                    reached.add(one)
                    waiting += named.get(one, ())

        tops = [row for row in left if row not in inside]
        for row in tops:
            reach(row)
        for row in left:
            if row not in reached:  # within a loop: one of it has to become a top
                tops.append(row)
                reach(row)
        return tops

    def _named(self, row: int) -> list[int]:
        """The rows that a directory names."""
        entries = self._read(row)[1]
        rows = self.files.rows(entries["address"].copy()).tolist()
        names = entries["name"].tolist()
        return [one for one, name in zip(rows, names, strict=True) if one != NO_ROW and name not in SPECIAL]

    def _descend(self, row: int, parent: int, name: str) -> None:
        files = self.files
        waiting = deque([(row, parent, name)])
        while waiting:
            row, parent, name = waiting.popleft()
            runs, entries = self._read(row)
            directory = self.directories[row] = Directory(row, parent, runs, entries)
            files.names.setdefault(row, name)
            for index, target in self._entries(directory):
                text = directory.right[index]["name"].decode("utf-8", "replace")
                path = f"{name.rstrip('/')}/{text}"
                files.names.setdefault(target, path)
                if files.types[target] == DIRECTORY:
                    waiting.append((target, row, path))

    def _read(self, row: int) -> tuple[list[Run], NDArray[Any]]:
        """The place of a directory's contents, all that are allocated, and the entries within its length."""
        fd, runs = self.files.fds[row], self._runs(row)
        if not self._is_own(row, runs) and (word := self._lost_contents(row)):
            self.found.setdefault(row, (int(fd["contents"][0]), word))
            fd["contents"][0] = word
            runs = self._runs(row)
        room = sum(length for _, length in runs)
        length = min(int(fd["length"]), room, DIRECTORY_BYTES_MAX) // ENTRY_BYTES * ENTRY_BYTES
        data, left = [], length
        for start, step in runs:
            data.append(self.files.fdc.lv.bytes_at(start, min(step, left)))
            left -= len(data[-1])
        return runs, np.frombuffer(b"".join(data), ENTRY)

    def _runs(self, row: int) -> list[Run]:
        fd = self.files.fds[row]
        runs: list[Run] = []
        if fd["zla"] not in CONTENTS:
            return runs
        table = self.files.tables[CONTENTS[fd["zla"]]]
        for word in fd["contents"].tolist():
            number = self._number(table, word)
            if number is None:
                break
            runs += table.item_runs(number)
        return runs

    @staticmethod
    def _number(table: Table, word: int) -> int | None:
        """Of a file block or a sub-block; None where the word names none of the table's."""
        if table.kind is LockType.FILE_BLOCKS:
            kind, number = AddressType.FILE_BLOCK, word >> spec.BLOCK_SHIFT
        else:
            cluster, resource = addressing.place(word)
            kind, number = AddressType.SUB_BLOCK, cluster * table.per_cluster + resource
        return number if word & spec.TYPE_MASK == kind and number < table.total else None

    def _is_own(self, row: int, runs: list[Run]) -> bool:
        """Whether contents begin with the directory's own `.`, as a reader would find it."""
        return bool(runs) and self.files.fdc.lv.bytes_at(runs[0][0], ENTRY_BYTES) == self._dot(row)

    def _dot(self, row: int) -> bytes:
        return np.array(self._entry(SPECIAL[0], row)).tobytes()

    def _lost_contents(self, row: int) -> int:
        """The address of what begins with the directory's own `.` and is in use; 0 where nothing does."""
        kind = CONTENTS.get(self.files.fds["zla"][row])
        if kind is None:
            return 0
        if kind not in self._beginnings:
            table = self.files.tables[kind]
            self._beginnings[kind] = {}
            for number in np.flatnonzero(table.used).tolist():
                raw = self.files.fdc.lv.bytes_at(table.item_runs(number)[0][0], ENTRY_BYTES)
                if raw[ENTRY_OFFSETS["name"] :].rstrip(b"\0") == SPECIAL[0]:
                    self._beginnings[kind].setdefault(raw, self._word(table, number))
        return self._beginnings[kind].get(self._dot(row), 0)

    @staticmethod
    def _word(table: Table, number: int) -> int:
        if table.kind is LockType.FILE_BLOCKS:
            return addressing.file_block(number)
        return addressing.sub_block(*divmod(number, table.per_cluster))

    # judging

    def _entries(self, directory: Directory) -> list[tuple[int, int]]:
        """Judge the entries; those that are kept are counted. Number and row of those that are a file's first."""
        files, entries = self.files, directory.entries
        length = int(files.fds["length"][directory.row])
        if length != len(entries) * ENTRY_BYTES:
            directory.problems.append(
                Problem(WHOLE, "length", "length", f"{ENTRY_BYTES} for each entry", length, "it is counted")
            )
        directory.heads = [
            self._entry(SPECIAL[0], directory.row), self._entry(SPECIAL[1], directory.parent),
        ]  # fmt: skip
        for index, right in enumerate(directory.heads):
            if index >= len(entries) or entries[index].tobytes() != right.tobytes():
                found = shown(entries[index]) if index < len(entries) else "none"
                directory.problems.append(
                    Problem(index, "type", f"entry {index}", shown(right), found, "it is written")
                )
        taken: set[bytes] = set(SPECIAL)
        first = []
        raw = np.frombuffer(entries.tobytes(), np.uint8).reshape(-1, ENTRY_BYTES)[:, ENTRY_OFFSETS["name"] :]
        targets = files.rows(entries["address"].copy()).tolist()
        for index, name in enumerate(directory.names):
            if name in SPECIAL and (index < len(SPECIAL) and name == SPECIAL[index]):
                continue
            target = targets[index]
            if target != NO_ROW and files.types[target] not in FILE_TYPES and directory.types[index] in FILE_TYPES:
                files.learn(target, "type", directory.types[index], f"{directory.types[index]}, as its name has it")
            if not self._stays(directory, index, target):
                continue
            right = self._entry(self._name(directory, index, raw[index].tobytes(), taken, target), target)
            taken.add(right["name"])
            for field, has, expected in (
                ("type", directory.types[index], files.types[target]),
                ("generation", directory.generations[index], files.generations[target]),
            ):
                if has != expected:
                    directory.problems.append(Problem(
                        index, field, f"{field} in the entry {shown_name(name)}", f"the file's {expected}", has,
                        "it is written",
                    ))  # fmt: skip
            directory.right[index] = right
            self.references[target] += 1
            if self.references[target] == 1:
                first.append((index, target))
            if files.types[target] == DIRECTORY:
                self.subdirectories[directory.row] += 1
        return first

    def _stays(self, directory: Directory, index: int, row: int) -> bool:
        """Whether an entry that names this row can stay."""
        files = self.files
        name, generation = directory.names[index], directory.generations[index]
        reason = ""
        if row == NO_ROW:
            reason = f"{addressing.describe(int(directory.entries['address'][index]))}, which is none"
        elif not files.allocated[row] and not files.fds["nlink"][row]:
            reason = f"{files.fdc.title(int(files.numbers[row]))}, which is free"
        elif name in SPECIAL:
            reason = "that name a second time"
        elif row == directory.row or (files.types[row] == DIRECTORY and self.references[row]):
            reason = f"{files.fdc.title(int(files.numbers[row]))}, a directory which has a place already"
        elif files.types[row] == DIRECTORY and self._is_elsewhere(row, directory.row):
            reason = f"{files.fdc.title(int(files.numbers[row]))}, a directory whose place is elsewhere"
        elif files.types[row] == DIRECTORY and not self._read(row)[0]:
            reason = f"{files.fdc.title(int(files.numbers[row]))}, a directory of which nothing is left"
        elif generation != files.generations[row] and self.references[row]:
            reason = f"an earlier file of {files.fdc.title(int(files.numbers[row]))}"
        elif row == self.root:
            reason = "the root"
        if reason:
            directory.problems.append(Problem(
                index, "address", f"the entry {shown_name(name)}", "a file", reason, "it is removed"
            ))  # fmt: skip
            return False
        files.live[row] = True
        return True

    def _is_elsewhere(self, row: int, parent: int) -> bool:
        """A directory's `..` names another one than `parent`, and that one names it."""
        entries = self._read(row)[1]
        if len(entries) < len(SPECIAL) or entries["name"][1] != SPECIAL[1]:
            return False
        other = self.files.row(int(entries["address"][1]))
        if other in (NO_ROW, parent, row) or self.files.types[other] != DIRECTORY:
            return False
        return row in self._named(other)

    def _name(self, directory: Directory, index: int, raw: bytes, taken: set[bytes], target: int) -> bytes:
        """The name as it ought to be; it differs from what is there where that cannot be a name."""
        name, _, rest = raw.partition(b"\0")
        wrong = ""
        if rest.strip(b"\0"):
            wrong = "zeros behind its end"
        right = name[:NAME_MAX]
        try:
            right.decode()
        except UnicodeDecodeError:
            wrong, right = "UTF-8", right.decode("utf-8", "replace").replace("\ufffd", "_").encode()
        if not right or b"/" in right or len(name) > NAME_MAX:
            wrong = f"1 to {NAME_MAX} bytes without a slash"
            right = right.replace(b"/", b"_") or self._lost_name(target).encode()
        if directory.row == self.root and self.files.address(target) in SYSTEM_ROWS:
            known = self._lost_name(target).encode()
            if right != known and known not in taken:
                wrong, right = "that of a file of the system", known
        while right in taken:
            wrong = "one that no other entry has"
            right = right[: NAME_MAX - 8].decode("utf-8", "ignore").encode() + f"~{index}".encode()
        if wrong:
            directory.problems.append(Problem(
                index, "name", f"name of {self.files.fdc.title(int(self.files.numbers[target]))}", wrong,
                shown_name(raw.rstrip(b"\0")), f"it becomes {shown_name(right)}",
            ))  # fmt: skip
        return right

    def _entry(self, name: bytes, row: int) -> Any:
        entry = np.zeros(1, ENTRY)
        fd = self.files.fds[row]
        entry["type"], entry["address"], entry["generation"] = fd["type"], self.files.address(row), fd["generation"]
        entry["name"] = name
        return entry[0]

    def _lost_name(self, row: int) -> str:
        number = int(self.files.numbers[row])
        if self.files.address(row) in SYSTEM_ROWS:
            return SYSTEM_NAMES[SystemFile(self.files.address(row))]
        return f"lost-{number // self.files.fdc.per_cluster}-{number % self.files.fdc.per_cluster}"

    def _settle(self) -> None:
        """Places for the nameless."""
        root = self.directories[self.root]
        taken = {entry["name"] for entry in root.right.values()}
        for row in self.orphans:
            name = self._lost_name(row).encode()
            while name in taken:
                name += b"~"
            taken.add(name)
            root.added.append(self._entry(name, row))
            if self.files.types[row] == DIRECTORY:
                self.subdirectories[root.row] += 1

    # telling

    def tell(self) -> None:
        """Make the findings."""
        files = self.files
        for row, (word, right) in self.found.items():
            at = int(files.at[row]) + spec.CONTENTS_AT
            patch = Patch(at, right.to_bytes(spec.ADDRESS.itemsize, "little"))
            expected = f"{addressing.describe(right)}, which holds it"
            files.findings.add(
                Fault.ADDRESS, at, files.title(row), "address of block 0", expected, addressing.describe(word),
                "it is written", patch,
            )  # fmt: skip
        root = self.directories.get(self.root)
        for directory in self.directories.values():
            patches = directory.patches()
            length = len(directory.contents())
            if length != files.fds["length"][directory.row]:
                patches.append(files.put(directory.row, "length", length))
            fits = length <= directory.room
            for one in directory.problems:
                if one.entry == WHOLE:
                    at = int(files.at[directory.row]) + FIELDS[one.field].offset
                else:
                    at = directory.place(one.entry * ENTRY_BYTES + ENTRY_OFFSETS[one.field])
                files.findings.add(
                    Fault.DIRECTORY, at, files.title(directory.row), one.what, one.expected, one.found,
                    one.plan if fits else "", *patches if fits else (),
                )  # fmt: skip
            for row in self.orphans if directory is root else []:
                plan = f"it is named {self._lost_name(row)} in the root" if fits else ""
                mends = patches if fits else []
                files.findings.add(
                    Fault.ORPHAN, int(files.at[row]), files.fdc.title(int(files.numbers[row])), "entry in a directory",
                    "one that names it", "none", plan, *mends,
                )  # fmt: skip
        self._links()

    def _links(self) -> None:
        files = self.files
        right = np.where(files.fds["type"] == DIRECTORY, 2 + self.subdirectories, self.references)
        for row in np.flatnonzero(files.live & (files.fds["nlink"] != right) & (right > 0)).tolist():
            files.find_value(Fault.LINKS, row, "nlink", int(right[row]))


def shown(entry: Any) -> str:
    """An entry in one word."""
    of = addressing.describe(int(entry["address"]))
    return f"{shown_name(entry['name'])} type {entry['type']} {of} generation {entry['generation']}"


def shown_name(name: bytes) -> str:
    return repr(name.decode("utf-8", "backslashreplace"))
