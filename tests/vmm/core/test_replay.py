"""Instructions that leave run() and begin again: bus.c, string.c's port batches, and delivery of events, run.c.

An answered access happens once, whatever lies between the exit and the instruction's end: a kick, a page that is away,
the end of the quantum. What held for the instruction (RF, the shadow of MOV SS) holds when it begins again.
"""

import pytest

from tests.vmm.core.bus_processor import DEVICE, PAGE, PLAIN, BusProcessor
from tests.vmm.core.processor import (
    CODE,
    CODE_SEL,
    DATA_SEL,
    GDT,
    HANDLER_BYTES,
    HANDLERS,
    IDT,
    INT32,
    STACK_TOPS,
    TSS,
    gate,
    with_dpl,
)
from vmm.vcpu import Attention, ExitKind

NEAR = 0x80000
PORT = 0x1234
PF, DB = 14, 1
IF, RF = 0x200, 0x10000
IRQ7_VECTOR = 0x27

PIC = (
    "mov $0x11, %al; out %al, $0x20; mov $0x20, %al; out %al, $0x21; mov $4, %al; out %al, $0x21;"
    "mov $1, %al; out %al, $0x21; mov $0x7f, %al; out %al, $0x21;"
)


# ---- ports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("count", [1, 2, 3, 255, 1024, 5000])
@pytest.mark.parametrize("start", [NEAR, NEAR + 1, NEAR + PAGE - 3])
def test_rep_ins_stores_what_the_port_gives_in_order(bits: int, count: int, start: int) -> None:
    cpu = BusProcessor()
    suffix, width = {8: ("b", 1), 16: ("w", 2), 32: ("l", 4)}[bits]
    cpu.v.r[1], cpu.v.r[2], cpu.v.r[7] = count, PORT, start
    assert cpu.run(f"rep; ins{suffix} (%dx), (%edi); hlt") is None
    total = count * width
    assert (cpu.v.r[1], cpu.v.r[7], cpu.taken) == (0, start + total, total)
    assert cpu.memory.read(start, total) == bytes(cpu.stream[:total])
    assert sum(units for _, _, units in cpu.log.inputs) == count


@pytest.mark.parametrize("suffix", ["b", "w", "l"])
@pytest.mark.parametrize("count", [1, 3, 1025])
@pytest.mark.parametrize("start", [NEAR, NEAR + PAGE - 3])
def test_rep_outs_gives_each_byte_once(suffix: str, count: int, start: int) -> None:
    cpu = BusProcessor()
    total = count * {"b": 1, "w": 2, "l": 4}[suffix]
    data = bytes(cpu.stream[:total])
    cpu.write(start, data)
    cpu.v.r[1], cpu.v.r[2], cpu.v.r[6] = count, PORT, start
    cpu.run(f"rep; outs{suffix} (%esi), (%dx); hlt")
    assert b"".join(d for _, _, d in cpu.log.outputs) == data
    assert (cpu.v.r[1], cpu.v.r[6]) == (0, start + total)


def test_strings_go_down_when_df_is_set() -> None:
    cpu = BusProcessor()
    cpu.v.r[1], cpu.v.r[2], cpu.v.r[7] = 5, PORT, NEAR + 2
    cpu.run("std; rep; insw (%dx), (%edi); hlt")
    words = [cpu.read16(NEAR + 2 - 2 * n) for n in range(5)]
    assert words == [int.from_bytes(cpu.stream[2 * n : 2 * n + 2], "little") for n in range(5)]
    assert cpu.v.r[7] == NEAR - 8


@pytest.mark.parametrize("suffix", ["b", "w", "l"])
def test_ins_faults_before_the_port_is_read(suffix: str) -> None:
    """Up to the page's edge everything is stored; the element that cannot be is not taken from the device."""
    width = {"b": 1, "w": 2, "l": 4}[suffix]
    cpu = BusProcessor()
    cpu.map(NEAR + PAGE, 0)
    cpu.v.r[1], cpu.v.r[2], cpu.v.r[7] = 100, PORT, NEAR + PAGE - 3
    event = cpu.run(f"rep; ins{suffix} (%dx), (%edi); hlt")
    whole = 3 // width
    assert event is not None and (event.vector, event.error, event.eip) == (PF, 2, CODE)
    assert (cpu.v.r[1], cpu.v.r[7], cpu.taken) == (100 - whole, NEAR + PAGE - 3 + whole * width, whole * width)
    cpu.map(NEAR + PAGE, NEAR + PAGE | PLAIN)
    cpu.v.r[4], cpu.v.eip = STACK_TOPS[0] - 0x1000, CODE
    cpu.resume()
    assert cpu.memory.read(NEAR + PAGE - 3, 100 * width) == bytes(cpu.stream[: 100 * width])


def test_outs_faults_before_the_port_is_written() -> None:
    cpu = BusProcessor()
    cpu.map(NEAR + PAGE, 0)
    cpu.v.r[1], cpu.v.r[2], cpu.v.r[6] = 100, PORT, NEAR + PAGE - 6
    event = cpu.run("rep; outsl (%esi), (%dx)")
    assert event is not None and (event.vector, event.error) == (PF, 0)
    assert (cpu.v.r[1], cpu.v.r[6]) == (99, NEAR + PAGE - 2)
    assert sum(len(data) for _, _, data in cpu.log.outputs) == 4


def test_strings_between_ports_and_devices() -> None:
    cpu = BusProcessor()
    cpu.v.r[1], cpu.v.r[2], cpu.v.r[7] = 7, PORT, DEVICE
    cpu.run("rep; insw (%dx), (%edi); hlt")
    assert bytes(cpu.device[:14]) == bytes(cpu.stream[:14])
    assert (cpu.taken, len(cpu.log.writes)) == (14, 7)
    cpu.v.r[1], cpu.v.r[6], cpu.v.eip = 7, DEVICE, CODE
    cpu.run("rep; outsw (%esi), (%dx); hlt")
    assert b"".join(data for _, _, data in cpu.log.outputs) == bytes(cpu.stream[:14])
    assert len(cpu.log.reads) == 7


@pytest.mark.parametrize("suffix", ["b", "w", "l"])
@pytest.mark.parametrize(
    ("source", "to"), [(DEVICE, NEAR), (NEAR, DEVICE), (DEVICE, DEVICE + PAGE), (DEVICE, DEVICE + 1)]
)
def test_rep_movs_with_devices(suffix: str, source: int, to: int) -> None:
    width = {"b": 1, "w": 2, "l": 4}[suffix]
    cpu = BusProcessor()
    data = bytes(cpu.stream[: 9 * width])
    cpu.store(source, data)
    cpu.v.r[1], cpu.v.r[6], cpu.v.r[7] = 9, source, to
    cpu.run(f"rep; movs{suffix}; hlt")
    model = bytearray(data + bytes(9 * width))
    base = to - source if 0 < to - source < 16 else None
    if base is not None:
        for n in range(9):
            model[base + n * width : base + (n + 1) * width] = model[n * width : (n + 1) * width]
        assert cpu.load(to, 9 * width) == bytes(model[base : base + 9 * width])
    else:
        assert cpu.load(to, 9 * width) == data
    assert (cpu.v.r[1], cpu.v.r[6], cpu.v.r[7]) == (0, source + 9 * width, to + 9 * width)
    assert len(cpu.log.reads) == (9 if source >= DEVICE else 0)
    assert len(cpu.log.writes) == (9 if to >= DEVICE else 0)


def test_repe_cmpsb_over_a_device_stops_at_the_difference() -> None:
    cpu = BusProcessor()
    cpu.store(DEVICE, b"abcdefgh")
    cpu.store(NEAR, b"abcdeXgh")
    cpu.v.r[1], cpu.v.r[6], cpu.v.r[7] = 8, NEAR, DEVICE
    cpu.run("repe; cmpsb; hlt")
    assert (cpu.v.r[1], cpu.v.r[7], len(cpu.log.reads)) == (2, DEVICE + 6, 6)
    assert cpu.v.eflags & 0x41 == 1        # X (58h) < f (66h)


def test_an_answer_is_dropped_when_the_instruction_faults() -> None:
    """MOVS from a device to nowhere: the device is asked again when the page has come."""
    cpu = BusProcessor()
    cpu.map(NEAR, 0)
    cpu.store(DEVICE, b"1111")
    cpu.v.r[6], cpu.v.r[7] = DEVICE, NEAR
    event = cpu.run("movsl; hlt")
    assert event is not None and event.vector == PF and (cpu.v.r[6], cpu.v.r[7]) == (DEVICE, NEAR)
    cpu.map(NEAR, NEAR | PLAIN)
    cpu.store(DEVICE, b"2222")
    cpu.v.r[4], cpu.v.eip = STACK_TOPS[0] - 0x1000, CODE
    cpu.resume()
    assert cpu.load(NEAR, 4) == b"2222" and len(cpu.log.reads) == 2


def test_push_pop_and_call_of_a_device() -> None:
    cpu = BusProcessor()
    cpu.store(DEVICE, (CODE + 0x100).to_bytes(4, "little"))
    cpu.write(CODE + 0x100, b"\x8f\x05" + (DEVICE + 8).to_bytes(4, "little") + b"\xf4")     # pop DEVICE + 8; hlt
    sp = cpu.v.r[4]
    cpu.run(f"call *{DEVICE:#x}")
    assert (cpu.v.r[4], cpu.load(DEVICE + 8, 4)) == (sp, (CODE + 6).to_bytes(4, "little"))
    assert (len(cpu.log.reads), len(cpu.log.writes)) == (1, 1)
    cpu.v.eip = CODE
    cpu.run(f"lea {DEVICE + 0x40:#x}, %esp; call 1f; hlt; 1: push %esp; popl {DEVICE + 4:#x}; ret")
    assert cpu.load(DEVICE + 4, 4) == (DEVICE + 0x3C).to_bytes(4, "little")
    assert cpu.v.r[4] == DEVICE + 0x40


# ---- kicks, quanta and pages between the answer and the end --------------------------------------------------------


@pytest.mark.parametrize("kind", [ExitKind.IO, ExitKind.MMIO, ExitKind.FAULT_PPN])
def test_a_kick_waits_until_the_answer_is_used(kind: ExitKind) -> None:
    """The answer is not part of the saved state, so a vCPU that stops for a kick has used it."""
    cpu = BusProcessor()
    cpu.kick_with = {kind}
    cpu.swap_out(NEAR)
    cpu.v.r[2] = PORT
    cpu.run(f"in (%dx), %al; mov {DEVICE:#x}, %ebx; mov {NEAR:#x}, %ecx; out %al, (%dx); hlt")
    assert (len(cpu.log.inputs), len(cpu.log.reads), len(cpu.log.outputs)) == (1, 1, 1)
    assert cpu.stops >= 1
    assert cpu.v.r[0] & 0xFF == cpu.stream[0]


def test_a_vcpu_that_was_kicked_out_owes_no_answer() -> None:
    cpu = BusProcessor()
    cpu.v.r[2] = PORT
    cpu.start("in (%dx), %al; inc %ecx; jmp .-1")
    assert cpu.vcpu.run(100_000).kind is ExitKind.IO
    cpu.vcpu.answer(0x5A)
    cpu.vcpu.kick(Attention.KICK)
    assert cpu.vcpu.run(100_000).kind is ExitKind.KICK
    assert (cpu.v.r[0] & 0xFF, cpu.v.eip) == (0x5A, CODE + 1)


def test_a_quantum_of_nothing_still_finishes_the_instruction() -> None:
    cpu = BusProcessor()
    cpu.v.r[2] = PORT
    cpu.start("in (%dx), %al; inc %ecx; jmp .-1")
    assert cpu.vcpu.run(100_000).kind is ExitKind.IO
    cpu.vcpu.answer(0x5A)
    assert cpu.vcpu.run(0).kind is ExitKind.QUANTUM
    assert (cpu.v.r[0] & 0xFF, cpu.v.eip) == (0x5A, CODE + 1)


def test_a_flush_between_exit_and_answer_changes_nothing() -> None:
    cpu = BusProcessor()
    cpu.v.r[1], cpu.v.r[2], cpu.v.r[7] = 100, PORT, NEAR
    cpu.start("rep; insb (%dx), (%edi); hlt")
    exit_ = cpu.vcpu.run(100_000)
    assert (exit_.kind, exit_.count) == (ExitKind.IO, 100)
    cpu.vcpu.answer_units(bytes(range(100)))
    cpu.swap_out(NEAR)
    cpu.vcpu.kick(Attention.FLUSH)
    cpu.resume()
    assert cpu.log.faults == [(NEAR // PAGE, True)]
    assert cpu.memory.read(NEAR, 100) == bytes(range(100)) and cpu.log.inputs == []


def test_interrupts_are_taken_between_the_batches_of_a_port_string() -> None:
    cpu = BusProcessor()
    cpu.write(HANDLERS + IRQ7_VECTOR * HANDLER_BYTES, b"\xf4")
    cpu.v.r[1], cpu.v.r[7] = 100_000, NEAR
    cpu.start(PIC + f"mov ${PORT}, %edx; sti; rep; insb (%dx), (%edi); hlt")
    while (exit_ := cpu.vcpu.run(100_000)).kind is ExitKind.IO:
        cpu.vcpu.answer_units(bytes(exit_.count))
        cpu.vcpu.answer(0)
        cpu.lines(7, True)
        assert len(cpu.log.inputs) < 50
        cpu.log.inputs.append((exit_.address, exit_.width, exit_.count))
    assert exit_.kind is ExitKind.HLT
    assert cpu.v.eip == HANDLERS + IRQ7_VECTOR * HANDLER_BYTES + 1
    assert len(cpu.log.inputs) <= 2 and cpu.v.r[1] >= 100_000 - 2 * 1024


# ---- FAULT_PPN -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("away", "source", "write"),
    [
        (NEAR, "mov 0x80000, %eax", False),
        (NEAR, "mov %eax, 0x80000", True),
        (NEAR, "incl 0x80000", True),
        (CODE + PAGE, "jmp . + 0x1000; .org 0x1000; hlt", False),
        (CODE + PAGE, ".org 0xffe; hlt", False),
        (0x72000, "mov 0x400000, %eax", False),
        (STACK_TOPS[0] - 2 * PAGE, "push %eax", True),
        (GDT, "mov %ds, %eax; mov %eax, %es", False),
    ],
)
def test_a_page_that_is_away_comes_back_and_the_instruction_is_done_once(away: int, source: str, write: bool) -> None:
    cpu = BusProcessor()
    cpu.v.r[0] = 0x55
    cpu.v.r[4] = STACK_TOPS[0] - PAGE
    body = source if "hlt" in source else source + "; hlt"
    if ".org 0xffe" in source:
        body = "jmp 1f; .org 0xffe; 1: mov $0x1234, %ecx; hlt"
    cpu.start(body)
    cpu.swap_out(away)
    assert cpu.resume() is None
    assert [ppn for ppn, _ in cpu.log.faults] == [away // PAGE]
    assert cpu.log.faults[0][1] == write
    if "incl" in source:
        assert cpu.read32(NEAR) == 1
    if "push" in source:
        assert (cpu.v.r[4], cpu.read32(STACK_TOPS[0] - PAGE - 4)) == (STACK_TOPS[0] - PAGE - 4, 0x55)


@pytest.mark.parametrize("away", ["idt", "stack", "handler", "tss", "gdt"])
@pytest.mark.parametrize("kicked", [False, True])
@pytest.mark.parametrize("ring", [0, 3])
def test_an_interrupt_whose_delivery_left_is_delivered_once(away: str, kicked: bool, ring: int) -> None:
    """Acknowledged, so nothing else knows of it; a kick that comes meanwhile must not lose it."""
    cpu = BusProcessor()
    page = {"idt": IDT, "stack": STACK_TOPS[0] - PAGE, "handler": HANDLERS, "tss": TSS, "gdt": GDT}[away]
    cpu.v.r[4] = STACK_TOPS[0]
    cpu.run(PIC + "hlt")
    cpu.ring(ring)
    cpu.v.r[4] = STACK_TOPS[ring]
    cpu.v.eflags |= IF
    cpu.write(CODE, b"\xeb\xfe")
    cpu.vcpu.run(1000)
    cpu.swap_out(page)
    if kicked:
        cpu.kick_with = {ExitKind.FAULT_PPN}
    cpu.lines(7, True)
    event = cpu.resume()
    assert event is not None and (event.vector, event.eip) == (IRQ7_VECTOR, CODE)
    assert page // PAGE in [ppn for ppn, _ in cpu.log.faults] or (away in {"tss", "gdt"} and not ring)
    assert cpu.v.r[4] == STACK_TOPS[0] - (20 if ring else 12)
    assert int(cpu.vcpu.stats.interrupts) == 1


def test_an_exception_whose_delivery_left_is_no_double_fault() -> None:
    cpu = BusProcessor()
    cpu.set_gate(0xFF, gate(CODE_SEL[0], HANDLERS + 0xFF * HANDLER_BYTES, with_dpl(INT32, 3)))
    cpu.kick_with = {ExitKind.FAULT_PPN}
    cpu.write(HANDLERS + 6 * HANDLER_BYTES, b"\x0f\x0b")       # the handler of #UD is undefined too
    cpu.write(HANDLERS + PF * HANDLER_BYTES, b"\xf4")
    cpu.start("mov 0x700000, %eax; hlt")
    cpu.map(0x700000, 0)
    cpu.swap_out(IDT)
    event = cpu.resume()
    assert event is not None and (event.vector, event.eip) == (PF, CODE)


# ---- what holds for the instruction --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["in", "mmio", "away"])
def test_rf_holds_a_breakpoint_off_until_the_instruction_is_done(how: str) -> None:
    cpu = BusProcessor()
    cpu.swap_out(NEAR)
    cpu.v.r[2] = PORT
    cpu.v.dr[0], cpu.v.dr[7] = CODE, 0x403
    cpu.v.eflags |= RF
    source = {"in": "in (%dx), %al", "mmio": f"mov {DEVICE:#x}, %eax", "away": f"mov {NEAR:#x}, %eax"}[how]
    assert cpu.run(source + "; hlt") is None
    assert not cpu.v.eflags & RF
    assert len(cpu.log.inputs) + len(cpu.log.reads) + len(cpu.log.faults) == 1


@pytest.mark.parametrize("how", ["in", "mmio", "away"])
def test_no_interrupt_comes_between_mov_ss_and_an_instruction_that_leaves(how: str) -> None:
    cpu = BusProcessor()
    cpu.run(PIC + "hlt")
    source = {"in": "in (%dx), %al", "mmio": f"mov {DEVICE:#x}, %esp", "away": f"mov {NEAR:#x}, %esp"}[how]
    cpu.write32(NEAR, STACK_TOPS[0])
    cpu.store(DEVICE, STACK_TOPS[0].to_bytes(4, "little"))
    cpu.swap_out(NEAR)
    cpu.v.r[1], cpu.v.r[2] = DATA_SEL[0], PORT
    cpu.v.eflags |= IF
    cpu.start(f"nop; nop; nop; mov %ecx, %ss; {source}; 1: jmp 1b")
    cpu.v.eip, cpu.v.activity = CODE + 3, 0
    exit_ = cpu.vcpu.run(100_000)
    assert exit_.kind in {ExitKind.IO, ExitKind.MMIO, ExitKind.FAULT_PPN}
    cpu._answered(exit_)
    cpu.lines(7, True)
    event = cpu.resume()
    length = 1 if how == "in" else 6
    assert event is not None and (event.vector, event.eip) == (IRQ7_VECTOR, CODE + 5 + length)


def test_a_stepped_instruction_that_leaves_traps_once() -> None:
    cpu = BusProcessor()
    cpu.v.r[2] = PORT
    cpu.v.eflags |= 0x100
    event = cpu.run("in (%dx), %al; hlt")
    assert event is not None and (event.vector, event.eip) == (DB, CODE + 1)
    assert cpu.v.r[0] & 0xFF == cpu.stream[0] and len(cpu.log.inputs) == 1


def test_lock_and_xchg_on_a_device_read_and_write_once() -> None:
    for source in ("xchg %eax, (%ebx)", "lock; incl (%ebx)", "cmpxchg %ecx, (%ebx)", "lock; xadd %eax, (%ebx)"):
        cpu = BusProcessor()
        cpu.v.r[3] = DEVICE
        cpu.run(source + "; hlt")
        assert (cpu.log.reads, [w[:2] for w in cpu.log.writes]) == ([(DEVICE, 4)], [(DEVICE, 4)]), source


def test_a_stack_in_a_device_takes_an_interrupt_frame() -> None:
    cpu = BusProcessor()
    cpu.start(f"lea {DEVICE + 0x100:#x}, %esp; int3")
    cpu.write(HANDLERS + 3 * HANDLER_BYTES, b"\xcf")
    cpu.write(CODE + 7, b"\xf4")
    cpu.resume()
    assert cpu.v.r[4] == DEVICE + 0x100
    assert cpu.load(DEVICE + 0xF4, 8) == (CODE + 7).to_bytes(4, "little") + b"\x08\0\0\0"
    assert (len(cpu.log.writes), len(cpu.log.reads)) == (3, 3)
