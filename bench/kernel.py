"""Guests that print what they measured, beside the emulators: kernel work here, by `nano` and `syscalls`.

A peer whose guest clock follows the host's is compared by what the guest prints. Of one whose clock does not (Bochs),
only the host's time between two lines is known, as the difference of a long and a short run; then we are measured the
same way for that row, and since `nano` takes its empty loop off only in what it prints, the measure is called
`NAME+loops`: the operation and two turns of an empty loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.peers import GuestPeer
from bench.plan import SHORT, Plan
from bench.rows import Better, absolute, compare, median
from bench.transcript import RunFailed, Transcript

NANO_TRIES = 3  # guests/nano runs each loop so often, and the empty loop too


def run_alone(guest: Guest, peer: GuestPeer, count: int) -> Transcript:
    return peer.run(guest.name, f"count={count}")


@dataclass(frozen=True, slots=True)
class Guest:
    """How a guest is run, and its lines are read.

    `unit` is that of the operation named; `passes` is loops per line; `printed` makes the value of a line's fields,
    `from_host_ns` of an operation's name and the host's time for one repeat. `not_beside` names peers to leave out.
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


NANO = Guest(
    "nano", "NANO", lambda name: "ns", Better.LOW, NANO_TRIES, lambda fields: float(fields[2]), lambda name, ns: ns,
    "+loops",
)  # fmt: skip
SYSCALLS = Guest(
    "syscalls", "SYSCALL", lambda name: "round trips/s", Better.HIGH, 1, lambda fields: float(fields[1]),
    lambda name, ns: 1e9 / ns,
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
    for name in measure_guest(plan, NANO, plan.effort.nano_count):
        cycles = plan.kept(f"nano.{name} cycles", plan.ours.name)
        if cycles:
            plan.rows.append(absolute(f"{plan.ours.engine}.nano.{name}", "cycles", median(cycles)))


def measure_syscalls(plan: Plan) -> None:
    measure_guest(plan, SYSCALLS, plan.effort.syscall_count)


def measure_guest(plan: Plan, guest: Guest, count: int) -> list[str]:
    """Every peer, interleaved; then a row per operation and peer. The names of the operations."""
    peers = [peer for peer in plan.guest_peers() if peer.name not in guest.not_beside]
    by_host = [peer for peer in peers if not plan.follows_host(peer)]
    timed = [plan.ours, *by_host] if by_host else []
    names: dict[str, None] = {}
    for repetition in range(plan.effort.repetitions):
        for peer in list(peers):
            plan.say(f"{guest.name} {repetition + 1}/{plan.effort.repetitions}: {peer.name}")
            try:
                names |= sample(plan, guest, peer, count, with_host=peer in timed)
            except RunFailed as error:
                plan.errors.append(f"{guest.name}: {peer.name}: {error}")
                peers.remove(peer)
    for peer in peers:
        if peer is plan.ours or plan.ours not in peers:
            continue
        for name in names:
            add_row(plan, guest, name, peer)
    return list(names)


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
            plan.keep(f"{guest.name}.{name} by host", peer.name, guest.from_host_ns(name, ns))
    return names


def add_row(plan: Plan, guest: Guest, name: str, peer: GuestPeer) -> None:
    follows = plan.follows_host(peer)
    measure_name = f"{guest.name}.{name}" + ("" if follows else " by host")
    ours, theirs = plan.kept(measure_name, plan.ours.name), plan.kept(measure_name, peer.name)
    row_name = f"{plan.ours.engine}.{guest.name}.{name}{'' if follows else guest.host_suffix}"
    if not ours or not theirs:
        plan.notes.append(f"left out: {row_name} beside {peer.name}: not timed, or not by both")
        return
    try:
        plan.rows.append(compare(row_name, guest.unit(name), guest.better, median(ours), median(theirs), peer.name))
    except ValueError as error:
        plan.notes.append(f"left out: {error}")
