"""A disk as NBD exports it: names, limits, and what TRIM, WRITE_ZEROES, CACHE and BLOCK_STATUS do to a chain.

Long requests are done in parts, so that other clients get their turn in between and a closing server is not kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from threading import Event

from ringfence.errors import MediaError
from vmkernel.storage.block_file import ZEROS
from vmkernel.storage.chain import Chain
from vmkernel.storage.disk import SECTOR_BYTES, Disk, Piece
from vmkernel.storage.nbd.nbd_spec import State, TransmissionFlag

REQUEST_BYTES_MAX = 32 << 20
PREFERRED_BYTES = 4096
PART_BYTES = 64 << 20
EXTENTS_MAX = 4096  # in one BLOCK_STATUS
PIECES_MAX = 1 << 16  # looked at for one
WRITABLE = TransmissionFlag.SEND_TRIM | TransmissionFlag.SEND_WRITE_ZEROES | TransmissionFlag.SEND_FAST_ZERO
ALWAYS = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.SEND_FUA
    | TransmissionFlag.SEND_CACHE
    | TransmissionFlag.CAN_MULTI_CONN  # there is one disk, and all connections share it with its tables
)
HOLE = State.HOLE | State.ZERO


class Closing(Exception):
    """The server is being closed: a long request is given up."""


class Export:
    """`name` is what clients may ask for; the empty name is this export too."""

    def __init__(self, disk: Disk, name: str = "", description: str = "", *, read_only: bool = False) -> None:
        self.disk, self.name, self.description = disk, name, description
        self.size = disk.size_bytes
        self.read_only = read_only or not disk.writable
        self.closing = Event()

    def has_name(self, name: str) -> bool:
        return name in {"", self.name}

    def flags(self, *, structured: bool) -> TransmissionFlag:
        flags = ALWAYS | (TransmissionFlag.READ_ONLY if self.read_only else WRITABLE)
        return flags | TransmissionFlag.SEND_DF if structured else flags

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """Where the bytes of a READ lie."""
        return list(self.disk.runs(offset, length))

    def read(self, offset: int, view: memoryview) -> None:
        self.disk.read(offset, [view])

    def write(self, offset: int, view: memoryview) -> None:
        self.disk.write(offset, [view])

    def flush(self) -> None:
        if not self.read_only:
            self.disk.flush()

    def trim(self, offset: int, length: int) -> None:
        """Give back what the written link holds there; where it holds nothing, nothing is taken up to hide a parent."""
        top = len(self.disk.links) - 1 if isinstance(self.disk, Chain) else None
        for at, count in self._parts(offset, length):
            for piece in self.pieces(at, count):
                if piece.file is not None and top in {None, piece.layer}:
                    self.disk.zero(piece.start, piece.length)

    def zero(self, offset: int, length: int, *, provisioned: bool) -> None:
        """`provisioned`: with zeros that take up space, and not as a hole."""
        for at, count in self._parts(offset, length):
            if not provisioned:
                self.disk.zero(at, count)
                continue
            for start in range(at, at + count, len(ZEROS)):
                self.disk.write(start, [ZEROS[: at + count - start]])

    def is_zeroed_fast(self, *, provisioned: bool) -> bool:
        """A single link takes its own sectors away; over a parent zeros may have to be written."""
        return not provisioned and isinstance(self.disk, Chain) and len(self.disk.links) == 1

    def cache(self, offset: int, length: int) -> None:
        """Tell the host which parts of which files are wanted soon."""
        for piece in self.disk.runs(offset, length):
            if piece.file is not None and not piece.packed:
                with suppress(OSError):
                    os.posix_fadvise(piece.file.fd, piece.offset, piece.length, os.POSIX_FADV_WILLNEED)

    def extents(self, offset: int, length: int, *, only_one: bool) -> list[tuple[int, State]]:
        """(length, state) from `offset` on: at least one, and not always all that was asked for.

        What cannot be told because it is damaged is said to be data: reading it says more.
        """
        found: list[tuple[int, State]] = []
        try:
            for number, piece in enumerate(self.disk.runs(offset, length)):
                state = State(0) if piece.file is not None else HOLE
                if found and found[-1][1] == state:
                    found[-1] = (found[-1][0] + piece.length, state)
                    continue
                if number >= PIECES_MAX or len(found) == (1 if only_one else EXTENTS_MAX):
                    break
                found.append((piece.length, state))
        except MediaError:
            return found or [(length, State(0))]
        return found

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Raises Closing between two parts."""
        end = offset + length
        while offset < end:
            if self.closing.is_set():
                raise Closing
            count = min(PART_BYTES - offset % PART_BYTES, end - offset)
            yield offset, count
            offset += count


assert REQUEST_BYTES_MAX % SECTOR_BYTES == PREFERRED_BYTES % SECTOR_BYTES == 0
