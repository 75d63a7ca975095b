"""Machines for tests: a serial port that collects, a debug port that collects, and a time limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vmx.programs import assemble
from vmx import runner
from vmx.attachments import Attachments
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.serial import SerialBackend
from vmx.stop import StopReason

LIMIT_S = 20


class CollectingSerial(SerialBackend):
    """Keeps the output; `type` is the input."""

    def __init__(self, text: bytes = b"") -> None:
        super().__init__()
        self.output = bytearray()
        self._waiting.extend(text)

    def transmit(self, byte: int) -> None:
        self.output.append(byte)


@contextmanager
def machine(config: MachineConfig | None = None, firmware: bytes = b"", typed: bytes = b"") -> Iterator[Machine]:
    serial = CollectingSerial(typed)
    log = bytearray()
    attachments = Attachments((serial,), firmware=firmware, debug_sink=log.append)
    made = Machine(config or MachineConfig(memory_mib=16), attachments)
    made.debug_log = log  # type: ignore[attr-defined]
    made.serial = serial  # type: ignore[attr-defined]
    try:
        yield made
    finally:
        made.close()


def run_source(source: str, tmp_path: Path, made: Machine, command_line: str = "") -> StopReason:
    """Assemble, load and run a program to its end."""
    path = assemble(".globl _start\n_start:\n" + source, tmp_path / "program")
    made.load(load_program(path, made.config.memory_mib << 20), command_line)
    return run(made)


def run(made: Machine) -> StopReason:
    made.limit_time(LIMIT_S)
    made.start()
    return runner.run(made)
