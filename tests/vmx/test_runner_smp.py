"""Several vCPUs in one machine: who ends a run and how, what happens at rest, and that no way out hangs."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from hw.bus import PortBus
from ringfence.errors import HostRefused
from tests.vmx.machines import machine, run_source
from tests.vmx.programs import assemble
from tests.vmx.smp_programs import HALT, LOOP, exit_with, with_others
from vmm.vcpu import ExitKind, Vcpu
from vmx import runner
from vmx.dump import dump
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.stop import StopKind, StopReason

LIMIT_S = 120
HOOK = 0x300  # nobody's port
TWO, FOUR = MachineConfig(memory_mib=16, vcpus=2), MachineConfig(memory_mib=16, vcpus=4)
TRIPLE_FAULT = "lidt nothing - others + 0x8000\nint3\nnothing: .word 0\n.long 0\n"


def load(source: str, tmp_path: Path, made: Machine) -> None:
    path = assemble(".globl _start\n_start:\n" + source, tmp_path / "program")
    made.load(load_program(path, made.config.memory_mib << 20))
    made.limit_time(LIMIT_S)
    made.start()


def vcpu_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("vcpu")]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Hook:
    """A device whose register calls a function."""

    def __init__(self, written: Callable[[int], None]) -> None:
        self.written = written

    def port_read(self, offset: int, width: int) -> int:
        return 0

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.written(value)


def hook(made: Machine, written: Callable[[int], None]) -> None:
    bus: PortBus = made.board.ports
    bus.claim(HOOK, 1, Hook(written), name="hook")


@pytest.mark.parametrize("engine", ["interp", "world"])
def test_any_vcpu_can_end_the_run(tmp_path: Path, engine: str) -> None:
    with machine(MachineConfig(memory_mib=16, vcpus=4, engine=engine)) as made:
        stop = run_source(with_others(LOOP, f"cmp $3, %bx\njne 9f\n{exit_with(6)}"), tmp_path, made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 6)
    assert not vcpu_threads()


def test_a_triple_fault_of_another_vcpu_is_told_as_its_own(tmp_path: Path) -> None:
    with machine(TWO) as made:
        stop = run_source(with_others(LOOP, f"mov $0x1234, %si\n{TRIPLE_FAULT}"), tmp_path, made)
        assert stop.kind is StopKind.SHUTDOWN
        assert made.ended_by is made.vcpus[1]
        assert "ESI=00001234" in dump(made.ended_by, made.symbols)
    assert not vcpu_threads()


def test_vcpus_that_were_never_started_do_not_keep_a_halted_machine_on(tmp_path: Path) -> None:
    with machine(FOUR) as made:
        assert run_source(HALT, tmp_path, made).kind is StopKind.HALTED


def test_the_machine_halts_when_the_last_vcpu_has(tmp_path: Path) -> None:
    with machine(FOUR) as made:
        assert run_source(with_others(HALT, HALT, wait_for=3), tmp_path, made).kind is StopKind.HALTED


def test_a_halted_boot_processor_does_not_end_the_run_of_the_others(tmp_path: Path) -> None:
    late = "mov $40, %bx\n1: mov $0xffff, %cx\n2: in $0x61, %al\nloop 2b\ndec %bx\njnz 1b\n"  # some quanta
    with machine(TWO) as made:
        stop = run_source(with_others(HALT, late + exit_with(8)), tmp_path, made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 8)
        assert made.vcpu.stats.exits[ExitKind.HLT] > 0


def test_a_halted_vcpu_is_woken_by_init(tmp_path: Path) -> None:
    """The other halts for good; the boot processor starts it again, and it ends the run."""
    again = """
        2: cmpw $1, 0x9002
        jne 2b
        movl $0xc4500, 0xfee00300
        movl $0xc4608, 0xfee00300
    """
    others = f"cmp $1, %bx\njne 3f\nmovw $1, 0x9002\n4: cli\nhlt\njmp 4b\n3: {exit_with(9)}"
    with machine(TWO) as made:
        stop = run_source(with_others(again + LOOP, others), tmp_path, made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 9)


@pytest.mark.parametrize("defect", [AssertionError("broken"), MemoryError()])
def test_a_defect_on_another_vcpu_s_thread_ends_the_run(tmp_path: Path, defect: Exception) -> None:
    def fail(value: int) -> None:
        raise defect

    with machine(TWO) as made:
        hook(made, fail)
        with pytest.raises(type(defect)):
            run_source(with_others(LOOP, f"mov ${HOOK:#x}, %dx\nout %al, (%dx)\n{LOOP}"), tmp_path, made)
        assert made.ended_by is made.vcpus[1]
    assert not vcpu_threads()


def test_a_host_that_refuses_another_vcpu_s_access_fails_the_run(tmp_path: Path) -> None:
    def refuse(value: int) -> None:
        raise HostRefused("no more of it")

    with machine(TWO) as made:
        hook(made, refuse)
        stop = run_source(with_others(LOOP, f"mov ${HOOK:#x}, %dx\nout %al, (%dx)\n{LOOP}"), tmp_path, made)
        assert (stop.kind, stop.status, stop.text) == (StopKind.FAILED, 4, "no more of it")
    assert not vcpu_threads()


def test_what_is_done_at_rest_finds_no_vcpu_in_the_guest(tmp_path: Path) -> None:
    counts: list[tuple[int, ...]] = []

    def look() -> None:
        """Registers stand still: two looks see the same."""
        first = tuple(vcpu.state.r[0] for vcpu in made.vcpus)
        time.sleep(0.005)
        assert first == tuple(vcpu.state.r[0] for vcpu in made.vcpus)
        assert made.lock.locked() and all(processor.resting for processor in made.processors)
        counts.append(first)

    turns = count()

    def ask(made: Machine) -> None:
        if len(counts) == 20:
            made.stop(StopReason(StopKind.LEFT))
        elif next(turns) % 2:  # in between it runs for a while
            made.at_rest(look)

    with machine(FOUR) as made:
        load(with_others("1: inc %eax\njmp 1b", "1: inc %eax\njmp 1b", wait_for=3), tmp_path, made)
        assert runner.run(made, ask).kind is StopKind.LEFT
    assert len(set(counts)) > 10


@pytest.mark.parametrize("raised", [KeyboardInterrupt, AssertionError])
def test_an_exception_reaches_vcpus_that_wait_for_the_others_to_rest(
    tmp_path: Path, raised: type[BaseException]
) -> None:
    done: list[bool] = []

    def interrupt(made: Machine) -> None:
        if made.memory.read(0x9000, 1) == b"\3":
            made.at_rest(lambda: done.append(True))
            wait_until(lambda: all(processor.resting for processor in made.processors[1:]))
            raise raised

    with machine(FOUR) as made:
        load(with_others("1: in $0x60, %al\njmp 1b", LOOP, wait_for=3), tmp_path, made)
        with pytest.raises(raised):
            runner.run(made, interrupt)
        assert not vcpu_threads()
    assert not done


def test_a_machine_that_is_stopped_does_nothing_at_rest_any_more(tmp_path: Path) -> None:
    done: list[bool] = []
    with machine(TWO) as made:
        load(with_others(LOOP, LOOP), tmp_path, made)
        made.at_rest(lambda: done.append(True))
        made.stop(StopReason(StopKind.POWERED_OFF))
        assert runner.run(made).kind is StopKind.POWERED_OFF
    assert not done


def test_a_reset_that_the_guest_asked_for_comes_before_whatever_waits_for_rest(tmp_path: Path) -> None:
    """So that a suspended machine has had it, and does not wait for it for ever."""
    seen: list[int] = []

    def saved() -> None:
        seen.append(made.vcpu.state.r[3])
        made.stop(StopReason(StopKind.SUSPENDED))

    def both(value: int) -> None:
        made.at_rest(saved)
        made.reset_machine()

    with machine(TWO) as made:
        hook(made, both)
        load(f"mov $0x1234, %ebx\nmov ${HOOK:#x}, %edx\nout %al, (%dx)\n{LOOP}", tmp_path, made)
        entered_with = made.vcpu.state.r[3]
        assert runner.run(made).kind is StopKind.SUSPENDED
    assert seen == [entered_with] != [0x1234]


def test_resets_by_every_vcpu_at_once_end_in_one_machine(tmp_path: Path) -> None:
    """All write CF9 until the machine has been reset 20 times; then the boot processor ends the run."""
    resets: list[int] = []
    boot = "mov $0xcf9, %dx\nmov $6, %al\nout %al, (%dx)\n" + LOOP
    with machine(FOUR) as made:
        load(with_others(boot, boot, wait_for=3), tmp_path, made)
        reset_now = made.reset_now

        def counted() -> None:
            resets.append(1)
            made.memory.write(0x9000, bytes(2))
            if len(resets) >= 20:
                made.stop(StopReason(StopKind.LEFT))
            reset_now()
            assert [vcpu.state.activity for vcpu in made.vcpus[1:]] == [made.vcpus[1].state.activity] * 3

        made.reset_now = counted  # type: ignore[method-assign]
        assert runner.run(made).kind is StopKind.LEFT
    assert not vcpu_threads()


def test_the_map_changes_while_every_vcpu_runs(tmp_path: Path) -> None:
    """Two vCPUs switch C8000 between RAM and nothing, each holding the others out; a third one reads there."""
    switch = """
        mov $0x8000005c, %eax
        mov $0xcf8, %dx
        out %eax, (%dx)
        mov $200, %bp
    1:  mov $0xcfc, %dx
        mov $0x33, %al
        out %al, (%dx)
        mov $0, %al
        out %al, (%dx)
        dec %bp
        jnz 1b
        lock incw 0x9004
    2:  cmpw $2, 0x9004
        jne 2b
    """
    reader = f"cmp $3, %bx\njne 4f\n5: movw 0x9008, %ax\njmp 5b\n4: {switch}"
    with machine(FOUR) as made:
        source = with_others("3: mov 0xc8000, %eax\njmp 3b", reader + exit_with(4), wait_for=3)
        stop = run_source(source, tmp_path, made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 4)


def test_a_run_that_was_paused_goes_on_with_all_vcpus(tmp_path: Path) -> None:
    pause = StopReason(StopKind.DEBUG, text="pause")
    before = bytes(8)

    def pause_when_all_have_counted(made: Machine) -> None:
        now = made.memory.read(0x9010, 8)
        if all(now[place : place + 2] != before[place : place + 2] for place in (2, 4, 6)):
            made.pause(pause)

    with machine(FOUR) as made:
        others = "shl $1, %bx\n1: lock incw 0x9010(%bx)\njmp 1b"
        load(with_others("1: pause\njmp 1b", others, wait_for=3), tmp_path, made)
        for _ in range(3):
            assert runner.run(made, pause_when_all_have_counted) is pause
            assert not vcpu_threads() and all(processor.thread is None for processor in made.processors)
            made.pausing, before = None, made.memory.read(0x9010, 8)


def test_a_time_limit_ends_a_machine_that_sleeps(tmp_path: Path) -> None:
    with machine(FOUR) as made:
        load("sti\n1: hlt\njmp 1b", tmp_path, made)
        made.board.ports.write(0x21, 1, 0xFF)
        made.limit_time(0.05)
        assert runner.run(made).kind is StopKind.TIMED_OUT


def test_a_thread_that_the_host_does_not_give_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        if self.name == "vcpu3":
            raise RuntimeError("can't start new thread")
        start(self)

    with machine(FOUR) as made:
        load(LOOP, tmp_path, made)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(HostRefused, match="vCPU 3: the host gives no thread"):
            runner.run(made)
    assert not vcpu_threads()


def test_every_vcpu_s_state_is_a_section_of_its_own() -> None:
    with machine(FOUR) as made:
        addresses = [ctypes.addressof(vcpu.state) for vcpu in made.vcpus]
        assert len(set(addresses)) == 4
        assert isinstance(made.vcpus[3], Vcpu) and made.vcpus[3].state.activity != made.vcpu.state.activity
