"""Hostile NBD clients: whatever they send, the server ends their connection at most, in bounded time."""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conformance.device_driver import no_hang
from tests.vmkernel.storage.nbd.client import Client, request, serving
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create

SESSIONS = [path.read_bytes() for path in sorted((Path(__file__).parent / "nbd").iterdir()) if path.suffix != ".md"]
MAGICS = (b"IHAVEOPT", struct.pack(">I", 0x25609513))
SIZE = 256 << 10
HANG_SECONDS = 60
WAIT_S = 120.0


def damaged(session: bytes, chance: random.Random) -> bytes:
    """Bytes, numbers and whole stretches of it changed, and requests of any kind put in."""
    content = bytearray(session)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(content))
        kind = chance.randrange(6)
        if kind == 0:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            number = chance.choice((0, 1, 511, 512, 1 << 16, 1 << 25, 1 << 31, (1 << 32) - 512, (1 << 32) - 1))
            content[at : at + 4] = struct.pack(">I", number)
        elif kind == 2:
            del content[at : at + chance.randrange(64)]
        elif kind == 3:
            content[at:at] = content[chance.randrange(len(content)) :][: chance.randrange(256)]
        else:
            place = content.rfind(chance.choice(MAGICS), 0, at + 1)
            offset = chance.choice((0, SIZE - 512, SIZE, 1 << 63, chance.randrange(SIZE)))
            length = chance.choice((0, 512, 4096, SIZE, 1 << 30, chance.randrange(SIZE)))
            flags = chance.choice((0, 0, 1, 2, 4, 8, 16, 0xFFFF))
            put_in = request(chance.choice((*range(9), 0xFFFF)), offset, length, flags)
            content[max(place, 0) : max(place, 0)] = put_in
        if not content:
            break
    return bytes(content)


def drain(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(1 << 16):
            pass


def speak(path: Path, content: bytes) -> None:
    """Send it, take in whatever is answered, and leave when the server has nothing more to say."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT_S)
        connection.connect(str(path))
        reader = threading.Thread(target=drain, args=(connection,), daemon=True)
        reader.start()
        with suppress(OSError):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        reader.join(WAIT_S)
        assert not reader.is_alive()


def serve_hostile(folder: Path, seeds: range) -> None:
    """`serving` looks at the end for what went wrong unexpectedly."""
    create(folder / "d.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(folder / "d.vmdk", writable=True) as disk, serving(disk, folder) as path:
        for seed in seeds:
            chance = random.Random(seed)
            with no_hang(HANG_SECONDS):
                try:
                    speak(path, damaged(SESSIONS[seed % len(SESSIONS)], chance))
                except Exception as error:
                    error.add_note(f"seed {seed}")
                    raise
        with Client(path) as client:
            assert len(client.begin().read(0, SIZE)) == SIZE


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(f"os.{name}", lambda fd: None)


def test_sessions_as_they_were_are_served(tmp_path: Path) -> None:
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(tmp_path / "d.vmdk", writable=True) as disk, serving(disk, tmp_path) as path:
        for session in SESSIONS:
            with no_hang(HANG_SECONDS):
                speak(path, session)


def test_damaged_sessions_end_their_connection_at_most(tmp_path: Path) -> None:
    serve_hostile(tmp_path, range(300))


@pytest.mark.long
def test_many_damaged_sessions_end_their_connection_at_most(tmp_path: Path) -> None:
    serve_hostile(tmp_path, range(1_000_000, 1_100_000))
