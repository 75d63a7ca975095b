"""A virtual disk on a SCSI adapter: a chain of the VMkernel as a hw.scsi.backing.Backing, and what its guest is told.

A chain keeps new table entries in memory until it is flushed. So the guest is shown a write cache, as SBC-2's caching
page has it, and what it synchronizes is durable. A disk with `writeThrough` shows none, as ESX's disks do, and every
write is durable before it ends.
Source: SBC-2, caching mode page; VMware ESX Server 3 shows no caching page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hw.scsi.backing import CorruptDisk, OutOfSpace, ReadOnlyExtent
from hw.scsi.disk import DiskProfile
from ringfence.errors import MediaError, RingfenceError
from vmkernel.storage import errors
from vmkernel.storage.chain import Chain

WRITE_BACK = DiskProfile(caching_page=True, write_cache=True)
WRITE_THROUGH = DiskProfile(flush_writes=True)


class ChainBacking:
    """Thread-safe, as the chain is. `full` counts writes for which there was no room."""

    def __init__(self, chain: Chain, name: str) -> None:
        self.chain, self.name = chain, name
        self.trouble = ""  # the host's latest reason for an error
        self.full = 0

    @property
    def size(self) -> int:
        return self.chain.size_bytes

    @property
    def writable(self) -> bool:
        return self.chain.writable

    def read(self, offset: int, views: list[memoryview]) -> None:
        self._try(lambda: self.chain.read(offset, views))

    def write(self, offset: int, views: list[memoryview]) -> None:
        self._try(lambda: self.chain.write(offset, views))

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
