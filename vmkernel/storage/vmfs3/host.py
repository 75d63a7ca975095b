"""Who opens a volume for writing: the identity that goes into its heartbeat slot, its locks and its journal.

One opening of a volume is one host: two processes, or two openings in one, keep out of each other's way by the locks on
the disk, as two ESX hosts do. A host that is a process of this machine is known to be dead as soon as the process is
gone; of others only the heartbeat tells.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import time
import uuid as uuids
from dataclasses import dataclass, field
from pathlib import Path

MACHINE_BYTES = 16
START_FIELD = 19  # of /proc/PID/stat, counted behind the name: field 22, in ticks since the machine was started


@dataclass(frozen=True, slots=True)
class Process:
    """A process, named so that no other has the same name: machine, run and process space; number; start."""

    machine: bytes
    pid: int
    start: int

    @classmethod
    def this(cls) -> Process:
        pid = os.getpid()
        return cls(this_machine(), pid, started(pid) or 0)

    @property
    def is_here(self) -> bool:
        """Its number means something here."""
        return bool(self.start) and self.machine == this_machine() and any(self.machine)

    @property
    def is_gone(self) -> bool:
        """Surely. A process of elsewhere never is."""
        return self.is_here and started(self.pid) != self.start


@dataclass(frozen=True, slots=True)
class Host:
    """`uuid` is in the disk's byte order; `name` is what a refusal shows to people."""

    uuid: bytes = field(default_factory=lambda: new_uuid())  # noqa: PLW0108 - defined below
    name: str = field(default_factory=platform.node)
    process: Process = field(default_factory=Process.this)

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})"


def new_uuid() -> bytes:
    """Seconds since 1970, noise of the clock's counter, a random number, the MAC address of a network card."""
    return b"".join((
        (int(time.time()) & 0xFFFFFFFF).to_bytes(4, "little"),
        (time.perf_counter_ns() & 0xFFFFFFFF).to_bytes(4, "little"),
        os.urandom(2),
        uuids.getnode().to_bytes(6, "big"),
    ))  # fmt: skip


@functools.cache
def this_machine() -> bytes:
    """Of this run of this machine and this space of process numbers; zeros where the host does not tell."""
    try:
        run = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        space = os.readlink("/proc/self/ns/pid").encode()
    except OSError:
        return bytes(MACHINE_BYTES)
    return hashlib.blake2b(run + space, digest_size=MACHINE_BYTES).digest()


def started(pid: int) -> int | None:
    """None: there is no such process, or only what its parent has not buried yet."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if words[0] in (b"Z", b"X") else int(words[START_FIELD])
