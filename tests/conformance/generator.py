"""Random cases: one instruction each, over every opcode, prefix, operand form and size.

Most memory operands are aimed at memory that exists and most stacks are sound, or nothing but page faults would be
tested; the rest is left to chance. Everything follows from the seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from tests.conformance import harness, opcodes
from tests.conformance.fpu_images import FX_POOL, fx_pool
from tests.conformance.harness import (
    CASE,
    CODE_BASE,
    CODE_BYTES,
    DATA_BASE,
    LDT,
    USER_CODE,
    USER_DATA,
    Cases,
)

P66, P67, LOCK, REPNE, REP = 1, 2, 4, 8, 16
SEGMENT_PREFIX = {0: 0x26, 1: 0x2E, 2: 0x36, 3: 0x3E, 4: 0x64, 5: 0x65}
ES, CS, SS, DS, FS, GS = range(6)
MEMORY16 = ((3, 6), (3, 7), (5, 6), (5, 7), (6,), (7,), (5,), (3,))
INTERESTING = [int(x) for x in harness.INTERESTING]
SPOTS = (
    0,
    1,
    2,
    4,
    7,
    8,
    0xFFE,
    0xFFF,
    0x1000,
    0x7FF0,
    0x7FFE,
    0x8000,
    0x8FF8,
    0x8FFF,
    0x9000,
    0x9FFC,
    0xA000,
    0xFFF0,
    0xFFFC,
    0xFFFF,
)
DATA_SELECTORS = (USER_DATA, 0x07, 0x0F, 0x17, 0x1F, 0x27, 0x2F, 0x57, 0x67, 0x6F, 0, 0x23)
STACK_SELECTORS = (USER_DATA, 0x07, 0x0F, 0x27, 0x1F, 0x67)
CODE_SELECTORS = (USER_CODE, 0x2F, 0x37, 0x3F, 0x47)
BASES = {harness.ldt_selector(i): entry.base for i, entry in enumerate(LDT)}
SIXTEEN_BIT = frozenset({0x37, 0x3F})
# TF is rare: it ends the case after one instruction anyway, but as a trap.
FLAG_BITS = 0x8D5


@dataclass(slots=True)
class Insn:
    """What a case's first instruction is; the tables of differences look here."""

    two_byte: bool
    opcode: int
    modrm: int = -1
    prefixes: int = 0
    operand16: bool = False
    address16: bool = False
    segment: int = -1

    @property
    def memory(self) -> bool:
        return self.modrm >= 0 and self.modrm < 0xC0

    @property
    def reg(self) -> int:
        return self.modrm >> 3 & 7 if self.modrm >= 0 else -1

    @property
    def form(self) -> tuple[bool, int, int, bool, int]:
        """What decides whether it is defined, and what it does to flags."""
        return self.two_byte, self.opcode, self.reg, self.memory, self.prefixes & (P66 | LOCK | REP | REPNE)

    @property
    def simd_prefix(self) -> int:
        """F3, F2 or 66 as it selects an SSE form; 0."""
        return 0xF3 if self.prefixes & REP else 0xF2 if self.prefixes & REPNE else 0x66 if self.prefixes & P66 else 0


@dataclass(slots=True)
class Batch:
    """Cases with what the generator knows of them."""

    cases: Cases
    insns: list[Insn] = field(default_factory=list)


class Generator:
    """Single-instruction cases."""

    bases = BASES
    sixteen_bit = SIXTEEN_BIT
    far_jumps = True  # relative jumps may leave the code pages

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fx = fx_pool(np.random.default_rng(seed))
        self.forms = weighted_forms()

    def batch(self, count: int) -> Batch:
        cases = np.zeros(count, CASE)
        insns, regs, rest, code = [], [], [], []
        for _ in range(count):
            one = self.case()
            insns.append(one.insn)
            regs.append(one.r)
            rest.append((one.eip, one.eflags, one.code_at, len(one.code)))
            code.append(bytes(one.code))
            cases["sel"][len(insns) - 1] = one.sel
        cases["r"] = regs
        for index, name in enumerate(("eip", "eflags", "code_at", "code_length")):
            cases[name] = [row[index] for row in rest]
        cases["code"] = code
        cases["fx"] = self.fx[np.random.default_rng(self.random.getrandbits(32)).integers(0, FX_POOL, count)]
        return Batch(cases, insns)

    # ---- one case ----------------------------------------------------------------------------------------------------

    def case(self) -> One:
        rnd = self.random
        one = One(self.segments(), self.flags())
        one.r = [self.value() for _ in range(8)]
        if rnd.random() < 0.95:
            one.r[4] = self.pointer(one.sel[SS])
        two_byte, opcode = rnd.choice(self.forms)
        self.emit(one, two_byte, opcode)
        self.place(one)
        return one

    def value(self) -> int:
        rnd = self.random
        which = rnd.getrandbits(3)
        if which < 3:
            return rnd.choice(INTERESTING)
        if which < 5:
            return DATA_BASE + self.spot()
        if which == 5:
            return rnd.getrandbits(8) - 128 & 0xFFFFFFFF
        return rnd.getrandbits(32)

    def spot(self) -> int:
        """An offset into data memory: any, or near an edge."""
        rnd = self.random
        if rnd.getrandbits(2) == 0:
            return rnd.choice(SPOTS)
        return rnd.getrandbits(15) & (~3 if rnd.getrandbits(1) else ~0)

    def pointer(self, selector: int) -> int:
        """A good stack pointer."""
        rnd = self.random
        at = rnd.randrange(0x100, 0x7F00) & (~3 if rnd.random() < 0.9 else ~0)
        if selector in {0x1F, 0x27}:  # expand-down
            at |= 0x8000 if selector == 0x1F else 0x4000
            at += 0x2000 if 0x8000 <= at < 0xA000 else 0
        base = self.bases.get(selector, 0)
        if base:
            return (DATA_BASE + at - base & 0xFFFFFFFF) | (rnd.getrandbits(16) << 16 if selector in {0x0F, 0x27} else 0)
        return DATA_BASE + at

    def flags(self) -> int:
        rnd = self.random
        flags = 0x202 | rnd.getrandbits(12) & FLAG_BITS
        chance = rnd.getrandbits(6)
        if chance < 8:
            flags |= 0x400
        elif chance == 8:
            flags |= 0x40000
        elif chance == 9:
            flags |= 0x100
        elif chance == 10:
            flags |= 0x10000
        return flags

    def segments(self) -> list[int]:
        rnd = self.random
        kind = rnd.random()
        extra = [rnd.choice(DATA_SELECTORS), rnd.choice(DATA_SELECTORS)]
        if kind < 0.6:
            return [USER_DATA, USER_CODE, USER_DATA, USER_DATA, *extra]
        if kind < 0.75:
            return [rnd.choice((7, 0x2B)), USER_CODE, rnd.choice((7, 15, 0x2B)), rnd.choice((7, 15)), *extra]
        if kind < 0.9:
            return [7, 0x37, rnd.choice((15, 15, 7)), rnd.choice((7, 15)), *extra]
        pick = rnd.choice
        return [pick(DATA_SELECTORS), pick(CODE_SELECTORS), pick(STACK_SELECTORS), pick(DATA_SELECTORS), *extra]

    # ---- the instruction ---------------------------------------------------------------------------------------------

    def emit(self, one: One, two_byte: bool, opcode: int) -> None:
        """Append the instruction's bytes and set registers so that it finds its operand."""
        rnd = self.random
        prefixes, segment = self.prefixes(two_byte, opcode)
        wide = one.sel[CS] not in self.sixteen_bit
        insn = Insn(two_byte, opcode, -1, prefixes, wide == bool(prefixes & P66), wide == bool(prefixes & P67), segment)
        one.insn = insn
        head = [b for bit, b in ((P66, 0x66), (P67, 0x67), (LOCK, 0xF0), (REPNE, 0xF2), (REP, 0xF3)) if prefixes & bit]
        if segment >= 0:
            head.append(SEGMENT_PREFIX[segment])
        rnd.shuffle(head)
        if rnd.getrandbits(9) == 0:
            head = [head[0] if head else 0x2E] * rnd.randrange(9, 15) + head
            if not (insn.segment >= 0 or prefixes):
                insn.segment = 1
        one.code += bytes(head)
        if two_byte:
            one.code.append(0x0F)
        one.code.append(opcode)
        for operand in (opcodes.TWO_BYTE if two_byte else opcodes.ONE_BYTE)[opcode]:
            getattr(self, "operand_" + operand)(one)
        if not two_byte and opcode in {0xF6, 0xF7} and insn.reg < 2:
            (self.operand_b if opcode == 0xF6 else self.operand_z)(one)
        if not two_byte:
            self.implicit(one)

    def prefixes(self, two_byte: bool, opcode: int) -> tuple[int, int]:
        rnd = self.random
        bits = rnd.getrandbits(16)
        prefixes = (P66 if bits & 3 == 0 else 0) | (P67 if bits & 0x1C == 0 else 0)
        simd = two_byte and (
            opcode in range(0x10, 0x18) or opcode in range(0x28, 0x30) or opcode in range(0x50, 0x80) or opcode >= 0xC2
        )
        if not two_byte and opcode in opcodes.STRINGS:
            prefixes |= (0, REP, REP, REPNE)[bits >> 6 & 3]
        elif simd:
            prefixes = prefixes & P67 | (0, P66, REP, REPNE)[bits >> 6 & 3]
        elif bits & 0x3C0 == 0:
            prefixes |= REP if bits & 0x400 else REPNE
        if bits & 0x7800 == 0:
            prefixes |= LOCK
        return prefixes, rnd.randrange(6) if rnd.getrandbits(3) == 0 else -1

    def operand_b(self, one: One) -> None:
        rnd = self.random
        if not one.insn.two_byte and one.insn.opcode in opcodes.JUMPS_8:
            one.code.append(rnd.choice((rnd.randrange(0, 0x80), rnd.randrange(0x80, 0xE8))))
        elif not one.insn.two_byte and one.insn.opcode == 0xC8:
            one.code.append(rnd.choice((0, 0, 1, 2, 3, 5, 31, 32, rnd.getrandbits(8))))
        else:
            one.code.append(
                rnd.choice((rnd.getrandbits(8), rnd.getrandbits(8), rnd.choice(INTERESTING) & 0xFF, rnd.randrange(35)))
            )

    def operand_w(self, one: One) -> None:
        rnd = self.random
        value = rnd.choice((0, 4, 8, 0x10, 0x100, rnd.getrandbits(16)))
        one.code += value.to_bytes(2, "little")

    def operand_z(self, one: One) -> None:
        rnd = self.random
        opcode, two_byte = one.insn.opcode, one.insn.two_byte
        size = 2 if one.insn.operand16 else 4
        if (two_byte and 0x80 <= opcode < 0x90) or (not two_byte and opcode in {0xE8, 0xE9}):
            far = self.far_jumps and rnd.getrandbits(4) == 0
            value = rnd.getrandbits(32) if far else rnd.choice((rnd.randrange(0, 0x800), -rnd.randrange(24, 0x800)))
        else:
            value = self.value()
        one.code += (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def operand_p(self, one: One) -> None:
        rnd = self.random
        selector = rnd.choice(harness.FAR_CODE)
        offset = rnd.randrange(CODE_BYTES) + (CODE_BASE if selector == USER_CODE else 0)
        size = 2 if one.insn.operand16 else 4
        one.code += (offset & (1 << 8 * size) - 1).to_bytes(size, "little") + selector.to_bytes(2, "little")

    def operand_o(self, one: One) -> None:
        self.offset(one, self.aim(one, DS))

    def offset(self, one: One, value: int) -> None:
        size = 2 if one.insn.address16 else 4
        one.code += (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def aim(self, one: One, default: int, to: int | None = None) -> int:
        """An offset that reaches data memory through the segment that will be used."""
        segment = one.insn.segment if one.insn.segment >= 0 else default
        base = self.bases.get(one.sel[segment], 0)
        return DATA_BASE + (self.spot() if to is None else to) - base & 0xFFFFFFFF

    # ---- ModRM -------------------------------------------------------------------------------------------------------

    def operand_m(self, one: One) -> None:
        rnd = self.random
        modrm = rnd.getrandbits(8)
        if not one.insn.two_byte and one.insn.opcode == 0x8E and rnd.getrandbits(1):
            one.r[modrm & 7] = self.random.choice(harness.FAR_DATA)
        one.insn.modrm = modrm
        one.code.append(modrm)
        if modrm < 0xC0:
            if one.insn.address16:
                self.memory16(one, modrm)
            else:
                self.memory32(one, modrm)

    def memory16(self, one: One, modrm: int) -> None:
        mod, rm = modrm >> 6, modrm & 7
        if mod == 0 and rm == 6:
            return self.offset(one, self.aim(one, DS))
        displacement = self.displacement(one, mod, 2)
        parts = MEMORY16[rm]
        target = self.target(one, SS if parts[0] == 5 else DS)
        if target is not None:
            others = sum(one.r[part] for part in parts[1:])
            value = target - displacement - others & 0xFFFF
            one.r[parts[0]] = one.r[parts[0]] & 0xFFFF0000 | value
        return None

    def memory32(self, one: One, modrm: int) -> None:
        rnd = self.random
        mod, base, index, scale = modrm >> 6, modrm & 7, 4, 0
        if base == 4:
            sib = rnd.getrandbits(8)
            one.code.append(sib)
            base, index, scale = sib & 7, sib >> 3 & 7, sib >> 6
        if base == 5 and mod == 0:
            target = self.target(one, DS)
            rest = one.r[index] << scale if index != 4 else 0
            value = rnd.getrandbits(32) if target is None else target - rest & 0xFFFFFFFF
            one.code += value.to_bytes(4, "little")
            return
        displacement = self.displacement(one, mod, 4)
        target = self.target(one, SS if base in {4, 5} else DS)
        if target is None:
            return
        if index == base and index != 4:
            one.r[base] = (target - displacement & 0xFFFFFFFF) // ((1 << scale) + 1)
        else:
            one.r[base] = target - displacement - (one.r[index] << scale if index != 4 else 0) & 0xFFFFFFFF

    def displacement(self, one: One, mod: int, wide: int) -> int:
        rnd = self.random
        if mod == 0:
            return 0
        size = 1 if mod == 1 else wide
        value = rnd.getrandbits(8 * size)
        one.code += value.to_bytes(size, "little")
        return value - 256 if size == 1 and value > 127 else value

    def target(self, one: One, default: int) -> int | None:
        """Where a memory operand should lie; None: wherever chance puts it."""
        rnd = self.random
        insn = one.insn
        if rnd.getrandbits(4) == 0:
            return None
        to = None
        if (not insn.two_byte and insn.opcode in {0xFF, 0xC4, 0xC5}) or (
            insn.two_byte and insn.opcode in {0xB2, 0xB4, 0xB5}
        ):
            if rnd.getrandbits(1):
                to = (harness.FRAMES16 if insn.operand16 else harness.FRAMES32) + self.frame(insn)
        elif insn.two_byte and insn.opcode >= 0x10 and rnd.getrandbits(1):
            to = self.spot() & ~15
        return self.aim(one, default, to)

    def frame(self, insn: Insn) -> int:
        return self.random.randrange(harness.FRAMES) * (16 if insn.operand16 else 32)

    # ---- implicit operands -------------------------------------------------------------------------------------------

    def implicit(self, one: One) -> None:
        rnd = self.random
        opcode, mask = one.insn.opcode, 0xFFFF if one.insn.address16 else 0xFFFFFFFF
        if opcode in opcodes.STRINGS:
            if rnd.getrandbits(3):
                one.r[6] = one.r[6] & ~mask | self.aim(one, DS) & mask
            if rnd.getrandbits(3):
                segment, one.insn.segment = one.insn.segment, -1
                one.r[7] = one.r[7] & ~mask | self.aim(one, ES) & mask
                one.insn.segment = segment
            if rnd.getrandbits(3):
                one.r[1] = one.r[1] & ~mask | rnd.randrange(0, 60)
        elif opcode == 0xD7:
            one.r[3] = one.r[3] & ~mask | self.aim(one, DS) & mask
        elif (opcode == 0xC8 and rnd.getrandbits(3)) or (opcode == 0xC9 and rnd.getrandbits(3)):
            one.r[5] = self.pointer(one.sel[SS])
        elif opcode in opcodes.FAR_RETURNS and rnd.getrandbits(2):
            at = (harness.FRAMES16 if one.insn.operand16 else harness.FRAMES32) + self.frame(one.insn)
            one.r[4] = DATA_BASE + at - self.bases.get(one.sel[SS], 0) & 0xFFFFFFFF
        elif opcode in range(0xE0, 0xE4) and rnd.getrandbits(1):
            one.r[1] = one.r[1] & ~mask | rnd.randrange(3)

    def place(self, one: One) -> None:
        """Where the code lies: mostly in the middle of its pages, sometimes across an edge or at the end."""
        rnd = self.random
        kind = rnd.getrandbits(5)
        if kind == 0:
            one.code_at = CODE_BYTES - rnd.randrange(1, 16)
        elif kind <= 2:
            one.code_at = rnd.choice((0x1000, 0x2000, 0x3000)) - rnd.randrange(0, 16)
        else:
            one.code_at = rnd.randrange(0x900, 0x3000)
        if one.sel[CS] == 0x47:  # its limit is 1FFFh: a case must start below it
            one.code_at = 0x2000 - rnd.randrange(1, 16) if kind < 8 else 0x900 + one.code_at % 0x1600
        one.code = one.code[: CODE_BYTES - one.code_at]
        one.eip = one.code_at + (0 if one.sel[CS] in self.bases else CODE_BASE)


class One:
    """A case being made."""

    __slots__ = ("code", "code_at", "eflags", "eip", "insn", "r", "sel")

    def __init__(self, sel: list[int], eflags: int) -> None:
        self.sel, self.eflags = sel, eflags
        self.code = bytearray()
        self.r: list[int] = []
        self.code_at = self.eip = 0
        self.insn = Insn(False, 0x90)


def weighted_forms() -> list[tuple[bool, int]]:
    """Every opcode; the x87 escapes and groups count more, for they are many instructions each."""
    forms = []
    for opcode in range(256):
        if opcode not in opcodes.PREFIXES and opcode != 0x0F:
            weight = (
                6
                if 0xD8 <= opcode <= 0xDF
                else 3
                if opcode in {0x80, 0x81, 0x83, 0xC1, 0xD1, 0xD3, 0xF6, 0xF7, 0xFF}
                else 2
            )
            forms += [(False, opcode)] * weight
        forms += [(True, opcode)] * (2 if opcodes.TWO_BYTE[opcode] else 1)
    return forms
