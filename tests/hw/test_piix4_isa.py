"""PIRQ routing: both destinations of each link, sharing, moving."""

from __future__ import annotations

import pytest

from hw.bus import PortBus
from hw.mmio import MmioSpace
from hw.pci import PciBuses, PciLinks
from hw.piix4_isa import Piix4Isa, Piix4IsaState


class Line:
    level = False

    def set_level(self, level: bool) -> None:
        self.level = level


class Board:
    def __init__(self, state: Piix4IsaState | None = None) -> None:
        self.links, self.lines = PciLinks(), [Line() for _ in range(24)]
        buses = PciBuses(PortBus(), MmioSpace())
        self.isa = Piix4Isa(state or Piix4IsaState(), buses, self.links, self.lines)
        if state is None:
            self.isa.reset()
        self.scsi, self.nic = self.links.pin(16, 1), self.links.pin(17, 1)  # links 1 and 2

    def route(self, link: int, value: int) -> None:
        self.isa.config_write(0x60 + link, 1, value)

    def high(self) -> list[int]:
        return [number for number, line in enumerate(self.lines) if line.level]


@pytest.fixture
def board() -> Board:
    return Board()


def test_identification(board: Board) -> None:
    assert board.isa.config_read(0, 4) == 0x71108086
    assert board.isa.config_read(8, 4) == 0x06010008
    assert board.isa.config_read(0x0E, 1) == 0x80
    assert board.isa.config_read(4, 4) == 0x02800007
    board.isa.config_write(4, 2, 0)
    assert board.isa.config_read(4, 2) == 7


def test_after_reset_a_link_reaches_only_its_io_apic_input(board: Board) -> None:
    assert board.isa.config_read(0x60, 4) == 0x80808080
    board.scsi.set_level(True)
    assert board.high() == [17]
    board.nic.set_level(True)
    assert board.high() == [17, 18]


def test_a_routed_link_drives_its_irq_too(board: Board) -> None:
    board.route(1, 9)
    board.route(2, 11)
    board.scsi.set_level(True)
    assert board.high() == [9, 17]
    board.nic.set_level(True)
    board.scsi.set_level(False)
    assert board.high() == [11, 18]


def test_links_that_share_an_irq_are_ored(board: Board) -> None:
    board.route(1, 10)
    board.route(2, 10)
    board.scsi.set_level(True)
    board.nic.set_level(True)
    board.scsi.set_level(False)
    assert board.high() == [10, 18]
    board.nic.set_level(False)
    assert board.high() == []


def test_routing_elsewhere_takes_the_level_along(board: Board) -> None:
    board.route(1, 9)
    board.scsi.set_level(True)
    board.route(1, 5)
    assert board.high() == [5, 17]
    board.route(1, 0x85)
    assert board.high() == [17]
    board.isa.config_write(0x60, 4, 0x0A0A0B80)
    assert board.high() == [11, 17]


@pytest.mark.parametrize("irq", [0, 1, 2, 8, 13])
def test_an_irq_that_no_link_can_have_is_not_driven(board: Board, irq: int) -> None:
    board.route(1, irq)
    board.scsi.set_level(True)
    assert board.high() == [17]
    assert board.scsi.irq() == 0xFF


def test_the_pin_knows_where_it_is_routed(board: Board) -> None:
    assert board.scsi.irq() == 0xFF
    board.route(1, 9)
    assert (board.scsi.irq(), board.nic.irq()) == (9, 0xFF)


def test_a_restored_bridge_drives_what_it_drove(board: Board) -> None:
    board.route(1, 9)
    board.scsi.set_level(True)
    other = Board(Piix4IsaState.from_buffer_copy(board.isa.state))
    other.isa.sync()
    other.scsi.set_level(True)
    assert other.high() == board.high()
    board.isa.reset()
    assert board.high() == [17]
