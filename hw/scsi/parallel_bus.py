"""The SCSI bus behind an adapter: tasks go to its targets, end in any order, and are aborted or reset away.

An adapter gathers a task's buffer in guest memory and begins it; it is told once, by `ended`, how the task ended, and
by then the buffer is no longer pinned. A task that was aborted, or reset away, ends too, when nothing moves its data
any more: whoever must not say so earlier waits with `when_over`.
Not modelled: arbitration, selection by others, negotiation.
Source: SAM-2, task management; SPI-4, bus reset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import Enum

from hw.scsi.scsi_spec import CDB_BYTES, Direction, Reset, Tag
from hw.scsi.target import Target
from hw.scsi.wiring import Command, Completion
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError

TRANSFER_MAX = 256 << 20  # of one command; more is refused
VENDOR_GROUPS = (3, 6, 7)  # of operation codes, whose CDBs are as long as the initiator says
DATA_OUT = frozenset({
    0x04, 0x07, 0x0A, 0x15, 0x18, 0x1D, 0x24, 0x2A, 0x2E, 0x30, 0x31, 0x32, 0x39, 0x3A, 0x3B, 0x3D, 0x3F, 0x40, 0x41,
    0x42, 0x4C, 0x53, 0x55, 0x5D, 0x5F, 0x8A, 0x8B, 0x8E, 0x93, 0xA1, 0xA3, 0xA4, 0xA6, 0xAA, 0xAE, 0xB0, 0xB1, 0xB2,
    0xB6, 0xBF,
})  # fmt: skip
VERIFY = frozenset({0x2F, 0x8F, 0xAF})
BYTE_CHECK = 0x06  # VERIFY, byte 1: the initiator sends what to compare with


class BadBuffer(RingfenceError):
    """A guest's description of a buffer that cannot be followed, or a buffer of absurd size."""


class Ending(Enum):
    """Who ended a task."""

    ITSELF = 0
    ABORT = 1
    BUS_RESET = 2
    TARGET_RESET = 3
    DROPPED = 4  # the adapter was reset: nobody wants to know


@dataclass(slots=True, eq=False)
class Buffer:
    """A task's data in guest memory, pinned until `release`."""

    views: list[memoryview] = field(default_factory=list)
    length: int = 0
    pinned: list[AbstractContextManager[list[memoryview]]] = field(default_factory=list)

    def release(self) -> None:
        self.views = []
        while self.pinned:
            self.pinned.pop().__exit__(None, None, None)


def gather(memory: GuestMemory, segments: Iterable[tuple[int, int]], length: int, direction: Direction) -> Buffer:
    """Up to `length` bytes of the segments (address, bytes). Raises RingfenceError with nothing left pinned."""
    if length > TRANSFER_MAX:
        raise BadBuffer(f"a transfer of {length} bytes: expected {TRANSFER_MAX} at most")
    buffer = Buffer()
    try:
        for gpa, size in segments:
            if buffer.length >= length:
                break
            if size:
                used = min(size, length - buffer.length)
                dma = memory.dma(gpa, used, direction is Direction.IN)
                buffer.views += dma.__enter__()
                buffer.pinned.append(dma)
                buffer.length += used
    except BaseException:
        buffer.release()
        raise
    return buffer


def fetch(memory: GuestMemory, gpa: int, length: int) -> bytes:
    """A copy of guest memory. Raises RingfenceError."""
    with memory.dma(gpa, length, False) as views:
        return bytes(views[0]) if len(views) == 1 else b"".join(views)


def store(memory: GuestMemory, gpa: int, data: bytes) -> None:
    """Into guest memory. Raises RingfenceError, with nothing stored."""
    with memory.dma(gpa, len(data), True) as views:
        at = 0
        for view in views:
            view[:] = data[at : at + len(view)]
            at += len(view)


def cdb_length(opcode: int, said: int) -> int:
    """Bytes of the CDB that begins with this operation code."""
    group = opcode >> 5
    return said if group in VENDOR_GROUPS else CDB_BYTES[group]


def direction_of(cdb: bytes) -> Direction:
    """Which way the data of this CDB goes."""
    out = cdb[0] in DATA_OUT or (cdb[0] in VERIFY and cdb[1] & BYTE_CHECK)
    return Direction.OUT if out else Direction.IN


@dataclass(slots=True, eq=False)
class Task:
    """One command under way."""

    target: int
    command: Command
    buffer: Buffer
    note: object  # the adapter's
    ending: Ending = Ending.ITSELF


class ScsiBus:
    """Targets by their ids, and the tasks that they have."""

    def __init__(self, targets: Mapping[int, Target], over: Callable[[], None]) -> None:
        """`over` is called after a task's end, but not in the middle of a reset: once after it."""
        self.targets, self.over = targets, over
        self.tasks: list[Task] = []
        self._resetting = False
        self._waiting: list[tuple[list[Task], Callable[[], None]]] = []

    @property
    def idle(self) -> bool:
        return not self.tasks

    @property
    def awaited(self) -> int:
        """How many wait for the end of tasks."""
        return len(self._waiting)

    def begin(
        self,
        target: int,
        cdb: bytes,
        buffer: Buffer,
        direction: Direction,
        ended: Callable[[Task, Completion], None],
        *,
        lun: int = 0,
        tag: Tag = Tag.SIMPLE,
        autosense: bool = True,
        note: object = None,
        tried: bool = False,
    ) -> None:
        """Have the target, which is there, carry out a command. It may have ended when this returns."""

        def done(completion: Completion) -> None:
            self.tasks.remove(task)
            buffer.release()
            ended(task, completion)
            self._look()
            if not self._resetting:
                self.over()

        command = Command(cdb, done, buffer.views, direction, lun, tag, autosense, tried)
        task = Task(target, command, buffer, note)
        self.tasks.append(task)
        self.targets[target].begin(command)

    def matching(self, target: int | None = None, lun: int | None = None) -> list[Task]:
        """The tasks of one target, or of all; of one logical unit, or of all."""
        return [
            task for task in self.tasks
            if target in (None, task.target) and lun in (None, task.command.lun)
        ]  # fmt: skip

    def abort(self, tasks: Iterable[Task]) -> None:
        for task in list(tasks):
            if task.ending is Ending.ITSELF:
                task.ending = Ending.ABORT
                self.targets[task.target].abort(task.command)

    def reset(self, kind: Reset, target: int | None = None) -> list[Task]:
        """Reset the bus, or one target; the tasks that this ends."""
        ended = self.matching(target)
        for task in ended:
            if task.ending is Ending.ITSELF:
                task.ending = Ending.BUS_RESET if kind is Reset.BUS else Ending.TARGET_RESET
        with self._reset_under_way():
            for number, chip in self.targets.items():
                if target in (None, number):
                    chip.was_reset(kind)
        self.over()
        return ended

    def drop(self) -> None:
        """Abort all tasks, and forget who waits: the adapter tells nobody how they end."""
        self._waiting.clear()
        for task in self.tasks:
            task.ending = Ending.DROPPED
        with self._reset_under_way():
            for task in list(self.tasks):
                self.targets[task.target].abort(task.command)

    @contextmanager
    def _reset_under_way(self) -> Iterator[None]:
        before, self._resetting = self._resetting, True
        try:
            yield
        finally:
            self._resetting = before

    def when_over(self, tasks: Iterable[Task], action: Callable[[], None]) -> None:
        """Call `action` once none of these tasks is under way any more; now, if none is."""
        self._waiting.append((list(tasks), action))
        self._look()

    def _look(self) -> None:
        if not self._waiting:
            return
        ready = [entry for entry in self._waiting if not any(task in self.tasks for task in entry[0])]
        self._waiting = [entry for entry in self._waiting if entry not in ready]
        for _, action in ready:
            action()

