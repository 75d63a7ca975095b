"""Between an adapter and a target: a CDB goes in, an outcome comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hw.scsi.scsi_spec import Sense


@dataclass(frozen=True, slots=True)
class Good:
    """GOOD, without data."""


@dataclass(frozen=True, slots=True)
class DataIn:
    """GOOD, with this for the initiator, already cut to the allocation length."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BlocksIn:
    """GOOD so far: the adapter reads `count` blocks from `first` on with `read_blocks`, as its buffers allow."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class CheckCondition:
    """CHECK CONDITION. The target keeps the sense data until it is taken, or the next command."""

    sense: Sense


Outcome = Good | DataIn | BlocksIn | CheckCondition


class CdbTarget(Protocol):
    """A target: executes CDBs one at a time."""

    @property
    def block_size(self) -> int:
        """Bytes."""

    def reset(self) -> None:
        """Power-on."""

    def execute(self, cdb: bytes) -> Outcome:
        """`cdb` is 12 bytes or more, padded with zeros."""

    def read_blocks(self, first: int, count: int, views: list[memoryview]) -> int | CheckCondition:
        """Read into the views; fewer blocks than asked for when a later one is bad."""

    def take_sense(self) -> bytes:
        """The sense data, which is then cleared: for adapters that hand it over with the status."""
