"""When pairs are enough: by how far their ratios lie apart, not by where."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest

from bench.kernel import SYSCALLS, Guest, measure_guest
from bench.linux import interleave
from bench.peers import GuestPeer
from bench.plan import Plan
from bench.precision import is_settled, median_interval
from bench.transcript import Line, Transcript
from tests.bench.test_engines import DIRECT, INTERP, plan


def test_the_interval_of_a_median_grows_narrow_with_the_number() -> None:
    """The ranks of the sign test's 90 % interval, by the binomial distribution."""
    assert median_interval([2.0]) == (2, 2)
    assert median_interval(range(1, 5)) == (1, 4)
    assert median_interval(range(1, 9)) == (2, 7)
    assert median_interval(range(1, 12)) == (3, 9)
    assert median_interval(range(1, 42)) == (15, 27)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    chance = random.Random(1)
    held = [
        low <= 0.5 <= high
        for low, high in (median_interval([chance.random() for _ in range(21)]) for _ in range(2000))
    ]
    assert 0.9 <= statistics.mean(held) <= 0.96


def test_pairs_are_settled_by_their_spread() -> None:
    even, restless = [1.0] * 11, [1.0, 1.7, 0.6, 1.0, 1.7, 0.6, 1.0, 1.7, 0.6, 1.0, 1.0]
    assert is_settled(even, [2.0] * 11)
    assert not is_settled(restless, even)
    assert is_settled(restless, restless)
    assert is_settled([0.0, 1.0], [1.0, 1.0])
    assert is_settled([], even)


@pytest.fixture
def restless() -> Plan:
    made = plan(INTERP, DIRECT)
    made.effort = replace(
        made.effort, pair_repetitions=5, pair_repetitions_most=41, pair_boots=5, pair_boots_most=41
    )  # fmt: skip
    return made


def test_our_engines_go_on_until_they_are_settled(restless: Plan) -> None:
    chance = random.Random(4)

    def run(guest: Guest, peer: GuestPeer, count: int) -> Transcript:
        slower = chance.choice([1000, 1000, 1010, 1700])
        return Transcript(0, (Line(count, f"SYSCALL int {10**6 // slower} 1000"),))

    measure_guest(restless, replace(SYSCALLS, run=run), 100)
    samples = [restless.kept("syscalls.int", engine.name) for engine in (DIRECT, INTERP)]
    assert len(samples[0]) == len(samples[1])
    assert 5 < len(samples[0]) < 41
    assert is_settled(*samples)
    assert not is_settled(*(values[:-1] for values in samples))


@pytest.mark.parametrize(("spread", "runs"), [(1.0, 5), (9.0, 41)])
def test_kernels_too_and_not_for_ever(restless: Plan, spread: float, runs: int) -> None:
    chance = random.Random(3)
    contenders = {engine.name: lambda: {"linux.forks": chance.uniform(1, spread)} for engine in restless.engines}
    interleave(restless, "linux forks", contenders, 1, in_pairs=True)
    assert [len(restless.kept("linux.forks", engine.name)) for engine in restless.engines] == [runs, runs]
