"""The interpreter against Unicorn: real mode, which the host cannot run, and flat 32-bit code."""

from __future__ import annotations

import pytest

from tests.conformance import compare, differences, harness, rules
from tests.conformance.harness import TEMPLATE_SEED
from tests.conformance.plain import FlatGenerator, RealGenerator

unicorn_peer = pytest.importorskip("tests.conformance.unicorn_peer", reason="Unicorn is not installed")

CASES, CASES_LONG = 1_500, 60_000
COMPARED_MIN = 0.7  # of the cases run to the end on both sides


def check(real: bool, seed: int, count: int) -> None:
    template = harness.data_template(TEMPLATE_SEED)
    ours = harness.RealPeer(template) if real else harness.InterpPeer(template)
    places = (harness.REAL_CODE, harness.REAL_DATA) if real else (harness.CODE_BASE, harness.DATA_BASE)
    batch = (RealGenerator if real else FlatGenerator)(seed).batch(count)
    mine = ours.run(batch.cases)
    other = unicorn_peer.UnicornPeer(template, real, *places).run(batch.cases)
    mine, other = unicorn_peer.comparable(mine, other, real)
    text = compare.report(batch, mine, other, differences.UNICORN_RULES)
    assert not text, text
    assert ((mine["trap"] == rules.NONE) & (other["trap"] == rules.NONE)).mean() > COMPARED_MIN
    ours.close()


def test_real_mode() -> None:
    check(True, 1, CASES)


def test_flat() -> None:
    check(False, 2, CASES)


@pytest.mark.long
def test_much_real_mode() -> None:
    check(True, 11, CASES_LONG)


@pytest.mark.long
def test_much_flat() -> None:
    check(False, 12, CASES_LONG)
