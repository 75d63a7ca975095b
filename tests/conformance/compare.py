"""Compares the results of a batch: which fields differ, and what is left when the table is applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import differences
from generator import Batch
from harness import Results

# Bytes of the FXSAVE image that are compared: FCW FSW FTW, MXCSR, ST0..7, XMM0..7. FOP, FIP, FCS, FDP and FDS are not:
# processors disagree on when they are loaded, and a 64-bit kernel's image has no FCS and FDS.
FX_PARTS = (slice(0, 5), slice(24, 28), *(slice(at, at + 10) for at in range(32, 160, 16)), slice(160, 288))
SCALARS = ("eip", "trap", "error", "cr2")


@dataclass(frozen=True, slots=True)
class Difference:
    """One unexplained difference."""

    index: int
    fields: frozenset[str]
    flags: int


def outcome(result: np.void) -> differences.Outcome:
    return differences.Outcome(int(result["trap"]), int(result["error"]), int(result["cr2"]))


def selectors(results: Results) -> np.ndarray:
    """Null selectors are all alike: the host's kernel returns to its handler by IRET, which clears their RPL."""
    found = results["sel"]
    return np.where(found < 4, 0, found)


def fx_compared(results: Results) -> np.ndarray:
    return np.concatenate([results["fx"][:, part] for part in FX_PARTS], axis=1)


def raw(ours: Results, theirs: Results) -> dict[str, np.ndarray]:
    """For each field, which cases differ in it."""
    differ = {name: ours[name] != theirs[name] for name in SCALARS}
    differ["r"] = (ours["r"] != theirs["r"]).any(axis=1)
    differ["sel"] = (selectors(ours) != selectors(theirs)).any(axis=1)
    differ["memory"] = (ours["digest"] != theirs["digest"]) | (ours["changes"] != theirs["changes"])
    differ["fx"] = (fx_compared(ours) != fx_compared(theirs)).any(axis=1)
    differ["eflags"] = ours["eflags"] != theirs["eflags"]
    return differ


def unexplained(batch: Batch, ours: Results, theirs: Results, rules: Sequence[differences.Row]) -> Iterator[Difference]:
    differ = raw(ours, theirs)
    anywhere = np.logical_or.reduce(list(differ.values()))
    for index in np.nonzero(anywhere)[0].tolist():
        fields = {name for name, which in differ.items() if which[index] and name != "eflags"}
        flags = int(ours["eflags"][index] ^ theirs["eflags"][index])
        pair = outcome(ours[index]), outcome(theirs[index])
        fields, flags = differences.residue(rules, batch.insns[index], pair, fields, flags)
        if fields or flags:
            yield Difference(index, frozenset(fields), flags)
