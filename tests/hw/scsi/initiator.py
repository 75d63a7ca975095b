"""A target with a disk in memory, and a driver's ways to use it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from hw.scsi.backing import OutOfSpace
from hw.scsi.disk import Disk, DiskProfile, DiskState
from hw.scsi.scsi_spec import Direction, Status, Tag
from hw.scsi.target import Target
from hw.scsi.wiring import Command, Completion
from ringfence.errors import MediaError, RingfenceError

BLOCK = 512


class MemoryBacking:
    """A disk in memory. `fails` maps a block to what is raised when it is touched."""

    def __init__(self, blocks: int, *, size: int | None = None) -> None:
        self.data = bytearray(blocks * BLOCK)
        self.size = len(self.data) if size is None else size
        self.writable = True
        self.flushes = 0
        self.fails: dict[int, RingfenceError] = {}
        self.log: list[tuple[str, int, int]] = []
        self.at_hand: range = range(0)  # blocks that take no waiting

    def _span(self, what: str, offset: int, views: list[memoryview]) -> int:
        length = sum(map(len, views))
        assert length and not offset % BLOCK and not length % BLOCK, "whole blocks"
        assert offset >= 0 and offset + length <= self.size, "inside the disk"
        first, count = offset // BLOCK, length // BLOCK
        self.log.append((what, first, count))
        bad = [block for block in self.fails if first <= block < first + count]
        if bad:
            raise self.fails[min(bad)]
        return length

    def read(self, offset: int, views: list[memoryview]) -> None:
        length = self._span("read", offset, views)
        data = self.data[offset : offset + length].ljust(length, b"\0")
        at = 0
        for view in views:
            view[:] = data[at : at + len(view)]
            at += len(view)

    def read_at_once(self, offset: int, views: list[memoryview]) -> bool:
        """Only what begins in `at_hand`."""
        block = offset // BLOCK
        if block in self.at_hand and block not in self.fails:
            self.read(offset, views)
            return True
        return False

    def write_at_once(self, offset: int, views: list[memoryview]) -> bool:
        block = offset // BLOCK
        if block in self.at_hand and block not in self.fails:
            self.write(offset, views)
            return True
        return False

    def write(self, offset: int, views: list[memoryview]) -> None:
        length = self._span("write", offset, views)
        self.data[offset : offset + length] = b"".join(views)

    def flush(self) -> None:
        self.flushes += 1
        if -1 in self.fails:
            raise self.fails[-1]


def bad_block(backing: MemoryBacking, block: int) -> None:
    backing.fails[block] = MediaError(block, 1)


class AtOnce:
    """Workers that do it where they are asked."""

    def submit(self, work: Callable[[], Any], finished: Callable[[Any], None]) -> None:
        finished(work())


class Later:
    """Workers that wait to be told, in any order."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def submit(self, work: Callable[[], Any], finished: Callable[[Any], None]) -> None:
        self.jobs.append((work, finished))

    def do(self, index: int = 0) -> None:
        work, finished = self.jobs.pop(index)
        finished(work())


class Person:
    """Whom the machine asks."""

    def __init__(self) -> None:
        self.questions: list[tuple[OutOfSpace, Callable[[bool], None]]] = []

    def out_of_space(self, error: OutOfSpace, answer: Callable[[bool], None]) -> None:
        self.questions.append((error, answer))


class Answer(NamedTuple):
    """What a command came to. `sense` is (key, ASC, ASCQ), and None without CHECK CONDITION."""

    status: Status
    data: bytes
    sense: tuple[int, int, int] | None
    raw_sense: bytes
    residual: int
    overrun: int


class Initiator:
    """One target with a disk, and the power-on attention taken."""

    def __init__(self, blocks: int = 64, profile: DiskProfile | None = None, *, size: int | None = None,
                 workers: Any = None, **wiring: Any) -> None:  # fmt: skip
        self.backing = MemoryBacking(blocks, size=size)
        self.person = Person()
        self.disk = Disk(DiskState(), self.backing, profile, **wiring)
        self.target = Target(self.disk, workers or AtOnce(), self.person)
        self.target.reset()
        assert self.run("00").sense == (6, 0x29, 1)

    def start(self, cdb: bytes | str, buffer: bytearray | None = None, *, out: bool = False, **how: Any) -> Started:
        return Started(self.target, bytes.fromhex(cdb) if isinstance(cdb, str) else cdb, buffer, out=out, **how)

    def run(self, cdb: bytes | str, room: int = 4096, **how: Any) -> Answer:
        """Execute with a buffer of `room` bytes for the answer."""
        return self.start(cdb, bytearray(room), **how).answer()

    def send(self, cdb: bytes | str, data: bytes, **how: Any) -> Answer:
        return self.start(cdb, bytearray(data), out=True, **how).answer()


class Started:
    """A command begun, its buffer scattered in pieces of odd lengths."""

    def __init__(self, target: Target, cdb: bytes, buffer: bytearray | None, *, out: bool = False, **how: Any) -> None:
        self.buffer = bytearray() if buffer is None else buffer
        self.ends: list[Completion] = []
        view = memoryview(self.buffer)
        cuts = sorted({0, min(1, len(view)), min(515, len(view)), len(view)})
        views = [view[a:b] for a, b in pairwise(cuts)]
        direction = Direction.OUT if out else Direction.IN
        self.command = Command(cdb, self.ends.append, views, direction, **how)
        target.begin(self.command)

    @property
    def ended(self) -> bool:
        assert len(self.ends) <= 1, "a command ends once"
        return bool(self.ends)

    def answer(self) -> Answer:
        assert self.ended, "the command has not ended"
        end = self.ends[0]
        moved = len(self.buffer) - end.residual
        sense = None
        if end.status == Status.CHECK_CONDITION and end.sense:
            assert len(end.sense) == 18 and end.sense[0] & 0x7F == 0x70 and end.sense[7] == 10
            sense = (end.sense[2], end.sense[12], end.sense[13])
        return Answer(end.status, bytes(self.buffer[:moved]), sense, end.sense, end.residual, end.overrun)


SIMPLE, HEAD, ORDERED, UNTAGGED = Tag.SIMPLE, Tag.HEAD, Tag.ORDERED, Tag.UNTAGGED
