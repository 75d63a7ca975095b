"""Every field of every structure lies where it is published to lie, and no byte is without a name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.vmfs3 import published
from vmkernel.storage.vmfs3 import descriptor_spec, directory_spec, lvm_spec, resource_spec, volume_spec
from vmkernel.storage.vmfs3.layout import fields

STRUCTURES: dict[str, tuple[Any, tuple[tuple[int, int, str], ...], int]] = {
    "disk id": (lvm_spec.DISK_ID, published.DISK_ID, 78),
    "device header": (lvm_spec.DEVICE_HEADER, published.DEVICE_HEADER, 512),
    "volume descriptor": (lvm_spec.VOLUME_DESCRIPTOR, published.VOLUME_DESCRIPTOR, 512),
    "PE table entry": (lvm_spec.PE_ENTRY, published.PE_ENTRY, 128),
    "superblock": (volume_spec.SUPERBLOCK, published.SUPERBLOCK, 512),
    "heartbeat": (volume_spec.HEARTBEAT, published.HEARTBEAT, 512),
    "lock": (volume_spec.LOCK, published.LOCK, 512),
    "lock holder": (volume_spec.HOLDER, published.HOLDER, 32),
    "resource file header": (resource_spec.HEADER, published.RESOURCE_HEADER, 512),
    "cluster header": (resource_spec.CLUSTER, published.CLUSTER, 1024),
    "file descriptor": (descriptor_spec.DESCRIPTOR, published.DESCRIPTOR, 2048),
    "directory entry": (directory_spec.ENTRY, published.ENTRY, 140),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_fields_lie_where_they_are_published(name: str) -> None:
    layout, rows, _ = STRUCTURES[name]
    found = {field.name: (field.offset, field.size) for field in fields(layout)}
    assert {name: found.get(name) for _, _, name in rows} == {name: (offset, size) for offset, size, name in rows}


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_byte_has_a_name(name: str) -> None:
    layout, _, size = STRUCTURES[name]
    end = 0
    for field in fields(layout):
        assert field.offset == end, field.name
        end += field.size
    assert end == size


PLACES = {
    "device header": (lvm_spec.HEADER_AT, 0x100000), "volume descriptors": (lvm_spec.DESCRIPTORS_AT, 0x100200),
    "PE bitmap": (lvm_spec.PE_BITMAP_AT, 0x180200), "PE table": (lvm_spec.PE_TABLE_AT, 0x180600),
    "data": (lvm_spec.DATA_AT, 0x1100000), "physical extent": (lvm_spec.PE_BYTES, 256 << 20),
    "superblock": (volume_spec.SUPERBLOCK_AT, 0x200000), "heartbeats": (volume_spec.HEARTBEATS_AT, 0x300000),
    "end of heartbeats": (volume_spec.HEARTBEATS_AT + volume_spec.HEARTBEATS * volume_spec.HEARTBEAT_BYTES, 0x400000),
    "cluster groups": (resource_spec.GROUP_OFFSET, 0x10000), "metadata": (descriptor_spec.METADATA_AT, 0x200),
    "addresses": (descriptor_spec.CONTENTS_AT, 0x400), "partition": (lvm_spec.PARTITION_START_LBA, 128),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_places_are_the_published_ones(name: str) -> None:
    ours, theirs = PLACES[name]
    assert ours == theirs


def test_numbers_are_the_published_ones() -> None:
    assert lvm_spec.MAGIC == 0xC001D00D
    assert (volume_spec.MAGIC, volume_spec.MAGIC_LOCAL) == (0x2FABF15E, 0x2FABF15F)
    assert [int(magic) for magic in volume_spec.HeartbeatMagic] == [0xABCDEF01, 0xABCDEF02, 0xABCDEF03]
    assert [int(kind) for kind in volume_spec.LockType] == list(range(0x10C00001, 0x10C00006))
    assert [int(mode) for mode in volume_spec.LockMode] == [0, 1, 2, 3]
    assert [int(kind) for kind in descriptor_spec.FileType] == list(range(7))
    assert [int(level) for level in descriptor_spec.ZeroLevel] == [0, 1, 2, 3, 5, 0x10D0, 0x10D1]
    assert (lvm_spec.PARTITION_TYPE, lvm_spec.DUMP_PARTITION_TYPE) == (0xFB, 0xFC)
    assert lvm_spec.PARTITION_GUID == "AA31E02A-400F-11DB-9590-000C2911D1B8"
    assert volume_spec.BLOCK_SIZES == (1 << 20, 2 << 20, 4 << 20, 8 << 20)
