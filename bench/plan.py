"""What one run of the benchmarks is to do, who takes part, and what it has found so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bench.clocks import ClockCheck
from bench.peers import GuestPeer, Peers, Ringfence
from bench.rows import Row

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work a repetition is, and how often a kernel is booted. Times are seconds of the host."""

    repetitions: int
    workload_s: float  # the least for a workload of `compute`
    nano_count: int
    syscall_count: int
    device_count: int
    boots: int

    def repeated(self, repetitions: int) -> Effort:
        return replace(self, repetitions=repetitions, boots=repetitions)


FULL = Effort(5, workload_s=0.3, nano_count=500_000, syscall_count=1_000_000, device_count=100_000, boots=3)
QUICK = Effort(1, workload_s=0.05, nano_count=10_000, syscall_count=50_000, device_count=10_000, boots=1)
SHORT = 20  # a run that only gives what to subtract is this many times shorter


@dataclass(slots=True)
class Plan:
    """What the measures of one run share.

    `samples` keeps every repetition, by measure and contender; `errors` void a measure; `notes` say why a row is not
    there.
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

    def guest_peers(self) -> list[GuestPeer]:
        """Those that run guests and have passed the clock check, we first."""
        return [peer for peer in (self.ours, *self.peers.emulators()) if peer.name in self.clocks]

    def workloads(self) -> list[str]:
        """Of `compute`, in its order; none unless somebody ran it."""
        return list(next((check.probe for check in self.clocks.values()), ()))

    def follows_host(self, peer: GuestPeer) -> bool:
        return self.clocks[peer.name].follows_host

    def keep(self, measure: str, contender: str, value: float) -> None:
        self.samples.setdefault(f"{measure} / {contender}", []).append(value)

    def kept(self, measure: str, contender: str) -> list[float]:
        return self.samples.get(f"{measure} / {contender}", [])
