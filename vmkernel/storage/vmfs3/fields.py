"""Structures of a volume field by field, for people who learn or rescue: where each lies, its bytes, what they mean.

Names, offsets and sizes come from the layouts of the spec files, all of them; this file only knows how a value reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, IntFlag
from typing import Any, TypeAlias

import numpy as np
from construct import Renamed, Struct

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.descriptor_spec import DESCRIPTOR, FileType, ZeroLevel
from vmkernel.storage.vmfs3.directory_spec import ENTRY
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.journal_spec import HEADER as JOURNAL_HEADER
from vmkernel.storage.vmfs3.journal_spec import JournalState
from vmkernel.storage.vmfs3.lvm_spec import DISK_ID, VOLUME_DESCRIPTOR, DiskIdType, VolumeState
from vmkernel.storage.vmfs3.volume_spec import HEARTBEAT, LOCK, SUPERBLOCK, Config, HeartbeatMagic, LockMode, LockType

Layout: TypeAlias = "Struct | np.dtype[Any]"
SHOWN_BYTES = 24  # of a field that is longer
ENUMS: tuple[tuple[Layout, str, type[IntEnum | IntFlag]], ...] = (
    (VOLUME_DESCRIPTOR, "state", VolumeState), (DISK_ID, "type", DiskIdType), (SUPERBLOCK, "config", Config),
    (HEARTBEAT, "magic", HeartbeatMagic), (LOCK, "type", LockType), (LOCK, "mode", LockMode),
    (DESCRIPTOR, "type", FileType), (DESCRIPTOR, "zla", ZeroLevel), (ENTRY, "type", FileType),
    (JOURNAL_HEADER, "state", JournalState),
)  # fmt: skip
UUIDS = frozenset({"device_uuid", "lvm_uuid", "uuid", "owner", "locked_by", "replay_host"})
TEXTS = frozenset({"name", "label", "vendor", "model", "revision", "id"})
ADDRESSES = frozenset({"address", "journal", "parent", "affinity", "pb2_address", "sdd_address"})
TIMES_S = frozenset({"creation_time", "mtime", "ctime", "atime"})
HEXADECIMAL = ("magic", "position", "offset", "flags", "generation_high", "affinity_bitmap")
OCTAL = frozenset({"mode"})
US_PER_S = 1_000_000
LATEST_S = 1 << 34  # beyond what datetime takes


@dataclass(frozen=True, slots=True)
class Shown:
    """One field. `offset` is where it lies: of the volume or of the device, as the structure."""

    offset: int
    name: str
    raw: bytes
    value: str

    @property
    def hex(self) -> str:
        return self.raw.hex(" ")

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "offset": self.offset, "size": len(self.raw), "name": self.name, "raw": self.raw.hex(), "value": self.value,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure with its fields. `device` is a device's name, where the offsets are of one."""

    title: str
    offset: int
    fields: tuple[Shown, ...]
    device: str = ""

    def facts(self) -> dict[str, Any]:
        return {
            "structure": self.title, "device": self.device or None, "offset": self.offset,
            "fields": [one.facts() for one in self.fields],
        }  # fmt: skip


def structure(title: str, layout: Layout, raw: bytes, offset: int, device: str = "") -> Structure:
    return Structure(title, offset, tuple(shown(layout, raw, offset)), device)


def shown(layout: Layout, raw: bytes, base: int, prefix: str = "") -> Iterator[Shown]:
    """Every field of a structure that begins at `base`; those of structures within it one by one."""
    for name, offset, size, inner, count in parts(layout):
        piece = raw[offset : offset + size]
        if inner is None:
            yield Shown(base + offset, prefix + name, piece, value_text(layout, name, piece))
            continue
        step = size // count
        for index in range(count):
            start = offset + index * step
            within = f"{prefix}{name}[{index}]." if count > 1 else f"{prefix}{name}."
            yield from shown(inner, raw[start : start + step], base + start, within)


def parts(layout: Layout) -> Iterator[tuple[str, int, int, Layout | None, int]]:
    """Name, offset, size, layout within and how many of it."""
    if isinstance(layout, np.dtype):
        for name, place in (layout.fields or {}).items():
            kind = place[0]
            base, shape = kind.subdtype if kind.subdtype else (kind, (1,))
            yield str(name), place[1], kind.itemsize, base if base.fields else None, int(np.prod(shape))
        return
    offset = 0
    for part in layout.subcons:
        size = part.sizeof()
        inner = part.subcon if isinstance(part, Renamed) and isinstance(part.subcon, Struct) else None
        yield str(part.name), offset, size, inner, 1
        offset += size


def value_text(layout: Layout, name: str, raw: bytes) -> str:
    """What a field says."""
    if name in UUIDS and len(raw) == 16:
        return uuid_text(raw) if any(raw) else "none"
    if name in TEXTS and (layout is DISK_ID or len(raw) > 8):
        return repr(raw.rstrip(b"\0").decode("utf-8", "backslashreplace"))
    if len(raw) not in (1, 2, 4, 8) or name.startswith("reserved"):
        return "zeros" if not any(raw) else f"{len(raw)} bytes"
    return number_text(layout, name, int.from_bytes(raw, "little"))


def number_text(layout: Layout, name: str, value: int) -> str:
    for owner, field, kind in ENUMS:
        if layout is owner and name == field:
            return enum_text(kind, value)
    if name in ADDRESSES:
        return f"{value:#010x} {addresses.describe(value)}"
    if name in OCTAL:
        return f"{value:#o}"
    if name in TIMES_S and layout is not LOCK:
        return f"{value} {time_text(value)}"
    if name.endswith("_time_us"):
        return f"{value} {time_text(value // US_PER_S)}"
    if any(word in name for word in HEXADECIMAL):
        return f"{value:#x}"
    return str(value)


def enum_text(kind: type[IntEnum | IntFlag], value: int) -> str:
    number = f"{value:#x}" if value > 0xFF or issubclass(kind, IntFlag) else str(value)
    try:
        name = kind(value).name
    except ValueError:
        name = None
    return f"{number} {(name or 'unknown').lower().replace('_', '-')}"


def time_text(seconds: int) -> str:
    """In UTC."""
    if not 0 < seconds < LATEST_S:
        return "never" if not seconds else "no time"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
