"""What every engine takes and does, whichever way it runs the guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """Descriptors and sizes (bytes) of the same mappings, for an engine in another process."""

    ram_fd: int
    dev_fd: int
    pages_fd: int
    state_fd: int
    state_bytes: int
    interrupts_offset: int
    vcpu_offsets: tuple[int, ...]
    control_fds: tuple[int, ...]
    control_bytes: int


@dataclass(frozen=True, slots=True)
class EngineMap:
    """Host addresses and sizes (bytes) of everything an engine works on; valid in this process."""

    ram: int
    ram_bytes: int
    dev: int
    dev_bytes: int
    pages: int
    pages_bytes: int
    interrupts: int
    vcpus: tuple[int, ...]
    controls: tuple[int, ...]
    files: EngineFiles | None = None


class Engine(Protocol):
    """Runs one vCPU. Not thread-safe but for `kick`, which any thread may call."""

    name: str

    def run(self, quantum_us: int) -> int:
        """Run until something needs the rest of the system: the exit's kind. More is in the control page."""

    def kick(self, bits: int) -> None:
        """Set attention bits and wake a halted runner."""

    def flush(self) -> None:
        """Forget every cached translation and decoded block."""

    def translate(self, linear: int) -> int | None:
        """Guest physical address as a supervisor read would find it, without setting A; None when not mapped."""

    def set_breakpoint(self, linear: int, length: int, kind: int) -> bool:
        """Stop at a linear address: kind 0 execute, 1 write, 2 read or write. False when there is no room."""

    def clear_breakpoint(self, linear: int, length: int, kind: int) -> bool: ...

    def arena(self) -> Any:
        """The engine's arena as the C core wants it, for the views of its tables.

        Raises EngineFailed when these lie in another process.
        """

    def why(self) -> str:
        """What there is to say about the last ERROR exit beside its reason; often nothing."""

    def rest(self) -> None:
        """There will be no `run` for a while: the calling thread is the caller's again."""

    def close(self) -> None: ...
