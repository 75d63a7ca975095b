"""A machine that is none: it records what is asked of it, for the tests of whoever asks."""

from __future__ import annotations

import threading
from pathlib import Path

from ringfence.errors import HostRefused
from vmx.log import VMX_THREAD
from vmx.machine_actions import ConsoleInfo, Deleted, DeviceStatus, MachineStatus, Returned, SnapshotRow, TakenSnapshot
from vmx.power import PowerState


class FakeMachine:
    """MachineActions. `gate` holds slow actions until it is set."""

    def __init__(self, state: PowerState = PowerState.ON) -> None:
        self.state = state
        self.calls: list[tuple[object, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.serial, self.vnc = "", ""

    def power_state(self) -> PowerState:
        return self.state

    def status(self) -> MachineStatus:
        devices = (DeviceStatus("ide1:0", "cdrom", True, "/x.iso"),)
        return MachineStatus("web", self.state, 7, "/vm/web.vmx", "interp", 2, 64, 3605.5, "", devices, ("my.key",))

    def console(self) -> ConsoleInfo:
        return ConsoleInfo(self.vnc, self.serial)

    def _act(self, *call: object) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        self.calls.append(call)

    def start(self) -> None:
        self._act("start")

    def stop(self, *, hard: bool) -> None:
        self._act("stop", hard)
        self.state = PowerState.OFF

    def reset(self) -> None:
        self._act("reset")

    def suspend(self) -> None:
        self._act("suspend")
        self.state = PowerState.SUSPENDED

    def resume(self) -> None:
        self._act("resume")

    def connect(self, device: str, path: Path | None) -> None:
        self._act("connect", device, path)

    def disconnect(self, device: str) -> None:
        if device == "broken":
            raise ZeroDivisionError("defect")
        self._act("disconnect", device)

    def eject(self, device: str, *, force: bool) -> None:
        if not force:
            raise HostRefused(f"{device}: the guest has locked the drive")
        self._act("eject", device)

    def screenshot(self, path: Path) -> None:
        self._act("screenshot", path)

    def answer(self, word: str) -> None:
        self._act("answer", word)

    def send_keys(self, text: str) -> None:
        self._act("send_keys", text)

    def list_snapshots(self) -> tuple[SnapshotRow, ...]:
        self._act("list_snapshots")
        return (SnapshotRow(3, 0, "before", "", 0, True, True, ("web.vmdk",), ()),)

    def take_snapshot(self, name: str, description: str, *, memory: bool) -> TakenSnapshot:
        self._act("take_snapshot", name, description, memory)
        return TakenSnapshot(4, name, memory, 2.5)

    def revert_snapshot(self, snapshot: str) -> Returned:
        self._act("revert_snapshot", snapshot)
        return Returned(3, PowerState.ON)

    def delete_snapshot(self, snapshot: str, *, children: bool) -> Deleted:
        self._act("delete_snapshot", snapshot, children)
        return Deleted((0.5,))

    def delete_all_snapshots(self) -> Deleted:
        self._act("delete_all_snapshots")
        return Deleted(())

    def consolidate(self) -> Deleted:
        self._act("consolidate")
        return Deleted(())


class ListLog:
    """A log that can be read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str, thread: str = VMX_THREAD) -> None:
        self.lines.append(text)
