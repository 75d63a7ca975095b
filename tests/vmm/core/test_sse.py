"""SSE and SSE2 as a system sees them: who may use them, alignment, MXCSR and unmasked exceptions."""

import struct

import pytest

from tests.vmm.core.host_unit import AVAILABLE, FxImage
from tests.vmm.core.processor import CODE, DATA_SEL, SCRATCH, Processor

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="the host is no x86-64: the engine has no x87, MMX, SSE there")

UD, GP, MF, XM = 6, 13, 16, 19
CR0_NE, CR4_OSFXSR, CR4_OSXMMEXCPT = 0x20, 1 << 9, 1 << 10
IE, DE, ZE, OE, UE, PE, DAZ, FTZ = 1, 2, 4, 8, 16, 32, 64, 1 << 15
MASKED = 0x1F80


@pytest.fixture
def cpu() -> Processor:
    processor = Processor()
    processor.v.cr0 |= CR0_NE
    processor.v.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT
    return processor


def fx(cpu: Processor) -> FxImage:
    return FxImage.from_buffer(cpu.v.fx)


def vector(cpu: Processor, source: str) -> int | None:
    event = cpu.run(source)
    return event.vector if event else None


def unmask(flags: int) -> int:
    return MASKED & ~(flags << 7)


# ---- who may use it -------------------------------------------------------------------------------------------------


NEED_OSFXSR = ("addps %xmm0, %xmm1", "movaps %xmm0, %xmm1", "paddb %xmm0, %xmm1", "ldmxcsr 0x60000")


@pytest.mark.parametrize("instruction", NEED_OSFXSR)
def test_without_osfxsr_it_is_ud(cpu: Processor, instruction: str) -> None:
    cpu.v.cr4 &= ~CR4_OSFXSR
    assert vector(cpu, f"{instruction}; hlt") == UD


@pytest.mark.parametrize(
    "code",
    [
        "f20f12c1", "f30f12c1", "f30f16c1", "660f7cc1", "f20f7dc1", "660fd0c1", "f20ff006",    # SSE3
        "0f3800c1", "660f3a0fc101", "f30fb8c1",                                                 # SSSE3, SSE4
        "660f12c1", "660f16c1", "0f13c1", "0f2bc1", "660fe7c1", "0fe7c1",                       # memory operands only
        "0f5006", "660fd706", "660fc50601", "0ff706", "f30fd606",                               # registers only
        "0f6cc1", "0f6dc1", "0fd6c1", "660f52c1", "f20f53c1", "660f71c801",                     # holes in the map
    ],
)  # fmt: skip
def test_undefined_encodings(cpu: Processor, code: str) -> None:
    cpu.v.r[6] = SCRATCH
    cpu.write(CODE, bytes.fromhex(code) + b"\xf4")
    event = cpu.resume()
    assert event is not None and event.vector == UD


# ---- alignment ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "instruction",
    [
        "movaps 8(%esi), %xmm0",
        "movdqa %xmm0, 8(%esi)",
        "movntps %xmm0, 8(%esi)",
        "addps 4(%esi), %xmm0",
        "paddd 1(%esi), %xmm0",
        "cvtdq2ps 8(%esi), %xmm0",
        "cvtpd2pi 8(%esi), %mm0",
        "pshufd $0, 4(%esi), %xmm0",
        "unpcklpd 8(%esi), %xmm0",
    ],
)
def test_a_misaligned_operand_is_gp(cpu: Processor, instruction: str) -> None:
    cpu.v.r[6] = SCRATCH
    event = cpu.run(f"{instruction}; hlt")
    assert event is not None and (event.vector, event.error) == (GP, 0)


def test_what_may_be_misaligned(cpu: Processor) -> None:
    cpu.v.r[6] = SCRATCH + 0xFFB
    cpu.write(SCRATCH + 0xFFB, bytes(range(16)))
    code = "movups (%esi), %xmm0; movdqu %xmm0, 16(%esi); movlps (%esi), %xmm1; cvtdq2pd 3(%esi), %xmm2"
    assert vector(cpu, f"{code}; addsd 5(%esi), %xmm3; hlt") is None
    assert cpu.memory.read(SCRATCH + 0x100B, 16) == bytes(fx(cpu).xmm[0]) == bytes(range(16))


def test_maskmovdqu_writes_the_chosen_bytes(cpu: Processor) -> None:
    cpu.v.r[7] = SCRATCH + 0xFF7
    cpu.write(SCRATCH + 0xFF7, b"\xee" * 16)
    fx(cpu).xmm[0][:] = bytes(range(16))
    fx(cpu).xmm[1][:] = bytes(0x80 if index % 3 == 0 else 0x7F for index in range(16))
    assert vector(cpu, "maskmovdqu %xmm1, %xmm0; hlt") is None
    assert cpu.memory.read(SCRATCH + 0xFF7, 16) == bytes(index if index % 3 == 0 else 0xEE for index in range(16))
    cpu.ring(0)
    cpu.hidden("ds", DATA_SEL[0], 0, 0xFFF, 0x93)
    assert vector(cpu, "pxor %xmm1, %xmm1; movl $0x200, %edi; maskmovdqu %xmm1, %xmm0; hlt") is None


# ---- MXCSR ----------------------------------------------------------------------------------------------------------


def test_flags_are_sticky_and_read_back(cpu: Processor) -> None:
    fx(cpu).xmm[1][:] = struct.pack("<4f", 1, 2, 3, 4)
    cpu.run(f"xorps %xmm0, %xmm0; divps %xmm0, %xmm1; movaps %xmm1, %xmm2; stmxcsr {SCRATCH}; hlt")
    assert cpu.read32(SCRATCH) == fx(cpu).mxcsr == MASKED | ZE


@pytest.mark.parametrize(("value", "expected"), [(0xFFFF, None), (0x10000, GP), (0x80001F80, GP)])
def test_ldmxcsr_refuses_reserved_bits(cpu: Processor, value: int, expected: int | None) -> None:
    cpu.write32(SCRATCH, value)
    assert vector(cpu, f"ldmxcsr {SCRATCH}; hlt") == expected
    assert fx(cpu).mxcsr == (MASKED if expected else value)


def test_the_hosts_own_mxcsr_is_untouched(cpu: Processor) -> None:
    third = 1 / 3
    cpu.write32(SCRATCH, 0xFFC0)
    cpu.run(f"ldmxcsr {SCRATCH}; fninit; movw $0x0c7f, {SCRATCH}; fldcw {SCRATCH}; fld1; hlt")
    assert third == 1 / 3 and 5e-324 / 1 != 0


# ---- unmasked exceptions --------------------------------------------------------------------------------------------

ONE, TINY, SNAN, BIG = 0x3F800000, 0x00000001, 0x7F800001, 0x7F000000


@pytest.mark.parametrize(
    ("instruction", "a", "b", "unmasked", "flags"),
    [
        ("divss", ONE, 0, ZE, ZE),
        ("addss", SNAN, ONE, IE, IE),
        ("addss", TINY, ONE, DE, DE),
        ("addss", TINY, ONE, DE | PE, DE),                  # found before the computation, so no PE
        ("mulss", BIG, BIG, OE, OE | PE),
        ("mulss", 0x00800000, 0x3F000000, UE, UE),         # exact: a masked underflow would not be flagged
        ("divss", ONE, 0x40400000, PE, PE),
        ("cmpltss", 0x7FC00000, ONE, IE, IE),
        ("comiss", 0x7FC00000, ONE, IE, IE),
        ("cvttss2si", 0x4F000000, 0x4F000000, IE, IE),
    ],
)
def test_an_unmasked_exception(cpu: Processor, instruction: str, a: int, b: int, unmasked: int, flags: int) -> None:
    state = fx(cpu)
    state.mxcsr = unmask(unmasked)
    state.xmm[0][:4], state.xmm[1][:4] = a.to_bytes(4, "little"), b.to_bytes(4, "little")
    cpu.v.r[0], cpu.v.eflags = 0x1234, 2 | 0x8D5
    before = bytes(state.xmm[0])
    destination = "%eax" if instruction == "cvttss2si" else "%xmm0"
    event = cpu.run(f"{instruction} %xmm1, {destination}; hlt")
    assert event is not None and (event.vector, event.eip) == (XM, CODE)
    assert state.mxcsr == unmask(unmasked) | flags
    assert bytes(state.xmm[0]) == before
    assert cpu.v.r[0] == 0x1234 and event.eflags & 0x8D5 == 0x8D5


def test_without_osxmmexcpt_it_is_ud(cpu: Processor) -> None:
    cpu.v.cr4 &= ~CR4_OSXMMEXCPT
    fx(cpu).mxcsr = unmask(ZE)
    fx(cpu).xmm[1][:4] = ONE.to_bytes(4, "little")
    assert vector(cpu, "xorps %xmm0, %xmm0; divss %xmm0, %xmm1; hlt") == UD


def test_flags_set_before_raise_nothing(cpu: Processor) -> None:
    """An exception is raised by an operation, not by a sticky flag that LDMXCSR unmasks."""
    cpu.write32(SCRATCH, unmask(ZE) | ZE)
    assert vector(cpu, f"ldmxcsr {SCRATCH}; addps %xmm0, %xmm1; hlt") is None


def test_flush_to_zero_is_ignored_when_underflow_is_unmasked(cpu: Processor) -> None:
    fx(cpu).mxcsr = unmask(UE) | FTZ
    fx(cpu).xmm[0][:4], fx(cpu).xmm[1][:4] = (0x00800000).to_bytes(4, "little"), (0x3F000000).to_bytes(4, "little")
    assert vector(cpu, "mulss %xmm1, %xmm0; hlt") == XM


def test_logic_raises_nothing(cpu: Processor) -> None:
    fx(cpu).mxcsr = unmask(0x3F)
    fx(cpu).xmm[0][:4] = SNAN.to_bytes(4, "little")
    code = "movaps %xmm0, %xmm1; orps %xmm0, %xmm1; shufps $0, %xmm0, %xmm1; rcpps %xmm0, %xmm2"
    assert vector(cpu, f"{code}; paddd %xmm0, %xmm1; hlt") is None


# ---- with MMX -------------------------------------------------------------------------------------------------------


def test_conversions_with_mmx_see_a_pending_x87_exception(cpu: Processor) -> None:
    code = f"fninit; movw $0x37b, {SCRATCH}; fldcw {SCRATCH}; fld1; fldz; fdivrp; addps %xmm0, %xmm1"
    assert vector(cpu, f"{code}; cvtps2pi %xmm0, %mm0; hlt") == MF


def test_conversion_from_memory_makes_no_transition(cpu: Processor) -> None:
    cpu.run(f"fninit; fldpi; cvtpi2pd {SCRATCH}, %xmm0; hlt")
    assert (fx(cpu).fsw >> 11 & 7, fx(cpu).ftw) == (7, 0x80)
