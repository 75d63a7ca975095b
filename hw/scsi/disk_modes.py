"""A disk's mode pages: what MODE SENSE tells, and what MODE SELECT may change.

One bit can be changed, the write cache's, and only where the caching page is shown. No block descriptor is returned.
Source: SPC-3 (T10 1416D), cited as [spc], MODE SENSE, MODE SELECT; SBC-2, mode parameters; SCSI-2 (X3.131-1994),
format device and rigid disk geometry pages.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.scsi.disk_spec import (
    BLOCK_BYTES,
    CACHING_PAGE_BYTES,
    CYLINDERS_MAX,
    FIXED_PAGES,
    HARD_SECTORED,
    ROTATION_RPM,
    TRANSLATION_LARGE,
    TRANSLATIONS,
    WRITE_CACHE_ENABLE,
    WRITE_PROTECT,
    Geometry,
    ModePage,
)
from hw.scsi.mode_select import HEADER_6_BYTES, HEADER_10_BYTES, PAGE_HEADER_BYTES, selected_pages


def geometry_of(blocks: int) -> Geometry:
    """As adapters translate a disk of this size for the BIOS."""
    heads, sectors = next(((h, s) for most, h, s in TRANSLATIONS if blocks <= most), TRANSLATION_LARGE)
    return Geometry(min(blocks // (heads * sectors), CYLINDERS_MAX), heads, sectors)


@dataclass(frozen=True, slots=True)
class ModePages:
    """What a disk's pages are made from."""

    geometry: Geometry
    caching: bool = False  # is the caching page shown?

    def codes(self) -> list[ModePage]:
        return [code for code in ModePage if self.caching or code != ModePage.CACHING]

    def page(self, code: ModePage, write_cache: bool) -> bytes:
        if code == ModePage.FORMAT:
            return self._format()
        if code == ModePage.GEOMETRY:
            return self._geometry()
        if code == ModePage.CACHING:
            enabled = WRITE_CACHE_ENABLE if write_cache else 0
            return bytes([code, CACHING_PAGE_BYTES - PAGE_HEADER_BYTES, enabled]).ljust(CACHING_PAGE_BYTES, b"\0")
        return FIXED_PAGES[code]

    def changeable(self, code: ModePage) -> bytes:
        """A page whose bits that can be changed are 1."""
        page = self.page(code, write_cache=True)
        bits = page[2:] if code == ModePage.CACHING else bytes(len(page) - PAGE_HEADER_BYTES)
        return page[:PAGE_HEADER_BYTES] + bits

    def _format(self) -> bytes:
        page = bytearray([ModePage.FORMAT, 0x16]) + bytes(22)
        page[2:4] = self.geometry.heads.to_bytes(2, "big")  # tracks per zone
        page[10:12] = self.geometry.sectors.to_bytes(2, "big")
        page[12:14] = BLOCK_BYTES.to_bytes(2, "big")
        page[14:16] = (1).to_bytes(2, "big")  # interleave
        page[20] = HARD_SECTORED
        return bytes(page)

    def _geometry(self) -> bytes:
        cylinders = min(self.geometry.cylinders, CYLINDERS_MAX).to_bytes(3, "big")
        page = bytearray([ModePage.GEOMETRY, 0x16]) + bytes(22)
        page[2:5], page[5] = cylinders, self.geometry.heads
        page[6:9], page[9:12] = cylinders, cylinders  # write precompensation and reduced current: nowhere
        page[20:22] = ROTATION_RPM.to_bytes(2, "big")
        return bytes(page)

    def select(self, data: bytes, header_bytes: int, write_cache: bool) -> bool:
        """Whether the write cache is on after this parameter list. Raises Refused. [spc: MODE SELECT]"""
        now: dict[int, bytes] = {code: self.page(code, write_cache) for code in self.codes()}
        masks: dict[int, bytes] = {code: self.changeable(code) for code in self.codes()}
        caching = selected_pages(data, header_bytes, BLOCK_BYTES, now, masks).get(ModePage.CACHING)
        return write_cache if caching is None else bool(caching[2] & WRITE_CACHE_ENABLE)


def with_header(pages: bytes, *, long: bool, write_protected: bool) -> bytes:
    """A mode parameter header and the pages; no block descriptor. [spc: mode parameter header formats]"""
    protect = WRITE_PROTECT if write_protected else 0
    if long:
        return (len(pages) + HEADER_10_BYTES - 2).to_bytes(2, "big") + bytes([0, protect, 0, 0, 0, 0]) + pages
    return bytes([len(pages) + HEADER_6_BYTES - 1, 0, protect, 0]) + pages
