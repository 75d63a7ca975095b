"""What a run of the benchmarks results in: rows, each one measure, ours beside at most one peer's.

    {"measure", "unit", "ours", "peer", "peer_name", "ratio", "must", "aim"}

`ratio` above 1 means that we are better, whether the unit is a time or a rate; `must` and `aim` are ratios in that
sense. Of repetitions made in turn, it is the median of their ratios: a host that slows down slows both of a pair.
A row without a peer is an absolute number: peer, peer_name and ratio are null.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum


class Better(Enum):
    """Which way a unit counts: a rate should be high, a time low."""

    HIGH = "high"
    LOW = "low"


class Verdict(Enum):
    """How a row stands to what was asked of it."""

    NONE = ""
    AIM = "met aim"
    MUST = "met must"
    BELOW = "below aim"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of bench/results.json."""

    measure: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str | None = None
    ratio: float | None = None
    must: float | None = None
    aim: float | None = None

    def verdict(self) -> Verdict:
        """Without `must` and `aim`, or without a ratio to hold against them, there is none."""
        if self.ratio is None or (self.must is None and self.aim is None):
            return Verdict.NONE
        if self.must is not None and self.ratio < self.must:
            return Verdict.MISSED
        if self.aim is not None and self.ratio >= self.aim:
            return Verdict.AIM
        return Verdict.MUST if self.must is not None else Verdict.BELOW

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def compare(
    measure: str, unit: str, better: Better, ours: float, peer: float, peer_name: str, must: float | None = None,
    aim: float | None = None,
) -> Row:  # fmt: skip
    """A row of two positive numbers. Raises ValueError for others: they have no ratio."""
    if not (ours > 0 and peer > 0 and math.isfinite(ours) and math.isfinite(peer)):
        raise ValueError(f"{measure}: no ratio of {ours} to {peer}")
    ratio = ours / peer if better is Better.HIGH else peer / ours
    return Row(measure, unit, significant(ours), significant(peer), peer_name, significant(ratio), must, aim)


def compare_runs(
    measure: str, unit: str, better: Better, ours: Sequence[float], peer: Sequence[float], peer_name: str,
    must: float | None = None, aim: float | None = None,
) -> Row:  # fmt: skip
    """A row of repetitions, the n-th of ours made beside the n-th of the peer's, of whom there may be fewer, or more.

    Beside a single one it is the ratio of medians.
    Raises ValueError as `compare` does.
    """
    row = compare(measure, unit, better, median(ours), median(peer), peer_name, must, aim)
    pairs = list(zip(ours, peer, strict=False))
    if len(pairs) == 1 or min(ours) <= 0 or min(peer) <= 0:
        return row
    ratios = [a / b if better is Better.HIGH else b / a for a, b in pairs]
    return replace(row, ratio=significant(median(ratios)))


def absolute(measure: str, unit: str, ours: float) -> Row:
    return Row(measure, unit, significant(ours))


def significant(value: float, digits: int = 4) -> float:
    """Rounded to `digits` significant digits: what a benchmark can promise."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def geometric_mean(values: Iterable[float]) -> float:
    return statistics.geometric_mean(values)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
