"""A 3.5-inch 1.44 MB floppy drive: where its head is, its disk change line, the sectors under the head.

The diskette always turns, whatever the motor bits say, and the head arrives at once. A diskette has the sectors of its
format and no others: what FORMAT TRACK lays down differently is not there.
Source: Intel 82077AA data sheet, "Drive interface", "Read data"; IBM PS/2 Hardware Interface Technical Reference,
"Diskette drive".
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, sizeof
from typing import Protocol

from hw.fdc_spec import BY_BLOCKS, LAST_TRACK, SECTOR_CODE, Geometry, St1, St2
from hw.wiring import BlockDevice


class Diskette(BlockDevice, Protocol):
    """Blocks of 512 bytes, as many as one of the formats has."""

    @property
    def writable(self) -> bool:
        """False: the write-protect hole is open."""


class FloppyDriveState(LittleEndianStructure):
    """All guest-visible state of one drive, and what the controller keeps of it: `pcn`, `seek_st0`."""

    _fields_ = [
        ("track", c_uint8),
        ("changed", c_uint8),
        ("passing", c_uint8),
        ("pcn", c_uint8),
        ("seek_st0", c_uint8),
        ("reserved", c_uint8 * 3),
    ]


assert sizeof(FloppyDriveState) == 8


class FloppyDrive:
    """One drive. `diskette` is wiring: after a resume the same one is plugged in without `insert`."""

    def __init__(self, state: FloppyDriveState, diskette: Diskette | None = None) -> None:
        self.state, self.diskette = state, diskette

    def reset(self) -> None:
        """Power-on: the change line is active until the head steps over a diskette."""
        self.state.changed = 1
        self.state.passing = 0

    def insert(self, diskette: Diskette) -> None:
        self.diskette, self.state.changed = diskette, 1

    def remove(self) -> None:
        self.diskette, self.state.changed = None, 1

    @property
    def geometry(self) -> Geometry | None:
        return None if self.diskette is None else BY_BLOCKS.get(self.diskette.blocks)

    @property
    def write_protected(self) -> bool:
        """The sensor sees no closed hole in an empty drive either."""
        return self.diskette is None or not self.diskette.writable

    def step(self, tracks: int) -> None:
        """Step pulses, inwards if positive. One over a diskette releases the change line."""
        if tracks and self.diskette is not None:
            self.state.changed = 0
        self.state.track = max(0, min(self.state.track + tracks, LAST_TRACK))

    def find(self, rate: int, mfm: bool, head: int, wanted: tuple[int, int, int, int]) -> tuple[int, int]:
        """Look for the sector with this C, H, R and N on the track: status registers 1 and 2, 0 when it is there."""
        geometry = self.formatted(rate, mfm)
        if geometry is None:
            return int(St1.MISSING_ADDRESS), 0
        c, h, r, n = wanted
        if c != self.state.track:
            return int(St1.NO_DATA), int(St2.WRONG_CYLINDER)
        if h != head or n != SECTOR_CODE or not 1 <= r <= geometry.sectors:
            return int(St1.NO_DATA), 0
        return 0, 0

    def formatted(self, rate: int, mfm: bool) -> Geometry | None:
        """The format whose address marks can be read on the track under the head; None: there are none."""
        geometry = self.geometry
        if geometry is None or geometry.rate != rate or not mfm or self.state.track >= geometry.cylinders:
            return None
        return geometry

    def block(self, head: int, r: int) -> int:
        """Where a sector of the track lies in the image: by cylinder, then head."""
        assert self.geometry is not None
        return (self.state.track * self.geometry.heads + head) * self.geometry.sectors + r - 1

    def next_id(self, sectors: int) -> int:
        """The number of the sector whose address mark comes by next."""
        self.state.passing = self.state.passing % sectors + 1
        return int(self.state.passing)
