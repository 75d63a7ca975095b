"""x87, MMX and SSE against the host's own unit: random instructions in short sequences, results equal to the bit."""

import ctypes
from random import Random

import pytest

from tests.vmm.core import fpu_cases
from tests.vmm.core.fpu_cases import Instruction
from tests.vmm.core.host_unit import AVAILABLE, OPERAND_BYTES, FxImage, HostUnit
from tests.vmm.core.processor import CODE, SCRATCH, Processor

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="the host is no x86-64: the engine has no x87, MMX, SSE there")

MF = 16
ARITHMETIC_FLAGS = 0x8D5
ENVIRONMENT_POINTERS = slice(12, 28)     # FIP to FDS of a 32-bit environment: hosts differ in what they record
CR4_OSFXSR, CR0_NE = 1 << 9, 1 << 5
MMX = fpu_cases.SIMD[0] - fpu_cases.PACKED_FLOAT - {0xC3} | {0x71, 0x72, 0x73, 0x77}


class Pair:
    """Our processor and the host's, given the same state and instructions."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.host, self.cpu = rng, HostUnit(), Processor()
        self.cpu.v.cr0 |= CR0_NE
        self.cpu.v.cr4 = CR4_OSFXSR

    def load(self, unmasked: bool) -> None:
        cpu, context = self.cpu, self.host.context
        cpu.ring(0)
        context.before = fpu_cases.image(self.rng, unmasked)
        operand = b"".join(fpu_cases.sixteen_bytes(self.rng) for _ in range(OPERAND_BYTES // 16))
        context.operand[:] = operand
        cpu.write(SCRATCH, operand)
        for index in range(4):
            cpu.v.r[index] = context.r[index] = self.rng.getrandbits(32)
        cpu.v.r[6], cpu.v.r[7] = SCRATCH, SCRATCH + 32
        context.eflags = cpu.v.eflags = 2 | self.rng.getrandbits(12) & ARITHMETIC_FLAGS
        ctypes.memmove(cpu.v.fx, ctypes.addressof(context.before), 512)

    def run_ours(self, sequence: list[Instruction]) -> int | None:
        """The vector that the sequence ended in, None for its end."""
        self.cpu.write(CODE, b"".join(i.code for i in sequence) + b"\xf4")
        event = self.cpu.resume()
        assert self.cpu.last is not None
        return event.vector if event else None

    def run_host(self, sequence: list[Instruction]) -> int | None:
        context = self.host.context
        for instruction in sequence:
            if context.before.pending() and (instruction.waits or is_mmx_pending(instruction)):
                return MF
            self.host.execute(instruction.code)
            context.before = context.after
        return None

    def ours(self) -> tuple[object, ...]:
        v = self.cpu.v
        fx = FxImage.from_buffer_copy(v.fx)
        return *fx.registers(), list(v.r)[:4], self.cpu.memory.read(SCRATCH, OPERAND_BYTES)

    def theirs(self, ignore_pointers: bool) -> tuple[object, ...]:
        context = self.host.context
        operand = bytearray(context.operand)
        if ignore_pointers:
            operand[ENVIRONMENT_POINTERS] = self.cpu.memory.read(SCRATCH, OPERAND_BYTES)[ENVIRONMENT_POINTERS]
        return *context.before.registers(), [r & 0xFFFFFFFF for r in context.r[:4]], bytes(operand)


def is_mmx_pending(instruction: Instruction) -> bool:
    """Does this SIMD instruction check for a pending x87 exception? Those that name an MMX register do."""
    code = instruction.code
    if code[0] == 0x0F:
        return code[1] in MMX or _converts(code)
    if code[0] == 0x66:
        return _converts(code[1:])
    return code[0] in {0xF2, 0xF3} and code[2] == 0xD6


def _converts(code: bytes) -> bool:
    return code[1] in {0x2C, 0x2D} or (code[1] == 0x2A and code[2] >= 0xC0)


def compare(seed: int, sequences: int, unmasked: bool) -> None:
    rng = Random(seed)
    pair = Pair(rng)
    for number in range(sequences):
        pair.load(unmasked)
        sequence: list[Instruction] = []
        for _ in range(rng.randint(1, 8)):
            sequence.append(rng.choice((fpu_cases.x87, fpu_cases.simd))(rng))
            if sequence[-1].stores_environment:
                break
        told = f"seed {seed}, sequence {number}: {' '.join(i.code.hex() for i in sequence)}"
        theirs_ended, ours_ended = pair.run_host(sequence), pair.run_ours(sequence)
        assert ours_ended == theirs_ended, told
        assert pair.ours() == pair.theirs(sequence[-1].stores_environment), told
        if ours_ended is None:
            assert (pair.cpu.v.eflags ^ pair.host.context.eflags) & ARITHMETIC_FLAGS == 0, told


@pytest.mark.parametrize("unmasked", [False, True], ids=["masked", "unmasked"])
def test_sequences_equal_the_hosts(unmasked: bool) -> None:
    compare(seed=1 + unmasked, sequences=1500, unmasked=unmasked)


@pytest.mark.long
@pytest.mark.parametrize("unmasked", [False, True], ids=["masked", "unmasked"])
def test_many_sequences_equal_the_hosts(unmasked: bool) -> None:
    compare(seed=101 + unmasked, sequences=60_000, unmasked=unmasked)
