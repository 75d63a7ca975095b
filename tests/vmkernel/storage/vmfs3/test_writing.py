"""Contents of files: written anywhere, held against a plain array of bytes and against the other readers."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.hosts import GIB, MIB, ONE_EXTENT, SMALL, allocated, get, make, opened, put
from tests.vmkernel.storage.vmfs3.test_names import CLEAN, agree
from vmkernel.storage.vmfs3.allocate import KEPT_BLOCKS
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.errors import (
    FileLocked,
    FileTooLarge,
    IsADirectory,
    NoContents,
    NoSuchFile,
    PathError,
    SystemFileRefused,
    VolumeFull,
)
from vmkernel.storage.vmfs3.file_map import Kind
from vmkernel.storage.vmfs3.geometry import Counts
from vmkernel.storage.vmfs3.growing import Provision
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import WritableVolume, open_for_writing

SB = 65536


class Model:
    """A file as the bytes that it should have, written beside it."""

    def __init__(self, volume: WritableVolume, path: str) -> None:
        volume.create(path)
        self.volume, self.path, self.bytes = volume, path, bytearray()

    def write(self, offset: int, data: bytes) -> None:
        with self.volume.open_for_write(self.path) as file:
            half = len(data) // 2
            file.write(offset, [data[:half], memoryview(data)[half:]])
            assert file.bytes_at(offset, len(data)) == data
        self.bytes.extend(bytes(max(offset + len(data) - len(self.bytes), 0)))
        self.bytes[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        with self.volume.open_for_write(self.path) as file:
            file.truncate(size)
            assert file.size == size
        self.bytes.extend(bytes(max(size - len(self.bytes), 0)))
        del self.bytes[size:]

    def judge(self) -> None:
        assert get(self.volume, self.path) == self.bytes


@pytest.mark.parametrize("size", [0, 1, 511, 512, SB - 1, SB, SB + 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 7])
def test_every_size_is_read_back_by_everybody(tmp_path: Path, size: int) -> None:
    paths = make(tmp_path)
    data = random.Random(size).randbytes(size)
    with opened(paths) as volume:
        put(volume, "/f", data)
        fd = volume.lookup("/f")
        assert (fd.length, fd.zla) == (size, 2 if size <= SB else 1)
        assert fd.num_blocks == (bool(size) if size <= SB else -(-size // MIB))
    agree(paths)
    assert peers.debugvmfs(paths, "cat", "/f") == data
    with peers.dissected(paths, 128 * 512) as seen:
        assert peers.dissect_reads(seen, "/f") == data


@pytest.mark.parametrize("block_size", [1, 2, 4, 8])
def test_random_writes_and_lengths(tmp_path: Path, block_size: int) -> None:
    paths = make(tmp_path, GIB, 3 if block_size == 2 else 1, block_size=block_size * MIB)
    size = block_size * MIB
    chance = random.Random(block_size)
    with opened(paths) as volume:
        models = [Model(volume, f"/f{number}") for number in range(3)]
        for number in range(45):
            model = chance.choice(models)
            top = chance.choice((1000, SB, SB + 9000, size, 3 * size))
            if chance.random() < 0.25:
                model.truncate(chance.randrange(top))
            else:
                model.write(chance.randrange(top), chance.randbytes(chance.choice((1, 100, 5000, SB, size + 77))))
            if number % 9 == 0:
                volume.settle()
        for model in models:
            model.judge()
    agree(paths)
    with peers.dissected(paths, 128 * 512) as seen:
        for model in models:
            assert peers.debugvmfs(paths, "cat", model.path) == model.bytes
            if model.bytes:
                assert peers.dissect_reads(seen, model.path) == model.bytes


def test_what_was_cut_off_does_not_come_back(tmp_path: Path) -> None:
    with opened(make(tmp_path)) as volume:
        for name, top in (("/small", 5000), ("/large", 3 * MIB + 5000)):
            model = Model(volume, name)
            model.write(0, b"\xaa" * top)
            model.truncate(top - 3000)
            model.truncate(top)
            model.judge()
            model.truncate(top - 3000)
            model.write(top - 100, b"tail")
            model.judge()


def test_a_file_past_double_indirection_is_sparse(tmp_path: Path) -> None:
    paths = make(tmp_path)
    spots = {
        0: b"first", 255 * MIB: b"last direct", 256 * MIB: b"first behind", GIB - 3: b"across", 250 * GIB: b"far",
    }  # fmt: skip
    with opened(paths) as volume:
        volume.create("/f")
        with volume.open_for_write("/f") as file:
            for offset, data in spots.items():
                file.write(offset, [data])
            for offset, data in spots.items():
                assert file.bytes_at(offset, len(data)) == data
            assert file.bytes_at(200 * GIB, 1000) == bytes(1000)
        fd = volume.lookup("/f")
        assert (fd.zla, fd.num_blocks, fd.length) == (3, 6, 250 * GIB + 3)
        assert volume.statistics()["pointer_block"][1] == SMALL.pbs - 3
    agree(paths)
    with peers.dissected(paths, 128 * 512) as seen, Volume.open(paths) as volume:
        theirs, ours = seen.get("/f").open(), volume.open_file(volume.lookup("/f"))
        for offset, data in spots.items():
            theirs.seek(offset)
            assert theirs.read(len(data)) == ours.bytes_at(offset, len(data)) == data
    with opened(paths) as volume:
        with volume.open_for_write("/f") as file:
            file.truncate(256 * MIB + 5)
        assert volume.statistics()["pointer_block"][1] == SMALL.pbs - 1
        volume.remove("/f")
        assert volume.statistics()["pointer_block"][1] == SMALL.pbs
    agree(paths)


@pytest.mark.parametrize("block_size", [1, 8])
def test_a_file_cannot_be_longer_than_its_blocks_reach(tmp_path: Path, block_size: int) -> None:
    with opened(make(tmp_path, block_size=block_size * MIB)) as volume:
        volume.create("/f")
        top = min(block_size << 38, (2 << 40) - 512)
        with volume.open_for_write("/f") as file:
            file.truncate(top)
            with pytest.raises(FileTooLarge):
                file.truncate(top + 1)
            with pytest.raises(FileTooLarge):
                file.write(top, [b"x"])
            assert file.size == top


@pytest.mark.parametrize("kind", [Provision.THICK, Provision.ZEROED_THICK, Provision.EAGER_ZEROED_THICK])
def test_provisions(tmp_path: Path, kind: Provision) -> None:
    paths = make(tmp_path)
    size = 20 * MIB + 100
    with opened(paths) as volume:
        volume.create("/old")
        with volume.open_for_write("/old") as file:
            file.write(0, [b"\xee" * 100 * MIB])
        volume.remove("/old")
        volume.create("/disk-flat.vmdk")
        with volume.open_for_write("/disk-flat.vmdk") as file:
            file.reserve(size, kind)
            fd = volume.lookup("/disk-flat.vmdk")
            assert (fd.length, fd.num_blocks, fd.tbz) == (size, 21, 21 if kind is Provision.ZEROED_THICK else 0)
            assert len(file.map()) == 1
            if kind is not Provision.THICK:
                assert file.bytes_at(0, size) == bytes(size)
            file.write(3 * MIB + 5, [b"data"])
            file.write(7 * MIB, [bytes([7]) * 2 * MIB])
            assert volume.lookup("/disk-flat.vmdk").tbz == (18 if kind is Provision.ZEROED_THICK else 0)
            if kind is not Provision.THICK:
                assert file.bytes_at(3 * MIB, 100) == b"\0\0\0\0\0data".ljust(100, b"\0")
                assert file.bytes_at(10 * MIB, MIB) == bytes(MIB)
    assert check(paths) == []
    tbz = 18 if kind is Provision.ZEROED_THICK else 0
    assert peers.fsck(paths) == {**CLEAN, "Lost blocks": tbz}
    with Volume.open(paths) as volume:
        assert get(volume, "/disk-flat.vmdk") == peers.debugvmfs(paths, "cat", "/disk-flat.vmdk")
        map_ = volume.map(volume.lookup("/disk-flat.vmdk"))
        assert int(map_.length[map_.kind == Kind.TBZ].sum()) == tbz * MIB


def test_a_thick_file_of_ten_gigabytes_takes_many_transactions(tmp_path: Path) -> None:
    paths = make(tmp_path, 12 * GIB, counts=None)
    with opened(paths) as volume:
        volume.create("/disk")
        with volume.open_for_write("/disk") as file:
            file.reserve(10 * GIB, Provision.THICK)
            assert len(file.map().length) <= 2
            assert volume.session.transactions.sequence > 1 or len(volume.session.transactions.sectors) < 1000
        assert volume.lookup("/disk").num_blocks == 10240
        volume.remove("/disk")
    agree(paths)
    assert allocated(paths[0]) < 32 * MIB


def test_a_full_volume_takes_what_fits_and_stays_right(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        volume.create("/a")
        with volume.open_for_write("/a") as file:
            with pytest.raises(VolumeFull, match="file blocks"):
                file.reserve(300 * MIB, Provision.THICK)
            with pytest.raises(VolumeFull):
                file.write(299 * MIB, [b"x"])
            file.write(0, [b"what it has can be written"])
        assert volume.free_bytes() == KEPT_BLOCKS * MIB
        volume.create("/b")
        with volume.open_for_write("/b") as small:
            small.write(0, [b"a sub-block is left"])
            with pytest.raises(VolumeFull):
                small.write(0, [bytes(SB + 1)])
        assert get(volume, "/b") == b"a sub-block is left"
    with opened(paths) as volume, opened(paths) as other:
        other.settle()
        volume.remove("/a")
        put(volume, "/c", bytes(MIB + 1))
        volume.settle()
    agree(paths)


def test_without_pointer_blocks_a_file_stays_below_them(tmp_path: Path) -> None:
    paths = make(tmp_path, counts=Counts(fds=64, pbs=1, sbs=4, fds_per_cluster=32))
    with opened(paths) as volume:
        put(volume, "/a", b"x", 300 * MIB)
        volume.create("/b")
        with volume.open_for_write("/b") as file:
            file.write(0, [bytes(SB + 1)])
            with pytest.raises(VolumeFull, match="pointer blocks"):
                file.write(300 * MIB, [b"x"])
            assert file.size == SB + 1
    agree(paths)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with opened(make(tmp_path)) as volume:
        volume.mkdir("/d")
        volume.create_rdm("/lun", bytes(78), 1 << 30)
        for path, kind in (
            ("/d", IsADirectory), ("/lun", NoContents), ("/.fbb.sf", SystemFileRefused), ("/none", NoSuchFile),
        ):  # fmt: skip
            with pytest.raises(kind):
                volume.open_for_write(path)
        volume.create("/f")
        with volume.open_for_write("/f") as file, pytest.raises(FileLocked, match="this opening"):
            volume.open_for_write("/f")
        with pytest.raises(RingfenceError, match="closed"):
            file.write(0, [b"x"])


def test_readers_share_a_file_and_keep_writers_out(tmp_path: Path) -> None:
    with opened(make(tmp_path)) as volume:
        put(volume, "/f", b"contents")
        first = volume.open_file(volume.lookup("/f"), lock="read")
        second = volume.open_file(volume.lookup("/f"), lock="read")
        assert first.bytes_at(0, 8) == second.bytes_at(0, 8) == b"contents"
        for _ in range(2):
            with pytest.raises(FileLocked):
                volume.open_for_write("/f")
            first.close()
        second.close()
        put(volume, "/f", b"written")


def test_several_writers_write_blocks_that_are_there(tmp_path: Path) -> None:
    with opened(make(tmp_path)) as volume:
        volume.create("/f")
        with volume.open_for_write("/f") as file:
            file.reserve(3 * MIB, Provision.EAGER_ZEROED_THICK)
        with volume.open_for_write("/f", shared=True) as one, volume.open_for_write("/f", shared=True) as two:
            one.write(MIB, [b"one"])
            two.write(2 * MIB, [b"two"])
            assert two.bytes_at(MIB, 3) == b"one"
            with pytest.raises(PathError, match="several writers"):
                one.write(3 * MIB, [b"x"])


def test_threads_write_one_file_at_once(tmp_path: Path) -> None:
    paths = make(tmp_path)
    data = [random.Random(number).randbytes(700_000) for number in range(8)]
    with opened(paths) as volume:
        volume.create("/f")
        with volume.open_for_write("/f") as file:

            def work(number: int) -> None:
                for at in range(0, len(data[number]), 50_000):
                    file.write(number * len(data[0]) + at, [data[number][at : at + 50_000]])

            threads = [threading.Thread(target=work, args=(number,)) for number in range(len(data))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert get(volume, "/f") == b"".join(data)
    agree(paths)


def test_blocks_of_a_file_lie_one_behind_the_other(tmp_path: Path) -> None:
    with opened(make(tmp_path, GIB)) as volume:
        for name in ("/a", "/b"):
            put(volume, name, bytes(30 * MIB))
            assert len(volume.map(volume.lookup(name))) == 1


def test_without_the_byte_for_later_readers_it_stays_zero(tmp_path: Path) -> None:
    paths = make(tmp_path, ONE_EXTENT, reader_shift=False)
    with opened(paths) as volume:
        volume.mkdir("/d")
        put(volume, "/d/f", bytes(MIB + 1))
        assert [volume.lookup(path).block_offset_shift for path in ("/d", "/d/f")] == [0, 0]
    agree(paths)


def test_a_file_in_more_clusters_than_one_operation_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make(tmp_path, 3 * GIB, counts=SMALL)
    monkeypatch.setattr(Operation, "clusters_max", property(lambda operation: 3))
    with opened(paths) as volume:
        free = volume.statistics()
        for path in ("/removed", "/shortened"):
            volume.create(path)
            with volume.open_for_write(path) as file:
                file.reserve(1100 * MIB, Provision.THICK)
                file.write(1000 * MIB, [b"far"])
        with volume.open_for_write("/shortened") as file:
            file.truncate(10)
            assert file.bytes_at(0, 100) == file.bytes_at(0, 10)
        assert volume.lookup("/shortened").num_blocks == 1
        for path in ("/removed", "/shortened"):
            volume.remove(path)
        assert volume.statistics() == free
    agree(paths)


def test_threads_change_one_volume_beside_its_own(tmp_path: Path) -> None:
    paths = make(tmp_path)
    failures: list[BaseException] = []
    with open_for_writing(paths) as volume:

        def work(number: int) -> None:
            try:
                for step in range(25):
                    put(volume, f"/{number}-{step}", b"%d" % step * 40_000)
                    if step % 3 == 0:
                        volume.sync()
                    if step > 2:
                        volume.remove(f"/{number}-{step - 2}")
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(volume.entries(volume.root)) == 5 + 4 * 3
    agree(paths)
