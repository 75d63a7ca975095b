"""Structures of a real VMFS 3.31 volume, read as what they are known to be."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conformance.vmfs3 import published
from vmkernel.storage.vmfs3.descriptor import judge, parse
from vmkernel.storage.vmfs3.descriptor_spec import DESCRIPTOR, FileType, SystemFile, ZeroLevel
from vmkernel.storage.vmfs3.identity import disk_id_text, uuid_bytes, uuid_text
from vmkernel.storage.vmfs3.lvm_spec import DEVICE_HEADER, PE_ENTRY, VOLUME_DESCRIPTOR, VolumeState
from vmkernel.storage.vmfs3.resource_spec import CLUSTER, HEADER
from vmkernel.storage.vmfs3.volume_spec import SUPERBLOCK, Config, LockMode, LockType

LVM, DEVICE, FS = (
    "49edf842-dcb35d37-b383-0021280083cf", "49edf844-da2dde19-747b-0021280083cf",
    "49edf844-ebfc28f3-65cb-0021280083cf",
)  # fmt: skip


def test_the_device_header() -> None:
    header = DEVICE_HEADER.parse(published.REAL_DEVICE_HEADER)
    assert (header.magic, header.major, header.minor, header.disk_block_size) == (0xC001D00D, 3, 0x10, 512)
    assert (header.total_bytes, header.num_volumes, header.num_pes, header.last_pe) == (1258435584, 1, 4, 3)
    assert (header.generation, header.data_offset) == (6, 0x1100000)
    assert uuid_text(header.device_uuid) == DEVICE
    assert (header.num_pe_maps, header.extended_offset, header.flags) == (0, 0, 0)
    disk = header.disk_id
    assert (disk.type, disk.id_length, disk.lun, disk.device_type, disk.scsi_level) == (0, 15, 0, 0, 3)
    assert (disk.vendor, disk.model, disk.revision) == (b"Sun     ", b"VOL1".ljust(16), b"V1.0")
    assert disk_id_text(disk) == "vmhba0:C0:T0:L0"
    assert DEVICE_HEADER.build(header) == published.REAL_DEVICE_HEADER


def test_the_volume_descriptor() -> None:
    volume = VOLUME_DESCRIPTOR.parse(published.REAL_VOLUME_DESCRIPTOR)
    assert (volume.logical_size, volume.generation, volume.state) == (4 << 28, 5, VolumeState.NORMAL)
    assert volume.name.rstrip(b"\0").decode() == uuid_text(volume.lvm_uuid) == LVM
    assert (volume.snap_id, volume.volume_id, volume.num_pes) == (1, 0, 4)
    assert (volume.first_pe, volume.last_pe, volume.num_devices) == (0, 3, 1)
    assert VOLUME_DESCRIPTOR.build(volume) == published.REAL_VOLUME_DESCRIPTOR


def test_a_physical_extent() -> None:
    entry = np.frombuffer(published.REAL_PE_ENTRY_1, PE_ENTRY)[0]
    assert (entry["used"], entry["pe_id"], entry["volume_id"], entry["version"]) == (1, 1, 0, 1)
    assert (entry["physical_offset"], entry["logical_offset"]) == (0x11100000, 0x10000000)
    assert entry["length"] == 0x10000000


def test_the_superblock() -> None:
    head = SUPERBLOCK.parse(published.REAL_SUPERBLOCK)
    assert (head.magic, head.major, head.minor, head.config) == (0x2FABF15E, 4, 31, Config.MODE_PUBLIC)
    assert head.label.rstrip(b"\0") == b"toto"
    assert (uuid_text(head.uuid), uuid_text(head.lvm_uuid)) == (FS, LVM)
    assert (head.disk_block_size, head.block_size, head.sub_block_size) == (512, 1 << 20, 0x10000)
    assert (head.fdc_group_offset, head.fdc_clusters_per_group, head.creation_time) == (0x10000, 32, 0x49EDF844)
    assert SUPERBLOCK.build(head) == published.REAL_SUPERBLOCK


def test_resource_headers() -> None:
    fdc, fbb = HEADER.parse(published.REAL_FDC_HEADER), HEADER.parse(published.REAL_FBB_HEADER)
    assert (fdc.resources_per_cluster, fdc.clusters_per_group, fdc.group_offset) == (32, 32, 0x10000)
    assert (fdc.resource_size, fdc.group_size, fdc.total, fdc.groups) == (2048, 32 * 1024 + 32 * 32 * 2048, 256, 1)
    assert (fbb.resources_per_cluster, fbb.clusters_per_group, fbb.resource_size) == (200, 32, 0)
    assert (fbb.group_size, fbb.total, fbb.groups) == (32 * 1024, 1024, 1)


@pytest.mark.parametrize(("raw", "number", "used", "position"), [
    (published.REAL_FDC_CLUSTER_0, 0, 6, 0x410000), (published.REAL_FDC_CLUSTER_6, 6, 8, 0x411800),
])  # fmt: skip
def test_clusters(raw: bytes, number: int, used: int, position: int) -> None:
    cluster = np.frombuffer(raw, CLUSTER)[0]
    assert (cluster["number"], cluster["total"], cluster["free"], cluster["next_free"]) == (number, 32, 32 - used, used)
    bits = np.unpackbits(cluster["bitmap"], bitorder="little")
    assert bits.tolist() == [0] * used + [1] * (32 - used) + [0] * 480
    lock = cluster["lock"]
    assert (lock["type"], lock["position"], lock["mode"]) == (LockType.FILE_DESCRIPTORS, position, LockMode.FREE)
    assert cluster["type_data"] == (8 if number else 0)


def test_the_root_directory() -> None:
    fd = judge(parse(published.REAL_ROOT, 0x418000, "real"), SystemFile.ROOT)
    assert (fd.type, fd.nlink, fd.length, fd.block_size, fd.num_blocks) == (FileType.DIRECTORY, 2, 2100, 1 << 20, 1)
    assert (fd.mode, fd.zla, fd.mtime) == (0o41755, ZeroLevel.FILE_BLOCK, 0x49EDF8C8)
    assert (fd.addresses[0], fd.block_offset_shift) == (0x141, 0)
    lock = fd.lock
    assert (lock["position"], lock["hb_position"], lock["hb_generation"]) == (0x418000, 0x3E0600, 13)
    assert (lock["token"], lock["mode"], lock["mtime"]) == (17, LockMode.FREE, 0x165237E1)
    assert fd.raw.tobytes() == published.REAL_ROOT
    assert np.frombuffer(bytearray(published.REAL_ROOT), DESCRIPTOR).copy().tobytes() == published.REAL_ROOT


@pytest.mark.parametrize("text", [LVM, DEVICE, FS])
def test_a_uuid_is_the_same_in_both_forms(text: str) -> None:
    assert uuid_text(uuid_bytes(text)) == text
    assert uuid_bytes(FS) == published.REAL_SUPERBLOCK[9:25]
