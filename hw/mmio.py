"""The memory-mapped I/O space: which device answers which guest physical address.

Where ranges overlap, the one of higher priority answers; of two equal ones the earlier, as it shadows what a guest
moves over it. What nobody claims reads all ones and swallows writes. An access is split where it crosses the device's
data path or the end of what it answers, lowest address first. RAM and ROM are none of this: an access to them never
leaves the engine, so `vmx` decides what lies above what.
Source: PCI Local Bus Specification 2.2, section 3.2.2 (byte enables, master abort).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from hw.wiring import MmioDevice

ADDRESS_LIMIT = 1 << 40  # what the processor can name
PAGE_BYTES = 4096
MASKS = tuple((1 << 8 * width) - 1 for width in range(17))


@dataclass(slots=True, eq=False)
class Region:
    """`size` bytes from `first` belong to `device`, whose data path is `width` bytes wide."""

    first: int
    size: int
    device: MmioDevice
    width: int
    priority: int
    name: str

    @property
    def end(self) -> int:
        return self.first + self.size


class Span(NamedTuple):
    """A range that one region answers, all of it."""

    first: int
    end: int
    region: Region


@dataclass(slots=True)
class MmioStats:
    """Counters; never saved. Unclaimed accesses are counted by page."""

    reads: int = 0
    writes: int = 0
    unclaimed: dict[int, int] = field(default_factory=dict)


class MmioSpace:
    """The memory-mapped devices of one machine. Regions change seldom; `spans` is what they amount to, sorted."""

    def __init__(self) -> None:
        self.stats = MmioStats()
        self.spans: list[Span] = []
        self._starts: list[int] = []
        self._regions: list[Region] = []

    def map(
        self, first: int, size: int, device: MmioDevice, *, width: int = 4, priority: int = 0, name: str = ""
    ) -> Region:
        """Give a range to a device. It may lie over others, for a guest chooses most of these addresses."""
        name = name or type(device).__name__
        assert size > 0 and first >= 0 and first + size <= ADDRESS_LIMIT, f"{name}: no memory at {first:#x}+{size:#x}"
        assert width in {1, 2, 4, 8, 16}, f"{name}: no data path is {width} bytes wide"
        region = Region(first, size, device, width, priority, name)
        self._regions.append(region)
        self._lay_out()
        return region

    def unmap(self, region: Region) -> None:
        """Take a range back: what it covered answers again."""
        self._regions.remove(region)
        self._lay_out()

    def find(self, gpa: int) -> Span | None:
        """Who answers this byte."""
        index = bisect_right(self._starts, gpa) - 1
        if index < 0:
            return None
        span = self.spans[index]
        return span if gpa < span.end else None

    def read(self, gpa: int, width: int) -> int:
        """A guest's load of `width` bytes, at any alignment."""
        self.stats.reads += 1
        return self._read(gpa, width)

    def write(self, gpa: int, width: int, value: int) -> None:
        """A guest's store of `width` bytes, at any alignment."""
        self.stats.writes += 1
        self._write(gpa, width, value)

    def _read(self, gpa: int, width: int) -> int:
        span = self.find(gpa)
        if span is not None and (
            width == 1 or (gpa + width <= span.end and fits(gpa, width, span.region.width))
        ):
            region = span.region
            return region.device.mmio_read(gpa - region.first, width) & MASKS[width]
        if width == 1:
            self._unclaimed(gpa)
            return 0xFF
        part = piece(gpa, width)
        return self._read(gpa, part) | self._read(gpa + part, width - part) << 8 * part

    def _write(self, gpa: int, width: int, value: int) -> None:
        span = self.find(gpa)
        if span is not None and (
            width == 1 or (gpa + width <= span.end and fits(gpa, width, span.region.width))
        ):
            region = span.region
            region.device.mmio_write(gpa - region.first, width, value & MASKS[width])
        elif width == 1:
            self._unclaimed(gpa)
        else:
            part = piece(gpa, width)
            self._write(gpa, part, value & (1 << 8 * part) - 1)
            self._write(gpa + part, width - part, value >> 8 * part)

    def _unclaimed(self, gpa: int) -> None:
        page = gpa // PAGE_BYTES
        self.stats.unclaimed[page] = self.stats.unclaimed.get(page, 0) + 1

    def _lay_out(self) -> None:
        """Cut the regions at each other's ends; in each cut the strongest answers. Neighbouring cuts of one are one."""
        cuts = sorted({edge for region in self._regions for edge in (region.first, region.end)})
        ranked = sorted(self._regions, key=lambda region: -region.priority)  # stable: the earlier first
        spans: list[Span] = []
        for first, end in pairwise(cuts):
            owner = next((region for region in ranked if region.first <= first and end <= region.end), None)
            if owner is None:
                continue
            if spans and spans[-1].region is owner and spans[-1].end == first:
                spans[-1] = Span(spans[-1].first, end, owner)
            else:
                spans.append(Span(first, end, owner))
        self.spans, self._starts = spans, [span.first for span in spans]


def fits(gpa: int, width: int, path: int) -> bool:
    """Does one transfer on a data path of `path` bytes carry it? Its byte enables cover one aligned word only."""
    return width & width - 1 == 0 and gpa % path + width <= path


def piece(gpa: int, width: int) -> int:
    """How much of a wider access to do first: the largest power of two below `width` to which `gpa` is aligned."""
    part = 1 << (width - 1).bit_length() - 1
    while gpa % part:
        part //= 2
    return part
