"""Escape keys, and raw mode that is undone however the process ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest

from vmx.terminal import EscapeKeys


class Keys:
    def __init__(self) -> None:
        self.left = 0
        self.said: list[str] = []
        self.keys = EscapeKeys(self.leave, self.said.append)

    def leave(self) -> None:
        self.left += 1


def test_ctrl_a_x_leaves_and_is_not_passed_on() -> None:
    keys = Keys()
    assert keys.keys.filter(b"ab\x01xcd") == b"abcd"
    assert keys.left == 1


def test_an_escape_may_be_split_between_two_reads() -> None:
    keys = Keys()
    assert keys.keys.filter(b"a\x01") == b"a"
    assert keys.keys.filter(b"Xb") == b"b"
    assert keys.left == 1


def test_ctrl_a_twice_sends_one() -> None:
    keys = Keys()
    assert keys.keys.filter(b"\x01\x01\x01a") == b"\x01\x01"


def test_ctrl_a_h_helps() -> None:
    keys = Keys()
    assert keys.keys.filter(b"\x01h") == b""
    assert "Ctrl-A X" in keys.said[0]


WAYS_OUT = {
    "leave": "t.leave()",
    "exit": "sys.exit(3)",
    "exception": "raise ValueError",
    "sigterm": "time.sleep(30)",
    "sighup": "time.sleep(30)",
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_the_terminal_is_restored_on_every_way_out(way: str) -> None:
    program = (
        "import sys, time\nfrom vmx.terminal import RawTerminal\n"
        f"t = RawTerminal(0)\nt.enter()\nprint('raw', flush=True)\n{WAYS_OUT[way]}\n"
    )
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True, preexec_fn=lambda: take_terminal(slave),  # noqa: PLW1509
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"raw\n"
    if way.startswith("sig"):
        assert termios.tcgetattr(slave)[3] & termios.ICANON == 0
        child.send_signal(getattr(signal, way.upper()))
    child.wait(timeout=10)
    child.stdout.close()
    deadline = time.monotonic() + 2
    while termios.tcgetattr(slave) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def take_terminal(fd: int) -> None:
    """In the child: make the pseudo-terminal the controlling one, with us in the foreground."""
    import fcntl

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
