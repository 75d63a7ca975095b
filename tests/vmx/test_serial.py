"""Serial backends on this host, and the cable that is plugged and unplugged, against a UART that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tty
from pathlib import Path

import pytest

from hw.uart import Uart, UartState
from ringfence.errors import BadOption, HostRefused
from tests.vmx.serial_guest import CONNECTED, Guest, plugged, send, wait_until
from vmx.output_queue import QUEUE_BYTES
from vmx.serial import SerialCable, open_serial
from vmx.serial_local import FileSerial, PtySerial, TtySerial


def read_all(fd: int, length: int) -> bytes:
    """So many bytes, however they come."""
    got = b""
    while len(got) < length:
        got += os.read(fd, length - len(got))
    return got


def silent(text: str) -> None:
    """Nobody is told."""


def test_a_file_gets_the_output(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("what was there before")
    backend = open_serial(f"file:{path}", silent)
    with plugged(backend):
        send(backend, b"line\n")
    assert path.read_bytes() == b"line\n"


def test_a_file_can_go_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before, ")
    backend = open_serial(f"file:{path}", silent, append=True)
    send(backend, b"after")
    backend.close()
    assert path.read_text() == "before, after"


def test_a_full_disk_is_remembered() -> None:
    backend = FileSerial(Path("/dev/full"))
    with plugged(backend):
        send(backend, b"xy")
        assert backend.lost == "No space left on device"


def test_a_pipe_whose_reader_goes_ends_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    backend = FileSerial(tmp_path / "pipe")
    with plugged(backend) as guest:
        send(backend, b"heard")
        assert read_all(reader, 5) == b"heard"
        os.close(reader)
        send(backend, b"unheard")
        assert guest.left and backend.lost is None


def test_a_slow_reader_of_a_pipe_loses_nothing_and_holds_nobody_who_is_wanted_back(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    backend = FileSerial(tmp_path / "pipe")
    os.set_blocking(reader, True)
    with plugged(backend) as guest:
        sender = threading.Thread(target=send, args=(backend, bytes(range(250)) * 640), daemon=True)
        sender.start()
        got = b""
        while len(got) < 70_000:
            got += os.read(reader, 1 << 16)
        assert got == (bytes(range(250)) * 640)[: len(got)]
        assert sender.is_alive()
        guest.wanted_back = True
        sender.join(timeout=5)
        assert not sender.is_alive()
    os.close(reader)


def test_a_pseudo_terminal_goes_both_ways() -> None:
    said: list[str] = []
    backend = PtySerial(said.append)
    with plugged(backend) as guest:
        assert backend.where == f"pty:{said[0].split()[-1]}"
        fd = os.open(backend.where.removeprefix("pty:"), os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)
        os.write(fd, b"in")
        guest.wait_for(b"in")
        send(backend, b"out")
        assert read_all(fd, 3) == b"out"
        wait_until(lambda: guest.lines == CONNECTED)
        os.close(fd)


def test_output_to_a_pseudo_terminal_that_nobody_opens_is_dropped() -> None:
    backend = PtySerial(silent)
    with plugged(backend):
        sent = 0
        while not backend.queue.dropped:
            send(backend, bytes(4096))
            sent += 4096
        assert QUEUE_BYTES < sent < QUEUE_BYTES * 4


def test_a_terminal_of_the_host_goes_both_ways() -> None:
    master, slave = os.openpty()
    path = os.ttyname(slave)
    before = subprocess.run(["stty", "-a", "-F", path], capture_output=True, check=True).stdout
    backend = open_serial(f"file:{path}", silent)
    assert isinstance(backend, TtySerial)
    with plugged(backend) as guest:
        os.write(master, b"in\r\x03")
        guest.wait_for(b"in\r\x03")
        send(backend, b"out\n")
        assert read_all(master, 4) == b"out\n"
    assert subprocess.run(["stty", "-a", "-F", path], capture_output=True, check=True).stdout == before
    os.close(master)
    os.close(slave)


def test_a_terminal_that_hangs_up_drops_the_carrier() -> None:
    master, slave = os.openpty()
    backend = TtySerial(Path(os.ttyname(slave)))
    os.close(slave)
    with plugged(backend) as guest:
        wait_until(lambda: guest.lines == CONNECTED)
        os.close(master)
        wait_until(lambda: guest.lines == 0)
        send(backend, b"nobody hears")


def test_input_waits_until_the_uart_has_room() -> None:
    backend = PtySerial(silent)
    with plugged(backend, Guest(room=3)) as guest:
        fd = os.open(backend.where.removeprefix("pty:"), os.O_RDWR | os.O_NOCTTY)
        os.write(fd, b"abcdefgh")
        guest.wait_for(b"abc")
        guest.room = 10
        backend.ready()
        guest.wait_for(b"abcdefgh")
        os.close(fd)


def test_input_beyond_what_is_kept_stays_with_the_host() -> None:
    """Half a megabyte through a backend that keeps 64 KiB: nothing is lost, and it never holds more."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.vmx.serial_guest import Guest, wait_until\n"
        "from vmx.serial import open_serial\n"
        "guest, backend = Guest(room=0), open_serial('stdio', print)\n"
        "backend.connect(guest, guest)\n"
        "wait_until(lambda: len(backend._waiting) > 65536)\n"
        "while len(guest.got) < 1 << 19:\n"
        "    assert len(backend._waiting) <= 65536 + 4096\n"
        "    guest.room = 10000\n"
        "    guest.post(backend.ready)\n"
        "assert guest.got == bytes(range(256)) * 2048\n"
        "backend.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], input=bytes(range(256)) * 2048, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "choice",
    ["", "file:", "unix:", "unix-client:", "tcp:", "tty", "stdio:x", "none:x", "tcp:4555", "tcp:host:", "tcp:host:x",
     "tcp-client:host:65536", "tcp:host:99999999999999999999", "unix-client:nul\0byte"],
)  # fmt: skip
def test_an_unknown_choice_is_refused(choice: str) -> None:
    with pytest.raises(BadOption, match=f"--serial {choice}"):
        open_serial(choice, print)


@pytest.mark.parametrize(
    "choice",
    ["file:/nonexistent/log", "unix:/nonexistent/socket", "unix:/tmp/" + "x" * 200,
     "unix-client:/tmp/" + "x" * 200, "tcp:no.such.host.invalid:1"],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(choice: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostRefused, match=r"^serial1"):
        open_serial(choice, print, origin="serial1")
    assert len(os.listdir("/proc/self/fd")) == before


def test_closing_without_connecting_is_fine(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for choice in ("none", "pty", f"unix:{tmp_path / 's'}", f"unix-client:{tmp_path / 't'}", "tcp:127.0.0.1:0"):
        open_serial(choice, silent).close()
    assert len(os.listdir("/proc/self/fd")) == before


# the cable


def test_nothing_plugged_in_is_no_carrier() -> None:
    with plugged(open_serial("none", silent)) as guest:
        assert guest.lines == 0


def test_a_cable_is_unplugged_and_plugged_into_something_else(tmp_path: Path) -> None:
    first, second, guest = tmp_path / "a", tmp_path / "b", Guest()
    cable = SerialCable(f"file:{first}", silent)
    cable.connect(guest, guest)
    assert cable.connected and guest.lines == CONNECTED
    send(cable, b"one ")
    cable.unplug()
    assert not cable.connected and guest.lines == 0
    send(cable, b"nowhere")
    cable.plug()
    send(cable, b"two")
    cable.plug(f"file:{second}")
    send(cable, b"three")
    assert guest.lines == CONNECTED
    cable.close()
    assert (first.read_text(), second.read_text()) == ("one two", "three")


def test_a_cable_can_start_unplugged(tmp_path: Path) -> None:
    guest = Guest()
    cable = SerialCable(f"unix:{tmp_path / 's'}", silent, connected=False)
    cable.connect(guest, guest)
    assert guest.lines == 0 and not (tmp_path / "s").exists()
    cable.plug()
    assert (tmp_path / "s").exists() and cable.where == f"unix:{tmp_path / 's'}"
    cable.unplug()
    assert not (tmp_path / "s").exists()
    cable.close()


def test_a_cable_that_finds_no_far_end_stays_unplugged(tmp_path: Path) -> None:
    guest = Guest()
    cable = SerialCable(f"file:{tmp_path / 'a'}", silent)
    cable.connect(guest, guest)
    with pytest.raises(HostRefused):
        cable.plug("file:/nonexistent/b")
    assert not cable.connected and guest.lines == 0
    cable.plug()
    assert cable.where == f"file:{tmp_path / 'a'}"
    cable.close()


def test_a_loss_is_remembered_when_the_cable_is_unplugged() -> None:
    guest = Guest()
    cable = SerialCable("file:/dev/full", silent)
    cable.connect(guest, guest)
    send(cable, b"x")
    cable.unplug()
    assert cable.lost == "No space left on device"
    cable.close()


def test_a_real_uart_sees_the_carrier_come_and_go() -> None:
    class Line:
        level = False

        def set_level(self, level: bool) -> None:
            self.level = level

    guest, line = Guest(), Line()
    cable = SerialCable("pty", silent)
    uart = Uart(UartState(), line, cable)
    uart.reset()
    cable.connect(uart, guest)
    uart.port_write(1, 1, 0x08)
    uart.port_write(4, 1, 0x08)
    uart.port_read(6, 1)
    cable.unplug()
    assert line.level
    assert uart.port_read(6, 1) == 0x0B
    assert not line.level
    cable.plug()
    assert uart.port_read(6, 1) == 0xBB
    cable.close()
