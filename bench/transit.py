"""What leaving user code costs in the middle of a long stretch of it: `transit`, engine by engine, in absolute ns.

It is the other side of `nano`, whose operations follow one upon another: an engine that measures what pays would run
`nano` in its interpreter, and runs this on the host's processor. The stretch is taken off by the guest, and of small
batches the fastest counts, so a figure is right to some tens of ns. An access to a device in Python is also held
against the reference, and again after a stretch in which whoever answers it has fallen asleep.
"""

from __future__ import annotations

from bench.devices import exit_row
from bench.peers import Ringfence
from bench.plan import Plan
from bench.rows import absolute, median
from bench.transcript import RunFailed

STRETCH = "stretch"
DEVICE = "device_port"
ASLEEP_US = 200  # a stretch after which nobody looks out for the next exit
ASLEEP = f"{DEVICE}_after_{ASLEEP_US}us"
ASLEEP_SHARE = 5  # that many times fewer crossings


def runs(count: int) -> dict[str, tuple[str, dict[str, str]]]:
    """Command line of each run, and what its lines are called here where that differs."""
    return {
        "": (f"count={count}", {}),
        ASLEEP: (f"count={count // ASLEEP_SHARE} stretch={ASLEEP_US} only={DEVICE}", {DEVICE: ASLEEP}),
    }


def sample(plan: Plan, engine: Ringfence, count: int) -> None:
    """One repetition into the plan's samples."""
    for command_line, names in runs(count).values():
        for span in engine.run("transit", command_line).spans("TRANSIT"):
            name, ns = span.fields
            if name != STRETCH:
                plan.keep(f"transit.{names.get(name, name)}", engine.name, float(ns))


def measure(plan: Plan) -> None:
    """A row in ns per engine and kind of crossing, and one in us for each kind that leaves the engine."""
    engines = [engine for engine in plan.engines if engine.name in plan.clocks]
    for repetition in range(plan.effort.repetitions):
        for engine in list(engines):
            plan.say(f"transit {repetition + 1}/{plan.effort.repetitions}: {engine.name}")
            try:
                sample(plan, engine, plan.effort.transit_count)
            except RunFailed as error:
                plan.errors.append(f"transit: {engine.name}: {error}")
                engines.remove(engine)
    for engine in engines:
        add_rows(plan, engine)


def add_rows(plan: Plan, engine: Ringfence) -> None:
    prefix = "transit."
    kinds = dict.fromkeys(key.partition(" / ")[0] for key in plan.samples if key.startswith(prefix))
    for kind in kinds:
        ours, theirs = plan.kept(kind, engine.name), plan.kept(kind, plan.ours.name)
        if ours:
            plan.rows.append(absolute(f"{engine.engine}.{kind}", "ns", median(ours)))
        if engine is not plan.ours and kind.removeprefix(prefix) in (DEVICE, ASLEEP) and ours and theirs:
            pair = median(ours) / 1000, median(theirs) / 1000
            if min(pair) > 0:
                plan.rows.append(exit_row(kind, engine, plan.ours, *pair))
