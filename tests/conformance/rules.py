"""Rows of allowed differences: what they may say, and how they are applied.

insns    "0F A4-A5", "D0-D3 /4-7", "F3 0F BC", "0F C7 /6 reg"; several separated by commas; "*" is every one,
         "* lock" every one with a LOCK prefix. A leading F3, F2, 66 or NP is the prefix that selects the form;
         "reg" and "mem" are ModRM's mod, "word" is a 16-bit operand.
differs  flags by name; fields of a result (r eip sel error cr2 memory fx); "trap" allows everything
ours     only when our exception is one of these vectors; NONE is the INT3 after the code
theirs   the same of the peer
when     a condition on both outcomes, by its name in CONDITIONS
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

from tests.conformance.harness import KERNEL, KERNEL_PAGES

FLAGS = {"CF": 1, "PF": 4, "AF": 0x10, "ZF": 0x40, "SF": 0x80, "TF": 0x100, "IF": 0x200, "DF": 0x400, "OF": 0x800,
         "IOPL": 0x3000, "NT": 0x4000, "RF": 0x10000}  # fmt: skip
DE, DB, BP, OF_, BR, UD, NM, DF, TS, NP, SS, GP, PF, MF, AC, XM = 0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 19
NONE = BP
LOCK = 4  # of generator.py
TIMEOUT, SYSCALL, OTHER = 0x100, 0x101, 0x102
ANY: frozenset[int] = frozenset()


class Instruction(Protocol):
    """What a row looks at."""

    two_byte: bool
    opcode: int
    prefixes: int
    operand16: bool

    @property
    def memory(self) -> bool: ...
    @property
    def reg(self) -> int: ...
    @property
    def simd_prefix(self) -> int: ...


@dataclass(frozen=True)
class Pattern:
    """One instruction form or a range of them."""

    two_byte: bool
    first: int
    last: int
    prefix: int | None = None
    regs: frozenset[int] = ANY
    memory: bool | None = None
    locked: bool = False
    word: bool = False
    every: bool = False

    def matches(self, insn: Instruction) -> bool:
        if self.locked and not insn.prefixes & LOCK:
            return False
        if self.word and not insn.operand16:
            return False
        if self.every:
            return True
        if insn.two_byte != self.two_byte or not self.first <= insn.opcode <= self.last:
            return False
        if self.prefix is not None and insn.simd_prefix != self.prefix:
            return False
        if self.regs and insn.reg not in self.regs:
            return False
        return self.memory is None or self.memory == insn.memory


def numbers(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first, 16), int(last or first, 16) + 1)


def pattern(text: str) -> Pattern:
    """Parse one form: see the module's docstring."""
    words = text.split()
    if words[0] == "*":
        return Pattern(False, 0, 255, locked=words[1:] == ["lock"], every=True)
    prefix, two_byte, memory = None, False, None
    regs: frozenset[int] = ANY
    word = words[-1] == "word"
    words = words[:-1] if word else words
    if words[0] == "NP" or (words[0] in {"66", "F2", "F3"} and len(words) > 1):
        prefix = 0 if words[0] == "NP" else int(words[0], 16)
        words = words[1:]
    if words[0] == "0F" and len(words) > 1:
        two_byte, words = True, words[1:]
    opcode = numbers(words[0])
    for part in words[1:]:
        if part.startswith("/"):
            regs = frozenset(numbers(part[1:]))
        else:
            memory = {"mem": True, "reg": False}[part]
    return Pattern(two_byte, opcode[0], opcode[-1], prefix, regs, memory, word=word)


class Outcome(NamedTuple):
    """How a case ended on one side."""

    trap: int
    error: int
    cr2: int
    mxcsr: int = 0x1F80
    esi: int = 0
    edi: int = 0

    def reads_by(self, pointer: int) -> bool:
        """Is CR2 in a doubleword there?"""
        return 0 <= self.cr2 - pointer < 4


@dataclass(frozen=True)
class Row:
    """An allowed difference."""

    insns: str
    differs: str
    reason: str
    source: str
    ours: frozenset[int] = ANY
    theirs: frozenset[int] = ANY
    when: str = ""
    uses: list[int] = field(default_factory=lambda: [0], compare=False)

    @cached_property
    def patterns(self) -> list[Pattern]:
        return [pattern(part.strip()) for part in self.insns.split(",")]

    @cached_property
    def flag_mask(self) -> int:
        return sum(FLAGS.get(word, 0) for word in self.differs.split())

    @cached_property
    def fields(self) -> frozenset[str]:
        return frozenset(word for word in self.differs.split() if word not in FLAGS)

    def applies(self, insn: Instruction, ours: Outcome, theirs: Outcome) -> bool:
        return (
            (not self.ours or ours.trap in self.ours)
            and (not self.theirs or theirs.trap in self.theirs)
            and (not self.when or CONDITIONS[self.when](ours, theirs))
            and any(one.matches(insn) for one in self.patterns)
        )


CONDITIONS: dict[str, Callable[[Outcome, Outcome], bool]] = {
    "at the top of the address space": lambda ours, theirs: max(ours.cr2, theirs.cr2) >= 0xFFFFFE00,
    "in the guest's kernel": lambda ours, theirs: (
        0 <= ours.cr2 - KERNEL < KERNEL_PAGES << 12 and ours.cr2 == theirs.cr2
    ),
    "at the other string operand": lambda ours, theirs: ours.reads_by(ours.esi) and theirs.reads_by(theirs.edi),
    "ours by a limit": lambda ours, theirs: ours.error == 0,
    "PE of an unmasked overflow": lambda ours, theirs: ours.mxcsr ^ theirs.mxcsr == 0x20 and ours.mxcsr & 0x18 != 0,
    "while fetching": lambda ours, theirs: (
        bool(ours.error & 0x10 or theirs.error & 0x10) or GP in {ours.trap, theirs.trap}
    ),
}


def traps(*vectors: int) -> frozenset[int]:
    return frozenset(vectors)


def residue(
    rows: Iterable[Row], insn: Instruction, outcomes: tuple[Outcome, Outcome], fields: set[str], flags: int
) -> tuple[set[str], int]:
    """What of a difference (names of fields, mask of flags) no row explains."""
    for row in rows:
        if not (fields or flags):
            break
        if row.applies(insn, *outcomes) and ((fields & row.fields) or (flags & row.flag_mask) or "trap" in row.fields):
            row.uses[0] += 1
            if "trap" in row.fields:
                return set(), 0
            fields = fields - row.fields
            flags &= ~row.flag_mask
    return fields, flags
