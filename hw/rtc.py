"""Motorola MC146818 real-time clock with 128 bytes of CMOS memory, ports 70h and 71h.

The registers are here; the periodic, alarm and update interrupts with register C are the core's, which is told by
`program_rtc` when seconds begin and when the next alarm is. Time is `seconds`, counted on the guest clock since
`second_ns`; the registers are brought up to date when they are read. A clock whose VRT bit is clear has lost its
battery: reset then loads defaults and the wall clock.
Not modelled: daylight saving (DSE is stored), the square wave, the second bank at 72h. The century (32h) follows the
year, which the chip alone would not do. Time before the machine's power-on cannot hold the start of a second: a divider
released in the first half second updates at one second.
Source: Motorola MC146818 data sheet, cited as [ds].
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import LittleEndianStructure, c_int64, c_uint8, c_uint64, sizeof
from dataclasses import dataclass
from typing import Protocol

from hw.rtc_spec import (
    ALARM_ANY,
    ALARMS,
    BASE_MEMORY_KIB,
    BOOT_FLAG_VALID,
    CLEARED_BY_RESET,
    CMOS_BYTES,
    COLD_A,
    COLD_B,
    D_VRT,
    DIVIDER_RELEASE_NS,
    DV_RESET,
    DV_RUNNING,
    EQUIPMENT_PC,
    FLOPPY_SIGNATURE_UNCHECKED,
    HOURS_PM,
    TIME,
    UIP_NS,
    Boot,
    Index,
    RegA,
    RegB,
)
from hw.wiring import WallClock

NS_PER_S = 1_000_000_000
DAY_S = 86400
DAYS_0000_TO_1970 = 719_468  # from 0000-03-01, where a year's leap day is its last
WEEKDAY_OF_1970 = 4  # Thursday, Sunday being 0
NEVER = 0xFFFFFFFF_FFFFFFFF
SET, UIP, DV, HOURS_24, DM = int(RegB.SET), int(RegA.UIP), int(RegA.DV), int(RegB.HOURS_24), int(RegB.DM)
A, B, C, D = int(Index.A), int(Index.B), int(Index.C), int(Index.D)


class RtcCore(Protocol):
    """The core's share of the chip, and the guest clock."""

    @property
    def now_ns(self) -> int: ...

    def program_rtc(
        self, reg_a: int, reg_b: int, second_ns: int, alarm_ns: int = NEVER, alarm_period_ns: int = 0
    ) -> None:
        """Rate and enables; guest time of the last full second, of the next alarm, and from it to the one after."""

    def read_rtc_c(self) -> int:
        """Register C. Reading clears it and drops IRQ 8."""


@dataclass(frozen=True, slots=True)
class CmosFacts:
    """What firmware finds in CMOS. Floppies are drive types (4: 1.44 MB), A in the upper nibble."""

    memory_kib: int
    cpus: int = 1
    floppies: int = 0
    boot: Sequence[Boot] = (Boot.DISK, Boot.CD, Boot.NETWORK)


class RtcState(LittleEndianStructure):
    """All guest-visible state that is not the core's. Register C's byte is unused."""

    _fields_ = [
        ("seconds", c_int64),
        ("second_ns", c_uint64),
        ("index", c_uint8),
        ("weekday_shift", c_uint8),
        ("reserved", c_uint8 * 6),
        ("cmos", c_uint8 * CMOS_BYTES),
    ]


assert sizeof(RtcState) == 24 + CMOS_BYTES


class Rtc:
    """The clock chip. `configure` is for whoever sets the machine up."""

    State = RtcState

    def __init__(self, state: RtcState, core: RtcCore, wall: WallClock, *, local_time: bool = False) -> None:
        """Wire only. `local_time`: the chip is set to local time instead of UTC."""
        self.state, self.core, self.wall, self.local_time = state, core, wall, local_time

    def reset(self) -> None:
        """RESET#: interrupts off; time, alarm and memory stay. [ds: RESET]"""
        s = self.state
        if not s.cmos[D] & D_VRT:
            self._cold_start()
        s.cmos[B] &= ~int(CLEARED_BY_RESET) & 0xFF
        self.sync()
        self.core.read_rtc_c()

    def configure(self, facts: CmosFacts) -> None:
        """Memory sizes, floppies, boot order and processors, where firmware looks for them."""
        extended = max(0, min(facts.memory_kib - 1024, 0xFFFF))
        above_16_mib = max(0, min((facts.memory_kib - (16 << 10)) // 64, 0xFFFF))
        drives = sum(1 for shift in (4, 0) if facts.floppies >> shift & 0xF)
        boot = [*facts.boot, Boot.NONE, Boot.NONE, Boot.NONE][:3]
        cmos = self.state.cmos
        cmos[Index.FLOPPIES] = facts.floppies
        cmos[Index.EQUIPMENT] = EQUIPMENT_PC | (1 | drives - 1 << 6 if drives else 0)
        cmos[Index.BOOT_ORDER] = boot[0] | boot[1] << 4
        cmos[Index.BOOT_THIRD] = boot[2] << 4 | FLOPPY_SIGNATURE_UNCHECKED
        cmos[Index.CPUS] = facts.cpus - 1
        cmos[Index.BOOT_FLAG] = BOOT_FLAG_VALID
        for index, value in (
            (Index.BASE_KIB, BASE_MEMORY_KIB),
            (Index.EXTENDED_KIB, extended),
            (Index.EXTENDED_KIB_FOUND, extended),
            (Index.ABOVE_16_MIB, above_16_mib),
        ):
            cmos[index], cmos[index + 1] = value & 0xFF, value >> 8

    def set_time(self, utc_ns: int, zone_minutes: int = 0) -> None:
        """Set the chip's clock (ns since 1970; minutes to add if it keeps local time) as from now."""
        now, s = self.core.now_ns, self.state
        shown_ns = utc_ns + (zone_minutes * 60 * NS_PER_S if self.local_time else 0)
        s.seconds, phase = divmod(shown_ns, NS_PER_S)
        if phase > now:  # the second began before guest time did: show the next one from there on
            s.seconds += 1
            phase = 0
        s.second_ns = now - phase
        s.weekday_shift = 0
        self._show()
        self.sync()

    # from the guest

    def port_read(self, offset: int, width: int) -> int:
        if not offset:
            return 0xFF  # 70h is write-only
        index = self.state.index & 0x7F
        if index in TIME:
            self._advance()
        elif index == A:
            return self._read_a()
        elif index == C:
            return self._read_c()
        return int(self.state.cmos[index])

    def port_write(self, offset: int, width: int, value: int) -> None:
        s = self.state
        if not offset:
            s.index = value & 0x7F  # bit 7 masks NMI, which nothing raises
            return
        index = s.index & 0x7F
        if index in TIME:
            self._advance()
            s.cmos[index] = value
            if not s.cmos[B] & SET:
                self._take()
                self.sync()
        elif index in ALARMS:
            s.cmos[index] = value
            self.sync()
        elif index == A:
            self._write_a(value)
        elif index == B:
            self._write_b(value)
        elif index not in (C, D):
            s.cmos[index] = value

    # register handlers

    def _read_a(self) -> int:
        """UIP announces an update; none comes while SET or the divider stops them. [ds: UIP]"""
        s = self.state
        if not self._counting():
            return s.cmos[A] & ~UIP
        into = (self.core.now_ns - s.second_ns) % NS_PER_S
        return s.cmos[A] & ~UIP | (UIP if into >= NS_PER_S - UIP_NS else 0)

    def _write_a(self, value: int) -> None:
        """Time stands while the divider is held; released, it updates half a second later. [ds: DV]"""
        s = self.state
        self._advance()
        held, s.cmos[A] = s.cmos[A] & DV, value & ~UIP
        if held >= DV_RESET and value & DV == DV_RUNNING:
            s.second_ns = max(0, self.core.now_ns + DIVIDER_RELEASE_NS - NS_PER_S)
        self.sync()

    def _write_b(self, value: int) -> None:
        """SET freezes the registers for the guest to write; clearing it takes them as the time. [ds: SET]"""
        s = self.state
        self._advance()
        was, s.cmos[B] = s.cmos[B], value
        if was & SET and not value & SET:
            self._take()
        elif (was ^ value) & (HOURS_24 | DM) and not value & SET:
            self._show()
        self.sync()

    def _read_c(self) -> int:
        value = self.core.read_rtc_c()
        if self.state.cmos[B] & RegB.AIE:
            self.sync()  # an alarm with a field of its own in the middle does not repeat evenly
        return value

    # time

    def _cold_start(self) -> None:
        s = self.state
        s.cmos[:] = [0] * CMOS_BYTES
        s.cmos[A], s.cmos[B], s.cmos[D] = COLD_A, COLD_B, D_VRT
        self.set_time(self.wall.now_ns(), self.wall.zone_minutes())

    def _counting(self) -> bool:
        cmos = self.state.cmos
        return not cmos[B] & SET and cmos[A] & DV == DV_RUNNING

    def _advance(self) -> None:
        """Bring `seconds` and the registers to now. While SET is on only the start of seconds moves along."""
        s = self.state
        elapsed = (self.core.now_ns - s.second_ns) // NS_PER_S
        if elapsed > 0:
            s.second_ns += elapsed * NS_PER_S
            if self._counting():
                s.seconds += elapsed
                self._show()

    def _show(self) -> None:
        """Registers from `seconds`."""
        s, cmos = self.state, self.state.cmos
        days, of_day = divmod(s.seconds, DAY_S)
        year, month, day = civil(days)
        cmos[Index.YEAR], cmos[Index.MONTH], cmos[Index.DAY] = (self._code(n) for n in (year % 100, month, day))
        cmos[Index.CENTURY] = self._code(year // 100 % 100)
        cmos[Index.WEEKDAY] = (days + WEEKDAY_OF_1970 + s.weekday_shift) % 7 + 1
        cmos[Index.SECONDS], cmos[Index.MINUTES] = self._code(of_day % 60), self._code(of_day // 60 % 60)
        hour = of_day // 3600
        if cmos[B] & HOURS_24:
            cmos[Index.HOURS] = self._code(hour)
        else:
            cmos[Index.HOURS] = self._code((hour - 1) % 12 + 1) | (HOURS_PM if hour >= 12 else 0)

    def _take(self) -> None:
        """`seconds` from the registers. What is no date counts on from where it would lie."""
        s, cmos = self.state, self.state.cmos
        year = 100 * self._decode(cmos[Index.CENTURY]) + self._decode(cmos[Index.YEAR])
        days = day_number(year, self._decode(cmos[Index.MONTH]), self._decode(cmos[Index.DAY]))
        minutes = 60 * self._hour(cmos[Index.HOURS]) + self._decode(cmos[Index.MINUTES])
        s.seconds = DAY_S * days + 60 * minutes + self._decode(cmos[Index.SECONDS])
        s.weekday_shift = (cmos[Index.WEEKDAY] - 1 - days - WEEKDAY_OF_1970) % 7

    def _code(self, value: int) -> int:
        return value if self.state.cmos[B] & DM else value // 10 << 4 | value % 10

    def _decode(self, byte: int) -> int:
        return byte if self.state.cmos[B] & DM else 10 * (byte >> 4) + (byte & 0xF)

    def _hour(self, byte: int) -> int:
        """0 to 23 from an hours byte in either mode."""
        if self.state.cmos[B] & HOURS_24:
            return self._decode(byte)
        return self._decode(byte & ~HOURS_PM) % 12 + (12 if byte & HOURS_PM else 0)

    def _alarm(self) -> tuple[int, int]:
        """Guest time of the next alarm and from there to the one after (ns); (NEVER, 0): there is none."""
        cmos = self.state.cmos
        fields = [cmos[Index.HOURS_ALARM], cmos[Index.MINUTES_ALARM], cmos[Index.SECONDS_ALARM]]
        hour, minute, second = (None if byte & ALARM_ANY == ALARM_ANY else byte for byte in fields)
        pattern = (
            None if hour is None else self._hour(hour),
            None if minute is None else self._decode(minute),
            None if second is None else self._decode(second),
        )
        now = self.state.seconds % DAY_S
        first = seconds_until(pattern, now)
        if not first:
            return NEVER, 0
        period = seconds_until(pattern, (now + first) % DAY_S)
        return min(self.state.second_ns + first * NS_PER_S, NEVER), period * NS_PER_S

    def sync(self) -> None:
        """Tell the core. With the divider stopped there are no periodic interrupts and no updates."""
        s = self.state
        self._advance()
        a, b = int(s.cmos[A]), int(s.cmos[B])
        if a & DV != DV_RUNNING:
            a, b = a & ~int(RegA.RS), b | SET
        alarm_ns, period_ns = self._alarm() if self._counting() else (NEVER, 0)
        self.core.program_rtc(a, b, s.second_ns, alarm_ns, period_ns)


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970-01-01, by counting years from March."""
    era, of_era = divmod(days + DAYS_0000_TO_1970, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    return year + 400 * era + (1 if month >= 10 else 0), (month + 2) % 12 + 1, day


def day_number(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01; a month or day out of range counts on into its neighbours."""
    years, from_march = divmod(month - 3, 12)
    year += years
    return (
        365 * year + year // 4 - year // 100 + year // 400
        + (153 * from_march + 2) // 5 + day - 1 - DAYS_0000_TO_1970
    )  # fmt: skip


def seconds_until(pattern: tuple[int | None, int | None, int | None], now: int) -> int:
    """Seconds from `now` (of the day) to the next time that matches (hour, minute, second); None matches all; 0: never.

    "Now" itself does not count: its alarm has been.
    """
    hour, minute, second = pattern
    hours = range(24) if hour is None else [hour]
    minutes = range(60) if minute is None else [minute]
    seconds = range(60) if second is None else [second]
    if max(hours) > 23 or max(minutes) > 59 or max(seconds) > 59:
        return 0
    start = now + 1
    for day in (0, DAY_S):
        for h in hours:
            if day + 3600 * h + 3599 < start:
                continue
            for m in minutes:
                at = day + 3600 * h + 60 * m
                if at + 59 < start:
                    continue
                for sec in seconds:
                    if at + sec >= start:
                        return at + sec - now
    return 0
