"""What a disk's backing does at once ends without a worker, in its order, and fails as it does on one."""

from __future__ import annotations

import pytest

from hw.scsi.disk import DiskProfile
from hw.scsi.scsi_spec import Status
from hw.scsi.target import Target
from tests.hw.scsi.initiator import BLOCK, SIMPLE, Initiator, Later, Started, bad_block

READ, WRITE, WRITE_VERIFY = 0x28, 0x2A, 0x2E
FUA = 0x08


def rw(opcode: int, lba: int, count: int = 1, flags: int = 0) -> bytes:
    return bytes([opcode, flags, *lba.to_bytes(4, "big"), 0, *count.to_bytes(2, "big"), 0])


@pytest.fixture
def disk() -> Initiator:
    """Blocks 0 to 255 are at hand."""
    made = Initiator(blocks=512, workers=Later())
    made.backing.at_hand = range(256)
    made.backing.data[:] = bytes(number // BLOCK & 0xFF for number in range(512 * BLOCK))
    return made


def jobs(target: Target) -> Later:
    assert isinstance(target.workers, Later)
    return target.workers


def begin(disk: Initiator, cdb: bytes, content: bytes | None = None) -> Started:
    room = bytearray(BLOCK * int.from_bytes(cdb[7:9], "big")) if content is None else bytearray(content)
    return disk.start(cdb, room, out=content is not None, tag=SIMPLE)


def test_a_read_that_is_at_hand_ends_without_a_worker(disk: Initiator) -> None:
    answer = begin(disk, rw(READ, 7, 2)).answer()
    assert answer.data == bytes([7]) * BLOCK + bytes([8]) * BLOCK
    assert (answer.status, answer.residual, answer.overrun) == (Status.GOOD, 0, 0)
    assert not jobs(disk.target).jobs


def test_a_read_that_is_not_at_hand_is_a_workers(disk: Initiator) -> None:
    started = begin(disk, rw(READ, 300))
    assert not started.ended and len(jobs(disk.target).jobs) == 1
    jobs(disk.target).do()
    assert started.answer().data == bytes([300 & 0xFF]) * BLOCK


@pytest.mark.parametrize(("opcode", "count"), [(READ, 129), (WRITE, 33)])
def test_a_long_transfer_is_a_workers(disk: Initiator, opcode: int, count: int) -> None:
    content = bytes(count * BLOCK) if opcode == WRITE else None
    assert not begin(disk, rw(opcode, 0, count), content).ended
    shorter = None if content is None else content[BLOCK:]
    assert opcode == WRITE or begin(disk, rw(opcode, 0, count - 1), shorter).ended


def test_a_small_write_that_is_at_hand_ends_without_a_worker(disk: Initiator) -> None:
    assert begin(disk, rw(WRITE, 9, 32), b"w" * 32 * BLOCK).answer().status == Status.GOOD
    assert bytes(disk.backing.data[9 * BLOCK : 41 * BLOCK]) == b"w" * 32 * BLOCK and not jobs(disk.target).jobs


@pytest.mark.parametrize("cdb", [rw(WRITE, 9, flags=FUA), rw(WRITE_VERIFY, 9)])
def test_a_write_that_has_to_be_durable_is_a_workers(disk: Initiator, cdb: bytes) -> None:
    started = begin(disk, cdb, b"w" * BLOCK)
    assert not started.ended
    jobs(disk.target).do()
    assert started.answer().status == Status.GOOD and disk.backing.flushes == 1


def test_every_write_of_a_disk_without_write_cache_is_a_workers() -> None:
    disk = Initiator(workers=Later(), profile=DiskProfile(flush_writes=True))
    disk.backing.at_hand = range(64)
    assert not begin(disk, rw(WRITE, 9), b"w" * BLOCK).ended


def test_a_read_at_hand_waits_for_a_write_of_its_blocks_that_is_under_way(disk: Initiator) -> None:
    writing = begin(disk, rw(WRITE, 0, 40), b"w" * 40 * BLOCK)
    behind, beside = begin(disk, rw(READ, 39)), begin(disk, rw(READ, 40))
    assert (writing.ended, behind.ended, beside.ended) == (False, False, True)
    jobs(disk.target).do()
    assert behind.answer().data == b"w" * BLOCK


@pytest.mark.parametrize("opcode", [READ, WRITE])
def test_what_fails_says_the_same_as_where_nothing_is_at_hand(opcode: int) -> None:
    answers = []
    for at_hand in (range(0), range(64)):
        disk = Initiator(workers=Later())
        disk.backing.at_hand = at_hand
        bad_block(disk.backing, 6)
        started = begin(disk, rw(opcode, 6, 2), bytes(2 * BLOCK) if opcode == WRITE else None)
        assert not started.ended
        jobs(disk.target).do()
        answers.append(started.answer())
    assert answers[0] == answers[1] and answers[0].sense in {(3, 0x11, 0), (3, 0x0C, 0)}
