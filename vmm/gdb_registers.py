"""Reads and writes a stopped vCPU's registers by the rows of gdb_target_spec.py.

A value is an integer; the wire has it little-endian in the row's width. What the processor could not hold is refused
(RefusedWrite) and nothing changes. A selector that is written takes its hidden part along: from the descriptor table,
or as base = selector * 16 where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringfence.errors import RingfenceError
from vmm._core import lib
from vmm.descriptor_spec import DESCRIPTOR_BYTES, Descriptor
from vmm.gdb_target_spec import FX_FTW, FX_ST, FX_STRIDE, REGISTERS, SEGMENTS, Reg
from vmm.layout_spec import VcpuState

READ_ONLY_FLAGS = lib.FL_VM  # it changes what every segment register means
MXCSR_BITS = 0xFFFF
TAG_EMPTY = 3

ReadLinear = Callable[[int, int], bytes]


class RefusedWrite(RingfenceError):
    """A register does not take this value."""


class Registers:
    """Of one vCPU. `read_linear(address, length)` gives less where nothing is mapped; `forget` drops translations."""

    def __init__(self, state: VcpuState, read_linear: ReadLinear, forget: Callable[[], None]) -> None:
        self.state, self._read_linear, self._forget = state, read_linear, forget

    def read(self, number: int) -> bytes:
        """As the wire has it. IndexError for a number that no row has."""
        reg = REGISTERS[number]
        return self.value(reg).to_bytes(reg.bytes, "little")

    def read_all(self) -> bytes:
        return b"".join(self.read(number) for number in range(len(REGISTERS)))

    def write(self, number: int, raw: bytes) -> None:
        """From the wire. Raises RefusedWrite; IndexError for a number that no row has."""
        reg = REGISTERS[number]
        if len(raw) != reg.bytes:
            raise RefusedWrite(f"{reg.name}: {len(raw)} bytes: expected {reg.bytes}")
        value = int.from_bytes(raw, "little")
        if value != self.value(reg):
            self._set(reg, value)

    def write_all(self, raw: bytes) -> None:
        """All that are given, in order; a read-only one is passed over, for GDB writes back what it has read."""
        at = 0
        for number, reg in enumerate(REGISTERS):
            piece = raw[at : at + reg.bytes]
            at += reg.bytes
            if len(piece) == reg.bytes and reg.writable:
                self.write(number, piece)

    def value(self, reg: Reg) -> int:
        if reg.name == "ftag":
            return full_tags(bytes(self.state.fx))
        if not reg.path:
            offset, size = reg.fx
            return int.from_bytes(bytes(self.state.fx[offset : offset + size]), "little")
        value: Any = self.state
        for step in reg.path:
            value = value[step] if isinstance(step, int) else getattr(value, step)
        return int(value)

    def _set(self, reg: Reg, value: int) -> None:
        if not reg.writable:
            raise RefusedWrite(f"{reg.name}: it cannot be written")
        special = {"eflags": self._set_eflags, "cr0": self._set_control, "cr3": self._set_control,
                   "cr4": self._set_control, "efer": self._set_control}  # fmt: skip
        if reg.name == "ftag":
            bits = sum(1 << n for n in range(8) if value >> 2 * n & 3 != TAG_EMPTY)
            self.state.fx[FX_FTW] = bits
        elif reg.fx[1]:
            offset, size = reg.fx
            value &= MXCSR_BITS if reg.name == "mxcsr" else (1 << 8 * size) - 1
            self.state.fx[offset : offset + size] = list(value.to_bytes(size, "little"))
        elif reg.path[-1] == "selector":
            self._load_segment(reg, value)
        elif reg.name in special:
            special[reg.name](reg, value)
        else:
            self._store(reg, value & 0xFFFF if reg.path[-1] == "limit" else value)

    def _store(self, reg: Reg, value: int) -> None:
        owner: Any = self.state
        for step in reg.path[:-1]:
            owner = owner[step] if isinstance(step, int) else getattr(owner, step)
        last = reg.path[-1]
        if isinstance(last, int):
            owner[last] = value
        else:
            setattr(owner, last, value)

    def _set_eflags(self, reg: Reg, value: int) -> None:
        if (value ^ self.state.eflags) & READ_ONLY_FLAGS:
            raise RefusedWrite("eflags: VM cannot be changed")
        self.state.eflags = value & 0x3FFFFF & ~0x8028 | lib.FL_1

    def _set_control(self, reg: Reg, value: int) -> None:
        if reg.name == "cr0" and value & lib.CR0_PG and not value & lib.CR0_PE:
            raise RefusedWrite("cr0: PG without PE")
        if reg.name == "cr0" and (value ^ self.state.cr0) & lib.CR0_PE:
            raise RefusedWrite("cr0: PE cannot be changed")
        self._store(reg, value)
        self._forget()

    def _load_segment(self, reg: Reg, selector: int) -> None:
        segment = self.state.seg[SEGMENTS[reg.name]]
        if selector > 0xFFFF:
            raise RefusedWrite(f"{reg.name}: {selector:#x}: expected 16 bits")
        if not self.state.cr0 & lib.CR0_PE or self.state.eflags & lib.FL_VM:
            segment.selector, segment.base = selector, selector << 4
            return
        if selector & ~3 == 0 and reg.name not in {"cs", "ss"}:
            segment.selector, segment.attr = selector, segment.attr | lib.SEG_UNUSABLE
            return
        found = self.descriptor(selector)
        if found is None or not found.is_segment or not found.attr & lib.SEG_P:
            raise RefusedWrite(f"{reg.name}: {selector:04x} names no present segment")
        if reg.name in {"cs", "ss"} and selector & 3 != self.state.cpl:
            raise RefusedWrite(f"{reg.name}: {selector:04x}: its RPL is not the CPL, {self.state.cpl}")
        if (reg.name == "cs") != bool(found.attr & lib.SEG_CODE) and reg.name in {"cs", "ss"}:
            raise RefusedWrite(f"{reg.name}: {selector:04x} is another kind of segment: {found}")
        segment.selector, segment.base, segment.limit, segment.attr = selector, found.base, found.limit, found.attr

    def descriptor(self, selector: int) -> Descriptor | None:
        """The table's entry; None beyond the table or where it is not mapped."""
        state = self.state
        base, limit = (
            (state.seg[lib.LDTR].base, state.seg[lib.LDTR].limit)
            if selector & 4
            else (state.gdtr.base, state.gdtr.limit)
        )
        offset = selector & ~7
        if offset + DESCRIPTOR_BYTES - 1 > limit:
            return None
        raw = self._read_linear(base + offset & 0xFFFFFFFF, DESCRIPTOR_BYTES)
        return Descriptor(int.from_bytes(raw, "little")) if len(raw) == DESCRIPTOR_BYTES else None


def full_tags(fx: bytes) -> int:
    """The x87 tag word, two bits for each physical register, from the abridged one and the registers' contents.

    00 valid, 01 zero, 10 special, 11 empty. Source: Intel SDM 1, 8.1.7, 10.5.1.1.
    """
    top = fx[3] >> 3 & 7
    tags = 0
    for physical in range(8):
        at = FX_ST + FX_STRIDE * ((physical - top) & 7)
        significand, exponent = (
            int.from_bytes(fx[at : at + 8], "little"),
            int.from_bytes(fx[at + 8 : at + 10], "little"),
        )
        if not fx[FX_FTW] >> physical & 1:
            tag = TAG_EMPTY
        elif exponent & 0x7FFF == 0 and significand == 0:
            tag = 1
        else:
            tag = 0 if 0 < exponent & 0x7FFF < 0x7FFF and significand >> 63 else 2
        tags |= tag << 2 * physical
    return tags
