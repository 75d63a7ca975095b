"""Segment descriptors and gates as values, for whoever shows or loads them outside the engine.

Source: Intel SDM 3A, 3.4.5 "Segment Descriptors", 3.5 "System Descriptor Types", 6.11 "IDT Descriptors".
"""

from __future__ import annotations

from dataclasses import dataclass

DESCRIPTOR_BYTES = 8
SYSTEM_TYPES = {
    1: "TSS16", 2: "LDT", 3: "TSS16 busy", 4: "call gate 16", 5: "task gate", 6: "interrupt gate 16", 7: "trap gate 16",
    9: "TSS32", 11: "TSS32 busy", 12: "call gate 32", 14: "interrupt gate 32", 15: "trap gate 32",
}  # fmt: skip
GATES = frozenset({4, 5, 6, 7, 12, 14, 15})
UNITS_4K = 0x8000
PRESENT, SEGMENT, CODE, BIG = 0x80, 0x10, 0x08, 0x4000


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Eight bytes of a table. `attr` is laid out as enum seg_attr: bits 40..47 and 52..55."""

    raw: int

    @property
    def attr(self) -> int:
        return self.raw >> 40 & 0xF0FF

    @property
    def type(self) -> int:
        return self.attr & 0xF

    @property
    def is_segment(self) -> bool:
        return bool(self.attr & SEGMENT)

    @property
    def is_gate(self) -> bool:
        return not self.is_segment and self.type in GATES

    @property
    def dpl(self) -> int:
        return self.attr >> 5 & 3

    @property
    def base(self) -> int:
        return (self.raw >> 16 & 0xFFFFFF) | (self.raw >> 56) << 24

    @property
    def limit(self) -> int:
        """In bytes, whatever the granularity."""
        limit = (self.raw & 0xFFFF) | (self.raw >> 48 & 0xF) << 16
        return limit << 12 | 0xFFF if self.attr & UNITS_4K else limit

    def __str__(self) -> str:
        state = f"dpl {self.dpl}{'' if self.attr & PRESENT else ', not present'}"
        if self.is_gate:
            offset = (self.raw & 0xFFFF) | (self.raw >> 48) << 16
            words = f", {self.raw >> 32 & 0x1F} parameters" if self.type in {4, 12} else ""
            return f"{SYSTEM_TYPES[self.type]:18} {self.raw >> 16 & 0xFFFF:04x}:{offset:08x} {state}{words}"
        place = f"base {self.base:08x} limit {self.limit:08x} {state}"
        if not self.is_segment:
            return f"{SYSTEM_TYPES.get(self.type, f'type {self.type}'):18} {place}"
        kind = ("conforming code" if self.type & 4 else "code") if self.type & 8 else "data"
        rights = (" r" if self.type & 2 else "") if self.type & 8 else (" rw" if self.type & 2 else " r")
        down = ", expands down" if not self.type & 8 and self.type & 4 else ""
        return f"{kind + rights:18} {place}, {32 if self.attr & BIG else 16}-bit{down}"
