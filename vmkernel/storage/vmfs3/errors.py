"""What is wrong with a VMFS volume, and what a caller asked of one that it does not have.

A damaged structure is named by its place: a byte of the logical volume, or of a device for what lies below it.
"""

from __future__ import annotations

from ringfence.errors import BadInput, RingfenceError
from vmkernel.storage.errors import Locked


class NotVmfs(BadInput):
    """An image or device that holds no VMFS partition."""


class CorruptVolume(BadInput):
    """A structure that cannot be true. `offset` is the byte where it lies: of the volume, or of `device`."""

    def __init__(
        self, volume: object, offset: int, what: str, expected: str, found: str, *, device: bool = False
    ) -> None:
        super().__init__(f"{volume}: byte {offset:#x} of the {'device' if device else 'volume'}", what, expected, found)
        self.volume, self.offset, self.device = str(volume), offset, device


class IncompleteVolume(BadInput):
    """Some of a volume's devices were not given, or one too many."""


class PathError(RingfenceError):
    """A path of a volume that cannot be used as it was asked for. The text names the path."""

    REASON = "cannot be used"

    def __init__(self, path: str, reason: str = "") -> None:
        super().__init__(f"{path}: {reason or self.REASON}")
        self.path = path


class NoSuchFile(PathError):
    """Nothing of this name."""

    REASON = "no such file or directory"


class NotADirectory(PathError):
    """A file where a directory is needed."""

    REASON = "not a directory"


class IsADirectory(PathError):
    """A directory where a file is needed."""

    REASON = "a directory"


class LinkLoop(PathError):
    """More symbolic links than are followed."""

    REASON = "too many symbolic links"


class NoContents(PathError):
    """A raw device mapping: its bytes are a device's, which only the VMkernel knows."""

    REASON = "a raw device mapping has no contents of its own"


# writing


class AlreadyThere(PathError):
    """A name that is taken."""

    REASON = "it is there already"


class NotEmpty(PathError):
    """A directory that still has entries."""

    REASON = "the directory is not empty"


class BadName(PathError):
    """A name that no file of a volume can have."""

    REASON = "expected a name of 1 to 127 bytes of UTF-8, without / and NUL, that is not . or .."


class SystemFileRefused(PathError):
    """One of the volume's own files, which only the VMkernel changes."""

    REASON = "a system file of the volume"


class FileTooLarge(PathError):
    """A length that file blocks of this size cannot reach."""


class ReadOnlyVolume(RingfenceError):
    """A volume that was opened for reading, or a file that was."""

    def __init__(self, volume: object) -> None:
        super().__init__(f"{volume}: opened for reading, nothing is written to it")


class VolumeFull(RingfenceError):
    """A volume has no more of one kind of resource. Nothing of the request was done, or it was cut at a block."""

    def __init__(self, volume: object, what: str, total: int) -> None:
        super().__init__(f"{volume}: no space left: all {total} {what} are taken")
        self.what, self.total = what, total


class FileLocked(Locked):
    """Another host, or another opening in this process, holds the on-disk lock. `owner` is who, for people."""

    def __init__(self, what: str, owner: str) -> None:
        super().__init__(f"{what}: locked by {owner}")
        self.owner = owner


class HeartbeatLost(RingfenceError):
    """This host was stopped for so long that another took its heartbeat slot and broke its locks."""

    def __init__(self, volume: object, position: int) -> None:
        super().__init__(
            f"{volume}: this host's heartbeat slot at {position:#x} is no longer its own: it was stopped for too long, "
            "and its locks were broken; nothing more is written to the volume"
        )
