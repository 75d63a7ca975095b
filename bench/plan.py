"""What one run of the benchmarks is to do, who takes part, and what it has found so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from bench.clocks import ClockCheck
from bench.peers import GuestPeer, Peers, Ringfence
from bench.precision import is_settled
from bench.rows import Row

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work a repetition is, and how often a kernel is booted. Times are seconds of the host.

    A peer whose guest's clock goes astray takes part in the first `by_host_repetitions` only: it takes much longer.
    Our engines, which are to be within a tenth of each other, go on beside one another: guests for `pair_repetitions`,
    kernels for `pair_boots`, and as far as the same with `_most` while their ratios are not settled (precision.py).
    """

    repetitions: int
    by_host_repetitions: int
    workload_s: float  # the least for a workload of `compute`
    nano_count: int
    syscall_count: int
    device_count: int
    transit_count: int
    boots: int
    pair_repetitions: int
    pair_repetitions_most: int
    pair_boots: int
    pair_boots_most: int

    def repeated(self, repetitions: int) -> Effort:
        return replace(
            self, repetitions=repetitions, by_host_repetitions=repetitions, boots=repetitions,
            pair_repetitions=repetitions, pair_repetitions_most=repetitions, pair_boots=repetitions,
            pair_boots_most=repetitions,
        )  # fmt: skip


FULL = Effort(
    5, by_host_repetitions=3, workload_s=0.3, nano_count=500_000, syscall_count=1_000_000, device_count=100_000,
    transit_count=3000, boots=3, pair_repetitions=11, pair_repetitions_most=41, pair_boots=7, pair_boots_most=21,
)  # fmt: skip
QUICK = Effort(
    1, by_host_repetitions=1, workload_s=0.05, nano_count=10_000, syscall_count=50_000, device_count=10_000,
    transit_count=100, boots=1, pair_repetitions=1, pair_repetitions_most=1, pair_boots=1, pair_boots_most=1,
)  # fmt: skip
SHORT = 20  # a run that only gives what to subtract is this many times shorter


@dataclass(slots=True)
class Plan:
    """What the measures of one run share.

    `ours` is the reference among our engines, `others` are the rest. `samples` keeps every repetition, by measure and
    contender; `errors` void a measure; `notes` say why a row is not there.
    """

    ours: Ringfence
    peers: Peers
    effort: Effort
    say: Say
    clocks: dict[str, ClockCheck] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: tuple[Ringfence, ...] = ()

    @property
    def engines(self) -> tuple[Ringfence, ...]:
        """Ours, the reference first."""
        return (self.ours, *self.others)

    def guest_peers(self) -> list[GuestPeer]:
        """Those that run guests and have passed the clock check, our engines first."""
        return [peer for peer in (*self.engines, *self.peers.emulators()) if peer.name in self.clocks]

    def pairs(self, peers: Sequence[GuestPeer]) -> list[tuple[Ringfence, GuestPeer]]:
        """Of `peers`, each engine of ours with everyone it is held against: the emulators, then the reference."""
        engines = [engine for engine in self.engines if engine in peers]
        emulators = [peer for peer in peers if peer not in engines]
        found: list[tuple[Ringfence, GuestPeer]] = []
        for engine in engines:
            found += [(engine, peer) for peer in emulators]
            if engine is not self.ours and self.ours in engines:
                found.append((engine, self.ours))
        return found

    def workloads(self) -> list[str]:
        """Of `compute`, in its order; none unless somebody ran it."""
        return list(next((check.probe for check in self.clocks.values()), ()))

    def follows_host(self, peer: GuestPeer) -> bool:
        return self.clocks[peer.name].follows_host

    def is_settled(self, measures: Iterable[str]) -> bool:
        """Is it known how our engines stand beside the reference, each that took part in as much as it did?"""
        return all(
            is_settled(self.kept(measure, engine.name), self.kept(measure, self.ours.name))
            for measure in measures for engine in self.others
        )  # fmt: skip

    def keep(self, measure: str, contender: str, value: float) -> None:
        self.samples.setdefault(f"{measure} / {contender}", []).append(value)

    def kept(self, measure: str, contender: str) -> list[float]:
        return self.samples.get(f"{measure} / {contender}", [])
