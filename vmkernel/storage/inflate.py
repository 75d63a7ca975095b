"""Fills flat disks in place: with zeros all over, or with blocks of zeros where the host has none yet.

Source: vmkfstools manual, "Initialize a Virtual Disk", "Inflate a Thin Virtual Disk".
"""

from __future__ import annotations

from collections.abc import Callable

from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.disk import SECTOR_BYTES, Zeros
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.family import refuse_children
from vmkernel.storage.place import Place
from vmkernel.storage.vmdk.flat import FlatExtent

THIN_KEY = "ddb.thinProvisioned"
STEP_SECTORS = 1 << 15
Progress = Callable[[int, int], None]


def inflate(path: Place, progress: Progress | None = None) -> None:
    """Every block of a flat disk is there, and what had none is zeros. Raises Unsupported for other disks."""
    with open_disk(path, writable=True) as disk:
        extents = flat_extents(path, disk)
        for extent in extents:
            at = 0
            for run in extent.holes(0, extent.sectors):
                for done in range(0, run.sectors if isinstance(run, Zeros) else 0, STEP_SECTORS):
                    count = min(STEP_SECTORS, run.sectors - done)
                    extent.file.zero((extent.offset + at + done) * SECTOR_BYTES, count * SECTOR_BYTES)
                at += run.sectors
                if progress is not None:
                    progress((extent.first + at) * SECTOR_BYTES, disk.size_bytes)
            extent.file.sync()
        text = disk.links[0].descriptor
        if text is not None and text.get(THIN_KEY) is not None:
            text.remove(THIN_KEY)
            disk.links[0].save_descriptor()


def flat_extents(path: Place, disk: Chain) -> list[FlatExtent]:
    """The extents of a disk that has no others, and no parent."""
    found = [extent for extent in disk.links[0].extents if isinstance(extent, FlatExtent)]
    if len(disk.links) > 1 or len(found) < len(disk.links[0].extents):
        raise Unsupported(str(path), "disk to be filled", "a flat one without parent", "another")
    return found


def write_zeros(path: Place, progress: Progress | None = None) -> None:
    """Everything that a disk held is gone. Raises Unsupported where it has children."""
    refuse_children(path, "disk to be overwritten")
    with open_disk(path, writable=True) as disk:
        step = STEP_SECTORS * SECTOR_BYTES
        for at in range(0, disk.size_bytes, step):
            disk.zero(at, min(step, disk.size_bytes - at))
            if progress is not None:
                progress(min(at + step, disk.size_bytes), disk.size_bytes)
        disk.flush()
