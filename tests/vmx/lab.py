"""A machine in a .vmx file, driven by the command as people drive it, with the toy firmware in it.

Its runtime and state directories are in the test's folder; everything waits for what is to happen, up to LIMIT_S.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tools.command import ringfence_here
from tests.vmx import toy_firmware

RINGFENCE = [sys.executable, "-m", "tools.ringfence"]
LIMIT_S = 120
LOOK_S = 0.01
DISC_BLOCKS = 20


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(LOOK_S)


def make_disc(path: Path, text: str) -> Path:
    """A disc that begins with these characters."""
    path.write_bytes(text.encode().ljust(DISC_BLOCKS * 2048, b"\0"))
    return path


class Lab:
    """A folder with `lab.vmx`, and what is done with it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.vmx = folder / "lab.vmx"
        self.runtime, self.states = folder / "run", folder / "state"
        for made in (self.runtime, self.states):
            made.mkdir(mode=0o700)
        toy_firmware.make(folder / "toy.bin")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(self.runtime))
        monkeypatch.setenv("XDG_STATE_HOME", str(self.states))
        self.children: list[subprocess.Popen[str]] = []
        self.talks: list[Talk] = []
        self.describe()

    def describe(self, **changed: str) -> None:
        """Write the .vmx file; `serial0_fileType` is serial0.fileType, and an empty value leaves a key out."""
        keys = {
            "config.version": "8", "virtualHW.version": "4", "displayName": "lab", "memsize": "16",
            "bios440.filename": "toy.bin", "serial0.present": "TRUE", "serial0.fileType": "pipe",
            "serial0.fileName": "com1", "ide1:0.present": "TRUE", "ide1:0.deviceType": "cdrom-image",
        }  # fmt: skip
        keys |= {name.replace("_", "."): value for name, value in changed.items()}
        self.vmx.write_text("".join(f'{key} = "{value}"\n' for key, value in keys.items() if value))

    def line_of(self, key: str) -> str:
        """`lab.vmx:N` where the file has this key."""
        lines = self.vmx.read_text().splitlines()
        return f"{self.vmx}:{next(n for n, line in enumerate(lines, 1) if line.startswith(key))}"

    # the command

    def ringfence(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command in this process; a machine in the background has one of its own."""
        return ringfence_here(*words)

    def shell(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command as a shell runs it."""
        return subprocess.run(
            [*RINGFENCE, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def vm(self, *words: str) -> str:
        """`ringfence vm lab ...`, which succeeds; what it prints."""
        done = self.ringfence("vm", str(self.vmx), *words)
        assert (done.returncode, done.stderr) == (0, ""), f"{words}: {done.returncode}: {done.stderr}\n{self.log()}"
        return done.stdout

    def refused(self, *words: str) -> str:
        """`ringfence vm lab ...`, which is refused in one line; the line."""
        return self.one_line("vm", str(self.vmx), *words)

    def one_line(self, *words: str) -> str:
        """A command that ends with status 2 and one line; the line."""
        done = self.ringfence(*words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), (done, self.log())
        assert done.stderr.startswith("ringfence: ")
        return done.stderr.removeprefix("ringfence: ").removesuffix("\n")

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.vm("status", "--json"))
        return status

    def state(self) -> str:
        return str(self.status()["power_state"])

    def start(self) -> Talk:
        """In the background; the firmware is ready."""
        self.vm("start")
        talk = self.talk()
        talk.expect("E", asked="e")
        return talk

    def talk(self, where: Path | tuple[str, int] | int | None = None) -> Talk:
        """Connect to the serial port."""
        talk = Talk(self.folder / "com1" if where is None else where)
        self.talks.append(talk)
        return talk

    def in_front(self, *options: str, **more: Any) -> subprocess.Popen[str]:
        """`ringfence run lab.vmx` as a child, once the firmware answers. `close` ends it."""
        child = subprocess.Popen(
            [*RINGFENCE, "run", str(self.vmx), *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, **more,
        )  # fmt: skip
        self.children.append(child)
        wait_until((self.folder / "com1").exists, "the serial port's socket")
        return child

    def log(self) -> str:
        path = self.folder / "vmware.log"
        return path.read_text() if path.exists() else ""

    def pid(self) -> int:
        """The process that has the machine; 0 for none."""
        lock = self.folder / "lab.vmx.lck"
        return int(lock.read_text() or 0) if lock.exists() else 0

    def wait_off(self) -> None:
        wait_until(lambda: not (self.folder / "lab.vmx.lck").exists(), f"the end of the machine\n{self.log()}")

    def close(self) -> None:
        """End what still runs."""
        pid = self.pid()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for talk in self.talks:
            talk.close()
        for child in self.children:
            child.kill()
            child.communicate()


class Talk:
    """A connection to the toy firmware's serial port: a Unix socket's path, an address, or a descriptor."""

    def __init__(self, where: Path | tuple[str, int] | int) -> None:
        self.seen = b""
        if isinstance(where, int):
            self.fd, self._socket = where, None
            return
        family = socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        wait_until(lambda: self._connects(where), f"somebody who listens at {where}")
        self.fd = self._socket.fileno()

    def _connects(self, where: Path | tuple[str, int]) -> bool:
        assert self._socket is not None
        try:
            self._socket.connect(str(where) if isinstance(where, Path) else where)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, line: str, *, asked: str = "") -> None:
        """Read until this line has come; it and what was before it are used up. `asked` is sent first."""
        if asked:
            self.send(asked)
        wanted = f"{line}\n".encode()
        deadline = time.monotonic() + LIMIT_S
        while wanted not in self.seen:
            assert time.monotonic() < deadline, f"{line!r} never came: {self.seen!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                data = os.read(self.fd, 4096)
                assert data, f"the machine hung up before {line!r}: {self.seen!r}"
                self.seen += data
        self.seen = self.seen[self.seen.index(wanted) + len(wanted) :]

    def closed(self) -> bool:
        """Read to the end."""
        while True:
            try:
                if not os.read(self.fd, 4096):
                    return True
            except ConnectionResetError:
                return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
