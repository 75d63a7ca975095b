"""How the VMkernel's one thread is shared out among machines: turns, and an allowance for what does nobody any good.

In a round each machine that has something to say has one turn, of about TURN_NS of work; what it overdraws counts
against its next ones (deficit round robin). So who sends much takes nothing from who needs less than an equal share.
Frames that reach nobody (too short, too long, forged, with a tag that is not allowed, for nobody, for one who does not
keep up), changes of filters, and frames for many, which cost every receiver too, are paid from an allowance besides: a
thirtieth of the thread's time for all such machines together. Who has used up its own is not listened to until it has
some again: it is told to wait at its own port, and the others keep their speed.
Work is estimated from what was done, not measured: the host may take the processor away at any moment.
"""

from __future__ import annotations

MESSAGE_NS, FRAME_NS = 4_000, 2_000  # of work: to receive a message, to forward a frame to one
COPY_NS = 5_000  # and for each receiver of a frame for many
VAIN_NS = 3_000  # of a frame in vain, with what the host does for its sender; and a nanosecond for each byte
CHANGE_NS = 20_000  # of a filter
TURN_NS = 100_000
CREDIT_MIN_NS = -10 * TURN_NS
SHARE = 30  # one part of so many may be in vain
BURST_NS = 10_000_000  # in vain at once, after a quiet time
REFILL_NS = 500_000  # this much is there again when a wait is over: waits are few and long, not many and short


class Allowance:
    """Of one machine, for work in vain. Time is in nanoseconds and never goes back."""

    __slots__ = ("_level_ns", "_now_ns")

    def __init__(self, now_ns: int) -> None:
        self._level_ns, self._now_ns = BURST_NS, now_ns

    def spend(self, work_ns: int, now_ns: int, others: int) -> int:
        """Until when to wait: 0 for not at all. `others` are waiting for theirs now, and share what there is."""
        self._level_ns = min(self._level_ns + (now_ns - self._now_ns) // SHARE, BURST_NS) - work_ns
        self._now_ns = now_ns
        if self._level_ns >= 0:
            return 0
        until_ns = now_ns + (REFILL_NS - self._level_ns) * SHARE * (1 + others)
        self._level_ns, self._now_ns = REFILL_NS, until_ns
        return until_ns


def work_of(frames: int, size: int, copies: int) -> int:
    """To receive frames of `size` bytes in all, and hand over so many copies."""
    return frames * FRAME_NS + copies * FRAME_NS // 2 + size // 2
