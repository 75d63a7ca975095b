"""The interpreter against the host processor: single instructions, and programs of twenty."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance import compare, differences, harness, rules
from tests.conformance.generator import Generator
from tests.conformance.harness import BATCH, Host, InterpPeer
from tests.conformance.programs import ProgramGenerator

# Batches of BATCH cases. 50,000 cases and more on every run, a million and more on long ones.
SINGLE, PROGRAMS = 3, 1
SINGLE_LONG, PROGRAMS_LONG = 60, 10


def check(make: Callable[[int], Generator], seeds: range, interp: InterpPeer, host: Host) -> None:
    for seed in seeds:
        batch = make(seed).batch(BATCH)
        text = compare.report(batch, interp.run(batch.cases), host.run(batch.cases), differences.HOST_RULES)
        if text and harness.host_vendor() not in differences.HOST_VENDORS:
            pytest.xfail(f"the table of differences was made on {differences.HOST_VENDORS}; seed {seed}: {text}")
        assert not text, f"seed {seed}: {text}"


def test_single_instructions(interp: InterpPeer, host: Host) -> None:
    check(Generator, range(1, 1 + SINGLE), interp, host)


@pytest.fixture(scope="module")
def programs(interp: InterpPeer) -> Callable[[int], Generator]:
    """A maker of programs that knows, from single instructions, which forms are undefined."""
    batch = Generator(0).batch(2 * BATCH)
    wrong = interp.run(batch.cases)["trap"] == rules.UD
    undefined = frozenset(insn.form for insn, is_wrong in zip(batch.insns, wrong.tolist(), strict=True) if is_wrong)
    return lambda seed: ProgramGenerator(seed, undefined)


def test_programs(programs: Callable[[int], Generator], interp: InterpPeer, host: Host) -> None:
    check(programs, range(500, 500 + PROGRAMS), interp, host)


@pytest.mark.long
def test_many_single_instructions(interp: InterpPeer, host: Host) -> None:
    check(Generator, range(1000, 1000 + SINGLE_LONG), interp, host)


@pytest.mark.long
def test_many_programs(programs: Callable[[int], Generator], interp: InterpPeer, host: Host) -> None:
    check(programs, range(5000, 5000 + PROGRAMS_LONG), interp, host)


def test_what_differs_is_reported(interp: InterpPeer, host: Host) -> None:
    """The comparison itself: without the table, undefined flags show."""
    batch = Generator(1).batch(BATCH)
    assert compare.report(batch, interp.run(batch.cases), host.run(batch.cases), ())
