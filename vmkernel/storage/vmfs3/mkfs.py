"""Makes a VMFS-3 volume (3.31 on LVM 3) on one device or several.

The devices' files are there already, with their sizes. Whatever holds the volume's own files is written or zeroed; the
rest of a device keeps its bytes, which no file refers to.
Not made: VMFS-5.
Source: vmfs-tools, libvmfs (what a reader demands).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ringfence.errors import BadOption
from vmkernel.storage.vmfs3.descriptor_spec import (
    BLOCK_SHIFT,
    DESCRIPTOR,
    ROOT_MODE,
    SYSTEM_MODE,
    SYSTEM_NAMES,
    AddressType,
    FileType,
    SystemFile,
    ZeroLevel,
)
from vmkernel.storage.vmfs3.directory_spec import ENTRY, ENTRY_BYTES, PARENT, SELF
from vmkernel.storage.vmfs3.geometry import SYSTEM_FDS, Counts, Geometry, ResourceGeometry, plan
from vmkernel.storage.vmfs3.host import Host, new_uuid
from vmkernel.storage.vmfs3.lvm_spec import (
    DATA_AT,
    DEVICES_MAX,
    PE_BYTES,
    SECTOR_BYTES,
    SNAPSHOT_ID,
)
from vmkernel.storage.vmfs3.new_devices import Device, Placement, mbr, open_devices, write_lvm
from vmkernel.storage.vmfs3.resource_spec import (
    BITMAP_BYTES,
    CLUSTER,
    CLUSTER_HEADER_BYTES,
    GROUP_OFFSET,
    HEADER,
)
from vmkernel.storage.vmfs3.volume_spec import (
    FIXED_END,
    HEARTBEAT,
    HEARTBEAT_BYTES,
    HEARTBEATS,
    HEARTBEATS_AT,
    LABEL_BYTES,
    MAJOR_VMFS3,
    MINOR_VMFS3,
    SUB_BLOCK_BYTES,
    SUPERBLOCK,
    SUPERBLOCK_AT,
    Config,
    HeartbeatMagic,
    LockType,
)
from vmkernel.storage.vmfs3.volume_spec import MAGIC as VOLUME_MAGIC


@dataclass(frozen=True, slots=True)
class Identity:
    """What is the same all over a new volume."""

    lvm_uuid: bytes
    uuid: bytes
    label: str
    now_us: int
    uptime_us: int

    @property
    def now_s(self) -> int:
        return self.now_us // 1_000_000


def format_volume(
    paths: Sequence[Path], *, label: str = "", block_size: int = 1 << 20, host: Host | None = None,
    counts: Counts | None = None, reader_shift: bool = True, placement: Placement = Placement.NEW_PARTITION,
    force: bool = False,
) -> None:  # fmt: skip
    """Make one volume of these devices, the head first. `reader_shift`: every descriptor says log2 of its block size.

    Later releases have that byte, and some readers need it; ESX 3 leaves it zero. `force` formats over a partition
    table or another volume. Raises BadOption, BadInput, HostRefused, Locked; nothing is written before all is checked.
    """
    label_bytes(label)
    if not 1 <= len(paths) <= DEVICES_MAX:
        raise BadOption(f"devices of a volume: expected 1 to {DEVICES_MAX}, found {len(paths)}")
    host = host or Host()
    with contextlib.ExitStack() as stack:
        devices = list(open_devices(stack, paths, placement, force=force))
        total = sum(device.pes for device in devices)
        geometry = plan(total * PE_BYTES, block_size, counts)
        identity = Identity(own_uuid(host), own_uuid(host), label, time.time_ns() // 1000, uptime_us())
        writer = Writer(devices, geometry, identity, reader_shift=reader_shift)
        writer.write_all()
        for number, device in enumerate(devices):
            write_lvm(device, number, total, len(devices), identity.lvm_uuid, own_uuid(host), identity.now_us)
            if placement is Placement.NEW_PARTITION:
                device.file.write(0, [mbr(device)])
        for device in devices:
            device.file.sync()


def label_bytes(label: str) -> bytes:
    """Raises BadOption for a label that does not fit."""
    encoded = label.encode("utf-8", "surrogatepass")
    if len(encoded) >= LABEL_BYTES or "\0" in label or any(0xD800 <= ord(sign) < 0xE000 for sign in label):
        raise BadOption(f"label {label!r}: expected at most {LABEL_BYTES - 1} bytes of UTF-8, found {len(encoded)}")
    return encoded


def own_uuid(host: Host) -> bytes:
    """A new one, with the host's MAC address in it."""
    return new_uuid()[:10] + host.uuid[10:]


def uptime_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


# the file system


class Writer:
    """Writes the volume's own files. Every block list of theirs is known, so nothing is read."""

    def __init__(
        self, devices: Sequence[Device], geometry: Geometry, identity: Identity, *, reader_shift: bool
    ) -> None:
        self.devices, self.geometry, self.identity = devices, geometry, identity
        self.reader_shift = reader_shift

    def write_all(self) -> None:
        self.zero(0, FIXED_END)
        self.write(HEARTBEATS_AT, fresh_heartbeats())
        geometry = self.geometry
        used = np.zeros(geometry.fbb.total, bool)
        used[: geometry.first_user_block] = True
        self.resource_file(LockType.FILE_BLOCKS, geometry.fbb, geometry.fbb_blocks, used)
        used = np.zeros(geometry.fdc.total, bool)
        used[:SYSTEM_FDS] = True
        self.resource_file(LockType.FILE_DESCRIPTORS, geometry.fdc, geometry.fdc_blocks, used)
        for kind, file, blocks in (
            (LockType.POINTER_BLOCKS, geometry.pbc, geometry.pbc_blocks),
            (LockType.SUB_BLOCKS, geometry.sbc, geometry.sbc_blocks),
        ):
            self.resource_file(kind, file, blocks, np.zeros(file.total, bool))
        self.system_descriptors()
        self.root_directory()
        self.write(SUPERBLOCK_AT, superblock(geometry, self.identity))

    # logical offsets

    def write(self, offset: int, data: bytes) -> None:
        while data:
            device, at, room = self.locate(offset)
            device.write(at, data[:room])
            offset, data = offset + room, data[room:]

    def zero(self, offset: int, length: int) -> None:
        while length > 0:
            device, at, room = self.locate(offset)
            device.zero(at, min(room, length))
            offset, length = offset + room, length - room

    def locate(self, offset: int) -> tuple[Device, int, int]:
        """(device, offset in its partition, bytes up to the end of its physical extents)."""
        for device in self.devices:
            start = device.first_pe * PE_BYTES
            if start <= offset < start + device.pes * PE_BYTES:
                return device, DATA_AT + offset - start, start + device.pes * PE_BYTES - offset
        raise AssertionError(f"logical offset {offset:#x} is beyond the volume")

    # the files

    def resource_file(
        self, kind: LockType, file: ResourceGeometry, blocks: Sequence[int], used: np.ndarray
    ) -> None:
        """Header and cluster headers; what else is in its blocks becomes zeros."""
        block_size = self.geometry.block_size
        for block in blocks:
            self.zero(block * block_size, block_size)
        self.write(blocks[0] * block_size, HEADER.build({
            "resources_per_cluster": file.per_cluster, "clusters_per_group": file.per_group,
            "group_offset": GROUP_OFFSET, "resource_size": file.size, "group_size": file.group_size,
            "total": file.total, "groups": file.groups, "reserved_1c": bytes(484),
        }))  # fmt: skip
        for group in range(file.groups):
            offset = file.group_at(group)
            place = blocks[offset // block_size] * block_size + offset % block_size
            table = resource_headers(kind, file, group, place, used, self.identity.uptime_us)
            self.write(place, table.tobytes())

    def system_descriptors(self) -> None:
        geometry = self.geometry
        table = np.zeros(SYSTEM_FDS, DESCRIPTOR)
        in_file = geometry.fdc.group_at(0) + geometry.fdc.headers_bytes
        place = geometry.fdc_blocks[in_file // geometry.block_size] * geometry.block_size
        place += in_file % geometry.block_size
        rows = (
            (SystemFile.ROOT, root_length(), (geometry.root_block,)),
            (SystemFile.FBB, geometry.fbb.length, geometry.fbb_blocks),
            (SystemFile.FDC, geometry.fdc_length, geometry.fdc_blocks),
            (SystemFile.PBC, geometry.pbc.length, geometry.pbc_blocks),
            (SystemFile.SBC, geometry.sbc.length, geometry.sbc_blocks),
            (SystemFile.VH, FIXED_END, geometry.vh_blocks),
        )
        for number, (address, length, blocks) in enumerate(rows):
            row = table[number]
            lock = row["lock"]
            lock["type"], lock["token"], lock["mtime"] = LockType.FILE_DESCRIPTOR, 1, self.identity.uptime_us
            lock["position"] = place + number * DESCRIPTOR.itemsize
            is_root = address is SystemFile.ROOT
            row["address"], row["generation"], row["nlink"] = address, 1, 2 if is_root else 1
            row["type"] = FileType.DIRECTORY if is_root else FileType.SYSTEM
            row["mode"] = ROOT_MODE if is_root else SYSTEM_MODE
            row["length"], row["block_size"], row["num_blocks"] = length, geometry.block_size, len(blocks)
            row["mtime"] = row["ctime"] = row["atime"] = self.identity.now_s
            row["zla"] = ZeroLevel.FILE_BLOCK
            if self.reader_shift:
                row["block_offset_shift"] = geometry.block_size.bit_length() - 1
            row["contents"][: len(blocks)] = [block << BLOCK_SHIFT | AddressType.FILE_BLOCK for block in blocks]
        self.write(place, table.tobytes())

    def root_directory(self) -> None:
        geometry = self.geometry
        names = {SELF: SystemFile.ROOT, PARENT: SystemFile.ROOT} | {SYSTEM_NAMES[file]: file for file in SYSTEM_NAMES}
        table = np.zeros(len(names), ENTRY)
        table["type"] = [FileType.DIRECTORY] * 2 + [FileType.SYSTEM] * len(SYSTEM_NAMES)
        table["address"], table["generation"] = list(names.values()), 1
        table["name"] = [name.encode() for name in names]
        place = geometry.root_block * geometry.block_size
        self.zero(place, geometry.block_size)
        self.write(place, table.tobytes())


def resource_headers(
    kind: LockType, file: ResourceGeometry, group: int, place: int, used: np.ndarray, uptime_us: int
) -> np.ndarray:
    """Cluster headers of a group that begins at byte `place` of the volume; `used` tells of every resource of the file.

    They lie within one file block: the sizes divide each other.
    """
    table = np.zeros(file.per_group, CLUSTER)
    first = group * file.per_group
    count = min(file.per_group, file.clusters - first)
    rows = table[:count]
    numbers = np.arange(first, first + count)
    totals = np.minimum(file.per_cluster, file.total - numbers * file.per_cluster)
    taken = np.zeros((count, file.per_cluster), bool)
    of_group = used[first * file.per_cluster : (first + count) * file.per_cluster]
    taken.reshape(-1)[: len(of_group)] = of_group
    is_free = ~taken & (np.arange(file.per_cluster) < totals[:, None])
    bits = np.zeros((count, BITMAP_BYTES * 8), np.uint8)
    bits[:, : file.per_cluster] = is_free
    lock = rows["lock"]
    lock["type"], lock["token"], lock["mtime"] = kind, 1, uptime_us
    lock["position"] = place + np.arange(count) * CLUSTER_HEADER_BYTES
    rows["number"], rows["total"] = numbers, totals
    rows["free"] = is_free.sum(axis=1)
    rows["next_free"] = np.where(is_free.any(axis=1), is_free.argmax(axis=1), 0)
    rows["bitmap"] = np.packbits(bits, axis=1, bitorder="little")
    return table


def root_length() -> int:
    return (2 + len(SYSTEM_NAMES)) * ENTRY_BYTES


def fresh_heartbeats() -> bytes:
    table = np.zeros(HEARTBEATS, HEARTBEAT)
    table["magic"] = HeartbeatMagic.FREE
    table["position"] = HEARTBEATS_AT + np.arange(HEARTBEATS) * HEARTBEAT_BYTES
    return table.tobytes()


def superblock(geometry: Geometry, identity: Identity) -> bytes:
    nothing = {
        part.name: bytes(part.sizeof()) if part.name in BYTES_OF_VMFS5 else 0 for part in SUPERBLOCK.subcons
    }  # fmt: skip
    known = {
        "magic": VOLUME_MAGIC, "major": MAJOR_VMFS3, "minor": MINOR_VMFS3, "uuid": identity.uuid,
        "config": Config.MODE_PUBLIC, "label": label_bytes(identity.label).ljust(LABEL_BYTES, b"\0"),
        "disk_block_size": SECTOR_BYTES, "block_size": geometry.block_size, "creation_time": identity.now_s,
        "snap_id": SNAPSHOT_ID, "lvm_uuid": identity.lvm_uuid, "lvm_snap_id": SNAPSHOT_ID, "volume_info": bytes(12),
        "fdc_group_offset": GROUP_OFFSET, "fdc_clusters_per_group": geometry.fdc.per_group,
        "sub_block_size": SUB_BLOCK_BYTES,
    }  # fmt: skip
    return bytes(SUPERBLOCK.build(nothing | known))


BYTES_OF_VMFS5 = frozenset({"owner", "reserved_114", "reserved_138"})
