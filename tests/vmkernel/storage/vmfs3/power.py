"""Records every write to the devices of a volume, and makes what a host that dies at any of them leaves."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from vmkernel.storage.vmfs3 import zeroing
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume

SECTOR = 512


class Write(NamedTuple):
    """Bytes of a file, and what was there before."""

    path: Path
    offset: int
    data: bytes
    before: bytes

    @property
    def sectors(self) -> int:
        return len(self.data) // SECTOR


@dataclass
class Tape:
    """`syncs` has how many writes there were at each flush."""

    writes: list[Write] = field(default_factory=list)
    syncs: list[int] = field(default_factory=list)


@contextmanager
def recorded() -> Iterator[Tape]:
    tape = Tape()
    real, real_sync = Lun.write, Lun.sync

    def write(lun: Lun, offset: int, views: Sequence[memoryview]) -> None:
        data = b"".join(views)
        before = os.pread(lun.fd, len(data), lun.base + offset)
        tape.writes.append(Write(lun.path, lun.base + offset, data, before))
        real(lun, offset, views)

    def sync(lun: Lun) -> None:
        tape.syncs.append(len(tape.writes))
        real_sync(lun)

    def zero(lv: LogicalVolume, offset: int, length: int) -> None:
        if length > 0:
            lv.write(offset, [bytes(length)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lun, "write", write)
        patch.setattr(Lun, "sync", sync)
        patch.setattr(zeroing, "zero", zero)
        yield tape


class Films:
    """The devices at any moment of a tape. They are at its end when this is made."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.at = len(tape.writes)
        self.files = {path: os.open(path, os.O_RDWR) for path in {write.path for write in tape.writes}}

    def close(self) -> None:
        for fd in self.files.values():
            os.close(fd)

    def go(self, moment: int) -> None:
        """To just before this write."""
        while self.at < moment:
            write = self.tape.writes[self.at]
            os.pwrite(self.files[write.path], write.data, write.offset)
            self.at += 1
        while self.at > moment:
            self.at -= 1
            write = self.tape.writes[self.at]
            os.pwrite(self.files[write.path], write.before, write.offset)

    @contextmanager
    def outage(self, moment: int, chance: random.Random) -> Iterator[None]:
        """The power failed: of what was written since the last flush each sector is there or not."""
        start = max((at for at in self.tape.syncs if at <= moment), default=0)
        self.go(start)
        done: list[Write] = []
        for write in self.tape.writes[start:moment]:
            share = chance.choice((0.0, 0.5, 1.0))
            for at in range(0, len(write.data), SECTOR):
                if chance.random() < share:
                    fd, place = self.files[write.path], write.offset + at
                    done.append(Write(write.path, place, b"", os.pread(fd, SECTOR, place)))
                    os.pwrite(fd, write.data[at : at + SECTOR], place)
        with recorded() as after:
            yield
        for one in reversed(done + after.writes):
            os.pwrite(self.files[one.path], one.before, one.offset)

    @contextmanager
    def cut(self, moment: int, torn_sectors: int = 0) -> Iterator[None]:
        """The devices with the writes before this one, and so many sectors of it. What is written then is undone."""
        self.go(moment)
        if torn_sectors:
            write = self.tape.writes[moment]
            os.pwrite(self.files[write.path], write.data[: torn_sectors * SECTOR], write.offset)
        with recorded() as after:
            yield
        for done in reversed(after.writes):
            os.pwrite(self.files[done.path], done.before, done.offset)
        if torn_sectors:
            os.pwrite(self.files[write.path], write.before, write.offset)
