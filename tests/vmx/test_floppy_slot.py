"""Diskettes that come and go, as a driver sees them on the change line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ringfence.errors import BadInput, HostRefused
from tests.hw.floppy_pc import BUFFER, DIR, Driver, OurPc
from vmx.floppy_slot import FloppySlot

BYTES = 1_474_560


class Board:
    def __init__(self, path: Path | None, *, connected: bool = True) -> None:
        self.said: list[str] = []
        self.slot = FloppySlot("floppy0", path, self.said.append, connected=connected)
        self.pc = OurPc([self.slot.diskette])
        self.slot.attach(self.pc.fdc, 0)
        self.driver = Driver(self.pc)
        self.driver.ready()

    def changed(self) -> bool:
        return bool(self.pc.inb(DIR) & 0x80)

    def first_bytes(self) -> bytes:
        self.driver.seek(1)
        self.driver.recalibrate()
        assert self.driver.read(0, 0, 1, 1)[1] == 0
        return self.pc.peek(BUFFER, 4)


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    paths = (tmp_path / "a", tmp_path / "b")
    for path in paths:
        path.write_bytes(path.name.encode() * BYTES)
    return paths


def test_another_diskette(images: tuple[Path, Path]) -> None:
    board = Board(images[0])
    assert board.first_bytes() == b"aaaa" and not board.changed()
    board.slot.connect(images[1])
    assert board.changed()
    assert board.first_bytes() == b"bbbb" and not board.changed()
    board.slot.disconnect()
    assert board.changed() and not board.slot.connected
    assert board.driver.read(0, 0, 1, 1)[1] == 1
    board.slot.connect()
    assert board.first_bytes() == b"bbbb"
    board.slot.close()


def test_the_same_diskette_again(images: tuple[Path, Path]) -> None:
    board = Board(images[0])
    board.slot.connect()
    assert board.changed() and board.first_bytes() == b"aaaa"
    board.slot.close()


def test_a_bad_image_leaves_the_old_one_in(images: tuple[Path, Path], tmp_path: Path) -> None:
    board = Board(images[0])
    (tmp_path / "short").write_bytes(b"x")
    for path, error in ((tmp_path / "short", BadInput), (tmp_path / "missing", HostRefused)):
        with pytest.raises(error):
            board.slot.connect(path)
    assert not board.changed() and board.first_bytes() == b"aaaa"
    board.slot.close()


def test_an_empty_drive(images: tuple[Path, Path]) -> None:
    board = Board(images[0], connected=False)
    assert not board.slot.connected and board.changed()
    board.slot.connect()
    assert board.first_bytes() == b"aaaa"
    board.slot.close()
    with pytest.raises(HostRefused, match="floppy0: no image"):
        Board(None).slot.connect()


def test_sectors_that_are_lost_at_the_end_are_reported(
    images: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(5, "Input/output error")

    board = Board(images[0])
    monkeypatch.setattr(os, "fdatasync", refuse)
    board.slot.disconnect()
    assert board.said == [f"floppy0: written sectors were lost: {images[0]}: Input/output error"]
