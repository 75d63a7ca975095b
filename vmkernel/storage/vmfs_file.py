"""A file of a VMFS volume as a BlockFile: where it lies is known, so that a request is one preadv on a LUN.

What has been written once is read and written in place, straight on the device. Holes, blocks to be zeroed and the end
of the file are the volume's business: its writer gives the file blocks. After that the file is used by way of the
writer for a while, until it has been looked up again where it lies.
Locks: the descriptor's own, on the disk. A file that is read takes one only where this process writes to the volume,
for opening to read writes nothing; otherwise it is refused while a live host holds the lock for writing.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from ringfence.errors import RingfenceError
from vmkernel.storage.block_file import ZEROS, BlockFile, HostRun, View, after, cut, fill_zeros
from vmkernel.storage.errors import HostTrouble, OutOfSpace
from vmkernel.storage.vmfs3.errors import FileTooLarge, VolumeFull
from vmkernel.storage.vmfs3.file_map import FileMap, Kind
from vmkernel.storage.vmfs3.growing import Provision
from vmkernel.storage.vmfs3.volume_spec import SUB_BLOCK_BYTES

if TYPE_CHECKING:
    from vmkernel.storage.block_file import Numbers
    from vmkernel.storage.vmfs_opened import Opened
    from vmkernel.storage.vmfs_place import VolumePlace

NOWHERE = -1  # the descriptor of what is zeros
VIEWS_MAX = os.sysconf("SC_IOV_MAX")
USES_BEFORE_LOOKING = 16  # by way of the writer
STEP_BYTES = 16 << 20


class Where:
    """Where a file's bytes are, as columns of equal length: file offset, descriptor, byte of what that has open."""

    def __init__(self, found: FileMap) -> None:
        starts: list[int] = []
        fds: list[int] = []
        places: list[int] = []
        columns = (found.file_offset, found.length, found.kind, found.lv_offset)
        for start, length, kind, place in zip(*(column.tolist() for column in columns), strict=True):
            at = start
            for run in found.lv.runs(place, length) if kind == Kind.DATA else ():
                starts.append(at)
                fds.append(run.lun.fd)
                places.append(run.lun.base + run.offset)
                at += run.length
            if kind != Kind.DATA:
                starts.append(start)
                fds.append(NOWHERE)
                places.append(0)
        self.starts, self.fds, self.places = starts, fds, places
        self.devices = {lun.fd: lun.file for lun in found.lv.luns}
        self.ends = [*starts[1:], found.size] if starts else []

    def one(self, offset: int, length: int) -> tuple[int, int]:
        """(descriptor, byte) of a range that lies together; NOWHERE for another."""
        index = bisect_right(self.starts, offset) - 1
        if index < 0 or offset + length > self.ends[index]:
            return NOWHERE, 0
        return self.fds[index], self.places[index] + offset - self.starts[index]

    def runs(self, offset: int, length: int) -> Iterator[HostRun]:
        """In order, cut to a range; what lies past the last block is zeros."""
        index = max(bisect_right(self.starts, offset) - 1, 0)
        while length > 0:
            if index >= len(self.starts):
                yield HostRun(None, 0, length)
                return
            step = min(length, self.ends[index] - offset)
            fd = self.fds[index]
            if step > 0:
                at = self.places[index] + offset - self.starts[index]
                yield HostRun(None, 0, step) if fd == NOWHERE else HostRun(fd, at, step)
                offset, length = offset + step, length - step
            index += 1


class VolumeFile(BlockFile):
    """`opened` is what the volume gave, and is closed with this."""

    def __init__(self, opened: Opened, path: VolumePlace, *, writable: bool) -> None:
        self.fd = NOWHERE
        self.path, self.writable = path, writable
        self._opened = opened
        self._changing = threading.RLock()
        self._where: Where | None = Where(opened.map())
        self._uses = 0
        self._nowait = True
        self.size = opened.size

    def close(self) -> None:
        """What was to be durable was flushed before; a lock that cannot be given back ends with this process."""
        with suppress(RingfenceError):
            self._opened.close()

    def share(self) -> None:
        with self._changing:
            self.writable = False
            self._opened = self._opened.shared()

    def lock(self, *, writable: bool) -> None:
        self._opened.judge_lock(str(self.path), writable=writable)

    @property
    def identity(self) -> tuple[int, int]:
        return self._opened.identity

    def refresh(self) -> int:
        with self._changing:
            if self._opened.reload():
                self._changed()
        return self.size

    def allocated(self) -> int:
        return self._opened.map().allocated()

    def _changed(self) -> None:
        """It lies somewhere else in part, or has another length."""
        if self._where is not None:
            self._where, self._uses = None, 0
        self.size = self._opened.size

    def _looked(self) -> Where | None:
        """Where the file lies; None: it has changed lately, and its writer knows."""
        if self._where is None:
            with self._changing:
                self._uses += 1
                if self._uses > USES_BEFORE_LOOKING and self._where is None:
                    self._where = Where(self._opened.map())
        return self._where

    def _surely(self) -> Where:
        with self._changing:
            if self._where is None:
                self._where = Where(self._opened.map())
            return self._where

    # bytes

    def some_at(self, offset: int, length: int) -> bytes:
        length = min(length, max(self.refresh() - offset, 0))
        data = bytearray(length)
        if length:
            self.read(offset, [memoryview(data)])
        return bytes(data)

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        length = sum(map(len, views))
        if offset + length > self.size and offset + length > self.refresh():
            past = offset + length - self.size
            raise HostTrouble(self.path, min(offset, self.size), f"the file ends here, {past} bytes too early")
        where = self._looked()
        if where is None:
            self._opened.read(offset, views)
            return
        fd, at = where.one(offset, length)
        try:
            if fd != NOWHERE and len(views) <= VIEWS_MAX and os.preadv(fd, views, at) == length:
                return
            done = 0
            for run in where.runs(offset, length):
                part = cut(views, done, run.length)
                if run.fd is None:
                    fill_zeros(part)
                else:
                    self._read_run(run.fd, run.offset, part)
                done += run.length
        except OSError as error:
            raise self._trouble(offset, error) from error

    def _read_run(self, fd: int, at: int, views: Sequence[View]) -> None:
        while views:
            moved = os.preadv(fd, views[:VIEWS_MAX], at)
            if not moved:
                raise HostTrouble(self.path, at, "the device ends here")
            at, views = at + moved, after(views, moved)

    def read_at_once(self, offset: int, views: Sequence[memoryview]) -> int:
        try:
            where = self._looked()
            if where is None or len(views) > VIEWS_MAX:
                return 0
            fd, at = where.one(offset, sum(map(len, views)))
            return 0 if fd == NOWHERE else os.preadv(fd, views, at)
        except OSError:
            return 0

    def read_cached(self, offset: int, views: Sequence[memoryview]) -> int:
        """0 also where the file has to be looked up first."""
        where = self._where
        if where is None or len(views) > VIEWS_MAX:
            return 0
        fd, at = where.one(offset, sum(map(len, views)))
        return 0 if fd == NOWHERE else self._cached(fd, at, views)

    def write_cached(self, offset: int, views: Sequence[memoryview]) -> int:
        """0 also where the file has to be looked up first, or the volume refuses."""
        where, length = self._where, sum(map(len, views))
        if where is None or len(views) > VIEWS_MAX or offset + length > self.size or self.size <= SUB_BLOCK_BYTES:
            return 0
        fd, at = where.one(offset, length)
        if fd == NOWHERE:
            return 0
        try:
            self._opened.about_to_write()
            return os.pwritev(fd, views, at)
        except (OSError, RingfenceError):
            return 0

    def write(self, offset: int, views: Sequence[View]) -> None:
        if not self.writable:
            raise HostTrouble(self.path, offset, "it is open for reading")
        length = sum(map(len, views))
        if offset + length <= self.size and self.size > SUB_BLOCK_BYTES and self._write_in_place(offset, length, views):
            return
        with self._changing:
            try:
                self._opened.write(offset, views)
            except RingfenceError as error:
                raise self._refused(offset, error) from error
            finally:
                self._changed()

    def _write_in_place(self, offset: int, length: int, views: Sequence[View]) -> bool:
        where = self._looked()
        if where is None or len(views) > VIEWS_MAX:
            return False
        fd, at = where.one(offset, length)
        if fd == NOWHERE:
            return False
        try:
            self._opened.about_to_write()
            return os.pwritev(fd, views, at) == length
        except OSError as error:
            raise self._trouble(offset, error) from error
        except RingfenceError as error:
            raise self._refused(offset, error) from error

    def _refused(self, offset: int, error: RingfenceError) -> RingfenceError:
        """What the volume says of a request, as a file of the host says it."""
        if isinstance(error, HostTrouble):
            return error
        kind = OutOfSpace if isinstance(error, VolumeFull | FileTooLarge) else HostTrouble
        return kind(self.path, offset, str(error))

    # where the bytes are

    def host_runs(self, offset: int, length: int) -> list[HostRun]:
        return list(self._surely().runs(offset, length))

    def located(self, offset: int, length: int) -> Iterator[tuple[BlockFile | None, int, int]]:
        where = self._surely()
        for run in where.runs(offset, length):
            yield None if run.fd is None else where.devices[run.fd], run.offset, run.length

    def places(self, offsets: Numbers, length: int) -> list[tuple[int, Numbers | slice, Numbers]]:
        where = self._surely()
        if not where.starts:
            return []
        starts, ends = np.array(where.starts, np.int64), np.array(where.ends, np.int64)
        fds, places = np.array(where.fds, np.int64), np.array(where.places, np.int64)
        index = np.clip(np.searchsorted(starts, offsets, "right") - 1, 0, None)
        whole = (offsets >= starts[index]) & (offsets + length <= ends[index])
        found: list[tuple[int, Numbers | slice, Numbers]] = []
        for fd in set(where.fds) - {NOWHERE}:
            which = np.flatnonzero(whole & (fds[index] == fd))
            chosen = index[which]
            found.append((fd, which, places[chosen] + offsets[which] - starts[chosen]))
        return found

    def next_data(self, at: int, end: int) -> int:
        return self._next(at, end, data=True)

    def next_hole(self, at: int, end: int) -> int:
        return self._next(at, end, data=False)

    def _next(self, at: int, end: int, *, data: bool) -> int:
        for run in self._surely().runs(at, end - at):
            if (run.fd is not None) == data:
                return at
            at += run.length
        return end

    def copy_from(self, source: BlockFile, start: int, at: int, length: int) -> bool:
        """The host does not know which blocks are this file's."""
        return False

    # durability and space

    def sync(self) -> None:
        if self.writable:
            try:
                self._opened.sync()
            except RingfenceError as error:
                raise self._refused(0, error) from error

    def truncate(self, size: int) -> None:
        self._grow(size, Provision.THIN)

    def make_room(self, end: int) -> None:
        """In steps, as ESX does: a length is metadata, and costs more than the bytes."""
        if end > self.size:
            self._grow(-(-end // STEP_BYTES) * STEP_BYTES, Provision.THIN)

    def reserve(self, size: int) -> None:
        """Blocks for all bytes, to be zeroed when they are written first."""
        if size:
            self._grow(max(size, self.size), Provision.ZEROED_THICK)

    def _grow(self, size: int, kind: Provision) -> None:
        with self._changing:
            try:
                if kind is Provision.THIN:
                    self._opened.truncate(size)
                else:
                    self._opened.reserve(size, kind)
            except RingfenceError as error:
                raise self._refused(size, error) from error
            finally:
                self._changed()

    def zero(self, offset: int, length: int, *, punch: bool = False) -> None:
        """With `punch` what is no data stays as it is, for it reads as zeros; no block is given back."""
        end, before = offset + length, self.size
        if not before and not punch:
            self._grow(end, Provision.EAGER_ZEROED_THICK)
            return
        for run in self.host_runs(offset, length):
            past = max(offset + run.length - before, 0)
            if run.fd is not None or not punch or past:
                for start in range(offset, offset + run.length, len(ZEROS)):
                    self.write(start, [ZEROS[: offset + run.length - start]])
            offset += run.length
