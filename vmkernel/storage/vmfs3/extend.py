"""A volume's label, and more devices for it.

Adding a device: it is written completely; then the descriptors of the old ones change, the head's last, which is one
sector: with it the volume has the device. Until then it is the old one, and what the others say is taken back by the
next that opens it to write (`take_back`). Then it is opened with the device, and its new file blocks are added to
.fbb.sf in one transaction; where the host died before that, they are by the next that has it alone, to write.
Source: vmfs-tools, libvmfs/vmfs_lvm.c, fsck; LVM headers of volumes that were extended.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ringfence.errors import BadOption
from vmkernel.storage.errors import Locked
from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.allocate import allocate_block
from vmkernel.storage.vmfs3.descriptor_spec import ADDRESSES, AddressType, SystemFile
from vmkernel.storage.vmfs3.errors import VolumeFull
from vmkernel.storage.vmfs3.geometry import ResourceGeometry, fbb_geometry
from vmkernel.storage.vmfs3.heartbeat import read_slot, slots_in_use
from vmkernel.storage.vmfs3.host import new_uuid
from vmkernel.storage.vmfs3.lvm_spec import (
    DESCRIPTORS_AT,
    DEVICE_HEADER,
    DEVICES_MAX,
    HEADER_AT,
    PE_BYTES,
    SECTOR_BYTES,
    VOLUME_DESCRIPTOR,
)
from vmkernel.storage.vmfs3.mkfs import label_bytes, resource_headers
from vmkernel.storage.vmfs3.new_devices import Device, Placement, mbr, open_devices, write_lvm
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.records import Record
from vmkernel.storage.vmfs3.resource_spec import CLUSTER_HEADER_BYTES, HEADER
from vmkernel.storage.vmfs3.superblock import read_superblock
from vmkernel.storage.vmfs3.volume_spec import LABEL_BYTES, SUPERBLOCK, SUPERBLOCK_AT, LockType

if TYPE_CHECKING:
    from vmkernel.storage.vmfs3.lun import Lun
    from vmkernel.storage.vmfs3.lvm import LogicalVolume
    from vmkernel.storage.vmfs3.writable import WritableVolume


def put_label(volume: WritableVolume, label: str) -> None:
    raw = label_bytes(label).ljust(LABEL_BYTES, b"\0")

    def change(operation: Operation) -> None:
        head = SUPERBLOCK.parse(volume.lv.bytes_at(SUPERBLOCK_AT, SECTOR_BYTES))
        head.label = raw
        record = operation.touch(Record(SUPERBLOCK_AT, bytearray(SUPERBLOCK.build(head))))
        record.dirty = 1

    volume.session.operate(change, "label")
    volume.sync()
    volume.superblock = read_superblock(volume.lv)


# devices


def add_devices(volume: WritableVolume, paths: Sequence[Path], *, force: bool, placement: Placement) -> list[Path]:
    """Closes the volume; the paths of all its devices now, with which it is to be opened."""
    lv = volume.lv
    if not paths or len(lv.luns) + len(paths) > DEVICES_MAX:
        found = f"{len(lv.luns)} and {len(paths)} more"
        raise BadOption(f"devices of {lv.name}: expected one or more new ones, up to {DEVICES_MAX}, found {found}")
    if any(held.users for held in volume.session.locks.held.values()):
        raise Locked(f"{lv.name}: files are open: no device can be added")
    with contextlib.ExitStack() as stack:
        first_pe = lv.size // PE_BYTES
        devices = list(open_devices(stack, paths, placement, force=force, first_pe=first_pe))
        refuse_others(volume)
        volume.session.end()
        stack.enter_context(lv.reserve())
        refuse_others(volume)
        write_devices(volume, devices, placement)
        known = [lun.path for lun in lv.luns]
    lv.close()
    return [*known, *paths]


def refuse_others(volume: WritableVolume) -> None:
    """Raises Locked where another host has the volume open."""
    session = volume.session
    for position in slots_in_use(volume.lv):
        if position != session.heartbeat.position or session.closed:
            owner = bytes(read_slot(volume.lv, position).owner)
            raise Locked(f"{volume.name}: {session.watch.name(position, owner)} has the volume open")


def write_devices(volume: WritableVolume, devices: Sequence[Device], placement: Placement) -> None:
    lv = volume.lv
    assert lv.uuid is not None
    number = len(lv.luns)
    total = lv.size // PE_BYTES + sum(device.pes for device in devices)
    count = number + len(devices)
    now_us = time.time_ns() // 1000
    head = lv.devices[0].descriptor
    for index, device in enumerate(devices):
        write_lvm(
            device, number + index, total, count, lv.uuid, new_uuid(), now_us, created_us=head.creation_time_us,
            snap_id=head.snap_id,
        )  # fmt: skip
        if placement is Placement.NEW_PARTITION:
            device.file.write(0, [mbr(device)])
        device.file.sync()
    for lun in reversed(lv.luns):
        put_size(lun, total * PE_BYTES, count, total + count, now_us)
    lun = lv.luns[0]
    header = DEVICE_HEADER.parse(lun.bytes_at(HEADER_AT, SECTOR_BYTES))
    header.generation, header.mod_time_us = header.generation + 2 * len(devices), now_us
    lun.write(HEADER_AT, [DEVICE_HEADER.build(header)])
    lun.sync()


def put_size(lun: Lun, size: int, count: int, generation: int, now_us: int) -> None:
    """How large the volume is, and of how many devices, durably on one of them."""
    descriptor = VOLUME_DESCRIPTOR.parse(lun.bytes_at(DESCRIPTORS_AT, SECTOR_BYTES))
    descriptor.logical_size, descriptor.num_devices = size, count
    descriptor.generation, descriptor.mod_time_us = generation, now_us
    lun.write(DESCRIPTORS_AT, [VOLUME_DESCRIPTOR.build(descriptor)])
    lun.sync()


def take_back(lv: LogicalVolume) -> None:
    """An extension that has not come to the head. The caller keeps the devices reserved, and has read them since."""
    head = lv.devices[0].descriptor
    for device in lv.ahead:
        put_size(device.lun, head.logical_size, head.num_devices, head.generation, head.mod_time_us)


# file blocks


def grow_file_blocks(volume: WritableVolume) -> None:
    """Give .fbb.sf all file blocks that the logical volume has. Raises VolumeFull where it cannot be so long."""
    new = fbb_geometry(volume.lv.size, volume.block_size)
    if new.total > volume.fbb.total:
        volume.session.operate(lambda operation: _grow(volume, operation, new), ".fbb.sf")
        volume.settle()


def lacks_file_blocks(volume: WritableVolume) -> bool:
    """Did an extension end before .fbb.sf had the blocks of a whole extent? Volumes end within one."""
    missing = fbb_geometry(volume.lv.size, volume.block_size).total - volume.fbb.total
    return missing >= PE_BYTES // volume.block_size


def _grow(volume: WritableVolume, operation: Operation, new: ResourceGeometry) -> None:
    old, size = volume.fbb, volume.block_size
    record = operation.descriptor(SystemFile.FBB)
    have, need = record.num_blocks, -(-new.length // size)
    if record.length != old.descriptor.length:
        return  # another host has done it since this one looked
    if need > ADDRESSES:
        raise VolumeFull(volume.name, "blocks of .fbb.sf", ADDRESSES)
    for index in range(have, need):
        number = allocate_block(operation)
        volume.lv.write(number * size, [bytes(size)])
        record.addresses[index] = addresses.file_block(number)
        record.addresses_changed(index)
    blocks = [addresses.block_number(word) for word in record.addresses[:need].tolist()]
    record.num_blocks, record.length = need, new.length
    record.mtime = record.ctime = operation.seconds

    def place(offset: int) -> int:
        return blocks[offset // size] * size + offset % size

    _write_clusters(volume, operation, new, place)
    last = old.clusters - 1
    added = new.in_cluster(last) - old.geometry.cluster_total(last)
    header = operation.cluster(AddressType.FILE_BLOCK, last)
    bits = (1 << added) - 1 << header.total
    header.total = header.total + added
    header.free_bits = header.free_bits | bits
    head = operation.touch(Record(place(0), bytearray(volume.lv.bytes_at(place(0), SECTOR_BYTES))))
    parsed = HEADER.parse(bytes(head.raw))
    parsed.total, parsed.groups = new.total, new.groups
    head.raw[:] = HEADER.build(parsed)
    head.dirty = 1
    operation.transactions.wrote()


def _write_clusters(
    volume: WritableVolume, operation: Operation, new: ResourceGeometry, place: Callable[[int], int]
) -> None:
    """The headers of new clusters, which nothing refers to before the file's header does."""
    first = volume.fbb.clusters
    nothing = np.zeros(new.total, bool)
    for group in range(first // new.per_group, new.groups):
        at = place(new.group_at(group))
        table = resource_headers(LockType.FILE_BLOCKS, new, group, at, nothing, operation.clock.now_us())
        skip = max(first - group * new.per_group, 0)
        if skip < len(table):
            volume.lv.write(at + skip * CLUSTER_HEADER_BYTES, [table[skip:].tobytes()])
