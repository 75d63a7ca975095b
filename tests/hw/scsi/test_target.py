"""Targets: order of commands, buffers, failures of the backing, aborts, resets, reservations, other LUNs, and CDs."""

from __future__ import annotations

import random

import pytest

from hw.scsi.backing import CorruptDisk, Gone, OutOfSpace, ReadOnlyExtent
from hw.scsi.cdrom import Cdrom, CdromState
from hw.scsi.cdrom_unit import CdromUnit
from hw.scsi.disk import DiskProfile, DiskState
from hw.scsi.scsi_spec import Reset, Status
from hw.scsi.target import Target
from hw.scsi.task_set import TASKS_MAX
from hw.scsi.wiring import Command
from ringfence.errors import HostRefused, MediaError
from tests.hw.ide.rig import Blocks
from tests.hw.scsi.initiator import (
    BLOCK,
    HEAD,
    ORDERED,
    SIMPLE,
    UNTAGGED,
    AtOnce,
    Initiator,
    Later,
    Person,
    Started,
    bad_block,
)


def read(lba: int, count: int = 1) -> bytes:
    return bytes([0x28, 0]) + lba.to_bytes(4, "big") + b"\0" + count.to_bytes(2, "big") + b"\0"


def write(lba: int, count: int = 1) -> bytes:
    return bytes([0x2A]) + read(lba, count)[1:]


@pytest.fixture
def disk() -> Initiator:
    return Initiator()


@pytest.fixture
def later() -> Initiator:
    return Initiator(workers=Later())


def begin(disk: Initiator, cdb: bytes, **how: object) -> Started:
    out = cdb[0] == 0x2A
    return disk.start(cdb, bytearray(BLOCK * cdb[8]), out=out, **how)


# buffers


@pytest.mark.parametrize("room", [0, 1, 511, 512, 513, 1023, 1024])
def test_a_read_fills_a_buffer_that_is_too_small(disk: Initiator, room: int) -> None:
    disk.backing.data[:] = random.Random(1).randbytes(len(disk.backing.data))
    answer = disk.run(read(3, 2), room)
    assert answer.data == bytes(disk.backing.data[3 * BLOCK : 3 * BLOCK + room])
    assert (answer.status, answer.residual, answer.overrun) == (Status.GOOD, 0, 1024 - room)


def test_a_buffer_that_is_too_large_has_a_residual(disk: Initiator) -> None:
    assert disk.run(read(0, 2), 2000).residual == 976
    assert disk.run("12 00 00 00 24 00", 100).residual == 64
    assert disk.send(write(0, 1), bytes(700)).residual == 188
    assert disk.run("00", 10).residual == 10
    assert disk.run("12 00 00 00 24 00", 20).overrun == 16


def test_a_write_takes_the_whole_blocks_of_a_short_buffer(disk: Initiator) -> None:
    answer = disk.send(write(0, 3), b"\x77" * 1500)
    assert (answer.residual, answer.overrun) == (1500 - 1024, 512)
    assert disk.backing.log == [("write", 0, 2)]


def test_data_never_goes_the_wrong_way(disk: Initiator) -> None:
    answer = disk.start(read(0), bytearray(b"\x11" * BLOCK), out=True).answer()
    assert (answer.residual, answer.overrun) == (BLOCK, BLOCK)
    answer = disk.start(write(0), bytearray(b"\x11" * BLOCK)).answer()
    assert (answer.residual, answer.overrun, disk.backing.log) == (BLOCK, BLOCK, [])


# failures of the backing


def test_a_bad_block_ends_a_read_after_the_good_ones(disk: Initiator) -> None:
    disk.backing.data[:] = b"\x42" * len(disk.backing.data)
    bad_block(disk.backing, 6)
    answer = disk.run(read(4, 4), 2048)
    assert answer.data == b"\x42" * 1024 and answer.sense == (3, 0x11, 0)
    assert answer.raw_sense == bytes.fromhex("F0 00 03 00000006 0A 00000000 11 00 00 00 0000")
    assert disk.run(read(6, 1), 512).residual == 512


def test_a_bad_block_fails_a_write(disk: Initiator) -> None:
    bad_block(disk.backing, 6)
    answer = disk.send(write(4, 4), bytes(2048))
    assert (answer.sense, answer.residual) == ((3, 0x0C, 0), 2048)
    assert answer.raw_sense[3:7] == bytes([0, 0, 0, 6])


@pytest.mark.parametrize(
    ("error", "reading", "writing"),
    [
        (CorruptDisk(5, "its grain lies behind the end"), (3, 0x14, 0), (4, 0x44, 0)),
        (ReadOnlyExtent("a ZERO extent"), None, (7, 0x27, 0)),
        (Gone("iscsi: no path"), (2, 4, 1), (2, 4, 1)),
        (HostRefused("whatever"), (4, 0x44, 0), (4, 0x44, 0)),
    ],
)
def test_other_failures(
    disk: Initiator, error: Exception, reading: tuple[int, int, int] | None, writing: tuple[int, int, int]
) -> None:
    disk.backing.fails[5] = error  # type: ignore[assignment]
    if reading is not None:
        assert disk.run(read(4, 2), 1024).sense == reading
    assert disk.send(write(4, 2), bytes(1024)).sense == writing


def test_a_flush_that_fails_is_a_write_error(disk: Initiator) -> None:
    disk.backing.fails[-1] = MediaError(0, 1)
    assert disk.run("35").sense == (3, 0x0C, 0)


def test_a_full_datastore_asks_and_the_guest_notices_nothing(disk: Initiator) -> None:
    disk.backing.fails[5] = OutOfSpace("datastore1 is full")
    started = disk.start(write(5), bytearray(b"\x33" * BLOCK), out=True)
    assert not started.ended and "datastore1" in str(disk.person.questions[0][0])
    assert disk.run(read(0)).status == Status.GOOD, "others go on"
    disk.person.questions.pop()[1](True)
    assert not started.ended and len(disk.person.questions) == 1, "still full"
    disk.backing.fails.clear()
    disk.person.questions.pop()[1](True)
    assert started.answer().status == Status.GOOD and disk.backing.data[5 * BLOCK] == 0x33


def test_a_person_can_let_the_write_fail_or_abort_comes_first(disk: Initiator) -> None:
    disk.backing.fails[5] = OutOfSpace("full")
    started = disk.start(write(5), bytearray(BLOCK), out=True)
    disk.person.questions.pop()[1](False)
    assert started.answer().sense == (3, 0x0C, 0)
    aborted = disk.start(write(5), bytearray(BLOCK), out=True)
    assert disk.target.abort(aborted.command)
    assert aborted.answer().status == Status.TASK_ABORTED
    disk.person.questions.pop()[1](True)
    assert disk.target.in_flight == 0


# order


def workers(disk: Initiator) -> Later:
    made = disk.target.workers
    assert isinstance(made, Later)
    return made


def test_simple_commands_run_together_and_end_in_any_order(later: Initiator) -> None:
    tasks = [begin(later, read(lba), tag=SIMPLE) for lba in range(4)]
    assert len(workers(later).jobs) == 4
    workers(later).do(2)
    assert [task.ended for task in tasks] == [False, False, True, False]


def test_an_ordered_command_is_a_barrier(later: Initiator) -> None:
    for tag in (ORDERED, UNTAGGED):
        before = [begin(later, read(0)), begin(later, read(1))]
        barrier, after = begin(later, read(2), tag=tag), begin(later, read(3))
        ready = later.start("00")
        assert len(workers(later).jobs) == 2 and not ready.ended
        workers(later).do(1)
        assert len(workers(later).jobs) == 1
        workers(later).do()
        assert all(task.ended for task in before) and len(workers(later).jobs) == 1
        workers(later).do()
        assert barrier.ended and ready.ended and not after.ended
        workers(later).do()
        assert after.ended


def test_head_of_queue_goes_first(later: Initiator) -> None:
    begin(later, read(0), tag=ORDERED)
    waiting = later.start("00")
    head = later.start("00", tag=HEAD)
    assert head.ended and not waiting.ended
    workers(later).do()
    assert waiting.ended


def test_work_on_common_blocks_keeps_its_order(later: Initiator) -> None:
    later.backing.data[:BLOCK] = b"\x01" * BLOCK
    first = begin(later, read(0, 2))
    second = later.start(write(1, 2), bytearray(b"\x02" * 2 * BLOCK), out=True)
    third = begin(later, read(2, 1))
    apart = later.start(write(8), bytearray(BLOCK), out=True)
    assert len(workers(later).jobs) == 2, "the first and the one apart"
    workers(later).do()
    assert first.answer().data[BLOCK:] == bytes(BLOCK) and len(workers(later).jobs) == 2
    workers(later).do(1)
    assert second.ended
    workers(later).do(1)
    workers(later).do()
    assert apart.ended and third.answer().data == b"\x02" * BLOCK


def test_reads_of_common_blocks_run_together(later: Initiator) -> None:
    begin(later, read(0, 4))
    begin(later, read(2, 4))
    assert len(workers(later).jobs) == 2


def test_a_full_task_set_says_so(later: Initiator) -> None:
    for _ in range(TASKS_MAX):
        begin(later, read(0))
    assert later.run(read(0)).status == Status.TASK_SET_FULL
    while workers(later).jobs:
        workers(later).do()
    assert later.target.in_flight == 0


def test_an_adapter_may_begin_the_next_from_the_last_ones_end(disk: Initiator) -> None:
    ends = []

    def next_one(_: object) -> None:
        ends.append(1)
        if len(ends) < 5000:
            disk.target.begin(Command(read(0), next_one, [memoryview(bytearray(BLOCK))]))

    next_one(None)
    assert len(ends) == 5000


# aborts and resets


def test_an_abort_waits_for_the_worker_and_for_nothing_else(later: Initiator) -> None:
    working, barrier, waiting = begin(later, read(0)), begin(later, read(1), tag=ORDERED), begin(later, read(2))
    assert later.target.abort(waiting.command) and waiting.answer().status == Status.TASK_ABORTED
    assert later.target.abort(working.command) and not working.ended, "its buffer is still being filled"
    workers(later).do()
    assert working.answer().status == Status.TASK_ABORTED
    assert not later.target.abort(working.command), "it has ended"
    workers(later).do()
    assert barrier.answer().status == Status.GOOD


@pytest.mark.parametrize(("kind", "code"), [(Reset.BUS, 2), (Reset.TARGET, 3), (Reset.LUN, 3)])
def test_a_reset_ends_all_and_is_told_once(later: Initiator, kind: Reset, code: int) -> None:
    tasks = [begin(later, read(lba)) for lba in range(3)]
    assert later.target.was_reset(kind) == 3
    ready = later.start("00")
    while workers(later).jobs:
        workers(later).do()
    assert [task.answer().status for task in tasks] == [Status.TASK_ABORTED] * 3
    assert ready.answer().sense == (6, 0x29, code)
    assert later.run("00").status == Status.GOOD


def test_an_aborted_verify_stops_between_two_pieces() -> None:
    disk = Initiator(4096)
    read_piece = disk.backing.read

    def read_and_abort(offset: int, views: list[memoryview]) -> None:
        read_piece(offset, views)
        disk.target.abort(command)

    disk.backing.read = read_and_abort  # type: ignore[method-assign]
    ends: list[object] = []
    command = Command(bytes.fromhex("8F00 0000000000000000 00001000 0000"), ends.append)
    disk.target.begin(command)
    assert len(disk.backing.log) == 1 and len(ends) == 1


# reservations


class Shared:
    """Two machines' ways to one disk's reservation."""

    holder: object = None

    def __init__(self) -> None:
        self.name = object()

    def take(self) -> bool:
        if not self.is_held_elsewhere():
            Shared.holder = self.name
        return Shared.holder is self.name

    def give_up(self) -> None:
        if Shared.holder is self.name:
            Shared.holder = None

    def is_held_elsewhere(self) -> bool:
        return Shared.holder not in (None, self.name)


@pytest.fixture
def pair() -> tuple[Initiator, Initiator]:
    Shared.holder = None
    return Initiator(reservation=Shared()), Initiator(reservation=Shared())


@pytest.mark.parametrize(
    ("cdb", "allowed"),
    [("12 00 00 00 24 00", True), ("03 00 00 00 12 00", True), ("A0 00 00 00 00 00 00 00 10 00", True),
     ("17 00 00 00 00 00", True), ("57" + " 00" * 9, True), ("00", False), ("25", False), ("16 00 00 00 00 00", False),
     ("56" + " 00" * 9, False), ("28 00 00 00 00 00 00 00 01 00", False), ("2A 00 00 00 00 00 00 00 01 00", False),
     ("1A 00 3F 00 FF 00", False), ("5E", False), ("1B 00 00 00 01 00", False), ("FF", False)],
)  # fmt: skip
def test_what_a_foreign_reservation_lets_through(pair: tuple[Initiator, Initiator], cdb: str, allowed: bool) -> None:
    holder, other = pair
    assert holder.run("16 00 00 00 00 00").status == Status.GOOD
    answer = other.run(cdb)
    assert answer.status == (Status.GOOD if allowed else Status.RESERVATION_CONFLICT)
    assert answer.raw_sense == b""
    assert holder.run("16 00 00 00 00 00").status == holder.run(read(0)).status == Status.GOOD


def test_what_ends_a_reservation(pair: tuple[Initiator, Initiator]) -> None:
    holder, other = pair
    by_reset = lambda: holder.target.was_reset(Reset.BUS)  # noqa: E731
    for end in (lambda: holder.run("17 00 00 00 00 00"), by_reset, holder.target.reset):
        holder.run("00")
        assert holder.run("56" + " 00" * 9).status == Status.GOOD
        assert other.run("00").status == Status.RESERVATION_CONFLICT
        other.run("17 00 00 00 00 00")
        assert other.run("00").status == Status.RESERVATION_CONFLICT, "others cannot release it"
        end()
        assert other.run("00").status == Status.GOOD


# other LUNs


def test_other_luns(disk: Initiator) -> None:
    data = disk.run("12 20 00 00 24 00", lun=1).data
    assert data == b"\x7f\0\0\0\x1f" + bytes(31)
    data = disk.run("03 00 00 00 12 00", lun=7).data
    assert (data[2], data[12:14]) == (5, b"\x25\0")
    for op in {*range(256)} - {0x12, 0x03}:
        assert disk.run(bytes([op]) + bytes(15), lun=1).sense == (5, 0x25, 0)
    assert disk.backing.log == []


# the CD-ROM drive on this transport


class Cd:
    def __init__(self) -> None:
        self.disc = Blocks(1000, 2048)
        self.cdrom = Cdrom(CdromState(), self, self.disc, scsi=True)
        self.target = Target(CdromUnit(self.cdrom), AtOnce(), Person())
        self.target.reset()
        self.run = lambda cdb, room=4096: Started(self.target, bytes.fromhex(cdb), bytearray(room)).answer()

    def ejected(self) -> None:
        pass


def test_a_cd_has_its_command_set_on_this_transport_too() -> None:
    cd = Cd()
    assert cd.run("00").sense == (6, 0x29, 1)
    inquiry = cd.run("12 00 00 00 24 00").data
    assert (inquiry[:4], inquiry[8:16]) == (bytes([5, 0x80, 2, 2]), b"NECVMWar")
    assert cd.run("25").data == bytes.fromhex("000003E7 00000800")
    assert cd.run("28 00 00 00 00 05 00 00 02 00").data == cd.disc.content(5) + cd.disc.content(6)
    assert cd.run("08 00 00 05 01 00").data == cd.disc.content(5)
    assert cd.run("A8 00 00 00 00 05 00 00 00 02", 3000).data == (cd.disc.content(5) + cd.disc.content(6))[:3000]
    assert cd.run("46 02 00 01 00 00 00 00 FF 00").data[8:] == bytes.fromhex("0001 0B 08 00000001 01 000000")
    assert cd.run("2A 00 00 00 00 00 00 00 01 00").sense == (5, 0x20, 0)
    assert cd.run("28 00 00 00 03 E8 00 00 01 00").sense == (5, 0x21, 0)


def test_a_bad_block_of_a_cd_is_named() -> None:
    cd = Cd()
    cd.run("00")
    cd.disc.bad = {7}
    answer = cd.run("28 00 00 00 00 05 00 00 04 00", 8192)
    assert answer.data == cd.disc.content(5) + cd.disc.content(6)
    assert answer.raw_sense == bytes.fromhex("F0 00 03 00000007 0A 00000000 11 00 00 00 0000")


def test_a_cd_is_exchanged_and_reset() -> None:
    cd = Cd()
    cd.run("00")
    cd.run("1E 00 00 00 01 00")
    assert not cd.cdrom.disconnect()
    cd.target.was_reset(Reset.BUS)
    assert cd.cdrom.disconnect(), "a reset unlocks the tray"
    assert [cd.run("00").sense for _ in range(2)] == [(2, 0x3A, 0), (6, 0x29, 2)]


def test_a_cd_takes_the_pages_it_gives() -> None:
    cd = Cd()
    cd.run("00")
    page = cd.run("5A 00 0D 00 00 00 00 00 FF 00").data[8:]
    send = lambda data, length: Started(  # noqa: E731
        cd.target, bytes([0x55, 0x10, 0, 0, 0, 0, 0, 0, length, 0]), bytearray(data), out=True
    ).answer()
    assert send(bytes(8) + page, 16).status == Status.GOOD
    assert send(bytes(8) + page[:-1] + b"\x01", 16).sense == (5, 0x26, 0)
    assert send(bytes(8) + page, 17).sense == (5, 0x1A, 0)


# anything at all


OPS = (
    0x00, 0x03, 0x04, 0x07, 0x08, 0x0A, 0x12, 0x15, 0x16, 0x17, 0x1A, 0x1B, 0x1C, 0x1D, 0x25, 0x28, 0x2A, 0x2E, 0x2F,
    0x35, 0x37, 0x3C, 0x41, 0x43, 0x46, 0x4A, 0x55, 0x5A, 0x88, 0x8A, 0x8E, 0x8F, 0x93, 0x9E, 0xA0, 0xA8, 0xAA, 0xBE,
)  # fmt: skip
ERRORS = (OutOfSpace("full"), CorruptDisk(3, "x"), Gone("x"), ReadOnlyExtent("x"), HostRefused("x"))


def random_cdb(rng: random.Random) -> bytes:
    cdb = bytearray(rng.randbytes(16) if rng.random() < 0.2 else 16)
    cdb[0] = rng.choice(OPS) if rng.random() < 0.9 else rng.randrange(256)
    for _ in range(rng.randrange(5)):
        cdb[rng.randrange(1, 16)] = rng.choice((1, 2, 3, 8, 0x3F, 0x10, 0x40, 0xFF, rng.randrange(256)))
    return bytes(cdb[: rng.choice((6, 10, 12, 16, 16, 16, rng.randrange(17)))])


def bombard(seed: int, count: int) -> None:
    """Random CDBs, buffers, directions, tags, failures, aborts and resets, from a random state."""
    rng = random.Random(seed)
    later = Later()
    disk = Initiator(workers=later, profile=DiskProfile(caching_page=True, write_same=True))
    disk.disk.state = DiskState.from_buffer_copy(rng.randbytes(30))
    cd = Cd()
    tasks: list[Started] = []
    for _ in range(count):
        cdb = random_cdb(rng)
        buffer = bytearray(rng.randbytes(rng.choice((0, 1, 18, 36, 255, 512, 700, 2048, 5000))))
        out = rng.random() < 0.5
        how = {"tag": rng.choice((SIMPLE, SIMPLE, HEAD, ORDERED, UNTAGGED)), "autosense": rng.random() < 0.8}
        started = disk.start(cdb, buffer, out=out, lun=rng.random() < 0.02, **how)
        tasks.append(started)
        Started(cd.target, cdb, buffer, out=out, **how).answer()
        if rng.random() < 0.05:
            disk.backing.fails = {rng.randrange(64): rng.choice(ERRORS)}
        if rng.random() < 0.02:
            disk.target.abort(rng.choice(tasks[-20:]).command)
        if rng.random() < 0.002:
            disk.target.was_reset(rng.choice(list(Reset)))
        while len(later.jobs) > rng.randrange(8):
            later.do(rng.randrange(len(later.jobs)))
        while disk.person.questions and rng.random() < 0.5:
            disk.person.questions.pop()[1](rng.random() < 0.5)
        if len(tasks) > 400:
            assert all(task.ended for task in tasks[:-300]) or disk.target.in_flight
            del tasks[:-300]
    disk.backing.fails.clear()
    while later.jobs or disk.person.questions:
        while later.jobs:
            later.do()
        while disk.person.questions:
            disk.person.questions.pop()[1](True)
    assert disk.target.in_flight == 0
    for task in tasks:
        answer = task.answer()
        assert 0 <= answer.residual <= len(task.buffer)
    assert len(disk.backing.data) == 64 * BLOCK


def test_no_command_raises_or_is_lost() -> None:
    for seed in range(4):
        bombard(seed, 2000)


@pytest.mark.long
def test_a_million_commands_raise_nothing() -> None:
    for seed in range(100, 140):
        bombard(seed, 25_000)


def test_every_operation_code_ends() -> None:
    disk = Initiator()
    known = {op for op in range(256) if disk.run(bytes([op]) + bytes(15)).sense != (5, 0x20, 0)}
    assert known == {
        0x00, 0x01, 0x03, 0x04, 0x07, 0x08, 0x0A, 0x0B, 0x12, 0x15, 0x16, 0x17, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x25,
        0x28, 0x2A, 0x2B, 0x2E, 0x2F, 0x34, 0x35, 0x37, 0x3B, 0x3C, 0x55, 0x56, 0x57, 0x5A, 0x88, 0x8A, 0x8E, 0x8F,
        0x91, 0x9E, 0xA0, 0xA8, 0xAA, 0xAE, 0xAF,
    }  # fmt: skip
