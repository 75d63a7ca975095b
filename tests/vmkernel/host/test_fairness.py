"""The allowance for work in vain, with a clock that is turned; and what machines keep of their speed under floods."""

from __future__ import annotations

import sys

import pytest

from bench.switch_flood import KINDS, under_flood
from vmkernel.host.fairness import BURST_NS, FRAME_NS, REFILL_NS, SHARE, Allowance

START_NS = (1 << 40) - 5
SECOND = 1_000_000_000


def flood(allowances: list[Allowance], seconds: int) -> int:
    """Work that machines get done which have always something more to do in vain, each as soon as it may."""
    done, waits = 0, [0] * len(allowances)
    now = START_NS
    while now < START_NS + seconds * SECOND:
        for number, allowance in enumerate(allowances):
            if now >= waits[number]:
                others = sum(until > now for until in waits)
                waits[number] = allowance.spend(100_000, now, others)
                done += 100_000
        now += 100_000
    return done


@pytest.mark.parametrize("count", [1, 2, 20])
def test_floods_in_vain_have_a_thirtieth_of_the_thread_together(count: int) -> None:
    done = flood([Allowance(START_NS) for _ in range(count)], 20)
    bursts = count * BURST_NS
    assert 0.7 * 20 * SECOND / SHARE < done - bursts < 1.3 * 20 * SECOND / SHARE


def test_who_sends_little_in_vain_never_waits() -> None:
    allowance = Allowance(START_NS)
    for number in range(1000):
        assert allowance.spend(FRAME_NS * 20, START_NS + number * 1_000_000, 5) == 0


def test_a_wait_is_over_when_there_is_something_to_spend_again() -> None:
    allowance = Allowance(START_NS)
    until = allowance.spend(BURST_NS + 1, START_NS, 0)
    assert until == START_NS + (REFILL_NS + 1) * SHARE
    assert allowance.spend(REFILL_NS, until, 0) == 0
    assert allowance.spend(1, until, 0) > until


@pytest.mark.long
@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_the_others_keep_nine_tenths_of_their_throughput_under_a_flood(kind: str) -> None:
    kept = under_flood(kind, turns=5, seconds=1.0)
    sys.stdout.write(f"{kind}: {kept.ratio:.3f}, {kept.pairs}, {kept.flooded} frames of the flood were taken\n")
    assert kept.flooded > 0
    assert kept.ratio >= 0.9
