"""The guest clock, the RTC's interrupts, the PM timer, and what holds for the interrupt page as a whole."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import subprocess
import sys
import time
from fractions import Fraction

import pytest

from tests.vmm.core.interrupt_board import APIC_PAGE, EXT, IOAPIC_PAGE, NEVER, TSC_HZ, Board
from vmm._core import ffi, lib
from vmm.interrupts import ClockMode, Interrupts, Pm1, owned_ports
from vmm.layout_spec import InterruptPage

PM_BASE = 0x1000
PM_HZ = int(lib.RF_PM_HZ)
RTC_HZ = int(lib.RF_RTC_HZ)
PF, AF, UF, IRQF, SET = 0x40, 0x20, 0x10, 0x80, 0x80


# ---- the clock -----------------------------------------------------------------------------------------------------


def host_clocked() -> Interrupts:
    page = Interrupts(InterruptPage())
    page.power_on(1, TSC_HZ)
    return page


def test_guest_time_stands_until_resume_and_then_follows_the_host() -> None:
    clock = host_clocked()
    assert clock.now_ns == 0
    clock.resume()
    clock.resume()  # nothing, when it runs already
    before = time.monotonic_ns()
    first = clock.now_ns
    while time.monotonic_ns() - before < 2_000_000:
        pass
    second = clock.now_ns
    assert second - first <= time.monotonic_ns() - before
    assert second - first >= 1_900_000


def test_stun_takes_no_guest_time_and_time_never_goes_back() -> None:
    clock = host_clocked()
    clock.resume()
    last = 0
    for _ in range(50):
        now = clock.now_ns
        assert now >= last
        clock.stun()
        frozen = clock.now_ns
        assert frozen >= now
        time.sleep(0.0005)
        assert clock.now_ns == frozen
        clock.stun()
        assert clock.now_ns == frozen
        clock.resume()
        last = clock.now_ns
        assert frozen <= last
    clock.set_clock(ClockMode.COUNTED)
    counted = clock.now_ns
    clock.set_clock(ClockMode.HOST)
    assert last <= counted <= clock.now_ns


def test_saved_time_goes_on_in_another_process_or_host() -> None:
    clock = host_clocked()
    clock.resume()
    clock.stun()
    copy = InterruptPage.from_buffer_copy(clock.state)
    copy.clock.offset_ns = 0x1234_5678_9ABC_DEF0  # another host's monotonic clock
    again = Interrupts(copy)
    at = again.now_ns
    again.resume()
    assert at <= again.now_ns < at + 10**9


def test_a_counted_clock_moves_by_instructions_without_losing_fractions() -> None:
    board = Board()
    board.interrupts.set_clock(ClockMode.COUNTED, 333)
    start = board.now
    total = 0
    for n in (1, 2, 999, 1000, 7, 123_456, 1_000_000_007):
        lib.clock_retired(board.page, n)
        total += n
        assert board.now - start == total * 333 // 1000
    board.interrupts.stun()
    lib.clock_retired(board.page, 10**6)
    board.advance(10**6)
    assert board.now - start == total * 333 // 1000


@pytest.mark.parametrize("hz", [1_000_000_000, 2_394_454_321, 999_999_937, 14_318_180])
def test_tsc_is_exact_after_long_times(hz: int) -> None:
    board = Board()
    board.state.clock.tsc_hz = hz
    for step in (1, 999_999_999, 1, 86400 * 10**9 * 366 * 5 + 12345, 10**9):
        board.advance(step)
        assert board.interrupts.tsc == board.now * hz // 10**9


# ---- RTC -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def board() -> Board:
    board = Board()
    board.init_pic()
    return board


def rtc_interrupts(board: Board) -> list[int]:
    """Handle all that waits, as a driver does: read C, EOI. The values of C."""
    values = []
    while (vector := board.poll()) != -1:
        assert vector == 0x28
        values.append(board.interrupts.read_rtc_c())
        board.outb(0xA0, 0x20)
        board.outb(0x20, 0x20)
    return values


@pytest.mark.parametrize(("rate", "hz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (10, 64), (15, 2)])
def test_periodic_rates(board: Board, rate: int, hz: int) -> None:
    board.interrupts.program_rtc(0x20 | rate, PF, 0)
    count = 0
    while board.now < 2 * 10**9:
        assert board.sleep() > 0
        count += len(rtc_interrupts(board))
    assert count == pytest.approx(2 * hz, abs=1)


def test_a_periodic_deadline_is_the_next_period(board: Board) -> None:
    board.interrupts.program_rtc(0x26, PF, 0)
    for n in range(1, 5):
        board.sleep()
        assert board.now == -(-n * 10**9 // 1024)
        rtc_interrupts(board)


def test_late_periods_are_forgotten_when_their_interrupt_is_disabled(board: Board) -> None:
    board.interrupts.program_rtc(0x26, PF, 0)
    board.advance(10**9)
    board.timers()
    board.interrupts.program_rtc(0x26, 0, board.now)
    board.interrupts.read_rtc_c()
    board.interrupts.program_rtc(0x26, PF, board.now)
    assert board.interrupts.read_rtc_c() == 0


def test_irq_8_stays_until_c_is_read_and_late_periods_follow(board: Board) -> None:
    board.interrupts.program_rtc(0x26, PF, 0)
    board.advance(10 * 10**9 // 1024)
    board.timers()
    assert rtc_interrupts(board) == [IRQF | PF] * 9 + [IRQF | PF] * (board.now * 1024 // 10**9 - 9)
    assert board.interrupts.read_rtc_c() == 0


def test_flags_are_set_without_enables_but_do_not_interrupt(board: Board) -> None:
    board.interrupts.program_rtc(0x26, 0, 0)
    assert board.timers() == NEVER
    board.advance(3 * 10**9)
    assert board.interrupts.read_rtc_c() == PF | UF
    assert board.pending() == 0


def test_enabling_a_cause_whose_flag_is_set_interrupts_at_once(board: Board) -> None:
    board.advance(10**9)
    board.interrupts.program_rtc(0x20, UF, 0)
    assert rtc_interrupts(board) == [IRQF | UF]


def test_update_ended_comes_at_the_seconds_of_the_rtc(board: Board) -> None:
    board.advance(5 * 10**9)
    board.interrupts.read_rtc_c()
    board.interrupts.program_rtc(0x20, UF, 4_300_000_000)
    assert board.sleep() == 300_000_000
    assert rtc_interrupts(board) == [IRQF | UF]
    assert board.sleep() == 10**9
    board.interrupts.program_rtc(0x20, UF | SET, board.now)
    assert board.timers() == NEVER


def test_alarms_repeat_at_their_distance(board: Board) -> None:
    board.interrupts.program_rtc(0x20, AF, 0, alarm_ns=2_000_000_000, alarm_period_ns=60 * 10**9)
    assert board.sleep() == 2 * 10**9
    assert rtc_interrupts(board)[0] & (IRQF | AF) == IRQF | AF
    assert board.sleep() == 60 * 10**9
    rtc_interrupts(board)
    board.interrupts.program_rtc(0x20, AF, board.now, alarm_ns=board.now + 5)
    assert board.sleep() == 5
    rtc_interrupts(board)
    assert board.timers() == NEVER
    assert board.pending() == 0


# ---- power management ----------------------------------------------------------------------------------------------


def test_the_pm_timer_is_24_bits_of_3579545_hz(board: Board) -> None:
    board.interrupts.set_pm_base(PM_BASE)
    rng = random.Random(1)
    for _ in range(100):
        board.advance(rng.randrange(10**10))
        want = int(Fraction(board.now * PM_HZ, 10**9)) & 0xFFFFFF
        assert board.inb(PM_BASE + 8, size=4) == want
        assert board.inb(PM_BASE + 9) == want >> 8 & 0xFF
    board.outb(PM_BASE + 8, 0, size=4)
    assert board.inb(PM_BASE + 8, size=4) == want


def test_tmr_sts_is_set_when_bit_23_changes_and_raises_the_sci(board: Board) -> None:
    board.interrupts.set_pm_base(PM_BASE)
    half = -(-(1 << 23) * 10**9 // PM_HZ)
    board.advance(half - 1)
    assert board.inb(PM_BASE, size=2) == 0
    board.advance(1)
    assert board.inb(PM_BASE, size=2) == Pm1.TMR
    assert board.pending() == 0
    board.outb(PM_BASE + 2, Pm1.TMR | 0xF000, size=2)
    assert board.inb(PM_BASE + 2, size=2) == Pm1.TMR
    board.interrupts.set_sci_enable(True)
    assert board.poll() == 0x29
    board.outb(0xA0, 0x20)
    board.outb(0x20, 0x20)
    board.outb(PM_BASE, Pm1.TMR, size=2)
    assert board.inb(PM_BASE, size=2) == 0
    assert board.sleep() == pytest.approx(half, abs=1)
    assert board.pending() == EXT
    assert board.inb(PM_BASE, size=4) == Pm1.TMR << 16 | Pm1.TMR


def test_a_power_button_is_an_sci(board: Board) -> None:
    board.interrupts.set_pm_base(PM_BASE)
    board.interrupts.set_sci_enable(True)
    board.outb(PM_BASE + 3, Pm1.PWRBTN >> 8)
    board.interrupts.pm_event(Pm1.PWRBTN)
    assert board.inb(PM_BASE + 1) == Pm1.PWRBTN >> 8
    assert board.poll() == 0x29
    board.outb(PM_BASE + 1, Pm1.PWRBTN >> 8)
    assert not board.state.pic[1].lines & 2


def test_the_pm_block_is_decoded_where_it_was_put_and_only_its_core_part(board: Board) -> None:
    assert not lib.intr_port_owned(0, board.page)
    board.interrupts.set_pm_base(PM_BASE)
    owned = [p for p in range(0x1000, 0x1040) if lib.intr_port_owned(p, board.page)]
    assert owned == [*range(0x1000, 0x1004), *range(0x1008, 0x100C)]


# ---- the page as a whole -------------------------------------------------------------------------------------------


def test_the_table_of_ports() -> None:
    board = Board()
    ports = {0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x80, 0xED}
    assert owned_ports() == ports
    assert {p for p in range(0x10000) if lib.intr_port_owned(p, board.page)} == ports
    value = ffi.new("uint32_t *")
    assert lib.intr_port_read(board.page, 0, 0x70, 1, value) == 0
    assert lib.intr_port_write(board.page, 0, 0x64, 1, 0, value) == 0


def test_ports_80_and_ed_store() -> None:
    board = Board()
    board.outb(0x80, 0x5A)
    board.outb(0xED, 0xA5)
    assert (board.inb(0x80), board.inb(0xED)) == (0x5A, 0xA5)
    assert board.inb(0x80, size=4) == 0xFFFFFF5A
    assert board.inb(0x20, size=4) >> 16 == 0xFFFF


def test_reset_keeps_the_clock_and_the_lines_that_devices_drive() -> None:
    board = Board(vcpus=2)
    board.init_pic()
    board.advance(12345)
    board.outb(0x4D1, 0x08)
    board.line(11, 1)
    board.line(4, 1)
    board.interrupts.set_pm_base(PM_BASE)
    board.outb(0x80, 0x5A)
    board.interrupts.reset(2)
    assert board.inb(0x80) == 0
    assert (board.now, board.pending(), board.inb(0x4D1)) == (12345, 0, 0)
    board.init_pic()
    board.outb(0x4D1, 0x08)
    assert board.poll() == 0x2B
    board.outb(0xA0, 0x20)
    board.outb(0x20, 0x20)
    board.line(11, 0)
    assert board.poll() == -1  # line 4 is still high, but an edge is needed
    assert board.inb(PM_BASE, size=4) == 0


def random_access(board: Board, rng: random.Random) -> object:
    """One random thing that a guest, a device or a runner may do; what it answered."""
    action = rng.randrange(9)
    cpu = rng.randrange(4)
    ports = (*sorted(owned_ports()), PM_BASE, PM_BASE + 2, PM_BASE + 8)
    gpa = rng.choice([APIC_PAGE + 0x10 * rng.randrange(0x40), IOAPIC_PAGE, IOAPIC_PAGE + 0x10])
    if action == 0:
        board.outb(rng.choice(ports), rng.randrange(1 << 32), size=rng.choice([1, 1, 2, 4]), cpu=cpu)
    elif action == 1:
        return board.inb(rng.choice(ports), size=rng.choice([1, 1, 2, 4]), cpu=cpu)
    elif action == 2:
        board.write(gpa, rng.choice([rng.randrange(1 << 32), rng.randrange(64)]), cpu, size=4)
    elif action == 3:
        return board.read(gpa, cpu)
    elif action == 4:
        board.line(rng.randrange(24), rng.randrange(2))
    elif action == 5:
        return board.poll(cpu)
    elif action == 6:
        return board.take(board.pending(cpu) & ~EXT, cpu)
    elif action == 7:
        board.advance(rng.choice([100, 10_000, 10**6, rng.randrange(10**9)]))
        return board.timers(cpu)
    elif rng.randrange(4) == 0:
        reg_a, reg_b = rng.randrange(256), rng.randrange(256)
        board.interrupts.program_rtc(reg_a, reg_b, board.now, board.now + rng.randrange(10**9), rng.choice([0, 10**9]))
    else:
        return board.interrupts.read_rtc_c()
    return board.take_kicks()


@pytest.mark.parametrize("seed", range(10))
def test_state_is_complete(seed: int) -> None:
    """A page rebuilt over a copy of its bytes cannot be told apart from the original."""
    board = Board(vcpus=4)
    board.interrupts.set_pm_base(PM_BASE)
    rng = random.Random(seed)
    for _ in range(500):
        random_access(board, rng)
    board.take_kicks()
    copy = board.copy()
    fork = random.Random(seed + 1000)
    twin = random.Random(seed + 1000)
    for _ in range(500):
        assert random_access(board, fork) == random_access(copy, twin)
    assert bytes(board.state) == bytes(copy.state)


@pytest.mark.parametrize("seed", range(30))
def test_no_state_makes_an_access_hang_or_break_a_rule(seed: int) -> None:
    rng = random.Random(seed)
    size = ctypes.sizeof(InterruptPage)
    board = Board(state=InterruptPage.from_buffer_copy(rng.randbytes(size)))
    board.state.lock = 0
    board.state.clock.mode = ClockMode.COUNTED
    board.state.pm.base = PM_BASE
    for _ in range(400):
        random_access(board, rng)
    for cpu in range(4):
        assert board.state.pit.backlog <= 0xFFFFFFFF
        assert board.state.events[cpu] & ~0x30F == 0
        assert -1 <= board.poll(cpu) <= 255


def test_a_deadline_lies_ahead_and_nothing_is_due_before_it() -> None:
    board = Board(vcpus=4)
    board.interrupts.set_pm_base(PM_BASE)
    rng = random.Random(3)
    for _ in range(3000):
        random_access(board, rng)
        cpu = rng.randrange(4)
        deadline = board.timers(cpu)
        assert deadline > board.now
        if deadline != NEVER and deadline - board.now < 10**9:
            events = [board.pending(n) for n in range(4)]
            board.advance(deadline - board.now - 1)
            assert board.timers(cpu) == deadline
            assert [board.pending(n) for n in range(4)] == events


# ---- several processes ---------------------------------------------------------------------------------------------


def test_a_dead_holder_of_the_lock_is_succeeded() -> None:
    board = Board()
    board.init_pic()
    board.state.lock |= 1
    start = time.monotonic()
    board.line(4, 1)
    assert 0.9 < time.monotonic() - start < 5
    assert board.poll() == 0x24
    assert not board.state.lock & 1


TOGGLER = """
import mmap, sys, time
from vmm.interrupts import Interrupts
from vmm.layout_spec import InterruptPage

state = InterruptPage.from_buffer(mmap.mmap(int(sys.argv[1]), 0))
interrupts = Interrupts(state)
for _ in range(int(sys.argv[2])):
    interrupts.set_line(5, True)
    while state.pic[0].edges & 1 << 5:
        time.sleep(0)
    interrupts.set_line(5, False)
"""


def test_two_processes_work_on_one_page() -> None:
    """Another process raises line 5 and waits until each interrupt is taken; none is lost, none is invented."""
    rounds = 10_000
    fd = os.memfd_create("interrupts")
    os.ftruncate(fd, mmap.PAGESIZE * 2)
    state = InterruptPage.from_buffer(mmap.mmap(fd, 0))
    board = Board(state=state)
    board.interrupts.power_on(1, TSC_HZ)
    board.init_pic(icw4=0x03)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", TOGGLER, str(fd), str(rounds)]
    taken = 0
    with subprocess.Popen(command, pass_fds=[fd], env=environment) as other:
        ended = False
        while taken < rounds and not ended:
            ended = other.poll() is not None
            vector = board.poll()
            assert vector in {-1, 0x25}
            taken += vector == 0x25
            board.outb(0x80, taken & 0xFF)
        assert other.wait(60) == 0
    os.close(fd)
    assert taken == rounds
    assert board.poll() == -1
    assert not state.lock & 3
