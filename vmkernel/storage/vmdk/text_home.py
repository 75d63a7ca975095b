"""Where a descriptor's text is kept: a file of its own, or sectors inside a sparse extent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vmkernel.storage.block_file import BlockFile, replace_file
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.place import Place


class TextHome(Protocol):
    """Keeps one descriptor."""

    def save(self, text: bytes) -> None:
        """The new text survives a power failure from here on; before, the old one does."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that is replaced as a whole."""

    path: Place

    def save(self, text: bytes) -> None:
        replace_file(self.path.resolve(), text)


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """Sectors that were reserved for it. Only those that change are written, so the CID is all or nothing."""

    file: BlockFile
    sector: int
    sectors: int

    def save(self, text: bytes) -> None:
        room = self.sectors * SECTOR_BYTES
        if len(text) > room:
            raise Unsupported(str(self.file.path), "descriptor", f"at most the {room} bytes reserved", f"{len(text)}")
        at = self.sector * SECTOR_BYTES
        new, old = text.ljust(room, b"\0"), self.file.bytes_at(at, room)
        for start in range(0, room, SECTOR_BYTES):
            piece = new[start : start + SECTOR_BYTES]
            if piece != old[start : start + SECTOR_BYTES]:
                self.file.write(at + start, [piece])
        self.file.sync()
