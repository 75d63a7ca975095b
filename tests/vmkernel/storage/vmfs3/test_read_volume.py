"""Opening a volume, its files by path, its directories: what was put in is found, whole and in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.vmfs3.filled import BIG_BLOCKS, DISK_ID, RDM_BYTES, Filled, small
from tests.vmkernel.storage.vmfs3.specimen import FS_UUID, MIB, NOW, PE, Specimen
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.vmfs3.descriptor_spec import FileType, SystemFile, ZeroLevel
from vmkernel.storage.vmfs3.errors import LinkLoop, NoContents, NoSuchFile, NotADirectory
from vmkernel.storage.vmfs3.file_map import Kind
from vmkernel.storage.vmfs3.volume import Volume

SHAPES = {
    "1 MB": {}, "2 MB, 3 devices": {"block_size": 2 * MIB, "pes": (1, 2, 1)},
    "4 MB": {"block_size": 4 * MIB, "partitioned": False}, "8 MB": {"block_size": 8 * MIB, "pes": (1, 1)},
    "fragmented": {"fragmented": True}, "without shift": {"shift": False},
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    shape = SHAPES[request.param]
    pes = shape.get("pes", (1,))
    return Filled(tmp_path_factory.mktemp("filled"), **{**shape, "pes": pes})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    return Filled(tmp_path_factory.mktemp("plain"))


def walk(volume: Volume) -> dict[str, FileType]:
    found, left = {"/": FileType.DIRECTORY}, ["/"]
    while left:
        path = left.pop()
        for entry in volume.entries(volume.lookup(path)):
            below = f"{path.rstrip('/')}/{entry.name}"
            found[below] = entry.type
            if entry.type == FileType.DIRECTORY:
                left.append(below)
    return found


def test_every_file_is_found_and_read_whole(filled: Filled) -> None:
    with Volume.open(filled.paths) as volume:
        found = walk(volume)
        system = {path for path, kind in found.items() if kind == FileType.SYSTEM}
        assert system == {"/.fbb.sf", "/.fdc.sf", "/.pbc.sf", "/.sbc.sf", "/.vh.sf"}
        assert {path for path, kind in found.items() if kind == FileType.DIRECTORY} == set(filled.directories)
        assert {path for path, kind in found.items() if kind == FileType.SYMLINK} == filled.links.keys()
        regular = {path for path, kind in found.items() if kind == FileType.REGULAR}
        assert regular == {*filled.files, "/big"}
        for path, data in filled.files.items():
            file = volume.open_file(volume.lookup(path))
            assert file.size == len(data)
            assert file.bytes_at(0, len(data) + 10) == data, path


def test_reads_of_any_place_and_cut_agree(filled: Filled) -> None:
    with Volume.open(filled.paths) as volume:
        for path in ("/zeroed", "/thin", "/pointed", "/blocks", "/folder/sub14"):
            file, data = volume.open_file(volume.lookup(path)), filled.files[path]
            size = len(data)
            for start, length in ((0, 1), (5, 70000), (size // 2 - 3, 4097), (size - 7, 7), (size - 3, 9)):
                views = [memoryview(bytearray(part)) for part in (1, 0, length // 2, length)]
                wanted = data[start : start + sum(map(len, views))]
                assert file.read(start, views) == len(wanted)
                assert b"".join(views)[: len(wanted)] == wanted
            assert file.read(len(data) + 5, [memoryview(bytearray(5))]) == 0


def test_a_large_file_is_read_through_its_pointer_blocks(filled: Filled) -> None:
    size = filled.made.block_size
    with Volume.open(filled.paths) as volume:
        fd = volume.lookup("/big")
        file = volume.open_file(fd)
        assert (fd.zla, fd.length, fd.tbz) == (ZeroLevel.POINTER_BLOCK, BIG_BLOCKS * size, 1)
        for index in (0, 1, 1022, 1023, 1024, 1025, 1026, 2048, 2998, 2999):
            wanted = filled.big.get(index, b"")
            assert file.bytes_at(index * size, 20) == wanted.ljust(20, b"\0")
        assert file.map().allocated() == 5 * size
        assert file.map().data() == 4 * size


def test_a_map_has_one_row_for_what_lies_together(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        rows = volume.map(volume.lookup("/big"))
        kinds = [Kind.DATA, Kind.HOLE, Kind.DATA, Kind.TBZ, Kind.HOLE, Kind.DATA]
        assert rows.kind.tolist() == kinds
        assert (rows.length // MIB).tolist() == [1, 1022, 2, 1, 1973, 1]
        assert (rows.file_offset // MIB).tolist() == [0, 1, 1023, 1025, 1026, 2999]
        assert rows.size == BIG_BLOCKS * MIB


def test_runs_say_where_on_which_device(tmp_path: Path) -> None:
    made = Specimen(tmp_path, pes=(1, 1))
    made.fbb.used = 254
    made.sparse("over", 5 * MIB, {0: b"a", 1: b"b", 2: b"c", 4: b"d"})
    paths = made.finish()
    with Volume.open(paths) as volume:
        runs = volume.map(volume.lookup("/over")).runs(100, 5 * MIB - 100)
        assert [(run.lun and run.lun.path, run.length) for run in runs] == [
            (paths[0], 2 * MIB - 100), (paths[1], MIB), (None, MIB), (paths[1], MIB),
        ]  # fmt: skip
        starts = [run.lun.bytes_at(run.offset - 100 * (index == 0), 1) for index, run in enumerate(runs) if run.lun]
        assert starts == [b"a", b"c", b"d"]


def test_positions_of_many_bytes_are_found_at_once(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        rows = volume.map(volume.lookup("/zeroed"))
        at = rows.positions(np.array([0, 5, MIB, 3 * MIB + 1, 4 * MIB, 1 << 40]))
        assert volume.lv.bytes_at(int(at[3]) - 1, 4) == b"tail"
        assert at[1] == at[0] + 5
        assert at[[2, 4, 5]].tolist() == [-1, -1, -1]


def test_symbolic_links_are_followed(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        for path, target in plain.links.items():
            link = volume.lookup(path, follow=False)
            assert link.is_symlink
            assert volume.readlink(link) == target
        assert volume.lookup("/folder/deep/up").address == volume.lookup("/folder/sub0").address
        assert volume.lookup("/absolute").address == volume.lookup("/folder/sub1").address
        with pytest.raises(LinkLoop, match="/loop: too many symbolic links"):
            volume.lookup("/loop")
        with pytest.raises(NoSuchFile, match=r"/away: a symbolic link to .* which is not on this volume"):
            volume.lookup("/away")


@pytest.mark.parametrize(("path", "same"), [
    ("/", "/"), ("", "/"), ("//folder///deep/", "/folder/deep"), ("/folder/../folder/./deep/er/..", "/folder/deep"),
    ("/..", "/"), ("folder", "/folder"), ("/folder/deep/../../../../small.vmx", "/small.vmx"),
])  # fmt: skip
def test_paths_mean_what_they_mean_elsewhere(plain: Filled, path: str, same: str) -> None:
    with Volume.open(plain.paths) as volume:
        assert volume.lookup(path).address == volume.lookup(same).address


@pytest.mark.parametrize(("path", "kind", "text"), [
    ("/none", NoSuchFile, "/none: no such file or directory"), ("/folder/x", NoSuchFile, "/folder/x: no such"),
    ("/small.vmx/x", NotADirectory, "/small.vmx/x: not a directory"), ("/small.vmx/", NotADirectory, "not a directory"),
    ("/FOLDER", NoSuchFile, "/FOLDER: no such file"), ("/\udfff\ud800", NoSuchFile, "no such file"),
    ("/" + "x" * 200, NoSuchFile, "no such file"), ("/small.vmx\0", NoSuchFile, "no such file"),
])  # fmt: skip
def test_what_is_not_there_is_named(plain: Filled, path: str, kind: type[Exception], text: str) -> None:
    with Volume.open(plain.paths) as volume:
        with pytest.raises(kind, match=text):
            volume.lookup(path)
        assert not volume.exists(path)


def test_a_directory_lists_its_entries_in_the_order_of_the_disk(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        folder = volume.lookup("/folder")
        names = [entry.name for entry in volume.entries(folder)]
        assert names == ["deep", *(f"sub{number}" for number in range(18))]
        dots = volume.entries(folder, dots=True)[:2]
        assert [(entry.name, entry.address) for entry in dots] == [(".", folder.address), ("..", SystemFile.ROOT)]
        assert folder.nlink == 3
        with pytest.raises(NotADirectory):
            volume.entries(volume.lookup("/empty"))


def test_a_listing_has_every_descriptor(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        entries, table = volume.listing(volume.root)
        assert table["address"].tolist() == [entry.address for entry in entries]
        assert table["generation"].tolist() == [entry.generation for entry in entries]
        lengths = {entry.name: int(length) for entry, length in zip(entries, table["length"], strict=True)}
        for path, data in plain.files.items():
            if path.count("/") == 1:
                assert lengths[path[1:]] == len(data)
        each = volume.descriptors([entry.address for entry in entries])
        assert [fd.position for fd in each] == [volume.descriptor(entry.address).position for entry in entries]


def test_a_raw_device_mapping_names_its_device(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        fd = volume.lookup("/mapped")
        assert (fd.is_rdm, fd.length, fd.block_size) == (True, RDM_BYTES, 512)
        assert fd.disk_id.id[:26] == DISK_ID[34:60]
        with pytest.raises(NoContents, match="a raw device mapping has no contents of its own"):
            volume.open_file(fd)


def test_descriptors_tell_all_they_hold(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        fd = volume.lookup("/zeroed")
        assert (fd.type, fd.mode, fd.nlink, fd.uid, fd.gid, fd.flags) == (FileType.REGULAR, 0o100600, 1, 0, 0, 0)
        assert (fd.mtime, fd.ctime, fd.atime) == (NOW, NOW, NOW)
        assert (fd.num_blocks, fd.tbz, fd.cow, fd.block_offset_shift) == (4, 2, 0, 20)
        assert int(fd.lock["position"]) == fd.position
        assert volume.root.mode == 0o41755
        assert volume.lookup("/.fbb.sf").mode == 0o100400


def test_the_volume_tells_what_it_is(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        assert (volume.label, volume.version, volume.block_size, volume.uuid) == ("specimen", 3, MIB, FS_UUID)
        counts = volume.statistics()
        assert counts["file_block"] == (PE // MIB, PE // MIB - plain.made.fbb.used)
        assert counts["file_descriptor"] == (256, 256 - plain.made.fdc.used)
        assert counts["pointer_block"] == (16, 16 - plain.made.pbc.used)
        assert counts["sub_block"] == (64, 64 - plain.made.sbc.used)
        free = volume.fbb.free_map()
        assert len(free) == PE // MIB
        assert free.tolist() == [False] * plain.made.fbb.used + [True] * (PE // MIB - plain.made.fbb.used)


def test_clusters_are_read_one_by_one_and_all_at_once(plain: Filled) -> None:
    with Volume.open(plain.paths) as volume:
        for file in (volume.fbb, volume.fdc, volume.pbc, volume.sbc):
            table = file.cluster_table()
            assert table["number"].tolist() == list(range(file.clusters))
            assert int(table["total"].sum()) == file.total
            assert set(table["lock"]["type"].tolist()) == {int(file.lock_type or 0)}
            for cluster in range(file.clusters):
                one = file.cluster(cluster)
                assert one.tobytes() == table[cluster].tobytes()
                assert int(one["lock"]["position"]) == file.cluster_position(cluster)
            assert file.cluster_table(1, 2).tobytes() == table[1:3].tobytes()


def test_ten_thousand_files_in_one_directory_are_listed(tmp_path: Path) -> None:
    made = Specimen(tmp_path, fds=10_200, fd_per=200, pes=(1,))
    folder = made.mkdir("many")
    for number in range(10_000):
        made.file(f"file-{number:05}", b"", folder)
    with Volume.open(made.finish()) as volume:
        fd = volume.lookup("/many")
        assert fd.zla == ZeroLevel.FILE_BLOCK
        entries, table = volume.listing(fd)
        assert [entry.name for entry in entries] == [f"file-{number:05}" for number in range(10_000)]
        assert table["address"].tolist() == [entry.address for entry in entries]
        assert volume.lookup("/many/file-09999").address == entries[-1].address


def test_a_volume_of_vmfs_6_is_refused_by_name(tmp_path: Path) -> None:
    made = Specimen(tmp_path, partitioned=False)
    path = made.finish()[0]
    with path.open("r+b") as file:
        file.seek(0x1100000 + 0x200004)
        file.write(b"\x18")
    with pytest.raises(Unsupported, match=r"file system: expected VMFS-3 or VMFS-5, found VMFS-6 \(version 24\.31\)"):
        Volume.open([path])


def test_a_file_of_another_is_no_volume(tmp_path: Path) -> None:
    paths = [*small(tmp_path), tmp_path / "x"]
    paths[1].write_bytes(b"x")
    with pytest.raises(RingfenceError, match="x: contents"):
        Volume.open(paths)
