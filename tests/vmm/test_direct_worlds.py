"""Worlds that run guest code directly: time and kicks, several of them, their end, another engine's turn.

None of these asserts how long something takes; a limit only tells a hang from a wait.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vmm.core.processor import DATA_SEL, TSS_LIMIT
from tests.vmm.outer_rings import (
    FULL,
    STACK_TOP,
    USER_CODE,
    USER_DATA,
    OuterRings,
    W,
    assemble_at,
    differences,
)  # fmt: skip
from tests.vmm.smp_machine import SmpMachine
from vmm._core import lib
from vmm.engines.world import World
from vmm.layout_spec import VcpuState
from vmm.memory import PAGE_SIZE
from vmm.vcpu import ERROR_REASONS, SEGMENT_NAMES, Exit, ExitKind

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

DONE = "\nint $0x90\n"
SPIN = "1: jmp 1b\n"
LIMIT_S = 60
HANG_S = 4
PAGE = PAGE_SIZE


@contextmanager
def kicked_when_it_hangs(p: OuterRings, seconds: float = HANG_S) -> Iterator[None]:
    timer = threading.Timer(seconds, p.vcpu.kick)
    timer.start()
    yield
    timer.cancel()
    timer.join()


def world_of(p: OuterRings) -> World:
    assert isinstance(p.vcpu.engine, World)
    return p.vcpu.engine


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# ---- time and kicks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ring", [1, 3])
def test_the_quantum_ends_an_endless_loop(ring: int) -> None:
    with OuterRings() as p, kicked_when_it_hangs(p, LIMIT_S):
        p.outer(ring)
        p.code(SPIN)
        assert {p.vcpu.run(quantum).kind for quantum in (3_000, 10_000, 1_000, 30_000)} == {ExitKind.QUANTUM}
        assert p.stays[ring] > 0 and p.vcpu.stats.direct_kicks > 0


def test_a_quantum_may_be_over_before_guest_code_is_reached() -> None:
    with OuterRings() as p:
        p.code(SPIN)
        for quantum in [*range(40), 60, 100]:
            with kicked_when_it_hangs(p):
                assert p.vcpu.run(quantum).kind == ExitKind.QUANTUM


def test_a_kick_interrupts_an_endless_loop() -> None:
    """Each kick by another thread ends one run, wherever it meets it."""
    count = 60
    with OuterRings() as p:
        p.code(SPIN)
        begun = threading.Semaphore(0)

        def kicker() -> None:
            for number in range(count):
                begun.acquire()
                time.sleep(number % 4 * 0.0005)
                p.vcpu.kick()

        thread = threading.Thread(target=kicker)
        thread.start()
        with kicked_when_it_hangs(p, LIMIT_S):
            for _ in range(count):
                begun.release()
                assert p.vcpu.run(600_000_000).kind == ExitKind.KICK
        thread.join()
        assert p.stays[3] > 0


PIC = """
    movb $0x11, %al; outb %al, $0x20; movb $0x20, %al; outb %al, $0x21; movb $4, %al; outb %al, $0x21
    movb $1, %al; outb %al, $0x21; movb %cl, %al; outb %al, $0x21
    {more}
    hlt
"""
END_OF_INTERRUPT = "pushl %eax\nmovb $0x20, %al\noutb %al, $0x20\npopl %eax\niret"
PIT_5_KHZ = "movb $0x34, %al; outb %al, $0x43; movb $239, %al; outb %al, $0x40; movb $0, %al; outb %al, $0x40"
TICKS = 0x6F000


def with_pic(p: OuterRings, mask: int, more: str = "") -> None:
    """Ring 0 sets up the first 8259A: vectors 20h and up. Ring 3 sees the page of TICKS."""
    where = p.handler(0x92, PIC.format(more=more))
    p.ring(0)
    p.v.eip, p.v.r[1] = where, mask
    p.resume()
    assert p.last is not None and p.last.kind == ExitKind.HLT
    p.outer(3)
    p.map(0x70000000, TICKS, FULL & ~W)


def test_an_interrupt_of_a_device_is_delivered() -> None:
    count = 20
    with OuterRings() as p:
        with_pic(p, 0xDF)
        p.handler(0x25, f"incl {TICKS:#x}\n" + END_OF_INTERRUPT)
        p.code(f"1: cmpl ${count}, 0x70000000\njb 1b" + DONE)
        line = p.interrupts.line(5)

        def device() -> None:
            for number in range(count):
                line.set_level(True)
                deadline = time.monotonic() + LIMIT_S
                while p.read32(TICKS) <= number and time.monotonic() < deadline:
                    time.sleep(0.0002)
                line.set_level(False)

        thread = threading.Thread(target=device)
        thread.start()
        with kicked_when_it_hangs(p, LIMIT_S):
            p.go()
        thread.join()
        event = p._event()
        assert event is not None and event.vector == 0x90
        assert p.read32(TICKS) == count
        assert p.stays[3] > 0


# Both units, over all registers that 32-bit code has.
FLOATS = f"""
    fninit
    movl ${USER_DATA}, %esi
    fldpi; fldl2e; fldln2; fldlg2; fld1; fldl2t; fld1
    movups (%esi), %xmm0; movups 16(%esi), %xmm1; movups 32(%esi), %xmm2; movups 48(%esi), %xmm7
    movl ${{count}}, %ecx
1:  fmul %st(3), %st; fadd %st(1), %st; fxch %st(5); fsub %st(6), %st; fprem
    mulps %xmm1, %xmm0; addps %xmm7, %xmm0; paddd %xmm2, %xmm7; pshufd $0x93, %xmm7, %xmm7; xorps %xmm7, %xmm2
    mulpd %xmm1, %xmm3; addpd %xmm0, %xmm4; movaps %xmm4, %xmm5; sqrtps %xmm5, %xmm6
    imull $69069, %eax; adcl %ecx, %eax; rorl $5, %eax
    loop 1b
"""


def test_all_state_is_kept_while_the_timer_interrupts() -> None:
    """A result of both floating-point units and the flags, with the 8254 at 5 kHz and without it."""
    seen = []
    for engine, mask in (("interp", 0xFF), ("direct-eager", 0xFE), ("direct", 0xFE)):
        with OuterRings(engine) as p:
            with_pic(p, mask, PIT_5_KHZ)
            p.handler(0x20, f"incl {TICKS:#x}\n" + END_OF_INTERRUPT)
            p.write(p.frame(USER_DATA), bytes(range(1, 65)))
            p.code(FLOATS.replace("{count}", "60000") + DONE)
            with kicked_when_it_hangs(p, LIMIT_S):
                event = p.go()
            assert event is not None and event.vector == 0x90
            if mask != 0xFF:
                assert p.read32(TICKS) > 0 and p.stays[3] > 0
            p.write32(TICKS, 0)
            p.write(0x1F000, bytes(0x1000))  # where the kernel's stack was used
            seen.append(p.snapshot())
    assert differences(seen[0], seen[1]) == []
    assert differences(seen[0], seen[2]) == []


CALL_NOW_AND_THEN = "testl $0xff, %ecx; jne 2f; int $0x80; 2: incl 128(%esi); decl %ecx; jnz 1b"


# ---- several ---------------------------------------------------------------------------------------------------------


class Crowd(SmpMachine):
    """Four vCPUs in ring 3 with the memory of one OuterRings, each with a stack, a TSS and EDX = its number."""

    def __init__(self, engine: str = "direct-eager", count: int = 4) -> None:
        super().__init__(count, 1024, engine)
        model = OuterRings("interp")
        model.close()
        self.model = model
        self.count = count

    def code(self, source: str, where: int = USER_CODE) -> None:
        self.model.write(OuterRings.frame(where), assemble_at(source, where))

    def begin(self) -> None:
        for number in range(self.count):
            self.model.write32(0x7000 + number * 0x80 + 4, 0x20000 - number * 0x400)
            self.model.write32(0x7000 + number * 0x80 + 8, DATA_SEL[0])
        self.memory.write(0, self.model.memory.read(0, 1024 * PAGE))
        for number, vcpu in enumerate(self.vcpus):
            ctypes.memmove(ctypes.addressof(vcpu.state), ctypes.addressof(self.model.v), ctypes.sizeof(VcpuState))
            state = vcpu.state
            state.vcpu_id, state.eip, state.r[2], state.r[4] = number, USER_CODE, number, STACK_TOP - number * PAGE - 64
            task = state.seg[SEGMENT_NAMES.index("tr")]
            task.base, task.limit = 0x7000 + number * 0x80, TSS_LIMIT
        self.interrupts.resume()

    def go(self) -> list[Exit | None]:
        """Each until its kernel halts. Who did not is kicked, and has no exit."""
        exits: list[Exit | None] = [None] * self.count
        ends = time.monotonic() + LIMIT_S

        def runner(number: int) -> None:
            while time.monotonic() < ends:
                exit_ = self.vcpus[number].run(100_000)
                if exit_.kind not in {ExitKind.QUANTUM, ExitKind.KICK}:
                    exits[number] = exit_
                    return

        threads = [threading.Thread(target=runner, args=(number,)) for number in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return exits

    def stays(self) -> list[int]:
        return [int(vcpu.stats.direct_stays[3]) for vcpu in self.vcpus]

    def word(self, linear: int) -> int:
        return int.from_bytes(self.memory.read(OuterRings.frame(linear), 4), "little")


@pytest.mark.parametrize("engine", ["direct-eager", "direct"])
def test_four_processors_count_together(engine: str) -> None:
    each = 60_000
    with Crowd(engine) as crowd:
        crowd.code(f"""
            movl $1, %eax
            lock xaddl %eax, {USER_DATA + 0x40}
        1:  cmpl $4, {USER_DATA + 0x40}
            jne 1b                                     # begin together
            movl ${each}, %ecx
        2:  lock incl {USER_DATA}
            movl $1, %eax; lock xaddl %eax, {USER_DATA + 4}
            lock addl %ecx, {USER_DATA + 8}
        3:  movl {USER_DATA + 12}, %eax
            leal 3(%eax), %ebx
            lock cmpxchgl %ebx, {USER_DATA + 12}
            jne 3b
            loop 2b
        """ + DONE)
        crowd.begin()
        exits = crowd.go()
        assert [exit_ and exit_.kind for exit_ in exits] == [ExitKind.HLT] * 4
        assert [crowd.word(USER_DATA + offset) for offset in (0, 4, 12)] == [4 * each, 4 * each, 12 * each]
        assert crowd.word(USER_DATA + 8) == 4 * (each * (each + 1) // 2) & 0xFFFFFFFF
        assert all(stays > 0 for stays in crowd.stays()), crowd.stays()


def test_four_processors_keep_each_other_out() -> None:
    """A lock by XCHG around a plain counter."""
    each = 3_000
    with Crowd() as crowd:
        crowd.code(f"""
            movl ${each}, %ecx
        1:  movl $1, %eax
            xchgl %eax, {USER_DATA}
            testl %eax, %eax
            je 2f
            pause
            jmp 1b
        2:  incl {USER_DATA + 64}
            movl $0, {USER_DATA}
            loop 1b
        """ + DONE)
        crowd.begin()
        exits = crowd.go()
        assert [exit_ and exit_.kind for exit_ in exits] == [ExitKind.HLT] * 4
        assert crowd.word(USER_DATA + 64) == 4 * each
        assert all(stays > 0 for stays in crowd.stays())


def test_code_that_another_processor_changes() -> None:
    """vCPU 0 counts up an immediate in code that the others run; each stops when it has seen the last value."""
    target, last = USER_CODE + PAGE, 200
    with Crowd() as crowd:
        crowd.model.map(USER_DATA + 0x20000, OuterRings.frame(target), FULL)
        crowd.code(f"""
            testl %edx, %edx
            jne 2f
            xorl %edi, %edi
        1:  incl %edi
            movl %edi, {USER_DATA + 0x20000 + 1}
            movl $400, %ecx
        4:  loop 4b
            cmpl ${last}, %edi
            jne 1b
            int $0x90
        2:  movl ${target}, %ebx
        3:  call *%ebx
            cmpl %esi, %eax
            jb 5f                                      # it never goes back
            movl %eax, %esi
            cmpl ${last}, %eax
            jne 3b
            int $0x90
        5:  ud2
        """)
        crowd.code("movl $0, %eax\nret", target)
        for register in (6, 7):
            crowd.model.v.r[register] = 0
        crowd.begin()
        exits = crowd.go()
        assert [exit_ and exit_.kind for exit_ in exits] == [ExitKind.HLT] * 4
        assert [vcpu.state.r[6] for vcpu in crowd.vcpus[1:]] == [last] * 3
        assert all(stays > 0 for stays in crowd.stays())


# ---- the end of a world ----------------------------------------------------------------------------------------------


def test_a_world_can_gain_nothing_any_more() -> None:
    with OuterRings() as p:
        p.go("movl $50, %ecx\n9: loop 9b" + DONE)
        status = Path(f"/proc/{world_of(p).process.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1")


# Code of 64 bits behind a far jump through the host's selector. The jump hides in the middle of an instruction, or
# the page would not have run directly.
ESCAPE = """
    movl $50, %ecx
9:  loop 9b
    movl $1f + 1, %eax
    jmp *%eax
1:  .byte 0xb8, 0xea
    .long 2f
    .byte 0x33, 0
    .org 0x100
2:  {code}
"""
# SYSCALL, then a loop, hidden the same way.
HIDDEN_CALL = "\nmovl $3f + 1, %ecx\njmp *%ecx\n3: .byte 0xb8, 0x0f, 0x05, 0xeb, 0xfe"
OPEN_ROOT = ".byte 0x6a, 0x2f\nmovl %esp, %edi\nxorl %esi, %esi\nmovl $2, %eax" + HIDDEN_CALL
GETPPID = "movl $110, %eax" + HIDDEN_CALL
EXECVE = "movl $59, %eax\nxorl %edi, %edi" + HIDDEN_CALL
READ_HOST = ".byte 0x48, 0xc7, 0xc0, 0, 0, 0, 0x80\n.byte 0x48, 0x8b, 0\njmp ."


@pytest.mark.parametrize(
    "code", ["jmp .", OPEN_ROOT, GETPPID, EXECVE, READ_HOST], ids=["loop", "open", "getppid", "execve", "kernel"]
)
def test_a_guest_that_reaches_64_bit_code_ends_its_own_machine_only(code: str) -> None:
    with OuterRings() as p, OuterRings() as other:
        pid = world_of(p).process.pid
        p.code(ESCAPE.format(code=code))
        with kicked_when_it_hangs(p, LIMIT_S):
            p.go()
        assert p.last is not None and p.last.kind == ExitKind.ERROR
        assert ERROR_REASONS[p.last.reason] in {"GUEST_ESCAPED", "WORLD_DIED"}
        other.go("movl $50, %ecx\n9: loop 9b" + DONE)
        assert other._event() is not None
    assert not exists(pid)


def held() -> tuple[int, int]:
    """Descriptors, and mappings of machines' memory: all of it is in memfds, and ends with these."""
    return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("/memfd:ringfence")


@pytest.mark.parametrize("ring", [0, 3])
def test_a_world_that_is_killed_is_an_exit_and_leaves_nothing(ring: int) -> None:
    with OuterRings():  # what is made once per process
        pass
    gc.collect()
    before = held()
    p = OuterRings()
    p.code(SPIN)
    if ring == 0:
        p.ring(0)
        p.v.eip = p.handler(0x91, SPIN)
    pid = world_of(p).process.pid
    timer = threading.Timer(0.1, os.kill, (pid, signal.SIGKILL))
    timer.start()
    p.resume()
    timer.join()
    assert p.last is not None and (p.last.kind, p.last.reason) == (ExitKind.ERROR, lib.ERR_WORLD_DIED)
    assert world_of(p).why() == "killed by signal 9 (Killed)"
    assert not exists(pid)
    assert p.vcpu.run(1000).kind == ExitKind.ERROR
    p.close()
    del p
    gc.collect()
    assert held() == before


def test_a_world_that_the_host_stops_for_a_while_goes_on() -> None:
    """All its processes, as a shell or a debugger stops them. One that is stopped has not ended."""
    with OuterRings() as p, kicked_when_it_hangs(p, LIMIT_S):
        p.code(SPIN)
        p.vcpu.run(3_000)
        pids = world_of(p)._processes()
        assert len(pids) > 1

        def stop() -> None:
            for which in (signal.SIGSTOP, signal.SIGCONT):
                for pid in pids:
                    os.kill(pid, which)
                time.sleep(0.05)

        timer = threading.Timer(0.1, stop)
        timer.start()
        assert p.vcpu.run(300_000).kind == ExitKind.QUANTUM
        timer.join()
        assert p.vcpu.run(3_000).kind == ExitKind.QUANTUM
        assert all(exists(pid) for pid in pids)


def test_one_world_of_four_is_killed() -> None:
    with Crowd() as crowd:
        crowd.code(f"1: lock incl {USER_DATA}\njmp 1b")
        crowd.begin()
        victim = crowd.vcpus[2].engine
        assert isinstance(victim, World)
        timer = threading.Timer(0.2, os.kill, (victim.process.pid, signal.SIGKILL))
        timer.start()
        ends: list[ExitKind] = []

        def runner(number: int) -> None:
            while True:
                kind = crowd.vcpus[number].run(100_000).kind
                if kind == ExitKind.ERROR or ends:
                    ends.append(kind)
                    return

        threads = [threading.Thread(target=runner, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        assert len(ends) == 4 and ends.count(ExitKind.ERROR) == 1


# ---- another engine's turn -------------------------------------------------------------------------------------------


def test_a_machine_may_change_its_engine_at_any_moment() -> None:
    """A long computation is cut into pieces, which interp, direct and world run in turn."""
    finals = []
    for engines in (["interp"], ["interp", "direct-eager", "world", "direct"]):
        p = OuterRings(engines[0])
        p.write(p.frame(USER_DATA), bytes(range(1, 65)))
        p.handler(0x80, "addl $7, 0x6f200\nmovl 0x6f200, %ebp\niret")
        p.code(FLOATS.replace("{count}", "60000").replace("loop 1b", CALL_NOW_AND_THEN) + DONE)
        turns = 0
        while True:
            exit_ = p.vcpu.run(300)
            if exit_.kind == ExitKind.HLT:
                break
            assert exit_.kind in {ExitKind.QUANTUM, ExitKind.KICK}
            turns += 1
            p.change_engine(engines[turns % len(engines)])
        p.close()
        assert turns > 4 or len(engines) == 1
        finals.append(p.snapshot())
    assert differences(*finals) == []

