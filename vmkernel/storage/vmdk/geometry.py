"""Cylinders, heads and sectors that a descriptor gives a disk, by adapter and capacity.

Source: VMware Virtual Disk Format 1.1, "The Disk Database"; capacities and geometries of published disks.
"""

from __future__ import annotations

from typing import NamedTuple

from vmkernel.storage.vmdk.descriptor_spec import (
    IDE_CYLINDERS_MAX,
    IDE_HEADS,
    IDE_SECTORS,
    SCSI_CYLINDERS_MAX,
    SCSI_GEOMETRY,
    Adapter,
)


class Geometry(NamedTuple):
    """What a BIOS is told."""

    cylinders: int
    heads: int
    sectors: int


def geometry(adapter: Adapter, capacity_sectors: int) -> Geometry:
    if adapter in (Adapter.IDE, Adapter.LEGACY_ESX):
        return Geometry(min(capacity_sectors // (IDE_HEADS * IDE_SECTORS), IDE_CYLINDERS_MAX), IDE_HEADS, IDE_SECTORS)
    heads, sectors = next(row[1:] for row in SCSI_GEOMETRY if capacity_sectors < row[0])
    return Geometry(min(capacity_sectors // (heads * sectors), SCSI_CYLINDERS_MAX), heads, sectors)
