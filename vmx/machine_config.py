"""What a machine is made of: plain values, from wherever they came: the command line or a .vmx file.

A port is written in one way on the command line and in messages: `stdio`, `pty`, `none`, `file:PATH`, `pipe:PATH`,
`unix:PATH` and `tcp:HOST:PORT` (we listen; port 0 is any free one), `unix-client:PATH` and `tcp-client:HOST:PORT` (we
connect). A file may be a terminal or a printer of the host.
Every value that names something of the host carries its origin, for the one line that says what is wrong with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from ringfence.errors import BadOption
from vmkernel.storage.place import Place
from vmm.vcpu import TraceKind
from vmx.network_config import NicSpec, check_nics

NO_TRACE = TraceKind(0)
MEMORY_MIB_MIN = 2
MEMORY_MIB_MAX = 3072  # above it a PC's PCI window begins
VCPUS_MAX = 4
SERIAL_PORTS = 2
IDE_PLACES = frozenset((channel, unit) for channel in range(2) for unit in range(2))
SCSI_ADAPTERS = range(4)
SCSI_IDS = frozenset(range(16)) - {7}  # 7 is the adapter's own
TCP_PORT_MAX = 65535
VNC_PASSWORD_BYTES = 8  # what RFB's DES challenge uses of it


class PortKind(Enum):
    """The host's end of a serial or parallel cable; the value is its word in a PORT argument."""

    NONE = "none"
    STDIO = "stdio"
    PTY = "pty"
    FILE = "file"
    PIPE = "pipe"
    UNIX_SERVER = "unix"
    UNIX_CLIENT = "unix-client"
    TCP_SERVER = "tcp"
    TCP_CLIENT = "tcp-client"


BARE_PORTS = frozenset({PortKind.NONE, PortKind.STDIO, PortKind.PTY})
TCP_PORTS = frozenset({PortKind.TCP_SERVER, PortKind.TCP_CLIENT})
PARALLEL_PORTS = frozenset({PortKind.NONE, PortKind.FILE, PortKind.PIPE})
SERIAL_KINDS = frozenset(PortKind) - {PortKind.PIPE}


@dataclass(frozen=True, slots=True)
class PortSpec:
    """`where` is a path, or HOST:PORT for TCP; empty for the bare kinds."""

    kind: PortKind
    where: str = ""
    start_connected: bool = True
    origin: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str, origin: str = "--serial") -> PortSpec:
        """From the command line. Raises BadOption."""
        word, _, where = text.partition(":")
        try:
            port = cls(PortKind(word), where, origin=origin)
        except ValueError:
            raise BadOption(f"{origin} {text}: expected {PORT_SYNTAX}") from None
        if port.text() != text:
            raise BadOption(f"{origin} {text}: expected {PORT_SYNTAX}")
        port.check()
        return port

    def text(self) -> str:
        return self.kind.value if self.kind in BARE_PORTS else f"{self.kind.value}:{self.where}"

    def check(self) -> None:
        """Raises BadOption for a path that is missing or no TCP address."""
        said = f"{self.origin} {self.text()}".strip()
        if self.kind in TCP_PORTS:
            host, colon, port = self.where.rpartition(":")
            any_free = port == "0" and self.kind is PortKind.TCP_SERVER
            if not host or not colon or not (any_free or is_tcp_port(port)):
                raise BadOption(f"{said}: expected {self.kind.value}:HOST:PORT")
        elif self.kind not in BARE_PORTS and (not self.where or "\0" in self.where):
            raise BadOption(f"{said}: expected {self.kind.value}:PATH")


PORT_SYNTAX = ", ".join(
    kind.value + ("" if kind in BARE_PORTS else ":HOST:PORT" if kind in TCP_PORTS else ":PATH") for kind in PortKind
)


def is_tcp_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(TCP_PORT_MAX)) and 0 < int(text) <= TCP_PORT_MAX


class DriveKind(Enum):
    """What a drive is."""

    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"


class DriveMode(Enum):
    """What becomes of writes to a disk. ESX's words; NONPERSISTENT, UNDOABLE and APPEND are those of ESX 2."""

    PERSISTENT = "persistent"
    INDEPENDENT_PERSISTENT = "independent-persistent"
    INDEPENDENT_NONPERSISTENT = "independent-nonpersistent"
    NONPERSISTENT = "nonpersistent"
    UNDOABLE = "undoable"
    APPEND = "append"


DISCARDING = frozenset({DriveMode.INDEPENDENT_NONPERSISTENT, DriveMode.NONPERSISTENT})


@dataclass(frozen=True, slots=True)
class DriveSpec:
    """`path` None: a drive without a medium, or with `host_device` the host's first CD-ROM drive.

    `write_through`, of a SCSI disk: it has no write cache that the guest sees.
    """

    kind: DriveKind
    path: Place | None = None
    host_device: bool = False
    connected: bool = True
    mode: DriveMode = DriveMode.PERSISTENT
    write_through: bool = False
    origin: str = field(default="", compare=False)


class AdapterKind(Enum):
    """Models of SCSI adapters; the value is the word in `scsiN.virtualDev`."""

    LSILOGIC = "lsilogic"
    BUSLOGIC = "buslogic"


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A SCSI adapter with its drives by their ids."""

    kind: AdapterKind = AdapterKind.LSILOGIC
    drives: Mapping[int, DriveSpec] = field(default_factory=dict)


class BootDevice(Enum):
    """What the firmware tries; the value is its word in `bios.bootOrder`."""

    FLOPPY = "floppy"
    DISK = "hdd"
    CDROM = "cdrom"
    NETWORK = "ethernet"


BOOT_ORDER = (BootDevice.FLOPPY, BootDevice.DISK, BootDevice.CDROM, BootDevice.NETWORK)


@dataclass(frozen=True, slots=True)
class VncSpec:
    """A remote display that listens on `address`; port 0 takes any free one. No password: anyone there may connect."""

    port: int = 5900
    password: str = field(default="", repr=False)
    address: str = "127.0.0.1"
    origin: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """What a machine is made of. `cpu_features` as for --cpu-features; `tsc_hz` 0: the host's.

    `serials` are COM1 and COM2, None for a port without a cable; `ide` is by (channel, unit), `scsi` and `nics` by
    number.
    `firmware` None is the default of whoever runs the machine. `folder` holds the machine's files, None for one that
    has none. `local_time` sets the clock chip to the host's local time instead of UTC.
    """

    memory_mib: int = 64
    engine: str = "auto"
    cpu_features: str = ""
    tsc_hz: int = 0
    trace: TraceKind = NO_TRACE
    uuid: bytes = field(default_factory=lambda: uuid.uuid4().bytes)
    name: str = ""
    vcpus: int = 1
    firmware: Place | None = None
    firmware_origin: str = field(default="", compare=False)
    serials: tuple[PortSpec | None, ...] = (PortSpec(PortKind.STDIO), None)
    parallel: PortSpec | None = None
    ide: Mapping[tuple[int, int], DriveSpec] = field(default_factory=dict)
    scsi: Mapping[int, AdapterSpec] = field(default_factory=dict)
    floppy: DriveSpec | None = None
    nics: Mapping[int, NicSpec] = field(default_factory=dict)
    boot_order: tuple[BootDevice, ...] = BOOT_ORDER
    boot_delay_ms: int = 0
    vnc: VncSpec | None = None
    folder: Place | None = None
    local_time: bool = False

    def drives(self) -> Iterator[tuple[str, DriveSpec]]:
        """Hard disks and CD-ROM drives by their nodes, such as ide0:0 and scsi0:1."""
        yield from ((f"ide{channel}:{unit}", drive) for (channel, unit), drive in self.ide.items())
        for number, adapter in self.scsi.items():
            yield from ((f"scsi{number}:{place}", drive) for place, drive in adapter.drives.items())

    def check(self) -> None:
        """Raises BadOption for what no machine can have."""
        if not MEMORY_MIB_MIN <= self.memory_mib <= MEMORY_MIB_MAX:
            raise BadOption(f"--mem {self.memory_mib}: expected {MEMORY_MIB_MIN} to {MEMORY_MIB_MAX} (MiB)")
        if not 1 <= self.vcpus <= VCPUS_MAX:
            raise BadOption(f"--vcpus {self.vcpus}: expected 1 to {VCPUS_MAX}")
        if len(self.uuid) != 16:
            raise BadOption(f"UUID: expected 16 bytes, found {len(self.uuid)}")
        self._check_ports()
        if not self.ide.keys() <= IDE_PLACES:
            place = min(self.ide.keys() - IDE_PLACES)
            raise BadOption(f"ide{place[0]}:{place[1]}: expected ide0:0 to ide1:1")
        if any(drive.kind is DriveKind.FLOPPY for _, drive in self.drives()):
            raise BadOption("ide and scsi: expected disks and CD-ROM drives, found a floppy drive")
        for number, adapter in self.scsi.items():
            if number not in SCSI_ADAPTERS:
                raise BadOption(f"scsi{number}: expected scsi0 to scsi{SCSI_ADAPTERS[-1]}")
            for wrong in adapter.drives.keys() - SCSI_IDS:
                raise BadOption(f"scsi{number}:{wrong}: expected an id from 0 to 15 that is not the adapter's own, 7")
        check_nics(self.nics)
        if len(set(self.boot_order)) != len(self.boot_order):
            raise BadOption("boot order: expected every device at most once")
        if self.vnc is not None and not 0 <= self.vnc.port <= TCP_PORT_MAX:
            raise BadOption(f"VNC port {self.vnc.port}: expected 0 to {TCP_PORT_MAX}")

    def _check_ports(self) -> None:
        if len(self.serials) > SERIAL_PORTS:
            raise BadOption(f"{len(self.serials)} serial ports: expected at most {SERIAL_PORTS}")
        for port in self.serials:
            if port is not None:
                if port.kind not in SERIAL_KINDS:
                    raise BadOption(f"{port.origin} {port.text()}: expected a serial port's kind, not a pipe".strip())
                port.check()
        if self.parallel is not None:
            if self.parallel.kind not in PARALLEL_PORTS:
                said = f"{self.parallel.origin} {self.parallel.text()}".strip()
                raise BadOption(f"{said}: expected file:PATH, pipe:PATH or none")
            self.parallel.check()
        if sum(port is not None and port.kind is PortKind.STDIO for port in self.serials) > 1:
            raise BadOption("stdio: expected it on one serial port only")
