"""A world's system-call filter: each call that it must refuse ends the process, each one that it allows works.

filter_calls.c includes the filter and makes one call. Without the filter the same call comes back, so it is the filter
that ended it; and what allows a call also lets it do its work.
"""

from __future__ import annotations

import platform
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path(__file__).with_name("filter_calls.c")
CAME_BACK = 7
LIMIT_S = 120
FUTEX, RESTART_SYSCALL = 202, 219

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is for x86-64 hosts")


def cases(table: str) -> list[str]:
    """The names in a table of the program: `name[] = { { "case", ...`."""
    text = PROGRAM.read_text().split(f"{table}[] = {{", 1)[1].split("\n\t};" if table != "allowed" else "\n};", 1)[0]
    return re.findall(r'\{ "([^"]+)",', text)


ALLOWED = [name for name in cases("allowed") if name != "wait"]
DENIED = cases("const struct denied calls")
INT80 = cases("uint32_t number; } calls")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("filter") / "filter_calls"
    command = ["gcc", "-std=gnu11", "-O1", "-fPIE", "-pie", "-Wall", "-Wextra", "-Werror", "-I", str(ROOT / "vmm/core")]
    subprocess.run([*command, "-o", built, PROGRAM], check=True)
    return built


def status(program: Path, *words: str) -> int:
    return subprocess.run([program, *words], check=False, timeout=LIMIT_S).returncode


def test_the_tables_are_read() -> None:
    assert len(ALLOWED) > 10 and len(DENIED) > 60 and len(INT80) > 8
    for name in ("open", "openat", "socket", "ptrace", "execve", "execveat", "kill", "tgkill", "fork", "clone"):
        assert name in DENIED


@pytest.mark.parametrize("case", ALLOWED)
def test_what_direct_execution_needs_works(program: Path, case: str) -> None:
    assert status(program, case, "without") == 0
    assert status(program, case) == 0


@pytest.mark.parametrize("case", DENIED)
def test_anything_else_ends_the_process(program: Path, case: str) -> None:
    assert status(program, case, "without") == CAME_BACK
    assert status(program, case) == -signal.SIGSYS


@pytest.mark.parametrize("case", INT80)
def test_32_bit_calls_end_the_process_whatever_their_number(program: Path, case: str) -> None:
    without = status(program, case, "without")
    if without == -signal.SIGSEGV:
        pytest.skip("this host has no int 0x80")
    assert without == CAME_BACK
    assert status(program, case) == -signal.SIGSYS


def test_a_waiting_process_may_be_stopped_and_goes_on(program: Path) -> None:
    """The kernel resumes a wait with a limit by restart_syscall."""
    with subprocess.Popen([program, "wait"]) as process:
        try:
            wait_for_call(process, FUTEX)
            process.send_signal(signal.SIGSTOP)
            wait_for_state(process, "T")
            process.send_signal(signal.SIGCONT)
            wait_for_call(process, RESTART_SYSCALL)
            assert process.poll() is None
        finally:
            process.kill()


def wait_for_call(process: subprocess.Popen[bytes], number: int) -> None:
    """Until it sleeps in this system call."""
    wait(process, lambda: Path(f"/proc/{process.pid}/syscall").read_text().split()[0] == str(number))


def wait_for_state(process: subprocess.Popen[bytes], letter: str) -> None:
    wait(process, lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == letter)


def wait(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < end
        time.sleep(0.005)
