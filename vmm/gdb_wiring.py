"""What the GDB stub needs of a machine, and how a machine tells it that it stopped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from vmm.interrupts import Interrupts
from vmm.vcpu import Vcpu

LOOK_S = 0.25  # while waiting for a GDB or its next packet: how often to ask whether the machine has ended


class Cause(Enum):
    """Why the machine stopped."""

    BREAKPOINT = 1
    WATCHPOINT = 2
    STEP = 3
    INTERRUPTED = 4
    CRASHED = 5  # it cannot go on, but can be looked at
    ENDED = 6


@dataclass(frozen=True, slots=True)
class Stop:
    """`address` is linear, of a breakpoint or an access; `status` what the machine ended with; `text` for people."""

    cause: Cause
    address: int = 0
    status: int = 0
    text: str = ""


class PhysicalMemory(Protocol):
    """Guest physical memory; both raise a RingfenceError where there is none."""

    def read(self, gpa: int, length: int) -> bytes: ...

    def write(self, gpa: int, data: bytes) -> None: ...


class Debuggee(Protocol):
    """What the stub needs of a machine. All but `interrupt` are for the thread that calls `serve`."""

    @property
    def vcpu(self) -> Vcpu: ...

    @property
    def memory(self) -> PhysicalMemory: ...

    @property
    def interrupts(self) -> Interrupts: ...

    def resume(self) -> Stop:
        """Run, with devices answered, until something stops it."""

    def interrupt(self) -> None:
        """Make `resume` return soon with INTERRUPTED; if it does not run, the next one. Any thread."""

    def ended(self) -> Stop | None:
        """Has somebody else ended the machine while it was stopped?"""

    def forget_interrupt(self) -> None:
        """Take back an interrupt that nobody waits for any more."""

    def reset(self) -> None: ...

    def device_lines(self) -> Iterable[str]: ...
