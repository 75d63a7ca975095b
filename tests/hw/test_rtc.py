"""The clock chip on the core's real counters, played as firmware, Linux's rtc-cmos and a clock on the wall play it."""

from __future__ import annotations

import datetime

import pytest

from hw.rtc import CmosFacts, Rtc, RtcState, civil, day_number
from hw.rtc_spec import Boot
from vmm.interrupts import ClockMode, Interrupts
from vmm.layout_spec import InterruptPage

S = 10**9
PF, AF, UF = 0x40, 0x20, 0x10
START = datetime.datetime(2006, 12, 31, 23, 59, 58, tzinfo=datetime.UTC)


class Board:
    """An RTC, the core, and a wall clock at START. Guest time is at `advance`'s mercy."""

    def __init__(self, local_time: bool = False) -> None:
        self.interrupts = Interrupts(InterruptPage())
        self.interrupts.power_on(1, 2_000_000_000)
        self.interrupts.set_clock(ClockMode.COUNTED)
        self.interrupts.resume()
        self.interrupts.advance(5 * S)
        self.rtc = Rtc(RtcState(), self.interrupts, self, local_time=local_time)
        self.rtc.reset()

    def now_ns(self) -> int:
        return int(START.timestamp()) * S

    def zone_minutes(self) -> int:
        return 60

    def get(self, index: int) -> int:
        self.rtc.port_write(0, 1, index)
        return self.rtc.port_read(1, 1)

    def put(self, index: int, value: int) -> None:
        self.rtc.port_write(0, 1, 0x80 | index)
        self.rtc.port_write(1, 1, value)

    def advance(self, ns: int) -> None:
        self.interrupts.advance(ns)

    def time(self) -> list[int]:
        """Century, year, month, day, weekday, hours, minutes, seconds, as they read."""
        return [self.get(index) for index in (0x32, 9, 8, 7, 6, 4, 2, 0)]

    def alarm(self, hour: int, minute: int, second: int) -> None:
        for index, value in ((5, hour), (3, minute), (1, second)):
            self.put(index, value)

    def causes(self) -> int:
        return self.get(0x0C) & 0x70


@pytest.fixture
def board() -> Board:
    return Board()


def test_the_wall_clock_reads_in_bcd(board: Board) -> None:
    assert board.time() == [0x20, 0x06, 0x12, 0x31, 1, 0x23, 0x59, 0x58]


def test_the_port_of_the_index_is_write_only(board: Board) -> None:
    assert board.rtc.port_read(0, 1) == 0xFF


def test_local_time_is_added_when_asked_for() -> None:
    assert Board(local_time=True).time() == [0x20, 0x07, 0x01, 0x01, 2, 0x00, 0x59, 0x58]


def test_the_year_rolls_over(board: Board) -> None:
    board.advance(2 * S - 1)
    assert board.time()[-3:] == [0x23, 0x59, 0x59]
    board.advance(1)
    assert board.time() == [0x20, 0x07, 0x01, 0x01, 2, 0, 0, 0]


def test_binary_and_twelve_hours(board: Board) -> None:
    board.put(0x0B, 0x04)
    assert board.time() == [20, 6, 12, 31, 1, 0x80 | 11, 59, 58]
    board.advance(2 * S)
    assert board.time()[5] == 12, "midnight is 12 am"


def test_linux_sets_the_time(board: Board) -> None:
    """As mc146818_set_time: SET, divider held, registers, then both let go: half a second to the next update."""
    board.put(0x0B, 0x82)
    board.put(0x0A, 0x76)
    for index, value in ((9, 0x00), (8, 0x02), (7, 0x28), (6, 2), (4, 0x23), (2, 0x59), (0, 0x59), (0x32, 0x20)):
        board.put(index, value)
    board.advance(10 * S)
    assert board.time()[-1] == 0x59
    board.put(0x0B, 0x02)
    board.put(0x0A, 0x26)
    board.advance(S // 2 - 1)
    assert board.time() == [0x20, 0x00, 0x02, 0x28, 2, 0x23, 0x59, 0x59]
    board.advance(1)
    assert board.time() == [0x20, 0x00, 0x02, 0x29, 3, 0, 0, 0]


def test_a_write_without_set_counts_on_at_once(board: Board) -> None:
    board.put(4, 0x07)
    board.advance(S)
    assert board.time()[-3:] == [0x07, 0x59, 0x59]


def test_uip_shows_before_an_update_only(board: Board) -> None:
    assert board.get(0x0A) == 0x26
    board.advance(S - 244_000)
    assert board.get(0x0A) == 0xA6
    board.advance(244_000)
    assert board.get(0x0A) == 0x26
    board.put(0x0B, 0x82)
    board.advance(S - 1)
    assert board.get(0x0A) == 0x26, "SET holds updates back"


def test_update_interrupt_and_register_c(board: Board) -> None:
    board.causes()
    board.put(0x0B, 0x12)
    board.advance(S)
    assert board.get(0x0C) & ~PF == 0x80 | UF, "PF comes at its rate, enabled or not"
    assert board.get(0x0C) == 0


def test_periodic_interrupt_at_1024_hz(board: Board) -> None:
    board.put(0x0B, 0x42)
    board.causes()
    board.advance(976_563)
    assert board.causes() & PF
    assert not board.causes() & PF


def test_a_held_divider_stops_the_periodic_interrupt(board: Board) -> None:
    board.put(0x0A, 0x66)
    board.causes()
    board.advance(3 * S)
    assert board.causes() == 0


@pytest.mark.parametrize(
    ("alarm", "waits"),
    [
        ((0x00, 0x00, 0x01), [3, 86400, 86400]),
        ((0xFF, 0xFF, 0xFF), [1, 1, 1]),
        ((0xFF, 0xFF, 0x30), [32, 60, 60]),
        ((0xC0, 0x30, 0x00), [1802, 3600, 3600]),
        ((0xFF, 0x00, 0xFF), [2, *[1] * 59, 3541, 1]),
        ((0x23, 0x59, 0x58), [86400]),
    ],
)
def test_alarms_repeat(board: Board, alarm: tuple[int, int, int], waits: list[int]) -> None:
    board.put(0x0B, 0x22)
    board.alarm(*alarm)
    board.causes()
    for wait in waits:
        board.advance(wait * S - 1)
        assert not board.causes() & AF
        board.advance(1)
        assert board.causes() & AF


def test_an_alarm_in_twelve_hour_mode(board: Board) -> None:
    board.put(0x0B, 0x20)
    board.alarm(0x92, 0x00, 0x00)
    board.causes()
    board.advance((2 + 12 * 3600) * S - 1)
    assert not board.causes() & AF
    board.advance(1)
    assert board.causes() & AF


def test_an_impossible_alarm_never_comes(board: Board) -> None:
    board.put(0x0B, 0x22)
    board.alarm(0x25, 0x00, 0x00)
    board.causes()
    board.advance(3 * 86400 * S)
    assert not board.causes() & AF


def test_reset_keeps_time_and_memory_but_not_the_enables(board: Board) -> None:
    board.put(0x0F, 0x0A)
    board.put(0x0B, 0x7A)
    board.advance(S)
    board.rtc.reset()
    assert (board.get(0x0B), board.get(0x0F), board.get(0x0D)) == (0x02, 0x0A, 0x80)
    assert board.time()[-1] == 0x59
    assert board.causes() == 0


def test_c_and_d_ignore_writes(board: Board) -> None:
    board.put(0x0C, 0xFF)
    board.put(0x0D, 0x00)
    assert board.get(0x0D) == 0x80


def test_firmware_finds_memory_processors_and_boot_order(board: Board) -> None:
    board.rtc.configure(CmosFacts(256 << 10, cpus=4, floppies=0x40, boot=(Boot.CD, Boot.DISK)))
    read = {index: board.get(index) for index in (0x10, 0x14, 0x15, 0x16, 0x17, 0x18, 0x34, 0x35, 0x38, 0x3D, 0x5F)}
    assert read == {
        0x10: 0x40, 0x14: 0x07, 0x15: 0x80, 0x16: 0x02, 0x17: 0xFF, 0x18: 0xFF,
        0x34: 0x00, 0x35: 0x0F, 0x38: 0x01, 0x3D: 0x23, 0x5F: 3,
    }  # fmt: skip


def test_the_calendar_agrees_with_pythons() -> None:
    epoch = datetime.date(1970, 1, 1).toordinal()
    for ordinal in range(1, datetime.date(9999, 12, 31).toordinal(), 97):
        date = datetime.date.fromordinal(ordinal)
        assert civil(ordinal - epoch) == (date.year, date.month, date.day)
        assert day_number(date.year, date.month, date.day) == ordinal - epoch
