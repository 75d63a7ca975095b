"""The logical volume: physical extents of one or more LUNs, one behind the other.

The PE tables say what lies where; they are believed when they agree with the descriptors and leave no hole. A LUN
without LVM is a volume of itself.
Not modelled: several volumes on one device, which VMFS never has; LVM 6.
Source: dissect.vmfs, c_lvm.py, lvm.py; vmfs-tools, libvmfs/vmfs_lvm.c.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.block_file import View, cut
from vmkernel.storage.errors import HostTrouble, Unsupported
from vmkernel.storage.vmfs3 import lvm_spec as spec
from vmkernel.storage.vmfs3.errors import CorruptVolume, IncompleteVolume
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.layout import offsets
from vmkernel.storage.vmfs3.lun import Lun

HEADER_OFFSETS, DESCRIPTOR_OFFSETS = offsets(spec.DEVICE_HEADER), offsets(spec.VOLUME_DESCRIPTOR)
ENTRY_OFFSETS = offsets(spec.PE_ENTRY)
SHARED = ("lvm_uuid", "snap_id", "name", "logical_size", "generation", "num_devices", "volume_id")
GROWN = ("logical_size", "generation", "num_devices")  # what an extension changes, on one device after the other


class Device(NamedTuple):
    """One device of a volume. `table` has its PE entries in use, `entries_at` where on the device they lie."""

    lun: Lun
    header: Any
    descriptor: Any
    table: NDArray[np.void]
    entries_at: NDArray[np.int64]


class Run(NamedTuple):
    """Bytes of a volume that lie one behind the other on one LUN."""

    lun: Lun
    offset: int
    length: int


class LogicalVolume:
    """Offsets are bytes of the volume. `luns` and `devices` are in the order of their extents."""

    def __init__(self, luns: Sequence[Lun], devices: Sequence[Device], starts: list[int], runs: list[Run]) -> None:
        self.luns, self.devices = list(luns), list(devices)
        self._starts, self._runs = starts, runs
        self.size = starts[-1] + runs[-1].length
        self.name = "+".join(str(lun) for lun in luns)

    @classmethod
    def open(cls, luns: Sequence[Lun]) -> LogicalVolume:
        """Raises CorruptVolume, IncompleteVolume, Unsupported. The LUNs are closed by `close`, not by a failure."""
        if len(luns) == 1 and luns[0].is_bare:
            return cls(luns, [], [0], [Run(luns[0], 0, luns[0].size)])
        devices = sorted((read_device(lun) for lun in luns), key=lambda device: int(device.descriptor.first_pe))
        judge_set(devices)
        starts, runs = join(devices)
        return cls([device.lun for device in devices], devices, starts, runs)

    @property
    def ahead(self) -> list[Device]:
        """Devices that know of an extension which ended before the head did: it has not taken place."""
        return [device for device in self.devices[1:] if is_ahead(device, self.devices[0])]

    @property
    def uuid(self) -> bytes | None:
        """None: there is no LVM."""
        return bytes(self.devices[0].descriptor.lvm_uuid) if self.devices else None

    @property
    def writable(self) -> bool:
        return all(lun.writable for lun in self.luns)

    def judge_whole(self) -> None:
        """Raises IncompleteVolume for an image that was cut short: it can be read, and is not written."""
        for lun, missing in self.missing():
            size = lun.file.size
            found = f"{size} bytes: it was cut short, and can only be read"
            raise IncompleteVolume(str(lun), "size", f"{size + missing} bytes, to be written", found)

    def missing(self) -> Iterator[tuple[Lun, int]]:
        """Images that were cut short, and how many bytes each lacks up to the end of its last extent."""
        for lun in self.luns:
            end = lun.base + max(run.offset + run.length for run in self._runs if run.lun is lun)
            if end > lun.file.size:
                yield lun, end - lun.file.size

    def close(self) -> None:
        for lun in self.luns:
            lun.close()

    # bytes

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        runs = self.runs(offset, sum(map(len, views)))
        if len(runs) == 1:
            runs[0].lun.read(runs[0].offset, views)
            return
        done = 0
        for lun, at, length in runs:
            lun.read(at, cut(views, done, length))
            done += length

    def write(self, offset: int, views: Sequence[View]) -> None:
        done = 0
        for lun, at, length in self.runs(offset, sum(map(len, views))):
            lun.write(at, cut([memoryview(view) for view in views], done, length))
            done += length

    def bytes_at(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read(offset, [memoryview(data)])
        return bytes(data)

    def sync(self) -> None:
        for lun in self.luns:
            lun.sync()

    def lun_at(self, offset: int) -> tuple[Lun, int]:
        """The LUN that has this byte, and where."""
        run = self.runs(offset, 1)[0]
        return run.lun, run.offset

    def runs(self, offset: int, length: int) -> list[Run]:
        """Raises HostTrouble past the end."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise HostTrouble(self.name, offset, f"{length} bytes here reach past the end of the volume, {self.size}")
        found = []
        index = bisect_right(self._starts, offset) - 1
        while length > 0:
            run, skip = self._runs[index], offset - self._starts[index]
            step = min(length, run.length - skip)
            found.append(Run(run.lun, run.offset + skip, step))
            offset, length, index = offset + step, length - step, index + 1
        return found

    @contextmanager
    def reserve(self, offset: int | None = None) -> Iterator[None]:
        """The device that has this byte is reserved; all of them, in their order, without one."""
        with ExitStack() as stack:
            for lun in self.luns if offset is None else [self.lun_at(offset)[0]]:
                stack.enter_context(lun.reserve())
            yield


def read_device(lun: Lun) -> Device:
    """Header, descriptor and PE table of one device. Raises CorruptVolume, Unsupported."""
    if lun.is_bare:
        raise IncompleteVolume(str(lun), "device", "one with an LVM header, as several were given", "none")
    if lun.size < spec.DATA_AT:
        raise corrupt(lun, 0, "size", f"{spec.DATA_AT} bytes or more", str(lun.size))
    header = spec.DEVICE_HEADER.parse(lun.bytes_at(spec.HEADER_AT, spec.DEVICE_HEADER.sizeof()))
    if header.magic == spec.MAGIC and header.total_bytes <= spec.DATA_AT + (header.num_pes + 1) * spec.PE_BYTES:
        lun.claim(header.total_bytes)
    if header.major >= spec.MAJOR_LVM6:
        raise Unsupported(str(lun), "version of LVM", "3 to 5", f"{header.major}, which holds VMFS-6")
    if header.num_volumes != 1:
        where = spec.HEADER_AT + HEADER_OFFSETS["num_volumes"]
        raise corrupt(lun, where, "volumes on the device", "1", str(header.num_volumes))
    descriptor = spec.VOLUME_DESCRIPTOR.parse(lun.bytes_at(spec.DESCRIPTORS_AT, spec.VOLUME_DESCRIPTOR.sizeof()))
    room = (lun.size - spec.DATA_AT) // spec.PE_BYTES
    if not 0 < header.num_pes <= room:
        where = spec.HEADER_AT + HEADER_OFFSETS["num_pes"]
        raise corrupt(lun, where, "physical extents", f"1 to {room} in {lun.size} bytes", str(header.num_pes))
    if descriptor.num_pes != header.num_pes:
        where = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["num_pes"]
        raise corrupt(lun, where, "physical extents", f"the header's {header.num_pes}", str(descriptor.num_pes))
    table, entries_at = read_table(lun, header)
    chosen = (table["used"] != 0) & (table["volume_id"] == descriptor.volume_id)
    return Device(lun, header, descriptor, table[chosen], entries_at[chosen])


def read_table(lun: Lun, header: Any) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """The first `num_pes` entries, and where each lies."""
    pieces, places, left = [], [], int(header.num_pes)
    for at in tables(lun, header):
        count = min(left, spec.PES_PER_TABLE)
        pieces.append(np.frombuffer(lun.bytes_at(at, count * spec.PE_ENTRY.itemsize), spec.PE_ENTRY))
        places.append(at + np.arange(count, dtype=np.int64) * spec.PE_ENTRY.itemsize)
        left -= count
        if not left:
            return np.concatenate(pieces), np.concatenate(places)
    where = spec.HEADER_AT + HEADER_OFFSETS["num_pe_maps"]
    raise corrupt(lun, where, "PE tables", f"room for {header.num_pes} extents", f"{left} too few")


def tables(lun: Lun, header: Any) -> Iterator[int]:
    """Where the PE tables lie: a device of LVM 3 has one, LVM 5 chains headers to more."""
    step = spec.PE_BITMAP_BYTES + spec.PES_PER_TABLE * spec.PE_ENTRY.itemsize
    maps, bitmap_at, next_at = header.num_pe_maps or 1, spec.PE_BITMAP_AT, header.extended_offset
    for _ in range(spec.EXTENDED_MAX):
        if maps > spec.PE_TABLES_MAX:
            raise corrupt(lun, bitmap_at, "PE tables in one place", f"up to {spec.PE_TABLES_MAX}", str(maps))
        for index in range(maps):
            yield bitmap_at + index * step + spec.PE_BITMAP_BYTES
        if not next_at:
            return
        if next_at + spec.EXTENDED_HEADER.sizeof() > lun.size:
            raise corrupt(lun, spec.HEADER_AT, "place of the extended header", "one on the device", f"{next_at:#x}")
        extended = spec.EXTENDED_HEADER.parse(lun.bytes_at(next_at, spec.EXTENDED_HEADER.sizeof()))
        if extended.magic != spec.MAGIC:
            raise corrupt(lun, next_at, "magic of the extended header", f"{spec.MAGIC:#x}", f"{extended.magic:#x}")
        maps, bitmap_at, next_at = extended.num_pe_maps, next_at + spec.EXTENDED_PE_BITMAP_AT, extended.next_offset


def judge_set(devices: Sequence[Device]) -> None:
    """All devices of one volume, each once. Raises IncompleteVolume or CorruptVolume."""
    head = devices[0]
    wanted = head.descriptor.num_devices
    for device in devices[1:]:
        for name in SHARED:
            if name in GROWN and is_ahead(device, head):
                continue
            ours, its = getattr(head.descriptor, name), getattr(device.descriptor, name)
            if ours != its:
                raise IncompleteVolume(
                    str(device.lun), f"{name} of the volume descriptor", f"{shown(ours)}, as on {head.lun}", shown(its)
                )
        if device.header.device_uuid == head.header.device_uuid:
            raise IncompleteVolume(str(device.lun), "device", "one that was not given yet", f"the same as {head.lun}")
    if wanted != len(devices):
        expected = f"the {wanted} of volume {shown(head.descriptor.lvm_uuid)}"
        raise IncompleteVolume(str(head.lun), "devices", expected, f"{len(devices)} given")
    extents = 0
    for device in devices:
        at = spec.DESCRIPTORS_AT
        first, last = device.descriptor.first_pe, device.descriptor.last_pe
        if first != extents:
            raise corrupt(device.lun, at + DESCRIPTOR_OFFSETS["first_pe"], "first extent", str(extents), str(first))
        extents += device.descriptor.num_pes
        if last != extents - 1:
            raise corrupt(device.lun, at + DESCRIPTOR_OFFSETS["last_pe"], "last extent", str(extents - 1), str(last))


def is_ahead(device: Device, head: Device) -> bool:
    """The head is changed last: what it says holds, and a device that says more by each of these says it too soon."""
    return all(getattr(device.descriptor, name) > getattr(head.descriptor, name) for name in GROWN)


def shown(value: Any) -> str:
    if not isinstance(value, bytes):
        return str(value)
    return uuid_text(value) if len(value) == spec.UUID_BYTES else ascii(value.rstrip(b"\0").decode("utf-8", "replace"))


def join(devices: Sequence[Device]) -> tuple[list[int], list[Run]]:
    """Where each run begins in the volume, and the run. Raises CorruptVolume for what overlaps or is missing."""
    for device in devices:
        judge_table(device)
    logical = np.concatenate([device.table["logical_offset"] for device in devices])
    owner = np.repeat(np.arange(len(devices)), [len(device.table) for device in devices])
    physical = np.concatenate([device.table["physical_offset"] for device in devices]).astype(np.int64)
    order = np.argsort(logical, kind="stable")
    expected = np.arange(len(order), dtype=np.uint64) * np.uint64(spec.PE_BYTES)
    wrong = np.flatnonzero(logical[order] != expected)
    if len(wrong):
        index = order[wrong[0]]
        device = devices[owner[index]]
        at = int(np.concatenate([each.entries_at for each in devices])[index]) + ENTRY_OFFSETS["logical_offset"]
        what, found = "place in the volume", f"{int(logical[index]):#x}"
        raise corrupt(device.lun, at, what, f"{int(expected[wrong[0]]):#x}", found)
    size = len(order) * spec.PE_BYTES
    head = devices[0]
    if size != head.descriptor.logical_size:
        at = spec.DESCRIPTORS_AT + DESCRIPTOR_OFFSETS["logical_size"]
        raise corrupt(head.lun, at, "size of the volume", f"{size}, its extents", str(head.descriptor.logical_size))
    starts: list[int] = []
    runs: list[Run] = []
    for number, index in enumerate(order.tolist()):
        lun, at = devices[owner[index]].lun, int(physical[index])
        if runs and runs[-1].lun is lun and runs[-1].offset + runs[-1].length == at:
            runs[-1] = runs[-1]._replace(length=runs[-1].length + spec.PE_BYTES)
            continue
        starts.append(number * spec.PE_BYTES)
        runs.append(Run(lun, at, spec.PE_BYTES))
    return starts, runs


def judge_table(device: Device) -> None:
    """Every extent of its length, on the device, none over another."""
    table, lun = device.table, device.lun
    if len(table) != device.descriptor.num_pes:
        raise corrupt(lun, spec.PE_TABLE_AT, "extents in use", str(device.descriptor.num_pes), str(len(table)))
    judge_column(device, "length", table["length"] == spec.PE_BYTES, f"{spec.PE_BYTES:#x}")
    at = table["physical_offset"]
    limit = np.uint64(max(lun.size - spec.PE_BYTES, 0))
    inside = (at >= spec.DATA_AT) & (at <= limit) & (at % np.uint64(spec.SECTOR_BYTES) == 0)
    judge_column(device, "physical_offset", inside, f"whole sectors from {spec.DATA_AT:#x} up to {int(limit):#x}")
    ordered = np.sort(at)
    if (np.diff(ordered) < np.uint64(spec.PE_BYTES)).any():
        raise corrupt(lun, spec.PE_TABLE_AT, "extents", "one behind the other", "two that overlap")


def judge_column(device: Device, name: str, good: NDArray[np.bool_], expected: str) -> None:
    wrong = np.flatnonzero(~good)
    if len(wrong):
        index = int(wrong[0])
        at = int(device.entries_at[index]) + ENTRY_OFFSETS[name]
        found = f"{int(device.table[name][index]):#x}"
        raise corrupt(device.lun, at, f"{name.replace('_', ' ')} of extent {index}", expected, found)


def corrupt(lun: Lun, offset: int, what: str, expected: str, found: str) -> CorruptVolume:
    return CorruptVolume(lun, offset, what, expected, found, device=True)
