"""A disk, or a part of it, as bytes: requests need not begin and end where sectors do.

A sector that is written in part is read before. That takes a lock, which all windows of one disk share.
"""

from __future__ import annotations

import threading

from ringfence.errors import BadInput
from vmkernel.storage.disk import SECTOR_BYTES, Disk


class DiskBytes:
    """`length` bytes of the disk from byte `start` on, both whole sectors. Errors are those of the disk."""

    def __init__(self, disk: Disk, start: int, length: int, lock: threading.Lock) -> None:
        if start % SECTOR_BYTES or length % SECTOR_BYTES or start + length > disk.size_bytes:
            raise BadInput("window", "place", "whole sectors of the disk", f"{length} bytes at {start}")
        self.disk, self.start, self.length, self._lock = disk, start, length, lock

    def read(self, offset: int, length: int) -> bytes:
        """Fewer at the end, as from a file."""
        length = max(min(length, self.length - offset), 0)
        if not length:
            return b""
        first, last = self._around(offset, length)
        data = bytearray(last - first)
        self.disk.read(first, [memoryview(data)])
        skip = self.start + offset - first
        return bytes(data) if length == len(data) else bytes(memoryview(data)[skip : skip + length])

    def write(self, offset: int, data: bytes) -> int:
        """How many bytes there was room for before the end."""
        data = data[: max(self.length - offset, 0)]
        if not data:
            return 0
        first, last = self._around(offset, len(data))
        with self._lock:
            if last - first == len(data):
                self.disk.write(first, [memoryview(data)])
                return len(data)
            whole = bytearray(last - first)
            ends = [first] if last - first == SECTOR_BYTES else [first, last - SECTOR_BYTES]
            for at in ends:
                self.disk.read(at, [memoryview(whole)[at - first : at - first + SECTOR_BYTES]])
            skip = self.start + offset - first
            whole[skip : skip + len(data)] = data
            self.disk.write(first, [memoryview(whole)])
        return len(data)

    def zero(self, offset: int, length: int) -> None:
        """Zeros, as cheaply as the disk can where whole sectors are meant."""
        end = min(offset + length, self.length)
        head = min(-(-offset // SECTOR_BYTES) * SECTOR_BYTES, end)
        tail = max(end // SECTOR_BYTES * SECTOR_BYTES, head)
        if head > offset:
            self.write(offset, bytes(head - offset))
        if tail > head:
            with self._lock:
                self.disk.zero(self.start + head, tail - head)
        if end > tail:
            self.write(tail, bytes(end - tail))

    def _around(self, offset: int, length: int) -> tuple[int, int]:
        """The whole sectors, in bytes of the disk."""
        first = (self.start + offset) // SECTOR_BYTES * SECTOR_BYTES
        return first, -(-(self.start + offset + length) // SECTOR_BYTES) * SECTOR_BYTES
