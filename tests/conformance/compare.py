"""Compares the results of a batch: which fields differ, and what is left when the table is applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import capstone
import numpy as np

from tests.conformance import harness, rules
from tests.conformance.generator import SIXTEEN_BIT, Batch
from tests.conformance.harness import Results

# Bytes of the FXSAVE image that are compared: FCW FSW FTW, MXCSR, ST0..7, XMM0..7. FOP, FIP, FCS, FDP and FDS are not:
# processors disagree on when they are loaded, and a 64-bit kernel's image has no FCS and FDS.
FX_PARTS = (slice(0, 5), slice(24, 28), *(slice(at, at + 10) for at in range(32, 160, 16)), slice(160, 288))
NO_DIGEST = 0  # of a peer that only lists its changes
SCALARS = ("eip", "trap", "error", "cr2")


@dataclass(frozen=True, slots=True)
class Difference:
    """One unexplained difference."""

    index: int
    fields: frozenset[str]
    flags: int


def outcome(result: np.void) -> rules.Outcome:
    mxcsr = int.from_bytes(result["fx"][24:28].tobytes(), "little")
    esi, edi = (int(value) for value in result["r"][6:8])
    return rules.Outcome(int(result["trap"]), int(result["error"]), int(result["cr2"]), mxcsr, esi, edi)


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
    listed = theirs["digest"] == NO_DIGEST
    differ["memory"] = np.where(
        listed, (ours["change"] != theirs["change"]).any(axis=1), ours["digest"] != theirs["digest"]
    )
    differ["memory"] |= ours["changes"] != theirs["changes"]
    differ["fx"] = (fx_compared(ours) != fx_compared(theirs)).any(axis=1)
    differ["eflags"] = ours["eflags"] != theirs["eflags"]
    return differ


def unexplained(batch: Batch, ours: Results, theirs: Results, rows: Sequence[rules.Row]) -> Iterator[Difference]:
    differ = raw(ours, theirs)
    endless = (ours["trap"] == harness.TIMEOUT) & (theirs["trap"] == harness.TIMEOUT)
    anywhere = np.logical_or.reduce(list(differ.values())) & ~endless
    for index in np.nonzero(anywhere)[0].tolist():
        fields = {name for name, which in differ.items() if which[index] and name != "eflags"}
        flags = int(ours["eflags"][index] ^ theirs["eflags"][index])
        pair = outcome(ours[index]), outcome(theirs[index])
        fields, flags = rules.residue(rows, batch.insns[index], pair, fields, flags)
        if fields or flags:
            yield Difference(index, frozenset(fields), flags)


def describe(batch: Batch, index: int, ours: Results, theirs: Results) -> str:
    """A case and both outcomes, for people."""
    case, mine, other = batch.cases[index], ours[index], theirs[index]
    bits = capstone.CS_MODE_16 if int(case["sel"][1]) in SIXTEEN_BIT else capstone.CS_MODE_32
    code = bytes(case["code"]).ljust(int(case["code_length"]), b"\0")  # numpy drops trailing zeros
    found = next(capstone.Cs(capstone.CS_ARCH_X86, bits).disasm_lite(code + b"\xcc" * 15, int(case["eip"])), None)
    lines = [f"{code.hex()}  {' '.join(found[2:]) if found else '?'}", f"  before {registers(case)}"]
    for name, result in (("ours", mine), ("theirs", other)):
        lines.append(
            f"  {name:6} {registers(result)} trap {int(result['trap'])} error {int(result['error']):x}"
            f" cr2 {int(result['cr2']):x} stores {stores(result)}"
        )
    different = np.nonzero(mine["fx"] != other["fx"])[0]
    if len(different):
        lines.append(
            "  fx " + " ".join(f"{at}:{mine['fx'][at]:02x}/{other['fx'][at]:02x}" for at in different[:12].tolist())
        )
    return "\n".join(lines)


def registers(state: np.void) -> str:
    general = " ".join(f"{int(value):08x}" for value in state["r"])
    selected = " ".join(f"{int(value):x}" for value in state["sel"])
    return f"[{general}] eip {int(state['eip']):08x} fl {int(state['eflags']):06x} sel {selected}"


def stores(result: np.void) -> str:
    count = int(result["changes"])
    return f"{count}: " + " ".join(
        f"{int(c['offset']):x}={int(c['value']):016x}" for c in result["change"][: min(count, 4)]
    )


def report(batch: Batch, ours: Results, theirs: Results, rows: Sequence[rules.Row], most: int = 12) -> str:
    """Empty when every difference is explained."""
    found = list(unexplained(batch, ours, theirs, rows))
    texts = [
        f"#{one.index} differs in {' '.join(sorted(one.fields))} {one.flags:#x}\n"
        + describe(batch, one.index, ours, theirs)
        for one in found[:most]
    ]
    return "\n".join([f"{len(found)} of {len(batch.cases)} cases differ", *texts]) if found else ""
