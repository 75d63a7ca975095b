"""A disk as a drive sees it: blocks, and errors that are all of one kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.wiring import BlockDevice
from ringfence.errors import HostRefused, MediaError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, written
from tests.vmkernel.storage.vmdk.test_sparse import entry
from vmkernel.storage.blocks import DiskBlocks
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create
from vmkernel.storage.errors import OutOfSpace
from vmkernel.storage.vmdk import text_home


def test_blocks_are_the_disks_sectors(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.MONOLITHIC_SPARSE, MIB)
    blocks = DiskBlocks(open_disk(path, writable=True), "scsi0:0")
    device: BlockDevice = blocks
    assert (device.block_size, device.blocks, blocks.writable) == (512, 2048, True)
    view = memoryview(bytearray(3 * SECTOR))
    device.read(7, [view[:100], view[100:]])
    assert view == model[7 * SECTOR : 10 * SECTOR]
    device.write(8, [memoryview(data(5, 2))])
    device.flush()
    blocks.close()
    assert contents(path)[8 * SECTOR : 10 * SECTOR] == data(5, 2)


def test_every_error_is_a_media_error_and_its_reason_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, MIB)
    entry(path, 3, 5)
    blocks = DiskBlocks(open_disk(path, writable=True), "scsi0:0")
    with pytest.raises(MediaError) as caught:
        blocks.read(380, [memoryview(bytearray(10 * SECTOR))])
    assert caught.value.block == 384
    assert "place of grain 3" in blocks.trouble

    def refuse(home: object, text: bytes) -> None:
        raise HostRefused("no descriptor today")

    def full(file: object, offset: int, views: object) -> None:
        raise OutOfSpace(path, offset, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(text_home.EmbeddedText, "save", refuse)
        with pytest.raises(MediaError):
            blocks.write(0, [memoryview(data(1, 1))])
    assert blocks.trouble == "scsi0:0: no descriptor today"
    blocks.write(0, [memoryview(data(1, 1))])
    with monkeypatch.context() as patch:
        patch.setattr(type(blocks.disk.links[0].files[path]), "write", full)  # type: ignore[attr-defined]
        with pytest.raises(MediaError) as caught:
            blocks.write(200, [memoryview(data(1, 1))])
    assert (caught.value.block, blocks.full) == (200, 1)
    blocks.write(200, [memoryview(data(2, 1))])
    blocks.close()
    with open_disk(path) as disk:
        assert get(disk, 0, 201) == data(1, 1) + bytes(199 * SECTOR) + data(2, 1)
