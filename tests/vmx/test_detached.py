"""Machines in the background: the starter waits for the machine or for the line that says why there is none."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import HostRefused
from vmx.control_client import ask
from vmx.detached import StartFailed, last_line, ringfence_command, start_detached
from vmx.registry import Registry

# A process that does with a machine that is none what `ringfence run --detached` does with one.
MACHINE = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.vmx.fake_machine import FakeMachine, ListLog
from vmx.control_server import ControlServer
from vmx.detached import settle
from vmx.registry import Registry
folder, vmx = Path({folder!r}), Path({vmx!r})
registry = Registry(folder)
machine = FakeMachine()
ended = threading.Event()
machine._act = lambda *call: ended.set()
server = ControlServer(registry.socket_path(vmx), machine, ListLog())
server.start()
registration = registry.register("web", vmx)
print("a warning", file=sys.stderr)
settle()
print("x" * 100_000, file=sys.stderr, flush=True)
ended.wait(30)
server.close()
registration.close()
"""
ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path / "run")
    registry.prepare()
    yield registry
    for entry in registry.running():
        os.kill(entry.pid, signal.SIGKILL)


@pytest.fixture
def vmx(tmp_path: Path) -> Path:
    path = tmp_path / "m.vmx"
    path.write_text('config.version = "8"\n')
    return path


def script(text: str, registry: Registry, vmx: Path) -> list[str]:
    return [sys.executable, "-c", text.format(root=ROOT, folder=str(registry.directory), vmx=str(vmx))]


def test_a_machine_that_runs_is_on_its_own(registry: Registry, vmx: Path) -> None:
    entry = start_detached(script(MACHINE, registry, vmx), vmx, registry)
    assert ask(Path(entry.socket), "status")["name"] == "web"
    assert os.getsid(entry.pid) == entry.pid
    assert os.getsid(0) != entry.pid
    assert {os.readlink(f"/proc/{entry.pid}/fd/{fd}") for fd in range(3)} == {os.devnull}
    ask(Path(entry.socket), "stop", hard=True)
    deadline = time.monotonic() + 10
    while registry.running():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.waitpid(entry.pid, 0)


def test_a_machine_that_cannot_run_gives_its_line(registry: Registry, vmx: Path) -> None:
    text = "import sys; sys.stderr.write('noise\\nringfence: m.vmx:3: memsize: expected this\\n'); sys.exit(2)"
    with pytest.raises(StartFailed, match=r"^m\.vmx:3: memsize: expected this$") as failed:
        start_detached(script(text, registry, vmx), vmx, registry)
    assert failed.value.status == 2


def test_a_process_that_dies_without_a_word_is_said(registry: Registry, vmx: Path) -> None:
    with pytest.raises(StartFailed, match="ended with status -9"):
        start_detached(script("import os; os.kill(os.getpid(), 9)", registry, vmx), vmx, registry)


def test_a_process_that_hangs_is_ended(registry: Registry, vmx: Path) -> None:
    text = "import time, os; print(os.getpid(), file=open('pid', 'w'), flush=True); time.sleep(60)"
    with pytest.raises(HostRefused, match=r"was not running after 1 s"):
        start_detached(script(text, registry, vmx), vmx, registry, timeout_s=1)
    pid = (vmx.parent / "pid").read_text()
    assert not Path("/proc", pid.strip()).exists()


def test_a_command_that_is_not_there_is_refused(registry: Registry, vmx: Path) -> None:
    with pytest.raises(HostRefused, match="cannot start a process"):
        start_detached(["/nonexistent/python"], vmx, registry)


def test_the_command_takes_an_absolute_path(vmx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(vmx.parent)
    assert str(vmx) in ringfence_command(Path("m.vmx"))


@pytest.mark.parametrize(
    ("said", "line"), [(b"", ""), (b"\n \n", ""), (b"a\nringfence: b\n", "b"), (b"\xff", "\ufffd")]
)
def test_the_last_line_is_the_reason(said: bytes, line: str) -> None:
    assert last_line(said) == line
