"""The world engine: the interpreter in a process of its own, judged against the one in ours."""

from __future__ import annotations

import gc
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guests import builder
from ringfence.errors import EngineFailed
from tests.vmx.machines import CollectingSerial, run_source
from tests.vmx.programs import assemble
from vmm._core import ffi, lib
from vmm.engines.interp import ARENA_BYTES
from vmm.engines.world import World
from vmm.engines.world_process import WorldProcess
from vmx import runner
from vmx.attachments import Attachments
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.stop import STATUS_HOST_ERROR, StopKind, StopReason

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_S = 60

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="worlds are for x86-64 hosts")


@contextmanager
def machine(engine: str = "world", memory_mib: int = 16) -> Iterator[Machine]:
    made = Machine(MachineConfig(memory_mib=memory_mib, engine=engine), Attachments((CollectingSerial(),)))
    try:
        yield made
    finally:
        made.close()


def world_of(made: Machine) -> World:
    assert isinstance(made.vcpu.engine, World)
    return made.vcpu.engine


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


LARGE_PAGE = 2 << 20


def test_the_text_of_a_world_lies_where_one_large_page_may_hold_it() -> None:
    with machine() as made:
        maps = Path(f"/proc/{world_of(made).process.pid}/maps").read_text().splitlines()
        [(where, inode)] = [
            (fields[0], fields[4]) for line in maps if (fields := line.split())[1] == "r-xp" and fields[-1] != "[vdso]"
        ]
        start, end = (int(part, 16) for part in where.split("-"))
        assert (start % LARGE_PAGE, end - start) == (0, LARGE_PAGE)
        assert inode == "0", "memory of nobody's, not the file's"


def collapses() -> bool:
    """Does the host make large pages of shared memory when it is asked?"""
    setting = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    version = tuple(int(number) for number in platform.release().split(".")[:2])
    return version >= (6, 1) and setting.exists() and "[deny]" not in setting.read_text()


def arena_of(pid: int) -> tuple[int, dict[str, int]]:
    """Where a process has the arena, and what of it is there, in KiB, as the host says."""
    areas = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text(), flags=re.M)
    found = [area for area in areas if re.search(rf"^[^\n]* rw-s .*^Size: +{ARENA_BYTES >> 10} kB$", area, re.M | re.S)]
    assert len(found) == 1
    return int(found[0].split("-")[0], 16), {
        name: int(kib) for name, kib in re.findall(r"^(\w+): +(\d+) kB$", found[0], re.M)
    }


@pytest.mark.parametrize("engine", ["world", "direct"])
def test_the_arena_of_a_world_is_in_large_pages_as_far_as_it_is_used(engine: str) -> None:
    with machine(engine) as made:
        made.load(load_program(builder.build("compute"), 16 << 20), "quick")
        made.limit_time(LIMIT_S)
        made.start()
        assert runner.run(made) == StopReason(StopKind.EXITED, 0)
        start, kib = arena_of(world_of(made).process.pid)
    assert start % LARGE_PAGE == 0
    assert kib["Rss"] < 16 << 10, "a small guest uses little of it"
    if not collapses():
        pytest.skip("large pages of shared memory: Linux 6.1, and shmem_enabled other than deny")
    assert kib["ShmemPmdMapped"] > kib["Rss"] / 2


def outcome(guest: str, engine: str, command_line: str) -> tuple[str, StopReason]:
    """The guest's output without what it measured, and how it ended."""
    with machine(engine) as made:
        made.load(load_program(builder.build(guest), 16 << 20), command_line)
        made.limit_time(LIMIT_S)
        made.start()
        stop = runner.run(made)
        assert isinstance(made.attachments.serials[0], CollectingSerial)
        text = made.attachments.serials[0].output.decode()
    kept = [line for line in text.splitlines() if "per second" not in line]
    return "\n".join(re.sub(r"^(COMPUTE \w+ \w+).*", r"\1", line) for line in kept), stop


# ---- the same machine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("guest", "command_line"), [("hello", ""), ("rings", ""), ("compute", "quick")])
def test_a_guest_says_the_same_in_a_world(guest: str, command_line: str) -> None:
    text, stop = outcome(guest, "world", command_line)
    assert (text, stop) == outcome(guest, "interp", command_line)
    assert stop == StopReason(StopKind.EXITED, 0)
    assert "FAIL" not in text and len(text) > 20


def test_the_image_is_the_same_core() -> None:
    assert lib.world_image_size > 10000
    image = bytes(ffi.buffer(lib.world_image, lib.world_image_size))
    assert image[:4] == b"\x7fELF" and b"libc" not in image and b"ld-linux" not in image


def test_registers_and_devices_are_reached_from_a_world(tmp_path: Path) -> None:
    with machine() as made:
        stop = run_source(
            "movb $0x2a, %al\nmovw $0x402, %dx\noutb %al, %dx\nmovb $7, %al\noutb %al, $0xf4\n", tmp_path, made
        )
        assert (stop.kind, stop.status) == (StopKind.EXITED, 7)
        assert made.vcpu.gpr[lib.EDX] == 0x402


def test_a_world_keeps_nothing_of_ours_open(tmp_path: Path) -> None:
    with machine() as made:
        process = f"/proc/{world_of(made).process.pid}"
        assert os.listdir(f"{process}/fd") == []
        maps = Path(f"{process}/maps").read_text()
        assert "libc" not in maps and "python" not in maps and maps.count("memfd:ringfence") >= 6
        assert os.getsid(world_of(made).process.pid) != os.getsid(0)


# ---- kicks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["1: jmp 1b\n", "sti\n1: hlt\njmp 1b\n"], ids=["spinning", "halted"])
def test_a_kick_reaches_a_world(tmp_path: Path, source: str) -> None:
    with machine() as made:
        made.load(load_program(assemble(".globl _start\n_start:\n" + source, tmp_path / "p"), 16 << 20))
        made.start()
        made.vcpu.run(0)  # starting has kicked it
        kicks: list[float] = []

        def kick() -> None:
            time.sleep(0.1)
            kicks.append(time.monotonic())
            made.vcpu.kick()

        thread = threading.Thread(target=kick)
        thread.start()
        exit_ = made.vcpu.run(10_000_000)
        took = time.monotonic() - kicks[0]
        thread.join()
        assert exit_.kind.name == "KICK"
        assert took < 1


def test_the_quantum_ends_in_a_world(tmp_path: Path) -> None:
    with machine() as made:
        made.load(load_program(assemble(".globl _start\n_start: jmp _start\n", tmp_path / "p"), 16 << 20))
        made.start()
        made.vcpu.run(0)  # starting has kicked it
        assert [made.vcpu.run(1000).kind.name for _ in range(20)] == ["QUANTUM"] * 20
        assert made.vcpu.stats.insns > 10000


# ---- death -----------------------------------------------------------------------------------------------------------


def test_a_killed_world_is_an_exit(tmp_path: Path) -> None:
    with machine() as made:
        pid = world_of(made).process.pid
        threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
        stop = run_source("1: jmp 1b\n", tmp_path, made)
        assert stop.kind is StopKind.FAILED and stop.status == STATUS_HOST_ERROR
        assert stop.text == "WORLD_DIED: killed by signal 9 (Killed)"
        assert not exists(pid)
        assert made.vcpu.engine.translate(0) is None and not made.vcpu.engine.set_breakpoint(0, 1, 0)
        assert made.vcpu.run(1000).kind.name == "ERROR"


def start_spinning(tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    """A `ringfence run` of a guest that never ends, and its world's process id."""
    program = assemble(".globl _start\n_start: jmp _start\n", tmp_path / "spin")
    command = [sys.executable, "-m", "tools.ringfence", "run", str(program), "--engine", "world", "--serial", "none"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a background job ignores it
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task")
    for _ in range(LIMIT_S * 20):
        time.sleep(0.05)
        for task in children.glob("*/children"):
            if found := task.read_text().split():
                time.sleep(0.2)
                return process, int(found[0])
    raise AssertionError("no world came")


def test_the_command_reports_a_killed_world_in_one_line(tmp_path: Path) -> None:
    process, world = start_spinning(tmp_path)
    os.kill(world, signal.SIGKILL)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert errors == "ringfence: the engine cannot go on: WORLD_DIED: killed by signal 9 (Killed)\n"
    assert process.returncode == STATUS_HOST_ERROR


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_world_dies_with_its_vmx(tmp_path: Path, number: signal.Signals) -> None:
    process, world = start_spinning(tmp_path)
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert errors == ""
    deadline = time.monotonic() + 5
    while exists(world) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not exists(world)


def test_a_world_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    made: list[Machine] = []
    thread = threading.Thread(
        target=lambda: made.append(
            Machine(MachineConfig(memory_mib=4, engine="world"), Attachments((CollectingSerial(),)))
        )
    )
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert run_source("movb $3, %al\noutb %al, $0xf4\n", tmp_path, made[0]).status == 3
    made[0].close()


def test_nothing_is_left_behind() -> None:
    with machine(memory_mib=4):  # what is made once per process
        pass
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    pids = []
    for _ in range(5):
        with machine(memory_mib=4) as made:
            pids.append(world_of(made).process.pid)
    made.vcpu.engine.close()
    del made
    gc.collect()  # a mapping has a descriptor of its own for as long as somebody holds its bytes
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not any(exists(pid) for pid in pids)


def test_a_machine_that_is_dropped_takes_its_world_along() -> None:
    made = Machine(MachineConfig(memory_mib=4, engine="world"), Attachments((CollectingSerial(),)))
    process = world_of(made).process
    finalizer = world_of(made)._end
    made.close()
    assert process.ended == 0 and not finalizer.alive, "it left by itself"


def test_a_world_refuses_a_page_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    describe = World._describe

    def wrong(self: World, *arguments: object) -> None:
        describe(self, *arguments)  # type: ignore[arg-type]
        self._page.version += 1

    monkeypatch.setattr(World, "_describe", wrong)
    with pytest.raises(EngineFailed, match="could not start: it left with status 121"), machine():
        pass


def test_a_process_that_somebody_else_reaped_is_gone() -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = WorldProcess(child.pid)
    child.kill()
    child.wait()
    assert process.has_ended() and process.wait(1)
    process.end()
    process.end()
