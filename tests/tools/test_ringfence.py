"""The command as people use it: exit status, one line for each thing that is wrong, no traceback ever."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.tools.command import ringfence_here
from tests.vmx.programs import assemble, elf

RINGFENCE = [sys.executable, "-m", "tools.ringfence"]
SEABIOS = Path("/usr/share/seabios/bios.bin")


def ringfence(*arguments: str, text: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RINGFENCE, *arguments], input=text, capture_output=True, text=True, timeout=timeout, check=False
    )


def program(tmp_path: Path, source: str) -> str:
    return str(assemble(".globl _start\n_start:\n" + source, tmp_path / "program"))


def test_hello_passes() -> None:
    done = ringfence("run", "hello", "--timeout", "30")
    assert done.returncode == 0, done.stderr
    assert "Hello from ring 0" in done.stdout
    assert "FAIL" not in done.stdout
    assert not done.stderr


def test_statistics_go_to_stderr() -> None:
    done = ringfence("run", "hello", "--stats", "--timeout", "30")
    assert "ring transitions" in done.stderr
    assert "exits               IO" in done.stderr
    assert "MIPS" in done.stderr


def test_the_guests_status_is_ours(tmp_path: Path) -> None:
    assert ringfence("run", program(tmp_path, "mov $42, %al\nout %al, $0xf4\n1: jmp 1b")).returncode == 42


def test_a_time_limit_is_one_line_and_124(tmp_path: Path) -> None:
    done = ringfence("run", program(tmp_path, "1: jmp 1b"), "--timeout", "0.3")
    assert done.returncode == 124
    assert done.stderr == "ringfence: timed out after 0.3 s of host time\n"


def test_a_triple_fault_is_told_in_full(tmp_path: Path) -> None:
    done = ringfence("run", program(tmp_path, "call boom\nhlt\nboom: ud2"))
    assert done.returncode == 3
    for part in ("triple fault", "EIP=", "CR0=", "<boom>", "ud2", "back-trace"):
        assert part in done.stderr


def test_a_halt_for_good_is_said(tmp_path: Path) -> None:
    done = ringfence("run", program(tmp_path, "cli\nhlt"))
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "halted" in done.stderr


BAD = {
    "no such target": (["run", "no-such-guest"], "no such file or guest"),
    "not an ELF": (["run", "/etc/passwd"], "magic"),
    "64-bit": (["run", sys.executable], "32-bit"),
    "a folder": (["run", "/tmp"], "/tmp"),
    "engine": (["run", "hello", "--engine", "warp"], "--engine warp: expected one of"),
    "memory too small": (["run", "hello", "--mem", "1"], "--mem 1"),
    "memory too large": (["run", "hello", "--mem", "999999"], "--mem 999999"),
    "feature": (["run", "hello", "--cpu-features", "-warp"], "warp"),
    "serial": (["run", "hello", "--serial", "modem"], "--serial modem"),
    "serial file": (["run", "hello", "--serial", "file:/nonexistent/x"], "/nonexistent/x"),
    "trace": (["run", "hello", "--trace", "thoughts"], "--trace"),
    "timeout": (["run", "hello", "--timeout", "-1"], "--timeout"),
    "no timeout": (["run", "hello", "--timeout", "inf"], "at most"),
    "timeout that is no number": (["run", "hello", "--timeout", "nan"], "--timeout nan"),
    "timeout in words": (["run", "hello", "--timeout", "soon"], "expected a number of seconds, found 'soon'"),
    "memory in words": (["run", "hello", "--mem", "64M"], "expected a whole number of MiB, found '64M'"),
    "serial FIFO": (["run", "hello", "--serial", "file:{fifo}"], "cannot write"),
    "FIFO": (["run", "{fifo}"], "expected a regular file"),
    "command line": (["run", "hello", "--append", "x" * 20000], "--append"),
    "gdb": (["debug", "hello", "--gdb", "tcp:99999"], "--gdb tcp:99999: expected tcp:PORT or unix:PATH"),
    "abbreviation": (["run", "hello", "--ti", "5"], "--ti"),
    "firmware": (["run", "--bios", "/etc/passwd"], "64 KiB"),
    "nothing": (["run"], "TARGET"),
    "both": (["run", "hello", "--bios", "/etc/passwd"], "expected one of TARGET, --kernel and --bios"),
    "program and kernel": (["run", "hello", "--kernel", "x"], "found TARGET and --kernel"),
    "initrd alone": (["run", "hello", "--initrd", "/etc/passwd"], "--initrd: expected with --kernel only"),
    "nobody to tell": (["run", "--cdrom", "x.iso", "--append", "quiet"], "--append: expected with a TARGET"),
    "missing kernel": (["run", "--kernel", "/nonexistent/vmlinuz"], "expected a file with a kernel"),
    "truncated kernel": (["run", "--kernel", "{short}"], "setup header: expected at least"),
    "no kernel": (["run", "--kernel", "{zeros}"], "magic: expected a bzImage"),
    "truncated firmware": (["run", "--bios", "{short}"], "a multiple of 64 KiB"),
    "missing disc": (["run", "--bios", "{zeros}", "--cdrom", "/nonexistent/x.iso"], "--cdrom: /nonexistent/x.iso"),
    "empty disc": (["run", "hello", "--cdrom", "/dev/null"], "--cdrom: /dev/null: cannot open CD image"),
    "missing disk": (["run", "hello", "--disk", "/nonexistent/x.img"], "--disk: /nonexistent/x.img"),
    "odd disk": (["run", "hello", "--disk", "{short}"], "a multiple of 512 bytes"),
    "one disk twice": (["run", "hello", "--disk", "{big}", "--disk", "{big}"], "another machine has it open"),
    "three disks": (["run", "hello", *["--disk", "{big}"] * 3], "--disk: expected at most 2, found 3"),
    "no processor": (["run", "hello", "--vcpus", "0"], "--vcpus 0: expected 1 to 4"),
    "five processors": (["run", "hello", "--vcpus", "5"], "--vcpus 5: expected 1 to 4"),
    "processors in words": (["run", "hello", "--vcpus", "two"], "expected a number of processors, found 'two'"),
    "several under gdb": (["debug", "hello", "--vcpus", "2"], "--vcpus 2: expected 1 under the debugger"),
    "terminal twice": (["run", "hello", "--serial2", "stdio"], "stdio: expected it on one serial port only"),
    "second serial": (["run", "hello", "--serial2", "tcp:nowhere"], "--serial2 tcp:nowhere: expected tcp:HOST:PORT"),
    "printer": (["run", "hello", "--parallel", "stdio"], "--parallel stdio: expected"),
    "printer's file": (["run", "hello", "--parallel", "file:/nonexistent/x"], "/nonexistent/x"),
    "screen": (["run", "hello", "--vnc", "everywhere"], "expected PORT, HOST:PORT or unix:PATH"),
    "open screen": (["run", "hello", "--vnc", "0.0.0.0:0"], "expected a password"),
    "background": (["run", "hello", "--detached"], "--detached: expected with a .vmx file only"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case: str, tmp_path: Path) -> None:
    arguments, message = BAD[case]
    os.mkfifo(tmp_path / "fifo")
    for name, length in (("short", 600), ("zeros", 0x10000), ("big", 1 << 20)):
        (tmp_path / name).write_bytes(bytes(length))
    done = ringfence_here(*(re.sub(r"{(\w+)}", lambda name: str(tmp_path / name[1]), word) for word in arguments))
    assert done.returncode == 2
    assert done.stderr.startswith("ringfence: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not done.stdout


def test_damaged_programs_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p"
    for content in (b"", elf(bits=2), elf(machine=40), elf(filesz=9999, memsz=9999), elf(paddr=0xFFFFF000)):
        path.write_bytes(content)
        done = ringfence("run", str(path))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert str(path) in done.stderr


@pytest.mark.parametrize("arguments", [["--bogus"], ["run", "hello", "--mem", "lots"], ["fly"]])
def test_options_that_do_not_parse_are_one_line_and_status_2(arguments: list[str]) -> None:
    done = ringfence(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_feature_list_may_begin_with_a_dash() -> None:
    assert ringfence("run", "hello", "--cpu-features", "-sse2,-pae").returncode == 0


def test_guests_are_listed_one_a_line_and_as_json() -> None:
    lines = ringfence("guests").stdout.splitlines()
    rows = json.loads(ringfence("guests", "--json").stdout)
    assert [line.split()[0] for line in lines] == [row["name"] for row in rows]
    assert "hello" in {row["name"] for row in rows}


def test_output_can_go_to_a_file(tmp_path: Path) -> None:
    done = ringfence("run", "hello", "--serial", f"file:{tmp_path / 'log'}")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Hello from ring 0" in (tmp_path / "log").read_text()


def test_traces_carry_symbols() -> None:
    done = ringfence("run", "hello", "--trace", "io")
    assert "out port 03f8 <- 48" in done.stderr
    assert "<" in done.stderr.splitlines()[0]


def test_a_closed_pipe_ends_the_run_quietly() -> None:
    command = " ".join(RINGFENCE) + " run hello --timeout 30 | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not SEABIOS.exists(), reason="needs the package seabios")
def test_seabios_prints_its_banner_on_the_debug_port() -> None:
    command = [*RINGFENCE, "run", "--bios", str(SEABIOS), "--timeout", "60", "--serial", "none"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        try:
            assert any("SeaBIOS (version" in line for line in child.stderr)
        finally:
            child.terminate()


def test_ctrl_a_x_leaves_and_the_terminal_is_as_before(tmp_path: Path) -> None:
    path = program(tmp_path, "mov $0x3f8, %dx\nmov $'!', %al\nout %al, (%dx)\n1: jmp 1b")
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    child = subprocess.Popen(
        [*RINGFENCE, "run", path], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: take_terminal(slave),  # noqa: PLW1509
    )  # fmt: skip
    assert read_until(master, b"!")
    os.write(master, b"\x01h\x01x")
    deadline = time.monotonic() + 20
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child.wait(timeout=1) == 0
    assert read_until(master, b"Ctrl-A X")
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("way", ["SIGTERM", "SIGHUP", "triple fault", "halt"])
def test_the_terminal_is_as_before_however_a_run_ends(tmp_path: Path, way: str) -> None:
    end = "ud2" if way == "triple fault" else "cli\nhlt"
    wait = "2: mov $0x3fd, %dx\nin (%dx), %al\ntest $1, %al\njz 2b\n"
    listen = "mov $0x3fc, %dx\nmov $3, %al\nout %al, (%dx)\n"
    say = "mov $0x3f8, %dx\nmov $'!', %al\nout %al, (%dx)\n"
    path = program(tmp_path, listen + say + wait + end)
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    child = subprocess.Popen(
        [*RINGFENCE, "run", path, "--vcpus", "2"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: take_terminal(slave),  # noqa: PLW1509
    )  # fmt: skip
    assert read_until(master, b"!")
    assert termios.tcgetattr(slave) != before, "raw while it runs"
    if way.startswith("SIG"):
        child.send_signal(signal.Signals[way])
    else:
        os.write(master, b"x")
    assert child.wait(timeout=60) == {"triple fault": 3, "halt": 0}.get(way, -getattr(signal, way, 0))
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def read_until(fd: int, text: bytes, seconds: float = 20) -> bool:
    seen = b""
    deadline = time.monotonic() + seconds
    while text not in seen and time.monotonic() < deadline:
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 1000)
    return text in seen


def take_terminal(fd: int) -> None:
    """In the child: make the pseudo-terminal the controlling one."""
    import fcntl

    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
