"""Where a world and its runner run: pinned together, let go, and put back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from vmm.engines import placement
from vmm.engines.placement import RETRY, SPIN_NS, WINDOW, Placement

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


def window(place: Placement, clock: list[int], ns: int) -> None:
    for _ in range(WINDOW):
        place.turn()
        clock[0] += ns


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


def test_both_are_on_one_cpu_and_move_now_and_then(sleeper: int, clock: list[int]) -> None:
    home = os.sched_getaffinity(0)
    place = Placement(lambda: [sleeper], 0, lambda ns: None)
    place.turn()
    assert os.sched_getaffinity(sleeper) == os.sched_getaffinity(0) and len(os.sched_getaffinity(sleeper)) == 1
    clock[0] += placement.FLOAT_NS + 1
    place.look_soon()
    assert os.sched_getaffinity(sleeper) == home
    place.turn()
    place.turn()
    assert len(os.sched_getaffinity(sleeper)) == 1
    place.end()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: nobody can spin apart")
def test_spinning_is_kept_only_where_it_is_faster(sleeper: int, clock: list[int]) -> None:
    spin: list[int] = []
    place = Placement(lambda: [sleeper], 0, spin.append)
    for _ in range(RETRY):
        window(place, clock, 10_000)
    for _ in range(3):
        window(place, clock, 4_000)
        assert spin[-1] == SPIN_NS
    window(place, clock, 12_000)
    place.turn()
    assert spin[-1] == 0
    place.end()


def test_a_world_that_is_gone_does_not_matter() -> None:
    place = Placement(lambda: [2**22 - 3], 0, lambda ns: None)
    place.turn()
    place.end()
