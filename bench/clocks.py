"""Does the clock that a guest sees run with the host's?

Two runs of `compute` of different length are compared: what the guest's clock and the host's say that the longer one
took more, which has to be so long that lines read late do not matter. The first workload is left out, since the host's
time for it includes the start of the emulator. A peer whose
clock is off by more than TOLERANCE is measured by the host's clock, always as the difference of two runs; so is one
whose clock counts instructions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.peers import GuestPeer
from bench.transcript import Work, works

TOLERANCE = 0.05
TRIES = 3  # on a busy host a line is read late; the best agreement counts
PROBE_SCALE = 20  # percent of the usual work
LONGER = 4
ENOUGH_NS = 200_000_000  # of the host, that the longer run takes more
LONGEST = 50  # times the work of a probe


@dataclass(frozen=True, slots=True)
class ClockCheck:
    """`agreement` is guest time over host time; `probe` the longer run's works, `scale` its percent of the usual work.

    Where `can_follow` is false the guest's clock counts something else, and agrees by chance if it does.
    """

    agreement: float
    probe: dict[str, Work]
    can_follow: bool = True
    scale: int = PROBE_SCALE * LONGER

    @property
    def follows_host(self) -> bool:
        return self.can_follow and abs(self.agreement - 1) <= TOLERANCE


def check_clock(peer: GuestPeer) -> ClockCheck:
    """Raises RunFailed."""
    best = None
    scale = PROBE_SCALE
    for _ in range(TRIES if peer.clock_can_follow else 1):
        short, long = run_twice(peer, scale)
        took = later_ns(short, long)[1]
        if peer.clock_can_follow and took < ENOUGH_NS:
            scale = min(scale * math.ceil(ENOUGH_NS / max(took, 1)), PROBE_SCALE * LONGEST)
            short, long = run_twice(peer, scale)
        check = ClockCheck(agreement(short, long), long, peer.clock_can_follow, scale * LONGER)
        if best is None or disagreement(check) < disagreement(best):
            best = check
        if best.follows_host:
            break
    assert best is not None
    return best


def run_twice(peer: GuestPeer, scale: int) -> tuple[dict[str, Work], dict[str, Work]]:
    short, long = (works(peer.run("compute", f"scale={percent}")) for percent in (scale, scale * LONGER))
    return short, long


def disagreement(check: ClockCheck) -> float:
    """How far the two clocks are apart, either way; without a measurement, infinitely."""
    return abs(math.log(check.agreement)) if check.agreement > 0 else math.inf


def agreement(short: dict[str, Work], long: dict[str, Work]) -> float:
    """Guest time over host time of what `long` did beyond `short`; 0 when the host saw no time pass."""
    guest, host = later_ns(short, long)
    return guest / host if host > 0 else 0.0


def later_ns(short: dict[str, Work], long: dict[str, Work]) -> tuple[float, float]:
    """By the guest's clock and by the host's, what `long` did beyond `short`."""
    later = list(long)[1:]
    guest = sum(long[name].clock_ns - short[name].clock_ns for name in later)
    host = sum(long[name].host_ns - short[name].host_ns for name in later)
    return guest, host
