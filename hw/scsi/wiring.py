"""Between adapters, targets, logical units and those who do their work: a CDB goes in, a status comes out.

An IDE channel hands a `CdbTarget` one CDB at a time and moves the data itself. A SCSI adapter hands a
`hw.scsi.target.Target` a `Command` with the buffer in guest memory, and is called back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from hw.scsi.backing import OutOfSpace
from hw.scsi.scsi_spec import Direction, Sense, Status, Tag

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Good:
    """GOOD, without data for the initiator; `taken` bytes of its own have been used."""

    taken: int = 0


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
    information: int | None = None


@dataclass(frozen=True, slots=True)
class ListOut:
    """GOOD so far: the adapter fetches so many bytes of parameters. Only of targets on a SCSI adapter."""

    length: int


Outcome = Good | DataIn | BlocksIn | ListOut | CheckCondition


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


# The SCSI adapters' way


class Completion(NamedTuple):
    """How a command ended. TASK_ABORTED stands for an abort or a reset: it is the adapter's to report, not a status."""

    status: Status
    sense: bytes = b""  # with CHECK CONDITION, when the command has autosense
    residual: int = 0  # bytes of the buffer that were not moved
    overrun: int = 0  # bytes of the CDB's that were not: the buffer is too small, or for the other direction


@dataclass(slots=True, eq=False)
class Command:
    """One command of an adapter. The views are pinned until `done` is called, which happens once, whatever occurs."""

    cdb: bytes
    done: Callable[[Completion], None]  # under the machine's lock; from within `begin`, or later
    views: list[memoryview] = field(default_factory=list)
    direction: Direction = Direction.IN  # what the views were resolved for; of no account without views
    lun: int = 0
    tag: Tag = Tag.SIMPLE
    autosense: bool = True  # without, the target keeps the sense data for REQUEST SENSE
    tried: bool = False  # to do at once, in vain
    aborted: bool = False  # the target's; work that takes long looks at it

    def room(self, direction: Direction) -> list[memoryview]:
        """The buffer, if data may go that way."""
        return self.views if self.direction == direction else []

    @property
    def length(self) -> int:
        return sum(map(len, self.views))


@dataclass(slots=True)
class Moved:
    """What a piece of work did: bytes of the buffer that it moved, and what went wrong after them."""

    count: int = 0
    check: CheckCondition | None = None


@dataclass(slots=True)
class Work:
    """What remains to be done with the medium, on another thread.

    `run` touches neither state nor the adapter. It may raise OutOfSpace, and is then run again from its start.
    Of two pieces with a block in common, of which one writes, the later one waits.
    """

    run: Callable[[], Moved]
    first: int = 0
    count: int = 0  # blocks
    writes: bool = False
    wanted: int = 0  # bytes that the CDB moves, whether the buffer holds them or not
    at_once: Callable[[], Moved | None] | None = None  # the same on the vCPU's thread, or None where that may wait


@dataclass(frozen=True, slots=True)
class Conflict:
    """RESERVATION CONFLICT, without sense data."""


UnitOutcome = Good | DataIn | CheckCondition | Conflict | Work


class LogicalUnit(Protocol):
    """LUN 0 of a target: keeps the state that a guest can see."""

    def reset(self) -> None:
        """Power-on."""

    def sync(self) -> None: ...

    def was_reset(self, attention: Sense) -> None:
        """A reset on the bus: what it undoes is undone, and the initiator is told at its next command."""

    def execute(self, command: Command) -> UnitOutcome:
        """Every check, and all but the medium's part."""

    def move_at_once(self, cdb: bytes, views: list[memoryview], length: int, *, writes: bool) -> bool | None:
        """A plain READ or WRITE of the whole buffer, where that takes no waiting and ends with GOOD.

        None: it is for `execute`. False: likewise, and it was tried.
        """

    def failed(self, check: CheckCondition) -> None:
        """A piece of work ended so: keep its sense data."""

    def take_sense(self) -> bytes: ...


class Workers(Protocol):
    """Threads that do the medium's part."""

    def submit(self, work: Callable[[], Result], finished: Callable[[Result], None]) -> None:
        """Call `work` without the machine's lock, then `finished` with its result under the lock.

        At once, in the calling thread, is allowed. Whoever copies state or resets the machine waits until none is left.
        """


class Operator(Protocol):
    """Whoever can freeze the machine and ask a person."""

    def out_of_space(self, error: OutOfSpace, answer: Callable[[bool], None]) -> None:
        """`answer`, under the machine's lock: True tries the write again, False lets it fail in the guest's eyes."""
