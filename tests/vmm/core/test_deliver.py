"""Interrupts, exceptions and IRET: deliver.c and iret.c."""

import pytest

from tests.vmm.core.processor import (
    AC,
    CODE32,
    CODE_SEL,
    DATA32,
    DATA_SEL,
    FLAT,
    FREE,
    HANDLERS,
    IF,
    INT16,
    INT32,
    IOPL3,
    NT,
    RF,
    SCRATCH,
    STACK_TOPS,
    TF,
    TRAP32,
    P,
    Processor,
    descriptor,
    gate,
    with_dpl,
)
from vmm.vcpu import ExitKind

GP, NP, TS, UD, DF = 13, 11, 10, 6, 8


@pytest.fixture
def cpu() -> Processor:
    return Processor()


def test_int_n_from_ring_3(cpu: Processor) -> None:
    cpu.ring(3)
    cpu.v.eflags |= IF | NT
    event = cpu.run("int $0x80")
    assert event is not None
    assert (event.vector, event.eip, event.cs) == (0x80, 0x10002, CODE_SEL[3])
    assert event.eflags == IF | NT | 2
    assert cpu.v.r[4] == STACK_TOPS[0] - 20
    assert cpu.words(cpu.v.r[4] + 12, 2) == [STACK_TOPS[3] - 0x1000, DATA_SEL[3]]
    assert cpu.v.eflags & (IF | NT) == 0


def test_a_trap_gate_keeps_if(cpu: Processor) -> None:
    cpu.set_gate(0x40, gate(CODE_SEL[0], HANDLERS + 0x400, TRAP32))
    cpu.v.eflags |= IF
    cpu.run("int $0x40; .fill 3, 1, 0x90")
    assert cpu.last is not None and cpu.last.interruptible


@pytest.mark.parametrize(
    ("value", "vector", "error"),
    [
        (gate(CODE_SEL[0], SCRATCH, INT32), GP, 0x40 * 8 + 2),                              # DPL < CPL
        (gate(CODE_SEL[0], SCRATCH, with_dpl(INT32, 3) & ~P), NP, 0x40 * 8 + 2),
        (gate(CODE_SEL[0], SCRATCH, with_dpl(0x8C, 3)), GP, 0x40 * 8 + 2),                  # a call gate
        (0, GP, 0x40 * 8 + 2),
        (gate(0, SCRATCH, with_dpl(INT32, 3)), GP, 0),
        (gate(DATA_SEL[0], SCRATCH, with_dpl(INT32, 3)), GP, DATA_SEL[0]),
        (gate(0x1000, SCRATCH, with_dpl(INT32, 3)), GP, 0x1000),
        (gate(FREE, SCRATCH, with_dpl(INT32, 3)), NP, FREE),
        (gate(FREE + 8, SCRATCH, with_dpl(INT32, 3)), GP, 0),                               # EIP beyond the limit
    ],
)
def test_gates_that_refuse_int_n(cpu: Processor, value: int, vector: int, error: int) -> None:
    cpu.set_gate(0x40, value)
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, CODE32 & ~P, FLAT))
    cpu.set_descriptor(FREE + 8, descriptor(0, 0xFFFF, CODE32, 0x4000))
    cpu.ring(3)
    event = cpu.run("int $0x40")
    assert event is not None
    assert (event.vector, event.error, event.eip) == (vector, error, 0x10000)


def test_ext_is_set_when_an_exception_cannot_be_delivered(cpu: Processor) -> None:
    cpu.set_gate(UD, gate(CODE_SEL[0], 0, INT32 & ~P))
    event = cpu.run("ud2")
    assert event is not None
    assert (event.vector, event.error) == (NP, UD * 8 + 2 + 1)


def test_the_idt_limit(cpu: Processor) -> None:
    cpu.v.idtr.limit = 0x40 * 8 + 6
    event = cpu.run("int $0x40")
    assert event is not None
    assert (event.vector, event.error) == (GP, 0x40 * 8 + 2)


def test_a_16_bit_gate_pushes_words_and_uses_16_offset_bits(cpu: Processor) -> None:
    cpu.write(0x9800, b"\xf4")
    cpu.set_gate(GP, gate(CODE_SEL[0], 0xBEEF9800, INT16))
    esp = cpu.v.r[4]
    cpu.set_gate(0x41, 0)
    cpu.run("int $0x41")
    assert cpu.v.eip == 0x9801
    assert cpu.v.r[4] == esp - 8
    assert cpu.words(esp - 8, 4, size=2) == [0x41 * 8 + 2, 0, CODE_SEL[0], 2]


@pytest.mark.parametrize(("insn", "rf"), [("ud2", True), ("int $0x40", False), ("int3", False), (".byte 0xf1", False)])
def test_rf_in_the_image(cpu: Processor, insn: str, rf: bool) -> None:
    event = cpu.run(insn)
    assert event is not None
    assert bool(event.eflags & RF) is rf


def test_tf_is_cleared_on_entry_and_single_steps_after_iret(cpu: Processor) -> None:
    event = cpu.run(f"push ${TF | 2}; push ${CODE_SEL[0]}; push $1f; iret; 1: nop; 2: nop; hlt")
    assert event is not None
    assert (event.vector, event.eip) == (1, 0x1000E)        # after the first NOP, not after IRET
    assert event.eflags & TF
    assert cpu.v.dr[6] & 0x4000
    assert cpu.v.eflags & TF == 0


def test_double_fault(cpu: Processor) -> None:
    cpu.set_gate(GP, gate(CODE_SEL[0], 0, INT32 & ~P))
    event = cpu.run("ljmp $0, $0")
    assert event is not None
    assert (event.vector, event.error) == (DF, 0)


def test_triple_fault_is_a_shutdown(cpu: Processor) -> None:
    cpu.v.idtr.limit = 0
    cpu.run("ud2")
    assert cpu.last is not None and cpu.last.kind == ExitKind.SHUTDOWN
    assert cpu.last.vector == UD


def test_iret_to_ring_3_restores_flags_by_privilege(cpu: Processor) -> None:
    event = cpu.run(
        f"push ${DATA_SEL[3]}; push $0x4f000; push ${IF | IOPL3 | AC | 0xD5 | 2}; push ${CODE_SEL[3]}; push $1f; iret;"
        "1: int $0xff"
    )
    assert event is not None
    assert event.eflags == IF | IOPL3 | AC | 0xD7
    assert cpu.v.cpl == 0


def test_iret_in_ring_3_changes_neither_if_nor_iopl(cpu: Processor) -> None:
    cpu.ring(3)
    event = cpu.run(f"push ${IF | IOPL3 | 2}; push ${CODE_SEL[3]}; push $1f; iret; 1: int $0xff")
    assert event is not None
    assert event.eflags == 2


def test_iret_drops_data_segments_of_inner_rings(cpu: Processor) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, CODE32 | 4, FLAT))      # conforming code stays
    cpu.run(
        f"mov ${FREE}, %eax; mov %eax, %fs; mov ${DATA_SEL[3]}, %eax; mov %eax, %gs;"
        f"push ${DATA_SEL[3]}; push $0x4f000; pushf; push ${CODE_SEL[3]}; push $1f; iret; 1: int $0xff"
    )
    assert [cpu.unusable(name) for name in ("ds", "es", "fs", "gs")] == [True, True, False, False]


def test_interrupt_in_the_same_ring_pushes_no_stack(cpu: Processor) -> None:
    esp = cpu.v.r[4]
    cpu.run("int $0x40")
    assert cpu.v.r[4] == esp - 12


def test_no_room_for_the_frame_is_a_stack_fault_then_a_double_fault(cpu: Processor) -> None:
    cpu.hidden("ss", DATA_SEL[0], 0, 3, 0x4093)
    cpu.v.r[4] = 4
    cpu.run("int $0x40")
    assert cpu.last is not None and cpu.last.kind == ExitKind.SHUTDOWN


def test_inner_stack_faults_carry_ext(cpu: Processor) -> None:
    cpu.write32(0x4008, 0)          # SS0 null
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, with_dpl(CODE32, 3), FLAT))
    cpu.set_gate(TS, gate(FREE | 3, SCRATCH, with_dpl(INT32, 3)))
    cpu.write(SCRATCH, b"\xeb\xfe")
    cpu.ring(3)
    cpu.write(0x10000, b"\x0f\x0b")
    cpu.vcpu.run(20_000)
    assert cpu.words(STACK_TOPS[3] - 0x1000 - 16, 2) == [1, 0x10000]


def test_real_mode_int(cpu: Processor) -> None:
    cpu.real()
    cpu.write32(0x40 * 4, 0x1100_0020)
    cpu.v.eflags |= IF | AC
    cpu.write(0x11020, b"\xf4")
    cpu.run("int $0x40", bits=16)
    assert (cpu.selector("cs"), cpu.v.eip, cpu.v.r[4]) == (0x1100, 0x21, 0x7FFA)
    assert cpu.words(0x7FFA, 3, size=2) == [2, 0x1000, IF | 2]
    assert cpu.v.eflags & (IF | AC) == 0


def test_the_real_mode_table_has_a_limit(cpu: Processor) -> None:
    cpu.real()
    cpu.v.idtr.limit = 0x40 * 4 + 2
    cpu.write32(GP * 4, 0x1100_0020)
    cpu.write(0x11020, b"\xf4")
    cpu.run("int $0x40", bits=16)
    assert cpu.v.eip == 0x21
    assert cpu.words(0x7FFA, 2, size=2) == [0, 0x1000]


def test_a_16_bit_stack_wraps_word_by_word(cpu: Processor) -> None:
    cpu.real()
    cpu.write32(0x40 * 4, 0x1100_0020)
    cpu.write(0x11020, b"\xf4")
    cpu.v.r[4] = 0x1230002
    cpu.run("int $0x40", bits=16)
    assert cpu.v.r[4] == 0x123FFFC
    assert cpu.read16(0) == 2
    assert cpu.words(0xFFFC, 2, size=2) == [2, 0x1000]


def test_icebp_needs_no_dpl_and_is_no_fault(cpu: Processor) -> None:
    cpu.set_gate(1, gate(CODE_SEL[0], HANDLERS + 16, INT32))
    cpu.ring(3)
    event = cpu.run(".byte 0xf1")
    assert event is not None
    assert (event.vector, event.eip) == (1, 0x10001)


def test_an_accessed_bit_in_a_data_descriptor(cpu: Processor) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, DATA32 & ~1, FLAT))
    cpu.run(f"mov ${FREE}, %eax; mov %eax, %es; hlt")
    assert cpu.read32(0x1000 + FREE + 4) >> 8 & 1
