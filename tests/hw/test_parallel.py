"""The parallel port, played as a BIOS and Linux's parport play it."""

from __future__ import annotations

import pytest

from hw.parallel import Parallel, ParallelState

DATA, STATUS, CONTROL = 0, 1, 2
IDLE, STROBE, IRQ_ENABLE = 0x0C, 0x0D, 0x10


class Board:
    def __init__(self) -> None:
        self.printed = bytearray()
        self.level = False
        self.edges = 0
        self.busy = False
        self.port = Parallel(ParallelState(), self, self)
        self.port.reset()

    def __call__(self, byte: int) -> None:
        self.printed.append(byte)

    def is_busy(self) -> bool:
        return self.busy

    def set_level(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def get(self, offset: int) -> int:
        return self.port.port_read(offset, 1)

    def put(self, offset: int, value: int) -> None:
        self.port.port_write(offset, 1, value)

    def send(self, byte: int, enable: int = 0) -> None:
        self.put(DATA, byte)
        self.put(CONTROL, STROBE | enable)
        self.put(CONTROL, IDLE | enable)


@pytest.fixture
def board() -> Board:
    return Board()


def test_data_and_control_read_back(board: Board) -> None:
    for value in (0x55, 0xAA):
        board.put(DATA, value)
        assert board.get(DATA) == value
    board.put(CONTROL, 0x0C)
    assert board.get(CONTROL) == 0xCC


def test_in_input_direction_data_is_not_the_latch(board: Board) -> None:
    board.put(DATA, 0x12)
    board.put(CONTROL, 0x20)
    assert board.get(DATA) == 0xFF


def test_a_byte_is_printed_at_the_strobe(board: Board) -> None:
    for byte in b"hello":
        board.send(byte)
    assert board.printed == b"hello"
    board.put(CONTROL, STROBE)
    board.put(CONTROL, STROBE)
    assert board.printed == b"helloo", "once for each edge"


def test_a_busy_printer_shows(board: Board) -> None:
    board.busy = True
    assert board.get(STATUS) == 0x5F
    board.busy = False
    assert board.get(STATUS) == 0xDF


def test_status_with_and_without_a_printer(board: Board) -> None:
    assert board.get(STATUS) == 0xDF
    board.port.printer = None
    assert board.get(STATUS) == 0x7F
    board.send(1)
    assert not board.printed


def test_the_acknowledgement_interrupts_once_for_each_byte(board: Board) -> None:
    board.send(1)
    assert not board.level
    board.get(STATUS)
    board.send(2, IRQ_ENABLE)
    board.send(3, IRQ_ENABLE)
    assert (board.level, board.edges) == (True, 2)
    assert board.get(STATUS) == 0xDB
    assert not board.level
    assert board.get(STATUS) == 0xDF


def test_status_is_read_only(board: Board) -> None:
    board.put(STATUS, 0)
    assert board.get(STATUS) == 0xDF
