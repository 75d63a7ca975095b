"""A CD-ROM drive as a SCSI logical unit: the command set of `hw.scsi.cdrom`, its reads done as work for a thread.

Not modelled: reservations (20/00).
Source: MMC-3 (T10 1363D) and SPC-3.
"""

from __future__ import annotations

from hw.blocks import first_bytes, read_until_bad
from hw.scsi.buffers import put_at_end, sent
from hw.scsi.cdrom import Cdrom, CdromState
from hw.scsi.mmc_spec import BLOCK_BYTES
from hw.scsi.scsi_spec import CDB_BYTES_MAX, READ_ERROR, Direction, Sense
from hw.scsi.sense import Refused
from hw.scsi.wiring import BlocksIn, CheckCondition, Command, Good, ListOut, Moved, UnitOutcome, Work
from hw.wiring import BlockDevice
from ringfence.errors import MediaError


class CdromUnit:
    """The logical unit. Discs are put into and taken out of `cdrom`, as on the other transport."""

    State = CdromState

    def __init__(self, cdrom: Cdrom) -> None:
        self.cdrom = cdrom

    @property
    def state(self) -> CdromState:
        return self.cdrom.state

    def reset(self) -> None:
        self.cdrom.reset()

    def sync(self) -> None:
        self.cdrom.sync()

    def was_reset(self, attention: Sense) -> None:
        self.cdrom.was_reset(attention)

    def execute(self, command: Command) -> UnitOutcome:
        cdb = command.cdb[:CDB_BYTES_MAX].ljust(CDB_BYTES_MAX, b"\0")
        outcome = self.cdrom.execute(cdb)
        if isinstance(outcome, ListOut):
            try:
                self.cdrom.select(cdb, sent(command, outcome.length))
            except Refused as refusal:
                return self.cdrom.refused(refusal)
            return Good(outcome.length)
        if isinstance(outcome, BlocksIn):
            assert self.cdrom.medium is not None
            return read(self.cdrom.medium, command, outcome.first, outcome.count)
        return outcome

    def move_at_once(self, cdb: bytes, views: list[memoryview], length: int, *, writes: bool) -> bool | None:
        """A disc may have to be waited for."""
        return None

    def failed(self, check: CheckCondition) -> None:
        self.cdrom.failed(check)

    def take_sense(self) -> bytes:
        return self.cdrom.take_sense()


def read(medium: BlockDevice, command: Command, first: int, count: int) -> Work:
    """As many of the blocks as the buffer holds. A disc that is taken out meanwhile is read to the end."""
    views = first_bytes(command.room(Direction.IN), count * BLOCK_BYTES)
    length = sum(map(len, views))
    whole, rest = divmod(length, BLOCK_BYTES)

    def run() -> Moved:
        done = 0
        try:
            if whole:
                done = read_until_bad(medium, first, whole, first_bytes(views, whole * BLOCK_BYTES))
            if done < whole:
                return Moved(done * BLOCK_BYTES, CheckCondition(READ_ERROR, first + done))
            if rest:
                block = bytearray(BLOCK_BYTES)
                medium.read(first + whole, [memoryview(block)])
                put_at_end(views, bytes(block[:rest]))
        except MediaError as error:
            return Moved(done * BLOCK_BYTES, CheckCondition(READ_ERROR, error.block))
        return Moved(length)

    return Work(run, first, count, wanted=count * BLOCK_BYTES)
