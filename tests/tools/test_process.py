"""The process as shells and service managers treat it: streams closed or full, signals, little memory, odd names."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vmx.programs import assemble

RINGFENCE = [sys.executable, "-m", "tools.ringfence"]
ENDLESS = ".globl _start\n_start: mov $0x3f8, %dx\nmov $'!', %al\nout %al, (%dx)\n1: jmp 1b"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """`line` by sh, with R for the command."""
    command = f"R() {{ exec {' '.join(RINGFENCE)} \"$@\"; }}\n{line}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


@contextmanager
def running(tmp_path: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command with a program that never ends, from when its socket is there."""
    path, place = assemble(ENDLESS, tmp_path / "program"), tmp_path / "socket"
    command = [*RINGFENCE, "run", str(path), "--serial", f"unix:{place}", *options]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=attend_signals,  # noqa: PLW1509
    ) as child:  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while not place.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert place.exists()
            yield child
        finally:
            child.kill()


def attend_signals() -> None:
    """In the child: the tests may run under nohup, or as a shell's background job, which ignores SIGINT."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_good_as_dev_null(closed: str) -> None:
    done = shell(f"R run hello --stats {closed}")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert ("Hello" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.parametrize("line", ["run hello", "guests", "--help"])
def test_output_that_the_host_does_not_take_is_an_error(line: str) -> None:
    done = shell(f"R {line} >/dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "No space left" in done.stderr


def test_serial_output_to_a_full_disk_is_an_error() -> None:
    done = shell("R run hello --serial file:/dev/full")
    assert (done.returncode, done.stderr) == (
        2, "ringfence: --serial file:/dev/full: output was lost: No space left on device\n",
    )  # fmt: skip


def test_a_full_stderr_makes_no_noise() -> None:
    done = shell("R run hello --trace all 2>/dev/full")
    assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.parametrize("line", ["--help", "run --help", "guests --json"])
def test_a_reader_that_goes_away_needs_no_telling(line: str) -> None:
    assert shell(f"R {line} | true").stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("engine", ["interp", "world"])
def test_a_signal_ends_it_with_nothing_left(tmp_path: Path, number: signal.Signals, engine: str) -> None:
    with running(tmp_path, "--engine", engine) as child:
        child.send_signal(number)
        assert child.wait(timeout=20) == -number
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert not (tmp_path / "socket").exists()


@pytest.mark.parametrize("vcpus", ["1", "4"])
def test_an_interrupt_is_status_130(tmp_path: Path, vcpus: str) -> None:
    with running(tmp_path, "--vcpus", vcpus) as child:
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=20) == 130
    assert not (tmp_path / "socket").exists()


def test_a_hangup_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    path = assemble(ENDLESS, tmp_path / "program")
    done = shell(f"trap '' HUP\n(sleep 0.5; kill -HUP $$) &\nR run {path} --serial none --timeout 1.5")
    assert done.returncode == 124


def test_a_socket_that_a_killed_run_left_is_taken_over(tmp_path: Path) -> None:
    with running(tmp_path) as child:
        child.kill()
        child.wait(timeout=20)
    assert (tmp_path / "socket").exists()
    done = shell(f"R run hello --serial unix:{tmp_path / 'socket'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "socket").exists()


def test_a_time_limit_holds_though_nobody_reads_the_output(tmp_path: Path) -> None:
    path = assemble(".globl _start\n_start: mov $0x3f8, %dx\n1: out %al, (%dx)\njmp 1b", tmp_path / "program")
    with subprocess.Popen([*RINGFENCE, "run", str(path), "--timeout", "1"], stdout=subprocess.PIPE) as child:
        assert child.wait(timeout=30) == 124


def limited(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (resource.RLIMIT_AS, 60 << 20),  # too little for numpy
        (resource.RLIMIT_AS, 400 << 20),  # too little for the guest
        (resource.RLIMIT_FSIZE, 4 << 20),
        (resource.RLIMIT_NOFILE, 12),
    ],
)
def test_a_host_that_gives_too_little_is_one_line(kind: int, value: int) -> None:
    done = subprocess.run(
        [*RINGFENCE, "run", "hello", "--mem", "1024"], capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=limited(kind, value),
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_names_that_no_file_can_have() -> None:
    for target in ("", "x" * 5000, "a\nb", b"\xff\xfe/x"):
        done = subprocess.run([*RINGFENCE, "run", target], capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1), done.stderr
        assert b"no such file or guest" in done.stderr


def test_the_command_line_is_bytes(tmp_path: Path) -> None:
    """A program finds what was typed, whatever encoding that is in."""
    source = """
        .globl _start
        .long 0x1badb002, 0, -0x1badb002
        _start: mov 16(%ebx), %esi
        mov $0x3f8, %dx
        1: lodsb
        test %al, %al
        jz 2f
        out %al, (%dx)
        jmp 1b
        2: out %al, $0xf4
        """
    path = assemble(source, tmp_path / "p")
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for env in (os.environ, environment):
        command = [*RINGFENCE, "run", str(path), "--append", b"\xff\xfe\xc3\xa4"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=env)
        assert (done.returncode, done.stdout) == (0, b"p \xff\xfe\xc3\xa4"), done.stderr
