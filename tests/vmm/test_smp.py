"""Several vCPUs on threads of their own: what one stores the others see, in data, code and page tables."""

from __future__ import annotations

import ctypes
import platform
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from guests import build
from ringfence.errors import HostRefused
from tests.vmm.core.processor import assemble
from tests.vmm.smp_machine import SmpMachine
from vmm._core import ffi, lib
from vmm.memory import PAGE_SIZE
from vmm.vcpu import Activity, ExitKind, Vcpu, are_halted_for_good
from vmx.boot import flat_protected_mode

CODE, DATA, VICTIMS, STACKS = 0x10000, 0x20000, 0x30000, 0x60000
LIMIT_S = 60
SHORT_US = 2_000
NMI, INIT, STARTUP, ASSERT = 0x400, 0x500, 0x600, 0x4000
APIC_ICR, APIC_ICR_HIGH = 0xFEE00300, 0xFEE00310


@pytest.fixture
def machine() -> Iterator[SmpMachine]:
    with SmpMachine(2, ram_pages=256) as machine:
        yield machine


def place(machine: SmpMachine, number: int, source: str, at: int = CODE) -> Vcpu:
    """Put a program into memory (linked for CODE) and a vCPU at its beginning: flat, CPL 0, interrupts off."""
    vcpu = machine.vcpus[number]
    machine.memory.write(at, assemble(source))
    flat_protected_mode(vcpu.state)
    vcpu.state.eip, vcpu.state.r[lib.ESP], vcpu.state.activity = at, STACKS + 0x1000 * number, lib.ACT_RUNNING
    return vcpu


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.0005)


# ---- the guest ------------------------------------------------------------------------------------------------------


def check_guest(vcpus: int, engine: str, append: str) -> None:
    with SmpMachine(vcpus, engine=engine) as machine:
        machine.load(build("smp"), append)
        machine.run(LIMIT_S)
        lines = machine.lines()
        assert [line for line in lines if line.startswith(("FAIL", "SKIP"))] == []
        assert (machine.trouble, machine.status) == (None, 0), lines[-3:]
        assert lines[-1] == f"DONE {sum(line.startswith('PASS') for line in lines)} passed, 0 failed"
        assert f"{vcpus} processors" in lines


@pytest.mark.parametrize(("vcpus", "engine"), [(2, "interp"), (4, "interp"), (3, "world")])
def test_guest_smp_passes(vcpus: int, engine: str) -> None:
    if engine == "world" and lib.world_image_size == 0:
        pytest.skip("this build has no world executable")
    check_guest(vcpus, engine, f"quick cpus={vcpus}")


@pytest.mark.long
@pytest.mark.parametrize("vcpus", [2, 3, 4])
def test_guest_smp_passes_again_and_again(vcpus: int) -> None:
    for _ in range(20):
        check_guest(vcpus, "interp", f"cpus={vcpus}")


def test_guest_smp_says_when_it_is_alone() -> None:
    with SmpMachine(1) as machine:
        machine.load(build("smp"), "quick")
        machine.run(LIMIT_S)
        assert (machine.trouble, machine.status) == (None, 0)
        assert "SKIP other_processors: no other processor answers" in machine.lines()


# ---- code -----------------------------------------------------------------------------------------------------------

# EBX counts. Function n of 8, in a page of its own, returns what was stored there last; now and then the whole page is
# written, which makes it data again. Then the round's number says that the function is there. At most 16 rounds ahead.
WRITER = f"""
	xorl %ebx, %ebx
1:	incl %ebx
	movl %ebx, %edx
	andl $7, %edx
	shll $12, %edx
	addl ${VICTIMS}, %edx
	testb $0x38, %bl
	jnz 2f
	movl %edx, %edi
	movl $1024, %ecx
	movl $0xc3c3c3c3, %eax
	cld
	rep stosl
	movb $0xb8, 3(%edx)
2:	movl %ebx, 4(%edx)
	movb $0xc3, 8(%edx)
	movl %ebx, {DATA}
3:	movl %ebx, %eax
	subl {DATA + 0x40}, %eax
	cmpl $16, %eax
	jb 4f
	pause
	jmp 3b
4:	cmpl ${{rounds}}, %ebx
	jb 1b
	hlt
"""

# Takes the number, then calls the function of that round: it may have been written again since, so what it returns is
# never less.
READER = f"""
1:	movl {DATA}, %ebx
	testl %ebx, %ebx
	jz 1b
	movl %ebx, {DATA + 0x40}
	movl %ebx, %edx
	andl $7, %edx
	shll $12, %edx
	addl ${VICTIMS + 3}, %edx
	movl %ebx, %eax
	call *%edx
	cmpl %ebx, %eax
	jae 2f
	incl {DATA + 0x80}
2:	incl {DATA + 0xc0}
	cmpl ${{rounds}}, %ebx
	jb 1b
	hlt
"""


def race_code(machine: SmpMachine, rounds: int) -> tuple[int, int]:
    """How often the reader ran code that was older than what it had been told, and how often it ran code."""
    for page in range(8):
        machine.memory.write(VICTIMS + page * PAGE_SIZE, b"\xc3" * PAGE_SIZE)
    vcpus = [
        place(machine, 0, WRITER.replace("{rounds}", str(rounds))),
        place(machine, 1, READER.replace("{rounds}", str(rounds)), CODE + PAGE_SIZE),
    ]
    machine.interrupts.resume()

    def run(vcpu: Vcpu) -> None:
        while vcpu.activity == Activity.RUNNING:
            exit_ = vcpu.run(10_000)
            assert exit_.kind in {ExitKind.QUANTUM, ExitKind.HLT, ExitKind.KICK}, exit_

    threads = [threading.Thread(target=run, args=(vcpu,)) for vcpu in vcpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10 * LIMIT_S)
    assert [vcpu.activity for vcpu in vcpus] == [Activity.HALTED] * 2
    old, seen = (int.from_bytes(machine.memory.read(DATA + at, 4), "little") for at in (0x80, 0xC0))
    return old, seen


def test_code_behind_a_branch_is_as_new_as_what_was_read_before(machine: SmpMachine) -> None:
    old, seen = race_code(machine, 300_000)
    assert seen > 100
    assert old == 0


@pytest.mark.long
def test_code_behind_a_branch_is_as_new_as_what_was_read_before_for_long(machine: SmpMachine) -> None:
    assert race_code(machine, 10_000_000)[0] == 0


LOOP = """
	movl $20000, %ecx
1:	call 2f
	loop 1b
	inb $0x99, %al
	.balign 64
2:	addl %eax, %ebx
	movl $1, %eax
	ret
"""


def test_code_runs_while_another_vcpu_cannot_answer(machine: SmpMachine) -> None:
    """It is inside run() as far as anybody can see, but its host thread gets no time."""
    vcpu = place(machine, 0, LOOP)
    machine.controls[1].page.running = 1
    machine.interrupts.resume()
    assert vcpu.run(LIMIT_S * 1_000_000).kind == ExitKind.IO
    assert vcpu.gpr[3] == 19_999


def test_unanswered_code_is_compared_with_memory(machine: SmpMachine) -> None:
    """As long as the other has not obeyed, its stores may bump no stamp: here they are made behind the core's back."""
    vcpu = place(machine, 0, "1: movl $1, %eax; inb $0x99, %al; jmp 1b")
    machine.controls[1].page.running = 1
    machine.interrupts.resume()
    assert vcpu.run(1_000_000).kind == ExitKind.IO
    vcpu.answer(0)
    assert vcpu.run(1_000_000).kind == ExitKind.IO
    machine.memory.ram.bytes[CODE + 1] = 0x22
    machine.memory.ram.bytes[CODE + 2] = 0x33
    vcpu.answer(0)
    assert vcpu.run(1_000_000).kind == ExitKind.IO
    assert vcpu.gpr[0] == 0x3322


def test_a_vcpu_gives_up_its_write_tags_before_it_runs_again(machine: SmpMachine) -> None:
    """The writer has the page in its micro TLB from before; outside run() it could not be asked."""
    writer = place(machine, 0, f"movl %ebx, {VICTIMS + 1}; inb $0x99, %al; movl %ecx, {VICTIMS + 1}; hlt")
    runner = place(machine, 1, f"1: movl ${VICTIMS}, %edx; call *%edx; inb $0x99, %al; jmp 1b", CODE + PAGE_SIZE)
    machine.memory.write(VICTIMS, bytes([0xB8, 0, 0, 0, 0, 0xC3]))
    machine.interrupts.resume()
    writer.gpr[3], writer.gpr[1] = 0x1100, 0x2200
    assert writer.run(1_000_000).kind == ExitKind.IO
    for expected in (0x1100, 0x1100):
        assert runner.run(1_000_000).kind == ExitKind.IO
        assert runner.gpr[0] & 0xFFFFFF00 == expected
        runner.answer(0)
    writer.answer(0)
    writer.run(SHORT_US)
    assert runner.run(1_000_000).kind == ExitKind.IO
    assert runner.gpr[0] & 0xFFFFFF00 == 0x2200


# ---- slots ----------------------------------------------------------------------------------------------------------


def test_all_vcpus_see_a_slot_that_was_changed_while_they_were_stopped(machine: SmpMachine) -> None:
    source = f"1: movl {VICTIMS}, %eax; movl %eax, {{to}}; jmp 1b"
    dev = machine.memory.allocate_dev(1)
    machine.memory.dev_view(dev, 1)[:4] = (0x52).to_bytes(4, "little")
    machine.memory.write(VICTIMS, (0x41).to_bytes(4, "little"))
    seen = [DATA, DATA + PAGE_SIZE]
    vcpus = [place(machine, n, source.replace("{to}", str(seen[n])), CODE + n * PAGE_SIZE) for n in range(2)]
    machine.interrupts.resume()

    def run_until_both_show(value: int) -> None:
        over = threading.Event()

        def run(vcpu: Vcpu) -> None:
            while not over.is_set():
                vcpu.run(100_000)

        threads = [threading.Thread(target=run, args=(vcpu,)) for vcpu in vcpus]
        for thread in threads:
            thread.start()
        wait_for(lambda: all(machine.memory.read(at, 4)[0] == value for at in seen))
        over.set()
        for vcpu in vcpus:
            vcpu.kick()
        for thread in threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()

    run_until_both_show(0x41)
    machine.memory.map_rom(VICTIMS // PAGE_SIZE, 1, dev)
    run_until_both_show(0x52)


def test_stamps_that_are_moved_from_outside_stay_within_the_machine(machine: SmpMachine) -> None:
    machine.memory.stamps[:] = 0xFFFFFFFF
    page = ffi.cast("struct machine *", ctypes.addressof(machine.memory.machine))
    lib.machine_bump(page, 250, 100)
    assert machine.memory.stamps[249] == 0xFFFFFFFF
    assert machine.memory.stamps[250:].tolist() == [0] * 6
    lib.machine_bump(page, 0, 1)
    assert machine.memory.stamps[:2].tolist() == [0, 0xFFFFFFFF]


# ---- halts and messages ---------------------------------------------------------------------------------------------


def test_a_vcpu_that_was_not_started_sleeps_its_quantum(machine: SmpMachine) -> None:
    vcpu = machine.vcpus[1]
    machine.interrupts.resume()
    before = machine.interrupts.now_ns
    exit_ = vcpu.run(SHORT_US)
    assert (exit_.kind, exit_.interruptible) == (ExitKind.HLT, False)
    assert machine.interrupts.now_ns - before >= SHORT_US * 1000
    assert (vcpu.activity, vcpu.stats.insns) == (Activity.WAIT_SIPI, 0)
    assert vcpu.is_halted_for_good


def test_a_halt_with_if_clear_sleeps_and_ends_by_nmi_from_another(machine: SmpMachine) -> None:
    sleeper = place(machine, 1, "hlt", CODE + PAGE_SIZE)
    sender = place(machine, 0, f"movl $0x1000000, {APIC_ICR_HIGH}; movl ${NMI | ASSERT}, {APIC_ICR}; cli; hlt")
    machine.interrupts.resume()
    before = machine.interrupts.now_ns
    exit_ = sleeper.run(SHORT_US)
    assert (exit_.kind, exit_.interruptible, sleeper.activity) == (ExitKind.HLT, False, Activity.HALTED)
    assert machine.interrupts.now_ns - before >= SHORT_US * 1000
    found: list[ExitKind] = []
    thread = threading.Thread(target=lambda: found.append(sleeper.run(LIMIT_S * 1_000_000).kind))
    thread.start()
    wait_for(lambda: bool(machine.controls[1].page.halted))
    lib.intr_set_apic_base(machine.interrupts.page, 1, sleeper.state.msr_apic_base)
    machine.interrupts.state.lapic[1].wait_sipi = 0
    sender.run(SHORT_US)
    thread.join(LIMIT_S)
    assert found == [ExitKind.SHUTDOWN]  # it woke, and has no table to find the handler in
    assert sleeper.state.nmi_blocked == 1


def test_nobody_halted_for_good_while_a_message_waits(machine: SmpMachine) -> None:
    place(machine, 0, f"movl $0x1000000, {APIC_ICR_HIGH}; movl ${INIT | ASSERT}, {APIC_ICR}; hlt")
    machine.interrupts.resume()
    for vcpu in machine.vcpus:
        vcpu.run(SHORT_US)
        assert vcpu.is_halted_for_good
    assert are_halted_for_good(machine.vcpus, machine.interrupts)
    place(machine, 0, f"movl $0x1000000, {APIC_ICR_HIGH}; movl ${STARTUP | ASSERT | 9}, {APIC_ICR}; hlt")
    machine.vcpus[0].run(SHORT_US)
    assert not are_halted_for_good(machine.vcpus, machine.interrupts)


def test_a_startup_message_starts_at_its_page(machine: SmpMachine) -> None:
    machine.memory.write(0x9000, assemble("inw $0x99, %ax", 16))
    sender = place(machine, 0, f"movl $0x1000000, {APIC_ICR_HIGH}; movl ${STARTUP | ASSERT | 9}, {APIC_ICR}; hlt")
    machine.interrupts.resume()
    sender.run(SHORT_US)
    started = machine.vcpus[1]
    assert started.run(1_000_000).kind == ExitKind.IO
    cs = started.segment("cs")
    assert (cs.selector, cs.base, started.state.eip) == (0x900, 0x9000, 0)


# ---- hosts ----------------------------------------------------------------------------------------------------------


def test_a_host_that_orders_stores_otherwise_gets_one_vcpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(HostRefused, match="expected 1 on a aarch64 host"):
        SmpMachine(2, ram_pages=16)
