"""What `check` finds, what `repair` mends, and that QEMU then finds no fault either."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put, qemu_img, qemu_reads, written
from tests.vmkernel.storage.vmdk.test_sparse import entry, poke
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.errors import Locked, NeedsRepair
from vmkernel.storage.repair import check, repair
from vmkernel.storage.vmdk import cowd_spec
from vmkernel.storage.vmdk.check import Fault, Finding
from vmkernel.storage.vmdk.stream_writer import write_stream

GRAIN = 128


def sparse(folder: Path) -> tuple[Path, bytes]:
    """A megabyte in 8 grains, of which 0, 2 and 5 are there."""
    path = folder / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, MIB)
    model = bytearray(MIB)
    with open_disk(path, writable=True) as disk:
        for grain in (0, 2, 5):
            put(disk, grain * GRAIN, content := data(grain + 1, GRAIN))
            model[grain * GRAIN * SECTOR : (grain + 1) * GRAIN * SECTOR] = content
    return path, bytes(model)


def faults(findings: list[Finding]) -> list[Fault]:
    return [finding.fault for finding in findings]


def mended(path: Path, fault: Fault) -> None:
    """`check` finds it, `repair` mends it, and then nobody finds anything."""
    assert fault in faults(check(path))
    assert all(finding.mended for finding in repair(path) if finding.fault != Fault.LOST)
    left = [finding for finding in check(path) if finding.fault != Fault.LOST]
    assert not left
    qemu_img("check", "-q", "-f", "vmdk", path)
    open_disk(path, writable=True).close()


@pytest.mark.parametrize("kind", Kind)
def test_a_sound_disk_has_no_findings(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, kind, 3 * MIB + SECTOR)
    assert not check(path, deep=True)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert not repair(path)
    assert before == {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert contents(path) == model


def test_copies_that_differ_become_the_same(tmp_path: Path) -> None:
    path, model = sparse(tmp_path)
    entry(path, 5, 0, redundant=False)
    mended(path, Fault.COPIES)
    assert contents(path) == qemu_reads(path) == model


def test_a_grain_that_is_shared_stays_with_the_first(tmp_path: Path) -> None:
    path, model = sparse(tmp_path)
    entry(path, 6, GRAIN)
    assert [finding.sector for finding in check(path)] == [6 * GRAIN]
    mended(path, Fault.SHARED)
    assert contents(path) == model


@pytest.mark.parametrize("bad", [0x7FFFFFFF, 1])
def test_an_entry_that_cannot_be_is_taken_from_the_copy(tmp_path: Path, bad: int) -> None:
    path, model = sparse(tmp_path)
    entry(path, 2, bad, redundant=False)
    mended(path, Fault.COPIES)
    assert contents(path) == model


@pytest.mark.parametrize("place", [5, 1 << 20, GRAIN + 1])
def test_a_grain_that_is_nowhere_is_dropped(tmp_path: Path, place: int) -> None:
    path, model = sparse(tmp_path)
    entry(path, 2, place)
    mended(path, Fault.PLACE)
    assert contents(path) == model[: 2 * GRAIN * SECTOR] + bytes(GRAIN * SECTOR) + model[3 * GRAIN * SECTOR :]


def test_space_that_nothing_points_at_is_said_and_harmless(tmp_path: Path) -> None:
    path, model = sparse(tmp_path)
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write(bytes(3 * GRAIN * SECTOR))
    (finding,) = check(path)
    assert finding.fault == Fault.LOST
    assert finding.is_harmless
    assert "384 sectors" in finding.text
    assert contents(path) == model


@pytest.mark.parametrize("directory", [21, 26])
def test_a_table_that_one_directory_lost_is_taken_from_the_other(tmp_path: Path, directory: int) -> None:
    path, model = sparse(tmp_path)
    with path.open("r+b") as file:
        file.seek(directory * SECTOR)
        file.write(struct.pack("<I", 1 << 28))
    with pytest.raises(NeedsRepair):
        open_disk(path, writable=True)
    mended(path, Fault.TABLE)
    assert contents(path) == qemu_reads(path) == model


def test_an_unclean_disk_is_checked_when_it_is_opened_for_writing(tmp_path: Path) -> None:
    path, model = sparse(tmp_path)
    poke(path, "version", 1)
    with path.open("r+b") as file:
        file.seek(72)
        file.write(b"\x01")
    entry(path, 5, 0, redundant=False)
    assert set(faults(check(path))) == {Fault.UNCLEAN, Fault.COPIES, Fault.LOST}
    with open_disk(path, writable=True) as disk:
        assert any("not closed in order" in text for text in disk.warnings)
        assert get(disk, 0, 2048) == model
    assert not check(path)
    with path.open("r+b") as file:
        file.seek(72)
        file.write(b"\x01")
    entry(path, 6, GRAIN)
    with pytest.raises(NeedsRepair, match="shared grain in a file that was not closed"):
        open_disk(path, writable=True)
    repair(path)
    open_disk(path, writable=True).close()


def test_a_redo_log_is_mended(tmp_path: Path) -> None:
    create(tmp_path / "base.vmdk", Kind.THIN, 8 * MIB)
    child, log = tmp_path / "child.vmdk", tmp_path / "child-delta.vmdk"
    create_child(child, tmp_path / "base.vmdk")
    with open_disk(child, writable=True) as disk:
        put(disk, 5, data(5, 3))
        put(disk, 9000, data(6, 1))
    with log.open("r+b") as file:
        file.seek(5 * SECTOR + 7 * 4)
        file.write(struct.pack("<II", 5, 37))
        file.seek(cowd_spec.OFFSETS["free_sector"])
        file.write(struct.pack("<I", 40))
    found = check(child)
    assert set(faults(found)) == {Fault.SHARED, Fault.FREE, Fault.LOST}
    assert sorted(finding.sector for finding in found if finding.sector is not None) == [7, 8]
    assert all(finding.mended for finding in repair(child) if finding.fault != Fault.LOST)
    assert faults(check(child)) == [Fault.LOST]
    with open_disk(child) as disk:
        assert get(disk, 5, 4) == data(5, 2) + bytes(2 * SECTOR)
        assert get(disk, 9000, 1) == data(6, 1)


def test_a_parent_that_was_modified_is_accepted_on_request(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    model = written(base, Kind.THIN, MIB)
    create_child(child, base)
    with open_disk(base, writable=True) as disk:
        put(disk, 0, model[:SECTOR])
    (finding,) = check(child)
    assert finding.fault == Fault.CONTENT_ID
    assert not repair(child)
    assert check(child)
    assert faults(repair(child, accept_parent=True)) == [Fault.CONTENT_ID]
    assert not check(child)
    assert contents(child) == model


def test_what_is_wrong_with_a_parent_is_found_from_its_child(tmp_path: Path) -> None:
    path, _ = sparse(tmp_path)
    create_child(tmp_path / "child.vmdk", path)
    entry(path, 6, GRAIN)
    (finding,) = check(tmp_path / "child.vmdk")
    assert finding.path == str(path)
    path.unlink()
    (finding,) = check(tmp_path / "child.vmdk")
    assert finding.fault == Fault.LINK
    assert "disk.vmdk" in finding.text


def test_damage_in_a_stream_is_found(tmp_path: Path) -> None:
    path, _ = sparse(tmp_path)
    with open_disk(path) as disk, (tmp_path / "stream.vmdk").open("wb") as out:
        write_stream(disk, out, "stream.vmdk")
    stream = bytearray((tmp_path / "stream.vmdk").read_bytes())
    stream[128 * SECTOR + 40] ^= 0xFF
    (tmp_path / "stream.vmdk").write_bytes(stream)
    assert not check(tmp_path / "stream.vmdk")
    assert faults(check(tmp_path / "stream.vmdk", deep=True)) == [Fault.GRAIN]
    with pytest.raises(RingfenceError):
        repair(tmp_path / "stream.vmdk")


def test_a_disk_in_use_is_not_checked(tmp_path: Path) -> None:
    path, _ = sparse(tmp_path)
    with open_disk(path, writable=True), pytest.raises(Locked):
        check(path)
