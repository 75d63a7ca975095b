"""Changed metadata that is not on the disk yet, seen by everybody who reads the volume through its LUNs.

The sectors of the running transaction stay in memory until it is committed. A LUN of a volume that is written lays them
over what it reads, so the readers know nothing of transactions.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.lvm_spec import PE_BYTES, SECTOR_BYTES


class OverlaidLun(Lun):
    """A LUN over which `sectors` are laid, by their byte of the volume; `spans`: (first byte, end, distance to it)."""

    sectors: dict[int, bytes]
    spans: list[tuple[int, int, int]]

    @classmethod
    def over(cls, lun: Lun) -> OverlaidLun:
        """Takes the LUN over."""
        made = cls(lun.file, lun.base, lun.size, is_bare=lun.is_bare)
        made.sectors, made.spans = {}, []
        return made

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        super().read(offset, views)
        if self.sectors:
            end = offset + sum(map(len, views))
            for first, last, distance in self.spans:
                if first < end and offset < last:
                    self._lay(max(offset, first) + distance, min(end, last) + distance, offset + distance, views)

    def _lay(self, start: int, end: int, origin: int, views: Sequence[memoryview]) -> None:
        """Sectors from byte `start` to `end` of the volume over views that begin at `origin`."""
        sectors = self.sectors
        first = start - start % SECTOR_BYTES
        if (end - first) // SECTOR_BYTES > len(sectors):
            inside = [at for at in sectors if first <= at < end]
        else:
            inside = [at for at in range(first, end, SECTOR_BYTES) if at in sectors]
        for at in inside:
            low, high = max(at, start), min(at + SECTOR_BYTES, end)
            put(views, low - origin, sectors[at][low - at : high - at])


def put(views: Sequence[memoryview], at: int, data: bytes) -> None:
    """Bytes into scattered views, `at` bytes behind their start."""
    for view in views:
        if at < len(view):
            step = min(len(view) - at, len(data))
            view[at : at + step] = data[:step]
            data, at = data[step:], 0
            if not data:
                return
        else:
            at -= len(view)


def lay_over(lv: LogicalVolume, sectors: dict[int, bytes]) -> None:
    """From now on these sectors, which the caller goes on to change, are over what the volume's LUNs read."""
    for lun in lv.luns:
        assert isinstance(lun, OverlaidLun)
        lun.sectors, lun.spans = sectors, []
    for start in range(0, lv.size, PE_BYTES):
        for run in lv.runs(start, min(PE_BYTES, lv.size - start)):
            assert isinstance(run.lun, OverlaidLun)
            spans, distance = run.lun.spans, start - run.offset
            if spans and spans[-1][1] == run.offset and spans[-1][2] == distance:
                spans[-1] = spans[-1][0], run.offset + run.length, distance
            else:
                spans.append((run.offset, run.offset + run.length, distance))
