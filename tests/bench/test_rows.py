"""A row's form, its ratio and its verdict."""

from __future__ import annotations

import pytest

from bench.rows import Better, Row, Verdict, absolute, compare, geometric_mean, significant

FIELDS = ["measure", "unit", "ours", "peer", "peer_name", "ratio", "must", "aim"]


def test_a_row_has_exactly_the_agreed_fields() -> None:
    assert list(compare("m", "ns", Better.LOW, 1, 2, "peer").as_json()) == FIELDS
    assert list(absolute("m", "exits/s", 3).as_json()) == FIELDS


def test_an_absolute_row_has_nulls_where_a_peer_would_be() -> None:
    row = absolute("m", "exits/s", 12.34567).as_json()
    assert row["ours"] == 12.35
    assert [row[name] for name in ("peer", "peer_name", "ratio", "must", "aim")] == [None] * 5


def test_a_ratio_above_one_means_that_we_are_better() -> None:
    assert compare("m", "MIPS", Better.HIGH, 300, 100, "peer").ratio == 3
    assert compare("m", "ns", Better.LOW, 100, 300, "peer").ratio == 3


def test_thirty_times_the_native_time_is_a_ratio_of_a_thirtieth() -> None:
    assert compare("m", "ns", Better.LOW, 30, 1, "native").ratio == pytest.approx(1 / 30, rel=1e-3)


@pytest.mark.parametrize(("ours", "peer"), [(0, 1), (1, 0), (-1, 1), (float("inf"), 1), (1, float("nan"))])
def test_numbers_without_a_ratio_are_refused(ours: float, peer: float) -> None:
    with pytest.raises(ValueError, match="no ratio"):
        compare("m", "ns", Better.LOW, ours, peer, "peer")


@pytest.mark.parametrize(
    ("ratio", "must", "aim", "verdict"),
    [
        (0.032, 0.033, 0.067, Verdict.MISSED),
        (0.033, 0.033, 0.067, Verdict.MUST),
        (0.066, 0.033, 0.067, Verdict.MUST),
        (0.067, 0.033, 0.067, Verdict.AIM),
        (1.0, 1.0, None, Verdict.MUST),
        (0.9, None, 1.0, Verdict.BELOW),
        (1.1, None, 1.0, Verdict.AIM),
        (5.0, None, None, Verdict.NONE),
        (None, 1.0, None, Verdict.NONE),
    ],
)
def test_verdicts(ratio: float | None, must: float | None, aim: float | None, verdict: Verdict) -> None:
    assert Row("m", "ns", 1.0, 1.0, "peer", ratio, must, aim).verdict() is verdict


def test_numbers_are_cut_to_four_digits() -> None:
    assert [significant(value) for value in (0.0666666, 123456.0, 0.0, -2.34567)] == [0.06667, 123500.0, 0.0, -2.346]


def test_the_geometric_mean_of_ratios_is_the_ratio_of_geometric_means() -> None:
    ours, theirs = [2.0, 8.0, 4.0], [1.0, 2.0, 16.0]
    mean = geometric_mean(a / b for a, b in zip(ours, theirs, strict=True))
    assert mean == pytest.approx(geometric_mean(ours) / geometric_mean(theirs))
