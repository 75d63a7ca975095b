"""Copies a disk, its whole chain, into a new one of any kind: all of it or nothing.

The new files are written in a hidden folder beside where they are to be, flushed, and moved into place, the descriptor
last; what is there already is not overwritten. What fails or is interrupted takes the folder with it.
A pipe cannot be sought: what comes from one is first kept in a file without a name, in which zeros take up no space.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ringfence.errors import BadOption, HostRefused
from vmkernel.storage.block_file import ZEROS, BlockFile, sync_folder
from vmkernel.storage.chain import Chain, open_raw
from vmkernel.storage.copy_new import copy_into_new
from vmkernel.storage.copying import filled
from vmkernel.storage.create import Kind, create
from vmkernel.storage.disk import SECTOR_BYTES, Disk
from vmkernel.storage.errors import OutOfSpace
from vmkernel.storage.formats import Format, Plain, Target, open_image
from vmkernel.storage.vmdk.descriptor_spec import Adapter
from vmkernel.storage.vmdk.link import is_binary
from vmkernel.storage.vmdk.stream_writer import Sink, write_stream

STEP_BYTES = 4 << 20
Progress = Callable[[int, int], None]


def convert(
    source: Chain,
    target: Path,
    kind: Target,
    adapter: Adapter = Adapter.LSILOGIC,
    *,
    grain_sectors: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """A new disk with what `source` reads as. Raises HostRefused, MediaError, or what `create` does."""
    if os.path.lexists(target):
        raise HostRefused(f"{target}: it is there already")
    with placed_beside(target) as made:
        if kind is Plain.STREAM:
            with BlockFile.create(made) as file:
                write_stream(source, Appended(file), target.name, adapter, workers=workers, progress=progress)
                file.sync()
            return
        if kind is Plain.RAW:
            with BlockFile.create(made) as file:
                file.truncate(source.size_bytes)
        else:
            assert isinstance(kind, Kind)
            create(made, kind, source.size_bytes, adapter, grain_sectors=grain_sectors)
        form = Format.RAW if kind is Plain.RAW else Format.VMDK
        with open_image(made, form, writable=True) as disk:
            copy_into_new(source, disk, progress, find_zeros=kind is Kind.THIN)


def create_plain(path: Path, kind: Plain, size_bytes: int, adapter: Adapter) -> None:
    """An empty file of bare sectors, or an empty stream. Raises BadOption or HostRefused."""
    if size_bytes <= 0 or size_bytes % SECTOR_BYTES:
        raise BadOption(f"{path}: a disk has a multiple of {SECTOR_BYTES} bytes, not {size_bytes}")
    with tempfile.TemporaryFile() as empty:
        empty.truncate(size_bytes)
        with open_raw(Path(f"/proc/self/fd/{empty.fileno()}")) as disk:
            convert(disk, path, kind, adapter)


class Appended:
    """A new file as what a stream is written to; a full host is told from other failures."""

    def __init__(self, file: BlockFile) -> None:
        self.file, self.at = file, 0

    def write(self, data: bytes, /) -> int:
        self.file.write(self.at, [data])
        self.at += len(data)
        return len(data)


@contextmanager
def placed_beside(target: Path) -> Iterator[Path]:
    """The path under which to make a disk, in a folder of its own; at the end its files move to where `target` is."""
    folder = target.parent
    try:
        hidden = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=folder))
    except OSError as error:
        raise HostRefused(f"{target}: cannot create: {error.strerror}") from error
    try:
        yield hidden / target.name
        move_into(hidden, target)
    except OutOfSpace as error:
        free = shutil.disk_usage(folder).free
        raise HostRefused(f"{target}: no room: {folder} has {free} bytes left: {error.reason}") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def move_into(hidden: Path, target: Path) -> None:
    """Raises HostRefused, with nothing left behind, where a file is there already."""
    names = sorted((path.name for path in hidden.iterdir()), key=lambda name: (name == target.name, name))
    moved: list[Path] = []
    try:
        for name in names:
            place = target.with_name(name)
            move(hidden / name, place)
            moved.append(place)
        sync_folder(target.parent)
    except BaseException as error:
        for place in moved:
            place.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise HostRefused(f"{place}: it is there already") from error
        if isinstance(error, OSError):
            raise HostRefused(f"{place}: cannot create: {error.strerror}") from error
        raise


def move(made: Path, place: Path) -> None:
    """Under a name that nobody has."""
    try:
        os.link(made, place)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(place):
            raise FileExistsError from None
        made.rename(place)


# pipes


def write_raw(disk: Disk, out: Sink, progress: Progress | None = None) -> None:
    """All bytes in order, zeros too."""
    buffer = memoryview(bytearray(min(STEP_BYTES, disk.size_bytes)))
    for piece in disk.runs(0, disk.size_bytes):
        at, end = piece.start, piece.start + piece.length
        while at < end:
            if piece.file is None:
                length = min(len(ZEROS), end - at)
                write_all(out, memoryview(ZEROS)[:length])
            else:
                length = min(len(buffer), end - at)
                disk.read(at, [buffer[:length]])
                write_all(out, buffer[:length])
            at += length
            if progress is not None:
                progress(at, disk.size_bytes)


def write_all(out: Sink, data: memoryview) -> None:
    """A pipe may take less than it is given."""
    while data:
        taken = out.write(data)  # type: ignore[arg-type]  # what is written may be any buffer
        data = data[taken if isinstance(taken, int) else len(data) :]


@contextmanager
def from_pipe(fd: int, form: Format, keep_in: Path, *, recover: bool = False) -> Iterator[Chain]:
    """The disk that comes from a descriptor: a stream by its first bytes, else bare sectors. Raises HostRefused."""
    with contextlib.ExitStack() as stack:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            fd = stack.enter_context(keep(fd, keep_in)).fd
        if form is Format.AUTO:
            form = Format.VMDK if is_binary(os.pread(fd, 8, 0)) else Format.RAW
        yield stack.enter_context(open_image(Path(f"/proc/self/fd/{fd}"), form, recover=recover))


def keep(source: int, folder: Path) -> BlockFile:
    """Everything up to the end of a pipe, filled up to a whole sector, in a file without a name. Raises HostRefused."""
    try:
        fd, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)
    except OSError as error:
        raise HostRefused(f"{folder}: cannot keep what comes from standard input: {error.strerror}") from error
    file = BlockFile(fd, folder / "standard input", writable=True)
    size = 0
    try:
        while data := read_full(source, STEP_BYTES):
            view = memoryview(data)
            for start, stop in filled(view.toreadonly(), size) if len(data) == STEP_BYTES else [(0, len(data))]:
                file.write(size + start, [view[start:stop]])
            size += len(data)
        file.truncate(-(-size // SECTOR_BYTES) * SECTOR_BYTES)
    except BaseException as error:
        file.close()
        if isinstance(error, OutOfSpace):
            free = shutil.disk_usage(folder).free
            raise HostRefused(f"{folder}: no room for what comes from standard input: {free} bytes left") from error
        raise
    return file


def read_full(fd: int, length: int) -> bytes:
    parts = []
    while length and (part := os.read(fd, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
