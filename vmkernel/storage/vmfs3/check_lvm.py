"""Checks the LVM of a volume's devices, each by itself and all against each other, and says how to mend it.

The geometry of a device follows from its volume descriptor and its size: PE tables, bitmaps and counts are mended from
it. What identifies the volume (LVM UUID, magic, numbers of versions) is not guessed.
Source: dissect.vmfs, lvm.py; vmfs-tools, libvmfs/vmfs_lvm.c, vmfs_volume.c.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from construct import Int32ul, Int64ul, Struct

from vmkernel.storage.vmfs3 import lvm_spec as spec
from vmkernel.storage.vmfs3.finding import Fault, Findings, Patch
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.layout import fields, offsets
from vmkernel.storage.vmfs3.lun import Lun

HEADER_OFFSETS = offsets(spec.DEVICE_HEADER)
DESCRIPTOR_OFFSETS = offsets(spec.VOLUME_DESCRIPTOR)
SAME_ON_ALL = ("lvm_uuid", "snap_id", "logical_size", "generation", "state", "volume_id", "num_devices")
ENTRY_FIELDS = ("used", "pe_id", "volume_id", "physical_offset", "logical_offset", "length")
ENTRIES_SHOWN = 3  # of the wrong ones of a device


def check_devices(luns: Sequence[Lun], findings: Findings) -> None:
    """Devices in any order; their number in a finding is their place here."""
    headers = [spec.DEVICE_HEADER.parse(lun.bytes_at(spec.HEADER_AT, spec.SECTOR_BYTES)) for lun in luns]
    volumes = [spec.VOLUME_DESCRIPTOR.parse(lun.bytes_at(spec.DESCRIPTORS_AT, spec.SECTOR_BYTES)) for lun in luns]
    for number, lun in enumerate(luns):
        if headers[number].magic == spec.MAGIC and headers[number].major == spec.MAJOR_LVM3:
            Device(number, lun, headers[number], volumes[number], findings).check()
    if len(luns) > 1:
        check_set(headers, volumes, findings)
    check_order(volumes, findings)


class Device:
    """One device: header, descriptor, PE bitmap and PE table."""

    def __init__(self, number: int, lun: Lun, header: Any, volume: Any, findings: Findings) -> None:
        self.number, self.lun, self.header, self.volume, self.findings = number, lun, header, volume, findings

    def check(self) -> None:
        header, volume = self.header, self.volume
        far = self.lun.size + spec.PE_BYTES  # an image may lack the last sectors, which are in no extent
        fits = min(max(self.lun.size - spec.DATA_AT, 0) // spec.PE_BYTES, spec.PES_PER_TABLE)
        self._header_field("num_volumes", 1)
        self._header_field("disk_block_size", spec.SECTOR_BYTES)
        self._header_field("data_offset", spec.DATA_AT)
        if header.num_pes != volume.num_pes:
            self._header_field("num_pes", volume.num_pes)
        self._header_field("last_pe", max(volume.num_pes - 1, 0))
        if header.total_bytes < spec.DATA_AT + volume.num_pes * spec.PE_BYTES or header.total_bytes > far:
            self._header_field("total_bytes", self.lun.size)
        if volume.num_pes > fits:
            where = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["num_pes"]
            self._find(where, "volume descriptor", "num_pes", f"at most {fits}, for its size", volume.num_pes)
            return
        self._volume_field("last_pe", volume.first_pe + volume.num_pes - 1)
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
        found = np.frombuffer(self.lun.bytes_at(spec.PE_BITMAP_AT, spec.PE_BITMAP_BYTES), np.uint8)
        bits = np.arange(spec.PES_PER_TABLE) < self.volume.num_pes
        expected = np.packbits(bits, bitorder="little")
        wrong = np.flatnonzero(np.unpackbits(found, bitorder="little") != bits)
        if len(wrong):
            patch = Patch(spec.PE_BITMAP_AT, expected.tobytes(), self.number)
            first = int(wrong[0])
            self._find(
                spec.PE_BITMAP_AT + first // 8, "PE bitmap", f"PE {first}" + more(len(wrong) - 1),
                "used" if bits[first] else "free", "free" if bits[first] else "used", "the bitmap is written", patch,
            )  # fmt: skip

    def _table(self) -> None:
        count = self.volume.num_pes
        raw = self.lun.bytes_at(spec.PE_TABLE_AT, spec.PES_PER_TABLE * spec.PE_ENTRY.itemsize)
        table = np.frombuffer(raw, spec.PE_ENTRY)
        numbers = np.arange(count, dtype=np.uint64)
        expected = table[:count].copy()
        expected["used"] = 1
        expected["pe_id"] = numbers
        expected["volume_id"] = self.volume.volume_id
        expected["physical_offset"] = spec.DATA_AT + numbers * np.uint64(spec.PE_BYTES)
        expected["logical_offset"] = (np.uint64(self.volume.first_pe) + numbers) * np.uint64(spec.PE_BYTES)
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
            patch = Patch(at, bytes(len(raw) - (at - spec.PE_TABLE_AT)), self.number)
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
    """Devices of one volume say the same of it. What most say, and of two the head, is right."""
    head = min(range(len(volumes)), key=lambda number: volumes[number].first_pe)
    for name in SAME_ON_ALL:
        counted = Counter(volume[name] for volume in volumes).most_common()
        values = [value for value, count in counted if count == counted[0][1]]
        right = volumes[head][name] if volumes[head][name] in values else values[0]
        for number, volume in enumerate(volumes):
            if volume[name] != right:
                at = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS[name]
                is_identity = name == "lvm_uuid"
                patches = [] if is_identity else [Patch(at, packed(spec.VOLUME_DESCRIPTOR, name, right), number)]
                findings.add(
                    Fault.LVM, at, "volume descriptor", f"{name}, as on the other devices", shown(right),
                    shown(volume[name]), "" if is_identity else "it is written", *patches, device=number,
                )  # fmt: skip
    seen: dict[bytes, int] = {}
    for number, header in enumerate(headers):
        if (other := seen.setdefault(header.device_uuid, number)) != number:
            at = spec.HEADER_AT + HEADER_OFFSETS["device_uuid"]
            text = f"as device {other}: {uuid_text(header.device_uuid)}"
            findings.add(Fault.LVM, at, "LVM header", "device_uuid", "one of its own", text, device=number)


def check_order(volumes: Sequence[Any], findings: Findings) -> None:
    """PEs follow each other over the devices, and make up the whole."""
    next_pe = 0
    for number in sorted(range(len(volumes)), key=lambda one: volumes[one].first_pe):
        volume = volumes[number]
        if volume.first_pe != next_pe:
            at = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["first_pe"]
            text = "volume descriptor"
            findings.add(Fault.LVM, at, text, "first_pe", next_pe, volume.first_pe, device=number)
        next_pe = volume.first_pe + volume.num_pes
    if len(volumes) != volumes[0].num_devices:
        at = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["num_devices"]
        text = "volume descriptor"
        findings.add(Fault.LVM, at, text, "num_devices", len(volumes), volumes[0].num_devices, device=0)
    elif volumes[0].logical_size != (size := sum(volume.num_pes for volume in volumes) * spec.PE_BYTES):
        at = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["logical_size"]
        for number in range(len(volumes)):
            patch = Patch(at, packed(spec.VOLUME_DESCRIPTOR, "logical_size", size), number)
            findings.add(
                Fault.LVM, at, "volume descriptor", "logical_size", size, volumes[number].logical_size,
                "it is written", patch, device=number,
            )  # fmt: skip


def packed(layout: Struct, name: str, value: int) -> bytes:
    """A number as the field has it."""
    size = next(field.size for field in fields(layout) if field.name == name)
    return bytes((Int32ul if size == 4 else Int64ul).build(value))


def shown(value: object) -> str:
    return uuid_text(value) if isinstance(value, bytes) else str(value)


def more(count: int) -> str:
    return f" and {count} more" if count else ""
