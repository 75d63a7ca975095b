"""What a volume gives of a file that is open: for reading without a trace, for reading with its lock, or for writing.

Whether a lock on the disk counts is the heartbeat's matter: one whose host has gone does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from vmkernel.storage.block_file import View
from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.errors import FileLocked
from vmkernel.storage.vmfs3.file_map import FileMap
from vmkernel.storage.vmfs3.growing import Provision
from vmkernel.storage.vmfs3.heartbeat import Watch
from vmkernel.storage.vmfs3.host import Process
from vmkernel.storage.vmfs3.records import LockRecord
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import LOCK_BYTES, LockMode
from vmkernel.storage.vmfs3.writing import FileWriter

if TYPE_CHECKING:
    from vmkernel.storage.vmfs_store import Store


class Opened(Protocol):
    """An open file. What is written raises what the volume's writer does."""

    @property
    def size(self) -> int: ...

    @property
    def identity(self) -> tuple[int, int]: ...

    def map(self) -> FileMap: ...

    def read(self, offset: int, views: Sequence[memoryview]) -> object: ...

    def reload(self) -> bool:
        """Has another host changed it since it was looked at?"""

    def judge_lock(self, path: str, *, writable: bool) -> None:
        """Raises FileLocked where somebody else's use excludes this one."""

    def shared(self) -> Opened:
        """The same file, which others may read from now on."""

    def close(self) -> None: ...

    def about_to_write(self) -> None:
        """In place, by the caller, now. Raises HeartbeatLost."""

    def write(self, offset: int, views: Sequence[View]) -> None: ...

    def truncate(self, size: int) -> None: ...

    def reserve(self, size: int, kind: Provision) -> None: ...

    def sync(self) -> None: ...


class Reading:
    """Without `guard` nothing is written for it, no lock either: another host may change the file."""

    def __init__(self, store: Store, descriptor: Descriptor, guard: Any = None) -> None:
        self.store, self.descriptor, self.guard = store, descriptor, guard
        self._map = store.volume.open_file(descriptor).map()

    @property
    def size(self) -> int:
        return self.descriptor.length

    @property
    def identity(self) -> tuple[int, int]:
        return self.store.identity(self.descriptor)

    def map(self) -> FileMap:
        return self._map

    def read(self, offset: int, views: Sequence[memoryview]) -> int:
        return self.store.volume.open_file(self.descriptor).read(offset, views)

    def reload(self) -> bool:
        """A file that was removed meanwhile stays as it was."""
        if self.guard is not None:
            return False
        now = self.store.volume.descriptor_at(self.descriptor.address)
        if now.raw == self.descriptor.raw or now.generation != self.descriptor.generation or not now.nlink:
            return False
        self.descriptor = now
        self._map = self.store.volume.open_file(now).map()
        return True

    def judge_lock(self, path: str, *, writable: bool) -> None:
        judge_lock(self.store.volume, self.descriptor, path, writable=writable, own=self.store.own)

    def shared(self) -> Opened:
        return self

    def close(self) -> None:
        if self.guard is not None:
            self.guard.close()
            self.guard = None

    def about_to_write(self) -> None:
        raise AssertionError("a file that is open for reading is not written")

    def write(self, offset: int, views: Sequence[View]) -> None:
        self.about_to_write()

    def truncate(self, size: int) -> None:
        self.about_to_write()

    def reserve(self, size: int, kind: Provision) -> None:
        self.about_to_write()

    def sync(self) -> None:
        """Nothing was written."""


class Writing:
    """With the descriptor's lock for ourselves."""

    def __init__(self, store: Store, writer: FileWriter) -> None:
        self.store, self.writer = store, writer
        self.identity = store.identity(writer.descriptor)
        self.map, self.read, self.write = writer.map, writer.read, writer.write
        self.truncate, self.reserve, self.close = writer.truncate, writer.reserve, writer.close
        self.about_to_write = writer.judge_alive

    @property
    def size(self) -> int:
        return self.writer.size

    def reload(self) -> bool:
        return False

    def judge_lock(self, path: str, *, writable: bool) -> None:
        """It is ours."""

    def shared(self) -> Opened:
        """Where somebody else has taken the lock in between, the file is read without one."""
        self.writer.close()
        descriptor = self.writer.descriptor
        with suppress(FileLocked):
            return self.store.locked_reading(descriptor)
        return Reading(self.store, descriptor)

    def sync(self) -> None:
        """Bytes that were written in place count too; the time of change is the matter of `close`."""
        self.writer.session.transactions.wrote()
        self.writer.session.sync()


def holders(volume: Volume, fd: Descriptor, watch: Watch) -> Iterator[tuple[int, bytes]]:
    """(heartbeat slot, host) of those that hold a file's lock, and may be alive."""
    record = LockRecord(fd.position, bytearray(fd.raw.tobytes()[:LOCK_BYTES]))
    rows: list[tuple[int, int, bytes]] = []
    if record.lock_mode == LockMode.EXCLUSIVE:
        rows = [(record.hb_position, record.hb_generation, record.owner)]
    elif record.lock_mode in (LockMode.READ_ONLY, LockMode.MULTI_WRITER):
        rows = [(int(row["hb_position"]), int(row["hb_generation"]), bytes(row["owner"])) for row in record.holders]
    for position, generation, owner in rows:
        if not watch.is_stale(position, generation, owner, record) and not watch.is_dead(position):
            yield position, owner


def judge_lock(volume: Volume, fd: Descriptor, path: object, *, writable: bool, own: bytes) -> None:
    """Raises FileLocked where a live host writes the file; for `writable` also where one reads it."""
    if not writable and int(fd.lock["mode"]) == LockMode.READ_ONLY:
        return
    watch = Watch(volume.lv, Clock(), volume.block_size)
    for position, owner in holders(volume, fd, watch):
        if owner != own:
            raise FileLocked(str(path), watch.name(position, owner))


def holder_process(volume: Volume, fd: Descriptor) -> Process | None:
    """The process that holds a file for writing; None for nobody, and where its journal does not tell."""
    if int(fd.lock["mode"]) != LockMode.EXCLUSIVE:
        return None
    watch = Watch(volume.lv, Clock(), volume.block_size)
    for position, _ in holders(volume, fd, watch):
        process: Process | None = watch.process(position)
        return process
    return None
