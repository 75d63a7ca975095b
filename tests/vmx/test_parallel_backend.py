"""Printers: files, pipes with real readers that are slow, late or gone, and the parallel port in front of them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hw.parallel import Parallel, ParallelState
from ringfence.errors import BadOption, HostRefused
from tests.vmx.serial_guest import Guest, wait_until
from vmx import parallel_backend
from vmx.output_queue import QUEUE_BYTES
from vmx.parallel_backend import Printer, QueuedPrinter, open_parallel


def silent(text: str) -> None:
    """Nobody is told."""


@contextmanager
def printing(choice: str, *, append: bool = False) -> Iterator[Printer]:
    printer = open_parallel(choice, silent, append=append)
    try:
        printer.start(Guest())
        yield printer
    finally:
        printer.close()


def put(printer: Printer, data: bytes) -> None:
    for byte in data:
        printer(byte)


@pytest.fixture
def fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parallel_backend, "FIFO_RETRY_S", 0.01)
    path = tmp_path / "lp"
    os.mkfifo(path)
    return path


class Line:
    def set_level(self, level: bool) -> None:
        """Polled."""


def test_a_file_gets_what_the_guest_strobes(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_text("old")
    with printing(f"file:{path}") as printer:
        port = Parallel(ParallelState(), Line(), printer)
        port.reset()
        for byte in b"a page\f":
            port.port_write(0, 1, byte)
            port.port_write(2, 1, 0x0D)
            port.port_write(2, 1, 0x0C)
        assert not printer.is_busy() and printer.lost is None
    assert path.read_bytes() == b"a page\f"
    with printing(f"file:{path}", append=True) as printer:
        put(printer, b"more")
    assert path.read_bytes() == b"a page\fmore"


def test_a_full_disk_is_remembered() -> None:
    with printing("file:/dev/full") as printer:
        put(printer, b"x")
        assert printer.lost == "No space left on device"
        wait_until(lambda: not printer._port.has_peer)  # type: ignore[attr-defined]


def test_a_device_of_the_host() -> None:
    with printing("file:/dev/null") as printer:
        put(printer, bytes(QUEUE_BYTES))
        assert not printer.is_busy() and printer.lost is None


def test_a_fifo_waits_for_its_reader(fifo: Path) -> None:
    with printing(f"pipe:{fifo}") as printer:
        put(printer, b"early, ")
        reader = os.open(fifo, os.O_RDONLY)
        wait_until(lambda: not printer.is_busy() and printer._queue.waiting == 0)  # type: ignore[attr-defined]
        put(printer, b"late")
        got = b""
        while len(got) < len(b"early, late"):
            got += os.read(reader, 100)
        assert got == b"early, late"
        os.close(reader)


def test_one_reader_after_another(fifo: Path) -> None:
    with printing(f"pipe:{fifo}") as printer:
        assert isinstance(printer, QueuedPrinter)
        for text in (b"first", b"second"):
            with fifo.open("rb", buffering=0) as reader:
                put(printer, text)
                assert reader.read(100) == text
            wait_until(lambda: not printer._port.has_peer)


def test_a_reader_that_stalls_makes_the_printer_busy(fifo: Path) -> None:
    with printing(f"pipe:{fifo}") as printer:
        reader = os.open(fifo, os.O_RDONLY)
        printed = bytearray()
        while not printer.is_busy():
            put(printer, b"0123456789" * 100)
            printed += b"0123456789" * 100
        got = bytearray()
        while len(got) < len(printed):
            got += os.read(reader, 1 << 16)
        wait_until(lambda: not printer.is_busy())
        assert got == printed, "a guest that heeds BUSY loses nothing"
        os.close(reader)


def test_nobody_ever_reads(fifo: Path) -> None:
    with printing(f"pipe:{fifo}") as printer:
        assert isinstance(printer, QueuedPrinter)
        printer._queue._patience_s = 0.05
        put(printer, bytes(QUEUE_BYTES + 1000))
        assert printer.is_busy() and printer._queue.dropped == 1000


def test_what_is_printed_last_is_not_lost(fifo: Path) -> None:
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    with printing(f"pipe:{fifo}") as printer:
        put(printer, b"x" * 100_000)
    reader.join(timeout=5)
    assert got == [b"x" * 100_000]


def test_a_socket_on_which_somebody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "lp"))
        server.listen(1)
        server.settimeout(5)
        with printing(f"pipe:{tmp_path / 'lp'}") as printer:
            put(printer, b"to the spooler")
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"status that nobody asked for")
                wait_until(lambda: printer._queue.waiting == 0)  # type: ignore[attr-defined]
                assert peer.recv(100) == b"to the spooler"


@pytest.mark.parametrize("choice", ["", "file:", "pipe:", "lpr", "stdio", "file:a\0b"])
def test_an_unknown_choice_is_refused(choice: str) -> None:
    with pytest.raises(BadOption, match="--parallel"):
        open_parallel(choice, silent)


@pytest.mark.parametrize(
    "choice",
    ["file:/nonexistent/x", "file:{here}", "pipe:{here}", "pipe:/nonexistent", "pipe:/etc/passwd", "file:" + "x" * 300],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(choice: str, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostRefused, match="parallel0"):
        open_parallel(choice.format(here=tmp_path), silent, origin="parallel0")
    assert len(os.listdir("/proc/self/fd")) == before
