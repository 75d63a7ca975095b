"""Names of a volume: made, moved, removed; what is refused; and what the other readers see of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.hosts import GIB, MIB, get, make, opened, put, tree
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.errors import (
    AlreadyThere,
    BadName,
    FileLocked,
    IsADirectory,
    LinkLoop,
    NoSuchFile,
    NotADirectory,
    NotEmpty,
    PathError,
    SystemFileRefused,
    VolumeFull,
)
from vmkernel.storage.vmfs3.geometry import Counts
from vmkernel.storage.vmfs3.volume import Volume

DISK_ID = bytes([0, 15, 0, 0, 0, 3]) + b"Sun     VOL1            V1.0vmhba0:C0:T0:L0".ljust(72, b"\0")
CLEAN = {
    "Unallocated blocks": 0, "Lost blocks": 0, "Undefined inodes": 0, "Orphaned inodes": 0, "Directory errors": 0,
}  # fmt: skip


def agree(paths: list[Path]) -> None:
    """Everybody finds the volume right."""
    assert check(paths) == []
    assert peers.bitmap_errors(paths) == 0
    assert peers.fsck(paths) == CLEAN


def test_files_and_directories_are_where_they_were_made(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        volume.mkdir("/vm")
        volume.mkdir("/vm/deep/".rstrip("/"))
        volume.create("/vm/deep/a.vmx", 0o755)
        put(volume, "/vm/Grüße", b"hello")
        volume.symlink("vm/deep", "/short")
        volume.create_rdm("/vm/lun.vmdk", DISK_ID, 5 << 30)
        put(volume, "/short/b", b"by way of the link")
    agree(paths)
    with Volume.open(paths) as volume:
        assert sorted(tree(volume)) == [
            "/short", "/vm", "/vm/Grüße", "/vm/deep", "/vm/deep/a.vmx", "/vm/deep/b", "/vm/lun.vmdk",
        ]  # fmt: skip
        assert volume.lookup("/vm/deep/a.vmx").stored_mode == 0o100755
        assert volume.lookup("/vm").nlink == 3
        assert volume.lookup("/vm/lun.vmdk").length == 5 << 30
    assert peers.debugvmfs(paths, "cat", "/vm/deep/b") == b"by way of the link"
    with peers.dissected(paths, 128 * 512) as seen:
        assert peers.dissect_reads(seen, "/vm/Grüße") == b"hello"
        assert bytes(seen.get("/vm/lun.vmdk").rdm_mapping.diskId.id).startswith(b"vmhba0:C0:T0:L0")


def test_ten_thousand_names_in_a_directory(tmp_path: Path) -> None:
    paths = make(tmp_path, 3 * GIB, counts=None)
    names = [f"file number {number}" for number in range(10_000)]
    with opened(paths) as volume:
        volume.mkdir("/many")
        for name in names:
            volume.create(f"/many/{name}")
        for name in names[::50]:
            volume.remove(f"/many/{name}")
    left = {name for index, name in enumerate(names) if index % 50}
    agree(paths)
    with Volume.open(paths) as volume:
        assert {entry.name for entry in volume.entries(volume.lookup("/many"))} == left
    assert set(peers.debugvmfs(paths, "ls", "/many").decode().split("\n")) == left | {".", "..", ""}


@pytest.mark.parametrize("count", [466, 467, 468, 500])
def test_a_directory_moves_to_file_blocks_when_it_outgrows_its_sub_block(tmp_path: Path, count: int) -> None:
    paths = make(tmp_path, counts=Counts(fds=600, pbs=16, sbs=64, fds_per_cluster=32))
    with opened(paths) as volume:
        volume.mkdir("/d")
        for number in range(count):
            volume.create(f"/d/{number}")
        assert volume.lookup("/d").zla == (2 if count <= 466 else 1)
    agree(paths)
    with Volume.open(paths) as volume:
        assert len(volume.entries(volume.lookup("/d"))) == count


def test_a_deep_tree(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        path = ""
        for number in range(60):
            path += f"/level{number}"
            volume.mkdir(path)
        put(volume, f"{path}/bottom", b"deep down")
    agree(paths)
    assert peers.debugvmfs(paths, "cat", f"{path}/bottom") == b"deep down"


def test_renaming(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        for path in ("/a", "/b", "/a/sub", "/empty"):
            volume.mkdir(path)
        put(volume, "/a/file", b"1")
        put(volume, "/b/other", b"2")
        volume.rename("/a/file", "/a/file")
        volume.rename("/a/file", "/a/name")
        volume.rename("/a/name", "/b/other")
        volume.rename("/a/sub", "/b/sub")
        volume.rename("/a", "/b/sub/a")
        volume.rename("/b/sub/a", "/empty")
        assert get(volume, "/b/other") == b"1"
        assert sorted(tree(volume)) == ["/b", "/b/other", "/b/sub", "/empty"]
        assert (volume.lookup("/b").nlink, volume.lookup("/b/sub").nlink, volume.root.nlink) == (3, 2, 4)
        for old, new, kind in (
            ("/b", "/b/sub/in", PathError), ("/b/other", "/b/sub", IsADirectory), ("/b/sub", "/b/other", NotADirectory),
            ("/empty", "/b", NotEmpty), ("/none", "/x", NoSuchFile), ("/.fdc.sf", "/x", SystemFileRefused),
            ("/b/other", "/.fdc.sf", SystemFileRefused), ("/b/other", "/none/x", NoSuchFile),
        ):  # fmt: skip
            with pytest.raises(kind):
                volume.rename(old, new)
    agree(paths)


def test_several_renames_happen_together_or_not_at_all(tmp_path: Path) -> None:
    with opened(make(tmp_path)) as volume:
        put(volume, "/a", b"a")
        put(volume, "/b", b"b")
        volume.rename_all([("/a", "/t"), ("/b", "/a"), ("/t", "/b")])
        assert (get(volume, "/a"), get(volume, "/b")) == (b"b", b"a")
        with pytest.raises(NoSuchFile):
            volume.rename_all([("/a", "/t"), ("/none", "/a")])
        assert (get(volume, "/a"), volume.exists("/t")) == (b"b", False)


def test_a_removed_file_gives_everything_back(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        before = volume.statistics()
        put(volume, "/large", bytes(5 * MIB), 300 * MIB)
        volume.mkdir("/d")
        put(volume, "/d/small", b"x")
        assert volume.statistics() != before
        for path in ("/large", "/d/small"):
            volume.remove(path)
        volume.rmdir("/d")
        assert volume.statistics() == before
    agree(paths)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", AlreadyThere), ("/", AlreadyThere), ("/.", BadName), ("/..", BadName), ("/a\0b", BadName),
        ("/" + "x" * 128, BadName), ("/" + "ü" * 64, BadName), ("/\udcff", BadName), ("/there", AlreadyThere),
        ("/there/x", NotADirectory), ("/none/x", NoSuchFile), ("/loop/x", LinkLoop), ("/.fbb.sf", AlreadyThere),
    ],
)  # fmt: skip
def test_names_that_cannot_be_made(tmp_path: Path, name: str, kind: type[RingfenceError]) -> None:
    with opened(make(tmp_path)) as volume:
        volume.create("/there")
        volume.symlink("loop", "/loop")
        for make_it in (volume.create, volume.mkdir):
            with pytest.raises(kind) as raised:
                make_it(name)
            assert "\n" not in str(raised.value)


def test_the_longest_name(tmp_path: Path) -> None:
    paths = make(tmp_path)
    name = "ü" * 63 + "x"
    with opened(paths) as volume:
        put(volume, f"/{name}", b"!")
    assert peers.debugvmfs(paths, "cat", f"/{name}") == b"!"


def test_what_cannot_be_removed(tmp_path: Path) -> None:
    with opened(make(tmp_path)) as volume:
        volume.mkdir("/d")
        volume.create("/d/f")
        for act, path, kind in (
            (volume.remove, "/d", IsADirectory), (volume.rmdir, "/d", NotEmpty), (volume.rmdir, "/d/f", NotADirectory),
            (volume.remove, "/none", NoSuchFile), (volume.remove, "/.vh.sf", SystemFileRefused),
        ):  # fmt: skip
            with pytest.raises(kind):
                act(path)
        with volume.open_for_write("/d/f"), pytest.raises(FileLocked, match="this opening"):
            volume.remove("/d/f")
        volume.remove("/d/f")


def test_a_volume_without_descriptors_says_so_and_stays_right(tmp_path: Path) -> None:
    paths = make(tmp_path, counts=Counts(fds=40, pbs=2, sbs=64, fds_per_cluster=32))
    with opened(paths) as volume:
        with pytest.raises(VolumeFull, match="all 40 file descriptors"):
            for number in range(100):
                volume.create(f"/{number}")
        assert len(tree(volume)) == 34
        volume.remove("/7")
        volume.create("/again")
        with pytest.raises(VolumeFull):
            volume.mkdir("/more")
    agree(paths)


def test_without_sub_blocks_small_files_and_directories_take_file_blocks(tmp_path: Path) -> None:
    paths = make(tmp_path, counts=Counts(fds=64, pbs=2, sbs=3, fds_per_cluster=32))
    with opened(paths) as volume:
        for number in range(6):
            put(volume, f"/f{number}", b"small %d" % number)
        volume.mkdir("/d")
        volume.create("/d/inside")
        assert [volume.lookup(f"/f{number}").zla for number in range(6)] == [2, 2, 2, 1, 1, 1]
        assert volume.lookup("/d").zla == 1
    agree(paths)
    assert peers.debugvmfs(paths, "cat", "/f5") == b"small 5"


def test_modes_owners_and_times(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        volume.create("/f")
        volume.chmod("/f", 0o4711)
        volume.chown("/f", 12, 34)
        volume.set_times("/f", mtime=1_000_000_000, atime=1_100_000_000)
        volume.chmod("/", 0o700)
        with pytest.raises(SystemFileRefused):
            volume.chmod("/.fbb.sf", 0o777)
    with Volume.open(paths) as volume:
        fd = volume.lookup("/f")
        assert (fd.mode, fd.uid, fd.gid, fd.mtime, fd.atime) == (0o104711, 12, 34, 1_000_000_000, 1_100_000_000)
        assert volume.root.mode & 0o7777 == 0o700
    agree(paths)
