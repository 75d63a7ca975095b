"""A program's symbols: addresses to names, for traces, dumps and back-traces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

FARTHEST_BYTES = 1 << 20  # beyond this distance a symbol without a size explains nothing


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name for `size` bytes at a linear address; size 0 when the file does not say."""

    address: int
    size: int
    name: str


class SymbolTable:
    """Looks addresses up. An empty table answers every address with nothing."""

    def __init__(self, symbols: Iterable[Symbol] = ()) -> None:
        self._symbols = sorted(symbols, key=lambda symbol: (symbol.address, symbol.size))
        self._addresses = [symbol.address for symbol in self._symbols]

    def __len__(self) -> int:
        return len(self._symbols)

    def at(self, address: int, *, inside: int | None = None) -> str | None:
        """`name` or `name+0x12` for an address of the symbol that `inside` (the address itself) lies in, else None."""
        inside = address if inside is None else inside
        index = bisect_right(self._addresses, inside) - 1
        if index < 0:
            return None
        symbol = self._symbols[index]
        if inside - symbol.address >= (symbol.size or FARTHEST_BYTES):
            return None
        offset = address - symbol.address
        return f"{symbol.name}+{offset:#x}" if offset else symbol.name

    def describe(self, address: int) -> str:
        """The address in hex, with its symbol if it has one."""
        name = self.at(address)
        return f"{address:08x} <{name}>" if name else f"{address:08x}"

    def describe_return(self, address: int) -> str:
        """As `describe`, of where a call returns to: perhaps just behind the function that called."""
        name = self.at(address, inside=address - 1)
        return f"{address:08x} <{name}>" if name else f"{address:08x}"

    def address_of(self, name: str) -> int | None:
        return next((symbol.address for symbol in self._symbols if symbol.name == name), None)
