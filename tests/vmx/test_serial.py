"""Serial backends against a UART that is not there: files, pseudo-terminals, sockets."""

from __future__ import annotations

import os
import socket
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.errors import BadOption, HostRefused
from vmx.serial import FileSerial, PtySerial, SerialBackend, UnixSerial, open_serial


class Guest:
    """The machine and its UART as a backend sees them: takes everything at once, or up to `room`."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.got = bytearray()
        self.wanted_back = False
        self.room = room
        self.lock = threading.Lock()

    def can_receive(self) -> bool:
        return self.room > 0

    def received(self, byte: int) -> None:
        self.room -= 1
        self.got.append(byte)

    def post(self, action: Callable[[], None]) -> None:
        with self.lock:
            action()

    def leave(self) -> None:
        raise AssertionError

    def is_wanted_back(self) -> bool:
        return self.wanted_back

    def wait_for(self, text: bytes) -> None:
        deadline = time.monotonic() + 5
        while bytes(self.got) != text and time.monotonic() < deadline:
            time.sleep(0.005)
        assert bytes(self.got) == text


def send(backend: SerialBackend, data: bytes) -> None:
    for byte in data:
        backend.transmit(byte)


def test_a_file_gets_the_output(tmp_path: Path) -> None:
    backend = FileSerial(tmp_path / "log")
    backend.connect(Guest(), Guest())
    send(backend, b"line\n")
    backend.close()
    assert (tmp_path / "log").read_bytes() == b"line\n"


def test_a_pseudo_terminal_goes_both_ways() -> None:
    said: list[str] = []
    backend, guest = PtySerial(said.append), Guest()
    backend.connect(guest, guest)
    fd = os.open(said[0].split()[-1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    os.write(fd, b"in")
    guest.wait_for(b"in")
    send(backend, b"out")
    assert os.read(fd, 100) == b"out"
    os.close(fd)
    backend.close()


def test_output_to_a_pseudo_terminal_that_nobody_opens_is_dropped() -> None:
    backend = PtySerial(lambda text: None)
    send(backend, bytes(100_000))
    backend.close()


def test_a_socket_takes_one_client_after_another(tmp_path: Path) -> None:
    backend, guest = UnixSerial(tmp_path / "s"), Guest()
    backend.connect(guest, guest)
    send(backend, b"nobody hears")
    for round_ in (b"one", b"two"):
        guest.got.clear()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            client.sendall(round_)
            guest.wait_for(round_)
            send(backend, b"re:" + round_)
            assert client.recv(100) == b"re:" + round_
        deadline = time.monotonic() + 5
        while backend.output_fd is not None and time.monotonic() < deadline:
            time.sleep(0.005)
    backend.close()
    assert not (tmp_path / "s").exists()


def test_input_waits_until_the_uart_has_room(tmp_path: Path) -> None:
    backend, guest = UnixSerial(tmp_path / "s"), Guest(room=3)
    backend.connect(guest, guest)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        client.sendall(b"abcdefgh")
        guest.wait_for(b"abc")
        guest.room = 10
        backend.ready()
        guest.wait_for(b"abcdefgh")
    backend.close()


@pytest.mark.parametrize("choice", ["", "file:", "unix:", "tty", "stdio:x"])
def test_an_unknown_choice_is_refused(choice: str) -> None:
    with pytest.raises(BadOption, match="--serial"):
        open_serial(choice, print)


@pytest.mark.parametrize("choice", ["file:/nonexistent/log", "unix:/nonexistent/socket"])
def test_a_place_that_cannot_be_is_refused(choice: str) -> None:
    with pytest.raises(HostRefused, match="/nonexistent"):
        open_serial(choice, print)


def test_a_reader_that_stopped_reading_holds_nobody_who_is_wanted_back(tmp_path: Path) -> None:
    backend, guest = UnixSerial(tmp_path / "s"), Guest()
    backend.connect(guest, guest)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        client.sendall(b"here")
        guest.wait_for(b"here")
        sender = threading.Thread(target=send, args=(backend, bytes(1 << 20)), daemon=True)
        sender.start()
        sender.join(timeout=0.3)
        assert sender.is_alive(), "a slow reader slows the guest down"
        guest.wanted_back = True
        sender.join(timeout=0.2)
        backend.output_fd = None
        sender.join(timeout=5)
        assert not sender.is_alive()
    backend.close()


def test_closing_without_connecting_is_fine() -> None:
    open_serial("none", print).close()
