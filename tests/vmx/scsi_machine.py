"""Machines with SCSI disks, in which the guest that drives the adapters runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from guests import build
from tests.vmx.machines import LIMIT_S, CollectingSerial
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.create import Kind, create
from vmx import runner
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import AdapterKind, AdapterSpec, DriveKind, DriveMode, DriveSpec, MachineConfig
from vmx.plug import plug_in
from vmx.stop import StopReason

DISK_BYTES = 8 << 20
UUID = bytes(range(16))


def unheard(byte: int) -> None:
    """The debug port's bytes."""


def make_disk(path: Path, kind: Kind = Kind.MONOLITHIC_SPARSE) -> Path:
    create(path, kind, DISK_BYTES)
    return path


def config_of(adapters: Mapping[int, AdapterSpec], folder: Path, vcpus: int = 1) -> MachineConfig:
    return MachineConfig(
        memory_mib=16, vcpus=vcpus, engine="interp", uuid=UUID, serials=(None, None), scsi=adapters, folder=folder
    )


def adapter(kind: AdapterKind, disk: Path, mode: DriveMode = DriveMode.PERSISTENT, **more: bool) -> AdapterSpec:
    return AdapterSpec(kind, {0: DriveSpec(DriveKind.DISK, disk, mode=mode, **more)})


class Line(CollectingSerial):
    """COM1. `at` calls back when a text has come, under the machine's lock."""

    def __init__(self) -> None:
        super().__init__()
        self._text, self._action = b"", lambda: None

    def at(self, text: str, action: Callable[[], None]) -> None:
        self._text, self._action = text.encode(), action

    def transmit(self, byte: int) -> None:
        super().transmit(byte)
        if self._text and self.output.endswith(self._text):
            self._text = b""
            self._action()

    def said(self) -> list[str]:
        return self.output.decode("latin-1").splitlines()

    def failures(self) -> list[str]:
        return [line for line in self.said() if line.startswith(("FAIL", "SKIP"))]


@contextmanager
def machine(config: MachineConfig, *, resumes: bool = False) -> Iterator[tuple[Machine, Line]]:
    """Switched off; closed at the end."""
    line = Line()
    attached = plug_in(config, lambda text: None, unheard, firmware=False, resumes=resumes)
    attached.plug_serial(0, line)
    try:
        made = Machine(config, attached)
    except BaseException:
        attached.close()
        raise
    try:
        yield made, line
    finally:
        made.close()


def load_guest(made: Machine, adapters: int) -> None:
    made.load(load_program(build("scsi"), made.config.memory_mib << 20), f"adapters={adapters}")


def run(made: Machine) -> StopReason:
    made.limit_time(LIMIT_S)
    made.start()
    return runner.run(made)


class Background:
    """A run on a thread of its own."""

    def __init__(self, made: Machine) -> None:
        self.stop: StopReason | None = None
        self._machine = made
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        self.stop = run(self._machine)

    def ended(self) -> StopReason:
        self._thread.join()
        assert self.stop is not None
        return self.stop


def is_all_zeros(disk: Path) -> bool:
    with open_disk(disk) as chain:
        return holds_zeros(chain)


def holds_zeros(chain: Chain) -> bool:
    whole = memoryview(bytearray(chain.size_bytes))
    chain.read(0, [whole])
    return not any(whole)
