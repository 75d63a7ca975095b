"""An NBD client that says exactly what it is told to, and the server that it talks to."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmkernel.storage.disk import Disk
from vmkernel.storage.nbd.export import Export
from vmkernel.storage.nbd.server import NbdServer

WAIT_S = 120.0
OPTS_MAGIC = b"IHAVEOPT"
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED, LIST_META, SET_META = 1, 2, 3, 5, 6, 7, 8, 9, 10
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = 1, 2, 4, 8, 16
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 22, 28, 75, 95, 108
CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS, CHUNK_ERROR = 0, 1, 2, 5, 0x8001


def go_data(name: bytes = b"", infos: tuple[int, ...] = (3,)) -> bytes:
    return struct.pack(">I", len(name)) + name + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def meta_data(*queries: bytes, name: bytes = b"") -> bytes:
    packed = b"".join(struct.pack(">I", len(query)) + query for query in queries)
    return struct.pack(">I", len(name)) + name + struct.pack(">I", len(queries)) + packed


def option(number: int, data: bytes = b"") -> bytes:
    return OPTS_MAGIC + struct.pack(">II", number, len(data)) + data


def request(command: int, offset: int = 0, length: int = 0, flags: int = 0, cookie: int = 1) -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, flags, command, cookie, offset, length)


class Client:
    """A connection on which every read has a limit."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(path))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def is_ended(self) -> bool:
        """The server has hung up; what it still said is dropped."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def greet(self, flags: int = 3) -> int:
        """The server's handshake flags."""
        magic, options, offered = struct.unpack(">8s8sH", self.take(18))
        assert (magic, options) == (b"NBDMAGIC", OPTS_MAGIC)
        self.send(struct.pack(">I", flags))
        return int(offered)

    def ask(self, number: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """The answers to an option, the last of which is ACK or an error."""
        self.send(option(number, data))
        answers = []
        while True:
            magic, of, kind, length = struct.unpack(">QIII", self.take(20))
            assert (magic, of) == (0x3E889045565A9, number)
            answers.append((kind, self.take(length)))
            if kind == 1 or kind & 0x80000000:
                return answers

    def begin(self, *, structured: bool = True, allocation: bool = True) -> Client:
        """Into the transmission."""
        self.greet()
        if structured:
            assert self.ask(STRUCTURED) == [(1, b"")]
            if allocation:
                assert self.ask(SET_META, meta_data(b"base:allocation"))[-1] == (1, b"")
        assert self.ask(GO, go_data())[-1] == (1, b"")
        return self

    def simple(self) -> int:
        """The error of a simple reply."""
        magic, error, cookie = struct.unpack(">IIQ", self.take(16))
        assert (magic, cookie) == (0x67446698, 1)
        return int(error)

    def chunks(self) -> list[tuple[int, bytes]]:
        """(type, payload) of a structured reply, without a NONE at its end; a simple reply is its error, if any."""
        found = []
        while True:
            magic, flags, kind = struct.unpack(">IHH", self.take(8))
            if magic == 0x67446698:
                assert struct.unpack(">Q", self.take(8)) == (1,)
                error = flags << 16 | kind
                return [(CHUNK_ERROR, struct.pack(">I", error))] if error else []
            assert magic == 0x668E33EF
            cookie, length = struct.unpack(">QI", self.take(12))
            assert cookie == 1
            payload = self.take(length)
            if kind != CHUNK_NONE:
                found.append((kind, payload))
            if flags & 1:
                return found

    def error(self, message: bytes) -> int:
        """The error of the answer to a request; 0: it succeeded."""
        self.send(message)
        found = self.chunks()
        return int(struct.unpack_from(">I", found[-1][1])[0]) if found and found[-1][0] == CHUNK_ERROR else 0

    def read(self, offset: int, length: int, flags: int = 0) -> bytes:
        """What a READ brings, put together as its chunks say."""
        self.send(request(READ, offset, length, flags))
        data = bytearray(b"\xee" * length)
        for kind, payload in self.chunks():
            (at,) = struct.unpack_from(">Q", payload)
            assert kind in {CHUNK_DATA, CHUNK_HOLE}
            content = payload[8:] if kind == CHUNK_DATA else bytes(struct.unpack_from(">I", payload, 8)[0])
            data[at - offset : at - offset + len(content)] = content
        assert len(data) == length
        return bytes(data)

    def status(self, offset: int, length: int, flags: int = 0) -> list[tuple[int, int]]:
        self.send(request(BLOCK_STATUS, offset, length, flags))
        [(kind, payload)] = self.chunks()
        assert kind == CHUNK_STATUS
        return list(struct.iter_unpack(">II", payload[4:]))  # type: ignore[arg-type]


@contextmanager
def serving(disk: Disk, folder: Path, *, read_only: bool = False, name: str = "", **options: object) -> Iterator[Path]:
    """A server for a disk; the path of its socket. It must have ended without trouble."""
    path = folder / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        server = NbdServer(Export(disk, name, "a disk", read_only=read_only), listener, **options)  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield path
        finally:
            server.close()
            thread.join(WAIT_S)
            path.unlink()
    assert not thread.is_alive() and not server.trouble, server.trouble
