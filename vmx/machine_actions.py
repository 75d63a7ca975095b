"""What can be asked of a running machine from outside: the plug between the control socket and the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vmkernel.storage.place import Place
from vmx.power import PowerState


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device with something of the host behind it: `ide1:0`, `cdrom`, connected, `/iso/debian.iso`."""

    device: str
    kind: str
    connected: bool
    backing: str = ""


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """`uptime_s` counts guest time since power-on; `unknown_keys` are those of the .vmx file that nothing uses.

    `question` is what the machine asks, with the answers that there are; it stands still until it has one.
    """

    name: str
    power_state: PowerState
    pid: int = 0
    vmx: str = ""
    engine: str = ""
    vcpus: int = 1
    memory_mib: int = 0
    uptime_s: float = 0.0
    vnc: str = ""
    devices: tuple[DeviceStatus, ...] = ()
    unknown_keys: tuple[str, ...] = ()
    stop_reason: str = ""
    question: str = ""


@dataclass(frozen=True, slots=True)
class ConsoleInfo:
    """Where a person can look at the machine: HOST:PORT of its VNC server, and PORT text of its first serial port.

    `serial` is `pty:PATH`, `unix:PATH`, `tcp:HOST:PORT`, or what else it is; both are empty when there is none.
    """

    vnc: str = ""
    serial: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """One snapshot for a person. `missing` are files of it that are not there; `current`: the machine runs on it."""

    uid: int
    parent: int
    name: str
    description: str
    created_us: int
    memory: bool
    current: bool
    disks: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TakenSnapshot:
    """A snapshot of a machine that runs; for `stun_ms` it stood still."""

    uid: int
    name: str
    memory: bool
    stun_ms: float


@dataclass(frozen=True, slots=True)
class Returned:
    """A running machine has returned to a snapshot: with its memory it runs, else it is off."""

    uid: int
    power_state: PowerState
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deleted:
    """Snapshots of a running machine are gone; while their links were folded it stood still so often, so long."""

    stuns_ms: tuple[float, ...]


class MachineActions(Protocol):
    """The machine. Called from the control threads, one slow action at a time, with no lock held.

    A method returns when what it asks for has happened, or raises a RingfenceError that says why it did not. `status`,
    `console` and `power_state` may be called while another action runs, and return at once.
    """

    def power_state(self) -> PowerState: ...

    def status(self) -> MachineStatus: ...

    def console(self) -> ConsoleInfo: ...

    def start(self) -> None: ...

    def stop(self, *, hard: bool) -> None:
        """Soft: press the power button, and return. Hard: switch off."""

    def reset(self) -> None: ...

    def suspend(self) -> None: ...

    def resume(self) -> None: ...

    def connect(self, device: str, path: Place | None) -> None:
        """Plug in; `path` puts another medium in, None the one of the configuration."""

    def disconnect(self, device: str) -> None: ...

    def eject(self, device: str, *, force: bool) -> None:
        """Open the drive; `force` also against the guest's lock."""

    def screenshot(self, path: Path) -> None: ...

    def send_keys(self, text: str) -> None: ...

    def answer(self, word: str) -> None:
        """To the question that `status` shows."""

    def list_snapshots(self) -> tuple[SnapshotRow, ...]: ...

    def take_snapshot(self, name: str, description: str, *, memory: bool) -> TakenSnapshot:
        """Freeze the disks, and perhaps save the memory, and go on."""

    def revert_snapshot(self, snapshot: str) -> Returned:
        """Return to a snapshot, by its number or name. What the machine did since is lost."""

    def delete_snapshot(self, snapshot: str, *, children: bool) -> Deleted:
        """Give up a snapshot, and perhaps all that descend from it."""

    def delete_all_snapshots(self) -> Deleted: ...

    def consolidate(self) -> Deleted:
        """Fold links that nobody names."""
