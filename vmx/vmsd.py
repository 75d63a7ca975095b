"""The snapshot dictionary of a machine (.vmsd): which snapshots there are, how they descend from one another.

    snapshot.lastUID, .numSnapshots, .current       the highest number ever given; how many; what the machine runs on
    snapshotI.uid, .filename, .parent, .displayName, .description, .createTimeHigh, .createTimeLow, .numDisks
    snapshotI.diskJ.fileName, .node                 the link that was frozen, and where the disk is plugged in

The index is the order of creation; uid and parent make the tree, with several roots and several children of one.
Keys that are not known stay with their snapshot, and lines that do not change keep their bytes. Beside them are keys of
our own: what is still to be done to the files after a change that was cut short (snapshot_files.py).
Files that are missing are no error here.
Source: snapshot dictionaries of ESX Server 3; VMware KB 1003550 (snapshots, files of a machine); the readers of
xen-orchestra, vmware-explorer.
UNKNOWN: snapshotI.type; kept as read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ringfence.errors import BadInput, BadOption
from vmkernel.storage.place import Place
from vmx.vmx_file import FILE_BYTES_MAX, VmxFile, read_regular

SNAPSHOTS_MAX = 1024
DISKS_MAX = 64
NUMBER_MAX = 1 << 31
INDEXED = re.compile(r"snapshot(\d{1,9})\.(.+)", re.IGNORECASE)
MRU = re.compile(r"snapshot\.mru(\d{1,9})\.uid", re.IGNORECASE)
FOLD, REMOVE = "ringfence.fold", "ringfence.remove"
REVERT, REVERT_TO = "ringfence.revert", "ringfence.revertTo"
NEEDS_CONSOLIDATION = "snapshot.needConsolidate"
FIRST_LINE = b'.encoding = "UTF-8"\n'
LOW_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class SnapshotDisk:
    """A disk as it was: its frozen link, named from the machine's folder, and its place, such as scsi0:0."""

    file: str
    node: str


@dataclass(slots=True)
class Snapshot:
    """`parent` 0: none. `created_us` counts from 1970, UTC. `others` are keys that are kept, without the index."""

    uid: int
    file: str
    parent: int = 0
    name: str = ""
    description: str = ""
    created_us: int = 0
    disks: tuple[SnapshotDisk, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Unfinished:
    """What is still to be done: links whose contents nobody needs, files to be removed when nothing names them.

    `revert_to` are disks that are plugged in when a return to snapshot `revert` has happened.
    """

    fold: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    revert: int = 0
    revert_to: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.fold or self.remove or self.revert)


class SnapshotTree:
    """A machine's snapshots, in the order of their creation."""

    def __init__(self, file: VmxFile) -> None:
        """Raises BadInput for what cannot be true."""
        self.file = file
        self.last_uid = self._number("snapshot.lastUID")
        self.current = self._number("snapshot.current")
        count = self._number("snapshot.numSnapshots", SNAPSHOTS_MAX)
        self.snapshots = [self._read(index) for index in range(count)]
        self.needs_consolidation = file.get(NEEDS_CONSOLIDATION).strip().lower() == "true"
        self.unfinished = Unfinished(
            list(self._list(FOLD)), list(self._list(REMOVE)), self._number(REVERT), list(self._list(REVERT_TO))
        )
        self._check()

    @classmethod
    def read(cls, path: Place) -> SnapshotTree:
        """An empty or missing file has no snapshots. Raises BadInput and HostRefused."""
        data = read_regular(path) if path.exists() else b""
        return cls(VmxFile.parse(data if data.strip() else FIRST_LINE, path))

    def write(self) -> None:
        """Replace the file, whole or not at all, if anything changed. Raises HostRefused."""
        before = self.file.to_bytes()
        self.put()
        if self.file.to_bytes() != before:
            self.file.write()

    def put(self) -> None:
        """Into the lines of the file, which is not written. Raises BadOption for what they cannot hold."""
        self._refuse_size()
        wanted = dict(self._entries())
        keys = {key.lower() for key in wanted}
        for line in list(self.file):
            if is_ours(line.key) and line.key.lower() not in keys:
                self.file.remove(line.key)
        for key, value in wanted.items():
            self.file.set(key, value)

    def _refuse_size(self) -> None:
        """Raises BadOption for more than could be read again."""
        size = sum(len(key) + 3 * len(value) + 8 for key, value in self._entries())
        if size > FILE_BYTES_MAX or len(self.snapshots) > SNAPSHOTS_MAX:
            raise BadOption(f"{self.file.path}: expected at most {SNAPSHOTS_MAX} snapshots in {FILE_BYTES_MAX} bytes")

    # the tree

    def __contains__(self, uid: int) -> bool:
        return any(snapshot.uid == uid for snapshot in self.snapshots)

    def get(self, uid: int) -> Snapshot:
        return next(snapshot for snapshot in self.snapshots if snapshot.uid == uid)

    def children(self, uid: int) -> list[Snapshot]:
        """Of a snapshot, or the roots for 0."""
        return [snapshot for snapshot in self.snapshots if snapshot.parent == uid]

    def depth(self, uid: int) -> int:
        """How many snapshots there are from the root to this one."""
        count = 0
        while uid:
            count, uid = count + 1, self.get(uid).parent
        return count

    def descendants(self, uid: int) -> list[int]:
        """The snapshot and all that descend from it."""
        found = [uid]
        for one in found:
            found += [child.uid for child in self.children(one)]
        return found

    def add(self, snapshot: Snapshot) -> None:
        """It becomes what the machine runs on."""
        self.snapshots.append(snapshot)
        self.last_uid, self.current = max(self.last_uid, snapshot.uid), snapshot.uid

    def remove(self, uid: int) -> None:
        """Its children, and the machine if it runs on it, go to its parent."""
        gone = self.get(uid)
        for child in self.children(uid):
            child.parent = gone.parent
        if self.current == uid:
            self.current = gone.parent
        self.snapshots.remove(gone)

    # reading

    def _number(self, key: str, most: int = NUMBER_MAX) -> int:
        text = self.file.get(key, "0").strip() or "0"
        if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > most:
            raise BadInput(self.file.where(key), key, f"a number up to {most}", repr(text[:20]))
        return int(text)

    def _list(self, prefix: str) -> Iterator[str]:
        number = 0
        while f"{prefix}{number}" in self.file and number < SNAPSHOTS_MAX * DISKS_MAX:
            yield self.file.get(f"{prefix}{number}")
            number += 1

    def _read(self, index: int) -> Snapshot:
        prefix = f"snapshot{index}."
        get = self.file.get
        uid = self._number(prefix + "uid")
        if not uid:
            where = self.file.where(prefix + "uid")
            raise BadInput(where, "invalid snapshot configuration", f"a number in {prefix}uid", "none")
        count = self._number(prefix + "numDisks", DISKS_MAX)
        disks = tuple(
            SnapshotDisk(get(f"{prefix}disk{disk}.fileName"), get(f"{prefix}disk{disk}.node")) for disk in range(count)
        )
        snapshot = Snapshot(
            uid, get(prefix + "filename"), self._number(prefix + "parent"), get(prefix + "displayName"),
            get(prefix + "description"), self._time(prefix), disks,
        )  # fmt: skip
        known = {key.lower() for key, _ in known_entries(snapshot)}
        snapshot.others = tuple(
            (match[2], line.value)
            for line in self.file
            if (match := INDEXED.fullmatch(line.key)) and int(match[1]) == index and match[2].lower() not in known
        )
        return snapshot

    def _time(self, prefix: str) -> int:
        """Two signed halves."""
        halves = []
        for key in ("createTimeHigh", "createTimeLow"):
            text = self.file.get(prefix + key, "0").strip() or "0"
            if not re.fullmatch(r"-?\d{1,10}", text):
                raise BadInput(self.file.where(prefix + key), prefix + key, "a number of 32 bits", repr(text[:20]))
            halves.append(int(text))
        return (halves[0] << 32) + (halves[1] & LOW_MASK)

    def _check(self) -> None:
        where, what = str(self.file.path), "invalid snapshot configuration"
        uids = [snapshot.uid for snapshot in self.snapshots]
        if len(set(uids)) != len(uids):
            raise BadInput(where, what, "each uid once", ", ".join(map(str, uids)))
        for snapshot in self.snapshots:
            if snapshot.parent and snapshot.parent not in uids:
                raise BadInput(where, what, f"a parent of snapshot {snapshot.uid}", f"{snapshot.parent}")
            seen, uid = {snapshot.uid}, snapshot.parent
            while uid:
                if uid in seen:
                    raise BadInput(where, what, "a tree", f"snapshot {uid} is its own ancestor")
                seen.add(uid)
                uid = self.get(uid).parent
        if self.current and self.current not in uids:
            raise BadInput(where, what, "a snapshot as the current one", f"{self.current}")
        self.last_uid = max([self.last_uid, *uids])

    # writing

    def _entries(self) -> Iterator[tuple[str, str]]:
        """Every key that is ours to write, with its value."""
        if self.last_uid or "snapshot.lastUID" in self.file:
            yield "snapshot.lastUID", str(self.last_uid)
            yield "snapshot.numSnapshots", str(len(self.snapshots))
            yield "snapshot.current", str(self.current)
        if self.needs_consolidation or NEEDS_CONSOLIDATION in self.file:
            yield NEEDS_CONSOLIDATION, "TRUE" if self.needs_consolidation else "FALSE"
        uids = {str(snapshot.uid) for snapshot in self.snapshots}
        recent = [line.value for line in self.file if MRU.fullmatch(line.key) and line.value.strip() in uids]
        for number, uid in enumerate(recent):
            yield f"snapshot.mru{number}.uid", uid
        for index, snapshot in enumerate(self.snapshots):
            for key, value in (*known_entries(snapshot), *snapshot.others):
                yield f"snapshot{index}.{key}", value
        left = self.unfinished
        for prefix, names in ((FOLD, left.fold), (REMOVE, left.remove), (REVERT_TO, left.revert_to)):
            for number, name in enumerate(names):
                yield f"{prefix}{number}", name
        if left.revert:
            yield REVERT, str(left.revert)


def known_entries(snapshot: Snapshot) -> list[tuple[str, str]]:
    """A snapshot's keys without the index, in the order that ESX writes them."""
    high, low = snapshot.created_us >> 32, snapshot.created_us & LOW_MASK
    entries = [("uid", str(snapshot.uid)), ("filename", snapshot.file)]
    if snapshot.parent:
        entries.append(("parent", str(snapshot.parent)))
    entries += [
        ("displayName", snapshot.name), ("description", snapshot.description),
        ("createTimeHigh", str(high)), ("createTimeLow", str(low - (1 << 32) if low >> 31 else low)),
        ("numDisks", str(len(snapshot.disks))),
    ]  # fmt: skip
    for number, disk in enumerate(snapshot.disks):
        entries += [(f"disk{number}.fileName", disk.file), (f"disk{number}.node", disk.node)]
    return entries


def is_ours(key: str) -> bool:
    """Is it one of the keys that `write` removes when they are not wanted?"""
    return bool(INDEXED.fullmatch(key) or MRU.fullmatch(key) or key.lower().startswith((FOLD, REMOVE, REVERT.lower())))
