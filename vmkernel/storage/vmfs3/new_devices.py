"""Devices that become part of a volume: where it goes on each, and its LVM header, descriptor and physical extents.

Not made: GPT partitions, sectors of other sizes than 512 bytes.
Source: vmfs-tools, libvmfs/vmfs_lvm.c; util-linux, libblkid/src/superblocks/vmfs.c (identification).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from ringfence.errors import BadInput, BadOption
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.partitions_spec import MBR, SIGNATURE
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.lvm_spec import (
    DATA_AT,
    DESCRIPTORS_AT,
    DEVICE_HEADER,
    HEADER_AT,
    MAGIC,
    MAJOR_LVM3,
    MINOR,
    PARTITION_START_LBA,
    PARTITION_TYPE,
    PE_BITMAP_AT,
    PE_BITMAP_BYTES,
    PE_BYTES,
    PE_ENTRY,
    PE_TABLE_AT,
    PES_PER_TABLE,
    SECTOR_BYTES,
    SNAPSHOT_ID,
    VOLUME_DESCRIPTOR,
    DiskIdType,
    VolumeState,
)  # fmt: skip

MBR_SECTORS_MAX = (1 << 32) - 1
CHS_BEYOND = b"\xfe\xff\xff"


class Placement(Enum):
    """Where on a device the volume goes."""

    NEW_PARTITION = "new"  # a fresh MBR, entry 1 from sector 128 on
    WHOLE_DEVICE = "whole"
    EXISTING_PARTITION = "existing"  # the first entry of type FBh


@dataclass(frozen=True, slots=True)
class Device:
    """A device to be formatted: the partition's place in it, and its physical extents."""

    file: BlockFile
    base: int
    size: int
    first_pe: int

    @property
    def pes(self) -> int:
        return min((self.size - DATA_AT) // PE_BYTES, PES_PER_TABLE)

    def write(self, offset: int, data: bytes) -> None:
        self.file.write(self.base + offset, [data])

    def zero(self, offset: int, length: int) -> None:
        self.file.zero(self.base + offset, length, punch=True)


def open_devices(
    stack: contextlib.ExitStack, paths: Sequence[Path], placement: Placement, *, force: bool, first_pe: int = 0
) -> Iterator[Device]:
    """To be formatted, their extents numbered from `first_pe` on."""
    seen: list[Path] = []
    for path in paths:
        if path.exists() and any(path.samefile(other) for other in seen):
            raise BadOption(f"{path}: expected each device once, found it twice")
        file = stack.enter_context(BlockFile.open(path, writable=True))
        seen.append(path)
        device = Device(file, *place(file, placement, force=force), first_pe)
        if device.pes < 1:
            raise BadInput(
                str(path), "size", f"at least {device.base + DATA_AT + PE_BYTES} bytes, for one physical extent",
                f"{file.size} bytes",
            )  # fmt: skip
        if not force and file.bytes_at(device.base + HEADER_AT, 4) == MAGIC.to_bytes(4, "little"):
            raise BadInput(str(path), "contents", "no volume (--force formats over one)", "an LVM header of VMFS")
        first_pe += device.pes
        yield device


def place(file: BlockFile, placement: Placement, *, force: bool) -> tuple[int, int]:
    """(offset, bytes) of the partition."""
    if placement is Placement.WHOLE_DEVICE:
        return 0, file.size // SECTOR_BYTES * SECTOR_BYTES
    entries = table(file)
    if placement is Placement.NEW_PARTITION:
        if any(entry.type for entry in entries) and not force:
            raise BadInput(str(file.path), "contents", "no partitions (--force makes a new table)", "a partition table")
        start = PARTITION_START_LBA
        return start * SECTOR_BYTES, min(max(file.size // SECTOR_BYTES - start, 0), MBR_SECTORS_MAX) * SECTOR_BYTES
    for entry in entries:
        if entry.type == PARTITION_TYPE and (entry.start + entry.sectors) * SECTOR_BYTES <= file.size:
            return entry.start * SECTOR_BYTES, entry.sectors * SECTOR_BYTES
    raise BadInput(str(file.path), "partition table", f"an entry of type {PARTITION_TYPE:x}h on the device", "none")


def table(file: BlockFile) -> list[MBR]:
    sector = file.some_at(0, SECTOR_BYTES)
    if len(sector) < SECTOR_BYTES or not sector.endswith(SIGNATURE):
        return []
    return list(MBR.parse(sector).entries)


def mbr(device: Device) -> bytes:
    empty = {"boot": 0, "first_chs": bytes(3), "type": 0, "last_chs": bytes(3), "start": 0, "sectors": 0}
    entry = {
        "boot": 0, "first_chs": CHS_BEYOND, "type": PARTITION_TYPE, "last_chs": CHS_BEYOND,
        "start": device.base // SECTOR_BYTES, "sectors": device.size // SECTOR_BYTES,
    }  # fmt: skip
    return bytes(MBR.build({"program": bytes(446), "entries": [entry, empty, empty, empty]}))


# LVM


def write_lvm(
    device: Device, number: int, total: int, count: int, lvm_uuid: bytes, device_uuid: bytes, now_us: int, *,
    created_us: int | None = None, snap_id: int = SNAPSHOT_ID,
) -> None:  # fmt: skip
    """Header, volume descriptor, bitmap and table of the `number`th of `count` devices, which have `total` extents."""
    added = count - 1 if number == 0 else 0
    device.write(HEADER_AT, DEVICE_HEADER.build({
        "magic": MAGIC, "major": MAJOR_LVM3, "minor": MINOR, "disk_id": disk_id(number),
        "disk_block_size": SECTOR_BYTES, "total_bytes": device.size, "num_volumes": 1, "num_pes": device.pes,
        "last_pe": device.pes - 1, "generation": 3 + 2 * added, "data_offset": DATA_AT, "device_uuid": device_uuid,
        "init_time_us": now_us, "mod_time_us": now_us, "locked_by": bytes(16), "locked_when_us": 0, "reserved_ba": 0,
        "num_pe_maps": 0, "extended_offset": 0, "md_alignment": 0, "num_pes_6": 0, "flags": 0,
        "reserved_d6": bytes(298),
    }))  # fmt: skip
    device.zero(DESCRIPTORS_AT, PE_BITMAP_AT - DESCRIPTORS_AT)
    device.write(DESCRIPTORS_AT, VOLUME_DESCRIPTOR.build({
        "logical_size": total * PE_BYTES, "generation": total + count, "state": VolumeState.NORMAL,
        "name": uuid_text(lvm_uuid).encode().ljust(64, b"\0"), "lvm_uuid": lvm_uuid, "snap_id": snap_id,
        "creation_time_us": now_us if created_us is None else created_us, "volume_id": 0, "num_pes": device.pes,
        "first_pe": device.first_pe,
        "last_pe": device.first_pe + device.pes - 1, "mod_time_us": now_us, "num_devices": count,
        "reserved_94": bytes(124), "consumed_pes": 0, "reserved_114": bytes(236),
    }))  # fmt: skip
    write_extents(device)


def write_extents(device: Device) -> None:
    bits = np.zeros(PE_BITMAP_BYTES * 8, np.uint8)
    bits[: device.pes] = 1
    device.write(PE_BITMAP_AT, np.packbits(bits, bitorder="little").tobytes())
    numbers = np.arange(device.pes, dtype=np.uint64)
    table = np.zeros(PES_PER_TABLE, PE_ENTRY)
    used = table[: device.pes]
    used["used"], used["version"] = 1, 1
    used["pe_id"] = numbers
    used["physical_offset"] = DATA_AT + numbers * PE_BYTES
    used["logical_offset"] = (device.first_pe + numbers) * PE_BYTES
    used["length"] = PE_BYTES
    device.write(PE_TABLE_AT, table.tobytes())


def disk_id(number: int) -> dict[str, object]:
    """An identity for the LUN that an image stands for: ESX compares it with what it finds the volume on."""
    name = b"vmhba0:C0:T%d:L0" % number
    return {
        "type": DiskIdType.NAME, "id_length": len(name), "lun": 0, "device_type": 0, "scsi_level": 3,
        "vendor": b"VMware".ljust(8), "model": b"Virtual disk".ljust(16), "revision": b"1.0".ljust(4),
        "id": name.ljust(44, b"\0"),
    }  # fmt: skip
