"""The shadow page table from Python: what it holds, and what the guest's own tables say.

A view onto the C core's table of one engine, to be used between two runs. Nothing here fills the table or sets the
guest's accessed and dirty bits; but looking at a translation makes the core compare it with the guest's page table
first, as the engine would, and forget it if it is no longer true.
Source: vmm/core/shadow_api.h.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ringfence.errors import RingfenceError
from vmm._core import ffi, lib

PAGE_SHIFT = 12


class View(IntEnum):
    """Which rights a translation is for: rings 0 to 2, or ring 3."""

    SUPERVISOR = 0
    USER = 1


class SpteBit(IntFlag):
    """enum spte_bit of engine.h, which is not among the shared headers; a test compares the two."""

    P = 1 << 0
    W = 1 << 1
    X = 1 << 2
    DEV = 1 << 3
    TRACED = 1 << 4
    G = 1 << 5
    LARGE = 1 << 6
    MMIO = 1 << 7
    ROM = 1 << 8
    FB = 1 << 9


class Access(IntFlag):
    """enum pf: an access, and a page fault's error code."""

    READ = 0
    PRESENT = 1 << 0
    WRITE = 1 << 1
    USER = 1 << 2
    RESERVED = 1 << 3
    FETCH = 1 << 4


class Translation(NamedTuple):
    """One SPTE. `mpn` is a page index in ram, or in dev where bits has DEV; for MMIO it is the PPN."""

    vpn: int
    view: View
    mpn: int
    ppn: int
    bits: SpteBit


class ShadowStats(NamedTuple):
    """What the table holds now, over all remembered address spaces; `recycled` counts since power-on."""

    spaces: int
    spaces_max: int
    leaves: int
    leaves_max: int
    entries: int
    entries_global: int
    recycled: int


class PageFault(RingfenceError):
    """The guest's page tables deny an access."""

    def __init__(self, linear: int, error: Access) -> None:
        super().__init__(f"linear address {linear:#x}: page fault, error code {int(error):#x}")
        self.linear, self.error = linear, error


DUMP = np.dtype(
    [
        ("vpn", "<u4"),
        ("view", "u1"),
        ("writable", "?"),
        ("executable", "?"),
        ("traced", "?"),
        ("global", "?"),
        ("large", "?"),
        ("dev", "?"),
        ("mmio", "?"),
        ("rom", "?"),
        ("framebuffer", "?"),
        ("mpn", "<u8"),
        ("ppn", "<u4"),
    ]
)
DUMP_FLAGS = {
    "writable": SpteBit.W,
    "executable": SpteBit.X,
    "traced": SpteBit.TRACED,
    "global": SpteBit.G,
    "large": SpteBit.LARGE,
    "dev": SpteBit.DEV,
    "mmio": SpteBit.MMIO,
    "rom": SpteBit.ROM,
    "framebuffer": SpteBit.FB,
}
RAW = np.dtype([("vpn", "<u4"), ("view", "<u4"), ("spte", "<u8"), ("gpa", "<u8")])
assert RAW.itemsize == ffi.sizeof("struct shadow_entry")


class ShadowTable:
    """The table of one engine; `arena` is the engine's, as cffi has it. Not thread-safe, not while it runs."""

    def __init__(self, arena: Any) -> None:
        self._arena = ffi.cast("void *", arena)

    def lookup(self, linear: int, view: View) -> Translation | None:
        """What is remembered for a linear address in the current address space; None when nothing is."""
        found = ffi.new("struct shadow_entry *")
        if not lib.shadow_lookup(self._arena, linear & 0xFFFFFFFF, int(view), found):
            return None
        return Translation(
            found.vpn,
            View(found.view),
            found.spte >> PAGE_SHIFT,
            found.gpa >> PAGE_SHIFT,
            SpteBit(found.spte & (1 << PAGE_SHIFT) - 1),
        )

    def dump(self) -> npt.NDArray[np.void]:
        """All that is remembered for the current address space, global pages included, as an array of DUMP."""
        count = int(lib.shadow_dump(self._arena, ffi.NULL, 0))
        raw = np.zeros(count, RAW)
        count = min(count, int(lib.shadow_dump(self._arena, ffi.from_buffer("struct shadow_entry[]", raw), count)))
        raw = raw[:count]
        dump = np.zeros(count, DUMP)
        dump["vpn"], dump["view"] = raw["vpn"], raw["view"]
        dump["mpn"], dump["ppn"] = raw["spte"] >> PAGE_SHIFT, raw["gpa"] >> PAGE_SHIFT
        for name, bit in DUMP_FLAGS.items():
            dump[name] = raw["spte"] & int(bit) != 0
        return dump

    def stats(self) -> ShadowStats:
        counts = ffi.new("struct shadow_counts *")
        lib.shadow_count(self._arena, counts)
        return ShadowStats(*(int(getattr(counts, name)) for name in ShadowStats._fields))

    def probe(self, linear: int, access: Access = Access.READ) -> int:
        """The gpa that the guest's tables give an access, without a trace. Raises PageFault if they deny it."""
        gpa, error = ffi.new("uint64_t *"), ffi.new("uint32_t *")
        if lib.shadow_probe(self._arena, linear & 0xFFFFFFFF, int(access), gpa, error) != 0:
            raise PageFault(linear, Access(error[0]))
        return int(gpa[0])
