"""Makes bytes of a volume read as zeros: as holes of the image file where the host can, else by writing zeros."""

from __future__ import annotations

from vmkernel.storage.vmfs3.lvm import LogicalVolume

PUNCH_FROM_BYTES = 64 << 10  # below, writing is as fast and leaves the file in one piece


def zero(lv: LogicalVolume, offset: int, length: int) -> None:
    """Raises HostTrouble."""
    if length < PUNCH_FROM_BYTES:
        if length > 0:
            lv.write(offset, [bytes(length)])
        return
    for lun, at, step in lv.runs(offset, length):
        lun.file.zero(lun.base + at, step, punch=True)
