"""What a disk is to those that use one, and how a request is answered in runs.

disk      bytes; reads, writes and runs are whole sectors of 512
link      one descriptor and its extents; a chain of links is a disk
extent    maps its sectors to runs: Stored, Packed, Zeros, or Absent, which asks the parent
piece     a run of the whole disk: which link answers, from where in which file
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from vmkernel.storage.block_file import BlockFile

SECTOR_BYTES = 512
NOT_HERE = -1  # where `Extent.locate` has to look in the parent


class Stored(NamedTuple):
    """Sectors that lie in the extent's file, from sector `at` on."""

    sectors: int
    at: int


class Packed(NamedTuple):
    """Sectors of one compressed grain, which begins at sector `at` of the file; `skip` of its sectors come before."""

    sectors: int
    at: int
    grain: int
    skip: int


class Zeros(NamedTuple):
    """Sectors that the extent says are zero, whatever a parent has."""

    sectors: int


class Absent(NamedTuple):
    """Sectors that the extent does not have: the parent's, or zeros."""

    sectors: int


Run = Stored | Packed | Zeros | Absent
Below = Callable[[int, int], bytes]
"""below(sector, count): what is read through an extent's absent sectors there, to complete a grain."""


class Piece(NamedTuple):
    """A range of a disk in bytes. `layer` counts from the base, 0; -1: no link has it, so it is zeros.

    `file` is None for zeros; of a disk on a volume it is the volume's device. `packed`: the bytes are compressed, and
    `offset` is where their grain begins.
    """

    start: int
    length: int
    layer: int
    file: BlockFile | None
    offset: int
    packed: bool = False


class Extent(Protocol):
    """A contiguous range of a link's sectors."""

    sectors: int
    first: int  # the link's sector where it begins, for what errors say

    @property
    def file(self) -> BlockFile | None:
        """What Stored and Packed runs are sectors of."""

    def resolve(self, sector: int, count: int) -> list[Run]:
        """Runs in order that add up to `count`. Raises DamagedGrain."""

    def locate(self, sector: int, count: int) -> int | None:
        """The file's sector of a range that is known to lie in it together; None: that is for `resolve` to say.

        NOT_HERE: the extent has no sector of the range.
        """

    def stretch(self, sector: int) -> int:
        """How many sectors from this one on `resolve` answers at once at a cost that does not grow with them."""

    def unpack(self, run: Packed, views: Sequence[memoryview]) -> None:
        """The sectors of a Packed run."""

    def write(self, sector: int, views: Sequence[memoryview], below: Below) -> None: ...

    def zero(self, sector: int, count: int, below: Below | None) -> None:
        """Make sectors zeros, as cheaply as the format can. `below` None: absent sectors are zeros already."""

    def start_writing(self) -> None:
        """Before the first write: the file says durably that it is open, where its format can."""

    def flush(self) -> None:
        """What was written survives a power failure from here on."""

    def finish(self) -> None:
        """After the last flush: the file says that it was closed in order."""


class Disk(Protocol):
    """Anything of so many bytes that can be read, and perhaps written, by whole sectors."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def writable(self) -> bool: ...

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        """Fill the views. Raises MediaError, with the disk's sector as block."""

    def write(self, offset: int, views: Sequence[memoryview]) -> None: ...

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros; what it took up may be given back (UNMAP, TRIM, WRITE SAME)."""

    def flush(self) -> None: ...

    def runs(self, offset: int, length: int) -> Iterator[Piece]:
        """Where the data lies, in order; neighbours that continue one another are one piece."""

    def close(self) -> None: ...
