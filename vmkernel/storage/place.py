"""Where a file is: a path of the host, or one inside a volume. What the disk layer asks of either.

A pathlib.Path is a Place as it stands. Another kind of place has the same methods, raises the same OSErrors, and opens
its files itself: see Elsewhere. Two places of different kinds are never equal, and nothing is moved from one kind to
the other by its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

from ringfence.errors import HostRefused

if TYPE_CHECKING:
    from vmkernel.storage.block_file import BlockFile


class Status(Protocol):
    """As os.stat has it; (st_dev, st_ino) is the same for two names of one file, and for nothing else."""

    @property
    def st_dev(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_mode(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_blocks(self) -> int: ...


class Place(Protocol):
    """A name, with or without a file. The methods are those of pathlib.Path, and no others of it are used."""

    @property
    def name(self) -> str: ...
    @property
    def stem(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    @property
    def parent(self) -> Self: ...
    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __truediv__(self, name: str, /) -> Self: ...
    def joinpath(self, *names: str) -> Self: ...
    def with_name(self, name: str, /) -> Self: ...
    def with_suffix(self, suffix: str, /) -> Self: ...
    def is_relative_to(self, folder: Any, /) -> bool: ...
    def relative_to(self, folder: Any, /) -> PurePath: ...
    def resolve(self) -> Self: ...
    def absolute(self) -> Self: ...

    def stat(self) -> Status: ...
    def exists(self) -> bool: ...
    def is_file(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def is_symlink(self) -> bool: ...
    def samefile(self, other: Any, /) -> bool: ...
    def iterdir(self) -> Iterator[Self]: ...
    def read_bytes(self) -> bytes: ...

    def mkdir(self, mode: int = 0o777) -> None: ...
    def rmdir(self) -> None: ...
    def unlink(self, missing_ok: bool = False) -> None: ...
    def rename(self, target: Any, /) -> object: ...
    def replace(self, target: Any, /) -> object: ...
    def symlink_to(self, target: Any, /) -> None: ...


P = TypeVar("P", bound=Place)
"""A place, where the answer is one of the same kind: what belongs to a disk lies where the disk does."""


class Held(Protocol):
    """Something that is held until it is given back."""

    def close(self) -> None:
        """Idempotent."""


class Elsewhere(Place, Protocol):
    """A place that is not a path of the host. All of these raise HostRefused or BadInput, and no OSError."""

    def open_file(self, *, writable: bool, lock: bool) -> BlockFile: ...

    def create_file(self, mode: int) -> BlockFile:
        """A new file, locked for writing."""

    def replace_contents(self, data: bytes) -> None:
        """All or nothing, and durable."""

    def sync_names(self) -> None:
        """The names in this folder survive a power failure from here on."""

    def hold(self) -> Held:
        """Keep everybody else from writing this file, also when it is replaced. Raises Locked, naming the owner."""

    def map_device(self, disk_id: bytes, size: int) -> None:
        """A new file that stands for a LUN of so many bytes. Raises OSError."""

    def mapped_lun(self) -> str | None:
        """The LUN that this file stands for; None for another file. Raises OSError."""

    def holder_pid(self) -> int:
        """The process of this host that has the file locked for writing; 0 for nobody, or where it cannot be told."""

    def free_bytes(self) -> int:
        """How much room there is for new files."""

    def move_together(self, moves: Sequence[tuple[Any, Any]]) -> None:
        """Other names for files of the same volume, all or none; what had such a name is gone. Raises OSError."""


def elsewhere(place: Place) -> Elsewhere | None:
    """None: it is a path of the host."""
    return None if isinstance(place, Path) else cast(Elsewhere, place)


def is_taken(place: Place) -> bool:
    """Whether anything has this name, be it a link that leads nowhere."""
    return place.is_symlink() or place.exists()


def free_bytes(folder: Place) -> int:
    other = elsewhere(folder)
    return shutil.disk_usage(cast(Path, folder)).free if other is None else other.free_bytes()


@contextmanager
def hidden_folder(target: Place) -> Iterator[Any]:
    """A new folder beside `target`, for files in the making; it goes with all that is left in it."""
    hidden = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        hidden.mkdir(0o700)
    except OSError as error:
        raise HostRefused(f"{target}: cannot create: {error.strerror}") from error
    try:
        yield hidden
    finally:
        with contextlib.suppress(OSError):
            for left in list(hidden.iterdir()):
                left.unlink()
            hidden.rmdir()


def name_too(file: Place, name: Place) -> None:
    """Another name for a file of the host. Raises OSError."""
    os.link(cast(Path, file), cast(Path, name), follow_symlinks=False)


def move_to_new(made: Place, name: Place) -> None:
    """Under a name that nobody has. Raises FileExistsError and other OSErrors."""
    if isinstance(made, Path):
        try:
            os.link(made, cast(Path, name))
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            pass
    if is_taken(name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    made.rename(name)
