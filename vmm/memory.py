"""Guest physical memory: the RAM and device-memory files, the slot table, and what moves bytes in and out.

    ram      sparse memfd: guest page PPN at byte PPN * 4096; sealed against shrinking
    dev      memfd: ROM images, the hidden side of PAM, video memory
    pages    memfd: struct machine, then per PPN: stamp, code map, flags, pmap entry; then a dirty byte per dev page

Addresses are guest physical (gpa), counts are pages or bytes as named. Slots change only while all vCPUs are stopped;
each engine must then forget its translations (it compares slot_generation).
Not modelled: A20, which is the processor's; devices drive all address lines.
Source: vmm/core/core.h, "guest physical memory".
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ringfence.errors import HostRefused, RingfenceError
from vmm._core import ffi, lib
from vmm.layout_spec import MachinePage, Slot

Scalar = TypeVar("Scalar", bound=np.generic)

PAGE_SIZE = 4096
PPN_LIMIT = 1 << 28  # 40 address bits: what PSE-36 and a PAE processor of this kind could ever name
PMAP_STATE = 0xFF
PMAP_PRIVATE = lib.PMAP_PRIVATE


class SlotKind(IntEnum):
    """enum slot_kind."""

    NONE = lib.SLOT_NONE
    RAM = lib.SLOT_RAM
    ROM = lib.SLOT_ROM
    MMIO = lib.SLOT_MMIO
    FRAMEBUFFER = lib.SLOT_FRAMEBUFFER


ROM, FRAMEBUFFER = SlotKind.ROM, SlotKind.FRAMEBUFFER  # an enumeration's attributes are slow, and each transfer looks


class PmapState(IntEnum):
    """enum pmap_state: the low byte of a pmap entry."""

    ABSENT = lib.PMAP_ABSENT
    PRIVATE = lib.PMAP_PRIVATE
    SHARED = lib.PMAP_SHARED
    BALLOONED = lib.PMAP_BALLOONED
    SWAPPED = lib.PMAP_SWAPPED


class NoMemoryThere(RingfenceError):
    """No memory answers at a guest physical address."""

    def __init__(self, gpa: int, length: int) -> None:
        super().__init__(f"guest physical memory: no RAM or ROM at {gpa:#x} ({length} bytes asked for)")
        self.gpa, self.length = gpa, length


class NotWritable(RingfenceError):
    """A loader or debugger wrote to ROM."""

    def __init__(self, gpa: int) -> None:
        super().__init__(f"guest physical memory: {gpa:#x} is ROM")
        self.gpa = gpa


class BadSlot(RingfenceError):
    """A range that cannot be mapped as asked."""


@dataclass(frozen=True, slots=True)
class Region:
    """One row of the slot table, as values. `file_page` is an index into ram, or dev where `in_dev`."""

    first_ppn: int
    pages: int
    kind: SlotKind
    in_dev: bool = False
    file_page: int = 0

    @property
    def end_ppn(self) -> int:
        return self.first_ppn + self.pages

    @property
    def holds_bytes(self) -> bool:
        kind = self.kind
        return kind is SlotKind.RAM or kind is SlotKind.ROM or kind is SlotKind.FRAMEBUFFER

    def part(self, first_ppn: int, end_ppn: int) -> Region:
        """What of it lies in first_ppn..end_ppn - 1, which must not be empty."""
        first = max(first_ppn, self.first_ppn)
        moved = self.file_page + first - self.first_ppn if self.holds_bytes else 0
        return replace(self, first_ppn=first, pages=min(end_ppn, self.end_ppn) - first, file_page=moved)

    def continues(self, before: Region) -> bool:
        """Is it one region with the one before it?"""
        return (
            before.end_ppn == self.first_ppn
            and before.kind == self.kind
            and before.in_dev == self.in_dev
            and (not self.holds_bytes or before.file_page + before.pages == self.file_page)
        )


class Run(NamedTuple):
    """Bytes of one region: `offset` is into the region's file."""

    region: Region
    gpa: int
    offset: int
    length: int


class Extent(NamedTuple):
    """A region that holds bytes: its addresses, and how far below them its bytes lie in their file."""

    table: list[Region]  # of which it is a row
    start: int
    end: int
    shift: int
    region: Region


class Mapping:
    """One memfd, mapped shared."""

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        try:
            self.fd = os.memfd_create(f"ringfence-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise HostRefused(f"guest memory: the host gives no memfd: {error.strerror}") from error
        try:
            os.ftruncate(self.fd, size)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            self.bytes = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, ValueError, OverflowError) as error:
            os.close(self.fd)
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise HostRefused(f"guest memory: the host cannot map {size >> 20} MiB ({name}): {why}") from error

    def close(self) -> None:
        """Unmap, unless an engine or a view still uses the bytes: they then go with the last of these."""
        with suppress(BufferError):
            self.bytes.close()
        os.close(self.fd)


class GuestMemory:
    """One machine's memory. `ram_pages` is the top PPN of RAM + 1; nothing is mapped at first.

    `missing` is called with a PPN that a transfer needs and that is shared, ballooned or swapped, and whether it will
    be written; it must make the page private. Without it such a page is an error.

    Raises HostRefused when the host cannot give the memory.
    """

    def __init__(self, ram_pages: int, dev_pages: int = 0, vcpus: int = 1) -> None:
        if not 0 < ram_pages <= PPN_LIMIT or not 0 <= dev_pages <= PPN_LIMIT:
            raise HostRefused(f"guest memory: {ram_pages} pages of RAM: expected 1 to {PPN_LIMIT}")
        if not 1 <= vcpus <= lib.RF_VCPUS:
            raise HostRefused(f"guest memory: {vcpus} virtual CPUs: expected 1 to {lib.RF_VCPUS}")
        check_host(ram_pages * PAGE_SIZE)
        self.missing: Callable[[int, bool], None] | None = None
        self.ram_pages, self.dev_pages = ram_pages, max(dev_pages, 1)
        layout = Layout.of(ram_pages, self.dev_pages)
        sizes = {"ram": ram_pages * PAGE_SIZE, "dev": self.dev_pages * PAGE_SIZE, "pages": layout.size}
        opened: list[Mapping] = []
        try:
            for name, size in sizes.items():
                opened.append(Mapping(name, size))
        except HostRefused:
            for mapping in opened:
                mapping.close()
            raise
        self.ram, self.dev, self.pages = opened
        self.machine = MachinePage.from_buffer(self.pages.bytes)
        layout.describe(self.machine)
        self._machine = ffi.cast("struct machine *", ctypes.addressof(self.machine))
        self.machine.vcpus = vcpus
        self.stamps: npt.NDArray[np.uint32] = self._array(np.uint32, layout.stamps, ram_pages)
        self.flags: npt.NDArray[np.uint8] = self._array(np.uint8, layout.flags, ram_pages)
        self.pmap: npt.NDArray[np.uint64] = self._array(np.uint64, layout.pmap, ram_pages)
        self.dirty: npt.NDArray[np.uint8] = self._array(np.uint8, layout.dirty, self.dev_pages)
        self._dirty_offset = layout.dirty
        self._views = (memoryview(self.ram.bytes), memoryview(self.dev.bytes))
        self._regions: list[Region] = []
        self._recent = Extent(self._regions, 0, 0, 0, Region(0, 0, SlotKind.NONE))  # where the latest transfer was
        self._dev_next = 0
        self._pins: dict[int, tuple[int, int]] = {}
        self._pin_keys = itertools.count()

    def _array(self, dtype: type[Scalar], offset: int, count: int) -> npt.NDArray[Scalar]:
        return np.frombuffer(self.pages.bytes, dtype=dtype, count=count, offset=offset)

    def close(self) -> None:
        """Give the memory back. Nothing of it may be used afterwards; a second close does nothing."""
        if not hasattr(self, "machine"):
            return
        del self.machine, self.stamps, self.flags, self.pmap, self.dirty
        for view in self._views:
            view.release()
        for mapping in (self.ram, self.dev, self.pages):
            mapping.close()

    def __enter__(self) -> GuestMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- slots -------------------------------------------------------------------------------------------------------

    @property
    def regions(self) -> tuple[Region, ...]:
        """The slot table, sorted."""
        return tuple(self._regions)

    def allocate_dev(self, pages: int) -> int:
        """The index of `pages` fresh zeroed pages of device memory. Raises BadSlot when there are not so many."""
        if not 0 < pages <= self.dev_pages - self._dev_next:
            raise BadSlot(f"device memory: {pages} pages: expected at most {self.dev_pages - self._dev_next}")
        first, self._dev_next = self._dev_next, self._dev_next + pages
        return first

    def dev_view(self, dev_page: int, pages: int) -> memoryview:
        """Device memory for whoever fills a ROM or draws a screen."""
        return self._views[1][dev_page * PAGE_SIZE : (dev_page + pages) * PAGE_SIZE]

    def map_ram(self, first_ppn: int, pages: int) -> None:
        """RAM; always at its own place in the ram file."""
        self._map(Region(first_ppn, pages, SlotKind.RAM, file_page=first_ppn))

    def map_hidden(self, first_ppn: int, pages: int, dev_page: int) -> None:
        """Writable memory out of dev: what a chipset shows in place of the RAM at the same address."""
        self._map(Region(first_ppn, pages, SlotKind.RAM, True, dev_page))

    def map_rom(self, first_ppn: int, pages: int, dev_page: int) -> None:
        """Memory out of dev whose writes are ignored."""
        self._map(Region(first_ppn, pages, SlotKind.ROM, True, dev_page))

    def map_shadow_rom(self, first_ppn: int, pages: int) -> None:
        """RAM that a chipset has write-protected, as PAM does once firmware is copied into it."""
        self._map(Region(first_ppn, pages, SlotKind.ROM, file_page=first_ppn))

    def map_mmio(self, first_ppn: int, pages: int) -> None:
        """Every access leaves run()."""
        self._map(Region(first_ppn, pages, SlotKind.MMIO))

    def map_framebuffer(self, first_ppn: int, pages: int, dev_page: int) -> None:
        """Video memory out of dev; a store sets `dirty[dev page]`."""
        self._map(Region(first_ppn, pages, SlotKind.FRAMEBUFFER, True, dev_page))

    def unmap(self, first_ppn: int, pages: int) -> None:
        """Nothing answers there any more."""
        self._map(Region(first_ppn, pages, SlotKind.NONE))

    def _map(self, new: Region) -> None:
        """Put `new` over whatever was there. Raises BadSlot, with the table unchanged, when it cannot be."""
        if new.pages <= 0 or new.first_ppn < 0 or new.end_ppn > PPN_LIMIT:
            raise BadSlot(f"slot: pages {new.first_ppn:#x}..{new.end_ppn:#x}: expected a range below {PPN_LIMIT:#x}")
        limit = self.dev_pages if new.in_dev else self.ram_pages
        if new.holds_bytes and not 0 <= new.file_page <= limit - new.pages:
            end = new.file_page + new.pages
            raise BadSlot(f"slot: file pages {new.file_page:#x}..{end:#x}: expected a range below {limit:#x}")
        table = overlay(self._regions, new)
        if len(table) > lib.RF_SLOTS:
            raise BadSlot(f"slot: {len(table)} slots: expected at most {lib.RF_SLOTS}")
        self._regions = table
        for row, region in zip(self.machine.slots, table, strict=False):
            self._write_slot(row, region)
        self.machine.slot_count = len(table)
        self.machine.slot_generation = self.machine.slot_generation + 1 & 0xFFFFFFFF
        self._bump(new.first_ppn, new.end_ppn)  # other bytes answer now: cached code and tables must notice

    def _write_slot(self, row: Slot, region: Region) -> None:
        row.first_ppn, row.pages = region.first_ppn, region.pages
        row.kind, row.in_dev, row.file_page = region.kind, region.in_dev, region.file_page
        framebuffer = region.kind == SlotKind.FRAMEBUFFER
        row.dirty_offset = self._dirty_offset + region.file_page if framebuffer else 0

    # ---- bytes -------------------------------------------------------------------------------------------------------

    def read(self, gpa: int, length: int) -> bytes:
        """A copy, for loaders and debuggers. Raises NoMemoryThere."""
        return b"".join(self._bytes_of(run) for run in self._resolve(gpa, length, write=False))

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Store, for loaders and debuggers. Raises NoMemoryThere or NotWritable, with nothing stored."""
        source = memoryview(data).cast("B")
        runs = self._resolve(gpa, len(source), write=True)
        for run in runs:
            if run.region.kind == SlotKind.ROM:
                raise NotWritable(run.gpa)
        for run in runs:
            self._bytes_of(run)[:] = source[run.gpa - gpa : run.gpa - gpa + run.length]
            self._written(run)

    def dma(self, gpa: int, length: int, write: bool) -> Dma:
        """Memory itself, in order, for preadv, pwritev and sockets; pinned until the block is left.

        `write` means that the device stores into memory: the pages' stamps move on leaving, however it is left. What is
        stored to ROM is lost. The views end with the block. Raises NoMemoryThere before anything is transferred.
        """
        return Dma(self, gpa, length, write)

    def is_pinned(self, ppn: int) -> bool:
        """Is a transfer under way in this page? The VMkernel must not take it meanwhile."""
        at, end = ppn * PAGE_SIZE, (ppn + 1) * PAGE_SIZE
        return any(gpa < end and gpa + length > at for gpa, length in list(self._pins.values()))

    def _resolve(self, gpa: int, length: int, write: bool) -> list[Run]:
        """The runs of gpa..gpa + length - 1, contiguous in their file; their pages are there."""
        table, start, stop, shift, region = self._recent
        if start <= gpa and gpa + length <= stop and length > 0 and table is self._regions:
            run = Run(region, gpa, gpa - shift, length)
            if not region.in_dev:
                self._bring_back(run, write)
            return [run]
        if gpa < 0 or length < 0:
            raise NoMemoryThere(gpa, length)
        runs: list[Run] = []
        at, end = gpa, gpa + length
        for region in self._regions:
            if at >= end or region.first_ppn * PAGE_SIZE > at:
                break
            stop = min(end, region.end_ppn * PAGE_SIZE)
            if stop <= at:
                continue
            if not region.holds_bytes:
                break
            offset = at - region.first_ppn * PAGE_SIZE + region.file_page * PAGE_SIZE
            runs.append(Run(region, at, offset, stop - at))
            self._recent = extent_of(self._regions, region)
            at = stop
        if at < end:
            raise NoMemoryThere(at, end - at)
        for run in runs:
            if not run.region.in_dev:
                self._bring_back(run, write)
        return runs

    def _bring_back(self, run: Run, write: bool) -> None:
        first, end = run.gpa // PAGE_SIZE, (run.gpa + run.length - 1) // PAGE_SIZE + 1
        if end - first == 1 and self.pmap.item(first) & PMAP_STATE <= PMAP_PRIVATE:
            return  # as most are: an operation on a whole array costs ten times as much
        states = self.pmap[first:end] & np.uint64(PMAP_STATE)
        for ppn in (np.flatnonzero(states > PmapState.PRIVATE) + first).tolist():
            if self.missing is None:
                raise NoMemoryThere(ppn * PAGE_SIZE, PAGE_SIZE)
            self.missing(ppn, write)

    def _bytes_of(self, run: Run) -> memoryview:
        return self._views[run.region.in_dev][run.offset : run.offset + run.length]

    def _written(self, run: Run) -> None:
        self._bump(run.gpa // PAGE_SIZE, (run.gpa + run.length - 1) // PAGE_SIZE + 1)
        if run.region.kind == FRAMEBUFFER:
            self.dirty[run.offset // PAGE_SIZE : (run.offset + run.length - 1) // PAGE_SIZE + 1] = 1

    def _bump(self, first_ppn: int, end_ppn: int) -> None:
        """Move the stamps, after the bytes have changed; atomically, for vCPUs move them too."""
        lib.machine_bump(self._machine, first_ppn, max(end_ppn - first_ppn, 0))

    def _pin(self, gpa: int, length: int) -> int:
        key = next(self._pin_keys)
        self._pins[key] = (gpa, length)
        return key

    def _unpin(self, key: int) -> None:
        del self._pins[key]


class Dma:
    """One transfer, as `GuestMemory.dma` says; entered once."""

    __slots__ = ("_gpa", "_length", "_memory", "_pin", "_runs", "_views", "_write")

    def __init__(self, memory: GuestMemory, gpa: int, length: int, write: bool) -> None:
        self._memory, self._gpa, self._length, self._write = memory, gpa, length, write

    def __enter__(self) -> list[memoryview]:
        memory = self._memory
        self._runs = runs = memory._resolve(self._gpa, self._length, self._write)
        self._pin = memory._pin(self._gpa, self._length)
        self._views = [
            memoryview(bytearray(run.length)) if self._write and run.region.kind == ROM else memory._bytes_of(run)
            for run in runs
        ]
        return list(self._views)

    def __exit__(self, *_: object) -> None:
        for view in self._views:
            view.release()
        memory = self._memory
        if self._write:
            for run in self._runs:
                memory._written(run)
        memory._unpin(self._pin)


def extent_of(table: list[Region], region: Region) -> Extent:
    first = region.first_ppn * PAGE_SIZE
    return Extent(table, first, region.end_ppn * PAGE_SIZE, first - region.file_page * PAGE_SIZE, region)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the arrays of the pages mapping lie: byte offsets."""

    ram_pages: int
    dev_pages: int
    stamps: int
    codemap: int
    flags: int
    pmap: int
    dirty: int
    size: int

    @classmethod
    def of(cls, ram_pages: int, dev_pages: int) -> Layout:
        at = PAGE_SIZE  # struct machine has the first page
        offsets = []
        for width, count in ((4, ram_pages), (8, ram_pages), (1, ram_pages), (8, ram_pages), (1, dev_pages)):
            offsets.append(at)
            at = round_up(at + width * count)
        stamps, codemap, flags, pmap, dirty = offsets
        return cls(ram_pages, dev_pages, stamps, codemap, flags, pmap, dirty, at)

    def describe(self, machine: MachinePage) -> None:
        machine.version = lib.RF_MACHINE_VERSION
        machine.ram_pages, machine.dev_pages = self.ram_pages, self.dev_pages
        machine.stamps, machine.codemap = self.stamps, self.codemap
        machine.flags, machine.pmap = self.flags, self.pmap


def round_up(size: int) -> int:
    return (size + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE


def overlay(table: list[Region], new: Region) -> list[Region]:
    """`table` with `new` over it; neighbours that belong together are one row. NONE leaves a gap."""
    rows: list[Region] = []
    for region in table:
        if region.first_ppn < new.first_ppn:
            rows.append(region.part(region.first_ppn, min(region.end_ppn, new.first_ppn)))
        if region.end_ppn > new.end_ppn:
            rows.append(region.part(max(region.first_ppn, new.end_ppn), region.end_ppn))
    if new.kind != SlotKind.NONE:
        rows.append(new)
    rows.sort(key=lambda region: region.first_ppn)
    merged: list[Region] = []
    for region in rows:
        if merged and region.continues(merged[-1]):
            merged[-1] = replace(merged[-1], pages=merged[-1].pages + region.pages)
        else:
            merged.append(region)
    return merged


def check_host(size: int, meminfo: Path = Path("/proc/meminfo")) -> None:
    """Raise HostRefused when `size` bytes are more than all the host's memory and swap.

    A memfd is sparse, so the host says yes to any size and kills the process when the guest uses it.
    """
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        total = sum(int(rows[name].split()[0]) << 10 for name in ("MemTotal", "SwapTotal"))
    except (OSError, KeyError, ValueError, IndexError):
        return
    if size > total:
        found = f"{size >> 20} MiB asked for"
        raise HostRefused(f"guest memory: expected at most {total >> 20} MiB, the host's memory and swap: {found}")
