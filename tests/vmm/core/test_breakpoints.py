"""Single steps and the debug registers: run.c's MODE_ONE, mem.c's and bus.c's watch on data and ports.

Source: Intel SDM 3B, 17.2 and 17.3: code breakpoints are faults, data and port breakpoints and steps are traps.
"""

import pytest

from tests.vmm.core.bus_processor import DEVICE, BusProcessor
from tests.vmm.core.processor import CODE, HANDLER_BYTES, HANDLERS, RF
from vmm.vcpu import ExitKind

DB = 1
TF, DE = 0x100, 8
NEAR = 0x80000
BS, B0 = 1 << 14, 1


def steps(source: str, limit: int = 40, ring: int = 0) -> list[int]:
    """Offsets in CODE at which the single-step trap finds EIP."""
    cpu = BusProcessor()
    if ring:
        cpu.user()
    cpu.v.eflags |= TF
    cpu.start(source)
    found: list[int] = []
    cpu.write(HANDLERS + DB * HANDLER_BYTES, b"\xf4\xcf")       # hlt; iret
    for _ in range(limit):
        if cpu.resume() is None or cpu.v.eip != HANDLERS + DB * HANDLER_BYTES + 1:
            break
        assert cpu.v.dr[6] & BS
        cpu.v.dr[6] = 0xFFFF0FF0
        found.append(cpu.read32(cpu.v.r[4]) - CODE)
    return found


@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize(
    ("source", "offsets"),
    [
        ("nop; nop; int $255", [1, 2]),
        ("cmp $0, %eax; je 1f; nop; 1: int $255", [3, 6]),                      # a pair that would be fused
        ("mov $3, %ecx; 1: loop 1b; int $255", [5, 5, 5, 7]),
        ("mov $2, %ecx; mov $0x80000, %edi; rep; stosb; int $255", [5, 10, 10, 12]),    # each iteration
        ("xor %ecx, %ecx; rep; movsb; int $255", [2, 4]),
        ("mov %ss, %eax; mov %eax, %ss; nop; nop; int $255", [2, 5, 6]),        # no trap behind MOV SS
        ("push %ss; pop %ss; nop; nop; int $255", [1, 3, 4]),
        ("pushf; andl $~0x100, (%esp); popf; nop; int $255", [1, 8, 9]),        # the trap of POPF itself is still due
        ("call 1f; int $255; 1: ret", [7, 5]),
        ("mov $0x1234, %edx; in (%dx), %al; nop; int $255", [5, 6, 7]),
        ("mov 0x500000, %eax; nop; int $255", [5, 6]),
        ("movb $0x40, 1f; 1: nop; nop; int $255", [7, 8, 9]),
    ],
)
def test_where_single_steps_trap(source: str, offsets: list[int], ring: int) -> None:
    assert steps(source, ring=ring) == offsets


def test_popf_that_sets_tf_traps_behind_the_next_instruction() -> None:
    cpu = BusProcessor()
    event = cpu.run("pushf; orl $0x100, (%esp); popf; nop; nop; hlt")
    assert event is not None and (event.vector, event.eip) == (DB, CODE + 1 + 7 + 1 + 1)


def test_an_instruction_that_faults_does_not_trap() -> None:
    cpu = BusProcessor()
    cpu.v.eflags |= TF
    event = cpu.run("ud2")
    assert event is not None and event.vector == 6 and not cpu.v.dr[6] & BS
    assert event.eflags & TF and not cpu.v.eflags & TF


def test_a_code_breakpoint_is_a_fault_that_rf_holds_off_once() -> None:
    """The image of an instruction breakpoint shows RF as it was, clear: it is the handler that sets it."""
    cpu = BusProcessor()
    cpu.v.dr[0], cpu.v.dr[7] = CODE + 1, 0x402
    handler = b"\xf4\x81\x4c\x24\x08\x00\x00\x01\x00\xcf"       # hlt; orl $0x10000, 8(%esp); iret
    cpu.write(HANDLERS + DB * HANDLER_BYTES, handler)
    cpu.v.r[0] = 0
    event = cpu.run("nop; inc %eax; jmp .-1")
    for count in range(3):
        assert event is not None
        assert (event.vector, event.eip, cpu.v.r[0], cpu.v.dr[6] & 0xF) == (DB, CODE + 1, count, B0)
        assert not event.eflags & RF
        event = cpu.resume()            # its IRET loads RF; the loop comes back without


@pytest.mark.parametrize(
    ("source", "rw", "hit"),
    [
        ("mov 0x80000, %eax", 3, True), ("mov 0x80000, %eax", 1, False), ("mov %eax, 0x80000", 1, True),
        ("mov %al, 0x80003", 1, True), ("mov %al, 0x80004", 1, False), ("mov %eax, 0x7fffd", 1, True),
        ("mov %eax, 0x7fffc", 1, False), ("incl 0x80000", 1, True), ("xchg %eax, 0x80000", 1, True),
        ("lock; incl 0x80000", 3, True), ("cmpl $0, 0x80000", 3, True), ("cmpl $1, 0x80000; je .", 3, True),
        ("lea 0x80004, %esp; push %eax", 1, True), ("lea 0x80004, %esp; call 1f; 1:", 1, True),
        ("movq %mm0, 0x7fff8", 1, False), ("movq %mm0, 0x7fffc", 1, True), ("lea 0x80000, %eax", 3, False),
        ("mov 0x80000, %ax", 0, False),
    ],
)  # fmt: skip
def test_data_breakpoints(source: str, rw: int, hit: bool) -> None:
    cpu = BusProcessor()
    cpu.v.dr[1], cpu.v.dr[7] = NEAR, 0x400 | 0x8 | (rw | 3 << 2) << 20
    event = cpu.run(source + "; nop; hlt")
    assert (event is not None) == hit
    if event is not None:
        assert event.vector == DB and cpu.v.dr[6] & 0xF == 2
        assert cpu.memory.read(event.eip, 1) in {b"\x90", b"\x74"}      # behind the instruction: NOP or JE


def test_a_data_breakpoint_stops_a_repeated_instruction_between_iterations() -> None:
    cpu = BusProcessor()
    cpu.v.dr[0], cpu.v.dr[7] = NEAR + 3, 0x402 | 1 << 16
    cpu.v.r[1], cpu.v.r[7] = 10, NEAR
    event = cpu.run("rep; stosb; hlt")
    assert event is not None and (event.vector, event.eip) == (DB, CODE)
    assert (cpu.v.r[1], cpu.v.r[7]) == (6, NEAR + 4)


def test_a_data_breakpoint_in_a_device_hits_once() -> None:
    cpu = BusProcessor()
    cpu.v.dr[0], cpu.v.dr[7] = DEVICE, 0x402 | 0xF << 16
    event = cpu.run(f"incl {DEVICE:#x}; nop; hlt")
    assert event is not None and event.vector == DB
    assert (len(cpu.log.reads), len(cpu.log.writes), cpu.device[0]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("source", "hit"),
    [
        ("in (%dx), %al", True), ("out %al, (%dx)", True), ("inc %edx; in (%dx), %al", True),
        ("add $2, %edx; in (%dx), %al", False), ("dec %edx; in (%dx), %ax", True), ("dec %edx; in (%dx), %al", False),
        ("mov $1, %ecx; rep; insb (%dx), (%edi)", True), ("outsb (%esi), (%dx)", True),
        ("mov $0x20, %dx; in (%dx), %al", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("de", [0, DE])
def test_port_breakpoints_need_de(source: str, hit: bool, de: int) -> None:
    cpu = BusProcessor()
    cpu.v.cr4 |= de
    cpu.v.dr[0], cpu.v.dr[7] = 0x1234, 0x402 | (2 | 1 << 2) << 16       # two ports
    cpu.v.r[2], cpu.v.r[6], cpu.v.r[7] = 0x1234, NEAR, NEAR
    event = cpu.run(source + "; nop; hlt")
    assert (event is not None) == (hit and de != 0)
    if event is not None:
        assert (event.vector, cpu.v.dr[6] & 0xF) == (DB, B0)
        assert cpu.memory.read(event.eip, 1) == b"\x90"


def test_a_step_and_a_breakpoint_are_one_trap() -> None:
    cpu = BusProcessor()
    cpu.v.dr[0], cpu.v.dr[7] = NEAR, 0x402 | 1 << 16
    cpu.v.eflags |= TF
    event = cpu.run("movb $0, 0x80000; nop; hlt")
    assert event is not None and event.eip == CODE + 7
    assert cpu.v.dr[6] & (BS | 0xF) == BS | B0


def test_the_debuggers_step_ends_at_the_handler_of_a_fault() -> None:
    """Whether or not its delivery had to wait for a page."""
    for away in (False, True):
        cpu = BusProcessor()
        cpu.start("ud2")
        cpu.v.r[4] = 0x90000
        if away:
            cpu.swap_out(0x8F000)
        cpu.vcpu.control.single_step = 1
        exit_ = cpu.vcpu.run(10_000)
        if away:
            assert exit_.kind is ExitKind.FAULT_PPN
            cpu._answered(exit_)
            exit_ = cpu.vcpu.run(10_000)
        assert (exit_.kind, cpu.v.eip) == (ExitKind.DEBUG, HANDLERS + 6 * HANDLER_BYTES)
