"""A ring of entries in guest memory, seen a page at a time and read and written in place; and bytes put into memory.

The guest may write to an entry at any time: each is read once, and the part that hands it over is stored last.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from hw.wiring import GuestMemory

PAGE_BYTES = 4096


class EntryRing:
    """`length` entries of `size` bytes from `base` on. What it opens of memory stays open as long as `held`.

    `bytes` has the entries of the page that `find` was last asked about. RingfenceError: there is no memory.
    """

    def __init__(self, memory: GuestMemory, held: ExitStack, base: int, size: int, length: int) -> None:
        self.memory, self.held = memory, held
        self.base, self.size, self.length = base, size, length
        self.bytes: memoryview | bytearray = bytearray()
        self._first = self._end = 0
        self._views: Sequence[memoryview] = ()  # where memory is in several pieces

    def address_of(self, index: int) -> int:
        return self.base + index * self.size

    def after(self, index: int) -> int:
        return index + 1 if index + 1 < self.length else 0

    def find(self, index: int) -> int:
        """Where in `bytes` an entry is."""
        if not self._first <= index < self._end:
            self._open(index)
        return (index - self._first) * self.size

    def _open(self, index: int) -> None:
        """All entries that begin in one page with this one."""
        in_page = self.address_of(index) % PAGE_BYTES
        self._first = max(index - in_page // self.size, 0)
        self._end = min(index - (in_page - PAGE_BYTES) // self.size, self.length)
        length = (self._end - self._first) * self.size
        views = self.held.enter_context(self.memory.dma(self.address_of(self._first), length, True))
        if len(views) == 1:
            self.bytes, self._views = views[0], ()
        else:
            self.bytes, self._views = bytearray().join(views), views

    def stored(self, at: int, count: int) -> None:
        """So many of `bytes` were written to: they reach memory, where it is in several pieces."""
        start = 0
        for view in self._views:
            first, end = max(at, start), min(at + count, start + len(view))
            if first < end:
                view[first - start : end - start] = self.bytes[first:end]
            start += len(view)


def scatter(pieces: Sequence[memoryview | bytes], views: Sequence[memoryview]) -> None:
    """Into memory, which has as many bytes as the pieces together."""
    if len(views) == 1:
        at, view = 0, views[0]
        for piece in pieces:
            end = at + len(piece)
            view[at:end] = piece
            at = end
        return
    data = b"".join(pieces)
    at = 0
    for view in views:
        view[:] = data[at : at + len(view)]
        at += len(view)
