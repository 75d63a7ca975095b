"""Every difference between the interpreter and a peer that is allowed, with its reason.

A row names instructions, what may differ, and why. Anything that no row explains fails the tests.

    insns    "0F A4-A5", "D0-D3 /4-7", "F3 0F BC", "0F C7 /6 reg"; several separated by commas; "*" is every one.
             A leading F3, F2, 66 or NP is the prefix that selects the form; "reg" and "mem" are ModRM's mod.
    differs  flags by name; fields of a result (r eip sel error cr2 memory fx); "trap" allows everything
    ours     only when our exception is one of these vectors; NONE is the INT3 after the code
    theirs   the same of the peer
    when     a condition on both outcomes, by its name in CONDITIONS

Sources: SDM = Intel 64 and IA-32 Architectures Software Developer's Manual; APM = AMD64 Architecture Programmer's
Manual; "observed" = what the host's silicon does where neither manual promises anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

FLAGS = {"CF": 1, "PF": 4, "AF": 0x10, "ZF": 0x40, "SF": 0x80, "TF": 0x100, "IF": 0x200, "DF": 0x400, "OF": 0x800,
         "IOPL": 0x3000, "NT": 0x4000, "RF": 0x10000}  # fmt: skip
DE, DB, BP, OF_, BR, UD, NM, DF, TS, NP, SS, GP, PF, MF, AC, XM = 0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 19
NONE = BP
TIMEOUT, SYSCALL = 0x100, 0x101
ANY: frozenset[int] = frozenset()


class Instruction(Protocol):
    """What a row looks at."""

    two_byte: bool
    opcode: int
    prefixes: int

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
    every: bool = False

    def matches(self, insn: Instruction) -> bool:
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
    if words == ["*"]:
        return Pattern(False, 0, 255, every=True)
    prefix, two_byte, memory = None, False, None
    regs: frozenset[int] = ANY
    if words[0] == "NP" or (words[0] in {"66", "F2", "F3"} and len(words) > 1):
        prefix = 0 if words[0] == "NP" else int(words[0], 16)
        words = words[1:]
    if words[0] == "0F" and len(words) > 1:
        two_byte, words = True, words[1:]
    opcode = numbers(words[0])
    for word in words[1:]:
        if word.startswith("/"):
            regs = frozenset(numbers(word[1:]))
        else:
            memory = {"mem": True, "reg": False}[word]
    return Pattern(two_byte, opcode[0], opcode[-1], prefix, regs, memory)


class Outcome(NamedTuple):
    """How a case ended on one side."""

    trap: int
    error: int
    cr2: int


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
    "while fetching": lambda ours, theirs: bool(ours.error & 0x10 or theirs.error & 0x10) or GP in {ours.trap, theirs.trap},
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


# ---- flags that the manuals leave undefined --------------------------------------------------------------------------

UNDEFINED = (
    Row("20-25, 08-0D, 30-35, 84-85, A8-A9, 80-83 /1, 80-83 /4, 80-83 /6, F6-F7 /0-1", "AF",
        "logical operations leave AF undefined", "SDM 2: AND, OR, XOR, TEST"),
    Row("C0-C1 /4-7, D0-D3 /4-7", "AF", "AF is undefined after a shift", "SDM 2: SAL/SAR/SHL/SHR"),
    Row("C0-C1 /4-7, D2-D3 /4-7", "OF", "OF is undefined for counts other than 1", "SDM 2: SAL/SAR/SHL/SHR"),
    Row("C0-C1 /4-6, D2-D3 /4-6", "CF", "CF is undefined for SHL and SHR by the operand's size or more",
        "SDM 2: SAL/SAR/SHL/SHR"),
    Row("C0-C1 /0-3, D2-D3 /0-3", "OF", "OF is undefined for counts other than 1", "SDM 2: RCL/RCR/ROL/ROR"),
    Row("0F A4-A5, 0F AC-AD", "AF OF", "AF is undefined, OF too for counts other than 1", "SDM 2: SHLD, SHRD"),
    Row("0F AF, 69, 6B, F6-F7 /4-5", "SF ZF AF PF", "a multiplication defines CF and OF only", "SDM 2: MUL, IMUL"),
    Row("F6-F7 /6-7", "CF OF SF ZF AF PF", "a division defines no flag", "SDM 2: DIV, IDIV"),
    Row("0F BC-BD", "CF OF SF AF PF", "BSF and BSR define ZF only", "SDM 2: BSF, BSR"),
    Row("0F A3, 0F AB, 0F B3, 0F BB, 0F BA", "OF SF AF PF", "the bit tests define CF only (ZF is kept)", "SDM 2: BT"),
    Row("27, 2F", "OF", "OF is undefined", "SDM 2: DAA, DAS"),
    Row("37, 3F", "OF SF ZF PF", "AAA and AAS define AF and CF only", "SDM 2: AAA, AAS"),
    Row("D4-D5", "OF AF CF", "AAM and AAD define SF, ZF and PF only", "SDM 2: AAM, AAD"),
)  # fmt: skip

SHIFT16 = (
    Row("0F A4-A5, 0F AC-AD", "r memory CF OF SF ZF AF PF",
        "16-bit operand and a count above 16: destination and flags are undefined", "SDM 2: SHLD, SHRD"),
    Row("0F C8-CF", "r", "BSWAP of a 16-bit register is undefined", "SDM 2: BSWAP"),
)  # fmt: skip

# ---- the host processor ----------------------------------------------------------------------------------------------

NEWER = "the host executes an extension that is younger than the model; ours is #UD"
NEWER_ROWS = tuple(Row(insns, "trap", NEWER, source, ours=traps(UD)) for insns, source in (
    ("F3 0F 12, F2 0F 12, F3 0F 16, 0F D0, 0F 7C-7D, F2 0F F0", "SSE3"),
    ("DB /1, DD /1, DF /1", "SSE3: FISTTP"),
    ("0F 38, 0F 3A", "SSSE3, SSE4, MOVBE, AES"),
    ("0F 78-79, F2 0F 2B, F3 0F 2B", "APM 4: SSE4a"),
    ("F3 0F B8", "POPCNT"),
    ("0F C7", "RDRAND, RDSEED, RDPID, XSAVEC, XSAVES"),
    ("0F AE", "XSAVE, CLWB, CLFLUSHOPT, FSGSBASE, shadow stacks"),
    ("0F 01", "the system extensions with a register operand: virtualisation, XGETBV, MONITOR, RDTSCP, ..."),
    ("C4-C5 reg, 62 reg", "VEX and EVEX: AVX, BMI"),
    ("8F", "APM 1: XOP"),
    ("F3 0F 1E", "SDM 2: RDSSP"),
))  # fmt: skip

HOST = (
    *NEWER_ROWS,
    Row("F3 0F BC-BD", "trap r CF ZF", "LZCNT and TZCNT; a P6 ignores the prefix", "SDM 2: LZCNT, TZCNT"),
    Row("0F 05, 0F 07", "trap", "SYSCALL and SYSRET exist on the host; the model has none", "SDM 2: SYSCALL", ours=traps(UD)),
    Row("0F 34", "trap", "AMD64 has no SYSENTER in long mode; ours finds SYSENTER_CS zero", "APM 3: SYSENTER",
        ours=traps(GP), theirs=traps(UD)),
    Row("CD", "trap", "INT 80h enters the host's kernel", "Linux", theirs=traps(SYSCALL)),
    Row("0F 31", "r", "two clocks", "SDM 2: RDTSC"),
    Row("0F A2", "r", "two processors", "SDM 2: CPUID"),
    Row("0F 01 /0-1, 0F 01 /4, 0F 00 /0-1", "trap memory r error RF eip",
        "the host's UMIP makes them fault, and its kernel emulates them with its own addresses", "SDM 3A 2.5: CR4.UMIP"),
    Row("0F 0D reg", "trap", "the register form of PREFETCH is #UD on AMD; a P6 has a NOP", "APM 3: PREFETCH", theirs=traps(UD)),
    Row("0F 20-23", "trap", "LOCK MOV CR names CR8 on AMD", "APM 3: MOV CRn", ours=traps(UD), theirs=traps(GP)),
    Row("0F 00 /5", "trap", "the host's VERW, changed by microcode, ignores LOCK", "observed", ours=traps(UD)),
    Row("06, 0E, 16, 1E, 0F A0, 0F A8", "memory", "a 32-bit PUSH of a segment register: the host writes 32 bits, "
        "a P6 writes 16 and keeps the rest", "SDM 2: PUSH"),
    Row("06, 0E, 16, 1E, 0F A0, 0F A8", "trap", "so the host checks the alignment of 32 bits", "observed",
        ours=traps(NONE), theirs=traps(AC)),
    Row("F1", "eip", "a hypervisor between reports the trap at the instruction instead of after it", "observed",
        ours=traps(DB), theirs=traps(DB)),
    Row("*", "trap", "an operand that wraps past 4 GiB in a segment without a limit may fault by the segment or not",
        "SDM 3A 5.3: Limit Checking", ours=traps(PF), theirs=traps(GP, SS), when="at the top of the address space"),
    Row("*", "trap", "an undefined opcode next to memory that cannot be fetched: how much of it is fetched first",
        "observed", ours=traps(UD, PF, GP), theirs=traps(UD, PF, GP), when="while fetching"),
    Row("*", "trap", "alignment is checked before the page tables; a P6 does so after", "observed; SDM 3A table 6-2",
        ours=traps(PF), theirs=traps(AC)),
    Row("0F 10-11, 66 0F 10-11, F3 0F 6F, F3 0F 7F", "trap", "unaligned 16-byte moves with EFLAGS.AC may be #AC or not",
        "SDM 3A 6.15: Interrupt 17", theirs=traps(AC)),
    Row("0F 10-FF mem", "trap", "a misaligned 16-byte operand outside of SS: which of two faults comes first", "observed",
        ours=traps(SS), theirs=traps(GP)),
    Row("0F 2A, 0F 2C-2D, 66 0F 2A, 66 0F 2C-2D", "fx", "the host enters MMX state (TOP, tags) before the SIMD exception", "observed",
        ours=traps(XM), theirs=traps(XM)),
    Row("0F F7", "fx", "the host enters MMX state (TOP, tags) before the store faults", "observed", ours=traps(PF, GP)),
    Row("0F F7", "trap", "a mask of zeros: the address may be checked or not", "SDM 2: MASKMOVQ",
        ours=traps(NONE), theirs=traps(PF, GP)),
    Row("0F AE /0-1, D9 /4 mem, D9 /6 mem, DD /4 mem, DD /6 mem", "cr2 error", "which end of a long operand is touched first",
        "observed", ours=traps(PF), theirs=traps(PF)),
    Row("0F AE /0, D9 /6 mem, DD /6 mem", "memory", "last-instruction pointers, and a bit of MXCSR_MASK that AMD added",
        "APM 1: Misaligned Exception Mask", ours=traps(NONE, DB)),
    Row("9A, FF /3, C8, 60", "memory", "stack stores that precede the fault may be seen", "observed",
        ours=traps(PF, SS, GP, NP, AC), theirs=traps(PF, SS, GP, NP, AC)),
    Row("C8, CA-CB, CF", "cr2 error", "the order in which a frame of several words is read", "observed",
        ours=traps(PF), theirs=traps(PF)),
    Row("CA-CB", "trap", "the outer stack's SS and ESP are read before the new CS is checked", "observed",
        ours=traps(GP, NP), theirs=traps(PF, SS, AC)),
    Row("FF /2, E8", "trap", "a target beyond the limit and no room on the stack: the stack is looked at first",
        "observed; SDM 2: CALL has it the other way", ours=traps(GP), theirs=traps(SS, PF)),
    Row("D9 /4 mem, D9 /6 mem, DD /4 mem, DD /6 mem", "trap", "a long operand that passes offset FFFFh with a 16-bit address "
        "goes on at 0", "observed", ours=traps(GP, SS), theirs=traps(NONE, PF)),
    Row("F3 E0, F2 E1", "trap", "a REPE or REPNE prefix replaces the condition of LOOPNE or LOOPE", "observed"),
    Row("F3 E0, F2 E1", "eip", "a REPE or REPNE prefix replaces the condition of LOOPNE or LOOPE", "observed"),
)  # fmt: skip

HOST_RULES = (*UNDEFINED, *SHIFT16, *HOST)
