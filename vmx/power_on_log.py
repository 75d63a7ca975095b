"""What the log says when a machine is switched on: the host, the file, what was made of it, the devices."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from vmx.log import Log
from vmx.machine_config import DriveSpec, MachineConfig
from vmx.vmx_settings import VmxSettings

SECRET = frozenset({"remotedisplay.vnc.password", "remotedisplay.vnc.key"})
HIDDEN = "********"
KEY_WIDTH = 25
DEVICE_WIDTH = 8


def log_power_on(log: Log, settings: VmxSettings, engine: str) -> None:
    """Everything that somebody will want to know when this run has gone wrong. `engine` is the one that was chosen."""
    log.write(f"Log for Ringfence pid={os.getpid()} version={package_version()}")
    log.write(host_line())
    log.write(f"DICT --- CONFIGURATION {settings.file.path}")
    for line in settings.file:
        value = HIDDEN if line.key.lower() in SECRET and line.value else line.value
        log.write(f"DICT {line.key:>{KEY_WIDTH}} = {value!s}".replace("\n", "|0A"))
    for note in settings.notes:
        log.write(f"CONFIG {note}")
    for text in machine_lines(settings.config, engine):
        log.write(text)


def package_version() -> str:
    try:
        return version("ringfence")
    except PackageNotFoundError:
        return "unknown"


def host_line() -> str:
    host = os.uname()
    return (
        f"HOST sysname {host.sysname}, nodename {host.nodename}, release {host.release}, version {host.version}, "
        f"machine {host.machine}, processors {os.cpu_count()}"
    )


def machine_lines(config: MachineConfig, engine: str) -> list[str]:
    """The machine that is built, device by device."""
    lines = [
        f"MACHINE {config.name!r}: {config.vcpus} vCPU, {config.memory_mib} MiB, engine {engine}, "
        f"uuid {config.uuid.hex()}",
        f"DEVICE {'firmware':{DEVICE_WIDTH}} {config.firmware or 'the default'}",
    ]
    ports = [(f"serial{index}", port) for index, port in enumerate(config.serials)]
    for name, port in [*ports, ("parallel0", config.parallel)]:
        if port is not None:
            state = "" if port.start_connected else ", not connected"
            lines.append(f"DEVICE {name:{DEVICE_WIDTH}} {port.text()}{state}")
    places = sorted(config.drives())
    if config.floppy is not None:
        places.append(("floppy0", config.floppy))
    lines += [f"DEVICE {name:{DEVICE_WIDTH}} {drive_text(drive)}" for name, drive in places]
    if config.vnc is not None:
        guarded = "with a password" if config.vnc.password else "without a password"
        lines.append(f"DEVICE {'vnc':{DEVICE_WIDTH}} {config.vnc.address}:{config.vnc.port} {guarded}")
    return lines


def drive_text(drive: DriveSpec) -> str:
    """`cdrom: /iso/debian.iso`; `cdrom: empty`."""
    medium = str(drive.path) if drive.path else "host drive, auto detect" if drive.host_device else "empty"
    return f"{drive.kind.value}: {medium}{'' if drive.connected or not drive.path else ', not connected'}"
