"""A real gdb drives guests through `ringfence debug`, as a person would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from guests import builder

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_S = 90
GDB = shutil.which("gdb")
SETTINGS = ("set pagination off", "set confirm off", "set width 0", "set tcp connect-timeout 20")


@pytest.fixture(autouse=True)
def _needs_gdb() -> None:
    if GDB is None:
        if os.environ.get("CI"):
            pytest.fail("gdb is not installed")
        pytest.skip("gdb is not installed")


@dataclass
class Debugged:
    """A `ringfence debug` that waits for gdb."""

    process: subprocess.Popen[str]
    program: Path
    where: str
    output: Path

    def gdb(self, *commands: str, interrupt_at: Sequence[str] = ()) -> str:
        """gdb's output. For each line of `interrupt_at` that it prints, ^C follows half a second later."""
        arguments = [GDB or "gdb", "-nx", "-batch", str(self.program)]
        for command in (*SETTINGS, f"target remote {self.where}", *commands):
            arguments += ["-ex", command]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as gdb:
            assert gdb.stdout is not None
            text, waiting = "", list(interrupt_at)
            for line in gdb.stdout:
                text += line
                if waiting and waiting[0] in line:
                    del waiting[0]
                    time.sleep(0.5)
                    gdb.send_signal(signal.SIGINT)
        return text

    def status(self) -> int:
        return self.process.wait(LIMIT_S)


def start(guest: str, tmp_path: Path, engine: str, *options: str) -> Debugged:
    program = builder.build(guest)
    socket, output = tmp_path / "gdb", tmp_path / "serial"
    command = [sys.executable, "-m", "tools.ringfence", "debug", str(program), "--wait", "--engine", engine]
    command += ["--gdb", f"unix:{socket}", "--serial", f"file:{output}", "--timeout", str(LIMIT_S), *options]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line == f"for gdb {program}:  target remote {socket}\n"
    return Debugged(process, program, str(socket), output)


@pytest.fixture(params=["interp", "world"])
def rings(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Debugged]:
    debugged = start("rings", tmp_path, str(request.param))
    yield debugged
    stop(debugged)


def stop(debugged: Debugged) -> None:
    debugged.process.kill()
    debugged.process.communicate()


def test_rings_are_walked_in_the_debugger(rings: Debugged) -> None:
    text = rings.gdb(
        "break guest_main", "continue", "printf \"CPL %d\\n\", $cs & 3", "stepi", "next", "backtrace",
        "break introduce", "continue", "printf \"CPL %d\\n\", $cs & 3", "continue", "printf \"CPL %d\\n\", $cs & 3",
        "continue", "printf \"CPL %d\\n\", $cs & 3", "p $cpl", "p $cr0", "x/2i $pc", "info registers eflags ss",
        "delete", "continue",
    )  # fmt: skip
    assert re.findall(r"^CPL (\d)$", text, re.M) == ["0", "1", "2", "3"]
    assert re.search(r"^#1 .* guest_start", text, re.M) and re.search(r"^#2 .* _start", text, re.M)
    assert re.search(r"^\$1 = 3$", text, re.M) and re.search(r"= \[ PE .*\]", text)
    assert "[Inferior 1 (Remote target) exited normally]" in text
    assert rings.status() == 0
    assert "DONE" in rings.output.read_text() and "0 failed" in rings.output.read_text()


def test_variables_are_watched_and_changed(rings: Debugged) -> None:
    text = rings.gdb(
        "break innermost", "continue", "printf \"CPL %d\\n\", $cs & 3", "p/x value", "watch rings_count", "delete 1",
        "continue", "continue", "delete", "p rings_count", "set var rings_seen[7] = 0x55", "p/x rings_seen[7]",
        "p $eax = 0x1234", "p/x $eax", "x/4xb 0xf0000000", "continue",
    )  # fmt: skip
    assert "CPL 0" in text and "$1 = 0x1234" in text
    assert re.findall(r"^(?:Old|New) value = (\d)$", text, re.M) == ["3", "4", "4", "5"]
    assert "$2 = 5" in text and "$3 = 0x55" in text and "= 0x1234" in text
    assert "Cannot access memory at address 0xf0000000" in text
    assert "exited" in text


def test_a_hardware_breakpoint_and_a_finished_function(rings: Debugged) -> None:
    text = rings.gdb("hbreak open_gates", "hbreak walk_rings", "thbreak check_ports", "continue", "finish", "kill")
    assert "hw breakpoint" in text.lower() or "Hardware assisted breakpoint" in text
    assert "check_ports" in text or "walk_rings" in text
    assert rings.status() == 0


def test_monitor_commands_and_a_reset(rings: Debugged) -> None:
    text = rings.gdb(
        "monitor help", "break check_ports", "continue", "monitor info gdt", "monitor info idt", "monitor info tss",
        "monitor info pic", "monitor info devices", "monitor info registers", "monitor reset",
        "maintenance flush register-cache", "info line *$pc", "continue", "delete", "continue",
    )  # fmt: skip
    assert "monitor info gdt" in text and "interrupt gate 32" in text and "TSS32 busy" in text and "uart0:" in text
    assert re.search(r"starts at address \S+ <_start>", text)
    assert text.count("Breakpoint 1, check_ports") == 2
    assert "exited normally" in text
    assert rings.status() == 0


def test_a_detached_guest_runs_on_and_a_second_gdb_may_come(rings: Debugged) -> None:
    assert "detached]" in rings.gdb("break guest_main", "continue", "detach")
    assert rings.status() == 0
    assert "0 failed" in rings.output.read_text()


@pytest.mark.parametrize("engine", ["interp", "world"])
def test_a_running_minios_is_interrupted(tmp_path: Path, engine: str) -> None:
    """It waits for input for ever, with a timer ticking."""
    debugged = start("minios", tmp_path, engine)
    text = debugged.gdb(
        "break shell", "continue", "delete", "continue", "printf \"CPL %d\\n\", $cs & 3", "next", "stepi",
        "monitor info mem", "monitor info pte 100000", "p $cr3", "continue", "backtrace 1", "kill",
        interrupt_at=("shell", "received signal"),
    )  # fmt: skip
    stop(debugged)
    assert text.count("Program received signal SIGINT") == 2, text
    assert re.search(r"^CPL [03]$", text, re.M)
    assert re.search(r"^[0-9a-f]{8}-[0-9a-f]{8} .* .r[w-]x", text, re.M), "its address space"
    assert re.search(r"^00100000 -> 000100000$", text, re.M)


def test_a_place_that_is_taken_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gdb").touch()
    command = [sys.executable, "-m", "tools.ringfence", "debug", "hello", "--gdb", f"unix:{tmp_path}/gdb"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"ringfence: --gdb unix:{tmp_path}/gdb: cannot listen: Address already in use\n"
