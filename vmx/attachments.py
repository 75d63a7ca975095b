"""What is plugged into a machine from outside: the host's ends of its cables, its discs and its ROM images."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from hw.wiring import BlockDevice, ByteSink
from vmx.serial import SerialBackend

SERIAL_PORTS = 2
IDE_PLACES = tuple((channel, unit) for channel in range(2) for unit in range(2))


@dataclass(frozen=True, slots=True)
class Disk:
    """A hard disk on an IDE channel."""

    medium: BlockDevice


@dataclass(frozen=True, slots=True)
class Disc:
    """A CD-ROM drive, with a disc in it or empty."""

    medium: BlockDevice | None = None


def to_stderr(byte: int) -> None:
    """The default sink of the debug port."""
    sys.stderr.write(chr(byte))
    if byte == ord("\n"):
        sys.stderr.flush()


@dataclass(slots=True)
class Attachments:
    """`serials` are COM1 and COM2, None for a port without a cable; `drives` by (channel, unit)."""

    serials: tuple[SerialBackend | None, ...] = (None, None)
    printer: ByteSink | None = None
    drives: Mapping[tuple[int, int], Disk | Disc] = field(default_factory=dict)
    firmware: bytes = b""
    video_rom: bytes = b""
    debug_sink: ByteSink = to_stderr

    def __post_init__(self) -> None:
        self.serials = (*self.serials, None, None)[:SERIAL_PORTS]
        assert all(place in IDE_PLACES for place in self.drives), f"drives at {sorted(self.drives)}"
