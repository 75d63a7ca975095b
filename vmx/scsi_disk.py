"""A virtual disk on a SCSI adapter: a chain of the VMkernel as a hw.scsi.backing.Backing, and what its guest is told.

A chain keeps new table entries in memory until it is flushed. So the guest is shown a write cache, as SBC-2's caching
page has it, and what it synchronizes is durable. A disk with `writeThrough` shows none, as ESX's disks do, and every
write is durable before it ends.
Threads: a small read of what the host has in memory, and a small write into its page cache, is done on the vCPU's
thread, for it takes less than to wake another. Everything else is a worker's, and so are writes for a while after the
host made one wait.
Source: SBC-2, caching mode page; VMware ESX Server 3 shows no caching page.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hw.scsi.backing import CorruptDisk, OutOfSpace, ReadOnlyExtent
from hw.scsi.disk import DiskProfile
from ringfence.errors import MediaError, RingfenceError
from vmkernel.storage import errors
from vmkernel.storage.chain import Chain

SLOW_NS = 5_000_000
SPARED_WRITES = 256
WRITE_BACK = DiskProfile(caching_page=True, write_cache=True)
WRITE_THROUGH = DiskProfile(flush_writes=True)


class ChainBacking:
    """Thread-safe, as the chain is. `full` counts writes for which there was no room."""

    def __init__(self, chain: Chain, name: str) -> None:
        self.chain, self.name = chain, name
        self.trouble = ""  # the host's latest reason for an error
        self.full = 0
        self._spared = 0  # writes that are not done at once, because one was slow

    @property
    def size(self) -> int:
        return self.chain.size_bytes

    @property
    def writable(self) -> bool:
        return self.chain.writable

    def read(self, offset: int, views: list[memoryview]) -> None:
        self._try(lambda: self.chain.read(offset, views))

    def read_at_once(self, offset: int, views: list[memoryview]) -> bool:
        return self.chain.read_at_once(offset, views)

    def write(self, offset: int, views: list[memoryview]) -> None:
        self._try(lambda: self.chain.write(offset, views))

    def write_at_once(self, offset: int, views: list[memoryview]) -> bool:
        """A host does not say beforehand whether a write into its page cache will wait, so a slow one is a warning."""
        if self._spared:
            self._spared -= 1
            return False
        before = time.monotonic_ns()
        done = self.chain.write_at_once(offset, views)
        if time.monotonic_ns() - before > SLOW_NS:
            self._spared = SPARED_WRITES
        return done

    def flush(self) -> None:
        self._try(self.chain.flush)

    def _try(self, call: Callable[[], None]) -> None:
        """In the words of hw.scsi.backing. A plain MediaError is one there too."""
        try:
            call()
        except RingfenceError as error:
            self.trouble = f"{self.name}: {error}"
            if isinstance(error, errors.OutOfSpace):
                self.full += 1
                raise OutOfSpace(self.trouble) from error
            if isinstance(error, errors.NotWritable):
                raise ReadOnlyExtent(self.trouble) from error
            if isinstance(error, errors.DamagedGrain):
                raise CorruptDisk(error.block, str(error)) from error
            if isinstance(error, MediaError):
                raise
            raise CorruptDisk(0, str(error)) from error


@dataclass(frozen=True, slots=True)
class ScsiDisk:
    """A hard disk with a SCSI id."""

    backing: ChainBacking
    profile: DiskProfile = WRITE_BACK
