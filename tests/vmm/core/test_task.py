"""Hardware task switches: task.c."""

import pytest

from tests.vmm.core.processor import (
    CODE,
    CODE32,
    CODE_SEL,
    DATA_SEL,
    FLAT,
    FREE,
    HANDLERS,
    IF,
    INT32,
    LDT_SEL,
    NT,
    SCRATCH,
    STACK_TOPS,
    TASK_GATE,
    TF,
    TSS,
    TSS2,
    TSS2_SEL,
    TSS16_AVAIL,
    TSS32_AVAIL,
    TSS32_BUSY,
    TSS_SEL,
    VM,
    P,
    Processor,
    descriptor,
    gate,
    with_dpl,
)

GP, NP, SS, TS, UD = 13, 11, 12, 10, 6
LINK, CR3, EIP, EFLAGS, EAX, ESP, ES, CS, SSEL, DS, FS, GS, LDT, TRAP = (
    0, 0x1C, 0x20, 0x24, 0x28, 0x38, 0x48, 0x4C, 0x50, 0x54, 0x58, 0x5C, 0x60, 0x64
)  # fmt: skip
TASK = SCRATCH      # where the second task's code lies


@pytest.fixture
def cpu() -> Processor:
    """TSS2 holds a ring-0 task at TASK, a HLT, with its stack at 7F000h."""
    cpu = Processor()
    cpu.write(TASK, b"\xf4")
    for offset, value in (
        (EIP, TASK), (EFLAGS, 2), (EAX, 0xA0A0A0A0), (ESP, 0x7F000), (CS, CODE_SEL[0]), (SSEL, DATA_SEL[0]),
        (DS, DATA_SEL[0]), (ES, DATA_SEL[0]), (FS, 0), (GS, DATA_SEL[3]), (LDT, LDT_SEL),
    ):  # fmt: skip
        cpu.write32(TSS2 + offset, value)
    cpu.write32(TSS2 + 4, STACK_TOPS[0])
    cpu.write32(TSS2 + 8, DATA_SEL[0])
    return cpu


def access(cpu: Processor, selector: int) -> int:
    return cpu.read32(0x1000 + selector + 4) >> 8 & 0xFF


def test_jmp_to_a_tss(cpu: Processor) -> None:
    cpu.v.dr[7] = 0x4FF
    assert cpu.run(f"mov $0x1234, %eax; ljmp ${TSS2_SEL}, $0x99999999") is None
    assert (cpu.v.eip, cpu.v.r[0], cpu.v.r[4]) == (TASK + 1, 0xA0A0A0A0, 0x7F000)
    assert (cpu.selector("tr"), cpu.selector("ldtr"), cpu.selector("gs")) == (TSS2_SEL, LDT_SEL, DATA_SEL[3])
    assert cpu.unusable("fs")
    assert cpu.v.cr0 & 8
    assert cpu.v.dr[7] == 0x4FF & ~0x155
    assert (access(cpu, TSS_SEL), access(cpu, TSS2_SEL)) == (TSS32_AVAIL, TSS32_BUSY)
    assert cpu.read32(TSS + EIP) == CODE + 12
    assert (cpu.read32(TSS + EAX), cpu.read32(TSS + ESP)) == (0x1234, STACK_TOPS[0] - 0x1000)
    assert cpu.read16(TSS + CS) == CODE_SEL[0]
    assert cpu.read16(TSS2 + LINK) == 0


def test_call_nests_and_iret_returns(cpu: Processor) -> None:
    cpu.write(TASK, b"\xcf\xf4")       # iret; hlt
    assert cpu.run(f"lcall ${TSS2_SEL}, $0; mov $0x55, %eax; hlt") is None
    assert (cpu.v.eip, cpu.v.r[0]) == (CODE + 13, 0x55)
    assert (access(cpu, TSS_SEL), access(cpu, TSS2_SEL)) == (TSS32_BUSY, TSS32_AVAIL)
    assert cpu.read16(TSS2 + LINK) == TSS_SEL
    assert cpu.read32(TSS2 + EFLAGS) & NT == 0          # IRET saves it cleared
    assert cpu.read32(TSS2 + EIP) == TASK + 1
    assert cpu.v.eflags & NT == 0


def test_call_sets_nt_in_the_new_task(cpu: Processor) -> None:
    cpu.run(f"lcall ${TSS2_SEL}, $0")
    assert cpu.v.eflags & NT
    assert (access(cpu, TSS_SEL), access(cpu, TSS2_SEL)) == (TSS32_BUSY, TSS32_BUSY)


def test_an_exception_through_a_task_gate_pushes_its_error_code_there(cpu: Processor) -> None:
    cpu.set_gate(GP, gate(TSS2_SEL, 0, TASK_GATE))
    cpu.ring(3)
    assert cpu.run("hlt") is None
    assert (cpu.v.eip, cpu.v.r[4], cpu.read32(0x7EFFC)) == (TASK + 1, 0x7EFFC, 0)
    assert (cpu.read32(TSS + EIP), cpu.read16(TSS + CS)) == (CODE, CODE_SEL[3])


def test_int_n_through_a_task_gate_checks_only_the_gates_dpl(cpu: Processor) -> None:
    cpu.set_gate(0x40, gate(TSS2_SEL, 0, with_dpl(TASK_GATE, 3)))
    cpu.ring(3)
    assert cpu.run("int $0x40") is None
    assert cpu.v.eip == TASK + 1
    assert cpu.read32(TSS + EIP) == CODE + 2
    assert cpu.v.r[4] == 0x7F000


@pytest.mark.parametrize(
    ("target", "cpl", "vector", "error"),
    [
        (descriptor(TSS2, 0x66, TSS32_AVAIL), 0, TS, FREE),
        (descriptor(TSS2, 0x2A, TSS16_AVAIL), 0, TS, FREE),
        (descriptor(TSS2, 0x67, TSS32_AVAIL & ~P), 0, NP, FREE),
        (descriptor(TSS2, 0x67, TSS32_BUSY), 0, GP, FREE),
        (descriptor(TSS2, 0x67, with_dpl(TSS32_AVAIL, 2)), 3, GP, FREE),
    ],
)
def test_a_task_switch_is_refused_in_the_old_task(
    cpu: Processor, target: int, cpl: int, vector: int, error: int
) -> None:
    cpu.set_descriptor(FREE, target)
    cpu.ring(cpl)
    event = cpu.run(f"ljmp ${FREE}, $0")
    assert event is not None
    assert (event.vector, event.error, event.eip) == (vector, error, CODE)
    assert cpu.selector("tr") == TSS_SEL
    assert access(cpu, TSS_SEL) == TSS32_BUSY


@pytest.mark.parametrize(
    ("offset", "selector", "vector", "error"),
    [
        (LDT, TSS_SEL, TS, TSS_SEL),
        (LDT, 0x0C, TS, 0x0C),
        (LDT, FREE, TS, FREE),                      # not present: #TS, not #NP
        (CS, 0, TS, 0),
        (CS, DATA_SEL[0], TS, DATA_SEL[0]),
        (CS, CODE_SEL[3] & ~3, TS, CODE_SEL[3] & ~3),
        (CS, FREE + 8, NP, FREE + 8),
        (SSEL, 0, TS, 0),
        (SSEL, DATA_SEL[3], TS, DATA_SEL[3] & ~3),
        (SSEL, FREE + 16, SS, FREE + 16),
        (DS, TSS_SEL, TS, TSS_SEL),
        (GS, 0x1000, TS, 0x1000),
        (ES, FREE + 16, NP, FREE + 16),
        (EIP, 0x100000, GP, 0),
    ],
)
def test_a_fault_after_the_switch_is_the_new_tasks(
    cpu: Processor, offset: int, selector: int, vector: int, error: int
) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 0xFF, 0x02))
    cpu.set_descriptor(FREE + 8, descriptor(0, 0xFFFFF, CODE32 & ~P, FLAT))
    cpu.set_descriptor(FREE + 16, descriptor(0, 0xFFFFF, 0x13, FLAT))
    cpu.set_descriptor(FREE + 24, descriptor(0, 0xFFFF, CODE32, 0x4000))
    if offset == EIP:
        cpu.write32(TSS2 + CS, FREE + 24)
    cpu.write32(TSS2 + offset, selector)
    # Its handler is a task of its own: SS may be unusable in the new one.
    third = 0x6000
    cpu.write(third, cpu.memory.read(TSS2, 0x68))
    for at, value in ((EIP, TASK), (CS, CODE_SEL[0]), (SSEL, DATA_SEL[0]), (LDT, 0), (DS, 0), (ES, 0), (GS, 0)):
        cpu.write32(third + at, value)
    cpu.set_descriptor(FREE + 32, descriptor(third, 0x67, TSS32_AVAIL))
    cpu.set_gate(vector, gate(FREE + 32, 0, TASK_GATE))
    assert cpu.run(f"ljmp ${TSS2_SEL}, $0") is None
    assert cpu.selector("tr") == FREE + 32
    assert cpu.read16(third + LINK) == TSS2_SEL
    assert cpu.read32(cpu.v.r[4]) == error
    assert cpu.read32(TSS2 + EIP) == (0x100000 if offset == EIP else TASK)
    assert cpu.read32(TSS2 + EAX) == 0xA0A0A0A0


def test_conforming_code_may_have_another_rpl(cpu: Processor) -> None:
    """The case for which one popular emulator raises #TS."""
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, CODE32 | 4, FLAT))
    cpu.write(TASK, b"\xcd\xff")
    for offset, value in ((CS, FREE | 3), (SSEL, DATA_SEL[3]), (DS, 0), (ES, 0)):
        cpu.write32(TSS2 + offset, value)
    event = cpu.run(f"ljmp ${TSS2_SEL}, $0")
    assert event is not None
    assert (event.vector, event.cs) == (255, FREE | 3)


def test_the_t_bit_is_a_debug_trap_before_the_first_instruction(cpu: Processor) -> None:
    cpu.write16(TSS2 + TRAP, 1)
    event = cpu.run(f"ljmp ${TSS2_SEL}, $0")
    assert event is not None
    assert (event.vector, event.eip) == (1, TASK)
    assert cpu.v.dr[6] & 0x8000


def test_a_16_bit_tss(cpu: Processor) -> None:
    cpu.write(0x9000, b"\xcd\xff")
    words = [0, 0xF000, DATA_SEL[0], 0, 0, 0, 0, 0x9000, 2, 1, 2, 3, 4, 0x7000, 6, 7, 8, DATA_SEL[0], CODE_SEL[0]]
    for index, value in enumerate([*words, DATA_SEL[0], DATA_SEL[0], 0]):
        cpu.write16(TSS2 + 2 * index, value)
    cpu.set_descriptor(FREE, descriptor(TSS2, 0x2B, TSS16_AVAIL))
    event = cpu.run(f"ljmp ${FREE}, $0")
    assert event is not None
    assert (event.vector, event.eip) == (255, 0x9002)
    assert [cpu.v.r[i] & 0xFFFF for i in range(8)] == [1, 2, 3, 4, 0x7000 - 12, 6, 7, 8]
    assert access(cpu, FREE) == 0x83


def test_iret_with_a_bad_link(cpu: Processor) -> None:
    cpu.v.eflags |= NT
    cpu.write16(TSS + LINK, TSS2_SEL)       # not busy
    event = cpu.run("iret")
    assert event is not None
    assert (event.vector, event.error, event.eip) == (TS, TSS2_SEL, CODE)


def test_a_task_in_virtual_8086_mode(cpu: Processor) -> None:
    cpu.write(0x60100, b"\xcd\xff")
    cpu.set_gate(0xFF, gate(CODE_SEL[0], HANDLERS + 0xFF0, with_dpl(INT32, 3)))
    cpu.write32(TSS2 + EFLAGS, VM | 0x3002)
    for offset, value in ((EIP, 0x100), (CS, 0x6000), (SSEL, 0x5000), (ESP, 0x800), (DS, 0x1234)):
        cpu.write32(TSS2 + offset, value)
    event = cpu.run(f"ljmp ${TSS2_SEL}, $0")
    assert event is not None
    assert (event.vector, event.eip, event.cs, event.eflags) == (255, 0x102, 0x6000, VM | 0x3002)
    assert cpu.words(cpu.v.r[4] + 12, 6) == [0x800, 0x5000, DATA_SEL[0], 0x1234, 0, DATA_SEL[3]]


def test_interrupt_flags_come_from_the_tss(cpu: Processor) -> None:
    cpu.write32(TSS2 + EFLAGS, IF | 0xD7)
    cpu.run(f"ljmp ${TSS2_SEL}, $0")
    assert cpu.last is not None and cpu.last.interruptible
    assert cpu.v.eflags == IF | 0xD7
    assert cpu.read32(TSS + EFLAGS) & TF == 0


def test_a_read_only_tss_page_faults_in_the_old_task(cpu: Processor) -> None:
    directory, table = 0x100000, 0x101000
    cpu.write32(directory, table | 3)
    for page in range(1024):
        cpu.write32(table + 4 * page, page << 12 | 3)
    cpu.write32(table + 4 * (TSS >> 12), TSS | 1)
    cpu.v.cr3, cpu.v.cr0 = directory, cpu.v.cr0 | 0x80010000
    cpu.write32(TSS2 + CR3, directory)
    event = cpu.run(f"ljmp ${TSS2_SEL}, $0")
    assert event is not None
    assert (event.vector, event.error, event.eip, cpu.v.cr2) == (14, 3, CODE, TSS + EIP)
    assert access(cpu, TSS2_SEL) == TSS32_AVAIL
