"""What the remote screen is tested with: a picture that stands for a machine's, an input that records, raw clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmx.keys_spec import KeyCode
from vmx.rfb import RfbServer

WAIT_S = 10.0


class Picture:
    """A machine's screen. `put` changes a part of it."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.lock = threading.Lock()
        self.rendered = 0
        self._changed: list[tuple[int, int, int, int]] = []

    def put(self, x: int, y: int, piece: NDArray[np.uint8]) -> None:
        with self.lock:
            height, width, _ = piece.shape
            self.pixels[y : y + height, x : x + width] = piece
            self._changed.append((x, y, width, height))

    def show(self, pixels: NDArray[np.uint8]) -> None:
        """Another mode."""
        with self.lock:
            self.pixels = pixels
            self._changed = [(0, 0, *self.size())]

    def size(self) -> tuple[int, int]:
        height, width, _ = self.pixels.shape
        return width, height

    def render(self) -> NDArray[np.uint8]:
        assert self.lock.locked()
        self.rendered += 1
        return self.pixels

    def changes(self) -> list[tuple[int, int, int, int]]:
        assert self.lock.locked()
        changed, self._changed = self._changed, []
        return changed


def mixed_picture(width: int, height: int, seed: int = 1) -> NDArray[np.uint8]:
    """Squares of one colour, of few colours and of many, so that every kind of tile is there."""
    source = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    counts = [1, 2, 3, 4, 5, 16, 17, 256, 1, 2]
    for index, (y, x) in enumerate((y, x) for y in range(0, height, 64) for x in range(0, width, 64)):
        colours = source.integers(0, 256, (counts[index % len(counts)], 3), dtype=np.uint8)
        shape = picture[y : y + 64, x : x + 64].shape[:2]
        picture[y : y + 64, x : x + 64] = colours[source.integers(0, len(colours), shape)]
    return picture


class Input:
    """Records what arrives."""

    def __init__(self) -> None:
        self.keys: list[tuple[KeyCode, bool]] = []
        self.movements: list[tuple[int, int, int, int]] = []
        self.places: list[tuple[int, int] | None] = []
        self.caps = False

    def key(self, code: KeyCode, down: bool) -> None:
        self.keys.append((code, down))

    def pointer(self, dx: int, dy: int, dz: int, buttons: int, at: tuple[int, int] | None = None) -> None:
        self.movements.append((dx, dy, dz, buttons))
        self.places.append(at)

    def caps_lock(self) -> bool:
        return self.caps


class Served:
    """A server on a Unix socket or a TCP port of its own."""

    def __init__(self, picture: Picture, where: str, password: str | None = None) -> None:
        self.picture, self.input, self.lines = picture, Input(), list[str]()
        self.server = RfbServer(where, password, picture, self.input, picture.lock, self.lines.append, "test machine")
        self.sockets: list[socket.socket] = []
        self.server.start()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        for client in self.sockets:
            client.close()

    def connect(self) -> socket.socket:
        address = self.server.address
        if self.server.where.path is not None:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(WAIT_S)
            client.connect(address)
        else:
            host, _, port = address.rpartition(":")
            client = socket.create_connection((host, int(port)), timeout=WAIT_S)
        self.sockets.append(client)
        return client

    def wait_for_line(self, part: str) -> str:
        wait_until(lambda: any(part in line for line in self.lines), f"{part!r} in {self.lines}")
        return next(line for line in self.lines if part in line)


def on_unix(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/rfb"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.002)


def take(client: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = client.recv(count - len(data))
        assert piece, f"closed after {bytes(data)!r}"
        data += piece
    return bytes(data)


def rest(client: socket.socket) -> bytes:
    """Until the server closes."""
    data = bytearray()
    while True:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return bytes(data)
        data += piece


def log_in(client: socket.socket, shared: bool = True) -> bytes:
    """As a 3.8 client without a password: the ServerInit message."""
    assert take(client, 12) == b"RFB 003.008\n"
    client.sendall(b"RFB 003.008\n")
    assert take(client, 2) == b"\x01\x01"
    client.sendall(b"\x01")
    assert take(client, 4) == bytes(4)
    client.sendall(bytes((shared,)))
    head = take(client, 24)
    return head + take(client, int.from_bytes(head[20:24], "big"))
