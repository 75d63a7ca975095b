"""A batch of reads is the same as the reads one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ringfence.errors import MediaError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, scribble, written
from vmkernel.storage.batch import read_batch
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.vmdk.stream_writer import write_stream

SIZE = 5 * MIB + SECTOR


def compare(disk: Chain, model: bytes, sectors: int) -> None:
    offsets = np.random.default_rng(sectors).integers(0, SIZE // SECTOR - sectors + 1, 400) * SECTOR
    length = sectors * SECTOR
    out = bytearray(b"\xaa" * (len(offsets) * length))
    read_batch(disk, offsets, length, memoryview(out))
    for number, offset in enumerate(offsets.tolist()):
        assert out[number * length : (number + 1) * length] == model[offset : offset + length]


@pytest.mark.parametrize("sectors", [1, 8, 200])
@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_FLAT, Kind.VMFS_SPARSE])
def test_a_batch_is_the_same_as_single_reads(tmp_path: Path, kind: Kind, sectors: int) -> None:
    model = written(tmp_path / "disk.vmdk", kind, SIZE)
    with open_disk(tmp_path / "disk.vmdk") as disk:
        compare(disk, model, sectors)


def test_a_batch_goes_through_a_chain_and_a_stream(tmp_path: Path) -> None:
    model = bytearray(written(tmp_path / "base.vmdk", Kind.THIN, SIZE))
    parent = tmp_path / "base.vmdk"
    for number, kind in enumerate((Kind.VMFS_SPARSE, Kind.MONOLITHIC_SPARSE)):
        child = tmp_path / f"child{number}.vmdk"
        create_child(child, parent, kind)
        with open_disk(child, writable=True) as disk:
            scribble(disk, number, model)
            compare(disk, bytes(model), 8)
        parent = child
    with open_disk(parent) as disk, (tmp_path / "stream.vmdk").open("wb") as out:
        compare(disk, bytes(model), 1)
        write_stream(disk, out, "stream.vmdk")
    with open_disk(tmp_path / "stream.vmdk") as disk:
        compare(disk, contents(parent), 8)


def test_a_batch_of_what_lies_together_in_small_grains_needs_no_single_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, length = tmp_path / "disk.vmdk", 8 * SECTOR
    create(path, Kind.VMFS_SPARSE, SIZE)
    content = bytes(range(1, 9)) * (MIB // 8)
    with open_disk(path, writable=True) as disk:
        disk.write(MIB, [memoryview(content)])
        offsets = np.arange(0, 3 * MIB, 3 * SECTOR)
        out = memoryview(bytearray(b"\xaa" * (len(offsets) * length)))
        expected = (bytes(MIB) + content).ljust(SIZE, b"\0")
        single: list[int] = []
        read = disk.read

        def one(offset: int, views: list[memoryview]) -> None:
            single.append(offset)
            read(offset, views)

        with monkeypatch.context() as patch:
            patch.setattr(disk, "read", one)
            read_batch(disk, offsets, length, out)
        for number, offset in enumerate(offsets.tolist()):
            assert out[number * length : (number + 1) * length] == expected[offset : offset + length]
        edges = [at for at in offsets.tolist() if at < MIB < at + length or at < 2 * MIB < at + length]
        tables = [at for at in offsets.tolist() if at // (2 * MIB) != (at + length - 1) // (2 * MIB)]
        assert set(edges) <= set(single) <= {*edges, *tables}


def test_a_batch_past_the_end_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "disk.vmdk", Kind.THIN, SIZE)
    with open_disk(tmp_path / "disk.vmdk") as disk:
        out = memoryview(bytearray(2 * SECTOR))
        with pytest.raises(MediaError):
            read_batch(disk, np.array([0, SIZE]), SECTOR, out)
        for offsets, length in (([0, 1], SECTOR), ([0, 512], 100), ([0, 0, 0], SECTOR)):
            with pytest.raises(ValueError):
                read_batch(disk, np.array(offsets), length, out)
