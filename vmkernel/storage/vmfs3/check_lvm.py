"""Checks the LVM of a volume's devices, each by itself and all against each other, and says how to mend it.

A device says several times how many extents it has and which is its first: what most say is right, if its size allows
it, and the rest is mended from that. How many devices there are is known where those that are given make up the whole
volume. What identifies the volume (LVM UUID, magic, numbers of versions) is not guessed: a UUID is written where most
devices have it, or where it is the volume's name too.
Source: dissect.vmfs, lvm.py; vmfs-tools, libvmfs/vmfs_lvm.c, vmfs_volume.c.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from construct import Int32ul, Int64ul, Struct
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import lvm_spec as spec
from vmkernel.storage.vmfs3.errors import IncompleteVolume
from vmkernel.storage.vmfs3.finding import Fault, Findings, Patch
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.layout import fields, offsets
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import GROWN

HEADER_OFFSETS = offsets(spec.DEVICE_HEADER)
DESCRIPTOR_OFFSETS = offsets(spec.VOLUME_DESCRIPTOR)
IDENTITY = ("lvm_uuid", "name")
SAME_ON_ALL = (*IDENTITY, "snap_id", "logical_size", "generation", "state", "volume_id", "num_devices")
ENTRY_FIELDS = ("used", "pe_id", "volume_id", "physical_offset", "logical_offset", "length")
ENTRIES_SHOWN = 3  # of the wrong ones of a device


def check_devices(luns: Sequence[Lun], findings: Findings) -> None:
    """Devices in any order; their number in a finding is their place here."""
    devices = [Device(number, lun, findings) for number, lun in enumerate(luns)]
    headers, volumes = [device.header for device in devices], [device.volume for device in devices]
    for device in devices:
        if device.is_known:
            device.check()
    if len(luns) > 1:
        check_set(headers, volumes, findings)
    check_order(volumes, findings)


def judge_whole(luns: Sequence[Lun]) -> None:
    """Raises IncompleteVolume for an image that was cut short within an extent."""
    for number, lun in enumerate(luns):
        device = Device(number, lun, Findings())
        if device.is_known and device.held < device.least:
            found = f"{device.held}: it was cut short, and can only be read"
            raise IncompleteVolume(str(lun), "size", f"{device.least} bytes or more", found)


class Device:
    """One device: header, descriptor, PE bitmap and PE table."""

    def __init__(self, number: int, lun: Lun, findings: Findings) -> None:
        self.number, self.lun, self.findings = number, lun, findings
        self.header: Any = spec.DEVICE_HEADER.parse(lun.bytes_at(spec.HEADER_AT, spec.SECTOR_BYTES))
        self.volume: Any = spec.VOLUME_DESCRIPTOR.parse(lun.bytes_at(spec.DESCRIPTORS_AT, spec.SECTOR_BYTES))
        held = lun.file.size - lun.base
        self.held = min(held, lun.size) if lun.base else held
        bitmap, table = spec.PE_BITMAP_BYTES, spec.PES_PER_TABLE * spec.PE_ENTRY.itemsize
        raw = lun.bytes_at(spec.PE_BITMAP_AT, bitmap) if self.held >= spec.DATA_AT else bytes(bitmap)
        self.bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little").astype(np.bool_)
        raw = lun.bytes_at(spec.PE_TABLE_AT, table) if self.held >= spec.DATA_AT else bytes(table)
        self.table = np.frombuffer(raw, spec.PE_ENTRY)
        self.count = self._count()
        self.first_pe = self._first_pe()

    @property
    def is_known(self) -> bool:
        return bool(self.header.magic == spec.MAGIC and self.header.major == spec.MAJOR_LVM3)

    def _count(self) -> int:
        """How many extents it has."""
        header, volume = self.header, self.volume
        numbered = (self.table["used"] == 1) & (self.table["pe_id"] == np.arange(len(self.table)))
        return agreed(
            volume.num_pes, header.num_pes, leading(numbered), leading(self.bits), header.last_pe + 1,
            volume.last_pe - volume.first_pe + 1,
        )  # fmt: skip

    def _first_pe(self) -> int:
        volume = self.volume
        starts = self.table["logical_offset"][: self.count] // np.uint64(spec.PE_BYTES)
        told = [int(start) - number for number, start in enumerate(starts.tolist())]
        from_table = Counter(told).most_common(1)[0][0] if told else 0
        return agreed(volume.first_pe, volume.last_pe - self.count + 1, from_table, least=0)

    def _size(self) -> int:
        """Of the device; an image may have been cut short."""
        if self.lun.base:
            return self.lun.size
        least, said = self.least, self.header.total_bytes
        return max(self.held, said if least <= said <= least + spec.PE_BYTES and self.held < least else least)

    @property
    def least(self) -> int:
        """Bytes that it has for its extents."""
        return spec.DATA_AT + self.count * spec.PE_BYTES

    def check(self) -> None:
        header, size = self.header, self._size()
        far = size + spec.PE_BYTES  # an image may lack the last sectors, which are in no extent
        fits = min(max(size - spec.DATA_AT, 0) // spec.PE_BYTES, spec.PES_PER_TABLE)
        if self.held < self.least:
            self._find(self.held, "image", "size", f"{self.least} bytes or more", f"{self.held}: it was cut short")
        self._header_field("num_volumes", 1)
        self._header_field("disk_block_size", spec.SECTOR_BYTES)
        self._header_field("data_offset", spec.DATA_AT)
        if header.num_pe_maps > 1:  # LVM 3 has one, and no header that goes on elsewhere
            self._header_field("num_pe_maps", 0)
        self._header_field("extended_offset", 0)
        self._header_field("num_pes", self.count)
        self._header_field("last_pe", self.count - 1)
        if header.total_bytes < spec.DATA_AT + self.count * spec.PE_BYTES or header.total_bytes > far:
            self._header_field("total_bytes", size)
        if self.count > fits:
            where = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["num_pes"]
            self._find(where, "volume descriptor", "num_pes", f"at most {fits}, for its size", self.count)
            return
        self._volume_field("num_pes", self.count)
        self._volume_field("first_pe", self.first_pe)
        self._volume_field("last_pe", self.first_pe + self.count - 1)
        self._volume_field("state", int(spec.VolumeState.NORMAL))
        self._name()
        self._bitmap()
        self._table()

    def _name(self) -> None:
        """ESX 3 writes the LVM UUID, later ones what they are told to."""
        found = self.volume.name.rstrip(b"\0")
        try:
            found.decode()
        except UnicodeDecodeError:
            right = uuid_text(self.volume.lvm_uuid).encode().ljust(spec.NAME_BYTES, b"\0")
            patch = Patch(spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["name"], right, self.number)
            self._find(patch.offset, "volume descriptor", "name", "UTF-8", repr(found), "the UUID is written", patch)

    def _bitmap(self) -> None:
        bits = np.arange(spec.PES_PER_TABLE) < self.count
        expected = np.packbits(bits, bitorder="little")
        wrong = np.flatnonzero(self.bits != bits)
        if len(wrong):
            patch = Patch(spec.PE_BITMAP_AT, expected.tobytes(), self.number)
            first = int(wrong[0])
            self._find(
                spec.PE_BITMAP_AT + first // 8, "PE bitmap", f"PE {first}" + more(len(wrong) - 1),
                "used" if bits[first] else "free", "free" if bits[first] else "used", "the bitmap is written", patch,
            )  # fmt: skip

    def _table(self) -> None:
        count, table = self.count, self.table
        numbers = np.arange(count, dtype=np.uint64)
        expected = table[:count].copy()
        expected["used"] = 1
        expected["pe_id"] = numbers
        expected["volume_id"] = self.volume.volume_id
        expected["physical_offset"] = spec.DATA_AT + numbers * np.uint64(spec.PE_BYTES)
        expected["logical_offset"] = (np.uint64(self.first_pe) + numbers) * np.uint64(spec.PE_BYTES)
        expected["length"] = spec.PE_BYTES
        for name in ENTRY_FIELDS:
            wrong = np.flatnonzero(table[:count][name] != expected[name]).tolist()
            for entry in wrong[:ENTRIES_SHOWN]:
                at = spec.PE_TABLE_AT + entry * spec.PE_ENTRY.itemsize
                patch = Patch(at, expected[entry].tobytes(), self.number)
                where = at + offsets(spec.PE_ENTRY)[name]
                values = [f"{int(one[entry][name]):#x}" for one in (expected, table)]
                self._find(where, f"PE table entry {entry}", name, values[0], values[1], "it is written", patch)
            if rest := wrong[ENTRIES_SHOWN:]:
                at = spec.PE_TABLE_AT + rest[0] * spec.PE_ENTRY.itemsize
                patches = [
                    Patch(
                        spec.PE_TABLE_AT + entry * spec.PE_ENTRY.itemsize, expected[entry].tobytes(), self.number
                    ) for entry in rest
                ]  # fmt: skip
                self._find(at, "PE table", name, "as the geometry", f"{len(rest)} more", "they are written", *patches)
        for entry in np.flatnonzero(table[count:]["used"])[:1].tolist():
            at = spec.PE_TABLE_AT + (count + entry) * spec.PE_ENTRY.itemsize
            patch = Patch(at, bytes(table[count + entry :].nbytes), self.number)
            what = f"PE table entry {count + entry}"
            self._find(at, what, "used", 0, int(table[count + entry]["used"]), "it is cleared", patch)

    def _header_field(self, name: str, expected: int) -> None:
        place = spec.HEADER_AT + HEADER_OFFSETS[name]
        self._field(spec.DEVICE_HEADER, "LVM header", place, name, expected, self.header[name])

    def _volume_field(self, name: str, expected: int) -> None:
        place = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS[name]
        self._field(spec.VOLUME_DESCRIPTOR, "volume descriptor", place, name, expected, self.volume[name])

    def _field(self, layout: Struct, subject: str, place: int, name: str, expected: int, found: int) -> None:
        if expected != found:
            patch = Patch(place, packed(layout, name, expected), self.number)
            self._find(place, subject, name, expected, found, "it is written", patch)

    def _find(
        self, at: int, subject: str, what: str, expected: object, found: object, plan: str = "", *patches: Patch
    ) -> None:
        self.findings.add(Fault.LVM, at, subject, what, expected, found, plan, *patches, device=self.number)


def check_set(headers: Sequence[Any], volumes: Sequence[Any], findings: Findings) -> None:
    """Devices of one volume say the same of it. What they amount to, what most say, and of two the head, is right."""
    head = min(range(len(volumes)), key=lambda number: volumes[number].first_pe)
    sums = {"num_devices": len(volumes), "logical_size": total_size(volumes)}
    for name in SAME_ON_ALL:
        counted = Counter(volume[name] for volume in volumes).most_common()
        values = [value for value, count in counted if count == counted[0][1]]
        right = volumes[head][name] if volumes[head][name] in values else values[0]
        named = [value for value in values if is_named(value, volumes)] if name in IDENTITY else []
        if len(named) == 1:
            right = named[0]
        if name in sums and sums[name] in {volume[name] for volume in volumes}:
            right = sums[name]
        if name in GROWN and any(is_ahead(volume, volumes[head]) for volume in volumes):
            right = volumes[head][name]  # the head is what an extension changes last
        is_known = name != "lvm_uuid" or len(values) == 1 or len(named) == 1
        for number, volume in enumerate(volumes):
            if volume[name] != right:
                at = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS[name]
                patches = [Patch(at, packed(spec.VOLUME_DESCRIPTOR, name, right), number)] if is_known else []
                findings.add(
                    Fault.LVM, at, "volume descriptor", f"{name}, as on the other devices", shown(right),
                    shown(volume[name]), "it is written" if is_known else "", *patches, device=number,
                )  # fmt: skip
    seen: dict[bytes, int] = {}
    for number, header in enumerate(headers):
        if (other := seen.setdefault(header.device_uuid, number)) != number:
            at = spec.HEADER_AT + HEADER_OFFSETS["device_uuid"]
            text = f"as device {other}: {uuid_text(header.device_uuid)}"
            own = sha256(header.device_uuid + bytes([number])).digest()[: spec.UUID_BYTES]  # nothing else has it
            patch = Patch(at, own, number)
            findings.add(
                Fault.LVM, at, "LVM header", "device_uuid", "one of its own", text, "it gets one", patch, device=number
            )  # fmt: skip


def is_ahead(volume: Any, head: Any) -> bool:
    """An extension that did not come to its end has changed this device already."""
    return all(volume[name] > head[name] for name in GROWN)


def is_named(value: bytes, volumes: Sequence[Any]) -> bool:
    """Whether a UUID is the name of a device's volume, or a name the UUID of one: ESX 3 writes it both ways."""
    uuids = {volume.lvm_uuid for volume in volumes}
    names = {volume.name.rstrip(b"\0") for volume in volumes}
    if len(value) == spec.UUID_BYTES:
        return uuid_text(value).encode() in names
    return value.rstrip(b"\0") in {uuid_text(uuid).encode() for uuid in uuids}


def check_order(volumes: Sequence[Any], findings: Findings) -> None:
    """PEs follow each other over the devices, and make up the whole."""
    next_pe, is_in_order = 0, True
    for number in sorted(range(len(volumes)), key=lambda one: volumes[one].first_pe):
        volume = volumes[number]
        if volume.first_pe != next_pe:
            is_in_order = False
            at = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["first_pe"]
            text = "volume descriptor"
            findings.add(Fault.LVM, at, text, "first_pe", next_pe, volume.first_pe, device=number)
        next_pe = volume.first_pe + volume.num_pes
    size = total_size(volumes)
    if len(volumes) != volumes[0].num_devices:
        is_whole = is_in_order and volumes[0].logical_size == size  # then no device is missing
        find_sum(volumes, "num_devices", len(volumes), findings, is_known=is_whole)
    elif volumes[0].logical_size != size:
        find_sum(volumes, "logical_size", size, findings, is_known=True)


def find_sum(volumes: Sequence[Any], name: str, right: int, findings: Findings, *, is_known: bool) -> None:
    """What follows from all devices together, and the first says otherwise."""
    at = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS[name]
    if not is_known:
        findings.add(Fault.LVM, at, "volume descriptor", name, right, volumes[0][name], device=0)
        return
    for number, volume in enumerate(volumes):
        if volume[name] != right:
            patch = Patch(at, packed(spec.VOLUME_DESCRIPTOR, name, right), number)
            findings.add(
                Fault.LVM, at, "volume descriptor", name, right, volume[name], "it is written", patch, device=number
            )  # fmt: skip


def total_size(volumes: Sequence[Any]) -> int:
    """Bytes of all extents of all devices."""
    return sum(int(volume.num_pes) for volume in volumes) * spec.PE_BYTES


def agreed(*said: int, least: int = 1) -> int:
    """What most say, of what a device can have; the first of several."""
    possible = [value for value in said if least <= value <= spec.PES_PER_TABLE * spec.DEVICES_MAX]
    return Counter(possible).most_common(1)[0][0] if possible else least


def leading(bits: NDArray[np.bool_]) -> int:
    """How many are set, from the first on."""
    return int(np.argmin(bits)) if not bits.all() else len(bits)


def packed(layout: Struct, name: str, value: int | bytes) -> bytes:
    """As the field has it."""
    if isinstance(value, bytes):
        return value
    size = next(field.size for field in fields(layout) if field.name == name)
    return bytes((Int32ul if size == 4 else Int64ul).build(value))


def shown(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    return uuid_text(value) if len(value) == spec.UUID_BYTES else ascii(value.rstrip(b"\0").decode("utf-8", "replace"))


def more(count: int) -> str:
    return f" and {count} more" if count else ""
