"""An open file of a volume, read straight into the caller's buffers: its runs are found once, when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from vmkernel.storage.block_file import cut
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.file_map import FileMap


class FileReader:
    """`size` is the file's length in bytes, as its descriptor had it when it was opened."""

    def __init__(self, descriptor: Descriptor, mapped: FileMap) -> None:
        self.descriptor, self._map = descriptor, mapped
        self.size = descriptor.length

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Where a lock was taken to read, it is let go of. Here none was."""

    def map(self) -> FileMap:
        return self._map

    def read(self, offset: int, views: Sequence[memoryview]) -> int:
        """Fill the views as far as the file reaches; how many bytes that is. Raises HostTrouble."""
        length = min(sum(map(len, views)), max(self.size - offset, 0))
        done = 0
        for lun, at, step in self._map.runs(offset, length):
            piece = cut(views, done, step)
            if lun is None:
                clear(piece)
            else:
                lun.read(at, piece)
            done += step
        return done

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Fewer at the end of the file."""
        data = bytearray(max(min(length, self.size - offset), 0))
        self.read(offset, [memoryview(data)])
        return bytes(data)


def clear(views: Sequence[memoryview]) -> None:
    """Zeros. Half of a thin disk is this, so it is done as fast as the host writes memory."""
    for view in views:
        if len(view):
            np.frombuffer(view, np.uint8).fill(0)
