"""Where a world and its runner run: pinned together, let go, and put back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from vmm.engines import placement
from vmm.engines.placement import (
    AVOIDED_NS,
    CROWDED_NS,
    FLOAT_NS,
    RARE_NS,
    RETRY,
    SPIN_NS,
    TRIAL,
    WINDOW,
    Placement,
    waited_ns,
)

SPARE_CPU = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one CPU: nobody can spin apart")
pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the host lets nobody place processes")


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This thread is pinned by nobody."""
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(placement, "_pinned", {})
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that stands for a world."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child.pid
    child.kill()
    child.wait()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [1]
    monkeypatch.setattr(placement.time, "monotonic_ns", lambda: now[0])
    return now


def turns(place: Placement, clock: list[int], count: int, ns: int) -> None:
    for _ in range(count):
        place.turn()
        clock[0] += ns


def apart(sleeper: int, clock: list[int], spin: list[int], ns: int) -> Placement:
    """One that has just begun to spin: its next turn is the first of a trial's."""
    place = Placement(lambda: [sleeper], 0, spin.append)
    turns(place, clock, RETRY * WINDOW, ns)
    assert set(spin) == {0}
    return place


def test_the_runner_comes_home_whichever_world_ends_first(sleeper: int) -> None:
    home = os.sched_getaffinity(0)
    first, second = (Placement(lambda: [sleeper], number, lambda ns: None) for number in (0, 1))
    first.turn()
    second.turn()
    assert len(os.sched_getaffinity(0)) == 1
    first.end()
    assert len(os.sched_getaffinity(0)) == 1
    second.end()
    assert os.sched_getaffinity(0) == home


@pytest.mark.parametrize("crowded", [False, True])
def test_both_are_on_one_cpu_and_may_move_where_the_world_waits_for_it(
    sleeper: int, clock: list[int], monkeypatch: pytest.MonkeyPatch, crowded: bool
) -> None:
    home, waited = os.sched_getaffinity(0), [0]
    monkeypatch.setattr(placement, "waited_ns", lambda processes: waited[0])
    place = Placement(lambda: [sleeper], 0, lambda ns: None)
    place.turn()
    assert os.sched_getaffinity(sleeper) == os.sched_getaffinity(0) and len(os.sched_getaffinity(sleeper)) == 1
    turns(place, clock, WINDOW // 2, 2 * FLOAT_NS // WINDOW + 1)
    waited[0] += crowded * FLOAT_NS // 2
    place.look_soon()
    assert (os.sched_getaffinity(sleeper) == home) == crowded
    place.turn()
    place.turn()
    assert len(os.sched_getaffinity(sleeper)) == 1
    place.end()


def test_rare_exits_pin_nobody(sleeper: int, clock: list[int]) -> None:
    home = os.sched_getaffinity(0)
    place = Placement(lambda: [sleeper], 0, lambda ns: None)
    for rare in (5 * RARE_NS, FLOAT_NS):
        place.turn()
        assert len(os.sched_getaffinity(sleeper)) == len(os.sched_getaffinity(0)) == 1
        clock[0] += FLOAT_NS
        turns(place, clock, 1, rare)
        place.look_soon()
        assert os.sched_getaffinity(sleeper) == os.sched_getaffinity(0) == home
        turns(place, clock, 2 * WINDOW, rare)
        assert os.sched_getaffinity(sleeper) == os.sched_getaffinity(0) == home
        turns(place, clock, 2 * WINDOW, 50_000)
    place.end()
    assert os.sched_getaffinity(0) == home


def test_between_thick_and_rare_they_share_a_cpu_while_nobody_else_wants_it(
    sleeper: int, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, step = [0], 2 * RARE_NS
    monkeypatch.setattr(placement, "waited_ns", lambda processes: waited[0])
    place = Placement(lambda: [sleeper], 0, lambda ns: None)

    def are_together(waits: int, ns: int) -> bool:
        for _ in range(ns // step):
            place.turn()
            clock[0] += step
            waited[0] += waits
            place.look_soon()
        place.turn()
        place.turn()
        return len(os.sched_getaffinity(sleeper)) == len(os.sched_getaffinity(0)) == 1

    assert are_together(0, 2 * WINDOW * step)
    assert not are_together(step // 2, FLOAT_NS + 2 * step)
    assert not are_together(0, AVOIDED_NS - 2 * FLOAT_NS)
    assert are_together(0, 4 * FLOAT_NS)
    place.end()


def test_what_waits_for_its_cpu_is_known_by_the_host(sleeper: int) -> None:
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        pids = [spinner.pid for spinner in spinners]
        for pid in pids:
            os.sched_setaffinity(pid, {min(os.sched_getaffinity(0))})
        began, deadline = waited_ns(pids), time.monotonic() + 60
        while waited_ns(pids) - began < FLOAT_NS and time.monotonic() < deadline:
            time.sleep(0.01)
        assert waited_ns(pids) - began >= FLOAT_NS > waited_ns([sleeper])
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
    assert waited_ns(pids) == 0


def test_a_world_whose_processes_wake_each_other_stays_on_one_cpu(sleeper: int, clock: list[int]) -> None:
    hand_overs, step = [0], 2 * FLOAT_NS
    place = Placement(lambda: [sleeper], 0, lambda ns: None, lambda: hand_overs[0])
    for many in (True, False, True):
        for _ in range(3):
            place.turn()
            hand_overs[0] += many * (step // RARE_NS + 1)
            clock[0] += step
            place.look_soon()
        place.turn()
        assert (len(os.sched_getaffinity(sleeper)) == 1) == many
    place.end()


@SPARE_CPU
def test_spinning_is_kept_for_as_long_as_it_is_faster(sleeper: int, clock: list[int]) -> None:
    spin: list[int] = []
    place = apart(sleeper, clock, spin, 40_000)
    turns(place, clock, TRIAL + 3 * WINDOW, 28_000)
    assert spin[-1] == SPIN_NS
    turns(place, clock, WINDOW + TRIAL, 48_000)
    place.turn()
    assert spin[-1] == 0
    place.end()


@SPARE_CPU
def test_one_slow_look_does_not_end_spinning(sleeper: int, clock: list[int]) -> None:
    spin: list[int] = []
    place = apart(sleeper, clock, spin, 40_000)
    for _ in range(3):
        turns(place, clock, TRIAL, 100_000)
        turns(place, clock, TRIAL, 28_000)
        assert spin[-1] == SPIN_NS
        turns(place, clock, WINDOW - TRIAL, 28_000)
        turns(place, clock, TRIAL, 28_000)
    place.end()


@SPARE_CPU
def test_two_that_spin_have_a_cpu_each(sleeper: int, clock: list[int]) -> None:
    spin: list[int] = []
    place = apart(sleeper, clock, spin, 40_000)
    place.turn()
    assert spin[-1] == SPIN_NS
    assert len(os.sched_getaffinity(sleeper)) == 1
    assert not os.sched_getaffinity(sleeper) & os.sched_getaffinity(0)
    place.end()


@SPARE_CPU
def test_sparse_exits_are_not_spun_for(sleeper: int, clock: list[int]) -> None:
    spin: list[int] = []
    place = apart(sleeper, clock, spin, 70_000)
    turns(place, clock, RETRY * WINDOW, 70_000)
    assert set(spin) == {0}
    place.end()


@SPARE_CPU
def test_where_worlds_want_every_cpu_only_dense_exits_are_spun_for(sleeper: int, clock: list[int]) -> None:
    two = set(sorted(os.sched_getaffinity(0))[:2])
    os.sched_setaffinity(0, two)
    other = Placement(lambda: [sleeper], 1, lambda ns: None)
    other.turn()
    spin: list[int] = []
    place = apart(sleeper, clock, spin, 40_000)
    turns(place, clock, 2 * WINDOW, 40_000)
    assert set(spin) == {0}
    turns(place, clock, WINDOW + 1, 20_000)
    assert spin[-1] == CROWDED_NS
    place.end()
    other.end()
    assert os.sched_getaffinity(0) == two


def test_a_world_that_is_gone_does_not_matter() -> None:
    home = os.sched_getaffinity(0)
    place = Placement(lambda: [2**22 - 3], 0, lambda ns: None)
    place.turn()
    assert len(os.sched_getaffinity(0)) == 1
    place.end()
    assert os.sched_getaffinity(0) == home
