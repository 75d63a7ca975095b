"""What a disk's backing does at once ends without a worker, in its order, and fails as it does on one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hw.scsi.disk import DiskProfile
from hw.scsi.scsi_spec import Status
from hw.scsi.target import Target
from tests.hw.scsi.adapter_rig import BLOCKS, block_of
from tests.hw.scsi.initiator import BLOCK, SIMPLE, Initiator, Later, Started, bad_block
from tests.hw.scsi.lsilogic_driver import DATA, LsiRig, sge

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


# the short way of the 53C1030: what it answers is what the long way answers


def rigs() -> tuple[LsiRig, LsiRig]:
    """With everything at hand, and with nothing."""
    made = LsiRig((0, 3)), LsiRig((0, 3))
    for rig, at_hand in zip(made, (range(BLOCKS), range(0)), strict=True):
        for backing in rig.backings.values():
            backing.at_hand = at_hand
        rig.start()
    return made


def test_a_request_of_one_piece_of_memory_is_done_in_the_doorbell() -> None:
    rig = LsiRig((0,), Later())
    rig.backings[0].at_hand = range(BLOCKS)
    rig.start()
    assert rig.run(0, rw(READ, 5, 8), sge(DATA, 8 * BLOCK), 8 * BLOCK, context=0x123) == 0x123
    assert bytes(rig.ram[DATA : DATA + 8 * BLOCK]) == b"".join(block_of(0, 5 + block) for block in range(8))
    rig.ram[DATA : DATA + BLOCK] = b"w" * BLOCK
    assert rig.run(0, rw(WRITE, 9), sge(DATA, BLOCK, out=True), BLOCK, out=True) == 0x77
    assert bytes(rig.backings[0].data[9 * BLOCK : 10 * BLOCK]) == b"w" * BLOCK and rig.line is False


def test_what_was_tried_in_the_doorbell_is_not_tried_again() -> None:
    rig = LsiRig((0,))
    tried: list[int] = []

    def in_vain(offset: int, views: list[memoryview]) -> bool:
        tried.append(offset)
        return False

    rig.backings[0].read_at_once = in_vain  # type: ignore[method-assign]
    rig.start()
    assert rig.run(0, rw(READ, 5), sge(DATA, BLOCK), BLOCK) == 0x77
    assert tried == [5 * BLOCK] and bytes(rig.ram[DATA : DATA + BLOCK]) == block_of(0, 5)


def test_a_request_behind_others_waits_for_its_turn() -> None:
    rig = LsiRig((0,), Later())
    rig.start()
    rig.begin(0, rw(WRITE, 5), sge(DATA, BLOCK, out=True), BLOCK, out=True, context=1)
    rig.backings[0].at_hand = range(BLOCKS)
    rig.begin(0, rw(READ, 5), sge(DATA + BLOCK, BLOCK), BLOCK, context=2)
    assert rig.replies() == []
    workers = rig.targets[0].workers
    assert isinstance(workers, Later)
    workers.do()
    assert rig.replies() == [1, 2] and bytes(rig.ram[DATA + BLOCK : DATA + 2 * BLOCK]) == bytes(BLOCK)


@pytest.mark.parametrize("seed", range(20))
def test_the_short_way_answers_as_the_long_way_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of every kind, most of them nearly plain; memory, disks and replies are the same after each."""
    chance = random.Random(seed)
    short, long = rigs()
    for rig in (short, long):
        rig.backings[3].writable = seed % 3 > 0
    longer: list[object] = []
    begin = short.chip.initiator.begin
    monkeypatch.setattr(short.chip.initiator, "begin", lambda *given, **how: longer.append(begin(*given, **how)))
    for number in range(60):
        request = any_request(chance)
        answers = []
        for rig in (short, long):
            rig.begin(context=number, **request)
            answers.append(rig.replies())
        assert answers[0] == answers[1] and len(answers[0]) == 1, request
        assert short.ram == long.ram, request
        disks = [[disk.data for disk in rig.backings.values()] for rig in (short, long)]
        assert disks[0] == disks[1], request
    assert 5 < len(longer) < 60, "both ways were taken"


def any_request(chance: random.Random) -> dict[str, Any]:
    def seldom(usual: Any, *others: Any) -> Any:
        return chance.choice(others) if chance.random() < 0.1 else usual

    writes = chance.random() < 0.5
    opcode = seldom(WRITE if writes else READ, READ, WRITE, WRITE_VERIFY, 0x00, 0x03, 0x12, 0x1B, 0x08, 0x35)
    count = chance.choice((1, 2, 8, 32, 33, 128, 129))
    cdb = bytearray(rw(opcode, seldom(chance.randrange(BLOCKS), BLOCKS, 1 << 31), seldom(count, 0), seldom(0, FUA, 1)))
    cdb[9] = seldom(0, 1, 4, 0x40)
    if opcode == 0x1B:
        cdb[4] = chance.random() < 0.8  # mostly a start
    length = seldom(count * BLOCK, 0, count * BLOCK - 1, count * BLOCK + BLOCK, 1)
    gpa = seldom(DATA + chance.randrange(3) * 512, 0x7FFFF000)
    element = seldom(length, length + 4, max(length - 4, 0))
    sgl = sge(gpa, element, out=writes, wide=seldom(False, True), end=seldom(True, False))
    target = chance.choice((0, 3, 3))
    return {
        "target": seldom(target, 1, 7, 20), "cdb": bytes(cdb), "sgl": sgl, "length": length,
        "out": seldom(writes, not writes), "lun": seldom(0, 1), "bus": seldom(0, 1), "attribute": seldom(0, 1, 2, 5),
        "chain": seldom(0, 2),
    }  # fmt: skip
