"""x87 and MMX as a system sees them: who may use the unit, pending exceptions, last-instruction pointers, images."""

import struct

import pytest

from tests.vmm.core.fpu_cases import X87_MEMORY_UNDEFINED, X87_UNDEFINED
from tests.vmm.core.host_unit import AVAILABLE, FxImage
from tests.vmm.core.processor import CODE, CODE_SEL, DATA_SEL, SCRATCH, Processor, assemble
from vmm.layout_spec import InterruptPage
from vmm.vcpu import ExitKind

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="the host is no x86-64: the engine has no x87, MMX, SSE there")

UD, NM, GP, MF = 6, 7, 13, 16
CR0_MP, CR0_EM, CR0_TS, CR0_NE = 2, 4, 8, 0x20
CR4_OSFXSR = 1 << 9
ES, B, ZE, IE = 1 << 7, 1 << 15, 1 << 2, 1
DIVIDE_BY_ZERO = f"fninit; movw $0x37b, {SCRATCH}; fldcw {SCRATCH}; fld1; fldz; fdivrp"


@pytest.fixture
def cpu() -> Processor:
    processor = Processor()
    processor.v.cr0 |= CR0_NE
    processor.v.cr4 |= CR4_OSFXSR
    return processor


def fx(cpu: Processor) -> FxImage:
    return FxImage.from_buffer(cpu.v.fx)


def vector(cpu: Processor, source: str) -> int | None:
    event = cpu.run(source)
    return event.vector if event else None


# ---- who may use it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "em", "ts", "mp_ts"),
    [
        ("fld1", NM, NM, NM),
        ("fnstsw %ax", NM, NM, NM),
        ("fninit", NM, NM, NM),
        ("fxsave 0x60000", NM, NM, NM),
        ("fwait", None, None, NM),
        ("paddb %mm0, %mm1", UD, NM, NM),
        ("emms", UD, NM, NM),
        ("xorps %xmm0, %xmm0", UD, NM, NM),
        ("stmxcsr 0x60000", UD, NM, NM),
        ("sfence", None, None, None),
        ("movnti %eax, 0x60000", None, None, None),
    ],
)
def test_em_and_ts(cpu: Processor, instruction: str, em: int | None, ts: int | None, mp_ts: int | None) -> None:
    for bits, expected in ((CR0_EM, em), (CR0_TS, ts), (CR0_MP | CR0_TS, mp_ts)):
        cpu.ring(0)
        cpu.v.cr0 = cpu.v.cr0 & ~(CR0_EM | CR0_TS | CR0_MP) | bits
        assert vector(cpu, f"{instruction}; hlt") == expected, hex(bits)


def test_nm_comes_before_the_operands_fault(cpu: Processor) -> None:
    cpu.v.cr0 |= CR0_TS
    cpu.hidden("ds", DATA_SEL[0], 0, 0xFFF, 0x93)
    assert vector(cpu, "flds 0x2000; hlt") == NM


def test_undefined_encodings(cpu: Processor) -> None:
    forms = [key.to_bytes(2, "big") for key in sorted(X87_UNDEFINED)]
    forms += [bytes([key >> 8, (key & 7) << 3 | 6]) for key in sorted(X87_MEMORY_UNDEFINED)]
    for form in forms:
        cpu.ring(0)
        cpu.v.r[6] = SCRATCH
        cpu.write(CODE, form + b"\xf4")
        event = cpu.resume()
        assert event is not None and event.vector == UD, form.hex()


# ---- pending exceptions ---------------------------------------------------------------------------------------------


WAITING = ("fwait", "fld1", "fldcw 0x60000", "paddb %mm0, %mm1", "fldenv 0x60000", "fnop")


@pytest.mark.parametrize("instruction", WAITING)
def test_the_next_waiting_instruction_raises_mf(cpu: Processor, instruction: str) -> None:
    event = cpu.run(f"{DIVIDE_BY_ZERO}; nop; fnstsw %ax; {instruction}; hlt")
    assert event is not None and event.vector == MF
    assert cpu.v.r[0] & (ES | B | ZE) == ES | B | ZE
    assert event.eip - CODE == len(assemble(f"{DIVIDE_BY_ZERO}; nop; fnstsw %ax"))


@pytest.mark.parametrize("cure", ["fninit", "fnclex", "fnstenv 0x61000", "fnsave 0x61000"])
def test_instructions_without_waiting_end_it(cpu: Processor, cure: str) -> None:
    assert vector(cpu, f"{DIVIDE_BY_ZERO}; {cure}; fwait; fld1; hlt") is None
    assert not fx(cpu).fsw & (ES | B)


def test_memory_operations_do_not_disturb_a_pending_exception(cpu: Processor) -> None:
    assert vector(cpu, f"{DIVIDE_BY_ZERO}; fxsave 0x61000; fnstcw 0x62000; fnstsw 0x62002; hlt") is None
    assert cpu.read16(0x61002) == cpu.read16(0x62002) == fx(cpu).fsw
    assert fx(cpu).fsw & (ES | ZE) == ES | ZE


def test_unmasking_a_flagged_exception_makes_it_pending(cpu: Processor) -> None:
    cpu.write16(SCRATCH, 0x37B)
    assert vector(cpu, f"fninit; fld1; fldz; fdivrp; fldcw {SCRATCH}; fnstsw %ax; fwait; hlt") == MF
    assert cpu.v.r[0] & (ES | ZE) == ES | ZE


def test_an_unmasked_store_writes_nothing(cpu: Processor) -> None:
    cpu.write(SCRATCH + 16, bytes([0xAA] * 16))
    cpu.write16(SCRATCH, 0x37E)
    cpu.write32(SCRATCH + 8, 0x7F000000)
    code = f"fninit; fldcw {SCRATCH}; flds {SCRATCH + 8}; fmul %st(0), %st; fistpl {SCRATCH + 16}; fnstsw %ax; hlt"
    assert vector(cpu, code) is None
    assert cpu.memory.read(SCRATCH + 16, 4) == b"\xaa" * 4
    assert fx(cpu).fsw & 0x3881 == 7 << 11 | ES | IE


def test_with_ne_clear_it_raises_irq_13_and_stops(cpu: Processor) -> None:
    cpu.v.cr0 &= ~CR0_NE
    cpu.write(CODE, assemble(f"{DIVIDE_BY_ZERO}; fld1; hlt"))
    for _ in range(3):
        assert cpu.vcpu.run(100_000).kind == ExitKind.KICK
        assert cpu.v.eip == CODE + len(assemble(DIVIDE_BY_ZERO))
    page = cpu.state_file["interrupts"]
    assert isinstance(page, InterruptPage)
    assert page.lines >> 13 & 1


def test_while_ignne_is_asserted_the_error_is_ignored(cpu: Processor) -> None:
    cpu.v.cr0 &= ~CR0_NE
    cpu.write(CODE, assemble(f"{DIVIDE_BY_ZERO}; fld1; fnstsw %ax; fnstcw {SCRATCH + 8}; fnclex; fld1; hlt"))
    assert cpu.vcpu.run(100_000).kind == ExitKind.KICK
    cpu.v.ignne = 1
    assert cpu.resume() is None
    assert cpu.v.r[0] & (ES | ZE) == ES | ZE
    assert cpu.read16(SCRATCH + 8) == 0x37B
    assert cpu.v.ignne == 0
    assert (fx(cpu).fcw, fx(cpu).fsw) == (0x37B, 4 << 11)     # the division did not pop


# ---- faults on the way ----------------------------------------------------------------------------------------------


def test_a_store_that_faults_does_not_pop(cpu: Processor) -> None:
    cpu.run("fninit; fld1; fldpi; hlt")
    cpu.ring(0)
    before = bytes(cpu.v.fx)
    cpu.hidden("ds", DATA_SEL[0], 0, 0xFFF, 0x93)
    event = cpu.run("fstpl 0xffc; hlt")
    assert event is not None and event.vector == GP
    assert bytes(cpu.v.fx) == before


def test_a_store_to_a_device_pops_once(cpu: Processor) -> None:
    cpu.memory.map_mmio(0x3F0, 1)
    cpu.vcpu.engine.flush()
    cpu.write(CODE, assemble("fninit; fld1; fldpi; fstpl 0x3f0010; hlt"))
    written = b""
    while (exit_ := cpu.vcpu.run(100_000)).kind == ExitKind.MMIO:
        assert exit_.write
        written += exit_.data.to_bytes(16, "little")[: exit_.width]
    assert exit_.kind == ExitKind.HLT
    assert written == struct.pack("<d", 3.141592653589793)
    assert fx(cpu).fsw >> 11 & 7 == 7


def test_a_store_across_two_pages(cpu: Processor) -> None:
    assert vector(cpu, f"fninit; fldpi; fstpt {SCRATCH + 0xFFB}; fldt {SCRATCH + 0xFFB}; hlt") is None
    assert bytes(fx(cpu).st[0])[:10] == cpu.memory.read(SCRATCH + 0xFFB, 10) == bytes.fromhex("35c26821a2da0fc90040")


# ---- the last instruction -------------------------------------------------------------------------------------------


def test_fip_fop_and_fdp_are_of_the_last_operation(cpu: Processor) -> None:
    cpu.v.r[6] = SCRATCH
    cpu.run("fninit; fadds 4(%esi); fnstcw 8(%esi); fincstp; ffree %st(0); fnop; fwait; hlt")
    state = fx(cpu)
    assert (state.fop, state.fip, state.fcs) == (0x046, CODE + 2, CODE_SEL[0])
    assert (state.fdp, state.fds) == (SCRATCH + 4, DATA_SEL[0])
    cpu.ring(0)
    cpu.run("nop; fmul %st(1); hlt")
    assert (state.fop, state.fip, state.fdp) == (0x0C9, CODE + 1, SCRATCH + 4)
    cpu.ring(0)
    cpu.run("fninit; hlt")
    assert (state.fop, state.fip, state.fcs, state.fdp, state.fds) == (0, 0, 0, 0, 0)


def loaded(cpu: Processor) -> None:
    """FIP 00012345h, FDP 00ABCDEFh, and one register in use."""
    cpu.run("fninit; fldpi; hlt")
    state = fx(cpu)
    state.fop, state.fip, state.fcs, state.fdp, state.fds = 0x1C9, 0x12345, 0x08, 0xABCDEF, 0x10
    cpu.ring(0)


def test_the_32_bit_environment(cpu: Processor) -> None:
    loaded(cpu)
    cpu.run(f"fnstenv {SCRATCH}; hlt")
    expected = [0xFFFF037F, 0xFFFF3800, 0xFFFF3FFF, 0x12345, 0x01C90008, 0xABCDEF, 0xFFFF0010]
    assert cpu.words(SCRATCH, 7) == expected


def test_the_16_bit_environment(cpu: Processor) -> None:
    loaded(cpu)
    cpu.run(f"data16 fnstenv {SCRATCH}; hlt")
    assert cpu.words(SCRATCH, 8, 2) == [0x37F, 0x3800, 0x3FFF, 0x2345, 0x08, 0xCDEF, 0x10, 0]


def test_the_real_mode_environments(cpu: Processor) -> None:
    loaded(cpu)
    state = fx(cpu)
    cpu.real()
    cpu.run("fnstenv 0x100; data32 fnstenv 0x200; hlt", bits=16)
    ip, dp = 0x12345 + 0x80, 0xABCDEF + 0x100
    assert cpu.words(0x100, 7, 2) == [0x37F, 0x3800, 0x3FFF, ip & 0xFFFF, 0x11C9, dp & 0xFFFF, 0xB000]
    assert cpu.words(0x200, 7)[3:] == [0xFFFF0000 | ip & 0xFFFF, 0x11C9, 0xFFFF0000 | dp & 0xFFFF, 0x000AB000]
    cpu.v.activity, cpu.v.eip = 0, 0
    cpu.run("data32 fldenv 0x200; hlt", bits=16)
    assert (state.fop, state.fip, state.fdp) == (0x1C9, ip, dp)


@pytest.mark.parametrize("prefix", ["", "data16"])
def test_fsave_and_frstor(cpu: Processor, prefix: str) -> None:
    cpu.run("fninit; fldpi; fld1; fldl2e; hlt")
    cpu.ring(0)
    before = fx(cpu).registers()
    cpu.run(f"{prefix} fnsave {SCRATCH}; hlt")
    assert (fx(cpu).fcw, fx(cpu).fsw, fx(cpu).ftw) == (0x37F, 0, 0)
    cpu.ring(0)
    cpu.run(f"{prefix} frstor {SCRATCH}; hlt")
    assert fx(cpu).registers() == before


def test_fldenv_moves_top_over_the_same_registers(cpu: Processor) -> None:
    """A tag is a physical register's; STn is relative to TOP."""
    cpu.run(f"fninit; fldpi; fld1; fnstenv {SCRATCH}; hlt")
    cpu.write16(SCRATCH + 4, 7 << 11)
    cpu.ring(0)
    cpu.run(f"fldenv {SCRATCH}; fstpl {SCRATCH + 64}; hlt")
    assert struct.unpack("<d", cpu.memory.read(SCRATCH + 64, 8)) == (3.141592653589793,)


# ---- FXSAVE, FXRSTOR ------------------------------------------------------------------------------------------------


def test_fxsave_holds_what_fxrstor_loads(cpu: Processor) -> None:
    loaded(cpu)
    fx(cpu).xmm[3][:] = bytes(range(16))
    before = bytes(cpu.v.fx)
    cpu.run(f"fxsave {SCRATCH}; fninit; pxor %xmm3, %xmm3; fxrstor {SCRATCH}; hlt")
    assert cpu.memory.read(SCRATCH, 288) == before[:288]
    assert bytes(cpu.v.fx)[:288] == before[:288]


def test_fxsave_leaves_the_reserved_end_alone(cpu: Processor) -> None:
    cpu.write(SCRATCH + 288, b"\x5a" * 224)
    cpu.run(f"fxsave {SCRATCH}; hlt")
    assert cpu.memory.read(SCRATCH + 288, 224) == b"\x5a" * 224


def test_without_osfxsr_mxcsr_and_xmm_stay_out(cpu: Processor) -> None:
    cpu.v.cr4 &= ~CR4_OSFXSR
    fx(cpu).xmm[0][:] = b"\x11" * 16
    cpu.write(SCRATCH, b"\xee" * 512)
    assert vector(cpu, f"fninit; fxsave {SCRATCH}; fxrstor {SCRATCH}; hlt") is None
    assert cpu.memory.read(SCRATCH + 24, 8) == b"\xee" * 8
    assert cpu.memory.read(SCRATCH + 160, 16) == b"\xee" * 16
    assert bytes(fx(cpu).xmm[0]) == b"\x11" * 16


@pytest.mark.parametrize("instruction", [f"fxsave {SCRATCH + 8}", f"fxrstor {SCRATCH + 8}"])
def test_a_misaligned_image_is_gp(cpu: Processor, instruction: str) -> None:
    event = cpu.run(f"{instruction}; hlt")
    assert event is not None and (event.vector, event.error) == (GP, 0)


def test_fxrstor_refuses_reserved_mxcsr_bits(cpu: Processor) -> None:
    cpu.write32(SCRATCH + 24, 0x10000)
    before = bytes(cpu.v.fx)
    event = cpu.run(f"fxrstor {SCRATCH}; hlt")
    assert event is not None and (event.vector, event.error) == (GP, 0)
    assert bytes(cpu.v.fx) == before


def test_reset_state(cpu: Processor) -> None:
    state = fx(cpu)
    assert (state.fcw, state.fsw, state.ftw, state.mxcsr, state.mxcsr_mask) == (0x40, 0, 0xFF, 0x1F80, 0xFFFF)


# ---- MMX ------------------------------------------------------------------------------------------------------------


def test_mmx_takes_the_registers_over(cpu: Processor) -> None:
    cpu.run("fninit; fldpi; fld1; movl $0x12345678, %eax; movd %eax, %mm6; hlt")
    state = fx(cpu)
    assert (state.fsw >> 11 & 7, state.ftw) == (0, 0xFF)
    assert bytes(state.st[6])[:10] == bytes.fromhex("7856341200000000ffff")
    assert bytes(state.st[7])[:10] == bytes.fromhex("35c26821a2da0fc90040")
    cpu.ring(0)
    cpu.run("emms; hlt")
    assert state.ftw == 0


def test_a_faulting_mmx_load_changes_nothing(cpu: Processor) -> None:
    cpu.run("fninit; fldpi; hlt")
    cpu.ring(0)
    before = bytes(cpu.v.fx)
    cpu.hidden("ds", DATA_SEL[0], 0, 0xFFF, 0x93)
    assert vector(cpu, "paddb 0xffc, %mm0; hlt") == GP
    assert bytes(cpu.v.fx) == before


def test_mmx_needs_no_osfxsr(cpu: Processor) -> None:
    cpu.v.cr4 &= ~CR4_OSFXSR
    assert vector(cpu, "pshufw $0x1b, %mm0, %mm1; pavgb %mm1, %mm2; hlt") is None
    cpu.ring(0)
    assert vector(cpu, "movq2dq %mm0, %xmm1; hlt") == UD

