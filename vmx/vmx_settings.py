"""What a .vmx file asks for: the machine's configuration, where its log goes, and what is worth a line in that log.

Reading decides nothing that needs the host: no other file is opened here, except by `check_media`, which says before
power-on which image is missing and which line of the file wants it.
A device that this version does not have is reported and left out; the machine runs without it.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ringfence.errors import BadInput, HostRefused
from vmkernel.storage.datastores import in_brackets, locate
from vmkernel.storage.place import Place, elsewhere
from vmx.machine_config import (
    BOOT_ORDER,
    IDE_PLACES,
    MEMORY_MIB_MIN,
    SCSI_ADAPTERS,
    SCSI_IDS,
    SERIAL_PORTS,
    AdapterKind,
    AdapterSpec,
    BootDevice,
    DriveKind,
    DriveMode,
    DriveSpec,
    MachineConfig,
    PortKind,
    PortSpec,
    VncSpec,
    is_tcp_port,
)
from vmx.network_settings import nics_of, note_addresses
from vmx.vmx_file import Note, VmxFile, shown
from vmx.vmx_keys import AUTO_DETECT, Key, Use, flag, number, octets, parse_value, row_of, text

assert MEMORY_MIB_MIN <= 4, "memsize begins at 4"

CDROM_TYPES = frozenset({"cdrom-image", "cdrom-raw", "atapi-cdrom"})
HOST_CDROM_TYPES = frozenset({"cdrom-raw", "atapi-cdrom"})
LOCAL_TIME_GUESTS = ("win", "longhorn", "vista", "dos", "netware")  # how their names in guestOS begin
LSI_GUESTS = (  # likewise
    "winnet", "longhorn", "winlonghorn", "winvista", "rhel3", "rhel4", "rhel5", "sles", "netware", "solaris10",
    "other26xlinux",
)  # fmt: skip
TCP_SCHEME = "tcp://"
BOOT_WORDS = {device.value: device for device in BootDevice} | {"cd": BootDevice.CDROM, "net": BootDevice.NETWORK}
MEDIA = {DriveKind.DISK: "a disk", DriveKind.CDROM: "an ISO image", DriveKind.FLOPPY: "a floppy image"}
SCSI_WIDTH = 16
SELF_MADE_UUID = bytes.fromhex("564d")  # what VMware puts first in one that a host made
ANY_ADDRESS = "0.0.0.0"  # what "tcp://:PORT" means
LATER_DEVICE = re.compile(r"(floppy1)\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`path` None: no log is wanted."""

    path: Place | None
    keep_old: int = 6
    rotate_bytes: int = 0


@dataclass(frozen=True, slots=True)
class VmxSettings:
    """A machine as its .vmx file describes it. `unknown` and `later` are keys as the file writes them."""

    file: VmxFile
    config: MachineConfig
    log: LogSettings
    suspend_folder: Place
    nvram: Place | None
    program: Place | None
    append: str
    resume_from: Place | None
    notes: tuple[Note, ...]
    unknown: tuple[str, ...]
    later: tuple[str, ...]


def load_settings(path: Place) -> VmxSettings:
    """Read a .vmx file. Raises BadInput naming the line, BadOption and HostRefused."""
    return settings_of(VmxFile.read(path))


def settings_of(file: VmxFile) -> VmxSettings:
    """Raises BadInput naming the line."""
    folder = file.path.absolute().parent
    notes = [*file.notes, *_versions(file)]
    unknown, later = _sort_keys(file, notes)
    identity = octets(file, "uuid.bios") or self_made_uuid()
    config = MachineConfig(
        memory_mib=number(file, "memsize"),
        engine=text(file, "ringfence.engine").lower(),
        cpu_features=text(file, "ringfence.cpuFeatures"),
        uuid=identity,
        name=text(file, "displayName").strip() or file.path.stem,
        vcpus=number(file, "numvcpus"),
        firmware=_path(file, "bios440.filename", folder),
        firmware_origin=f"{file.where('bios440.filename')}: bios440.filename",
        serials=_serials(file, folder, notes),
        parallel=_parallel(file, folder, notes),
        ide=_drives(file, folder, notes),
        scsi=_adapters(file, folder, notes),
        floppy=_floppy(file, folder),
        nics=nics_of(file, identity, notes),
        boot_order=_boot_order(file),
        boot_delay_ms=number(file, "bios.bootDelay"),
        vnc=_vnc(file, notes),
        folder=folder,
        local_time=text(file, "guestOS").strip().lower().startswith(LOCAL_TIME_GUESTS),
    )
    config.check()
    octets(file, "uuid.location")
    return VmxSettings(
        file, config, _log(file, folder), _path(file, "suspend.directory", folder) or folder,
        _path(file, "nvram", folder), _path(file, "ringfence.program", folder), text(file, "ringfence.append"),
        _path(file, "checkpoint.vmState", folder), tuple(notes), tuple(unknown), tuple(later),
    )  # fmt: skip


def _path(file: VmxFile, key: str, folder: Place) -> Place | None:
    """A file name of the .vmx file: relative to its folder. None when it is empty."""
    name = text(file, key)
    return locate(folder, name) if name.strip() else None


def _versions(file: VmxFile) -> list[Note]:
    notes = []
    number(file, "config.version")
    if "config.version" not in file:
        notes.append(Note(str(file.path), "config.version: missing, and ESX does not accept such a file"))
    version = number(file, "virtualHW.version")
    if version > 4:
        text = f"virtualHW.version: {version} is newer than this machine, which is that of 4"
        notes.append(Note(file.where("virtualHW.version"), text))
    return notes


def _sort_keys(file: VmxFile, notes: list[Note]) -> tuple[list[str], list[str]]:
    """Keys that are in no row, and those of devices to come; a note for each that asks for something."""
    unknown, later = [], []
    for line in file:
        row = row_of(line.key)
        where = file.where(line.key)
        if row is None:
            unknown.append(line.key)
            notes.append(Note(where, f"{line.key}: unknown, kept as it is"))
            continue
        if row.use is not Use.LATER:
            continue
        later.append(line.key)
        device = LATER_DEVICE.match(line.key)
        if device is None:
            notes += _asked_for(row, line.value, line.key, where)
        elif line.key.lower() == f"{device[1].lower()}.present" and line.value.strip().lower() == "true":
            notes.append(Note(where, f"{device[1]}: {Use.LATER.value}: the machine runs without it"))
    return unknown, later


def _asked_for(row: Key, value: str, key: str, where: str) -> list[Note]:
    """A line for a key of a later version that asks for something else than what happens anyway."""
    try:
        if parse_value(row, value) == parse_value(row, row.default):
            return []
    except ValueError as error:
        return [Note(where, f"{key}: expected {error}, found {shown(value)}")]
    return [Note(where, f"{key}: {Use.LATER.value}, kept as it is")]


# devices


def _drives(file: VmxFile, folder: Place, notes: list[Note]) -> dict[tuple[int, int], DriveSpec]:
    drives = {}
    for channel, unit in sorted(IDE_PLACES):
        place = f"ide{channel}:{unit}"
        if flag(file, f"{place}.present"):
            drives[channel, unit] = _drive(file, place, folder, notes)
    return drives


def _adapters(file: VmxFile, folder: Place, notes: list[Note]) -> dict[int, AdapterSpec]:
    found = {}
    for index in SCSI_ADAPTERS:
        adapter = f"scsi{index}"
        places = {unit: f"{adapter}:{unit}" for unit in range(SCSI_WIDTH) if flag(file, f"{adapter}:{unit}.present")}
        if flag(file, f"{adapter}.present"):
            kind = _adapter_kind(file, f"{adapter}.virtualDev")
            found[index] = AdapterSpec(kind, _scsi_drives(file, places, folder, notes))
            continue
        for place in places.values():
            said = f"{place}: left out, for {adapter}.present is not TRUE"
            notes.append(Note(file.where(f"{place}.present"), said))
    return found


def _adapter_kind(file: VmxFile, key: str) -> AdapterKind:
    """What the file says; where it says nothing, what the guest's system is usually given.

    Source: libvirt, vmx.c ("default depends on guestOS value"); VMware, Virtual Machine Administration ("older guest
    operating systems default to the BusLogic adapter"). UNKNOWN: where ESX 3 draws the line; here it is drawn at
    systems that are newer than BusLogic's drivers, or come with one for LSI Logic.
    """
    guest = text(file, "guestOS").strip().lower()
    if file.get(key).strip() or not guest.startswith(LSI_GUESTS):
        return AdapterKind(text(file, key))
    return AdapterKind.LSILOGIC


def _scsi_drives(file: VmxFile, places: dict[int, str], folder: Place, notes: list[Note]) -> dict[int, DriveSpec]:
    found = {}
    for unit, place in places.items():
        where = file.where(f"{place}.present")
        if unit not in SCSI_IDS:
            raise BadInput(where, f"{place}.present", "an id that is not the adapter's own", shown(str(unit)))
        if text(file, f"{place}.deviceType") == "scsi-passthru":
            notes.append(Note(where, f"{place}: scsi-passthru: {Use.LATER.value}: the machine runs without it"))
            continue
        found[unit] = replace(_drive(file, place, folder, notes), write_through=flag(file, f"{place}.writeThrough"))
    return found


def _drive(file: VmxFile, place: str, folder: Place, notes: list[Note]) -> DriveSpec:
    name_key = f"{place}.fileName"
    name = text(file, name_key).strip()
    device_type = text(file, f"{place}.deviceType")
    mode = DriveMode(text(file, f"{place}.mode"))
    connected = flag(file, f"{place}.startConnected")
    client = flag(file, f"{place}.clientDevice")
    detect = flag(file, f"{place}.autodetect") or name.lower() == AUTO_DETECT
    origin = f"{file.where(name_key)}: {name_key}"
    if device_type not in CDROM_TYPES:
        if not name:
            raise BadInput(file.where(name_key), name_key, "the disk's file", "nothing")
        return DriveSpec(DriveKind.DISK, locate(folder, name), mode=mode, origin=origin)
    if client:
        if connected and name and not detect:
            text_ = f"{place}: a drive of a remote console has no medium here: left empty"
            notes.append(Note(file.where(f"{place}.clientDevice"), text_))
        return DriveSpec(DriveKind.CDROM, None, connected=False, origin=origin)
    host = device_type in HOST_CDROM_TYPES
    path = None if detect or not name else locate(folder, name)
    return DriveSpec(DriveKind.CDROM, path, host, connected and (host or path is not None), origin=origin)


def _floppy(file: VmxFile, folder: Place) -> DriveSpec | None:
    if not flag(file, "floppy0.present"):
        return None
    name = text(file, "floppy0.fileName").strip()
    origin = f"{file.where('floppy0.fileName')}: floppy0.fileName"
    none = not name or name.lower() == AUTO_DETECT or flag(file, "floppy0.clientDevice")
    path = None if none else locate(folder, name)
    connected = flag(file, "floppy0.startConnected") and path is not None
    host = text(file, "floppy0.fileType") == "device" and path is not None
    return DriveSpec(DriveKind.FLOPPY, path, host, connected, origin=origin)


def _serials(file: VmxFile, folder: Place, notes: list[Note]) -> tuple[PortSpec | None, ...]:
    for index in range(SERIAL_PORTS, 4):
        if flag(file, f"serial{index}.present"):
            text_ = f"serial{index}: only serial0 and serial1 are in this version"
            notes.append(Note(file.where(f"serial{index}.present"), text_))
    return tuple(_port(file, f"serial{index}", folder, notes) for index in range(SERIAL_PORTS))


def _parallel(file: VmxFile, folder: Place, notes: list[Note]) -> PortSpec | None:
    for index in (1, 2):
        if flag(file, f"parallel{index}.present"):
            text_ = f"parallel{index}: only parallel0 is in this version"
            notes.append(Note(file.where(f"parallel{index}.present"), text_))
    return _port(file, "parallel0", folder, notes)


def _port(file: VmxFile, port: str, folder: Place, notes: list[Note]) -> PortSpec | None:
    """The host's end of a port that is there; a kind without an end here leaves the port without a cable."""
    if not flag(file, f"{port}.present"):
        return None
    kind = text(file, f"{port}.fileType")
    name_key = f"{port}.fileName"
    name = text(file, name_key).strip()
    connected = flag(file, f"{port}.startConnected")
    origin = f"{file.where(name_key)}: {name_key}"
    if kind in {"stdio", "pty"}:
        return PortSpec(PortKind(kind), "", connected, origin)
    if kind == "device" and name.lower() in {"", AUTO_DETECT}:
        text_ = f"{port}.fileName: no host device is named, so the port has no cable"
        notes.append(Note(file.where(f"{port}.fileType"), text_))
        return PortSpec(PortKind.NONE, "", connected, origin)
    if not name:
        raise BadInput(file.where(name_key), name_key, f"what the {kind} is", "nothing")
    if kind == "network":
        server = text(file, f"{port}.network.endPoint") == "server"
        return PortSpec(*_tcp(file, name_key, name, server=server), connected, origin)
    path = str(port_path(file, name_key, name, folder))
    if kind in {"file", "device"}:
        return PortSpec(PortKind.FILE, path, connected, origin)
    if port.startswith("parallel"):
        return PortSpec(PortKind.PIPE, path, connected, origin)
    server = text(file, f"{port}.pipe.endPoint") == "server"
    return PortSpec(PortKind.UNIX_SERVER if server else PortKind.UNIX_CLIENT, path, connected, origin)


def port_path(file: VmxFile, key: str, name: str, folder: Place) -> Path:
    """The file, FIFO, socket or device of a port: always of the host, which a name beside a volume's .vmx is not."""
    if elsewhere(folder) is None and in_brackets(name) is None:
        return cast(Path, folder / name)
    if not name.startswith("/"):
        raise BadInput(file.where(key), key, "an absolute path of the host, where a port's file is", shown(name))
    return Path(name)


def _tcp(file: VmxFile, key: str, name: str, *, server: bool) -> tuple[PortKind, str]:
    """`tcp://HOST:PORT`, where a server may leave HOST out to listen on every address."""
    host, colon, port = name.removeprefix(TCP_SCHEME).rstrip("/").rpartition(":")
    if not name.startswith(TCP_SCHEME) or not colon or not is_tcp_port(port) or not (host or server):
        raise BadInput(file.where(key), key, "tcp://HOST:PORT", shown(name))
    return PortKind.TCP_SERVER if server else PortKind.TCP_CLIENT, f"{host or ANY_ADDRESS}:{port}"


def _vnc(file: VmxFile, notes: list[Note]) -> VncSpec | None:
    if not flag(file, "RemoteDisplay.vnc.enabled"):
        return None
    password = text(file, "RemoteDisplay.vnc.password")
    where = file.where("RemoteDisplay.vnc.enabled")
    if not password:
        notes.append(Note(where, "RemoteDisplay.vnc.password: none, so that whoever reaches the port sees the screen"))
    return VncSpec(
        number(file, "RemoteDisplay.vnc.port"), password, text(file, "RemoteDisplay.vnc.ip").strip() or "127.0.0.1",
        f"{file.where('RemoteDisplay.vnc.port')}: RemoteDisplay.vnc",
    )  # fmt: skip


def _boot_order(file: VmxFile) -> tuple[BootDevice, ...]:
    """Those named, then the others in the usual order."""
    key = "bios.bootOrder"
    asked: list[BootDevice] = []
    for word in text(file, key).replace(" ", "").lower().split(","):
        device = BOOT_WORDS.get(word.rstrip("0123456789"))
        if word and device is None:
            raise BadInput(file.where(key), key, f"some of {', '.join(BOOT_WORDS)}", shown(word))
        if device is not None and device not in asked:
            asked.append(device)
    return (*asked, *(device for device in BOOT_ORDER if device not in asked))


def _log(file: VmxFile, folder: Place) -> LogSettings:
    wanted = flag(file, "logging")
    return LogSettings(
        _path(file, "log.fileName", folder) or folder / "vmware.log" if wanted else None,
        number(file, "log.keepOld"), number(file, "log.rotateSize"),
    )  # fmt: skip


# before power-on


def check_media(config: MachineConfig) -> None:
    """Raises BadInput, with the line of the file, for an image that is not there and is to be in its drive."""
    floppies = [config.floppy] if config.floppy else []
    for drive in [*(drive for _, drive in config.drives()), *floppies]:
        if drive.path is None or not drive.connected or drive.host_device:
            continue
        try:
            there = drive.path.exists()
        except OSError:
            there = False
        if not there:
            raise BadInput(drive.origin, "no such file", MEDIA[drive.kind], f"nothing at {drive.path}")


def self_made_uuid() -> bytes:
    """16 bytes for a machine that has none yet."""
    return SELF_MADE_UUID + uuid.uuid4().bytes[len(SELF_MADE_UUID) :]


def uuid_text(value: bytes) -> str:
    """As .vmx files write it: two halves of eight pairs."""
    return f"{value[:8].hex(' ')}-{value[8:].hex(' ')}"


def identify(settings: VmxSettings) -> VmxSettings:
    """Give the file the identities that it lacks, as ESX does at power-on, and write it. Raises HostRefused."""
    file = settings.file
    missing = [key for key in ("uuid.bios", "uuid.location") if not octets(file, key)]
    for key in missing:
        file.set(key, uuid_text(settings.config.uuid))
    made = note_addresses(file, dict(settings.config.nics))
    if missing or made:
        file.write()
    return settings


def set_resume_from(settings: VmxSettings, state: Place | None) -> VmxSettings:
    """Note in the file that the machine is suspended into `state`, or no longer. Raises HostRefused."""
    folder = settings.file.path.absolute().parent
    name = "" if state is None else str(state.relative_to(folder) if state.is_relative_to(folder) else state)
    before = settings.file.get("checkpoint.vmState")
    if before != name:
        settings.file.set("checkpoint.vmState", name)
        try:
            settings.file.write()
        except HostRefused:
            settings.file.set("checkpoint.vmState", before)
            raise
    return replace(settings, resume_from=state)
