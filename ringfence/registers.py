"""Register banks: a chip's registers as rows, from which reset, decoding and the debugger's view all come.

A row says which bits software can change and how; a bit in no mask reads as its reset value for ever. The values live
in a byte array of the device's state, never here. An access of any width and alignment is done byte by byte, lowest
first, as a 32-bit bus drives byte enables: so partial, wide and straddling accesses follow from the masks.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reg:
    """One register. Masks: `rw` is stored, `w1c` is cleared by writing one, `w1s` is set by writing one.

    `on_write` names the method of the device to call once a write has touched the register.
    """

    offset: int
    name: str
    width: int
    reset: int = 0
    rw: int = 0
    w1c: int = 0
    w1s: int = 0
    on_write: str = ""


class RegBank:
    """An address range of `size` bytes, little-endian, with `rows` in it; the rest reads `hole` and ignores writes."""

    def __init__(self, name: str, size: int, *rows: Reg, hole: int = 0) -> None:
        self.name, self.size, self.rows = name, size, rows
        self.by_name = {row.name: row for row in rows}
        self.resets = bytearray([hole] * size)
        self.rw, self.w1c, self.w1s = bytearray(size), bytearray(size), bytearray(size)
        self.owner: list[Reg | None] = [None] * size
        assert len(self.by_name) == len(rows), f"{name}: two registers of one name"
        for row in rows:
            self._place(row)

    def _place(self, row: Reg) -> None:
        """Refuse what cannot be true of a chip; then spread the row over its bytes."""
        where = f"{self.name}.{row.name}"
        limit = 1 << 8 * row.width
        assert row.offset >= 0 and row.offset + row.width <= self.size, f"{where}: outside the bank"
        assert max(row.reset, row.rw, row.w1c, row.w1s) < limit, f"{where}: a mask is wider than the register"
        assert not (row.rw & row.w1c or row.rw & row.w1s or row.w1c & row.w1s), f"{where}: a bit with two behaviours"
        for index in range(row.width):
            place = row.offset + index
            assert self.owner[place] is None, f"{where}: overlaps {self.owner[place]}"
            self.owner[place] = row
            for target, value in (
                (self.resets, row.reset),
                (self.rw, row.rw),
                (self.w1c, row.w1c),
                (self.w1s, row.w1s),
            ):
                target[place] = value >> 8 * index & 0xFF

    def reset(self, store: MutableSequence[int]) -> None:
        """Every byte at its reset value."""
        store[:] = list(self.resets)

    def read(self, store: MutableSequence[int], offset: int, width: int) -> int:
        """`width` bytes at `offset`; all ones beyond the bank."""
        value = 0
        for index in range(width):
            place = offset + index
            value |= (store[place] if 0 <= place < self.size else 0xFF) << 8 * index
        return value

    def write(self, store: MutableSequence[int], offset: int, width: int, value: int) -> list[Reg]:
        """Apply a guest's write; the registers it touched, in order, each once."""
        touched: list[Reg] = []
        for index in range(width):
            place, byte = offset + index, value >> 8 * index & 0xFF
            if not 0 <= place < self.size or (row := self.owner[place]) is None:
                continue
            kept = store[place] & ~(self.rw[place] | byte & self.w1c[place])
            store[place] = (kept | byte & (self.rw[place] | self.w1s[place])) & 0xFF
            if row not in touched:
                touched.append(row)
        return touched

    def get(self, store: MutableSequence[int], name: str) -> int:
        """A register's value, by name."""
        row = self.by_name[name]
        return self.read(store, row.offset, row.width)

    def put(self, store: MutableSequence[int], name: str, value: int) -> None:
        """Set a register from the device's side: no mask applies."""
        row = self.by_name[name]
        for index in range(row.width):
            store[row.offset + index] = value >> 8 * index & 0xFF

    def dispatch(self, device: Any, touched: list[Reg]) -> None:
        """Call the device's handler of each touched register that has one."""
        for row in touched:
            if row.on_write:
                getattr(device, row.on_write)()
