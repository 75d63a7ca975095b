"""The transmission phase of one connection: requests are served one after the other, in the order in which they come.

A client that wants several at once opens several connections, as the export's flags invite it to. One buffer serves a
connection: data comes in and is written in parts of it, and goes out of it or, where it lies bare in a file, straight
from the file. So no length in a request decides how much memory is taken, but for unfragmented replies, up to their
limit. Whatever a request asks for, the answer is an error of the protocol; only a broken message ends the connection.
Source: The NBD protocol, "Transmission phase", "Error values".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ringfence.errors import RingfenceError
from vmkernel.storage.block_file import ZEROS
from vmkernel.storage.disk import SECTOR_BYTES, Piece
from vmkernel.storage.errors import HostTrouble, NotWritable, OutOfSpace
from vmkernel.storage.nbd.export import REQUEST_BYTES_MAX, Closing, Export
from vmkernel.storage.nbd.handshake import ALLOCATION_ID, Agreed
from vmkernel.storage.nbd.messages import (
    CHUNK,
    CHUNK_DATA,
    CHUNK_ERROR,
    CHUNK_HOLE,
    CHUNK_STATUS,
    EXTENT,
    REQUEST,
    SIMPLE_REPLY,
)
from vmkernel.storage.nbd.nbd_spec import (
    CHUNK_MAGIC,
    COMMAND_FLAGS,
    REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC,
    ChunkFlag,
    ChunkType,
    Command,
    CommandFlag,
    Error,
)
from vmkernel.storage.nbd.stream import Ended, Stream

BUFFER_BYTES = 1 << 20
WHOLE_BYTES = 64 << 10  # a READ up to here is one chunk, whatever is a hole
HOLE_BYTES_MIN = 32 << 10  # a shorter one is sent as zeros
BARE_BYTES_MIN = 64 << 10  # a shorter run goes through the buffer
TEXT_CHARACTERS_MAX = 400
WRITES = frozenset({Command.WRITE, Command.TRIM, Command.WRITE_ZEROES})
NO_ROOM = frozenset({Command.WRITE, Command.WRITE_ZEROES})  # past the end they are told so
LIMITED = frozenset({Command.READ, Command.WRITE, Command.CACHE})


@dataclass(frozen=True, slots=True)
class Request:
    """One that has been judged: a command that we know, with flags that it may have, inside the disk."""

    command: Command
    flags: CommandFlag
    cookie: int
    offset: int
    length: int


class Refused(Exception):
    """What a request is answered when it is not served."""

    def __init__(self, error: Error, text: str) -> None:
        super().__init__(text)
        self.error = error


class Transmission:
    """`serve` until the client leaves. Raises Ended."""

    def __init__(self, stream: Stream, export: Export, agreed: Agreed) -> None:
        self._stream, self._export, self._agreed = stream, export, agreed
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._head = memoryview(bytearray(REQUEST.size))

    def serve(self) -> None:
        while True:
            self._stream.receive(self._head, patient=True)
            magic, flags, number, cookie, offset, length = REQUEST.unpack(self._head)
            if magic != REQUEST_MAGIC:
                raise Ended("not a request")
            if number == Command.DISC:
                return
            unread = length if number == Command.WRITE else 0
            try:
                request = self._judged(flags, number, cookie, offset, length)
                if request.command is Command.WRITE:
                    unread = 0  # `_write` takes all of it in, whatever happens
                SERVED[request.command](self, request)
            except Refused as refusal:
                self._stream.discard(unread)
                self._refuse(cookie, refusal.error, str(refusal))
            except Closing:
                self._refuse(cookie, Error.ESHUTDOWN, "the server is being closed")
            except RingfenceError as error:
                self._refuse(cookie, error_of(error, number), str(error))

    def _judged(self, flags: int, number: int, cookie: int, offset: int, length: int) -> Request:
        """Raises Refused, with the error that the protocol has for it."""
        if self._export.closing.is_set():
            raise Refused(Error.ESHUTDOWN, "the server is being closed")
        try:
            command = Command(number)
        except ValueError:
            raise Refused(Error.EINVAL, f"command {number} is not known") from None
        allowed = COMMAND_FLAGS[command]
        if not self._agreed.structured:
            allowed &= ~CommandFlag.DF
        if wrong := flags & ~int(allowed):  # an IntFlag's complement has known bits only
            raise Refused(Error.EINVAL, f"{command.name} does not have flags {wrong:#x}")
        if command in WRITES and self._export.read_only:
            raise Refused(Error.EPERM, "the export is read-only")
        if command is Command.FLUSH:
            if offset or length:
                raise Refused(Error.EINVAL, "FLUSH has neither offset nor length")
        elif offset % SECTOR_BYTES or length % SECTOR_BYTES:
            raise Refused(Error.EINVAL, f"{length} bytes at {offset}: both must be multiples of {SECTOR_BYTES}")
        elif offset + length > self._export.size:
            error = Error.ENOSPC if command in NO_ROOM else Error.EINVAL
            raise Refused(error, f"{length} bytes at {offset}: the export has {self._export.size} bytes")
        elif command in LIMITED and length > REQUEST_BYTES_MAX:
            raise Refused(Error.EINVAL, f"{length} bytes: at most {REQUEST_BYTES_MAX} in one request")
        return Request(command, CommandFlag(flags), cookie, offset, length)

    # READ

    def _read(self, request: Request) -> None:
        if request.flags & CommandFlag.DF and request.length > BUFFER_BYTES:
            raise Refused(Error.EOVERFLOW, f"{request.length} bytes: at most {BUFFER_BYTES} in one chunk")
        whole = request.length <= WHOLE_BYTES or bool(request.flags & CommandFlag.DF)
        if self._agreed.structured and not whole:
            self._read_pieces(request)
            return
        length = request.length
        view = self._buffer[:length] if length <= BUFFER_BYTES else memoryview(bytearray(length))
        self._export.read(request.offset, view)
        if not self._agreed.structured:
            self._stream.send([SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, Error.NONE, request.cookie), view])
        elif not length:
            self._chunk(request.cookie, ChunkType.NONE, b"")
        else:
            head = self._chunk_head(request.cookie, ChunkType.OFFSET_DATA, CHUNK_DATA.size + length, done=True)
            self._stream.send([head + CHUNK_DATA.pack(request.offset), view])

    def _read_pieces(self, request: Request) -> None:
        """Holes and data, each a chunk. What fails in one is filled up with zeros, and told behind it."""
        pieces = self._export.pieces(request.offset, request.length)
        try:
            for is_hole, group in groupby(pieces, is_long_hole):
                parts = list(group)
                start, length = parts[0].start, sum(part.length for part in parts)
                if is_hole:
                    self._chunk(request.cookie, ChunkType.OFFSET_HOLE, CHUNK_HOLE.pack(start, length), done=False)
                else:
                    head = self._chunk_head(request.cookie, ChunkType.OFFSET_DATA, CHUNK_DATA.size + length, done=False)
                    self._stream.send([head + CHUNK_DATA.pack(start)], more=True)
                    self._send_data(start, length, parts)
        except RingfenceError as error:
            self._refuse(request.cookie, error_of(error, request.command), str(error))
        else:
            self._chunk(request.cookie, ChunkType.NONE, b"")

    def _send_data(self, start: int, length: int, pieces: Sequence[Piece]) -> None:
        """Exactly so many bytes, also where a RingfenceError is raised in the end."""
        at, end = start, start + length
        try:
            for stop, piece in stretches(pieces):
                if piece is not None and piece.file is not None:
                    moved = self._stream.send_file(piece.file.fd, piece.offset, stop - at)
                    at += moved
                    if moved % SECTOR_BYTES:
                        raise HostTrouble(piece.file.path, piece.offset + moved, "the file ends here")
                while at < stop:
                    view = self._buffer[: stop - at]
                    self._export.read(at, view)
                    self._stream.send([view])
                    at += len(view)
        except RingfenceError:
            while at < end:
                self._stream.send([filler := ZEROS[: end - at]])
                at += len(filler)
            raise

    # WRITE and what goes without data

    def _write(self, request: Request) -> None:
        """All data is taken in; after an error the rest of it is dropped."""
        at, end = request.offset, request.offset + request.length
        while at < end:
            part = self._buffer[: min(BUFFER_BYTES - at % BUFFER_BYTES, end - at)]
            self._stream.receive(part)
            at += len(part)
            try:
                self._export.write(at - len(part), part)
            except RingfenceError:
                self._stream.discard(end - at)
                raise
        self._done(request)

    def _flush(self, request: Request) -> None:
        self._export.flush()
        self._simple(request.cookie)

    def _trim(self, request: Request) -> None:
        self._export.trim(request.offset, request.length)
        self._done(request)

    def _write_zeroes(self, request: Request) -> None:
        provisioned = bool(request.flags & CommandFlag.NO_HOLE)
        if request.flags & CommandFlag.FAST_ZERO and not self._export.is_zeroed_fast(provisioned=provisioned):
            raise Refused(Error.ENOTSUP, "zeros are written here")
        self._export.zero(request.offset, request.length, provisioned=provisioned)
        self._done(request)

    def _cache(self, request: Request) -> None:
        self._export.cache(request.offset, request.length)
        self._simple(request.cookie)

    def _block_status(self, request: Request) -> None:
        if not self._agreed.allocation:
            raise Refused(Error.EINVAL, "no metadata context was chosen for this export")
        if not request.length:
            raise Refused(Error.EINVAL, "the status of no bytes")
        only_one = bool(request.flags & CommandFlag.REQ_ONE)
        extents = self._export.extents(request.offset, request.length, only_one=only_one)
        described = b"".join(EXTENT.pack(length, state) for length, state in extents)
        self._chunk(request.cookie, ChunkType.BLOCK_STATUS, CHUNK_STATUS.pack(ALLOCATION_ID) + described)

    # replies

    def _done(self, request: Request) -> None:
        if request.flags & CommandFlag.FUA:
            self._export.flush()
        self._simple(request.cookie)

    def _simple(self, cookie: int, error: Error = Error.NONE) -> None:
        self._stream.send([SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, cookie)])

    def _refuse(self, cookie: int, error: Error, text: str) -> None:
        if not self._agreed.structured:
            self._simple(cookie, error)
            return
        words = text[:TEXT_CHARACTERS_MAX].encode(errors="replace")
        self._chunk(cookie, ChunkType.ERROR, CHUNK_ERROR.pack(error, len(words)) + words)

    def _chunk(self, cookie: int, kind: ChunkType, payload: bytes, *, done: bool = True) -> None:
        self._stream.send([self._chunk_head(cookie, kind, len(payload), done=done) + payload])

    def _chunk_head(self, cookie: int, kind: ChunkType, length: int, *, done: bool) -> bytes:
        return CHUNK.pack(CHUNK_MAGIC, ChunkFlag.DONE if done else 0, kind, cookie, length)


SERVED: dict[Command, Callable[[Transmission, Request], None]] = {
    Command.READ: Transmission._read,
    Command.WRITE: Transmission._write,
    Command.FLUSH: Transmission._flush,
    Command.TRIM: Transmission._trim,
    Command.CACHE: Transmission._cache,
    Command.WRITE_ZEROES: Transmission._write_zeroes,
    Command.BLOCK_STATUS: Transmission._block_status,
}
assert SERVED.keys() | {Command.DISC} == set(Command)


def is_long_hole(piece: Piece) -> bool:
    return piece.file is None and piece.length >= HOLE_BYTES_MIN


def is_bare(piece: Piece) -> bool:
    return piece.file is not None and not piece.packed and piece.length >= BARE_BYTES_MIN


def stretches(pieces: Sequence[Piece]) -> Iterator[tuple[int, Piece | None]]:
    """Where each ends on the disk, and the piece whose file it is sent from; None: it goes through the buffer."""
    for bare, group in groupby(pieces, is_bare):
        if bare:
            yield from ((piece.start + piece.length, piece) for piece in group)
        else:
            *_, last = group
            yield last.start + last.length, None


def error_of(error: RingfenceError, command: int) -> Error:
    if isinstance(error, OutOfSpace):
        return Error.ENOSPC
    return Error.EPERM if isinstance(error, NotWritable) and command in WRITES else Error.EIO
