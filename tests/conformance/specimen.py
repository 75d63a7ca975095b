"""How the list of devices describes one: what to build, where it answers, which bits do more than their masks say."""

from __future__ import annotations

import random
from collections.abc import Callable, MutableSequence, Sequence
from ctypes import Structure
from dataclasses import dataclass, field
from typing import Any, Protocol

from ringfence.registers import RegBank
from tests.conformance.board import Access, Board

Store = Callable[[Any], MutableSequence[int]]
Script = Callable[[random.Random, int], list[Access]]


class Device(Protocol):
    """Anything with state."""

    def reset(self) -> None: ...

    def sync(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Indexed:
    """Registers behind a port that selects one and a port that moves its byte. `before` is done first, each time."""

    select: int
    write: int
    read: int
    before: Sequence[Access] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """A register bank that answers at the ports from `window` on, or is indexed, once `setup` was done.

    Bits of `acts` do something when they are written, instead of only being stored; those of `driven` the device
    changes when other registers are written. `resets` are values that the machine's configuration puts in place of the
    rows'. The ports of `elsewhere` (offsets) are another's. Without a `store` the rows are for these tests only, and
    the device keeps them in its own way.
    """

    bank: RegBank
    window: int | Indexed
    store: Store | None = None
    setup: Sequence[Access] = ()
    acts: dict[str, int] = field(default_factory=dict)
    driven: dict[str, int] = field(default_factory=dict)
    resets: dict[str, int] = field(default_factory=dict)
    elsewhere: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """One device. `ports` and `memory` are ranges (first, count) that random accesses go to, after `setup`."""

    name: str
    state: type[Structure]
    build: Callable[[Board, Any], Device]
    ports: Sequence[tuple[int, int]] = ()
    memory: Sequence[tuple[int, int]] = ()
    setup: Sequence[Access] = ()
    values: Sequence[int] = ()  # that mean something to it
    script: Script | None = None  # what sets it to work, where random accesses hardly would
    weight: int = 1  # how many times the accesses of others it takes to get somewhere
    banks: Sequence[Bank] = ()
    kept: Sequence[str] = ()  # fields that RESET# leaves alone: a battery's, a mechanism's
    before_reset: Sequence[Access] = ()  # how its neighbours come to rest, which a reset does not do to them


def out(port: int, width: int, value: int) -> Access:
    """A port write."""
    return Access("out", port, width, value)
