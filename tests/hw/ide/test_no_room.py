"""A disk whose storage has no room for a write: it stays busy until an operator has said what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hw.ide.ata_disk import AtaDisk
from hw.scsi.backing import OutOfSpace
from tests.hw.ide.rig import ERROR, PRIMARY, STATUS, Blocks, Rig

BUSY, OK, FAULT, WANTS_DATA = 0xD0, 0x50, 0x71, 0x58
ABRT = 0x04
BMIDEA, IDEINTS = 1, 4


class FullBlocks(Blocks):
    """Takes no write as long as it is full; with `torn` the first block of one gets through."""

    full, torn = True, False

    def write(self, block: int, views: list[memoryview]) -> None:
        if self.full and self.torn:
            self.store[block] = b"".join(views)[: self.block_size]
        if self.full:
            raise OutOfSpace("no room")
        super().write(block, views)

    def flush(self) -> None:
        if self.full:
            raise OutOfSpace("no room")
        super().flush()


class Operator:
    """Is asked, and answers when the test does."""

    def __init__(self) -> None:
        self.asked: list[Callable[[bool], None]] = []

    def out_of_space(self, error: OutOfSpace, answer: Callable[[bool], None]) -> None:
        self.asked.append(answer)

    def answer(self, again: bool) -> None:
        self.asked.pop(0)(again)


class FullRig(Rig):
    """The rig with such a disk."""

    def __init__(self) -> None:
        super().__init__()
        self.operator = Operator()
        self.full = FullBlocks(1 << 20, 512)
        channel = self.channels[PRIMARY]
        channel.drives[0] = None
        channel.attach(0, AtaDisk(channel.state.drives[0], channel, self.full, self.operator))
        channel.reset()

    def write_by_dma(self) -> None:
        self.memory.ram[0x4000:0x4400] = b"a" * 512 + b"b" * 512
        self.command(0xCA, lba=7, count=2)
        self.start(self.table([(0x4000, 1024)]), to_memory=False)

    def write_by_pio(self, command: int = 0x30) -> None:
        self.command(command, lba=7, count=2)
        self.write_data(b"a" * 512)

    def written(self) -> list[bytes]:
        return [self.full.store[7], self.full.store[8]]


BOTH = [b"a" * 512, b"b" * 512]


@pytest.fixture
def rig() -> FullRig:
    return FullRig()


def test_by_dma_the_whole_transfer_is_made_again(rig: FullRig) -> None:
    rig.full.torn = True
    rig.write_by_dma()
    assert (rig.alternate(), rig.master_status(), rig.lines[PRIMARY].level) == (BUSY, BMIDEA, False)
    rig.operator.answer(True)
    assert (rig.alternate(), len(rig.operator.asked)) == (BUSY, 1), "there is still no room"
    rig.full.full = False
    rig.operator.answer(True)
    assert (rig.lines[PRIMARY].level, rig.master_status(), rig.get(STATUS)) == (True, IDEINTS, OK)
    assert rig.written() == BOTH


def test_by_pio_the_block_is_written_again_and_the_next_one_asked_for(rig: FullRig) -> None:
    rig.write_by_pio()
    assert (rig.get(STATUS), rig.lines[PRIMARY].level) == (BUSY, False)
    rig.write_data(b"x" * 512)
    rig.command(0xE7)
    assert rig.get(STATUS) == BUSY, "it takes neither data nor commands"
    rig.full.full = False
    rig.operator.answer(True)
    assert (rig.lines[PRIMARY].level, rig.get(STATUS)) == (True, WANTS_DATA)
    rig.write_data(b"b" * 512)
    assert (rig.get(STATUS), rig.written()) == (OK, BOTH)


@pytest.mark.parametrize("write", [FullRig.write_by_dma, FullRig.write_by_pio])
def test_an_aborted_write_is_a_device_fault(rig: FullRig, write: Callable[[FullRig], None]) -> None:
    write(rig)
    rig.operator.answer(False)
    assert rig.lines[PRIMARY].level
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAULT, ABRT)
    rig.full.full = False
    write(rig)
    assert rig.get(STATUS) in (OK, WANTS_DATA)


def test_a_flush_is_tried_again(rig: FullRig) -> None:
    for command, features in ((0xE7, 0), (0xEF, 0x82)):
        rig.full.full = True
        rig.command(command, features=features)
        assert rig.get(STATUS) == BUSY
        rig.full.full = False
        rig.operator.answer(True)
        assert (rig.lines[PRIMARY].level, rig.get(STATUS)) == (True, OK)
    assert rig.full.flushes == 2


def test_without_a_write_cache_the_flush_belongs_to_the_write(rig: FullRig) -> None:
    rig.full.full = False
    rig.command(0xEF, features=0x82)
    flushes, rig.full.full = rig.full.flushes, True
    rig.write_by_dma()
    rig.full.full = False
    rig.operator.answer(True)
    assert (rig.get(STATUS), rig.written(), rig.full.flushes) == (OK, BOTH, flushes + 1)


@pytest.mark.parametrize("write", [FullRig.write_by_dma, FullRig.write_by_pio])
def test_a_reset_ends_the_waiting_and_a_late_answer_changes_nothing(
    rig: FullRig, write: Callable[[FullRig], None]
) -> None:
    write(rig)
    rig.control(0x04)
    rig.control(0x00)
    assert rig.get(STATUS) == OK
    rig.operator.answer(True)
    assert (rig.get(STATUS), rig.full.store) == (OK, {})


def test_the_other_drive_may_be_selected_meanwhile(rig: FullRig) -> None:
    rig.write_by_dma()
    rig.put(6, 0xF0)
    rig.full.full = False
    rig.operator.answer(True)
    assert not rig.lines[PRIMARY].level and rig.full.store == {}
    rig.put(6, 0xE0)
    assert (rig.lines[PRIMARY].level, rig.get(STATUS), rig.written()) == (True, OK, BOTH)


def test_without_an_operator_it_is_an_error_like_others() -> None:
    rig = Rig()
    rig.disk.medium = FullBlocks(1 << 20, 512)
    rig.command(0x30, lba=7, count=1)
    rig.write_data(bytes(512))
    assert (rig.get(STATUS), rig.get(ERROR)) == (FAULT, ABRT)
