"""Chains: what is read is what was written, through any links; and what is refused when one is opened."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from ringfence.errors import BadInput, MediaError, RingfenceError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put, scribble, written
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import open_disk, open_raw
from vmkernel.storage.create import CHILD_KINDS, Kind, create, create_child, create_redo
from vmkernel.storage.errors import ContentMismatch, CorruptImage, Locked, MissingLink, NotWritable, Unsupported

SIZE = 5 * MIB + 3 * SECTOR


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_keeps_what_is_written(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, kind, SIZE)
    assert contents(path) == model
    with open_disk(path, writable=True) as disk:
        model = scribble(disk, 2, bytearray(model))
        assert get(disk, 0, SIZE // SECTOR) == model
    assert contents(path) == model


@pytest.mark.parametrize("size", [SECTOR, 200 * SECTOR, 128 * SECTOR, 65537 * SECTOR])
@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Kind.VMFS_SPARSE])
def test_any_number_of_sectors_is_a_capacity(tmp_path: Path, kind: Kind, size: int) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, kind, size)
    assert contents(path) == model


@pytest.mark.parametrize("kind", sorted(CHILD_KINDS))
@pytest.mark.parametrize("grain", [1, 8, 128])
def test_a_chain_reads_as_a_flat_model(tmp_path: Path, kind: Kind, grain: int) -> None:
    model = bytearray(written(tmp_path / "base.vmdk", Kind.THIN, SIZE))
    parent = tmp_path / "base.vmdk"
    states = {parent: bytes(model)}
    for number in range(1, 4):
        path = tmp_path / f"base-{number:06}.vmdk"
        create_child(path, parent, kind, grain_sectors=grain)
        assert contents(path) == bytes(model), "a new child shows its parent"
        with open_disk(path, writable=True) as disk:
            states[path] = scribble(disk, 10 + number, model)
        parent = path
    for path, state in states.items():
        assert contents(path) == state


def test_runs_say_which_link_has_what(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "base-000001.vmdk"
    create(base, Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(base, writable=True) as disk:
        put(disk, 0, data(1, 128))
        put(disk, 256, data(2, 128))
    create_child(child, base)
    with open_disk(child, writable=True) as disk:
        put(disk, 64, data(3, 64))
    with open_disk(child) as disk:
        found = [(piece.start // SECTOR, piece.length // SECTOR, piece.layer) for piece in disk.runs(0, SIZE)]
        assert found == [(0, 64, 0), (64, 64, 1), (128, 128, -1), (256, 128, 0), (384, SIZE // SECTOR - 384, -1)]
        for piece in disk.runs(0, SIZE):
            there = piece.file.bytes_at(piece.offset, piece.length) if piece.file else bytes(piece.length)
            assert there == get(disk, piece.start // SECTOR, piece.length // SECTOR)


def test_zeros_in_a_child_hide_the_parent(tmp_path: Path) -> None:
    base = tmp_path / "base.vmdk"
    written(base, Kind.MONOLITHIC_FLAT, MIB)
    for kind in sorted(CHILD_KINDS):
        child = tmp_path / f"{kind}.vmdk"
        create_child(child, base, kind)
        with open_disk(child, writable=True) as disk:
            disk.zero(0, MIB)
        assert contents(child) == bytes(MIB)


def test_a_request_may_be_cut_into_views_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.VMFS_SPARSE, MIB)
    chance = random.Random(3)
    with open_disk(path) as disk:
        for _ in range(50):
            at, count = chance.randrange(1000), chance.randrange(1, 1000)
            views = [memoryview(bytearray(chance.randrange(1, 700))) for _ in range(2000)]
            kept, room = [], count * SECTOR
            for view in views:
                kept.append(view[: min(room, len(view))])
                room -= len(kept[-1])
                if not room:
                    break
            if not room:
                disk.read(at * SECTOR, kept)
                assert b"".join(kept) == model[at * SECTOR : (at + count) * SECTOR]


def test_a_request_past_the_end_or_inside_a_sector_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.THIN, MIB)
    with open_disk(path, writable=True) as disk:
        for call in (disk.read, disk.write):
            with pytest.raises(MediaError):
                call(MIB - SECTOR, [memoryview(bytearray(2 * SECTOR))])
            with pytest.raises(ValueError):
                call(1, [memoryview(bytearray(SECTOR))])
            with pytest.raises(ValueError):
                call(0, [memoryview(bytearray(SECTOR - 1))])


def test_a_disk_opened_for_reading_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    written(path, Kind.MONOLITHIC_SPARSE, MIB)
    before = path.read_bytes()
    with open_disk(path) as disk, pytest.raises(NotWritable):
        put(disk, 0, bytes(SECTOR))
    with open_disk(path, writable=True):
        pass
    assert path.read_bytes() == before, "opening writes nothing, nor does closing without a write"


def test_the_cid_changes_once_at_the_first_write(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.THIN, MIB)
    assert b"CID=fffffffe\n" in path.read_bytes()
    seen = {path.read_bytes()}
    for _ in range(2):
        with open_disk(path, writable=True) as disk:
            put(disk, 1, data(1, 1))
            seen.add(path.read_bytes())
            put(disk, 2, data(1, 1))
            seen.add(path.read_bytes())
        seen.add(path.read_bytes())
    assert len(seen) == 3


def test_a_child_of_a_parent_that_was_written_is_refused(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    model = written(base, Kind.MONOLITHIC_SPARSE, MIB)
    create_child(child, base)
    with open_disk(base, writable=True) as disk:
        put(disk, 9, data(77, 1))
    with pytest.raises(ContentMismatch, match="content ID"):
        open_disk(child)
    with open_disk(child, relaxed=True) as disk:
        assert "modified" in disk.warnings[0]
        assert get(disk, 0, 9) == model[: 9 * SECTOR]
    with pytest.raises(Unsupported):
        open_disk(child, relaxed=True, writable=True)


def test_links_of_different_capacity_are_refused(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    create(base, Kind.THIN, MIB)
    create_child(child, base)
    base.write_bytes(base.read_bytes().replace(b"RW 2048 ", b"RW 2047 "))
    with pytest.raises(CorruptImage, match=r"the same in each link, found 2048, and base\.vmdk has 2047"):
        open_disk(child)


def test_a_chain_that_closes_on_itself_is_refused(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    create(base, Kind.THIN, MIB)
    create_child(child, base)
    for hint in (b"child.vmdk", b"./child.vmdk"):
        text = child.read_bytes().replace(b'Hint="base.vmdk"', b'Hint="%s"' % hint)
        child.with_name("loop.vmdk").write_bytes(text.replace(b"child.vmdk", b"loop.vmdk"))
        with pytest.raises(CorruptImage, match="its own ancestor"):
            open_disk(child.with_name("loop.vmdk"))


def test_a_missing_parent_or_extent_is_named(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    create(base, Kind.THIN, MIB)
    create_child(child, base)
    base.rename(tmp_path / "away.vmdk")
    with pytest.raises(MissingLink, match=r"parent: expected a file 'base\.vmdk'"):
        open_disk(child)
    (tmp_path / "base-flat.vmdk").unlink()
    with pytest.raises(MissingLink, match=r"away\.vmdk: byte \d+: extent: expected a file 'base-flat\.vmdk'"):
        open_disk(tmp_path / "away.vmdk")


def test_a_parent_is_found_where_the_chain_was_moved_to(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    model = written(base, Kind.THIN, MIB)
    create_child(child, base)
    for hint in (b"/vmfs/volumes/gone/vm/base.vmdk", rb"C:\Virtual Machines\vm\base.vmdk", rb"..\gone\base.vmdk"):
        child.write_bytes(child.read_bytes().replace(b'"base.vmdk"', b'"%s"' % hint))
        assert contents(child) == model
        child.write_bytes(child.read_bytes().replace(hint, b"base.vmdk"))


def test_a_redo_log_of_esx_2_lies_over_bare_sectors(tmp_path: Path) -> None:
    base = tmp_path / "disk.vmdk"
    model = bytearray(data(4, 2048))
    base.write_bytes(model)
    first = create_redo(base)
    assert first.name == "disk.vmdk.REDO"
    with open_disk(first, writable=True) as disk:
        one = scribble(disk, 5, model)
    second = create_redo(first)
    assert second.name == "disk.vmdk.REDO.REDO"
    with open_disk(second, writable=True) as disk:
        two = scribble(disk, 6, model)
    assert (base.read_bytes(), contents(first), contents(second)) == (data(4, 2048), one, two)
    with open_raw(base) as disk:
        assert get(disk, 0, 2048) == data(4, 2048)


def test_one_writes_or_several_read(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    create(base, Kind.MONOLITHIC_SPARSE, MIB)
    with open_disk(base), open_disk(base), pytest.raises(Locked):
        open_disk(base, writable=True)
    with open_disk(base, writable=True):
        for writable in (True, False):
            with pytest.raises(Locked):
                open_disk(base, writable=writable)
        open_disk(base, lock=False).close()
    create_child(child, base)
    with open_disk(child, writable=True), open_disk(base), pytest.raises(Locked):
        open_disk(base, writable=True)


def test_an_error_in_a_data_file_names_the_sector_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.TWO_GB_FLAT, 3 << 30)
    second = 4192256
    with open_disk(path) as disk:
        os.truncate(tmp_path / "disk-f002.vmdk", 100 * SECTOR)
        with pytest.raises(MediaError) as caught:
            get(disk, second + 200, 1)
    assert caught.value.block == second + 200


@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Kind.VMFS_SPARSE])
def test_two_tebibytes_open_at_once_and_hold_little(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "disk.vmdk"
    size = (2 << 40) - (64 << 30 if kind == Kind.MONOLITHIC_SPARSE else SECTOR)
    create(path, kind, size)
    with open_disk(path, writable=True) as disk:
        for sector in (0, size // SECTOR - 1, size // SECTOR // 2):
            put(disk, sector, data(sector, 1))
    started = time.perf_counter()
    with open_disk(path) as disk:
        assert get(disk, size // SECTOR - 1, 1) == data(size // SECTOR - 1, 1)
        assert get(disk, 1000, 8) == bytes(8 * SECTOR)
    assert time.perf_counter() - started < 30, "it did not read all tables, which takes minutes"
    assert path.with_name("disk-delta.vmdk" if kind == Kind.VMFS_SPARSE else "disk.vmdk").stat().st_blocks < 1 << 19


def test_a_host_that_cannot_write_makes_a_media_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.VMFS_SPARSE, MIB)
    with open_disk(path, writable=True) as disk:
        put(disk, 0, model[:SECTOR])

        def full(fd: int, views: object, offset: int) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", full)
            with pytest.raises(RingfenceError, match="No space left") as caught:
                put(disk, 1500, data(9, 20))
        assert type(caught.value).__name__ == "OutOfSpace"
        put(disk, 1500, data(9, 20))
        assert get(disk, 1500, 20) == data(9, 20)


def test_after_a_flush_that_failed_no_flush_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BlockFile.create(tmp_path / "file") as file:
        with monkeypatch.context() as patch:

            def failing(fd: int) -> None:
                raise OSError(5, "Input/output error")

            patch.setattr(os, "fdatasync", failing)
            with pytest.raises(MediaError):
                file.sync()
        with pytest.raises(MediaError, match="cannot flush"):
            file.sync()


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.vmdk")
    with pytest.raises(RingfenceError, match="regular file"):
        open_disk(tmp_path / "fifo.vmdk")
    with pytest.raises(BadInput):
        open_disk(tmp_path / "none.vmdk")
