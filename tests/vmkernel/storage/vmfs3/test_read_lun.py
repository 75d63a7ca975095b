"""LUNs: where in an image the volume is found, and what keeps hosts apart."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.vmfs3.filled import MIB, small
from tests.vmkernel.storage.vmfs3.specimen import DATA_AT, LBA_128, PE, Specimen
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.errors import HostTrouble, Locked, MissingLink
from vmkernel.storage.vmfs3 import lun as lun_module
from vmkernel.storage.vmfs3.errors import NotVmfs
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.volume import Volume


def entry(kind: int, start: int, sectors: int) -> bytes:
    return struct.pack("<B3sB3sII", 0, b"", kind, b"", start, sectors)


def moved(source: Path, target: Path, start: int) -> int:
    """The partition of a specimen, whole, from this byte of another image on; its size."""
    size = source.stat().st_size - LBA_128
    with source.open("rb") as old, target.open("wb") as new:
        new.truncate(start + size)
        for at in range(LBA_128, 16 * MIB, MIB):  # up to the extents, and what lies in the first of them
            old.seek(at)
            new.seek(start + at - LBA_128)
            new.write(old.read(MIB))
        old.seek(LBA_128 + DATA_AT)
        new.seek(start + DATA_AT)
        new.write(old.read(16 * MIB))
    return size


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("lun"))[0]


def head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(40 * MIB)


def label(path: Path) -> str:
    with Volume.open([path]) as volume:
        return volume.label


def test_the_whole_of_an_image_is_a_volume(tmp_path: Path) -> None:
    path = small(tmp_path, partitioned=False)[0]
    with Lun.open(path) as lun:
        assert (lun.base, lun.size, lun.is_bare) == (0, path.stat().st_size, False)
    assert label(path) == "specimen"


def test_the_partition_of_an_mbr_is_found(image: Path) -> None:
    with Lun.open(image) as lun:
        assert (lun.base, lun.size) == (LBA_128, image.stat().st_size // 512 * 512 - LBA_128)


@pytest.mark.parametrize("number", range(4))
def test_any_entry_of_an_mbr_may_be_it(image: Path, tmp_path: Path, number: int) -> None:
    target = tmp_path / "disk"
    size = moved(image, target, 4 * MIB)
    entries = [entry(0x83, 2048, 100)] * 4
    entries[number] = entry(0xFB, 4 * MIB // 512, size // 512)
    with target.open("r+b") as file:
        os.pwrite(file.fileno(), b"".join(entries) + b"\x55\xaa", 446)
    assert label(target) == "specimen"


def test_a_logical_partition_may_be_it(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "disk"
    size = moved(image, target, 4 * MIB)
    with target.open("r+b") as file:
        os.pwrite(file.fileno(), entry(0x05, 2048, 1 << 22) + bytes(48) + b"\x55\xaa", 446)
        own = entry(0xFB, 4 * MIB // 512 - 2048, size // 512)
        os.pwrite(file.fileno(), own + bytes(48) + b"\x55\xaa", 2048 * 512 + 446)
    assert label(target) == "specimen"


@pytest.mark.skipif(shutil.which("sfdisk", path="/usr/sbin:/sbin:/usr/bin") is None, reason="no sfdisk (package fdisk)")
def test_the_partition_of_a_gpt_is_found_by_its_type(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "disk"
    size = moved(image, target, 4 * MIB)
    os.truncate(target, target.stat().st_size + MIB)
    kind = "AA31E02A-400F-11DB-9590-000C2911D1B8"
    table = f"label: gpt\nstart=2048, size=2048\nstart=8192, size={size // 512}, type={kind}\n"
    command = [shutil.which("sfdisk", path="/usr/sbin:/sbin:/usr/bin") or "", "-q", "--no-tell-kernel", target]
    subprocess.run(command, input=table.encode(), check=True, capture_output=True)
    assert label(target) == "specimen"


def test_a_logical_volume_without_lvm_is_read(image: Path, tmp_path: Path) -> None:
    """As blkid knows it, and as ESX 5 makes it on request."""
    target = tmp_path / "lv"
    with Volume.open([image]) as volume, target.open("wb") as out:
        out.write(volume.lv.bytes_at(0, 16 * MIB))
        out.truncate(volume.lv.size)
    with Volume.open([target]) as bare:
        assert bare.lv.luns[0].is_bare
        assert [entry.name for entry in bare.entries(bare.root)][-2:] == ["d", "blocks"]


@pytest.mark.parametrize("contents", [b"", b"x", bytes(4 * MIB), b"\0" * 510 + b"\x55\xaa"])
def test_what_holds_no_volume_is_refused_by_name(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "other").write_bytes(contents)
    with pytest.raises(NotVmfs, match=r"other: contents: expected LVM's magic number at byte 0x100000"):
        Lun.open(tmp_path / "other")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingLink):
        Lun.open(tmp_path / "none")
    with pytest.raises(RingfenceError, match="expected a regular file or a block device"):
        Lun.open(tmp_path)


def test_reading_past_the_partition_is_refused(image: Path) -> None:
    with Lun.open(image) as lun, pytest.raises(HostTrouble, match="past the end of the partition"):
        lun.bytes_at(lun.size - 10, 11)


def test_opening_for_reading_changes_no_byte_and_no_time(image: Path) -> None:
    before = head(image), image.stat().st_mtime_ns
    with Volume.open([image]) as volume:
        for found in volume.entries(volume.root):
            volume.descriptor(found.address)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(volume.lv.luns[0].fd, b"x", 0)
    assert (head(image), image.stat().st_mtime_ns) == before


def test_hosts_share_a_lun_and_nobody_else_gets_it_meanwhile(image: Path) -> None:
    with Lun.open(image, writable=True), Lun.open(image, writable=True), Lun.open(image), pytest.raises(Locked):
        BlockFile.open(image, writable=True)
    BlockFile.open(image, writable=True).close()


def test_a_reservation_keeps_another_opening_out(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lun_module, "RESERVE_TRIES_S", 0.02)
    with Lun.open(image, writable=True) as one, Lun.open(image, writable=True) as other:
        with one.reserve(), one.reserve(), pytest.raises(Locked, match="reserved"), other.reserve():
            pass
        with other.reserve(), pytest.raises(Locked), one.reserve():
            pass


def test_a_reservation_waits_for_the_other_host(image: Path) -> None:
    order = []
    with Lun.open(image, writable=True) as one, Lun.open(image, writable=True) as other:

        def wait() -> None:
            with other.reserve():
                order.append("other")

        with one.reserve():
            thread = threading.Thread(target=wait)
            thread.start()
            order.append("one")
        thread.join()
    assert order == ["one", "other"]


def test_a_device_too_small_for_its_last_extent_is_only_read(tmp_path: Path) -> None:
    path = Specimen(tmp_path, partitioned=False).finish()[0]
    os.truncate(path, DATA_AT + PE - 512)
    with Volume.open([path]) as volume:
        assert [missing for _, missing in volume.lv.missing()] == [512]
    with pytest.raises(RingfenceError, match="it was cut short, and can only be read"):
        Volume.open([path], writable=True)
