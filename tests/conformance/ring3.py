"""Random programs for rings 1 to 3 of ring3_machine.py: what the direct engine must get right.

A program is a row of parts. Most are instructions of the generator of programs.py, aimed at data pages of every kind:
not accessed, not dirty, read-only, supervisor, absent, absent until the first fault, aliases of others. The rest are
the parts of ring3_parts.py. Code lies in two pages; what shows the host's tables, where it is not caught, in a third.
As in programs.py, nothing that the manuals leave undefined is ever read. Everything follows from the seed.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from functools import cache

import numpy as np

from tests.conformance import harness, opcodes
from tests.conformance.fpu_images import FX_POOL, fx_pool
from tests.conformance.generator import CS, DS, ES, SS, Insn, One, weighted_forms
from tests.conformance.harness import CODE_BASE, DATA_BASE, USER_CODE, USER_DATA
from tests.conformance.programs import COUNTER, LEAVES, STACK_POINTER_WRITERS, ProgramGenerator
from tests.conformance.ring3_machine import (
    CODE_PAGES,
    CR0_AM,
    CR0_TS,
    CR0_WP,
    CR4_TSD,
    DATA_PAGES,
    END,
    PIECES_MAX,
    A,
    D,
    P,
    Program,
    U,
    W,
    selector,
)  # fmt: skip
from vmm.memory import PAGE_SIZE

Part = Callable[["Ring3Generator", "Maker"], None]

SENSITIVE_AT = 2 * PAGE_SIZE  # offset of the third code page
ALIAS = CODE_BASE + CODE_PAGES * PAGE_SIZE  # the first code page once more
STACK_PAGES, COUNTER_PAGE = (3, 4), COUNTER // PAGE_SIZE
GOOD_PAGES = (2, *STACK_PAGES, COUNTER_PAGE)  # in every program: writable, whatever A and D
CODE_START = 0x40
MAIN_END = 2 * PAGE_SIZE - 0x100
SENSITIVE = frozenset({0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x8C, 0x8E, 0xC4, 0xC5, 0x9A, 0xEA, 0xCA, 0xCB, 0xCF})
SENSITIVE_0F = frozenset({0, 1, 2, 3, 5, 7, 0x34, 0x35, 0xA0, 0xA1, 0xA2, 0xA8, 0xA9, 0xB2, 0xB4, 0xB5})
PORTS = frozenset({*range(0xE4, 0xE8), *range(0xEC, 0xF0), *range(0x6C, 0x70)})
# Stores before a fault of theirs may be seen or not; F1 is reported by hypervisors at another place.
NOT_PLAIN = frozenset({0x60, 0x61, 0xF1, *opcodes.PREFIXES})
COMPARES = frozenset({0xA6, 0xA7})  # two operands: which is read first differs
PUSHES = frozenset({*range(0x50, 0x60), 0x68, 0x6A, 0x8F, 0x9C})
# Of one byte each, between parts in the third page: the engine finds what is there by sweeping, not only by entries.
GAP = 16
BLOCK_SHARE = 0.5  # of the parts

# How a data page is mapped, what its first fault adds, and how often among 100.
KINDS = (
    (P | W | U, 0, 46), (P | U, 0, 8), (P | W, 0, 5), (0, 0, 5), (0, P | W | U, 8), (W | U, P, 8), (P | U, W, 12),
    (P | W, U, 6), (U, P, 2),
)  # fmt: skip


class Maker:
    """A program being made: `one` collects the bytes of the main code."""

    def __init__(self, program: Program, one: One) -> None:
        self.program, self.one = program, one
        self.aside_at = SENSITIVE_AT + CODE_START

    @property
    def here(self) -> int:
        """EIP of what comes next in the main code."""
        return self.program.bias + CODE_START + len(self.one.code)

    def emit(self, *parts: bytes | int) -> None:
        """Bytes as they are, numbers as 32 bits."""
        for part in parts:
            self.one.code += part if isinstance(part, bytes) else (part & 0xFFFFFFFF).to_bytes(4, "little")


class Ring3Generator(ProgramGenerator):
    """`parts`: the special ones, each as often as it is listed."""

    _verdicts: dict[object, tuple[bool, bool]] = {}  # of all programs alike

    def __init__(self, seed: int, parts: tuple[Part, ...], aside: tuple[Part, ...]) -> None:
        self.random = random.Random(seed)
        self.fx, self.forms = states(), forms()
        self.undefined, self.verdicts = frozenset(), self._verdicts
        self.seed, self.parts, self.aside = seed, parts, aside
        self.steady = False  # aim at pages that never fault

    # ---- the machine it starts in ------------------------------------------------------------------------------------

    def program(self) -> Program:
        rnd = self.random
        ring = rnd.choice((3, 3, 3, 3, 3, 3, 1, 2))
        wide = rnd.random() < 0.95 or ring != 3
        program = Program(self.seed, ring, pae=rnd.random() < 0.4, wide=wide)
        self._pages(program)
        data = USER_DATA if wide else 7
        extra = [rnd.choice((data, 0x07, 0x17, 0x1F, 0x57, 0x6F, 0)) for _ in range(2)]
        sel = [data, USER_CODE if wide else 0x37, data if wide else 15, data, *extra]
        iopl = rnd.choice((0,) * 7 + (3,))
        flags = rnd.getrandbits(12) & 0x8D5 | 2
        if wide:  # IRET to a 16-bit stack keeps half of the kernel's ESP, which a timer would show: no interrupts there
            flags |= iopl << 12 | (0x200 if rnd.random() < 0.95 else 0)
        self.ports = (flags >> 12 & 3) < ring
        one = One(sel, flags)
        one.r = [self.value() for _ in range(8)]
        one.r[4] = one.r[5] = self.pointer(sel[SS])
        program.sel = [selector(value, ring) for value in sel]
        program.r, program.eflags = list(one.r), flags
        program.fx = self._fpu()
        program.sysenter = ring == 3 and rnd.getrandbits(1) == 0
        program.cr0 ^= rnd.choice((0,) * 8 + (CR0_TS, CR0_AM, CR0_WP))
        program.cr4 |= CR4_TSD if rnd.random() < 0.1 else 0
        program.data = rnd.choice(templates())
        self._parts(Maker(program, one))
        return program

    def _pages(self, program: Program) -> None:
        """Rights, accessed and dirty bits, aliases, and what the kernel mends at the first fault."""
        rnd = self.random
        weights = [kind[2] for kind in KINDS]
        self.good = set(GOOD_PAGES)
        for page in range(DATA_PAGES):
            bits, mend, _ = KINDS[0] if page in GOOD_PAGES else rnd.choices(KINDS, weights)[0]
            bits |= rnd.choice((0, A, A | D if bits & W else A))
            frame = page if page in GOOD_PAGES or rnd.random() < 0.85 else rnd.choice((0, 2, 8, 9))
            program.data_pages[page] = frame, bits
            if mend:
                program.mends[DATA_BASE + page * PAGE_SIZE] = mend
            elif bits & (P | W | U) == P | W | U:
                self.good.add(page)
        for page in range(CODE_PAGES + 1):
            bits = P | U | (W if page in {0, CODE_PAGES} or rnd.getrandbits(1) else 0)
            bits |= rnd.choice((0, A, A | D if bits & W else A))
            if page in {1, 2} and rnd.random() < 0.2:
                program.mends[CODE_BASE + page * PAGE_SIZE] = lost = rnd.choice((P, P, U))
                bits &= ~lost
            program.code_pages[page] = bits
        self.good_list = sorted(self.good)

    def _fpu(self) -> bytes:
        """An image of the pool whose SIMD exceptions are masked: ours executes with them masked, which can be seen."""
        image = bytearray(self.fx[self.random.randrange(FX_POOL)].tobytes())
        mxcsr = struct.unpack_from("<I", image, 24)[0]
        struct.pack_into("<I", image, 24, mxcsr | 0x1F80)
        return bytes(image)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _parts(self, make: Maker) -> None:
        rnd, program = self.random, make.program
        lead = rnd.choice((0, 0, rnd.randrange(PAGE_SIZE - 0x400), PAGE_SIZE - 0x80 - rnd.randrange(0x100)))
        make.one.code += b"\x90" * lead  # so that some cross into the second page
        start = make.here - lead
        for _ in range(rnd.randrange(3, 15)):
            if len(make.one.code) > MAIN_END - CODE_START - 0x400 or len(program.pieces) > PIECES_MAX - 4:
                break
            program.starts.append(len(program.pieces))
            self._part(make, start)
            start = make.here
        program.starts.append(len(program.pieces))
        make.emit(END)
        program.pieces.append((start, make.here))
        program.code[CODE_START : CODE_START + len(make.one.code)] = make.one.code

    def _part(self, make: Maker, start: int) -> None:
        rnd = self.random
        if not make.program.wide or rnd.random() < BLOCK_SHARE:
            rnd.choice((self.block, self.block, self.block, self.long_loop))(make)
            make.program.pieces.append((start, make.here))
        elif rnd.random() < 0.75:
            rnd.choice(self.parts)(self, make)
            make.program.pieces.append((start, make.here))
        else:
            self._beside(make, start)

    def _beside(self, make: Maker, start: int) -> None:
        """A part in the third code page: a jump there and one back."""
        program, main = make.program, make.one.code
        if make.aside_at > SENSITIVE_AT + PAGE_SIZE - 0x100:
            make.emit(b"\x90")
            program.pieces.append((start, make.here))
            return
        target = CODE_BASE + make.aside_at
        make.emit(b"\xe9", target - (make.here + 5))
        program.pieces.append((start, make.here))
        back = make.here
        make.one.code = bytearray()
        self.random.choice(self.aside)(self, make)
        body = bytes(make.one.code)
        make.one.code = main
        body += b"\xe9" + (back - (target + len(body) + 5) & 0xFFFFFFFF).to_bytes(4, "little")
        program.code[make.aside_at : make.aside_at + len(body)] = body
        program.pieces.append((target, target + len(body)))
        make.aside_at += len(body) + GAP

    def block(self, make: Maker) -> None:
        rnd, one = self.random, make.one
        if make.program.wide:
            make.emit(b"\xbd", DATA_BASE + self.spot() if rnd.getrandbits(2) == 0 else self.pointer(USER_DATA))
        for _ in range(rnd.randrange(1, 7)):
            which = rnd.random()
            (self.branch if which < 0.12 else self.loop if which < 0.18 else self.call if which < 0.22 else self.plain)(
                one
            )

    def long_loop(self, make: Maker) -> None:
        """Long enough to be worth running directly."""
        rnd, one = self.random, make.one
        wide = make.program.wide
        size, modrm, base = (4, 5, DATA_BASE) if wide else (2, 6, 0)
        where = (base + COUNTER).to_bytes(size, "little")
        count = rnd.choice((200, 1000, 3000, rnd.randrange(1, 8000)))
        one.code += bytes([0xC7, modrm]) + where + count.to_bytes(size, "little")
        start = len(one.code)
        self.steady = rnd.random() < 0.8
        for _ in range(rnd.randrange(1, 4)):
            self.plain(one)
        self.steady = False
        one.code += bytes([0xFF, modrm | 8]) + where
        back = start - len(one.code) - 2
        one.code += bytes([0x75, back & 0xFF]) if back >= -128 else b""

    # ---- instructions ------------------------------------------------------------------------------------------------

    def spot(self) -> int:
        """An offset into data memory, often near a page's edge."""
        rnd = self.random
        page = rnd.choice(self.good_list) if self.steady else rnd.randrange(DATA_PAGES)
        if rnd.getrandbits(2):
            return page * PAGE_SIZE + (rnd.getrandbits(12) & (~3 if rnd.getrandbits(1) else ~0))
        if self.steady:
            return page * PAGE_SIZE + rnd.choice((0, 8, 0x7F0, 0xFC0))
        return page * PAGE_SIZE + rnd.choice((0, 1, 0xFFE, 0xFFF, 0xFF8, 0xFF0, 0xFFC))

    def pointer(self, chosen: int) -> int:
        """A stack pointer in pages that are always good."""
        at = self.random.randrange(STACK_PAGES[0] * PAGE_SIZE + 0x800, STACK_PAGES[-1] * PAGE_SIZE + 0xF00) & ~3
        return DATA_BASE + at - self.bases.get(chosen, 0) & 0xFFFFFFFF

    def plain(self, one: One) -> None:
        rnd = self.random
        for _ in range(50):
            before = bytes(one.code), list(one.r)
            two_byte, opcode = rnd.choice(self.forms)
            if self._unfit(two_byte, opcode):
                continue
            if not two_byte and opcode in opcodes.STRINGS:
                self._point(one, opcode)
            self.emit(one, two_byte, opcode)
            if len(one.code) - len(before[0]) < 24 and not self._sensitive(one.insn) and self.stable(one):
                one.r = before[1]
                return
            one.code, one.r = bytearray(before[0]), before[1]
        one.code.append(0x90)

    def _unfit(self, two_byte: bool, opcode: int) -> bool:
        if two_byte:
            return 0x80 <= opcode < 0x90 or (opcode in opcodes.UNDEFINED_0F and self.random.getrandbits(5) != 0)
        if opcode in LEAVES or opcode in STACK_POINTER_WRITERS or opcode in opcodes.JUMPS_8 or opcode in NOT_PLAIN:
            return True
        if opcode in PORTS and not self.ports:
            return True
        return self.steady and (opcode in PUSHES or opcode in PORTS or opcode in {0xFA, 0xFB, 0x62, 0xCE})

    def _sensitive(self, insn: Insn) -> bool:
        if insn.two_byte:
            return insn.opcode in SENSITIVE_0F
        return insn.opcode in SENSITIVE or (insn.opcode == 0xFF and insn.reg in {3, 5})

    def _point(self, one: One, opcode: int) -> None:
        """MOV ESI, EDI and ECX to where a string instruction can work; of a comparison only one operand may fault."""
        size = 4 if one.sel[CS] == USER_CODE else 2
        mask = (1 << 8 * size) - 1
        one.insn = Insn(False, 0xA4)
        steady, self.steady = self.steady, self.steady or opcode in COMPARES
        source = self.aim(one, DS)
        self.steady = steady
        for register, value in ((0xBE, source), (0xBF, self.aim(one, ES)), (0xB9, self.random.randrange(40))):
            one.code += bytes([register]) + (value & mask).to_bytes(size, "little")


@cache
def templates() -> tuple[bytes, ...]:
    """What data memory holds before a program."""
    return tuple(harness.data_template(seed) for seed in range(4))


@cache
def states() -> np.ndarray:
    return fx_pool(np.random.default_rng(0))


@cache
def forms() -> list[tuple[bool, int]]:
    return weighted_forms()
