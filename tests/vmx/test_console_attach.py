"""The terminal on a machine's serial port: both ways, and out again with the terminal as it was."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from ringfence.errors import BadOption, HostRefused
from tests.vmx.test_terminal import take_terminal
from vmx.console_attach import attach, open_port

ATTACH = "import sys\nfrom vmx.console_attach import attach\nattach(sys.argv[1])\nprint('left')\n"


def read_until(fd: int, text: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 20
    while text not in seen and time.monotonic() < deadline:
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 1000)
    assert text in seen
    return seen


def test_a_person_talks_to_the_guest_and_leaves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        child = subprocess.Popen(
            [sys.executable, "-c", ATTACH, f"unix:{tmp_path / 's'}"], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: take_terminal(slave),  # noqa: PLW1509
        )  # fmt: skip
        guest, _ = listener.accept()
        with guest:
            guest.settimeout(20)
            guest.sendall(b"login: ")
            read_until(master, b"login: ")
            os.write(master, b"root\x03")
            got = b""
            while len(got) < 5:
                got += guest.recv(100)
            assert got == b"root\x03"
            os.write(master, b"\x01x")
            read_until(master, b"left")
            assert guest.recv(100) == b""
        assert child.wait(20) == 0
        assert termios.tcgetattr(slave) == before
        os.close(master)
        os.close(slave)


def test_a_machine_that_goes_away_ends_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        child = subprocess.Popen(
            [sys.executable, "-c", ATTACH, f"unix:{tmp_path / 's'}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        guest, _ = listener.accept()
        guest.sendall(b"bye")
        guest.close()
        assert child.communicate(timeout=20)[0] == b"byeleft\n"


def test_a_pseudo_terminal_is_attached_raw() -> None:
    master, slave = pty.openpty()
    fd = open_port(f"pty:{os.ttyname(slave)}")
    os.write(fd, b"a\r\n\x03")
    assert read_until(master, b"\x03") == b"a\r\n\x03"
    for each in (fd, master, slave):
        os.close(each)


def test_a_tcp_port_is_attached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = open_port(f"tcp:127.0.0.1:{listener.getsockname()[1]}")
        guest, _ = listener.accept()
        with guest:
            os.write(fd, b"hi")
            assert guest.recv(10) == b"hi"
        os.close(fd)


@pytest.mark.parametrize("serial", ["", "none", "stdio", "file:/x", "pty", "tcp:nowhere"])
def test_a_port_that_nobody_can_attach_to_is_refused(serial: str) -> None:
    with pytest.raises(BadOption):
        attach(serial)


@pytest.mark.parametrize("serial", ["pty:/dev/null", "pty:/nonexistent", "unix:/nonexistent", "tcp:127.0.0.1:1"])
def test_a_port_that_is_not_there_is_refused(serial: str) -> None:
    with pytest.raises(HostRefused):
        attach(serial)
