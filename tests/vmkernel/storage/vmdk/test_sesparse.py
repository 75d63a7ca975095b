"""seSparse extents, made by hand from the published layout; QEMU reads the same."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.vmkernel.storage.lab import SECTOR, contents, data, get, put, qemu_reads
from vmkernel.storage.batch import read_batch
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create
from vmkernel.storage.disk import NOT_HERE
from vmkernel.storage.errors import CorruptImage, DamagedGrain, RingfenceError, Unsupported

SECTORS = 40 * 2048
TABLE_OF = {0: 1, 2: 0}  # the directory's range, and which table it has
GRAINS_AT = 8 + 8 + 192 + 64  # headers, directory, three tables, and room that is not used


def allocated(index: int) -> int:
    return 3 << 60 | (index & 0xFFF) << 48 | index >> 12


def image(folder: Path, entries: dict[int, int], **fields: int) -> Path:
    """A child over base.vmdk with these table entries; `fields` are offsets in the header ("at80=5")."""
    words = {
        0: 0xCAFEBABE, 8: 0x0000000200000001, 16: SECTORS, 24: 8, 32: 64, 80: 1, 88: 1, 128: 8, 136: 1, 144: 16,
        152: 192, 192: GRAINS_AT, 200: 8000,
    }  # fmt: skip
    words |= {int(name[2:]): value for name, value in fields.items() if name.startswith("at")}
    with (folder / "disk-sesparse.vmdk").open("wb") as file:
        file.truncate((GRAINS_AT + 9000 * 8) * SECTOR)

        def put_words(offset: int, *values: int) -> None:
            file.seek(offset)
            file.write(struct.pack(f"<{len(values)}Q", *values))

        for offset, value in words.items():
            put_words(offset, value)
        put_words(SECTOR, 0xCAFECAFE, 3, 0, fields.get("replay", 0))
        put_words(8 * SECTOR, 0x10000000 << 32 | 1, 0, fields.get("gde", 0x10000000 << 32))
        for grain, entry in entries.items():
            put_words((16 + TABLE_OF[grain // 4096] * 64) * SECTOR + grain % 4096 * 8, entry)
        for index in (0, 5, 4097, 8200):
            file.seek((GRAINS_AT + index * 8) * SECTOR)
            file.write(data(index, 8))
    if not (folder / "base.vmdk").exists():
        create(folder / "base.vmdk", Kind.THIN, SECTORS * SECTOR)
        with open_disk(folder / "base.vmdk", writable=True) as disk:
            put(disk, 0, data(1, 100))
            put(disk, 8192 * 8, data(2, 100))
    cid = next(line for line in (folder / "base.vmdk").read_text().splitlines() if line.startswith("CID="))
    text = f'version=1\nCID=5\nparent{cid}\ncreateType="seSparse"\nparentFileNameHint="base.vmdk"\n'
    (folder / "disk.vmdk").write_text(text + f'RW {SECTORS} SESPARSE "disk-sesparse.vmdk"\n')
    return folder / "disk.vmdk"


ENTRIES = {0: allocated(5), 1: allocated(4097), 3: 2 << 60, 4: 1 << 60, 8192: allocated(8200), 8193: allocated(0)}


def test_entries_are_read_as_they_are_published(tmp_path: Path) -> None:
    path = image(tmp_path, ENTRIES)
    base = contents(tmp_path / "base.vmdk")
    model = bytearray(base)
    grains = {
        0: data(5, 8),
        1: data(4097, 8),
        3: bytes(4096),
        4: bytes(4096),
        8192: data(8200, 8),
        8193: data(0, 8),
    }
    for grain, content in grains.items():
        model[grain * 4096 : (grain + 1) * 4096] = content
    assert contents(path) == model
    assert qemu_reads(path) == model
    with open_disk(path) as disk:
        assert get(disk, 3, 10) == bytes(model[3 * SECTOR : 13 * SECTOR])


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 5), (8, 1), (16, 0), (16, 1 << 60), (16, 5), (24, 16), (32, 32), (40, 1), (80, 1 << 40), (128, 0),
     (128, 1 << 50), (136, 0), (136, 1 << 63), (144, 0), (192, 1 << 63)],
)  # fmt: skip
def test_a_field_that_cannot_be_true_is_named(tmp_path: Path, offset: int, value: int) -> None:
    path = image(tmp_path, ENTRIES, **{f"at{offset}": value})
    with pytest.raises(RingfenceError, match="sesparse"):
        open_disk(path).close()


def test_a_journal_to_be_replayed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="journal"):
        open_disk(image(tmp_path, {}, replay=1))
    with pytest.raises(Unsupported, match="for reading"):
        open_disk(image(tmp_path, {}), writable=True)


@pytest.mark.parametrize("entry", [5, 4 << 60, 15 << 60 | 1, allocated(1 << 40), allocated(1 << 59)])
def test_an_entry_that_cannot_be_true_is_damage(tmp_path: Path, entry: int) -> None:
    with open_disk(image(tmp_path, {2: entry})) as disk:
        assert get(disk, 0, 16)
        with pytest.raises(DamagedGrain) as caught:
            get(disk, 16, 8)
        assert caught.value.block == 16


@pytest.mark.parametrize("gde", [1, 0x10000000 << 32 | 0xFFFFFFFF, 0x20000000 << 32])
def test_a_directory_entry_that_cannot_be_true_is_damage(tmp_path: Path, gde: int) -> None:
    with open_disk(image(tmp_path, {}, gde=gde)) as disk, pytest.raises(DamagedGrain):
        get(disk, 8192 * 8, 8)


def test_an_extent_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path, {})
    file = tmp_path / "disk-sesparse.vmdk"
    file.write_bytes(file.read_bytes()[: 9 * SECTOR - 1])
    with open_disk(path) as disk, pytest.raises(DamagedGrain):
        get(disk, 0, 8)
    file.write_bytes(file.read_bytes()[: 8 * SECTOR])
    with pytest.raises(CorruptImage, match="grain directory"):
        open_disk(path)


def test_grains_that_follow_one_another_are_located_together(tmp_path: Path) -> None:
    """Once their table was read; what is damaged, zero or torn is never located."""
    row = {grain: allocated(5 + grain) for grain in range(100)}
    entries = {**row, 200: allocated(5), 201: allocated(7), 300: 2 << 60, 310: 4 << 60, 320: allocated(1 << 40)}
    with open_disk(image(tmp_path, entries)) as disk:
        extent = disk.links[-1].extents[0]
        assert extent.locate(0, 8) is None, "its table was not read yet"
        assert extent.locate(4096 * 8, 8) == NOT_HERE, "there is no table"
        get(disk, 0, 8)
        assert (extent.locate(0, 800), extent.locate(3, 4)) == (GRAINS_AT + 5 * 8, GRAINS_AT + 5 * 8 + 3)
        assert extent.locate(99 * 8, 8) == GRAINS_AT + 104 * 8
        assert extent.locate(100 * 8, 800) == NOT_HERE
        for first, grains in ((99, 2), (200, 2), (300, 1), (310, 1), (320, 1), (4095, 2)):
            assert extent.locate(first * 8, grains * 8) is None


def test_a_batch_of_small_reads_gives_what_single_reads_give(tmp_path: Path) -> None:
    with open_disk(image(tmp_path, ENTRIES)) as disk:
        offsets = np.array([grain * 4096 for grain in (0, 1, 2, 3, 4, 4096, 8191, 8192, 8193, 8194)], np.int64)
        for length in (4096, 8192):
            out = bytearray(len(offsets) * length)
            read_batch(disk, offsets, length, memoryview(out))
            assert out == b"".join(get(disk, int(at) // SECTOR, length // SECTOR) for at in offsets)


def test_a_damaged_entry_is_damage_in_a_batch_too(tmp_path: Path) -> None:
    with open_disk(image(tmp_path, {2: 15 << 60})) as disk, pytest.raises(DamagedGrain):
        read_batch(disk, np.array([0, 8192], np.int64), 4096, memoryview(bytearray(8192)))
