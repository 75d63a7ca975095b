"""Guests that print what they measured, beside the emulators and engine by engine: `nano` and `syscalls` here.

A peer whose guest clock follows the host's is compared by what the guest prints. Of one whose clock does not (Bochs),
only the host's time between two lines is known, as the difference of a long and a short run; then we are measured the
same way for that row, and since `nano` takes its empty loop off only in what it prints, the measure is called
`NAME+loops`: the operation and two turns of an empty loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.engines import NO_SLOWER
from bench.peers import GuestPeer, Ringfence
from bench.plan import SHORT, Plan
from bench.rows import Better, absolute, compare_runs, median
from bench.transcript import RunFailed, Transcript

BY_HOST = " by host"  # measured so
NANO_TRIES = 3  # guests/nano runs each loop so often, and the empty loop too


Targets = tuple[float | None, float | None]  # must and aim
NOTHING_ASKED: Targets = (None, None)


def run_alone(guest: Guest, peer: GuestPeer, count: int) -> Transcript:
    return peer.run(guest.name, f"count={count}")


def nothing_asked(engine: Ringfence, peer: GuestPeer) -> Targets:
    return NOTHING_ASKED


def no_slower(engine: Ringfence, peer: GuestPeer) -> Targets:
    """No engine makes anything much slower than our interpreter does."""
    return (NO_SLOWER, None) if isinstance(peer, Ringfence) else NOTHING_ASKED


def asked_of_nano(engine: Ringfence, peer: GuestPeer) -> Targets:
    """And direct execution should make nothing slower than the emulators do."""
    if isinstance(peer, Ringfence):
        return no_slower(engine, peer)
    return (None, 1.0) if engine.engine == "direct" else NOTHING_ASKED


@dataclass(frozen=True, slots=True)
class Guest:
    """How a guest is run, and its lines are read.

    `unit` is that of the operation named; `passes` is loops per line; `printed` makes the value of a line's fields,
    `from_host_ns` of an operation's name and the host's time for one repeat. `not_beside` names peers to leave out;
    `targets` gives must and aim of an engine of ours beside a peer, or beside the reference engine if `by_engine`.
    """

    name: str
    word: str
    unit: Callable[[str], str]
    better: Better
    passes: int
    printed: Callable[[tuple[str, ...]], float]
    from_host_ns: Callable[[str, float], float]
    host_suffix: str = ""
    run: Callable[[Guest, GuestPeer, int], Transcript] = run_alone
    not_beside: frozenset[str] = frozenset()
    targets: Callable[[Ringfence, GuestPeer], Targets] = nothing_asked
    by_engine: bool = True


NANO = Guest(
    "nano", "NANO", lambda name: "ns", Better.LOW, NANO_TRIES, lambda fields: float(fields[2]), lambda name, ns: ns,
    "+loops", targets=asked_of_nano,
)  # fmt: skip
SYSCALLS = Guest(
    "syscalls", "SYSCALL", lambda name: "round trips/s", Better.HIGH, 1, lambda fields: float(fields[1]),
    lambda name, ns: 1e9 / ns, targets=no_slower,
)  # fmt: skip


def host_ns(guest: Guest, long: Transcript, short: Transcript, repeats: int) -> dict[str, float]:
    """Host ns of one repeat by name, where `long` did `repeats` more of each loop than `short`.

    A name is left out when no time passed, as on a host too busy to let us read its line in time.
    """
    before = {span.fields[0]: span.host_ns for span in short.spans(guest.word)}
    found = {}
    for span in long.spans(guest.word):
        name = span.fields[0]
        if span.host_ns > before.get(name, span.host_ns):
            found[name] = (span.host_ns - before[name]) / (repeats * guest.passes)
    return found


def measure_nano(plan: Plan) -> None:
    """Rows in ns beside each peer, and our cycles of the TSC."""
    names = measure_guest(plan, NANO, plan.effort.nano_count)
    for engine in plan.engines:
        for name in names:
            cycles = plan.kept(f"nano.{name} cycles", engine.name)
            if cycles:
                plan.rows.append(absolute(f"{engine.engine}.nano.{name}", "cycles", median(cycles)))


def measure_syscalls(plan: Plan) -> None:
    measure_guest(plan, SYSCALLS, plan.effort.syscall_count)


def measure_guest(plan: Plan, guest: Guest, count: int) -> list[str]:
    """Every peer, interleaved; then a row per operation and peer. The names of the operations."""
    peers = [peer for peer in plan.guest_peers() if peer.name not in guest.not_beside]
    names: dict[str, None] = {}
    effort = plan.effort
    least = max(effort.repetitions, effort.pair_repetitions)
    most = max(least, effort.pair_repetitions_most if guest.by_engine else 0)
    for repetition in range(most):
        if repetition >= least and plan.is_settled(measure_name(plan, guest, name, plan.engines) for name in names):
            break
        taking_part, timed = contenders(plan, peers, repetition)
        for peer in taking_part:
            plan.say(f"{guest.name} {repetition + 1}/{least}: {peer.name}")
            try:
                names |= sample(plan, guest, peer, count, with_host=peer in timed)
            except RunFailed as error:
                plan.errors.append(f"{guest.name}: {peer.name}: {error}")
                peers.remove(peer)
    for engine, peer in plan.pairs(peers):
        if isinstance(peer, Ringfence) and not guest.by_engine:
            continue
        for name in names:
            add_row(plan, guest, name, engine, peer)
    return list(names)


def contenders(plan: Plan, peers: list[GuestPeer], repetition: int) -> tuple[list[GuestPeer], list[GuestPeer]]:
    """Who takes part in a repetition, and who of them is timed by the host, too."""
    effort = plan.effort
    if repetition < effort.by_host_repetitions:
        return list(peers), timed_by_host(plan, peers)
    engines: list[GuestPeer] = [engine for engine in plan.engines if engine in peers]
    paired = engines if repetition < effort.pair_repetitions_most and len(engines) > 1 else []
    here = [peer for peer in peers if (repetition < effort.repetitions and plan.follows_host(peer)) or peer in paired]
    return here, timed_by_host(plan, paired)


def timed_by_host(plan: Plan, peers: list[GuestPeer]) -> list[GuestPeer]:
    """Those whose clock does not follow the host's, and all that are held against them."""
    astray = [peer for peer in peers if not plan.follows_host(peer)]
    if any(isinstance(peer, Ringfence) for peer in astray):
        return peers
    return [peer for peer in peers if peer in astray or isinstance(peer, Ringfence)] if astray else []


def sample(plan: Plan, guest: Guest, peer: GuestPeer, count: int, *, with_host: bool) -> dict[str, None]:
    """One repetition of one peer into the plan's samples; the names of what was measured, in order."""
    long = guest.run(guest, peer, count)
    names: dict[str, None] = {}
    for span in long.spans(guest.word):
        names[span.fields[0]] = None
        plan.keep(f"{guest.name}.{span.fields[0]}", peer.name, guest.printed(span.fields))
        if guest is NANO:
            plan.keep(f"{guest.name}.{span.fields[0]} cycles", peer.name, float(span.fields[1]))
    if with_host:
        short = guest.run(guest, peer, count // SHORT)
        for name, ns in host_ns(guest, long, short, count - count // SHORT).items():
            plan.keep(f"{guest.name}.{name}{BY_HOST}", peer.name, guest.from_host_ns(name, ns))
    return names


def measure_name(plan: Plan, guest: Guest, name: str, peers: Iterable[GuestPeer]) -> str:
    """Of the samples by which these are compared."""
    return f"{guest.name}.{name}" + ("" if all(plan.follows_host(peer) for peer in peers) else BY_HOST)


def add_row(plan: Plan, guest: Guest, name: str, engine: Ringfence, peer: GuestPeer) -> None:
    measured = measure_name(plan, guest, name, (engine, peer))
    ours, theirs = plan.kept(measured, engine.name), plan.kept(measured, peer.name)
    row_name = f"{engine.engine}.{guest.name}.{name}{guest.host_suffix if measured.endswith(BY_HOST) else ''}"
    if not ours or not theirs:
        plan.notes.append(f"left out: {row_name} beside {peer.name}: not timed, or not by both")
        return
    must, aim = guest.targets(engine, peer)
    try:
        plan.rows.append(compare_runs(row_name, guest.unit(name), guest.better, ours, theirs, peer.name, must, aim))
    except ValueError as error:
        plan.notes.append(f"left out: {error}")
