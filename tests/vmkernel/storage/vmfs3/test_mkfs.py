"""New volumes: what the other readers find in them, and what is refused."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from ringfence.errors import BadInput, BadOption
from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.hosts import GIB, MIB, ONE_EXTENT, SMALL, make, sparse
from vmkernel.storage.errors import Locked
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.geometry import Counts, plan
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm_spec import DEVICE_HEADER, HEADER_AT
from vmkernel.storage.vmfs3.mkfs import Placement, format_volume
from vmkernel.storage.vmfs3.volume import Volume

SYSTEM = [".fbb.sf", ".fdc.sf", ".pbc.sf", ".sbc.sf", ".vh.sf"]
CLEAN = {
    "Unallocated blocks": 0, "Lost blocks": 0, "Undefined inodes": 0, "Orphaned inodes": 0, "Directory errors": 0,
}  # fmt: skip
LINUX, VMFS = 0x83, 0xFB


@pytest.mark.parametrize("block_size", [1, 2, 4, 8])
@pytest.mark.parametrize("devices", [1, 3])
def test_the_peers_accept_a_new_volume(tmp_path: Path, block_size: int, devices: int) -> None:
    paths = make(tmp_path, ONE_EXTENT + 256 * MIB, devices, block_size=block_size * MIB, label="Grüße", counts=None)
    assert check(paths) == []
    assert peers.bitmap_errors(paths) == 0
    assert peers.fsck(paths) == CLEAN
    assert peers.debugvmfs(paths, "ls", "/").decode().split() == [".", "..", *SYSTEM]
    with peers.dissected(paths, 128 * 512) as volume:
        assert volume.label == "Grüße"
        assert [entry.name for entry in volume.get("/").iterdir()] == [".", "..", *SYSTEM]


def test_a_large_volume_has_the_usual_counts(tmp_path: Path) -> None:
    paths = make(tmp_path, 3 * GIB, counts=None)
    with Volume.open(paths) as volume:
        totals = {name: total for name, (total, _) in volume.statistics().items()}
    assert totals == {"file_block": 2816, "file_descriptor": 30720, "pointer_block": 61440, "sub_block": 3968}
    assert peers.fsck(paths) == CLEAN


@pytest.mark.parametrize(("block_size", "first"), [(1, 560), (2, 282), (4, 143), (8, 74)])
def test_the_first_block_for_files_is_where_esx_has_it(block_size: int, first: int) -> None:
    assert plan(100 * GIB, block_size * MIB).first_user_block == first


def test_the_resource_files_have_the_lengths_of_esx() -> None:
    made = plan(2000 * GIB, MIB)
    assert (made.fdc.length, made.pbc.length, made.sbc.length) == (63143936, 255655936, 260374528)
    assert (made.fbb.length, made.fbb.clusters, made.fbb.groups) == (10551296, 10240, 320)
    assert [len(blocks) for blocks in (made.fdc_blocks, made.pbc_blocks, made.sbc_blocks)] == [61, 244, 249]


def test_fifty_terabytes_are_the_limit_with_blocks_of_one_megabyte() -> None:
    assert len(plan(50 * 10**12, MIB).fbb_blocks) <= 256
    with pytest.raises(BadOption, match=r"\.fbb\.sf"):
        plan(51 << 40, MIB)


def test_the_disk_takes_up_little(tmp_path: Path) -> None:
    path = make(tmp_path, 2 << 40, counts=None, block_size=8 * MIB)[0]
    assert os.stat(path).st_blocks * 512 < 16 * MIB
    with Volume.open([path]) as volume:
        assert volume.fbb.total == 8191 * 256 // 8


def test_thirty_two_devices_make_one_volume(tmp_path: Path) -> None:
    paths = make(tmp_path, devices=32, counts=None)
    assert check(paths) == []
    assert peers.fsck(paths) == CLEAN
    with Volume.open(list(reversed(paths))) as volume:
        assert volume.lv.size == 32 * 256 * MIB


@pytest.mark.parametrize("reader_shift", [True, False])
def test_the_byte_that_later_readers_need_can_be_left_out(tmp_path: Path, reader_shift: bool) -> None:
    with Volume.open(make(tmp_path, reader_shift=reader_shift)) as volume:
        assert volume.root.block_offset_shift == (20 if reader_shift else 0)


def first_sector(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def test_a_whole_device_needs_no_partition_table(tmp_path: Path) -> None:
    path = sparse(tmp_path / "whole.img", 17 * MIB + 256 * MIB)
    format_volume([path], counts=SMALL, placement=Placement.WHOLE_DEVICE)
    assert first_sector(path) == bytes(512)
    assert peers.fsck([path]) == CLEAN


def with_partition(path: Path, kind: int, start: int, sectors: int) -> Path:
    entry = struct.pack("<B3sB3sII", 0, b"", kind, b"", start, sectors)
    with path.open("r+b") as file:
        file.seek(446)
        file.write(entry.ljust(64, b"\0") + b"\x55\xaa")
    return path


def test_an_existing_partition_is_used(tmp_path: Path) -> None:
    path = with_partition(sparse(tmp_path / "parted.img", GIB), VMFS, 2048, 300 * MIB // 512)
    before = first_sector(path)
    format_volume([path], counts=SMALL, placement=Placement.EXISTING_PARTITION)
    assert first_sector(path) == before
    with Volume.open([path]) as volume:
        assert volume.lv.luns[0].base == 2048 * 512
        assert volume.lv.size == 256 * MIB
    assert peers.fsck([path]) == CLEAN


def test_the_partition_made_is_where_the_vi_client_puts_it(tmp_path: Path) -> None:
    sector = first_sector(make(tmp_path)[0])
    kind, start, sectors = sector[450], *struct.unpack_from("<II", sector, 454)
    assert (kind, start, sectors) == (VMFS, 128, ONE_EXTENT // 512 - 128)


def test_two_volumes_differ_in_every_uuid(tmp_path: Path) -> None:
    seen = set()
    for name in "ab":
        (tmp_path / name).mkdir()
        with Volume.open(make(tmp_path / name)) as volume:
            seen |= {volume.uuid, volume.lv.uuid, bytes(volume.lv.devices[0].header.device_uuid)}
    assert len(seen) == 6


def test_formatting_over_old_contents_leaves_none_of_them(tmp_path: Path) -> None:
    path = sparse(tmp_path / "old.img", ONE_EXTENT)
    with path.open("r+b") as file:
        file.write(np.random.default_rng(1).bytes(60 * MIB))
    format_volume([path], counts=SMALL, force=True)
    assert check([path]) == []
    assert peers.fsck([path]) == CLEAN
    with path.open("rb") as file, Lun.open(path).file:
        file.seek(128 * 512 + HEADER_AT)
        assert DEVICE_HEADER.parse(file.read(512)).reserved_d6 == bytes(298)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label": "x" * 128}, "label"), ({"label": "a\0b"}, "label"), ({"label": "\ud800"}, "label"),
        ({"block_size": 3 * MIB}, "file block size"), ({"block_size": 16 * MIB}, "file block size"),
        ({"counts": Counts(sbs=1 << 20)}, r"\.sbc\.sf"), ({"counts": Counts()}, "room"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, object], expected: str
) -> None:
    path = sparse(tmp_path / "x.img", ONE_EXTENT)
    with pytest.raises(BadOption, match=expected):
        format_volume([path], **options)  # type: ignore[arg-type]
    assert os.stat(path).st_blocks == 0


def test_a_device_that_holds_something_is_refused(tmp_path: Path) -> None:
    parted = with_partition(sparse(tmp_path / "linux.img", ONE_EXTENT), LINUX, 2048, 1000)
    with pytest.raises(BadInput, match="partition table"):
        format_volume([parted], counts=SMALL)
    with pytest.raises(BadInput, match="LVM header"):
        format_volume(make(tmp_path), counts=SMALL, placement=Placement.EXISTING_PARTITION)
    with pytest.raises(BadInput, match="at least"):
        format_volume([sparse(tmp_path / "little.img", 17 * MIB)], counts=SMALL)
    with pytest.raises(BadOption, match="twice"):
        format_volume([tmp_path / "linux.img"] * 2, counts=SMALL, force=True)


def test_a_volume_that_is_open_is_not_formatted(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with Volume.open(paths), pytest.raises(Locked):
        format_volume(paths, counts=SMALL, force=True)
