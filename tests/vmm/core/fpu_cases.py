"""Random x87, MMX and SSE instructions and operands, drawn where arithmetic is interesting.

Encodings: every opcode of D8..DF and of the SIMD rows of 0F. Memory operands are [ESI]; general registers as operands
are EAX, ECX, EDX, EBX only, because the host runs the same bytes in 64-bit mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.vmm.core.host_unit import FxImage

ESI_OPERAND = 6

# x87 register forms that are #UD, as opcode << 8 | ModRM.
X87_UNDEFINED = frozenset(
    [0xD900 | m for m in (*range(0xD1, 0xD8), 0xE2, 0xE3, 0xE6, 0xE7, 0xEF)]
    + [0xDA00 | m for m in range(0xE0, 0x100) if m != 0xE9]
    + [0xDB00 | m for m in (0xE5, 0xE6, 0xE7, *range(0xF8, 0x100))]
    + [0xDD00 | m for m in range(0xF0, 0x100)]
    + [0xDE00 | m for m in (0xD8, *range(0xDA, 0xE0))]
    + [0xDF00 | m for m in (*range(0xE1, 0xE8), *range(0xF8, 0x100))]
)
# The same for memory forms, as opcode << 8 | ModRM.reg: FISTTP is SSE3's.
X87_MEMORY_UNDEFINED = frozenset({0xD901, 0xDB01, 0xDB04, 0xDB06, 0xDD01, 0xDD05, 0xDF01})
# Memory forms that do not wait for a pending exception: FNSTENV FNSTCW FNSAVE FNSTSW.
NO_WAIT_MEMORY = frozenset({0xD906, 0xD907, 0xDD06, 0xDD07})
# Register forms likewise: FNENI FNDISI FNCLEX FNINIT FNSETPM FNSTSW.
NO_WAIT = frozenset({0xDBE0, 0xDBE1, 0xDBE2, 0xDBE3, 0xDBE4, 0xDFE0})
ENVIRONMENT_STORES = frozenset({0xD906, 0xDD06})

# SIMD opcodes by prefix, and those that have only a register or only a memory form.
PACKED_FLOAT = frozenset({*range(0x10, 0x18), *range(0x28, 0x30), *range(0x50, 0x60), 0xC2, 0xC6})
_MMX = frozenset({*range(0x60, 0x6C), 0x6E, 0x6F, 0x70, 0x74, 0x75, 0x76, 0x7E, 0x7F, 0xC4, 0xC5, *range(0xD1, 0x100)}
                 - {0xD6, 0xE6, 0xF0, 0xFF})  # fmt: skip
SIMD: dict[int, frozenset[int]] = {
    0: PACKED_FLOAT | _MMX | {0xC3},
    0x66: (PACKED_FLOAT | _MMX | {0x6C, 0x6D, 0xD6, 0xE6}) - {0x52, 0x53},
    0xF3: frozenset({0x10, 0x11, 0x2A, 0x2C, 0x2D, *range(0x51, 0x54), *range(0x58, 0x60), 0x6F, 0x70, 0x7E, 0x7F, 0xC2,
                     0xD6, 0xE6}),
    0xF2: frozenset({0x10, 0x11, 0x2A, 0x2C, 0x2D, 0x51, *range(0x58, 0x60), 0x70, 0xC2, 0xD6, 0xE6}) - {0x5B},
}  # fmt: skip
_REGISTER_ONLY = {(p, o) for p in (0, 0x66) for o in (0x50, 0xC5, 0xD7, 0xF7)} | {(0xF3, 0xD6), (0xF2, 0xD6)}
_MEMORY_ONLY = {(p, o) for p in (0, 0x66) for o in (0x13, 0x17, 0x2B, 0xE7)} | {(0, 0xC3), (0x66, 0x12), (0x66, 0x16)}
_IMMEDIATE = frozenset({0x70, 0xC2, 0xC4, 0xC5, 0xC6})
_GPR_REG = frozenset({0x2C, 0x2D, 0x50, 0xC3, 0xC5, 0xD7})
_GPR_RM = frozenset({0x2A, 0x6E, 0x7E, 0xC4})
SHIFTS = ((0x71, 2), (0x71, 4), (0x71, 6), (0x72, 2), (0x72, 4), (0x72, 6), (0x73, 2), (0x73, 6))
SHIFTS_XMM_ONLY = ((0x73, 3), (0x73, 7))


@dataclass(frozen=True, slots=True)
class Instruction:
    """Its bytes, and whether it is an x87 one that waits, or one whose stored pointers differ from host to host."""

    code: bytes
    waits: bool = False
    stores_environment: bool = False


def x87(rng: Random) -> Instruction:
    while True:
        opcode, modrm = rng.randrange(0xD8, 0xE0), rng.randrange(256)
        if rng.random() < 0.5:
            modrm = modrm & 0x38 | ESI_OPERAND
            key = opcode << 8 | modrm >> 3
            if key in X87_MEMORY_UNDEFINED:
                continue
            return Instruction(bytes([opcode, modrm]), key not in NO_WAIT_MEMORY, key in ENVIRONMENT_STORES)
        modrm |= 0xC0
        if (key := opcode << 8 | modrm) not in X87_UNDEFINED:
            return Instruction(bytes([opcode, modrm]), key not in NO_WAIT)


def simd(rng: Random) -> Instruction:
    prefix = rng.choice(tuple(SIMD))
    lead = bytes([prefix, 0x0F]) if prefix else b"\x0f"
    if prefix in {0, 0x66} and rng.random() < 0.08:
        opcode, extension = rng.choice(SHIFTS + (SHIFTS_XMM_ONLY if prefix else ()))
        count = rng.choice((0, 1, 5, 8, 15, 16, 40, 64, 200))
        return Instruction(lead + bytes([opcode, 0xC0 | extension << 3 | rng.randrange(8), count]))
    if prefix == 0 and rng.random() < 0.02:
        return Instruction(b"\x0f\x77")
    opcode = rng.choice(sorted(SIMD[prefix]))
    register = (prefix, opcode) not in _MEMORY_ONLY and ((prefix, opcode) in _REGISTER_ONLY or rng.random() < 0.5)
    reg, rm = rng.randrange(8), rng.randrange(8) if register else ESI_OPERAND
    if opcode in _GPR_REG:
        reg &= 3
    if register and opcode in _GPR_RM:
        rm &= 3
    code = lead + bytes([opcode, (0xC0 if register else 0) | reg << 3 | rm])
    if opcode in _IMMEDIATE:
        code += bytes([rng.randrange(8 if opcode == 0xC2 else 256)])
    return Instruction(code)


# ---- operands -------------------------------------------------------------------------------------------------------

_SINGLES = (0, 0x80000000, 0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 1, 0x807FFFFF, 0x00800000,
            0x7F7FFFFF, 0x4F000000, 0xCF000000)  # fmt: skip
_DOUBLES = (0, 1 << 63, 0x3FF << 52, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 0x7FF << 52 | 1, 1, (1 << 52) - 1, 1 << 52,
            0x7FEFFFFFFFFFFFFF, 0x41DFFFFFFFC00000, 0xC1E0000000000000, 0x43E0000000000000)  # fmt: skip
_EXPONENTS = (0, 0x8000, 0x3FFF, 0xBFFF, 0x7FFF, 0xFFFF, 1, 0x7FFE, 0x403E, 0x401E, 0x3F81, 0x3C01)
_MANTISSAS = (0, 1 << 63, 3 << 62, (1 << 64) - 1, 1, 1 << 63 | 1, 0xC90FDAA22168C235)


def single(rng: Random) -> bytes:
    moderate = rng.getrandbits(32) & 0x807FFFFF | rng.randrange(100, 156) << 23
    bits = rng.choice((rng.choice(_SINGLES), rng.getrandbits(32), moderate))
    return bits.to_bytes(4, "little")


def double(rng: Random) -> bytes:
    moderate = rng.getrandbits(64) & ~(0x7FF << 52) | rng.randrange(980, 1070) << 52
    bits = rng.choice((rng.choice(_DOUBLES), rng.getrandbits(64), moderate))
    return bits.to_bytes(8, "little")


def extended(rng: Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        exponent, mantissa = rng.choice(_EXPONENTS), rng.choice(_MANTISSAS)
    elif kind == 1:
        exponent, mantissa = rng.getrandbits(16), rng.getrandbits(64)
    else:
        exponent = rng.getrandbits(1) << 15 | 0x3FFF + rng.randrange(-40, 64)
        mantissa = 1 << 63 | rng.getrandbits(63) << rng.randrange(63) & (1 << 63) - 1
    return mantissa.to_bytes(8, "little") + exponent.to_bytes(2, "little")


def sixteen_bytes(rng: Random) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:
        return b"".join(single(rng) for _ in range(4))
    if kind == 1:
        return double(rng) + double(rng)
    if kind == 2:
        return extended(rng) + rng.randbytes(6)
    if kind == 3:
        return bytes(rng.randrange(10) | rng.randrange(10) << 4 for _ in range(10)) + rng.randbytes(6)
    return rng.randbytes(16)


def image(rng: Random, unmasked: bool) -> FxImage:
    """A state with no exception pending. SIMD exceptions are masked; x87 ones may not be if `unmasked`."""
    fx = FxImage()
    fx.fcw = rng.choice((0x37F, rng.getrandbits(16) & 0xF00 | 0x7F))
    if unmasked:
        fx.fcw &= ~rng.getrandbits(6)
    fx.fsw = rng.getrandbits(16) & 0x7F7F
    fx.fsw &= ~(fx.fsw & ~fx.fcw & 0x3F)
    fx.ftw = rng.choice((0xFF, 0xFF, 0, rng.getrandbits(8)))
    fx.mxcsr = rng.choice((0x1F80, rng.getrandbits(16) & 0xE07F | 0x1F80))
    fx.mxcsr_mask = 0xFFFF
    for index in range(8):
        fx.st[index][:10] = extended(rng)
        fx.xmm[index][:] = sixteen_bytes(rng)
    return fx
