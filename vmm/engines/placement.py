"""Where a world and the thread that answers its exits run, and whether they spin for their turns.

Waking a sleeper on another CPU of a virtual host costs 25 to 50 us, on the same CPU 6 us, and twice that again where
both have worked meanwhile and find their caches cold; two that spin on CPUs of their own hand over in one, but take
them from everybody else. So the two share a CPU and sleep, and are let go for a turn where the world has waited for
that CPU, so that the host can move them. Where exits come thick, spinning apart is tried for some turns, and kept for
as long as it is measured to be faster. Where they are rare, and hand-overs between the processes of the world too, a
wake-up costs little beside what the guest does meanwhile, and the host places all of them as it does everybody: two
machines that were pinned to one CPU would share it, with another one idle. Between thick and rare they share a CPU
while nobody else wants it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

WINDOW = 256  # turns between two measurements
TRIAL = 64  # the same, while spinning is in doubt
SPIN_NS = 60_000  # what it costs to wake a sleeper on another CPU, and no more
DENSE_NS = 60_000  # a turn and its answer, guest code included: above it spinning gains little
CROWDED_NS = 25_000  # both of them where other worlds of this process want the CPU that spinning takes
BETTER = 0.95  # of the time of a turn together, for spinning to stay
RETRY, RETRY_MOST = 2, 1024  # windows before spinning is tried again
FLOAT_NS = 100_000_000  # the host may move us this often
RARE_NS = 2_000_000  # between two wake-ups: above it one CPU for all gains less than others on it may cost
SELDOM_NS = 8_000_000  # the same: above it one CPU for all gains nothing to speak of
CROWDED_PART = 0.05  # of the time that the world has waited for its CPU: others want it
AVOIDED_NS = 2_000_000_000  # for so long after that the host places all of them
STAT_PROCESSOR = 36  # field of /proc/PID/stat behind the program's name: proc(5), "processor"
STAT_WAITED = 1  # field of /proc/PID/schedstat


# Threads: where each was at home, and how many worlds have pinned it.
_pinned: dict[int, tuple[set[int], int]] = {}
_pinned_lock = threading.Lock()


class Mode(enum.Enum):
    """NEW: nobody is pinned yet. FLOATING: for one turn the host may move both. FREE: until wake-ups come often."""

    NEW = enum.auto()
    TOGETHER = enum.auto()
    FLOATING = enum.auto()
    APART = enum.auto()
    FREE = enum.auto()


UNDECIDED = {Mode.TOGETHER, Mode.FREE}  # that a long turn may end


class Placement:
    """Of a world, which runs vCPU `number`."""

    def __init__(
        self, processes: Callable[[], list[int]], number: int, set_spin: Callable[[int], None],
        hand_overs: Callable[[], int] = lambda: 0,
    ) -> None:  # fmt: skip
        """`processes` gives its ids, and `hand_overs` how often one of them has woken another; `set_spin` takes the ns
        that both sides spin.
        """
        self._processes, self._set_spin, self._hand_overs = processes, set_spin, hand_overs
        self._home: set[int] = set()
        self._cpu = self._number = number
        self._mode = Mode.NEW
        self._thread = 0  # of the runner: it is pinned, too
        self._turns = WINDOW  # from the last look to the next
        self._left = 0  # of them, still to come
        self._began = self._floated = self._handed_over = self._waited = self._avoided = 0
        self._together_ns = float(DENSE_NS)
        self._wait = self._retry = RETRY
        self._doubted = False  # spinning did badly when we last looked

    def turn(self) -> None:
        """Before each turn, on the thread that runs the world."""
        if self._left:
            self._left -= 1
        else:
            self._look(time.monotonic_ns())

    def look_soon(self) -> None:
        """The last turn took long: the host may want to move us though few turns have passed."""
        if self._mode not in UNDECIDED or (now := time.monotonic_ns()) - self._floated <= FLOAT_NS:
            return
        rare = self._is_rare(now, self._turns - self._left)
        if self._mode is Mode.FREE:
            self._look_at_free(now, rare=rare)
        else:
            self._judge_together(now, rare=rare)

    def end(self) -> None:
        """Let the runner go where it likes, unless another world needs it here."""
        if self._thread:
            release(self._thread)
            self._thread, self._mode, self._left = 0, Mode.NEW, 0

    def _look(self, now: int) -> None:
        ns, rare = (now - self._began) / self._turns, self._is_rare(now, self._turns)
        mode = self._mode
        self._begin(now)
        if mode is Mode.APART:
            if ns < BETTER * self._together_ns and ns < self._dense_ns():
                self._retry, self._doubted = RETRY, False
            elif not self._doubted:
                self._doubt()
            else:
                self._wait, self._retry = self._retry, min(2 * self._retry, RETRY_MOST)
                self._together(now)
        elif mode is Mode.TOGETHER:
            self._together_ns = ns
            self._wait -= 1
            if self._wait <= 0 and len(self._home) > 1 and ns < self._dense_ns():
                self._apart()
            elif rare or now - self._floated > FLOAT_NS:
                self._judge_together(now, rare=rare)
        elif mode is Mode.FREE:
            self._look_at_free(now, rare=rare)
        else:
            if mode is Mode.FLOATING:
                self._cpu = last_cpu(self._processes()[0], self._cpu)
            self._together(now)

    def _judge_together(self, now: int, *, rare: bool) -> None:
        """The host moves us only where somebody waits: it might put one that it is let move beside another machine."""
        if rare:
            self._free(now)
        elif self._is_crowded(now):
            self._float()
        else:
            self._begin(now)
            self._mark(now)

    def _look_at_free(self, now: int, *, rare: bool) -> None:
        self._begin(now)
        self._mark(now)
        if not rare:
            self._cpu = last_cpu(self._processes()[0], self._cpu)
            self._together(now)

    def _begin(self, now: int) -> None:
        """A window of turns."""
        self._began, self._handed_over = now, self._hand_overs()
        self._count(WINDOW)

    def _mark(self, now: int) -> None:
        """From now on it counts how long the world waits for its CPU."""
        self._floated, self._waited = now, waited_ns(self._processes())

    def _is_rare(self, now: int, turns: int) -> bool:
        """Has the window so far had so few wake-ups that they are not worth a CPU for all?"""
        took, wake_ups = now - self._began, turns + self._hand_overs() - self._handed_over
        if not RARE_NS * wake_ups < took <= SELDOM_NS * wake_ups:
            return took > RARE_NS * wake_ups
        if self._is_crowded(now):
            self._avoided = now + AVOIDED_NS
        return now < self._avoided

    def _is_crowded(self, now: int) -> bool:
        return waited_ns(self._processes()) - self._waited > CROWDED_PART * (now - self._floated)

    def _together(self, now: int) -> None:
        self._set_spin(0)
        self._take_thread()
        self._mode = Mode.TOGETHER
        self._mark(now)
        for who in (self._thread, *self._processes()):
            place(who, {self._cpu})

    def _take_thread(self) -> None:
        thread = threading.get_native_id()
        if thread == self._thread:
            return
        if self._thread:
            release(self._thread)
        self._home, self._thread = take(thread), thread
        if self._cpu not in self._home or self._mode is Mode.NEW:
            self._cpu = sorted(self._home)[self._number % len(self._home)]

    def _float(self) -> None:
        self._mode, self._left = Mode.FLOATING, 0
        self._let_go()

    def _free(self, now: int) -> None:
        self._mode = Mode.FREE
        self._mark(now)
        self._begin(now)
        self._let_go()

    def _let_go(self) -> None:
        for who in (self._thread, *self._processes()):
            place(who, self._home)

    def _apart(self) -> None:
        """The runner leaves the CPU where both are. Were both free, the host might keep them together for long."""
        self._mode, self._doubted = Mode.APART, False
        self._count(TRIAL)
        place(self._thread, self._home - {self._cpu})
        self._set_spin(min(SPIN_NS, self._dense_ns()))

    def _doubt(self) -> None:
        """Look again soon: of so few turns a single interruption by somebody else spoils the mean."""
        self._doubted = True
        self._count(TRIAL)

    def _count(self, turns: int) -> None:
        self._turns, self._left = turns, turns - 1

    def _dense_ns(self) -> int:
        return DENSE_NS if worlds() < len(self._home) else CROWDED_NS


def take(thread: int) -> set[int]:
    """This thread is about to be pinned: where it is at home."""
    with _pinned_lock:
        home, worlds = _pinned.get(thread) or (os.sched_getaffinity(thread), 0)
        _pinned[thread] = (home, worlds + 1)
    return home


def release(thread: int) -> None:
    """The last that took it lets it go home."""
    with _pinned_lock:
        home, worlds = _pinned.pop(thread)
        if worlds > 1:
            _pinned[thread] = (home, worlds - 1)
        else:
            place(thread, home)


def worlds() -> int:
    """How many are run by pinned threads of this process."""
    with _pinned_lock:
        return sum(count for _, count in _pinned.values())


def place(who: int, cpus: set[int]) -> None:
    """Where the host does not let us, or the process has ended, it stays as it is."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(who, cpus)


def waited_ns(processes: list[int]) -> int:
    """How long they were ready to run, and did not. Source: Linux, Documentation/scheduler/sched-stats.rst."""
    waited = 0
    for pid in processes:
        with contextlib.suppress(OSError, ValueError, IndexError):
            waited += int(Path(f"/proc/{pid}/schedstat").read_text().split()[STAT_WAITED])
    return waited


def last_cpu(pid: int, otherwise: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[STAT_PROCESSOR])
    except (OSError, ValueError, IndexError):
        return otherwise
