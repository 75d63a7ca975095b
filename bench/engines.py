"""Which engines of ours take part, and what is asked of one beside another.

The first is the reference: the others are held against it. Rows are named after the engine that they are about.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bench.peers import ROOT, Missing, Ringfence
from guests.builder import build
from ringfence.errors import BadOption

COUNTING = "interp"  # it counts every instruction; the usual reference, too
USUAL = (COUNTING, "direct")
NO_SLOWER = 0.909  # 1.1 times the reference's time at most
REFUSED_STATUS = 2  # `ringfence run`: bad input, options or a host that refuses
REFUSAL_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Engines:
    """Those that this host runs, in the order asked for, and why the others are left out."""

    here: tuple[Ringfence, ...]
    missing: tuple[Missing, ...]


def find_engines(asked_for: Sequence[str] | None) -> Engines:
    """The usual ones where nobody asks. Raises BadOption when one that was asked for does not run here."""
    here, missing = [], []
    for name in dict.fromkeys(asked_for or USUAL):
        engine = Ringfence(name)
        why_not = refusal(engine)
        if why_not and asked_for:
            raise BadOption(f"engine {name}: {why_not}")
        if why_not:
            missing.append(Missing(engine.name, why_not))
        else:
            here.append(engine)
    return Engines(tuple(here), tuple(missing))


def refusal(engine: Ringfence) -> str:
    """Why `ringfence run` would not even start a machine with it here; empty when it does.

    One that starts and then fails is no refusal: that is an error of the measures it takes part in.
    """
    command = [*engine.command(), str(build("hello"))]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT, timeout=REFUSAL_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    if done.returncode != REFUSED_STATUS:
        return ""
    return (done.stderr.strip().splitlines() or ["refused"])[-1]
