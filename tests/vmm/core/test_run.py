"""The loop of instruction boundaries: run.c. Time, kicks, exact counts, halts, and the order of simultaneous events.

Source of the order: Intel SDM 3A, table 6-2, "Priority Among Simultaneous Exceptions and Interrupts".
"""

import threading
import time

import pytest

from tests.vmm.core.bus_processor import PAGE, PLAIN, BusProcessor
from tests.vmm.core.processor import (
    CODE,
    CODE_SEL,
    HANDLER_BYTES,
    HANDLERS,
    STACK_TOPS,
    Processor,
    descriptor,
    gate,
)
from vmm._core import ffi, lib
from vmm.interrupts import ClockMode
from vmm.vcpu import ExitKind

NEAR = 0x80000
IF, TF = 0x200, 0x100
DE, DB, NMI, UD, DF, NP, SS, GP, PF = 0, 1, 2, 6, 8, 11, 12, 13, 14
PIC = (
    "mov $0x11, %al; out %al, $0x20; mov $0x20, %al; out %al, $0x21; mov $4, %al; out %al, $0x21;"
    "mov $1, %al; out %al, $0x21; mov $0x7f, %al; out %al, $0x21;"
)
PIT = "mov $0x30, %al; out %al, $0x43; mov $0xff, %al; out %al, $0x40; mov $1, %al; out %al, $0x40;"
IRQ0, IRQ7 = 0x20, 0x27


@pytest.fixture
def cpu() -> BusProcessor:
    return BusProcessor()


def page(cpu: Processor) -> object:
    return ffi.cast("struct interrupts *", cpu.state_file.address("interrupts"))


def raise_nmi(cpu: Processor) -> None:
    lib.intr_raise_nmi(page(cpu))


def counted(cpu: Processor) -> None:
    """Guest time is what instructions make it."""
    lib.intr_power_on(page(cpu), 1, 1_000_000_000)
    lib.clock_set_mode(page(cpu), int(ClockMode.COUNTED), 200_000)
    lib.clock_stun(page(cpu), 0)


# ---- leaving in time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["1: jmp 1b", "1: inc %eax; jnz 1b; jmp 1b",
                                    "1: push %eax; pop %eax; loop 1b; jmp 1b",
                                    "mov $-1, %ecx; mov $0x80000, %edi; rep; stosb", "1: call 2f; jmp 1b; 2: ret",
                                    "mov $-1, %ecx; xor %esi, %esi; rep; lodsb",
                                    "1: mov $0x80000, %edi; mov $0x7000, %ecx; mov $0x81000, %esi; rep; movsb; jmp 1b",
                                    "1: mov %cr3, %eax; mov %eax, %cr3; jmp 1b", "1: popf; pushf; jmp 1b"])  # fmt: skip
def test_a_quantum_ends_in_its_time(cpu: BusProcessor, source: str) -> None:
    cpu.map(0x700000, 0)
    cpu.start(source)
    for _ in range(5):
        begun = time.monotonic()
        kind = cpu.vcpu.run(2_000).kind
        took = time.monotonic() - begun
        if kind is not ExitKind.QUANTUM:
            assert "rep" in source      # it ran into the end of what is mapped
            return
        assert 0.001 < took < 0.25      # the host is shared


@pytest.mark.parametrize("source", ["1: jmp 1b", "1: mov $0x4000, %ecx; mov $0x80000, %edi; rep; stosb; jmp 1b"])
def test_a_kick_ends_a_long_quantum(cpu: BusProcessor, source: str) -> None:
    cpu.start(source)
    timer = threading.Timer(0.02, cpu.vcpu.kick)
    begun = time.monotonic()
    timer.start()
    kind = cpu.vcpu.run(5_000_000).kind
    timer.join()
    assert kind is ExitKind.KICK and time.monotonic() - begun < 1


def test_a_kick_ends_a_halt(cpu: BusProcessor) -> None:
    cpu.v.eflags |= IF
    cpu.start("hlt")
    timer = threading.Timer(0.02, cpu.vcpu.kick)
    timer.start()
    begun = time.monotonic()
    kind = cpu.vcpu.run(5_000_000).kind
    timer.join()
    assert kind is ExitKind.KICK and time.monotonic() - begun < 1
    assert cpu.v.activity == lib.ACT_HALTED


# ---- counts --------------------------------------------------------------------------------------------------------

COUNTS = [
    #  source, instructions retired up to and with the HLT (its own or the handler's)
    ("nop; nop; nop; hlt", 4),
    ("mov $10, %ecx; 1: dec %ecx; jnz 1b; hlt", 22),
    ("mov $10, %ecx; 1: loop 1b; hlt", 12),
    ("cmp $1, %eax; je 1f; nop; 1: hlt", 4),
    ("call 1f; hlt; 1: ret", 3),
    ("nop; nop; mov 0x700000, %eax; nop; nop; hlt", 3),                         # two, and the handler's HLT
    ("nop; cmpl $0, 0x700000; je 1f; 1: hlt", 2),                               # a fused pair faults as its first
    ("nop; push %eax; int3; hlt", 4),
    ("movb $0x90, 1f; nop; 1: nop; hlt", 4),                                    # the rest of the block went stale
    ("mov $100000, %ecx; mov $0x80000, %edi; rep; stosb; hlt", 4),
    ("mov $20000, %ecx; mov $0x80000, %edi; mov $1, %al; repne; scasb; hlt", 5),
    ("mov $5, %ecx; mov $0x80000, %edi; mov $0x1234, %edx; rep; insb; hlt", 5),
    ("mov $0x1234, %edx; in (%dx), %al; out %al, (%dx); in (%dx), %al; hlt", 5),
    ("mov 0x500000, %eax; incl 0x500000; mov %eax, 0x500010; hlt", 4),
    ("mov $9, %esi; mov $0x500000, %edi; mov $9, %ecx; rep; movsb; hlt", 5),
    ("sti; nop; cli; hlt", 4),
    ("pushf; orl $0x100, (%esp); popf; nop; hlt", 5),                           # the trap's handler halts
]


@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize(("source", "count"), COUNTS)
def test_instructions_are_counted_when_they_retire(cpu: BusProcessor, source: str, count: int, ring: int) -> None:
    cpu.map(0x700000, 0)
    if ring:
        cpu.user()
        if source.endswith("hlt"):
            source = source[:-3] + "int $255"
    user = count
    event = cpu.run(source)
    stats = cpu.vcpu.stats
    if ring:
        count += 1 if event is not None and event.vector == 255 else 0          # INT n, then the handler's HLT
        user = count - 1
        assert int(stats.insns_user) == user
    else:
        assert int(stats.insns_user) == 0
    assert int(stats.insns) == count


def test_a_kick_in_the_middle_counts_nothing_twice(cpu: BusProcessor) -> None:
    cpu.start("mov $3000000, %ecx; 1: dec %ecx; jnz 1b; hlt")
    for _ in range(10_000):
        if cpu.vcpu.run(500).kind is not ExitKind.QUANTUM:
            break
        cpu.vcpu.kick()
        assert cpu.vcpu.run(500).kind is ExitKind.KICK
    assert int(cpu.vcpu.stats.insns) == 6_000_002


def test_with_a_counted_clock_two_runs_are_one() -> None:
    """Statistics, time-stamp counter and interrupts fall alike, whatever the host does."""

    def once(quantum_us: int) -> tuple[list[int], int, int, int]:
        cpu = BusProcessor()
        counted(cpu)
        cpu.write(HANDLERS + IRQ0 * HANDLER_BYTES, b"\xb0\x20\xe6\x20\x47\xcf")      # EOI; inc %edi; iret
        program = (
            PIC + "mov $0x7e, %al; out %al, $0x21; mov $0x34, %al; out %al, $0x43; mov $0xff, %al; out %al, $0x40;"
            "mov $1, %al; out %al, $0x40; xor %edi, %edi; sti; mov $200000, %esi; 1: dec %esi; jnz 1b; rdtsc;"
            "mov %eax, %ebx; mov $50000, %ecx; push %edi; mov $0x80000, %edi; rep; stosb; pop %edi; hlt; rdtsc; cli;"
            "hlt"
        )  # fmt: skip
        cpu.start(program)
        for _ in range(1000):
            exit_ = cpu.vcpu.run(quantum_us)
            if exit_.kind is ExitKind.HLT and not exit_.interruptible:
                break
        stats = cpu.vcpu.stats
        return list(cpu.v.r), int(stats.insns), int(stats.interrupts), int(cpu.v.eip)

    assert once(10_000_000) == once(10_000_000)
    assert once(10_000_000)[2] > 50


# ---- halts ---------------------------------------------------------------------------------------------------------


def test_hlt_without_if_is_the_vmxs(cpu: BusProcessor) -> None:
    assert cpu.run("cli; hlt") is None
    assert cpu.last is not None and (cpu.last.kind, cpu.last.interruptible) == (ExitKind.HLT, False)
    assert cpu.v.activity == lib.ACT_HALTED and cpu.v.eip == CODE + 2


def test_an_interrupt_wakes_hlt_behind_it(cpu: BusProcessor) -> None:
    cpu.start(PIC + "sti; hlt; 1: jmp 1b")
    assert cpu.vcpu.run(1_000).kind is ExitKind.HLT
    after = cpu.v.eip
    cpu.lines(7, True)
    cpu.last = cpu.vcpu.run(100_000)
    event = cpu._event()
    assert event is not None and (event.vector, event.eip) == (IRQ7, after)


def test_nmi_wakes_hlt_with_interrupts_off(cpu: BusProcessor) -> None:
    cpu.start("cli; hlt; 1: jmp 1b")
    lib.intr_virtual_wire(page(cpu))
    assert cpu.vcpu.run(1_000).kind is ExitKind.HLT
    raise_nmi(cpu)
    cpu.last = cpu.vcpu.run(100_000)
    event = cpu._event()
    assert event is not None and (event.vector, event.eip) == (NMI, CODE + 2)


def test_a_timer_wakes_hlt(cpu: BusProcessor) -> None:
    counted(cpu)
    cpu.start(PIC + "mov $0x7e, %al; out %al, $0x21;" + PIT + "sti; hlt; 1: jmp 1b")
    event = cpu.resume()
    assert event is not None and event.vector == IRQ0


def test_the_single_step_trap_wakes_hlt(cpu: BusProcessor) -> None:
    cpu.v.eflags |= TF
    cpu.write(HANDLERS + DB * HANDLER_BYTES, b"\x47\x83\x64\x24\x08\x00\xcf")      # inc %edi; andl $0, 8(%esp); iret
    cpu.start("hlt; inc %esi; cli; hlt")
    cpu.v.r[6] = cpu.v.r[7] = 0
    cpu.resume()
    assert (cpu.v.r[7], cpu.v.r[6], cpu.v.eip) == (1, 1, CODE + 4)


# ---- NMI, priorities -----------------------------------------------------------------------------------------------


def test_nmi_is_blocked_until_iret(cpu: BusProcessor) -> None:
    lib.intr_virtual_wire(page(cpu))
    cpu.write(HANDLERS + NMI * HANDLER_BYTES, b"\x47\xf4\xcf")         # inc %edi; hlt; iret
    cpu.v.r[7] = 0
    cpu.start("1: jmp 1b")
    raise_nmi(cpu)
    assert cpu.vcpu.run(50_000).kind is ExitKind.HLT and cpu.v.r[7] == 1
    raise_nmi(cpu)
    assert cpu.vcpu.run(1_000).kind is ExitKind.HLT and cpu.v.r[7] == 1        # still in the first
    cpu.v.activity = 0
    assert cpu.vcpu.run(50_000).kind is ExitKind.HLT and cpu.v.r[7] == 2       # behind its IRET
    assert cpu.read32(cpu.v.r[4]) == CODE


def test_a_debug_trap_comes_before_nmi_and_nmi_before_intr(cpu: BusProcessor) -> None:
    """All three at one boundary: the handler of the last one delivered runs first, so they nest in that order."""
    lib.intr_virtual_wire(page(cpu))
    cpu.run(PIC + "hlt")
    cpu.v.eip, cpu.v.r[4] = CODE, STACK_TOPS[0]
    cpu.v.eflags |= TF | IF
    cpu.v.activity = 0
    cpu.write(CODE, b"\x90\x90")
    cpu.v.inhibit = lib.INHIBIT_SS            # as behind MOV SS, so that the NOP is executed first
    cpu.lines(7, True)
    raise_nmi(cpu)
    event = cpu.resume()
    # The gate of #DB clears IF; NMI does not need it: its frame lies on that of #DB.
    assert event is not None and (event.vector, event.eip) == (NMI, HANDLERS + DB * HANDLER_BYTES)
    assert cpu.words(cpu.v.r[4] + 12, 2) == [CODE + 1, CODE_SEL[0]]


def test_intr_waits_for_the_instruction_behind_sti_and_nmi_does_not(cpu: BusProcessor) -> None:
    cpu.run(PIC + "hlt")
    cpu.lines(7, True)
    cpu.v.eip, cpu.v.activity = CODE, 0
    event = cpu.run("cli; sti; nop; nop; hlt")
    assert event is not None and (event.vector, event.eip) == (IRQ7, CODE + 3)


def test_sti_with_if_set_already_shadows_nothing(cpu: BusProcessor) -> None:
    cpu.run(PIC + "hlt")
    cpu.v.eip, cpu.v.activity = CODE, 0
    cpu.start("sti; nop; in $0x99, %al; sti; nop; hlt")
    exit_ = cpu.vcpu.run(500_000)
    assert exit_.kind is ExitKind.IO
    cpu._answered(exit_)
    cpu.lines(7, True)
    event = cpu.resume()
    assert event is not None and (event.vector, event.eip) == (IRQ7, CODE + 4)


# ---- faults of faults ----------------------------------------------------------------------------------------------

ABSENT = gate(CODE_SEL[0], 0, 0x0E)
PAIRS = [
    #  first, its instruction, the second one's vector
    (DE, "xor %ecx, %ecx; div %ecx", NP, DF),
    (UD, "ud2", NP, NP),                        # benign first: serial
    (PF, "mov 0x700000, %eax", NP, DF),
    (GP, "mov $0xff8, %eax; mov %eax, %ds", NP, DF),
    (NP, "mov $0x68, %eax; mov %eax, %ds", NP, DF),
]


@pytest.mark.parametrize(("first", "source", "second", "found"), PAIRS)
def test_what_a_fault_in_delivery_becomes(cpu: BusProcessor, first: int, source: str, second: int, found: int) -> None:
    cpu.map(0x700000, 0)
    cpu.set_descriptor(0x68, descriptor(0, 0xFFFFF, 0x13, 0xC000))
    if first != NP:
        cpu.set_gate(first, ABSENT)
    else:
        cpu.set_gate(NP, ABSENT)
    event = cpu.run(source)
    assert event is not None and event.vector == found
    if found == DF:
        assert event.error == 0
    else:
        assert event.error == first * 8 + 3


@pytest.mark.parametrize(("first", "source"), [(DE, "xor %ecx, %ecx; div %ecx"), (PF, "mov 0x700000, %eax")])
def test_a_fault_in_the_delivery_of_df_is_a_shutdown(cpu: BusProcessor, first: int, source: str) -> None:
    cpu.map(0x700000, 0)
    cpu.set_gate(first, ABSENT)
    cpu.set_gate(DF, ABSENT)
    assert cpu.run(source) is None
    assert cpu.last is not None and (cpu.last.kind, cpu.last.vector) == (ExitKind.SHUTDOWN, first)
    assert cpu.v.activity == lib.ACT_SHUTDOWN


# ---- EIP ------------------------------------------------------------------------------------------------------------


def test_the_limit_of_cs_is_checked_for_each_instruction(cpu: BusProcessor) -> None:
    """The last byte of an instruction may be the limit, not beyond it."""
    for limit, vector in [(5, GP), (6, 255)]:
        cpu = BusProcessor()
        cpu.hidden("cs", CODE_SEL[0], CODE, limit, 0x409B)
        cpu.write(CODE, b"\x90" * 5 + b"\xcd\xff")
        cpu.v.eip = 0
        event = cpu.resume()
        assert event is not None and (event.vector, event.error) == (vector, 0 if vector == GP else None)
        assert event.eip == (5 if vector == GP else 7)


def test_a_branch_beyond_the_limit_faults_as_the_branch(cpu: BusProcessor) -> None:
    for source in ("jmp .+0x200", "call .+0x200", "je .+0x200", "mov $0x200, %eax; jmp *%eax", "push $0x200; ret"):
        cpu = BusProcessor()
        cpu.hidden("cs", CODE_SEL[0], CODE, 0xFF, 0x409B)
        cpu.v.eip = 0
        cpu.v.eflags |= 0x40
        event = cpu.run(source)
        assert event is not None and (event.vector, event.error) == (GP, 0), source
        assert event.eip == (5 if ";" in source else 0), source


def test_a_fetch_fault_is_of_the_byte_that_is_missing(cpu: BusProcessor) -> None:
    cpu.map(NEAR + PAGE, 0)
    cpu.write(NEAR + PAGE - 4, b"\x90\x90\xb8\x01")
    event = cpu.run(f"mov ${NEAR + PAGE - 4:#x}, %ebx; jmp *%ebx")
    assert event is not None and (event.vector, event.error, event.eip) == (PF, 0, NEAR + PAGE - 2)
    assert cpu.v.cr2 == NEAR + PAGE
    cpu.map(NEAR + PAGE, NEAR + PAGE | PLAIN)
    cpu.write(NEAR + PAGE, b"\x02\x03\x04\xf4")
    cpu.v.eip = NEAR + PAGE - 2
    cpu.resume()
    assert cpu.v.r[0] == 0x04030201
