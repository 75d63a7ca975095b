"""The 8259A pair: port accesses and lines in, vectors out; and a random comparison with a model of the data sheet."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from tests.vmm.core.interrupt_board import Board


@pytest.fixture
def board() -> Board:
    board = Board()
    board.init_pic()
    return board


def test_a_request_is_delivered_once_and_blocks_its_own_level_until_eoi(board: Board) -> None:
    board.line(3, 1)
    assert board.poll() == 0x23
    board.edge(3)
    assert board.poll() == -1
    board.outb(0x20, 0x20)
    assert board.poll() == 0x23


def test_higher_priority_nests_and_lower_waits(board: Board) -> None:
    board.line(5, 1)
    assert board.poll() == 0x25
    board.line(6, 1)
    assert board.poll() == -1
    board.line(1, 1)
    assert board.poll() == 0x21
    board.outb(0x20, 0x0B)
    assert board.inb(0x20) == 0x22
    board.outb(0x20, 0x20)
    assert board.inb(0x20) == 0x20
    board.outb(0x20, 0x20)
    assert board.poll() == 0x26


def test_slave_requests_come_through_ir2_and_need_two_eois(board: Board) -> None:
    board.line(12, 1)
    assert board.poll() == 0x2C
    board.outb(0xA0, 0x20)
    board.edge(12)
    assert board.poll() == -1
    board.outb(0x20, 0x20)
    assert board.poll() == 0x2C


def test_a_request_that_vanished_after_it_was_seen_is_irq_7_without_isr(board: Board) -> None:
    board.line(4, 1)
    assert board.pending() == 1
    board.line(4, 0)
    assert board.ack() == 0x27
    board.outb(0x20, 0x0B)
    assert board.inb(0x20) == 0


def test_a_slave_request_that_vanished_is_irq_15_and_the_master_wants_an_eoi(board: Board) -> None:
    board.line(10, 1)
    assert board.pending() == 1
    board.line(10, 0)
    assert board.ack() == 0x2F
    board.outb(0xA0, 0x0B)
    board.outb(0x20, 0x0B)
    assert (board.inb(0xA0), board.inb(0x20)) == (0, 4)


def test_nothing_seen_and_nothing_asking_is_no_vector(board: Board) -> None:
    assert board.ack() == -1
    board.line(4, 1)
    board.line(4, 0)
    assert board.ack() == -1


def test_a_level_line_asks_again_after_eoi_while_it_is_held(board: Board) -> None:
    board.outb(0x4D1, 0x08)
    board.line(11, 1)
    assert board.poll() == 0x2B
    board.outb(0xA0, 0x20)
    board.outb(0x20, 0x20)
    assert board.poll() == 0x2B
    board.line(11, 0)
    board.outb(0xA0, 0x20)
    board.outb(0x20, 0x20)
    assert board.poll() == -1


def test_elcr_keeps_timer_keyboard_cascade_rtc_and_fpu_edge_triggered(board: Board) -> None:
    board.outb(0x4D0, 0xFFFF, size=2)
    assert board.inb(0x4D0, size=2) == 0xDEF8


def test_icw1_forgets_edges_and_masks_and_a_high_line_needs_a_new_edge(board: Board) -> None:
    board.line(3, 1)
    board.init_pic()
    assert board.poll() == -1
    board.edge(3)
    assert board.poll() == 0x23


def test_initialisation_without_icw4_takes_two_or_three_words() -> None:
    board = Board()
    board.outb(0x20, 0x10)
    board.outb(0x21, 0x40, 0x04, 0xF7)
    assert board.inb(0x21) == 0xF7
    board.outb(0x20, 0x12)
    board.outb(0x21, 0x48, 0xEF)
    assert board.inb(0x21) == 0xEF
    board.line(4, 1)
    assert board.poll() == 0x4C


def test_mask_writes_read_back_and_hold_requests(board: Board) -> None:
    board.outb(0x21, 0xFB)
    assert board.inb(0x21) == 0xFB
    board.line(1, 1)
    assert board.poll() == -1
    assert board.inb(0x20) == 0x02
    board.outb(0x21, 0xF9)
    assert board.poll() == 0x21


def test_automatic_eoi_leaves_no_service_bit_and_can_rotate() -> None:
    board = Board()
    board.init_pic(icw4=0x03)
    board.outb(0x20, 0x80)
    board.line(1, 1)
    board.line(3, 1)
    assert board.poll() == 0x21
    board.edge(1)
    assert board.poll() == 0x23
    assert board.poll() == 0x21


def test_rotations_and_set_priority(board: Board) -> None:
    board.outb(0x20, 0xC3)  # IR3 lowest: IR4 highest
    board.line(3, 1)
    board.line(4, 1)
    assert board.poll() == 0x24
    board.outb(0x20, 0xA0)  # rotate on non-specific EOI: IR4 lowest
    board.edge(4)
    assert board.poll() == 0x23
    board.outb(0x20, 0xE3)
    assert board.poll() == 0x24
    board.outb(0x20, 0x64)
    board.outb(0x20, 0x0B)
    assert board.inb(0x20) == 0


def test_special_mask_mode_lets_lower_levels_through(board: Board) -> None:
    board.line(2 + 1, 1)
    assert board.poll() == 0x23
    board.line(6, 1)
    assert board.poll() == -1
    board.outb(0x21, 0x08)
    board.outb(0x20, 0x68)
    assert board.poll() == 0x26
    board.outb(0x20, 0x20)  # IS6: IS3 is masked, a non-specific EOI leaves it alone
    board.outb(0x20, 0x0B)
    assert board.inb(0x20) == 0x08
    board.outb(0x20, 0x48)
    board.outb(0x20, 0x20)
    assert board.inb(0x20) == 0


def test_special_fully_nested_mode_takes_a_higher_slave_request_during_service() -> None:
    board = Board()
    board.init_pic(icw4=0x11)
    board.line(14, 1)
    assert board.poll() == 0x2E
    board.line(8, 1)
    assert board.poll() == 0x28
    plain = Board()
    plain.init_pic()
    plain.line(14, 1)
    plain.poll()
    plain.line(8, 1)
    assert plain.poll() == -1


def test_poll_command_acknowledges(board: Board) -> None:
    board.outb(0x20, 0x0C)
    assert board.inb(0x20) == 0
    board.line(5, 1)
    board.outb(0x20, 0x0C)
    assert board.inb(0x20) == 0x85
    board.outb(0x20, 0x0B)
    assert board.inb(0x20) == 0x20
    assert board.poll() == -1


def test_linux_probe_reads_back_what_it_wrote() -> None:
    board = Board()
    board.outb(0xA1, 0xFF)
    board.outb(0x21, 0xFB)
    assert board.inb(0x21) == 0xFB


# ---- against an independent model ----------------------------------------------------------------------------------


@dataclass
class Chip:
    """An 8259A after its data sheet, written without looking at the C: lists and linear searches."""

    master: bool
    line: list[bool] = field(default_factory=lambda: [False] * 8)
    latch: list[bool] = field(default_factory=lambda: [False] * 8)
    service: list[bool] = field(default_factory=lambda: [False] * 8)
    mask: list[bool] = field(default_factory=lambda: [True] * 8)
    level: list[bool] = field(default_factory=lambda: [False] * 8)
    order: list[int] = field(default_factory=lambda: list(range(8)))
    base: int = 0
    words: list[int] = field(default_factory=list)  # ICWs still expected
    single: bool = False
    aeoi: bool = False
    nested: bool = False
    rotate: bool = False
    special: bool = False
    show_service: bool = False
    polling: bool = False

    def drive(self, n: int, level: bool) -> None:
        self.latch[n] = (self.latch[n] or not self.line[n]) if level else False
        self.line[n] = level

    def asks(self, n: int) -> bool:
        return self.line[n] if self.level[n] or (self.master and n == 2) else self.latch[n]

    def bottom(self, n: int) -> None:
        while self.order[-1] != n:
            self.order.append(self.order.pop(0))

    def winner(self) -> int | None:
        if self.words:
            return None
        for n in self.order:
            wants = self.asks(n) and not self.mask[n]
            blocked = self.service[n] and not (self.special and self.mask[n])
            if blocked:
                return n if wants and n == 2 and self.master and self.nested else None
            if wants:
                return n
        return None

    def serve(self, n: int) -> None:
        self.latch[n] = False
        if not self.aeoi:
            self.service[n] = True
        elif self.rotate:
            self.bottom(n)

    def write(self, odd: int, v: int) -> None:
        if odd:
            self.write_odd(v)
        elif v & 0x10:
            self.latch, self.service, self.mask = [False] * 8, [False] * 8, [False] * 8
            self.order = list(range(8))
            self.rotate = self.special = self.show_service = self.polling = False
            self.words = [2] + ([] if v & 2 else [3]) + ([4] if v & 1 else [])
            if not v & 1:
                self.aeoi = self.nested = False
        elif v & 8:
            if v & 0x40:
                self.special = bool(v & 0x20)
            if v & 4:
                self.polling = True
            elif v & 2:
                self.show_service = bool(v & 1)
        else:
            self.command(v >> 5, v & 7)

    def write_odd(self, v: int) -> None:
        if not self.words:
            self.mask = [bool(v >> n & 1) for n in range(8)]
            return
        word = self.words.pop(0)
        if word == 2:
            self.base = v & 0xF8
        elif word == 4:
            self.aeoi, self.nested = bool(v & 2), bool(v & 0x10)

    def command(self, what: int, n: int) -> None:
        if what in {0b000, 0b100}:
            self.rotate = what == 0b100
        if what in {0b011, 0b111}:
            self.service[n] = False
        if what in {0b110, 0b111}:
            self.bottom(n)
        if what in {0b001, 0b101}:
            eligible = [k for k in self.order if self.service[k] and not (self.special and self.mask[k])]
            if eligible:
                self.service[eligible[0]] = False
                if what == 0b101:
                    self.bottom(eligible[0])

    def read(self, odd: int) -> int:
        if self.polling:
            self.polling = False
            n = self.winner()
            if n is None:
                return 0
            self.serve(n)
            return 0x80 | n
        bits = self.mask if odd else self.service if self.show_service else [self.asks(n) for n in range(8)]
        return sum(1 << n for n in range(8) if bits[n])


class Pair:
    """Master and slave, cascaded."""

    def __init__(self) -> None:
        self.chips = (Chip(True), Chip(False))

    def settle(self) -> int | None:
        self.chips[0].drive(2, self.chips[1].winner() is not None)
        return self.chips[0].winner()

    def inta(self) -> int:
        n = self.settle()
        if n is None:
            return -1
        self.chips[0].serve(n)
        if n != 2:
            return self.chips[0].base | n
        s = self.chips[1].winner()
        assert s is not None
        self.chips[1].serve(s)
        return self.chips[1].base | s


LIKELY_EVEN = (0x20, 0x20, 0x20, 0x0A, 0x0B, 0x0C, 0x68, 0x48, 0x80, 0x00, 0xA0, 0x11, 0x13, 0x10)


def step(board: Board, pair: Pair, rng: random.Random) -> tuple[object, object]:
    """One random action on both; what each answered."""
    action = rng.randrange(10)
    chip = rng.randrange(2)
    port = 0xA0 if chip else 0x20
    if action < 3:
        n, level = rng.choice([1, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15]), rng.randrange(2)
        board.line(n, level)
        pair.chips[n >> 3].drive(n & 7, bool(level))
    elif action == 3:
        odd = rng.randrange(2)
        return board.inb(port + odd), pair.chips[chip].read(odd)
    elif action == 4:
        v = rng.randrange(256)
        board.outb(0x4D0 + chip, v)
        pair.chips[chip].level = [bool(v & (0xDE if chip else 0xF8) & 1 << n) for n in range(8)]
    elif action < 8:
        v = rng.choice(LIKELY_EVEN) if rng.random() < 0.7 else rng.randrange(256)
        odd = int(rng.random() < 0.3)
        if odd and rng.random() < 0.5:
            v &= rng.randrange(256)
        board.outb(port + odd, v)
        pair.chips[chip].write(odd, v)
    else:
        return board.poll(), pair.inta()
    return None, None


@pytest.mark.parametrize("seed", range(20))
def test_random_accesses_match_the_data_sheet_model(seed: int) -> None:
    rng = random.Random(seed)
    board, pair = Board(), Pair()
    board.line(0, 0)
    pair.chips[0].line[0] = True  # OUT of counter 0 is high at power-on
    for count in range(3000):
        ours, theirs = step(board, pair, rng)
        assert ours == theirs, f"seed {seed}, action {count}"
        asking = pair.settle() is not None
        assert bool(board.pending()) == asking, f"seed {seed}, after action {count}"
