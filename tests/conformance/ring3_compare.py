"""Compares what two engines make of a ring-3 program, and shows the shortest beginning of it that differs.

Not compared: the x87's last-instruction pointers, the kernel's stack, and what ALLOWED says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import capstone

from tests.conformance.compare import FX_PARTS
from tests.conformance.harness import CODE_BASE, DATA_BASE
from tests.conformance.ring3_machine import (
    CODE_AT,
    CODE_TABLE,
    DATA_AT,
    DATA_TABLE,
    ENDLESS_S,
    GDT_AT,
    IDT_AT,
    LDT_AT,
    LOG_AT,
    LOG_FIELDS,
    PARAMETERS_AT,
    RAM_PAGES,
    ROOT_AT,
    SEEN_TABLE,
    STACK_AT,
    STACK_END,
    TABLES_AT,
    A,
    D,
    LogEntry,
    Outcome,
    Program,
    Ring3Machine,
    table_at,
)  # fmt: skip
from vmm.layout_spec import VcpuState
from vmm.memory import PAGE_SIZE

V_DE, V_SS, V_GP, V_PF = 0, 12, 13, 14
ARITHMETIC = 0x8D5
LONGEST_INSN = 15
TOP = 0xFFFFF000
PATIENCE_S = 60.0  # direct execution may be fifty times as fast

ALLOWED = (
    "flags of #DE: a division that faults leaves them undefined (SDM 2: DIV)",
    "flags of a fault at a fetch: the instruction before may have left some undefined; a CMP was to follow",
    "A and D of a page when an access runs on into the next page, which faults: the first may count as used or not",
    "an operand that passes 4 GiB: the fault is of the segment or of the page (SDM 3A 5.3)",
)


def differences(program: Program, ours: Outcome, theirs: Outcome) -> list[str]:
    """One line each, empty when nothing differs."""
    if (ours.is_endless and theirs.is_endless) or passes_the_top(ours, theirs):
        return []
    if ours.is_endless or theirs.is_endless:
        return [f"end: {ours.end}, {theirs.end}"]
    found = [*log_differences(ours.log, theirs.log)]
    if ours.end != theirs.end:
        found.append(f"end: {ours.end}, {theirs.end}")
    found += state_differences(ours.state, theirs.state)
    found += memory_differences(program, ours, theirs)
    return found


def clean(entry: LogEntry) -> tuple[int, ...]:
    """Without the flags that may be undefined."""
    words = list(entry.words)
    if entry["vector"] == V_DE or is_fetch(entry):
        words[LOG_FIELDS.index("eflags")] &= ~ARITHMETIC
    return tuple(words)


def is_fetch(entry: LogEntry) -> bool:
    here = entry["eip"] + (CODE_BASE if entry["eip"] < PAGE_SIZE * 8 else 0)
    return entry["vector"] == V_PF and (entry["cr2"] - here & 0xFFFFFFFF) < LONGEST_INSN


def log_differences(ours: list[LogEntry], theirs: list[LogEntry]) -> Iterator[str]:
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        if clean(mine) != clean(other):
            yield f"exception {index}:\n    {mine}\n    {other}"
            return
    if len(ours) != len(theirs):
        rest = (ours if len(ours) > len(theirs) else theirs)[min(len(ours), len(theirs))]
        yield f"exceptions: {len(ours)}, {len(theirs)}; the first of one alone:\n    {rest}"


def passes_the_top(ours: Outcome, theirs: Outcome) -> bool:
    """Is the first difference one of #PF against #GP or #SS at the end of the address space?"""
    for mine, other in zip(ours.log, theirs.log, strict=False):
        if clean(mine) != clean(other):
            vectors = {mine["vector"], other["vector"]}
            top = any(e["vector"] == V_PF and not PAGE_SIZE <= e["cr2"] < TOP for e in (mine, other))
            return mine["eip"] == other["eip"] and V_PF in vectors and bool(vectors & {V_SS, V_GP}) and top
    return False


def state_differences(ours: bytes, theirs: bytes) -> Iterator[str]:
    for name, kind in VcpuState._fields_:  # type: ignore[misc]
        at, size = getattr(VcpuState, name).offset, getattr(VcpuState, name).size
        mine, other = ours[at : at + size], theirs[at : at + size]
        if name == "fx":
            for part in FX_PARTS:
                if mine[part] != other[part]:
                    yield f"fx {part.start}: {mine[part].hex()} {other[part].hex()}"
        elif mine != other and name not in {"reserved", "reserved_fpu"}:
            yield f"{name}: {words(mine)} {words(other)}" if kind else ""


def words(raw: bytes) -> str:
    return "[" + " ".join(f"{int.from_bytes(raw[i : i + 4], 'little'):x}" for i in range(0, len(raw), 4)) + "]"


PLACES = (
    (GDT_AT, "GDT"), (IDT_AT, "IDT"), (LDT_AT, "LDT"), (PARAMETERS_AT, "parameters"), (ROOT_AT, "directory"),
    (TABLES_AT + CODE_TABLE * PAGE_SIZE, "code's table"), (TABLES_AT + DATA_TABLE * PAGE_SIZE, "data's table"),
    (TABLES_AT + SEEN_TABLE * PAGE_SIZE, "other page tables"), (CODE_AT, "code"), (DATA_AT, "data"),
)  # fmt: skip
NOT_COMPARED = (range(LOG_AT, STACK_AT), range(STACK_AT, STACK_END))


def memory_differences(program: Program, ours: Outcome, theirs: Outcome) -> Iterator[str]:
    if ours.memory == theirs.memory:
        return
    mine, other = memoryview(ours.memory).cast("I"), memoryview(theirs.memory).cast("I")
    loose = half_used(program, [*ours.log, *theirs.log])
    for page in range(RAM_PAGES):
        start, end = page * PAGE_SIZE // 4, (page + 1) * PAGE_SIZE // 4
        if mine[start:end] == other[start:end]:
            continue
        for index in range(start, end):
            at = index * 4
            ignored = A | D if at in loose else 0
            if (mine[index] ^ other[index]) & ~ignored and not any(at in area for area in NOT_COMPARED):
                place, name = max((place for place in PLACES if place[0] <= at), default=(0, "memory"))
                yield f"{name}+{at - place:x}: {mine[index]:x} {other[index]:x}"


def half_used(program: Program, log: list[LogEntry]) -> set[int]:
    """Physical addresses of the page-table entries that the third of ALLOWED is about."""
    found: set[int] = set()
    for entry in log:
        if entry["vector"] == V_PF and entry["cr2"] % PAGE_SIZE == 0:
            before = entry["cr2"] - PAGE_SIZE
            for base, table in ((CODE_BASE, CODE_TABLE), (DATA_BASE, DATA_TABLE)):
                if 0 <= before - base < PAGE_SIZE * 32:
                    found.add(table_at(program.pae, table, before - base >> 12))
    return found


# ---- two engines -----------------------------------------------------------------------------------------------------


class Pair:
    """The same programs on two engines. A world that died is made anew."""

    def __init__(self, first: str, second: str) -> None:
        self.names = first, second
        self.machines = [Ring3Machine(name) for name in self.names]

    def close(self) -> None:
        for machine in self.machines:
            machine.close()

    def run(self, program: Program) -> tuple[Outcome, Outcome]:
        """One that does not end, where the other does, gets the time that a slower engine needs."""
        outcomes = [self._run(index, program) for index in (0, 1)]
        for index in (0, 1):
            if outcomes[index].is_endless and not outcomes[1 - index].is_endless:
                outcomes[index] = self._run(index, program, PATIENCE_S)
        return outcomes[0], outcomes[1]

    def _run(self, index: int, program: Program, endless_s: float = ENDLESS_S) -> Outcome:
        outcome = self.machines[index].run(program, endless_s)
        if outcome.end.startswith("ERROR"):
            self.machines[index].close()
            self.machines[index] = Ring3Machine(self.names[index])
        return outcome

    def check(self, program: Program) -> str:
        """Empty, or a report about the shortest prefix that differs."""
        outcomes = self.run(program)
        found = differences(program, *outcomes)
        if not found:
            return ""
        shortest, lines = shorten(program, lambda cut: differences(cut, *self.run(cut)))
        return report(shortest, lines or found, self.names)


def shorten(program: Program, differ: Callable[[Program], list[str]]) -> tuple[Program, list[str]]:
    """The shortest prefix that still differs, and how; the whole program and nothing if it does not differ again."""
    for count in range(1, len(program.starts)):
        cut = program.prefix(count)
        if lines := differ(cut):
            return cut, lines
    return program, []


def report(program: Program, lines: list[str], names: tuple[str, str]) -> str:
    head = f"seed {program.seed}, ring {program.ring}, {'PAE' if program.pae else 'no PAE'}, {names[0]} and {names[1]}:"
    pages = " ".join(f"{frame:x}:{bits:x}" for frame, bits in program.data_pages)
    mends = " ".join(f"{linear:x}|{bits:x}" for linear, bits in program.mends.items())
    start = " ".join(f"{value:x}" for value in program.r)
    selectors = " ".join(f"{value:x}" for value in program.sel)
    control = f"eflags {program.eflags:x} cr0 {program.cr0:x} cr4 {program.cr4:x}"
    facts = f"  registers {start} selectors {selectors} {control}"
    rest = f"  data pages {pages} code pages {' '.join(f'{bits:x}' for bits in program.code_pages)} mends {mends}"
    return "\n".join([head, *(f"  {line}" for line in lines[:12]), facts, rest, *listing(program)])


def listing(program: Program, last: int = 4) -> Iterator[str]:
    """The last pieces in assembly: the difference is in one of them."""
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32 if program.wide else capstone.CS_MODE_16)
    disassembler.skipdata = True
    first_shown = max(0, len(program.pieces) - 1 - last)
    for index, (start, end) in enumerate(program.pieces[first_shown:], first_shown):
        yield f"  piece {index}:"
        code = bytes(program.code[start - program.bias : end - program.bias])
        code = code.lstrip(b"\x90") if index == 0 else code
        for address, size, name, operands in disassembler.disasm_lite(code, end - len(code)):
            at = address - program.bias
            yield f"    {address:8x}  {program.code[at : at + size].hex():20} {name} {operands}"


