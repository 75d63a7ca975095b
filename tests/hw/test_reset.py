"""Ports 92h and CF9h and the A20 gate."""

from __future__ import annotations

import pytest

from hw.bus import PortBus
from hw.pci import PciHost, PciHostState
from hw.pci_spec import CONFIG_ADDRESS
from hw.reset import PORT_92, A20Gate, FastReset, ResetState


class Board:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.a20 = True
        self.gate = A20Gate(self)
        self.keyboard = self.gate.control()
        self.bus = PortBus()
        self.fast = FastReset(ResetState(), self.gate.control(), self)
        self.bus.claim(PORT_92, 1, self.fast)
        self.bus.claim(CONFIG_ADDRESS, PciHost.PORTS, PciHost(PciHostState(), self.fast.control), width=4)
        self.fast.reset()

    def set_a20(self, on: bool) -> None:
        self.a20 = on

    def reset_machine(self) -> None:
        self.log.append("machine")

    def reset_processor(self) -> None:
        self.log.append("processor")


@pytest.fixture
def board() -> Board:
    return Board()


def test_address_line_20_follows_port_92_and_the_keyboard_controller(board: Board) -> None:
    assert not board.a20
    board.bus.write(0x92, 1, board.bus.read(0x92, 1) | 2)
    assert board.a20
    board.keyboard.set_a20(True)
    board.bus.write(0x92, 1, 0)
    assert board.a20, "either opens it"
    board.keyboard.set_a20(False)
    assert not board.a20


def test_port_92_reads_back_what_it_has(board: Board) -> None:
    board.bus.write(0x92, 1, 0xFE)
    assert board.bus.read(0x92, 1) == 0x02


def test_fast_init_is_an_edge(board: Board) -> None:
    board.bus.write(0x92, 1, 3)
    board.bus.write(0x92, 1, 3)
    assert board.log == ["processor"]
    board.bus.write(0x92, 1, 2)
    board.bus.write(0x92, 1, 3)
    assert board.log == ["processor"] * 2


@pytest.mark.parametrize(("writes", "expected"), [
    ((0x02, 0x06), ["machine"]), ((0x06,), ["machine"]), ((0x00, 0x04), ["processor"]),
    ((0x06, 0x06), ["machine"]), ((0x02,), []), ((0x06, 0x02, 0x06), ["machine"] * 2),
])  # fmt: skip
def test_cf9_resets_when_bit_2_rises(board: Board, writes: tuple[int, ...], expected: list[str]) -> None:
    for value in writes:
        board.bus.write(0xCF9, 1, value)
    assert board.log == expected
    assert board.bus.read(0xCF9, 1) == writes[-1]


def test_cf9_is_no_part_of_the_configuration_address(board: Board) -> None:
    board.bus.write(0xCF8, 4, 0x80000600)
    assert board.log == []
    board.bus.write(0xCF9, 1, 2)
    assert board.bus.read(0xCF8, 4) == 0x80000600
    board.bus.write(0xCF8, 2, 0x0606)
    assert board.log == []


def test_reset_shuts_and_clears(board: Board) -> None:
    board.bus.write(0x92, 1, 2)
    board.bus.write(0xCF9, 1, 2)
    board.fast.reset()
    assert (board.a20, board.bus.read(0x92, 1), board.bus.read(0xCF9, 1)) == (False, 0, 0)
