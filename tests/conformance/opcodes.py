"""The opcode maps through P6 with SSE2, as far as a generator needs them: what bytes follow an opcode.

    m  ModRM (with SIB and displacement)     b  imm8          w  imm16
    z  imm16 or imm32, by operand size       p  far pointer   o  offset, by address size

F6 and F7 take their immediate only with /0 and /1. Undefined opcodes are listed too: they must be #UD.
Source: Intel SDM volume 2, appendix A.
"""

from __future__ import annotations

PREFIXES = frozenset({0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3})


def _spread(rows: dict[str, str]) -> list[str]:
    """{"00-03 08": "m"} to a list of 256."""
    table = [""] * 256
    for places, operands in rows.items():
        for place in places.split():
            first, _, last = place.partition("-")
            for opcode in range(int(first, 16), int(last or first, 16) + 1):
                table[opcode] = operands
    return table


ONE_BYTE = _spread({
    "00-03 08-0B 10-13 18-1B 20-23 28-2B 30-33 38-3B": "m",
    "04 0C 14 1C 24 2C 34 3C": "b",
    "05 0D 15 1D 25 2D 35 3D": "z",
    "62 63 84-8F C4 C5 D0-D3 D8-DF FE FF F6 F7": "m",
    "68 A9 B8-BF E8 E9": "z",
    "69 81 C7": "mz",
    "6B 80 82 83 C0 C1 C6": "mb",
    "6A 70-7F A8 B0-B7 CD D4 D5 E0-E7 EB": "b",
    "9A EA": "p",
    "A0-A3": "o",
    "C2 CA": "w",
    "C8": "wb",
})  # fmt: skip

TWO_BYTE = _spread({
    "00-03 0D 10-1F 20-23 28-2F 40-6F 74-76 78-7F 90-9F A3 A5 A6 A7 AB AD-B9 BB-C1 C3 C7 D0-FF": "m",
    "70-73 A4 AC BA C2 C4-C6": "mb",
    "80-8F": "z",
})  # fmt: skip

JUMPS_8 = frozenset({*range(0x70, 0x80), *range(0xE0, 0xE4), 0xEB})
STRINGS = frozenset({*range(0x6C, 0x70), *range(0xA4, 0xA8), *range(0xAA, 0xB0)})
FAR_RETURNS = frozenset({0xCA, 0xCB, 0xCF})

# Two-byte opcodes that are #UD or privileged whatever follows, and some that mostly are.
UNDEFINED_0F = frozenset(
    {0x00, 0x01, *range(0x04, 0x0D), 0x0E, 0x0F, *range(0x20, 0x28), 0x30, *range(0x32, 0x40), *range(0x78, 0x7E),
     0xA6, 0xA7, 0xAA, 0xAE, 0xB8, 0xB9, 0xC7, 0xD0, 0xF0, 0xFF}
)  # fmt: skip


def takes_repeat_prefix(opcode: int) -> bool:
    """Does F2 or F3 select some form of 0F opcode?"""
    return opcode in {
        0x10,
        0x11,
        0x2A,
        0x2C,
        0x2D,
        0x51,
        0x58,
        0x59,
        0x5A,
        0x5C,
        0x5D,
        0x5E,
        0x5F,
        0x70,
        0xC2,
        0xE6,
        0xD6,
        0x6F,
        0x7F,
    }
