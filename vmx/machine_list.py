"""What is known of machines without asking a process of theirs: from the registry and from their .vmx files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ringfence.errors import HostRefused, RingfenceError
from vmkernel.storage.datastores import resolve
from vmkernel.storage.place import Place
from vmx.control_client import QUICK_TIMEOUT_S, ask
from vmx.machine_actions import DeviceStatus, MachineStatus
from vmx.machine_config import DriveSpec, MachineConfig
from vmx.power import PowerState
from vmx.registry import Entry, Registry, name_in
from vmx.vmx_settings import VmxSettings, load_settings

UNREACHABLE = "unknown"  # the power state of a process that does not answer
ENDING_S, LOOK_S = 2.0, 0.01  # how long a process that is ending may be seen; how often to look


def list_machines(registry: Registry) -> list[dict[str, object]]:
    """Running machines and those of the inventory, by name: name, power_state, pid, vmx."""
    entries = registry.running()
    at = {entry.vmx for entry in entries}
    rows = [row_of(registry, entry) for entry in entries]
    for vmx in registry.known():
        if str(vmx) not in at:
            rows.append({"name": name_in(vmx), "power_state": state_text(vmx), "pid": 0, "vmx": str(vmx)})
    return sorted(rows, key=lambda row: (str(row["name"]), str(row["vmx"])))


def row_of(registry: Registry, entry: Entry) -> dict[str, object]:
    pid = entry.pid
    try:
        status = asked_status(registry, entry)
        if status is None:
            pid, state = 0, state_text(resolve(entry.vmx)) if entry.vmx else PowerState.OFF.value
        else:
            state = str(status["power_state"])
    except (RingfenceError, KeyError, TypeError):
        state = UNREACHABLE
    return {"name": entry.name, "power_state": state, "pid": pid, "vmx": entry.vmx}


def asked_status(registry: Registry, entry: Entry) -> Any:
    """`status` of a machine's process, and None for one that ended while it was asked. Raises HostRefused."""
    try:
        return ask(Path(entry.socket), "status", QUICK_TIMEOUT_S)
    except HostRefused:
        # A killed process loses its connections before its entry: the kernel closes one file after the other.
        deadline = time.monotonic() + ENDING_S
        while entry in registry.running():
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_S)
        return None


def state_text(vmx: Place) -> str:
    try:
        return power_state(vmx).value
    except RingfenceError:
        return UNREACHABLE


def power_state(vmx: Place) -> PowerState:
    """Of a machine without a process: suspended if its file names a state to resume from. Raises BadInput."""
    return state_of(load_settings(vmx))


def state_of(settings: VmxSettings) -> PowerState:
    return PowerState.OFF if settings.resume_from is None else PowerState.SUSPENDED


def status_of(vmx: Place) -> MachineStatus:
    """`status` of a machine without a process. Raises BadInput."""
    settings = load_settings(vmx)
    config = settings.config
    return MachineStatus(
        config.name, state_of(settings), vmx=str(vmx), engine=config.engine, vcpus=config.vcpus,
        memory_mib=config.memory_mib, devices=configured_devices(config), unknown_keys=settings.unknown,
    )  # fmt: skip


def configured_devices(config: MachineConfig) -> tuple[DeviceStatus, ...]:
    """The devices as they are at power-on; `connected` says what `startConnected` does."""
    ports = [(f"serial{index}", "serial port", port) for index, port in enumerate(config.serials)]
    devices = [
        DeviceStatus(name, kind, port.start_connected, port.text())
        for name, kind, port in [*ports, ("parallel0", "parallel port", config.parallel)]
        if port is not None
    ]
    drives = list(config.drives())
    if config.floppy is not None:
        drives.append(("floppy0", config.floppy))
    return (
        *devices,
        *(DeviceStatus(name, drive.kind.value, drive.connected, backing_text(drive)) for name, drive in drives),
    )


def backing_text(drive: DriveSpec) -> str:
    return str(drive.path) if drive.path is not None else "auto detect" if drive.host_device else ""
