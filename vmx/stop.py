"""Why a machine stopped, and the exit status that `ringfence` makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

STATUS_SHUTDOWN = 3
STATUS_HOST_ERROR = 4
STATUS_TIMEOUT = 124  # as timeout(1)


class StopKind(Enum):
    """The ways a run ends."""

    EXITED = "the guest ended with a status"
    POWERED_OFF = "the guest switched the machine off"
    SWITCHED_OFF = "the machine was switched off"
    HALTED = "the processor halted with interrupts disabled: nothing can wake it"
    SHUTDOWN = "triple fault"
    RESET = "the guest reset the machine"
    SUSPENDED = "the machine was suspended"
    RETURNED = "the machine returned to a snapshot"
    DEBUG = "the debugger's breakpoint, watchpoint or step"
    LEFT = "the person at the terminal left"
    TIMED_OUT = "the time limit passed"
    FAILED = "the engine cannot go on"


@dataclass(frozen=True, slots=True)
class StopReason:
    """`status` is the process exit status, `text` what the kind does not say, `detail` a vector or reason."""

    kind: StopKind
    status: int = 0
    text: str = ""
    detail: int = 0

    def line(self) -> str:
        """One line for a person."""
        return f"{self.kind.value}{': ' + self.text if self.text else ''}"
