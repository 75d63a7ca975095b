"""What is wrong with an image, and what the host refused while one was used.

The first kind is found when an image is opened or checked, and names file, byte, expected and found. The second is a
MediaError, whose block is the disk's own sector: a device turns it into the guest's terms.
"""

from __future__ import annotations

from ringfence.errors import BadInput, HostRefused, MediaError, RingfenceError

SECTOR_BYTES = 512


class CorruptImage(BadInput):
    """A field of an image that cannot be true. `offset` is the byte of the file, or of the text's line."""

    def __init__(self, path: object, offset: int, what: str, expected: str, found: str) -> None:
        super().__init__(f"{path}: byte {offset}", what, expected, found)
        self.path, self.offset = str(path), offset


class DamagedGrain(CorruptImage, MediaError):
    """A table entry or a compressed grain that cannot be true, met while reading or writing: `block` of the extent."""

    def __init__(self, path: object, offset: int, what: str, expected: str, found: str, block: int = 0) -> None:
        RingfenceError.__init__(self)
        self.args = (f"{path}: byte {offset}: {what}: expected {expected}, found {found}",)
        self.path, self.offset = str(path), offset
        self.what, self.expected, self.found = what, expected, found
        self.block, self.count = block, 1


class ContentMismatch(BadInput):
    """A parent that was written after its child was made from it."""


class MissingLink(BadInput):
    """A parent or an extent that is named, and is not there."""


class Unsupported(BadInput):
    """An image that may well be right, of a kind that nothing here can use in the way that was asked for."""


class NeedsRepair(BadInput):
    """An image that was left unfinished or is damaged: it is not written before it has been repaired."""


class Locked(HostRefused):
    """Somebody else has the file open in a way that excludes this one."""


class HostTrouble(MediaError):
    """The host could not read, write or flush a file."""

    def __init__(self, path: object, offset: int, reason: str) -> None:
        super().__init__(offset // SECTOR_BYTES, 1)
        self.args = (f"{path}: byte {offset}: {reason}",)
        self.path, self.offset, self.reason = str(path), offset, reason


class OutOfSpace(HostTrouble):
    """No room for a write, in the file system or in what the format can address. Nothing was acknowledged."""


class NotWritable(MediaError):
    """A write to what is open for reading, or to an extent that the descriptor says is not to be written."""

    def __init__(self, path: object, block: int, reason: str) -> None:
        super().__init__(block, 1)
        self.args = (f"{path}: sector {block}: {reason}",)
        self.path = str(path)
