"""13,000 instructions that a real 80286 executed in real mode, run on the interpreter.

The vectors are found through RINGFENCE_TEST_DATA (a folder; cpu/80286-real-mode-sample.jsonl.gz in it). A P6 differs
where the manuals say so: every difference is explained by a row of VECTORS or it fails.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import differences, rules
from tests.conformance.generator import LOCK, Insn
from tests.conformance.real_mode import RealMode
from vmm.vcpu import ExitKind

VECTOR_FILE = "cpu/80286-real-mode-sample.jsonl.gz"
FLAGS = 0x0FD5  # bits 12-15: the 286 keeps IOPL and NT at 0 in real mode
NO_EXCEPTION = -1


@dataclass(frozen=True, slots=True)
class Vector:
    """One line of the file."""

    name: str
    insn: Insn
    code: bytes
    before: dict[str, int]
    ram: list[list[int]]
    after: dict[str, int]
    ram_after: dict[int, int]
    exception: int
    flags_at: tuple[int, ...]  # where its low and high byte were pushed


def vectors() -> Iterator[Vector]:
    folder = os.environ.get("RINGFENCE_TEST_DATA")
    if not folder:
        pytest.skip("RINGFENCE_TEST_DATA is not set: the folder that holds " + VECTOR_FILE)
    path = Path(folder) / VECTOR_FILE
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    with gzip.open(path, "rt") as lines:
        for line in lines:
            yield parse(json.loads(line))


def parse(row: dict[str, Any]) -> Vector:
    opcode, _, reg = row["file"].partition(".")
    locked = row["name"].startswith("lock")
    insn = Insn(False, int(opcode, 16), int(reg or 0) << 3, LOCK if locked else 0)
    before = row["init"]["regs"]
    after = before | row["final"]["regs"]
    exception = row["exc"][0] if row["exc"] else NO_EXCEPTION
    pushed = after["sp"] + 4 if row["exc"] else after["sp"] if insn.opcode == 0x9C else None
    flags_at = () if pushed is None else tuple(after["ss"] * 16 + (pushed + i & 0xFFFF) for i in range(2))
    return Vector(
        row["name"], insn, bytes.fromhex(row["bytes"]), before, row["init"]["ram"], after,
        dict(map(tuple, row["init"]["ram"])) | dict(map(tuple, row["final"]["ram"])), exception, flags_at,
    )  # fmt: skip


def difference(machine: RealMode, vector: Vector) -> tuple[set[str], int]:
    """Names of what differs, and a mask of flags."""
    machine.load(vector.before, vector.ram)
    end = machine.run()
    found = machine.registers()
    fields = {name for name, value in vector.after.items() if name != "flags" and found[name] != value}
    flags = (found["flags"] ^ vector.after["flags"]) & FLAGS
    for gpa, value in vector.ram_after.items():
        mine = machine.byte(gpa)
        if gpa in vector.flags_at:
            flags |= (mine ^ value) << 8 * vector.flags_at.index(gpa) & FLAGS
        elif mine != value:
            fields.add("memory")
    if end != ExitKind.HLT:
        fields.add("end")
    return fields, flags


def test_vectors() -> None:
    machine = RealMode()
    count, failures = 0, []
    for vector in vectors():
        count += 1
        if vector.insn.prefixes & LOCK:
            continue  # "LOCK is #UD with what is not a locked read-modify-write" since the 386: SDM 2, LOCK
        fields, flags = difference(machine, vector)
        if not fields and not flags:
            continue
        outcome = rules.Outcome(vector.exception, 0, 0)
        fields, flags = rules.residue(differences.VECTORS, vector.insn, (outcome, outcome), fields, flags)
        if fields or flags:
            failures.append(
                f"{vector.name} {vector.code.hex()}: {sorted(fields)} {flags:#x} exception {vector.exception}"
            )
    assert count >= 13_000
    assert not failures, f"{len(failures)} differ\n" + "\n".join(failures[:20])
