"""The I/O APIC: redirection entries, edges and levels, remote IRR, and where its messages go."""

from __future__ import annotations

import pytest

from tests.vmm.core.interrupt_board import INIT, IOAPIC_PAGE, NMI, Board, multiprocessor

EOI, LDR, TMR = 0xB0, 0xD0, 0x180
LOWEST, NMI_MODE, INIT_MODE = (n << 8 for n in (1, 4, 5))
LOGICAL, LEVEL, MASKED = 1 << 11, 1 << 15, 1 << 16


@pytest.fixture
def board() -> Board:
    return multiprocessor()


def test_io_apic_registers() -> None:
    board = Board()
    assert board.ioapic_read(1) == 0x00170011
    board.ioapic_write(0, 0xFFFFFFFF)
    assert (board.ioapic_read(0), board.ioapic_read(2)) == (0x0F000000, 0x0F000000)
    for pin in range(24):
        assert (board.ioapic_read(0x10 + 2 * pin), board.ioapic_read(0x11 + 2 * pin)) == (MASKED, 0)
        board.route(pin, 0xFFFFFFFF, 0xA5)
        assert (board.ioapic_read(0x10 + 2 * pin), board.ioapic_read(0x11 + 2 * pin)) == (0x1AFFF, 0xA5000000)
    assert board.ioapic_read(0x40) == 0
    assert board.read(IOAPIC_PAGE + 0x40) == 0


def test_an_edge_pin_sends_once_per_assertion_and_not_while_masked(board: Board) -> None:
    board.route(5, MASKED | 0x45)
    board.edge(5)
    board.route(5, 0x45)
    assert board.poll() == -1
    board.edge(5)
    assert board.poll() == 0x45
    assert 0x45 not in board.requests(bank=TMR)
    board.apic_write(EOI, 0)
    assert board.poll() == -1


def test_irq_0_is_on_pin_2(board: Board) -> None:
    board.route(2, 0x50)
    board.outb(0x43, 0x30)
    board.outb(0x40, 100, 0)
    board.ticks(101)
    board.timers()
    assert board.poll() == 0x50


def test_a_level_pin_holds_remote_irr_until_eoi_and_sends_again_while_asserted(board: Board) -> None:
    board.route(17, LEVEL | 1 << 13 | 0x61, destination=1)
    board.line(17, 1)
    assert board.ioapic_read(0x10 + 34) & 1 << 14
    assert board.poll(1) == 0x61
    assert 0x61 in board.requests(1, TMR)
    board.take_kicks()
    board.apic_write(EOI, 0, 1)
    assert board.take_kicks() & 2
    assert board.poll(1) == 0x61
    board.line(17, 0)
    board.apic_write(EOI, 0, 1)
    assert not board.ioapic_read(0x10 + 34) & 1 << 14
    assert board.poll(1) == -1


def test_a_level_pin_sends_when_it_is_unmasked_or_finds_a_target(board: Board) -> None:
    board.line(16, 1)
    board.route(16, LEVEL | LOGICAL | 0x62, destination=0x80)
    assert board.pending() == 0
    board.apic_write(LDR, 0x80 << 24)
    assert board.poll() == 0x62


def test_switching_to_edge_clears_a_stuck_remote_irr(board: Board) -> None:
    board.route(16, LEVEL | 0x62)
    board.line(16, 1)
    board.poll()
    board.line(16, 0)
    board.ioapic_write(0x10 + 32, MASKED | 0x62)
    board.ioapic_write(0x10 + 32, LEVEL | 0x62)
    assert not board.ioapic_read(0x10 + 32) & 1 << 14


@pytest.mark.parametrize(("pin", "low_active", "at"), [(5, 0, 1), (5, 1, 0), (17, 1, 1), (17, 0, 0)])
def test_edges_follow_the_polarity_of_isa_and_pci_wires(board: Board, pin: int, low_active: int, at: int) -> None:
    board.line(pin, 1 - at)
    board.route(pin, low_active << 13 | 0x47)
    board.line(pin, at)
    assert board.poll() == 0x47
    board.apic_write(EOI, 0)
    board.line(pin, 1 - at)
    assert board.poll() == -1


def test_nmi_and_init_pins(board: Board) -> None:
    board.route(6, NMI_MODE, destination=3)
    board.edge(6)
    assert board.pending(3) == NMI
    board.route(7, INIT_MODE, destination=2)
    board.edge(7)
    assert board.pending(2) == INIT


def test_lowest_priority_pins_spread(board: Board) -> None:
    board.route(10, LOWEST | LOGICAL | 0x70, destination=0x0F)
    seen = set()
    for _ in range(4):
        board.edge(10)
        (cpu,) = (cpu for cpu in range(4) if board.pending(cpu))
        seen.add(cpu)
        board.poll(cpu)
        board.apic_write(EOI, 0, cpu)
    assert seen == {0, 1, 2, 3}


def test_a_pin_kicks_the_vcpu_it_goes_to(board: Board) -> None:
    board.route(5, 0x45, destination=3)
    board.take_kicks()
    board.line(5, 1)
    assert board.take_kicks() == 1 << 3
