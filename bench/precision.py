"""When enough pairs have been measured: how well the median of their ratios is known.

A host whose neighbours come and go gives pairs with ratios far apart, and the median of few of them may be anything.
Two contenders that are to be within a tenth of each other are therefore measured until the middle is known, whatever
it is: the rule looks at how far the ratios lie apart, not at where.
Source: the confidence interval of a median by order statistics (the sign test's).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

DOUBT = 0.1  # that the median of all that could be measured lies outside
WIDTH = 1.06  # of the interval, end by end


def median_interval(values: Sequence[float], doubt: float = DOUBT) -> tuple[float, float]:
    """Where the median of what `values` are a sample of lies, but for `doubt`; few values give their whole range."""
    ordered = sorted(values)
    count = len(ordered)
    outside, tail = 0, 2**-count
    while outside < (count - 1) // 2 and tail <= doubt / 2:
        outside += 1
        tail += math.comb(count, outside) * 2**-count
    lowest = max(outside - 1, 0)
    return ordered[lowest], ordered[count - 1 - lowest]


def is_settled(ours: Sequence[float], peer: Sequence[float]) -> bool:
    """Is the median of the pairs' ratios known well enough? Of numbers that have no ratio nothing better will come."""
    pairs = list(zip(ours, peer, strict=False))
    if not pairs or min(min(pair) for pair in pairs) <= 0:
        return True
    low, high = median_interval([a / b for a, b in pairs])
    return high / low <= WIDTH
