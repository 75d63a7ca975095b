"""The 8254 and port 61h: counts and outputs against the data sheet's waveforms, IRQ 0 against the ticks that passed."""

from __future__ import annotations

import random

import pytest

from tests.vmm.core.interrupt_board import PIT_HZ, Board

LOW, HIGH, BOTH = 0x10, 0x20, 0x30


@pytest.fixture
def board() -> Board:
    board = Board()
    board.init_pic()
    board.ticks(5)
    return board


def program(board: Board, counter: int, mode: int, count: int, bcd: int = 0) -> None:
    board.outb(0x43, counter << 6 | BOTH | mode << 1 | bcd)
    board.outb(0x40 + counter, count & 0xFF, count >> 8)


def read_count(board: Board, counter: int) -> int:
    board.outb(0x43, counter << 6)
    low = board.inb(0x40 + counter)
    return low | board.inb(0x40 + counter) << 8


def status(board: Board, counter: int) -> int:
    board.outb(0x43, 0xE0 | 2 << counter)
    return board.inb(0x40 + counter)


def out(board: Board, counter: int) -> int:
    return status(board, counter) >> 7


def gate(board: Board, level: int) -> None:
    board.outb(0x61, level)


# ---- counts --------------------------------------------------------------------------------------------------------


def expected(mode: int, n: int, k: int, modulus: int) -> tuple[int, int]:
    """(count, OUT) k CLK pulses after the one that loaded N: the data sheet's figures, one CLK at a time."""
    if mode in {0, 4}:
        count = (n - k) % modulus
        return count, int(k >= n) if mode == 0 else int(k != n)
    count, level = n, 1
    if mode == 2:
        for _ in range(k):
            count = n if count == 1 else count - 1
        return count, int(count != 1 or n == 1)
    reload, odd = n & ~1, n & 1
    count = reload
    for _ in range(k):
        # The odd high half lasts one CLK longer: it ends one pulse after the count has expired.
        if count == (0 if odd and level else 2):
            count, level = reload, 1 - level
        else:
            count -= 2
    return count, level


@pytest.mark.parametrize("mode", [0, 2, 3, 4])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 9, 10, 11, 100, 101])
def test_every_clk_shows_the_count_and_output_of_the_waveform(mode: int, n: int) -> None:
    board = Board()
    program(board, 0, mode, n)
    board.ticks(1)
    for k in range(3 * n + 2):
        assert (read_count(board, 0), out(board, 0)) == expected(mode, n, k, 65536), f"after {k} CLK"
        board.ticks(1)


@pytest.mark.parametrize("seed", range(10))
def test_random_counts_match_the_closed_form(seed: int) -> None:
    rng = random.Random(seed)
    board = Board()
    gate(board, 1)
    board.advance(rng.randrange(10**14))
    for _ in range(200):
        counter, mode = rng.choice([0, 1, 2]), rng.choice([0, 2, 4])
        n = rng.choice([1 + rng.randrange(1, 50), rng.randrange(2, 65536), 65536])
        bcd = rng.randrange(2) if n <= 9999 else 0
        program(board, counter, mode, int(str(n), 16) if bcd else n & 0xFFFF, bcd)
        k = rng.randrange(200_000)
        board.ticks(1 + k)
        modulus = 10000 if bcd else 65536
        count = n - k % n if mode == 2 else (n - k) % modulus
        assert read_count(board, counter) == (int(str(count), 16) if bcd else count & 0xFFFF)


def test_zero_is_the_largest_count() -> None:
    board = Board()
    program(board, 0, 2, 0)
    board.ticks(1)
    assert read_count(board, 0) == 0
    board.ticks(1)
    assert read_count(board, 0) == 0xFFFF
    program(board, 0, 2, 0, bcd=1)
    board.ticks(2)
    assert read_count(board, 0) == 0x9999


def test_counts_are_right_after_a_year() -> None:
    board = Board()
    board.advance(366 * 86400 * 10**9)
    program(board, 0, 2, 11932)
    board.ticks(1 + 11932 * 1_000_000 + 7)
    assert read_count(board, 0) == 11932 - 7


# ---- latches -------------------------------------------------------------------------------------------------------


def test_a_latched_count_stays_until_read_and_is_not_latched_twice() -> None:
    board = Board()
    program(board, 0, 2, 1000)
    board.ticks(11)
    board.outb(0x43, 0x00)
    board.ticks(100)
    board.outb(0x43, 0x00)
    assert board.inb(0x40) | board.inb(0x40) << 8 == 990
    assert board.inb(0x40) | board.inb(0x40) << 8 == 890


def test_a_control_word_drops_what_was_latched() -> None:
    board = Board()
    program(board, 0, 2, 1000)
    board.ticks(11)
    board.outb(0x43, 0x00, 0xE2, 0xD2)
    program(board, 0, 2, 500)
    board.ticks(1)
    assert board.inb(0x40) | board.inb(0x40) << 8 == 500


def test_a_control_word_restarts_the_byte_sequence() -> None:
    board = Board()
    board.outb(0x43, BOTH | 2 << 1)
    board.outb(0x40, 0x55)
    program(board, 0, 2, 0x1234)
    board.ticks(1)
    assert read_count(board, 0) == 0x1234


def test_read_back_latches_status_and_count_of_several_counters() -> None:
    board = Board()
    gate(board, 1)
    program(board, 0, 2, 1000)
    program(board, 2, 3, 2000)
    board.ticks(1)
    board.outb(0x43, 0xC0 | 2 | 8)
    board.ticks(50)
    assert board.inb(0x40) == 0x80 | BOTH | 2 << 1
    assert board.inb(0x40) | board.inb(0x40) << 8 == 1000
    assert board.inb(0x42) == 0x80 | BOTH | 3 << 1
    assert board.inb(0x42) | board.inb(0x42) << 8 == 2000


def test_null_count_lasts_until_the_count_is_loaded() -> None:
    board = Board()
    board.outb(0x43, BOTH | 2 << 1)
    assert status(board, 0) & 0x40
    board.outb(0x40, 100, 0)
    assert status(board, 0) & 0x40
    board.ticks(1)
    assert not status(board, 0) & 0x40
    board.outb(0x40, 50, 0)
    assert status(board, 0) & 0x40
    board.ticks(100)
    assert not status(board, 0) & 0x40


@pytest.mark.parametrize(("access", "written", "count"), [(LOW, 0x34, 0x34), (HIGH, 0x12, 0x1200)])
def test_one_byte_access_writes_the_other_byte_as_zero(access: int, written: int, count: int) -> None:
    board = Board()
    board.outb(0x43, access | 2 << 1)
    board.outb(0x40, written)
    board.ticks(1)
    assert board.inb(0x40) == written
    board.ticks(count)
    assert board.inb(0x40) == written


def test_modes_6_and_7_are_2_and_3() -> None:
    board = Board()
    board.outb(0x43, BOTH | 6 << 1)
    assert status(board, 0) & 0x0E == 2 << 1
    board.outb(0x43, BOTH | 7 << 1)
    assert status(board, 0) & 0x0E == 3 << 1


def test_the_control_port_reads_nothing() -> None:
    assert Board().inb(0x43) == 0xFF


# ---- new counts while running --------------------------------------------------------------------------------------


def test_mode_2_takes_a_new_count_at_the_end_of_its_cycle() -> None:
    board = Board()
    program(board, 0, 2, 100)
    board.ticks(31)
    board.outb(0x40, 40, 0)
    board.ticks(10)
    assert read_count(board, 0) == 60
    board.ticks(60)
    assert read_count(board, 0) == 40
    board.ticks(41)
    assert read_count(board, 0) == 39


@pytest.mark.parametrize("counter", [0, 2])
def test_a_plain_read_sees_the_count_that_took_over(counter: int) -> None:
    board = Board()
    gate(board, 1)
    program(board, counter, 2, 100)
    board.ticks(31)
    board.outb(0x40 + counter, 40, 0)
    board.ticks(70)
    assert board.inb(0x40 + counter) | board.inb(0x40 + counter) << 8 == 40


def test_mode_3_takes_a_new_count_at_the_end_of_its_half_cycle() -> None:
    board = Board()
    program(board, 0, 3, 100)
    board.ticks(11)
    board.outb(0x40, 20, 0)
    board.ticks(39)
    assert (read_count(board, 0), out(board, 0)) == (2, 1)
    board.ticks(1)
    assert (read_count(board, 0), out(board, 0)) == (20, 0)
    board.ticks(10)
    assert (read_count(board, 0), out(board, 0)) == (20, 1)


def test_mode_3_switches_in_its_first_half_cycle_after_power_on() -> None:
    board = Board()
    program(board, 0, 3, 4)
    board.ticks(1)
    board.outb(0x40, 0, 0)
    board.ticks(2)
    assert (read_count(board, 0), out(board, 0)) == (0, 0)
    board.ticks(32768)
    assert out(board, 0) == 1


def test_the_first_byte_of_a_mode_0_count_takes_out_low_and_stops() -> None:
    board = Board()
    program(board, 0, 0, 10)
    board.ticks(15)
    assert out(board, 0) == 1
    board.outb(0x40, 20)
    assert out(board, 0) == 0
    at = read_count(board, 0)
    assert at == 10 - 14 & 0xFFFF
    board.ticks(5)
    assert read_count(board, 0) == at
    board.outb(0x40, 0)
    board.ticks(21)
    assert out(board, 0) == 1


# ---- gate of counter 2 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, 4])
def test_gate_pauses_modes_0_and_4(mode: int) -> None:
    board = Board()
    gate(board, 1)
    program(board, 2, mode, 1000)
    board.ticks(101)
    gate(board, 0)
    board.ticks(500)
    assert read_count(board, 2) == 900
    gate(board, 1)
    board.ticks(50)
    assert read_count(board, 2) == 850


def test_a_count_written_with_gate_low_waits_in_mode_0() -> None:
    """What TSC calibration does: count first, then the gate."""
    board = Board()
    gate(board, 0)
    program(board, 2, 0, 5000)
    board.ticks(100)
    assert (read_count(board, 2), board.inb(0x61) & 0x20) == (5000, 0)
    gate(board, 1)
    board.ticks(4999)
    assert not board.inb(0x61) & 0x20
    board.ticks(1)
    assert board.inb(0x61) & 0x20


@pytest.mark.parametrize("mode", [2, 3])
def test_gate_low_sets_out_high_and_the_rising_edge_reloads(mode: int) -> None:
    board = Board()
    gate(board, 1)
    program(board, 2, mode, 100)
    board.ticks(1 + 99)
    assert not board.inb(0x61) & 0x20
    gate(board, 0)
    assert board.inb(0x61) & 0x20
    stopped = read_count(board, 2)
    board.ticks(33)
    assert read_count(board, 2) == stopped
    gate(board, 1)
    board.ticks(1)
    assert read_count(board, 2) == 100


def test_mode_1_is_a_retriggerable_one_shot() -> None:
    board = Board()
    gate(board, 0)
    program(board, 2, 1, 10)
    board.ticks(50)
    assert out(board, 2) == 1
    gate(board, 1)
    assert out(board, 2) == 1
    board.ticks(1)
    assert (out(board, 2), read_count(board, 2)) == (0, 10)
    board.ticks(6)
    gate(board, 0)
    gate(board, 1)
    board.ticks(10)
    assert out(board, 2) == 0
    board.ticks(1)
    assert out(board, 2) == 1


def test_mode_5_strobes_for_one_clk_after_its_trigger() -> None:
    board = Board()
    gate(board, 0)
    program(board, 2, 5, 10)
    gate(board, 1)
    levels = []
    for _ in range(20):
        board.ticks(1)
        levels.append(out(board, 2))
    assert levels == [1] * 10 + [0] + [1] * 9


# ---- port 61h ------------------------------------------------------------------------------------------------------


def test_refresh_toggles_every_15_us() -> None:
    board = Board()
    board.advance(10**9)
    toggles, last = 0, board.inb(0x61) & 0x10
    for _ in range(10_000):
        board.advance(1000)
        now = board.inb(0x61) & 0x10
        toggles += now != last
        last = now
    assert toggles == pytest.approx(10_000_000 / 15085, abs=2)


def test_port_61_keeps_four_bits() -> None:
    board = Board()
    gate(board, 0xFF)
    assert board.inb(0x61) & 0x0F == 0x0F
    assert board.inb(0x61) & 0xC0 == 0


# ---- IRQ 0 ---------------------------------------------------------------------------------------------------------


def handle(board: Board) -> int:
    """Deliver and finish every interrupt that waits; how many were IRQ 0."""
    count = 0
    while (vector := board.poll()) != -1:
        count += vector == 0x20
        board.outb(0x20, 0x20)
    return count


@pytest.mark.parametrize("mode", [2, 3])
def test_a_periodic_counter_interrupts_once_per_period(board: Board, mode: int) -> None:
    program(board, 0, mode, 1193)
    handled = 0
    start = board.now
    while board.now - start < 10**9:
        assert board.sleep() > 0
        handled += handle(board)
    assert handled == pytest.approx(PIT_HZ / 1193, abs=1)


@pytest.mark.parametrize(("mode", "extra"), [(0, 0), (4, 1)])
def test_a_one_shot_counter_interrupts_once_at_its_terminal_count(board: Board, mode: int, extra: int) -> None:
    program(board, 0, mode, 1000)
    assert handle(board) == 0
    board.ticks(1 + 1000 + extra - 1)
    board.timers()
    assert handle(board) == 0
    board.ticks(1)
    assert board.timers() == 0xFFFFFFFF_FFFFFFFF
    assert handle(board) == 1
    board.ticks(200_000)
    board.timers()
    assert handle(board) == 0


def test_a_new_one_shot_takes_back_a_request_that_waited(board: Board) -> None:
    program(board, 0, 0, 100)
    board.ticks(101)
    board.timers()
    assert board.pending() == 1
    program(board, 0, 0, 100)
    assert board.pending() == 0
    board.ticks(101)
    board.timers()
    assert handle(board) == 1


@pytest.mark.parametrize("icw4", [0x01, 0x03])
def test_late_ticks_are_delivered_one_after_the_other(icw4: int) -> None:
    board = Board()
    board.init_pic(icw4=icw4)
    program(board, 0, 2, 1193)
    board.ticks(1 + 1193 * 7 + 5)
    board.timers()
    assert handle(board) == 7
    board.ticks(1193)
    board.timers()
    assert handle(board) == 1


def test_late_ticks_reach_the_io_apic_too() -> None:
    board = Board()
    board.init_apic()
    board.outb(0x21, 0x00)  # left open: nothing acknowledges the 8259s now
    board.route(2, 0x31)
    program(board, 0, 2, 1193)
    handled = 0
    for _ in range(4):
        board.ticks(1 + 1193 * 3)
        board.timers()
        while (vector := board.poll()) != -1:
            assert vector == 0x31
            handled += 1
            board.apic_write(0xB0, 0)
    assert handled == 12


def test_masked_ticks_are_not_kept_but_the_latest_is_a_request(board: Board) -> None:
    board.outb(0x21, 0x01)
    program(board, 0, 2, 1193)
    board.ticks(1 + 1193 * 100)
    board.timers()
    board.outb(0x21, 0x00)
    assert handle(board) == 1


def test_the_backlog_is_bounded(board: Board) -> None:
    program(board, 0, 2, 2)
    board.ticks(1 + 2 * 100_000)
    board.timers()
    program(board, 0, 2, 2)  # a new control word forgets them
    assert handle(board) == 1
    board.ticks(1 + 2 * 100_000)
    board.timers()
    assert board.state.pit.backlog == 4096
    assert board.state.pit.lost > 90_000


def test_polling_irr_sees_a_terminal_count_without_a_runner(board: Board) -> None:
    board.outb(0x21, 0xFF)
    program(board, 0, 0, 50)
    assert board.inb(0x20) & 1 == 0
    board.ticks(51)
    assert board.inb(0x20) & 1 == 1


def test_programming_the_counter_asks_for_vcpu_0s_runner(board: Board) -> None:
    board.take_kicks()
    program(board, 0, 2, 1193)
    assert board.take_kicks() & 1
