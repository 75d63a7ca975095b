"""What a SCSI disk needs of the storage below: bytes by offset, a flush, named errors, reservations that others see.

Methods of a backing are called on several threads at once, but never for overlapping ranges of which one is written.
What `write` has written survives the death of this process, what `flush` has seen also a power failure. A bad block is
a MediaError, whose `block` counts blocks of 512 bytes. Any other error of the package is a fault of the virtual disk.
"""

from __future__ import annotations

from typing import Protocol

from ringfence.errors import RingfenceError


class OutOfSpace(RingfenceError):
    """The datastore has no room for a write. The machine waits until someone makes some."""


class ReadOnlyExtent(RingfenceError):
    """A write to a part of the disk that takes none."""


class CorruptDisk(RingfenceError):
    """The disk's own tables cannot be true: its block `block` has no place."""

    def __init__(self, block: int, reason: str) -> None:
        super().__init__(f"disk: block {block}: {reason}")
        self.block = block


class Gone(RingfenceError):
    """The path to the storage is lost, and the host has waited for it as long as it does."""


class Backing(Protocol):
    """A virtual disk's contents."""

    @property
    def size(self) -> int:
        """Bytes; what does not fill a block of 512 is not seen."""

    @property
    def writable(self) -> bool: ...

    def read(self, offset: int, views: list[memoryview]) -> None:
        """Fill the views, however many and of whatever lengths; together they are whole blocks."""

    def read_at_once(self, offset: int, views: list[memoryview]) -> bool:
        """The same where nothing has to be waited for; False, and perhaps something in the views, where it would.

        Raises nothing: what cannot be read is for `read` to say.
        """

    def write(self, offset: int, views: list[memoryview]) -> None: ...

    def write_at_once(self, offset: int, views: list[memoryview]) -> bool:
        """The same where that is as quick as a copy; False, and perhaps a part written, where it may not be.

        Raises nothing either.
        """

    def flush(self) -> None: ...


class Reservation(Protocol):
    """The reservation of a disk that several machines share."""

    def take(self) -> bool:
        """Is it ours now? True also when it was."""

    def give_up(self) -> None:
        """Nothing if it is not ours."""

    def is_held_elsewhere(self) -> bool: ...


class Unshared:
    """The reservation of a disk that nobody else can open."""

    def take(self) -> bool:
        return True

    def give_up(self) -> None:
        pass

    def is_held_elsewhere(self) -> bool:
        return False
