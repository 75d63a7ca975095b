"""Copies a disk, its whole chain, into a new one of any kind: all of it or nothing.

The new files are written in a hidden folder beside where they are to be, flushed, and moved into place, the descriptor
last; what is there already is not overwritten. What fails or is interrupted takes the folder with it.
A pipe cannot be sought. A stream with its directory at the end is taken from it in one pass (stream_pipe.py), and so
are bare sectors that are to stay bare; what else comes from one is first kept in a file without a name, in which zeros
take up no space.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
from vmkernel.storage.place import Place, free_bytes, hidden_folder, is_taken, move_to_new
from vmkernel.storage.vmdk.descriptor_spec import Adapter
from vmkernel.storage.vmdk.link import is_binary
from vmkernel.storage.vmdk.sparse_spec import MAGIC
from vmkernel.storage.vmdk.stream_pipe import PipedStream, keep_order, streamed
from vmkernel.storage.vmdk.stream_writer import Sink, write_stream

STEP_BYTES = 4 << 20
STANDARD_INPUT = Path("standard input")
Progress = Callable[[int, int], None]


def convert(
    source: Disk,
    target: Place,
    kind: Target,
    adapter: Adapter = Adapter.LSILOGIC,
    *,
    grain_sectors: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """A new disk with what `source` reads as. Raises HostRefused, MediaError, or what `create` does."""
    if is_taken(target):
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


def create_plain(path: Place, kind: Plain, size_bytes: int, adapter: Adapter) -> None:
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
def placed_beside(target: Place) -> Iterator[Place]:
    """The path under which to make a disk, in a folder of its own; at the end its files move to where `target` is."""
    with hidden_folder(target) as hidden:
        try:
            yield hidden / target.name
            move_into(hidden, target)
        except OutOfSpace as error:
            folder = target.parent
            left = free_bytes(folder)
            raise HostRefused(f"{target}: no room: {folder} has {left} bytes left: {error.reason}") from error


def move_into(hidden: Place, target: Place) -> None:
    """Raises HostRefused, with nothing left behind, where a file is there already."""
    names = sorted((path.name for path in hidden.iterdir()), key=lambda name: (name == target.name, name))
    moved: list[Place] = []
    try:
        for name in names:
            place = target.with_name(name)
            move_to_new(hidden / name, place)
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


# pipes


def write_raw(disk: Disk, out: Sink, progress: Progress | None = None) -> None:
    """All bytes in order, zeros too."""
    keep_order(disk)
    buffer = memoryview(bytearray(min(STEP_BYTES, disk.size_bytes)))
    for piece in disk.runs(0, disk.size_bytes):
        at, end = piece.start, piece.start + piece.length
        while at < end:
            if piece.file is None:
                length = min(len(ZEROS), end - at)
                write_all(out, ZEROS[:length])
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


def beginning(fd: int, form: Format) -> tuple[bytes, Format]:
    """What a descriptor holds, by its first bytes where `form` does not say; those of a pipe are read, and returned."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        start, head = b"", os.pread(fd, 8, 0)
    else:
        start = head = read_full(fd, SECTOR_BYTES)
    if form is Format.AUTO:
        form = Format.VMDK if is_binary(head) else Format.RAW
    return start, form


@contextmanager
def from_pipe(
    fd: int, form: Format, keep_in: Path, start: bytes | None = None, *, recover: bool = False
) -> Iterator[Chain | PipedStream]:
    """The disk that comes from a descriptor, to be read once. Raises HostRefused, BadInput.

    `start` and `form` are what `beginning` gave.
    """
    if start is None:
        start, form = beginning(fd, form)
    with contextlib.ExitStack() as stack:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            if form is Format.VMDK and start.startswith(MAGIC) and not recover:
                disk, start = streamed(start, STANDARD_INPUT, partial(read_full, fd))
                if disk is not None:
                    yield disk
                    return
            fd = stack.enter_context(keep(fd, keep_in, start)).fd
        yield stack.enter_context(open_image(Path(f"/proc/self/fd/{fd}"), form, recover=recover))


def keep(source: int, folder: Path, start: bytes = b"") -> BlockFile:
    """Everything up to the end of a pipe, filled up to a whole sector, in a file without a name. Raises HostRefused."""
    try:
        fd = unnamed(folder)
    except OSError as error:
        raise HostRefused(f"{folder}: cannot keep what comes from standard input: {error.strerror}") from error
    file = BlockFile(fd, folder / STANDARD_INPUT, writable=True)
    try:
        receive(source, start, file)
    except BaseException as error:
        file.close()
        if isinstance(error, OutOfSpace):
            free = shutil.disk_usage(folder).free
            raise HostRefused(f"{folder}: no room for what comes from standard input: {free} bytes left") from error
        raise
    return file


def unnamed(folder: Path) -> int:
    """A new file that nothing can leave behind: it has no name, or where the host needs one, has it for a moment."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        fd, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)
        return fd


def receive(source: int, start: bytes, file: BlockFile) -> None:
    """Everything up to the end of a pipe into a new file, which then has whole sectors; zeros take up no space."""
    size, data = 0, start + read_full(source, STEP_BYTES - len(start))
    while data:
        view = memoryview(data)
        for first, stop in filled(view.toreadonly(), size) if len(data) == STEP_BYTES else [(0, len(data))]:
            file.write(size + first, [view[first:stop]])
        size += len(data)
        data = read_full(source, STEP_BYTES)
    file.truncate(-(-size // SECTOR_BYTES) * SECTOR_BYTES)


def bare_from_pipe(source: int, start: bytes, target: Place) -> None:
    """A new file of the bare sectors that come from a pipe. Raises HostRefused; nothing is left of what fails."""
    if is_taken(target):
        raise HostRefused(f"{target}: it is there already")
    with placed_beside(target) as made, BlockFile.create(made) as file:
        receive(source, start, file)
        file.sync()


def bare_through(source: int, start: bytes, out: Sink) -> None:
    """Bare sectors from a pipe to another."""
    size, data = 0, start
    while data:
        write_all(out, memoryview(data))
        size += len(data)
        data = os.read(source, STEP_BYTES)
    write_all(out, memoryview(bytes(-size % SECTOR_BYTES)))


def read_full(fd: int, length: int) -> bytes:
    parts = []
    while length and (part := os.read(fd, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
