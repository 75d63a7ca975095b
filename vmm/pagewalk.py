"""The guest's page tables as a debugger reads them: nothing is set or remembered.

Two-level tables with 4 MiB pages (CR4.PSE) and PAE tables with 2 MiB pages. Addresses are linear or guest physical.
Source: Intel SDM 3A, 4.3 "32-bit Paging", 4.4 "PAE Paging".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ringfence.errors import RingfenceError
from vmm._core import lib
from vmm.layout_spec import VcpuState

P, W, U, A, D, PS, G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
NX = 1 << 63
FRAME_PAE = 0x000FFFFF_FFFFF000
CR3_PAE = 0xFFFFFFE0

ReadPhysical = Callable[[int, int], bytes]


class Entry(NamedTuple):
    """One entry that a walk met: `name` is PDPTE, PDE or PTE, `gpa` where it lies."""

    name: str
    gpa: int
    value: int


class Page(NamedTuple):
    """One present translation. `rights` has W, U and NX where all levels agree."""

    linear: int
    bytes: int
    gpa: int
    rights: int
    flags: int


class PageTables:
    """The tables that CR3 points at. `read(gpa, length)` raises a RingfenceError beyond memory."""

    def __init__(self, state: VcpuState, read: ReadPhysical) -> None:
        self.state, self._read = state, read
        self.on = bool(state.cr0 & lib.CR0_PG)
        self.pae = bool(state.cr4 & lib.CR4_PAE)
        self.large = self.pae or bool(state.cr4 & lib.CR4_PSE)

    def entries(self, linear: int) -> list[Entry]:
        """What a walk for `linear` reads, outermost first; it ends at what is not present."""
        if self.pae:
            table = self.state.pdpte[linear >> 30]
            found = [Entry("PDPTE", (self.state.cr3 & CR3_PAE) + 8 * (linear >> 30), table)]
            steps = (("PDE", 21), ("PTE", 12))
        else:
            table = self.state.cr3 & 0xFFFFF000 | P
            found, steps = [], (("PDE", 22), ("PTE", 12))
        size, mask = (8, 0x1FF) if self.pae else (4, 0x3FF)
        for name, shift in steps:
            if not table & P:
                break
            gpa = (table & FRAME_PAE) + size * (linear >> shift & mask)
            table = int.from_bytes(self._read(gpa, size), "little")
            found.append(Entry(name, gpa, table))
            if name == "PDE" and table & PS and self.large:
                break
        return found

    def pages(self) -> Iterator[Page]:
        """Every present translation in order of linear address."""
        if self.pae:
            for index in range(4):
                if self.state.pdpte[index] & P:
                    yield from self._directory(index << 30, self.state.pdpte[index] & FRAME_PAE, 8, 21)
        else:
            yield from self._directory(0, self.state.cr3 & 0xFFFFF000, 4, 22)

    def _directory(self, linear: int, table: int, size: int, shift: int) -> Iterator[Page]:
        for index, pde in enumerate(self._table(table, size)):
            here = linear + (index << shift)
            if pde & P and pde & PS and self.large:
                frame = pde & FRAME_PAE & -(1 << shift)
                if size == 4:  # PSE-36: bits 13..16 are bits 32..35 of the address
                    frame = pde & 0xFFC00000 | (pde >> 13 & 0xF) << 32
                yield Page(here, 1 << shift, frame, pde & (W | U | NX), pde)
            elif pde & P:
                for number, pte in enumerate(self._table(pde & FRAME_PAE, size)):
                    if pte & P:
                        rights = pde & pte & (W | U) | (pde | pte) & NX
                        yield Page(here + (number << 12), 1 << 12, pte & FRAME_PAE, rights, pte)

    def _table(self, gpa: int, size: int) -> list[int]:
        try:
            raw = self._read(gpa, 4096)
        except RingfenceError:  # a table that lies where no memory is maps nothing we could show
            return []
        return [int.from_bytes(raw[at : at + size], "little") for at in range(0, 4096, size)]
