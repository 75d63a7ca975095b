"""What is plugged into a machine from outside: the host's ends of its cables, its discs and disks, its ROM images.

Drives are named by their nodes, as in a .vmx file: ide0:0, scsi0:1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from hw.wiring import BlockDevice, BytePort, ByteSink
from vmkernel.storage.chain import Chain
from vmx.disc_tray import DiscTray
from vmx.disk_image import Flusher
from vmx.floppy_slot import FloppySlot
from vmx.machine_config import AdapterKind
from vmx.network_adapters import PluggedNic
from vmx.parallel_backend import Printer
from vmx.scsi_disk import ScsiDisk
from vmx.serial_backend import Receiver, SerialHost

SERIAL_PORTS = 2
IDE_PLACES = tuple((channel, unit) for channel in range(2) for unit in range(2))


class FarEnd(BytePort, Protocol):
    """The host's end of a serial cable."""

    @property
    def lost(self) -> str | None:
        """Why the host took no more output, when that was not a reader's wish."""

    def connect(self, uart: Receiver, host: SerialHost) -> None: ...

    def drive_lines(self) -> None:
        """Tell the UART its modem inputs; under the machine's lock."""

    def close(self) -> None: ...


class Closable(Protocol):
    """Something of the host that has to be given back."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Disk:
    """A hard disk on an IDE channel."""

    medium: BlockDevice


@dataclass(frozen=True, slots=True)
class Disc:
    """A CD-ROM drive; in its tray is a disc, or none."""

    tray: DiscTray


@dataclass(slots=True)
class ScsiAdapter:
    """A SCSI adapter; its drives by their ids."""

    kind: AdapterKind
    units: dict[int, ScsiDisk | Disc] = field(default_factory=dict)


def to_stderr(byte: int) -> None:
    """The default sink of the debug port."""
    sys.stderr.write(chr(byte))
    if byte == ord("\n"):
        sys.stderr.flush()


@dataclass(slots=True)
class Attachments:
    """`serials` are COM1 and COM2, None for a port without a cable; `drives` by (channel, unit), `scsi` by number.

    `chains` are the disks that the VMkernel knows, by node. `owned` is what `close` gives back beside the serial cables
    and the trays. `kept` says that the machine will go on from where it is: what its disks would forget stays.
    """

    serials: tuple[FarEnd | None, ...] = (None, None)
    printer: Printer | None = None
    floppy: FloppySlot | None = None
    drives: dict[tuple[int, int], Disk | Disc] = field(default_factory=dict)
    scsi: dict[int, ScsiAdapter] = field(default_factory=dict)
    nics: dict[int, PluggedNic] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    flusher: Flusher | None = None
    firmware: bytes = b""
    video_rom: bytes = b""
    debug_sink: ByteSink = to_stderr
    owned: list[Closable] = field(default_factory=list)
    kept: bool = False

    def __post_init__(self) -> None:
        self.serials = (*self.serials, None, None)[:SERIAL_PORTS]
        assert all(place in IDE_PLACES for place in self.drives), f"drives at {sorted(self.drives)}"

    def plug_serial(self, index: int, end: FarEnd) -> None:
        self.serials = (*self.serials[:index], end, *self.serials[index + 1 :])

    @property
    def trays(self) -> dict[tuple[int, int], DiscTray]:
        return {place: drive.tray for place, drive in self.drives.items() if isinstance(drive, Disc)}

    def all_trays(self) -> list[DiscTray]:
        """Of the SCSI drives too."""
        units = [unit for adapter in self.scsi.values() for unit in adapter.units.values()]
        return [*self.trays.values(), *(unit.tray for unit in units if isinstance(unit, Disc))]

    def nodes(self) -> dict[str, Disk | ScsiDisk | Disc]:
        """Every hard disk and CD-ROM drive."""
        found: dict[str, Disk | ScsiDisk | Disc] = {f"ide{c}:{u}": drive for (c, u), drive in self.drives.items()}
        for number, adapter in self.scsi.items():
            found |= {f"scsi{number}:{place}": unit for place, unit in adapter.units.items()}
        return found

    def close(self) -> None:
        """Give everything back to the host, whatever one of them says. The machine's lock is not held."""
        closers: list[Callable[[], None]] = [serial.close for serial in self.serials if serial is not None]
        closers += [tray.close for tray in self.all_trays()]
        closers += [thing.close for thing in (self.printer, self.floppy, *self.owned) if thing is not None]
        with ExitStack() as closing:
            for close in closers:
                closing.callback(close)
