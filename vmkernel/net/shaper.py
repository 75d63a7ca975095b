"""Traffic shaping of one port: a bonus of `burst` bytes fills at the average rate, and while it lasts, the peak counts.

A port that was quiet sends burst * 8 / (peak - average) seconds at its peak, then at its average. Amounts are whole
numbers of bits times nanoseconds per second, so nothing is lost by rounding however often it is asked.
Source: ESX Server 3 Configuration Guide, "Traffic Shaping Policy".
"""

from __future__ import annotations

from vmkernel.net.policy import Shaping

SECOND = 1_000_000_000
BITS = 8 * SECOND  # of a byte, in the unit of the levels
SLACK_NS = 10_000_000  # so late may a frame be released without a loss of speed


class Shaper:
    """Says when. Time is in nanoseconds and never goes back."""

    __slots__ = ("_average", "_bonus", "_bonus_max", "_line", "_line_max", "_now", "_peak")

    def __init__(self, shaping: Shaping, now_ns: int) -> None:
        self._average, self._peak, self._now = shaping.average, shaping.peak, now_ns
        self._bonus = shaping.burst * BITS
        self._bonus_max = max(self._bonus, shaping.average * SLACK_NS)
        self._line = self._line_max = shaping.peak * SLACK_NS

    def admit(self, length: int, now_ns: int) -> bool:
        """May a frame of so many bytes go now? It is counted if so."""
        self._fill(now_ns)
        if self._bonus <= 0 or self._line <= 0:
            return False
        self._bonus -= length * BITS
        self._line -= length * BITS
        return True

    def wait_ns(self, now_ns: int) -> int:
        """How long until the next frame may go."""
        self._fill(now_ns)
        waits = [1 + -level // rate for level, rate in ((self._bonus, self._average), (self._line, self._peak))
                 if level <= 0]  # fmt: skip
        return max(waits, default=0)

    def _fill(self, now_ns: int) -> None:
        passed = now_ns - self._now
        if passed > 0:
            self._now = now_ns
            self._bonus = min(self._bonus + passed * self._average, self._bonus_max)
            self._line = min(self._line + passed * self._peak, self._line_max)
