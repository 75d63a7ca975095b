"""Generators for a peer that is not silicon: real mode, and flat 32-bit code, without what such a peer cannot do."""

from __future__ import annotations

from tests.conformance import harness
from tests.conformance.generator import CS, LOCK, Generator, One
from tests.conformance.harness import CODE_BASE, DATA_BASE, USER_CODE, USER_DATA

REAL_CODE, REAL_DATA = harness.REAL_CODE >> 4, harness.REAL_DATA >> 4


class PlainGenerator(Generator):
    """What leaves the code, needs an x87 or SSE state, or makes Unicorn abort is left out."""

    far_jumps = False

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.forms = [form for form in self.forms if is_plain(*form)]

    def prefixes(self, two_byte: bool, opcode: int) -> tuple[int, int]:
        prefixes, segment = super().prefixes(two_byte, opcode)
        if two_byte and opcode in LOCK_ABORTS:
            prefixes &= ~LOCK
        return prefixes, -1 if segment == CS else segment

    def place(self, one: One) -> None:
        one.code_at = self.random.randrange(0x900, 0x3000)
        one.eip = one.code_at + (0 if one.sel[CS] in self.bases else CODE_BASE)

    def flags(self) -> int:
        return super().flags() & ~0x50100  # no single step, no resume flag, no alignment check


class RealGenerator(PlainGenerator):
    """Real mode: one code segment, one for all else."""

    bases = {REAL_DATA: DATA_BASE, REAL_CODE: CODE_BASE}
    sixteen_bit = frozenset({REAL_CODE})

    def segments(self) -> list[int]:
        return [REAL_DATA, REAL_CODE, REAL_DATA, REAL_DATA, REAL_DATA, REAL_DATA]


class FlatGenerator(PlainGenerator):
    """Flat 32-bit code whose segments are never loaded."""

    def segments(self) -> list[int]:
        return [USER_DATA, USER_CODE, USER_DATA, USER_DATA, USER_DATA, USER_DATA]


LOCK_ABORTS = frozenset({0xA3, 0xAB, 0xB3, 0xBB, 0xBA})
# Ports, interrupts, far transfers and segment loads.
NOT_PLAIN = frozenset(
    {*range(0xD8, 0xE0), *range(0x6C, 0x70), *range(0xE4, 0xE8), *range(0xEC, 0xF0), 0x9A, 0xEA, 0xCA,
     0xCB, 0xCC, 0xCD, 0xCF, 0xF1, 0xF4, 0x07, 0x17, 0x1F, 0x8E, 0xC4,
     0xC5, 0xFF, 0x9B, 0xFA, 0xFB, 0x9D, 0x0E, 0x16, 0x06, 0x1E, 0x8C, 0x63}
)  # fmt: skip
PLAIN_0F = frozenset(
    {0x1F, *range(0x40, 0x50), *range(0x80, 0xA0), 0xA3, 0xA4, 0xA5, 0xAB, 0xAC, 0xAD, 0xAF, 0xB0, 0xB1, 0xB3, 0xB6,
     0xB7, 0xBA, *range(0xBB, 0xC2), 0xC7, *range(0xC8, 0xD0)}
)  # fmt: skip


def is_plain(two_byte: bool, opcode: int) -> bool:
    return opcode in PLAIN_0F if two_byte else opcode not in NOT_PLAIN
