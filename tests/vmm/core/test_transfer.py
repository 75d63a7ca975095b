"""Far JMP, CALL and RET, call gates, SYSENTER and SYSEXIT: transfer.c.

Judged by the Intel SDM: each expected fault is the manual's for that check, in the manual's order.
"""

import pytest

from tests.vmm.core.processor import (
    CALL16,
    CALL32,
    CODE,
    CODE32,
    CODE_SEL,
    DATA32,
    DATA_SEL,
    FLAT,
    FREE,
    SCRATCH,
    STACK_TOPS,
    TASK_GATE,
    TSS32_BUSY,
    Event,
    P,
    Processor,
    assemble,
    descriptor,
    gate,
    with_dpl,
)

GP, NP, SS, TS = 13, 11, 12, 10
HALT = SCRATCH      # where gates and jumps lead: a HLT at CPL 0


@pytest.fixture
def cpu() -> Processor:
    cpu = Processor()
    cpu.write(HALT, b"\xf4")
    return cpu


def fault(event: Event | None) -> tuple[int, int | None]:
    assert event is not None
    return event.vector, event.error


NOT_CODE = [
    #  cpl  descriptor                                              rpl  vector  error
    (0, descriptor(0, 0xFFFFF, DATA32, FLAT), 0, GP, FREE),
    (0, descriptor(0, 0xFFFFF, CODE32 & ~P, FLAT), 0, NP, FREE),
    (0, descriptor(0, 0xFFFFF, with_dpl(CODE32, 3), FLAT), 0, GP, FREE),                # non-conforming, DPL > CPL
    (3, descriptor(0, 0xFFFFF, with_dpl(CODE32, 2), FLAT), 3, GP, FREE),                # non-conforming, DPL < CPL
    (2, descriptor(0, 0xFFFFF, with_dpl(CODE32, 2), FLAT), 3, GP, FREE),                # RPL > CPL
    (0, descriptor(0, 0xFFFFF, with_dpl(CODE32 | 4, 1), FLAT), 0, GP, FREE),            # conforming, DPL > CPL
    (3, descriptor(0, 0xFFFFF, (CODE32 | 4) & ~P, FLAT), 3, NP, FREE),
    (0, descriptor(0, 0xFFF, CODE32, 0x4000), 0, GP, 0),                                # EIP beyond the limit
    (0, descriptor(0, 0x67, TSS32_BUSY), 0, GP, FREE),
    (3, gate(CODE_SEL[0], HALT, with_dpl(CALL32, 2)), 3, GP, FREE),
    (2, gate(CODE_SEL[0], HALT, with_dpl(CALL32, 2)), 3, GP, FREE),                     # RPL counts for a gate
    (3, gate(CODE_SEL[0], HALT, with_dpl(CALL32, 3) & ~P), 3, NP, FREE),
    (0, gate(0, HALT, CALL32), 0, GP, 0),
    (0, gate(DATA_SEL[0], HALT, CALL32), 0, GP, DATA_SEL[0]),
    (0, gate(CODE_SEL[3], HALT, CALL32), 0, GP, CODE_SEL[3] & ~3),                      # DPL > CPL
    (0, gate(0x1008, HALT, CALL32), 0, GP, 0x1008),                                     # beyond the GDT
    (3, gate(FREE, 0, with_dpl(TASK_GATE, 0)), 3, GP, FREE),
    (0, gate(CODE_SEL[0], 0, TASK_GATE), 0, GP, CODE_SEL[0]),
    (0, gate(0x4C, 0, TASK_GATE), 0, GP, 0x4C),                                         # a TSS in the LDT
]


@pytest.mark.parametrize("insn", ["ljmp", "lcall"])
@pytest.mark.parametrize(("cpl", "target", "rpl", "vector", "error"), NOT_CODE)
def test_a_far_transfer_is_refused(
    cpu: Processor, insn: str, cpl: int, target: int, rpl: int, vector: int, error: int
) -> None:
    cpu.set_descriptor(FREE, target)
    cpu.ring(cpl)
    esp = cpu.v.r[4]
    event = cpu.run(f"{insn} ${FREE | rpl}, ${HALT}")
    assert fault(event) == (vector, error)
    assert event is not None and event.eip == 0x10000
    assert cpl or cpu.v.r[4] == esp - 16


@pytest.mark.parametrize(("selector", "error"), [(0, 0), (3, 0), (0x1000, 0x1000), (0x107, 0x104)])
def test_selectors_that_name_nothing(cpu: Processor, selector: int, error: int) -> None:
    assert fault(cpu.run(f"ljmp ${selector}, ${HALT}")) == (GP, error)


def test_a_null_ldt_makes_every_ti_selector_a_fault(cpu: Processor) -> None:
    assert fault(cpu.run("xor %eax, %eax; lldt %ax; mov $0xc, %eax; mov %eax, %ds")) == (GP, 0xC)


def test_a_jump_sets_the_rpl_of_cs_to_cpl(cpu: Processor) -> None:
    cpu.ring(3)
    cpu.run(f"ljmp ${CODE_SEL[3] & ~3}, $1f; 1: mov %cs, %eax; int $0xff")
    assert cpu.v.r[0] & 0xFFFF == CODE_SEL[3]


def test_conforming_code_keeps_cpl(cpu: Processor) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, CODE32 | 4, FLAT))
    cpu.ring(3)
    event = cpu.run(f"lcall ${FREE}, $1f; 1: mov %cs, %eax; int $0xff")
    assert event is not None and event.vector == 255
    assert cpu.v.r[0] & 0xFFFF == FREE | 3
    assert event.cs == FREE | 3


def test_the_accessed_bit_is_set_in_memory(cpu: Processor) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, CODE32 & ~1, FLAT))
    cpu.run(f"ljmp ${FREE}, ${HALT}")
    assert cpu.read32(0x1000 + FREE + 4) >> 8 & 0xFF == CODE32


def test_a_call_gate_to_ring_0_switches_stacks_and_copies_parameters(cpu: Processor) -> None:
    cpu.set_descriptor(FREE, gate(CODE_SEL[0], HALT, with_dpl(CALL32, 3), count=2))
    cpu.ring(3)
    esp = cpu.v.r[4]
    assert cpu.run(f"push $0x11111111; push $0x22222222; lcall ${FREE | 3}, $0x12345678") is None
    assert cpu.v.cpl == 0
    assert cpu.v.r[4] == STACK_TOPS[0] - 24
    assert cpu.words(cpu.v.r[4], 6) == [
        0x10000 + 17, CODE_SEL[3], 0x22222222, 0x11111111, esp - 8, DATA_SEL[3],
    ]  # fmt: skip


def test_retf_to_an_outer_ring_drops_parameters_from_both_stacks_and_inner_segments(cpu: Processor) -> None:
    cpu.write(HALT, b"\xca\x08\x00")       # retf 8
    cpu.set_descriptor(FREE, gate(CODE_SEL[0], HALT, with_dpl(CALL32, 3), count=2))
    cpu.ring(3)
    cpu.hidden("ds", DATA_SEL[0], 0, 0xFFFFFFFF, 0xC093)       # as if ring 0 had left it
    esp = cpu.v.r[4]
    event = cpu.run(f"push $1; push $2; lcall ${FREE | 3}, $0; mov %esp, %ebp; int $0xff")
    assert event is not None and event.vector == 255
    assert cpu.v.r[5] == esp
    assert (cpu.selector("ds"), cpu.unusable("ds")) == (0, True)
    assert (cpu.selector("es"), cpu.unusable("es")) == (DATA_SEL[3], False)


def test_a_16_bit_gate_uses_16_offset_bits_and_pushes_words(cpu: Processor) -> None:
    cpu.write(0x9800, b"\xf4")
    cpu.set_descriptor(FREE, gate(CODE_SEL[0], 0xBEEF9800, with_dpl(CALL16, 3), count=1))
    cpu.ring(3)
    esp = cpu.v.r[4]
    assert cpu.run(f"pushw $0x3333; lcall ${FREE | 3}, $0") is None
    assert cpu.v.eip == 0x9801
    assert cpu.words(cpu.v.r[4], 5, size=2) == [0x000B, CODE_SEL[3], 0x3333, (esp - 2) & 0xFFFF, DATA_SEL[3]]


@pytest.mark.parametrize(
    ("ss", "limit", "vector", "error"),
    [
        (0, 0x67, TS, 0),
        (DATA_SEL[1], 0x67, TS, DATA_SEL[1] & ~3),
        (CODE_SEL[0], 0x67, TS, CODE_SEL[0]),
        (0x1000, 0x67, TS, 0x1000),
        (FREE + 8, 0x67, SS, FREE + 8),         # not present
        (FREE + 16, 0x67, SS, FREE + 16),       # no room
        (DATA_SEL[0], 8, TS, 0x48),             # the TSS is too short to hold SS0
    ],
)
def test_inner_stacks_are_checked(cpu: Processor, ss: int, limit: int, vector: int, error: int) -> None:
    cpu.set_descriptor(FREE, gate(CODE_SEL[0], HALT, with_dpl(CALL32, 3)))
    cpu.set_descriptor(FREE + 8, descriptor(0, 0xFFFFF, DATA32 & ~P, FLAT))
    cpu.set_descriptor(FREE + 16, descriptor(0, 0x100, DATA32, 0x4000))
    cpu.write32(0x4008, ss)
    cpu.ring(3)
    # No ring-0 stack can take the fault itself, so its handler runs in ring 3.
    cpu.set_descriptor(FREE + 24, descriptor(0, 0xFFFFF, with_dpl(CODE32, 3), FLAT))
    for v in (TS, SS):
        cpu.set_gate(v, gate(FREE + 24 | 3, HALT + 0x10, with_dpl(0x8E, 3)))
    cpu.write(HALT + 0x10, b"\xeb\xfe")
    cpu.write(CODE, assemble(f"lcall ${FREE | 3}, $0"))
    cpu.v.seg[7].limit = limit
    cpu.vcpu.run(20_000)
    sp = STACK_TOPS[3] - 0x1000
    assert cpu.words(sp - 16, 3) == [error, CODE, CODE_SEL[3]]


def test_jmp_through_a_gate_does_not_change_cpl(cpu: Processor) -> None:
    cpu.set_descriptor(FREE, gate(CODE_SEL[0], HALT, with_dpl(CALL32, 3)))
    cpu.ring(3)
    assert fault(cpu.run(f"ljmp ${FREE | 3}, $0")) == (GP, CODE_SEL[0])
    cpu.ring(0)
    assert cpu.run(f"ljmp ${FREE | 3}, $0") is None
    assert cpu.v.eip == HALT + 1


@pytest.mark.parametrize(
    ("cs", "ss", "vector", "error"),
    [
        (0, DATA_SEL[3], GP, 0),
        (CODE_SEL[3] & ~3, DATA_SEL[3], GP, CODE_SEL[3] & ~3),       # DPL != RPL
        (DATA_SEL[3], DATA_SEL[3], GP, DATA_SEL[3] & ~3),
        (CODE_SEL[3], 0, GP, 0),
        (CODE_SEL[3], DATA_SEL[3] & ~3, GP, DATA_SEL[3] & ~3),       # RPL != new CPL
        (CODE_SEL[3], CODE_SEL[3], GP, CODE_SEL[3] & ~3),
        (CODE_SEL[3], FREE | 3, SS, FREE),
        (FREE + 8 | 3, DATA_SEL[3], NP, FREE + 8),
    ],
)
@pytest.mark.parametrize("how", ["lret", "iret"])
def test_what_a_return_to_ring_3_checks(cpu: Processor, how: str, cs: int, ss: int, vector: int, error: int) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, with_dpl(DATA32, 3) & ~P, FLAT))
    cpu.set_descriptor(FREE + 8, descriptor(0, 0xFFFFF, with_dpl(CODE32, 3) & ~P, FLAT))
    flags = "pushf;" if how == "iret" else ""
    event = cpu.run(f"push ${ss}; push $0x4000; {flags} push ${cs}; push ${HALT}; {how}")
    assert fault(event) == (vector, error)
    assert cpu.v.cpl == 0


def test_a_return_to_a_16_bit_stack_keeps_the_upper_half_of_esp(cpu: Processor) -> None:
    """What Linux calls espfix: bits 31-16 stay those of the inner stack."""
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFF, with_dpl(DATA32, 3)))
    cpu.run(
        f"push ${FREE | 3}; push $0x77771234; pushf; push ${CODE_SEL[3]}; push $1f; iret; 1: mov %esp, %eax; int $255"
    )
    assert cpu.v.r[0] == (STACK_TOPS[0] & 0xFFFF0000) - 0x10000 | 0x1234


def test_sysenter_and_sysexit(cpu: Processor) -> None:
    cpu.v.msr_sysenter_cs, cpu.v.msr_sysenter_esp, cpu.v.msr_sysenter_eip = 0x08, 0x1F000, HALT
    cpu.ring(3)
    cpu.v.eflags |= 0x200
    assert cpu.run("sysenter") is None
    assert (cpu.v.cpl, cpu.selector("cs"), cpu.selector("ss"), cpu.v.r[4]) == (0, 8, 16, 0x1F000)
    assert cpu.v.eflags & 0x200 == 0
    cpu.write(HALT, b"\x0f\x35")
    cpu.v.r[1], cpu.v.r[2] = 0x4F000, 0x10100
    cpu.write(0x10100, b"\xcd\xff")
    cpu.v.eip = HALT
    cpu.resume()
    assert cpu.words(cpu.v.r[4], 5) == [0x10102, 0x1B, 2, 0x4F000, 0x23]


@pytest.mark.parametrize(("cpl", "cs", "insn"), [(0, 0, "sysenter"), (0, 3, "sysexit"), (3, 8, "sysexit")])
def test_sysenter_and_sysexit_fault(cpu: Processor, cpl: int, cs: int, insn: str) -> None:
    cpu.v.msr_sysenter_cs = cs
    cpu.ring(cpl)
    assert fault(cpu.run(insn)) == (GP, 0)


def test_real_mode_call_and_return(cpu: Processor) -> None:
    cpu.real()
    assert cpu.run("lcallw $0x1100, $0x10; hlt; .org 0x1010; lretw", bits=16) is None
    assert (cpu.v.eip, cpu.selector("cs"), cpu.v.r[4] & 0xFFFF) == (6, 0x1000, 0x8000)


def test_a_far_call_that_cannot_push_changes_nothing(cpu: Processor) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 5, DATA32, 0x4000))
    cpu.set_gate(12, gate(CODE_SEL[0], HALT, with_dpl(0x8E, 3)))
    cpu.ring(3)
    cpu.hidden("ss", DATA_SEL[3], 0, 5, 0x40F3)
    cpu.v.r[4] = 6
    cpu.run(f"lcall ${CODE_SEL[3]}, $0")
    assert cpu.words(cpu.v.r[4], 3) == [0, 0x10000, CODE_SEL[3]]
    assert cpu.words(cpu.v.r[4] + 16, 1) == [6]
