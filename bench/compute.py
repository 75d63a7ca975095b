"""User code: the workloads of `compute`, engine by engine, beside native code, TCG, Bochs and Unicorn.

Each contender gets the amount of each workload that takes it the same time; then, workload by workload, repetitions
alternate: A B C D, A B C D. What counts is the time of one operation; the number of instructions in an operation,
counted once by our interpreter, turns it into MIPS. It is the same number for everyone: the object code is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.clocks import PROBE_SCALE
from bench.engines import NO_SLOWER
from bench.flat import Unicorn
from bench.inside import instructions_of
from bench.peers import Bochs, GuestPeer, Native, Ringfence, Tcg
from bench.plan import Plan
from bench.rows import Better, Row, compare_runs, geometric_mean, significant
from bench.transcript import RunFailed, Work, works

UNIT = "MIPS"
MARGIN = 1.25  # a short probe runs slower than the whole
NATIVE_PROBE_SCALE = 400
BY_HOST_LONGER = 4  # a difference of two runs has the noise of two starts in it

# engine, peer: (must, aim) of the geometric mean
TARGETS: dict[tuple[str, str], tuple[float | None, float | None]] = {
    ("interp", Native.name): (0.033, 0.067),
    ("interp", Unicorn.name): (1.0, None),
    ("interp", Bochs.name): (1.0, None),
    ("direct", Native.name): (0.952, 0.99),
    ("direct", Tcg.name): (5.0, 9.0),
    ("direct", Unicorn.name): (1.0, None),
    ("direct", Bochs.name): (1.0, None),
}


@dataclass(slots=True)
class Contender:
    """One who computes. `scales` are percent of the usual work of each workload.

    With `by_host`, a sample is the difference of two runs by the host's clock.
    """

    name: str
    run: Callable[[str, int], Work]
    scales: dict[str, int]
    by_host: bool = False

    def sample(self, workload: str) -> tuple[float, int]:
        """(ns per operation, checksum). Raises RunFailed."""
        work = self.run(workload, self.scales[workload])
        short = self.run(workload, PROBE_SCALE) if self.by_host else None
        return per_operation(work, short), work.checksum


def per_operation(work: Work, short: Work | None) -> float:
    """ns per operation: by the program's own clock, or by the host's as what `work` took beyond `short`."""
    if short is None:
        return work.clock_ns / work.operations
    ns = (work.host_ns - short.host_ns) / (work.operations - short.operations)
    if ns <= 0:
        raise RunFailed(f"{work.name}: the longer run took less time: the host is too busy to time it")
    return ns


def choose_scale(ns: float, scale: int, wanted_s: float) -> int:
    """The scale at which a workload takes at least `wanted_s`, when it took `ns` at `scale`."""
    return max(2 * PROBE_SCALE, math.ceil(scale * wanted_s * MARGIN * 1e9 / max(ns, 1.0)))


def measure(plan: Plan) -> None:
    """Every contender, interleaved; then the rows."""
    contenders = list(enter(plan))
    workloads = list(next((contender.scales for contender in contenders), ()))
    checksums: dict[str, dict[str, int]] = {contender.name: {} for contender in contenders}
    for workload in workloads:
        for repetition in range(plan.effort.repetitions):
            by_host_too = repetition < plan.effort.by_host_repetitions
            for contender in [one for one in contenders if by_host_too or not one.by_host]:
                plan.say(f"compute {workload} {repetition + 1}/{plan.effort.repetitions}: {contender.name}")
                try:
                    ns, checksum = contender.sample(workload)
                except RunFailed as error:
                    plan.errors.append(f"compute: {contender.name}: {error}")
                    contenders.remove(contender)
                    continue
                checksums[contender.name][workload] = checksum
                plan.keep(f"compute.{workload} ns/op", contender.name, ns)
    left = [contender.name for contender in contenders]
    engines = [engine for engine in plan.engines if engine.name in left]
    if not engines:
        return
    plan.say("compute: counting instructions")
    instructions = {workload: instructions_of(workload) for workload in workloads}
    others = [name for name in left if name not in [engine.name for engine in engines]]
    for engine in engines:
        beside = [plan.ours.name] if engine is not plan.ours and plan.ours in engines else []
        add_rows(plan, engine, others + beside, checksums, instructions)


def enter(plan: Plan) -> Iterator[Contender]:
    """Everyone who can compute, with the amount of work that suits them."""
    seconds = plan.effort.workload_s
    for peer in plan.guest_peers():
        yield guest_contender(peer, plan, seconds)
    if plan.peers.native is not None:
        native = program(plan.peers.native)
        probes = [native(workload, NATIVE_PROBE_SCALE) for workload in plan.workloads()]
        yield Contender(Native.name, native, scales_for(probes, NATIVE_PROBE_SCALE, seconds))
    if plan.peers.unicorn:
        unicorn = Unicorn()
        probes = [unicorn.run(workload, scale) for scale in (1, PROBE_SCALE) for workload in plan.workloads()]
        yield Contender(unicorn.name, unicorn.run, scales_for(probes[len(probes) // 2 :], PROBE_SCALE, seconds))


def guest_contender(peer: GuestPeer, plan: Plan, seconds: float) -> Contender:
    probes = list(plan.clocks[peer.name].probe.values())
    by_host = not plan.follows_host(peer)
    scales = scales_for(probes, plan.clocks[peer.name].scale, seconds * (BY_HOST_LONGER if by_host else 1))
    return Contender(peer.name, program(peer), scales, by_host)


def program(peer: GuestPeer) -> Callable[[str, int], Work]:
    """One workload of the guest or the native program."""

    def run(workload: str, scale: int) -> Work:
        found = works(peer.run("compute", f"only={workload} scale={scale}"))
        if list(found) != [workload]:
            raise RunFailed(f"asked for {workload}, {peer.name} ran {', '.join(found)}")
        return found[workload]

    return run


def scales_for(probes: list[Work], scale: int, seconds: float) -> dict[str, int]:
    return {work.name: choose_scale(work.clock_ns, scale, seconds) for work in probes}


def add_rows(
    plan: Plan, engine: Ringfence, peers: list[str], checksums: dict[str, dict[str, int]],
    instructions: dict[str, float],
) -> None:  # fmt: skip
    """A row per workload and peer, and the geometric means of those whose checksums all agree."""
    ours = checksums[engine.name]

    def mips(workload: str, contender: str) -> list[float]:
        return [1000 * instructions[workload] / ns for ns in plan.kept(f"compute.{workload} ns/op", contender)]

    for peer in peers:
        wrong = [workload for workload in ours if checksums[peer].get(workload) != ours[workload]]
        plan.errors += [f"compute.{workload}: {peer} has another checksum than {engine.name}" for workload in wrong]
        rows = [
            compare_runs(
                f"{engine.engine}.compute.{name}", UNIT, Better.HIGH, mips(name, engine.name), mips(name, peer), peer
            )
            for name in ours if name not in wrong
        ]  # fmt: skip
        plan.rows += rows
        if not wrong:
            plan.rows.append(mean_row(f"{engine.engine}.compute.geomean", rows, peer, *asked(engine, peer)))


def mean_row(measure_name: str, rows: list[Row], peer: str, must: float | None, aim: float | None) -> Row:
    """The geometric means of rows that all have a peer."""
    ours, theirs, ratio = (
        significant(geometric_mean(getattr(row, field) for row in rows)) for field in ("ours", "peer", "ratio")
    )
    return Row(measure_name, UNIT, ours, theirs, peer, ratio, must, aim)


def asked(engine: Ringfence, peer: str) -> tuple[float | None, float | None]:
    """Must and aim; of any other engine, no more than that it is not much slower than the reference."""
    return TARGETS.get((engine.engine, peer), (NO_SLOWER if peer.startswith("Ringfence ") else None, None))
