"""A disk as numbered blocks of 512 bytes, which is how a drive's electronics see it.

Whatever goes wrong becomes a MediaError, the only thing a device knows how to tell its guest; why is kept in `trouble`.
"""

from __future__ import annotations

from collections.abc import Callable

from ringfence.errors import MediaError, RingfenceError
from vmkernel.storage.disk import SECTOR_BYTES, Disk
from vmkernel.storage.errors import OutOfSpace


class DiskBlocks:
    """What hw.wiring calls a BlockDevice. `full` counts writes for which there was no room on the host."""

    block_size = SECTOR_BYTES

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk, self.name = disk, name
        self.notice = ""  # what a person should know of this medium
        self.trouble = ""  # the latest reason for a MediaError
        self.full = 0

    @property
    def blocks(self) -> int:
        return self.disk.size_bytes // SECTOR_BYTES

    @property
    def writable(self) -> bool:
        return self.disk.writable

    def read(self, block: int, views: list[memoryview]) -> None:
        self._try(block, views, lambda: self.disk.read(block * SECTOR_BYTES, views))

    def write(self, block: int, views: list[memoryview]) -> None:
        self._try(block, views, lambda: self.disk.write(block * SECTOR_BYTES, views))

    def flush(self) -> None:
        self._try(0, [], self.disk.flush)

    def close(self) -> None:
        """Raises a RingfenceError where the last flush failed; the files are let go of nevertheless."""
        self.disk.close()

    def _try(self, block: int, views: list[memoryview], call: Callable[[], None]) -> None:
        try:
            call()
        except RingfenceError as error:
            self.trouble = f"{self.name}: {error}"
            self.full += isinstance(error, OutOfSpace)
            if isinstance(error, MediaError):
                raise
            raise MediaError(block, sum(map(len, views)) // SECTOR_BYTES) from error
