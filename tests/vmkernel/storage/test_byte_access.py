"""Bytes of a disk against the same bytes in memory."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from ringfence.errors import BadInput
from tests.vmkernel.storage.lab import MIB, SECTOR, get
from vmkernel.storage.byte_access import DiskBytes
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create


def test_any_range_is_read_written_and_zeroed(tmp_path: Path) -> None:
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, MIB)
    start, length = 3 * SECTOR, 200 * SECTOR
    model = bytearray(MIB)
    chance = random.Random(5)
    with open_disk(tmp_path / "d.vmdk", writable=True) as disk:
        window = DiskBytes(disk, start, length, threading.Lock())
        for number in range(300):
            at = chance.randrange(length + 100)
            size = chance.choice((1, 3, 511, 512, 513, 1024, 5000))
            taken = max(min(size, length - at), 0)
            here = slice(start + at, start + at + taken)
            if number % 3 == 0:
                assert window.read(at, size) == model[here]
            elif number % 3 == 1:
                content = chance.randbytes(size)
                assert window.write(at, content) == taken
                model[here] = content[:taken]
            elif taken:
                window.zero(at, size)
                model[here] = bytes(taken)
        assert get(disk, 0, MIB // SECTOR) == model


@pytest.mark.parametrize(("start", "length"), [(1, SECTOR), (0, SECTOR - 1), (MIB, SECTOR)])
def test_a_window_is_whole_sectors_of_the_disk(tmp_path: Path, start: int, length: int) -> None:
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, MIB)
    with open_disk(tmp_path / "d.vmdk") as disk, pytest.raises(BadInput):
        DiskBytes(disk, start, length, threading.Lock())
