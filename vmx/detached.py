"""A machine that runs in the background: how it is started, and how its process leaves the starter's terminal.

The starter runs the command in a session of its own with standard error on a pipe. The machine's process calls
`settle` when the machine runs and its control socket answers: that closes the pipe, and so tells the starter. A process
that ends before that has left its one line in the pipe.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from ringfence.errors import HostRefused, RingfenceError
from vmkernel.storage.place import Place, elsewhere
from vmx.control_client import QUICK_TIMEOUT_S, ask
from vmx.registry import Entry, Registry

START_S = 60.0
END_S = 5.0  # between closing its files and being gone
SAID_BYTES_MAX = 16 << 10
READ_BYTES = 4096
SOURCES = Path(__file__).resolve().parent.parent  # where the packages are, also for a tree that is not installed


class StartFailed(RingfenceError):
    """The machine's process ended instead of running; the text is its own line. `status` is its exit status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def ringfence_command(vmx: Place, *options: str) -> list[str]:
    """What runs a machine as the process that `start_detached` waits for."""
    return [sys.executable, "-m", "tools.ringfence", "run", str(vmx.absolute()), "--in-background", *options]


def start_detached(command: Sequence[str], vmx: Place, registry: Registry, timeout_s: float = START_S) -> Entry:
    """Run `command` in the background until it has settled; the entry of the machine that now runs.

    Raises StartFailed with the line that the process printed, and HostRefused when it neither runs nor ends in time:
    it is ended then.
    """
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(SOURCES), *filter(None, [environment.get("PYTHONPATH")])])
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
            cwd=folder_of(vmx), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise HostRefused(f"{vmx}: cannot start a process: {error.strerror}") from error
    assert child.stderr is not None
    with child.stderr:
        said, closed = read_until_closed(child.stderr.fileno(), timeout_s)
    entry = registry.running_at(vmx) if closed else None
    if entry is not None and entry.pid == child.pid:
        ask(Path(entry.socket), "status", QUICK_TIMEOUT_S)
        child.returncode = 0  # it is on its own now, and nobody's to wait for
        return entry
    try:
        status = child.wait(END_S if closed else 0)
    except subprocess.TimeoutExpired:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_S)
        if child.poll() is None:
            child.kill()
            child.wait()
        raise HostRefused(f"{vmx}: the machine was not running after {timeout_s:g} s, and was ended") from None
    raise StartFailed(last_line(said) or f"{vmx}: the machine's process ended with status {status}", status)


def folder_of(vmx: Place) -> Path | None:
    """Where the machine's process runs; None, where its folder is none of the host."""
    return None if elsewhere(vmx) is not None else cast(Path, vmx).absolute().parent


def read_until_closed(fd: int, timeout_s: float) -> tuple[bytes, bool]:
    """What is said on a pipe, its end where it is long, and whether it was closed in time."""
    said = b""
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(fd, READ_BYTES)
            if not data:
                return said, True
            said = (said + data)[-SAID_BYTES_MAX:]
    return said, False


def last_line(said: bytes) -> str:
    """The process's own line, without the name that it put before it."""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("ringfence: ") if lines else ""


def settle() -> None:
    """In the machine's process: it runs. Standard input, output and error go to nowhere from here on."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
