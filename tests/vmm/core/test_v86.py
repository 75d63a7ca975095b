"""Virtual-8086 mode and its extensions (VME): stack.c, deliver.c, iret.c, ioport.c, task.c."""

import pytest

from tests.vmm.core.processor import (
    CODE,
    CODE32,
    FLAT,
    FREE,
    HANDLERS,
    IF,
    INT32,
    IOPL3,
    NT,
    SCRATCH,
    STACK_TOPS,
    TF,
    TSS,
    VIF,
    VIP,
    VM,
    Event,
    Processor,
    descriptor,
    gate,
    with_dpl,
)
from vmm.vcpu import ExitKind

GP, UD = 13, 6
STACK = 0x50000
VME = 1


@pytest.fixture
def cpu() -> Processor:
    """HLT faults with #GP(0) there, so code that ran to its end stops with that and EIP at its HLT."""
    return Processor()


def redirection(cpu: Processor, bitmap: bytes) -> None:
    """The TSS with this interrupt redirection bitmap, then an I/O bitmap that allows nothing."""
    cpu.write16(TSS + 0x66, 0x88)
    cpu.write(TSS + 0x68, bitmap + b"\xff" * 0x2001)
    cpu.hidden("tr", 0x48, TSS, 0x88 + 0x2000, 0x8B)


def stopped(event: Event | None, offset: int) -> None:
    assert event is not None
    assert (event.vector, event.error, event.eip) == (GP, 0, offset)


def test_the_frame_of_an_interrupt(cpu: Processor) -> None:
    cpu.v86(IOPL3 | IF)
    cpu.hidden("fs", 0x1111, 0x11110, 0xFFFF, 0xF3)
    event = cpu.run("int $0x21", bits=16)
    assert event is not None
    assert (event.vector, event.eip, event.cs, event.eflags) == (0x21, 2, 0x1000, VM | IOPL3 | IF | 2)
    assert cpu.v.r[4] == STACK_TOPS[0] - 36
    assert cpu.words(cpu.v.r[4] + 12, 6) == [0x1000, 0x5000, 0x5000, 0x5000, 0x1111, 0x5000]
    assert all(cpu.unusable(name) for name in ("ds", "es", "fs", "gs"))
    assert (cpu.v.cpl, cpu.v.eflags & (VM | IF)) == (0, 0)


def test_iret_goes_back(cpu: Processor) -> None:
    cpu.v86(IOPL3)
    cpu.write(HANDLERS + 0x21 * 16, b"\xcf")
    event = cpu.run("movw $0x7777, %ax; movw %ax, %gs; int $0x21; hlt", bits=16)
    stopped(event, 7)
    assert cpu.words(cpu.v.r[4] + 4 + 12, 6) == [0x1000, 0x5000, 0x5000, 0x5000, 0x5000, 0x7777]


@pytest.mark.parametrize("insn", ["int $0x21", "pushf", "popf", "cli", "sti", "iretw", "pushfl", "popfl", "iretl"])
def test_below_iopl_3_these_fault(cpu: Processor, insn: str) -> None:
    cpu.v86(0)
    stopped(cpu.run(insn, bits=16), 0)


@pytest.mark.parametrize(("insn", "vector", "at"), [("int3", 3, 1), (".byte 0xf1", 1, 1), ("into", 4, 1)])
def test_int3_into_and_icebp_do_not_care_about_iopl(cpu: Processor, insn: str, vector: int, at: int) -> None:
    cpu.v86(0x800)
    event = cpu.run(insn, bits=16)
    assert event is not None
    assert (event.vector, event.eip) == (vector, at)


@pytest.mark.parametrize(
    "insn", ["arpl %ax, %ax", "sldt %ax", "str %ax", "lldt %ax", "ltr %ax", "verr %ax", "lar %ax, %bx"]
)
def test_protected_mode_instructions_are_undefined(cpu: Processor, insn: str) -> None:
    cpu.v86(IOPL3)
    event = cpu.run(insn, bits=16)
    assert event is not None
    assert (event.vector, event.eip) == (UD, 0)


@pytest.mark.parametrize(
    "insn", ["hlt", "mov %cr0, %eax", "clts", "lgdtl 0", "wbinvd", "mov %dr0, %eax", "rdmsr", "lmsw %ax"]
)
def test_privileged_instructions_fault(cpu: Processor, insn: str) -> None:
    cpu.v86(IOPL3)
    stopped(cpu.run(insn, bits=16), 0)


@pytest.mark.parametrize("access", [CODE32 | 4, with_dpl(CODE32, 3), with_dpl(CODE32, 1)])
def test_a_handler_must_be_non_conforming_ring_0(cpu: Processor, access: int) -> None:
    cpu.set_descriptor(FREE, descriptor(0, 0xFFFFF, access, FLAT))
    cpu.set_gate(0x21, gate(FREE, SCRATCH, with_dpl(INT32, 3)))
    cpu.v86(IOPL3)
    event = cpu.run("int $0x21", bits=16)
    assert event is not None
    assert (event.vector, event.error) == (GP, FREE)


def test_flags_with_iopl_3(cpu: Processor) -> None:
    """IF follows; IOPL, VM, VIF and VIP do not."""
    cpu.v86(IOPL3 | IF)
    event = cpu.run("pushw $0x0002; popfw; cli; pushfw; popw %ax; hlt", bits=16)
    assert event is not None
    assert event.eflags == VM | IOPL3 | 0x10002          # a fault: RF
    assert cpu.v.r[0] & 0xFFFF == IOPL3 | 2


def test_far_transfers_take_selectors_as_paragraphs(cpu: Processor) -> None:
    cpu.v86(0)
    cpu.write(0x11020, b"\xcb")
    stopped(cpu.run("lcallw $0x1100, $0x20; hlt", bits=16), 5)


def test_port_access_always_asks_the_bitmap(cpu: Processor) -> None:
    cpu.v86(IOPL3)
    stopped(cpu.run("in $0x80, %al", bits=16), 0)


# ---- VME ---------------------------------------------------------------------------------------------------------


def test_vme_int_n_goes_to_the_tasks_own_handler(cpu: Processor) -> None:
    cpu.v.cr4 |= VME
    redirection(cpu, bytes(32))
    cpu.write32(0x21 * 4, 0x1000_0100)
    cpu.v86(VIF | NT)
    event = cpu.run("int $0x21; hlt; .org 0x100; pushfw; popw %ax; hlt", bits=16)
    stopped(event, 0x102)
    assert cpu.words(STACK + 0xFFA, 3, size=2) == [2, 0x1000, NT | IOPL3 | IF | 2]     # VIF and IOPL 3 are shown
    assert cpu.v.r[0] & 0xFFFF == NT | IOPL3 | 2
    assert event is not None and event.eflags & (VIF | IOPL3) == 0


def test_vme_with_iopl_3_uses_if(cpu: Processor) -> None:
    cpu.v.cr4 |= VME
    redirection(cpu, bytes(32))
    cpu.write32(0x21 * 4, 0x1000_0100)
    cpu.v86(IOPL3 | IF | VIF)
    event = cpu.run("int $0x21; hlt; .org 0x100; hlt", bits=16)
    stopped(event, 0x100)
    assert cpu.words(STACK + 0xFFA, 3, size=2)[2] == IOPL3 | IF | 2
    assert event is not None and event.eflags & (VIF | IF) == VIF


@pytest.mark.parametrize(("eflags", "vector"), [(IOPL3, 0x21), (0, GP)])
def test_vme_a_set_bit_means_the_idt(cpu: Processor, eflags: int, vector: int) -> None:
    cpu.v.cr4 |= VME
    redirection(cpu, b"\xff" * 32)
    cpu.v86(eflags)
    event = cpu.run("int $0x21", bits=16)
    assert event is not None and event.vector == vector


def test_vme_virtual_interrupt_flag(cpu: Processor) -> None:
    cpu.v.cr4 |= VME
    redirection(cpu, bytes(32))
    cpu.v86(IF)
    event = cpu.run("sti; pushfw; popw %ax; cli; pushfw; popw %bx; pushw $0x0ed7; popfw; hlt", bits=16)
    assert event is not None
    assert (cpu.v.r[0] & 0xFFFF, cpu.v.r[3] & 0xFFFF) == (IOPL3 | IF | 2, IOPL3 | 2)
    assert event.eflags & (IF | VIF | IOPL3) == IF | VIF
    assert event.eflags & 0xFFF == 0xED7


@pytest.mark.parametrize(
    "source", ["sti", "pushw $0x0202; popfw", "pushw $0x0202; pushw $0x1000; pushw $0; iretw"]
)
def test_vme_with_a_pending_interrupt(cpu: Processor, source: str) -> None:
    cpu.v.cr4 |= VME
    redirection(cpu, bytes(32))
    cpu.v86(VIP)
    event = cpu.run(source, bits=16)
    assert event is not None
    assert (event.vector, event.error) == (GP, 0)
    assert cpu.memory.read(CODE + event.eip, 1) in {b"\xfb", b"\x9d", b"\xcf"}


@pytest.mark.parametrize("insn", ["pushfl", "popfl", "iretl"])
def test_vme_is_for_16_bit_images(cpu: Processor, insn: str) -> None:
    cpu.v.cr4 |= VME
    cpu.v86(0)
    stopped(cpu.run(insn, bits=16), 0)


def test_vme_popf_of_tf_faults(cpu: Processor) -> None:
    cpu.v.cr4 |= VME
    cpu.v86(0)
    stopped(cpu.run(f"pushw ${TF}; popfw", bits=16), 3)


def test_pvi_in_ring_3(cpu: Processor) -> None:
    cpu.v.cr4 |= 2
    cpu.ring(3)
    event = cpu.run("sti; int $0xff")
    assert event is not None
    assert event.eflags == VIF | 2
    cpu.ring(3)
    cpu.v.eflags |= VIP
    event = cpu.run("sti")
    assert event is not None and event.vector == GP


# ---- I/O ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "limit", "byte", "port", "allowed"),
    [
        (0x68, 0x100, 0x00, 0x20, True),
        (0x68, 0x100, 0x10, 0x24, False),
        (0x68, 0x100, 0x80, 0x24, True),                # the bit of port 27h
        (0x68, 0x6C, 0x00, 0x20, False),                # two bytes must lie within the limit
        (0x68, 0x6D, 0x00, 0x20, True),
        (0xFFFF, 0x100, 0x00, 0x20, False),
    ],
)
def test_the_io_bitmap(cpu: Processor, base: int, limit: int, byte: int, port: int, allowed: bool) -> None:
    cpu.write16(TSS + 0x66, base)
    cpu.write(TSS + 0x68, bytes([0xFF] * 4 + [byte, 0] + [0xFF] * 32))
    cpu.hidden("tr", 0x48, TSS, limit, 0x8B)
    cpu.ring(3)
    event = cpu.run(f"in ${port}, %al; int $0xff")
    if allowed and port != 0x20:        # 20h is the core's own 8259
        assert cpu.last is not None and (cpu.last.kind, cpu.last.address) == (ExitKind.IO, port)
    else:
        assert event is not None and event.vector == (0xFF if allowed else GP)


def test_a_16_bit_tss_has_no_bitmap(cpu: Processor) -> None:
    cpu.hidden("tr", 0x48, TSS, 0x2000, 0x83)
    cpu.ring(3)
    event = cpu.run("in $0x20, %al")
    assert event is None or event.vector == GP
    assert cpu.last is not None and cpu.last.kind in {ExitKind.HLT, ExitKind.SHUTDOWN}


def test_iopl_lets_ring_3_through(cpu: Processor) -> None:
    cpu.ring(3)
    cpu.v.eflags |= IOPL3
    assert cpu.run("in $0x99, %al") is None
    assert cpu.last is not None and (cpu.last.kind, cpu.last.address) == (ExitKind.IO, 0x99)


@pytest.mark.parametrize(("insn", "write"), [("in %dx, %eax", False), ("out %eax, %dx", True)])
def test_the_backdoor_works_in_ring_3(cpu: Processor, insn: str, write: bool) -> None:
    cpu.ring(3)
    assert cpu.run(f"mov $0x564d5868, %eax; mov $0x5658, %edx; mov $10, %ecx; {insn}; int $0xff") is None
    assert cpu.last is not None
    assert (cpu.last.kind, cpu.last.address, cpu.last.write) == (ExitKind.HYPERCALL, 0x5658, write)
    cpu.v.r[0], cpu.v.r[3] = 6, 0x564D5868
    event = cpu.resume()
    assert event is not None and event.vector == 0xFF
    assert (cpu.v.r[0], cpu.v.r[3]) == (6, 0x564D5868)


@pytest.mark.parametrize(
    ("eax", "insn"), [(0, "in %dx, %eax"), (0x564D5868, "in %dx, %ax"), (0x564D5868, "in %dx, %al")]
)
def test_without_the_magic_the_port_is_a_port(cpu: Processor, eax: int, insn: str) -> None:
    cpu.ring(3)
    event = cpu.run(f"mov ${eax}, %eax; mov $0x5658, %edx; {insn}")
    assert event is not None and event.vector == GP
