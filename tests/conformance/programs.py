"""Random programs of some twenty instructions: branches, loops, calls, string instructions, and faults.

Instructions come from the generator of single cases. What the table of differences names is left out; after an
instruction that leaves flags undefined comes a CMP, which defines them all, so that nothing undefined is ever read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tests.conformance import differences, opcodes
from tests.conformance.generator import CS, DS, ES, LOCK, P67, REP, REPNE, SS, Batch, Generator, Insn, One
from tests.conformance.harness import CASE_CODE, CODE_BASE, CODE_BYTES, DATA_BASE, USER_CODE, USER_DATA
from tests.conformance.rules import Row

INSTRUCTIONS = 20
COUNTER = 0x7FF8
LEAVES = frozenset(
    {0x9A, 0xEA, 0xCA, 0xCB, 0xCF, 0xCC, 0xCD, 0xF1, 0xC2, 0xC3, 0xE8, 0xE9, 0xF4, 0x17, 0x9D, 0x0E, 0x16}
)
PRIVILEGED = frozenset(
    {
        *range(0x6C, 0x70),
        *range(0xE4, 0xE8),
        *range(0xEC, 0xF0),
        0xFA,
        0xFB,
        0x62,
        0x63,
        0xCE,
        0xD4,
        0xF6,
        0xF7,
        0xC4,
        0xC5,
        0x8F,
    }
)
STACK_POINTER_WRITERS = frozenset({0xC8, 0xC9, 0x5C, 0xBC, 0x94, 0x44, 0x4C, 0x61})
# The interpreter's peers and it differ there, or the result depends on when it is asked.
SPECIFIC = [row for row in differences.HOST if row.insns != "*"]
UNSTABLE = (*differences.UNDEFINED, *differences.SHIFT16)


class ProgramGenerator(Generator):
    """Programs instead of single instructions. `undefined`: forms that are #UD and would end programs too soon."""

    def __init__(self, seed: int, undefined: Collection[tuple[bool, int, int, bool, int]] = ()) -> None:
        super().__init__(seed)
        self.undefined = undefined
        self.verdicts: dict[object, tuple[bool, bool]] = {}

    def batch(self, count: int) -> Batch:
        found = super().batch(count)
        found.insns = [Insn(False, 0x90)] * count
        return found

    def case(self) -> One:
        rnd = self.random
        wide = rnd.random() < 0.7
        data = USER_DATA if wide else 7
        one = One(
            [data, USER_CODE if wide else 0x37, data if wide else 15, data, 7, 15], 0x202 | rnd.getrandbits(12) & 0x8D5
        )
        one.r = [self.value() for _ in range(8)]
        one.r[4] = self.pointer(one.sel[SS])
        one.r[5] = self.pointer(one.sel[SS])
        for _ in range(INSTRUCTIONS):
            if len(one.code) > CASE_CODE - 64:
                break
            which = rnd.random()
            if which < 0.12:
                self.branch(one)
            elif which < 0.16:
                self.loop(one)
            elif which < 0.20:
                self.call(one)
            else:
                self.plain(one)
        one.code_at = 0x1000 + rnd.randrange(0x1000)
        one.code = one.code[: CODE_BYTES - one.code_at]
        one.eip = one.code_at + (CODE_BASE if wide else 0)
        return one

    def branch(self, one: One) -> None:
        """Jcc over one instruction."""
        rnd = self.random
        at = len(one.code) + 1
        one.code += bytes([0x70 + rnd.randrange(16) if rnd.getrandbits(3) else 0xEB, 0])
        self.plain(one)
        one.code[at] = len(one.code) - at - 1 & 0x7F

    def loop(self, one: One) -> None:
        """A counter in memory that little else reaches, an instruction, DEC, JNZ."""
        wide = one.sel[CS] == USER_CODE
        size, modrm, base = (4, 5, DATA_BASE) if wide else (2, 6, 0)
        where = (base + COUNTER).to_bytes(size, "little")
        one.code += bytes([0xC7, modrm]) + where + self.random.randrange(1, 6).to_bytes(size, "little")
        start = len(one.code)
        self.plain(one)
        one.code += bytes([0xFF, modrm | 8]) + where
        one.code += bytes([0x75, start - len(one.code) - 2 & 0xFF])

    def call(self, one: One) -> None:
        """CALL over a byte, POP what it pushed."""
        size = 4 if one.sel[CS] == USER_CODE else 2
        one.code += (
            bytes([0xE8]) + (1).to_bytes(size, "little") + bytes([0xCC, 0x58 + self.random.choice((0, 1, 2, 3))])
        )

    def plain(self, one: One) -> None:
        """One instruction whose effect is the same everywhere."""
        rnd = self.random
        for _ in range(50):
            before = bytes(one.code), list(one.r)
            two_byte, opcode = rnd.choice(self.forms)
            if not two_byte and (opcode in LEAVES or opcode in STACK_POINTER_WRITERS or opcode in opcodes.JUMPS_8):
                continue
            if two_byte and 0x80 <= opcode < 0x90:
                continue
            if (two_byte and opcode in opcodes.UNDEFINED_0F) or (
                not two_byte and opcode in PRIVILEGED and rnd.getrandbits(4)
            ):
                continue
            if not two_byte and opcode in opcodes.STRINGS:
                self.point(one)
            self.emit(one, two_byte, opcode)
            if len(one.code) - len(before[0]) < 24 and self.stable(one):
                one.r = before[1]
                return
            one.code, one.r = bytearray(before[0]), before[1]
        one.code.append(0x90)

    def stable(self, one: One) -> bool:
        """Is it the same everywhere? If so, and it leaves undefined flags, a CMP is appended."""
        insn = one.insn
        if insn.form in self.undefined and self.random.getrandbits(6):
            return False
        key = insn.form, insn.operand16
        if key not in self.verdicts:
            self.verdicts[key] = verdict(insn)
        same, undefined_flags = self.verdicts[key]
        if same and undefined_flags:
            one.code += bytes([0x3C, 0x11])
        return same

    def point(self, one: One) -> None:
        """MOV ESI, EDI and ECX to where a string instruction can work."""
        size = 4 if one.sel[CS] == USER_CODE else 2
        mask = (1 << 8 * size) - 1
        one.insn = Insn(False, 0xA4)
        for opcode, value in ((0xBE, self.aim(one, DS)), (0xBF, self.aim(one, ES)), (0xB9, self.random.randrange(40))):
            one.code += bytes([opcode]) + (value & mask).to_bytes(size, "little")

    def prefixes(self, two_byte: bool, opcode: int) -> tuple[int, int]:
        """As for single instructions, but mostly those that make a defined instruction."""
        prefixes, segment = super().prefixes(two_byte, opcode)
        prefixes &= ~P67
        if self.random.getrandbits(4):
            prefixes &= ~LOCK
            if two_byte and not opcodes.takes_repeat_prefix(opcode):
                prefixes &= ~(REP | REPNE)
        return prefixes, segment

    def operand_m(self, one: One) -> None:
        """Registers, or memory at a fixed address or near EBP: what registers hold by now is not known."""
        rnd = self.random
        reg = rnd.randrange(8) << 3
        kind = rnd.random()
        if kind < 0.5:
            one.insn.modrm = 0xC0 | reg | rnd.choice((0, 1, 2, 3, 6, 7))
            one.code.append(one.insn.modrm)
        elif kind < 0.85 or one.insn.address16:
            one.insn.modrm = reg | (6 if one.insn.address16 else 5)
            one.code.append(one.insn.modrm)
            self.offset(one, self.aim(one, DS))
        else:
            one.insn.modrm = 0x45 | reg
            one.code += bytes([one.insn.modrm, rnd.getrandbits(8)])


def verdict(insn: Insn) -> tuple[bool, bool]:
    """Is it the same everywhere, and does it leave flags undefined?"""

    def named(rows: Iterable[Row]) -> bool:
        return any(pattern.matches(insn) for row in rows for pattern in row.patterns)

    esp_is_destination = (
        insn.reg == 4 and not insn.two_byte and insn.opcode in {0x8B, 0x8D, 0x03, 0x2B, 0x33, 0x23, 0x0B}
    )
    if named(SPECIFIC) or (insn.operand16 and named(differences.SHIFT16)) or esp_is_destination:
        return False, False
    return True, named(UNSTABLE)
