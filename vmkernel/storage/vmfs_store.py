"""The VMFS volumes that this process has open, each once.

A volume is open for reading, which writes nothing, until something is to be written: then it is opened once more, as a
host with a heartbeat of its own, and everything goes by way of that one from there on. At the end of the process the
heartbeat is cleared; of a process that was killed the next host clears it, as soon as it is known to be dead.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ringfence.errors import HostRefused, RingfenceError
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import FileType
from vmkernel.storage.vmfs3.errors import IsADirectory, NoSuchFile
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import WritableVolume, open_for_writing
from vmkernel.storage.vmfs3.writing import FileWriter
from vmkernel.storage.vmfs_opened import Opened, Reading, Writing, holder_process, judge_lock

MOUNTED_AT = PurePosixPath("/vmfs/volumes")  # how texts of ESX name a volume: by its label or UUID below this
ROOT = PurePosixPath("/")
JOINT = "+"
NOBODY = b""


class Store:
    """One volume as this process has it open."""

    def __init__(self, devices: Sequence[Path]) -> None:
        """Raises BadInput and HostRefused."""
        self.devices = tuple(devices)
        self._changing = threading.RLock()
        self._reader = Volume.open(self.devices)
        self._writer: WritableVolume | None = None
        self._held: dict[int, FileWriter] = {}
        self.number = int.from_bytes(self._reader.uuid[:8], "little")

    @property
    def volume(self) -> Volume:
        return self._reader if self._writer is None else self._writer

    @property
    def is_writer(self) -> bool:
        """Is this process a host of the volume?"""
        return self._writer is not None

    @property
    def own(self) -> bytes:
        """This host's UUID, where it is one."""
        return NOBODY if self._writer is None else self._writer.session.host.uuid

    def to_write(self) -> WritableVolume:
        """Raises BadInput and HostRefused: a volume that cannot be written, or no heartbeat slot."""
        with self._changing:
            if self._writer is None:
                self._writer = open_for_writing(self.devices)
            return self._writer

    def close(self) -> None:
        with self._changing:
            try:
                if self._writer is not None:
                    self._writer.close()
            finally:
                self._writer = None
                self._reader.close()

    def sync(self) -> None:
        """Everything that this process has changed is durable."""
        if self._writer is not None:
            self._writer.sync()

    def settle(self) -> None:
        """And no lock is kept but those of open files."""
        if self._writer is not None:
            with suppress(RingfenceError):
                self._writer.settle()

    def free_bytes(self) -> int:
        volume = self.volume
        return volume.statistics()["file_block"][1] * volume.block_size

    def identity(self, fd: Descriptor) -> tuple[int, int]:
        return self.number, fd.generation << 32 | fd.address

    def inside(self, path: PurePosixPath) -> PurePosixPath:
        """A path as texts of ESX have it, from this volume's root on."""
        if not path.is_relative_to(MOUNTED_AT) or len(path.parts) <= len(MOUNTED_AT.parts):
            return path
        name = path.parts[len(MOUNTED_AT.parts)]
        if name not in (self._reader.label, uuid_text(self._reader.uuid)):
            return path
        return ROOT.joinpath(*path.parts[len(MOUNTED_AT.parts) + 1 :])

    # files

    def open_to_read(self, path: str, shown: str, *, lock: bool) -> Opened:
        """`lock`: with the file's lock, where this process is a host of the volume. Raises what opening does."""
        descriptor = self.volume.lookup(path)
        if descriptor.is_directory:
            raise IsADirectory(path)
        if lock:
            if self._writer is not None and descriptor.type != FileType.SYSTEM:
                return self.locked_reading(descriptor)
            judge_lock(self.volume, descriptor, shown, writable=False, own=self.own)
        return Reading(self, descriptor)

    def locked_reading(self, descriptor: Descriptor) -> Opened:
        """Raises FileLocked."""
        guard = self.to_write().open_file(descriptor, lock="read")
        return Reading(self, guard.descriptor, guard)

    def open_to_write(self, path: str) -> Opened:
        return Writing(self, self.to_write().open_for_write(path))

    def create(self, path: str, mode: int) -> Opened:
        volume = self.to_write()
        volume.create(path, mode)
        return Writing(self, volume.open_for_write(path))

    def replace(self, path: str, data: bytes, mode: int) -> None:
        """New contents, all or nothing, and durable. A file that is held keeps its descriptor, and so its lock."""
        volume = self.to_write()
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}"
        with suppress(NoSuchFile):
            mode = volume.lookup(path).stored_mode & 0o7777
        new = self.create(temporary, mode)
        try:
            if data:
                new.write(0, [data])
            new.close()
            with self._changing:
                held = self._held.get(self._address(path))
                if held is None:
                    volume.rename(temporary, path)
                else:
                    volume.session.operate(lambda operation: exchange(operation, volume, held, temporary, path), path)
            volume.session.transactions.wrote()
            volume.sync()
        except BaseException:
            with suppress(RingfenceError):
                new.close()
                volume.remove(temporary)
            raise

    def _address(self, path: str) -> int:
        try:
            return self.volume.lookup(path).address
        except NoSuchFile:
            return 0

    # holding

    def hold(self, path: str) -> HeldFile:
        """Raises FileLocked."""
        writer = self.to_write().open_for_write(path)
        self._held[writer.address] = writer
        return HeldFile(self, writer)

    def let_go(self, writer: FileWriter) -> None:
        if self._held.pop(writer.address, None) is not None:
            writer.close()
            self.settle()  # now, and not when it is next idle: somebody may wait for the machine

    def holder_pid(self, path: str) -> int:
        process = holder_process(self.volume, self.volume.lookup(path))
        return process.pid if process is not None and process.is_here else 0


def exchange(operation: Operation, volume: WritableVolume, held: FileWriter, temporary: str, path: str) -> None:
    """The contents of two files change places, and the temporary one goes with the old ones."""
    old = operation.descriptor(held.address, path=path)
    new = operation.descriptor(volume.names.walk(temporary).address, path=temporary)
    for name in ("length", "block_size", "num_blocks", "zla", "tbz", "block_offset_shift", "contents"):
        ours, theirs = getattr(old, name), getattr(new, name)
        setattr(old, name, theirs)
        setattr(new, name, ours)
    old.mtime = old.ctime = operation.seconds
    volume.names.remove(operation, temporary, folders=False)


class HeldFile:
    """A file that nobody else writes until this is closed."""

    def __init__(self, store: Store, writer: FileWriter) -> None:
        self._store, self._writer = store, writer

    def close(self) -> None:
        self._store.let_go(self._writer)


STORES: dict[tuple[tuple[int, int], ...], Store] = {}
OPENING = threading.Lock()


def store_of(devices: Sequence[Path]) -> Store:
    """The volume on these devices, opened once. Raises BadInput and HostRefused."""
    try:
        key = tuple(sorted((status.st_dev, status.st_ino) for status in map(os.stat, devices)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HostRefused(f"{JOINT.join(map(str, devices))}: cannot open: {reason}") from error
    with OPENING:
        if key not in STORES:
            STORES[key] = Store(devices)
        return STORES[key]


@atexit.register
def close_volumes() -> None:
    """All of them. What a volume cannot do any more is left to the next host."""
    with OPENING:
        for store in STORES.values():
            with suppress(RingfenceError, OSError):
                store.close()
        STORES.clear()
