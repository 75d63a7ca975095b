"""Copying trees: what is copied, what is refused, what is passed over. The host's own files are the judge."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import BadInput, HostRefused
from tests.vmkernel.storage.vmfs3.damaged import HEAD, TAIL, Sound
from tests.vmkernel.storage.vmfs3.specimen import MIB, Specimen
from vmkernel.storage.errors import HostTrouble, OutOfSpace
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.tree_copy import IsAFolder, TreeCopy
from vmkernel.storage.vmfs3.tree_ends import HostFolder, HostNode, VolumeNode
from vmkernel.storage.vmfs3.volume import Volume


def copy_out(paths: list[Path], path: str, target: Path, **options: Any) -> TreeCopy:
    told: list[str] = []
    copy = TreeCopy(**options)
    with Volume.open(paths) as volume:
        fd = volume.lookup(path, follow=False)
        node = VolumeNode(volume, path, path, fd, told.append if copy.going_on else None)
        copy.run(node, HostFolder(target.parent), target.name, recursive=True)
    copy.report.skipped += told
    return copy


def test_a_volume_is_copied_with_its_holes(tmp_path: Path) -> None:
    sound = Sound(tmp_path)
    steps: list[tuple[int, int]] = []
    copy = copy_out(sound.paths, "/", tmp_path / "out", progress=lambda done, whole: steps.append((done, whole)))
    out = tmp_path / "out"
    assert (out / "vm/disk").read_bytes() == HEAD + bytes(8 * MIB) + TAIL
    assert (out / "vm/disk").stat().st_blocks * 512 == 2 * MIB  # neither holes nor what was never written
    assert (out / "vm/large").stat().st_size == 300 * MIB and (out / "vm/large").stat().st_blocks * 512 == 2 * MIB
    assert (out / "link").readlink() == Path("vm/small") and (out / "deeper/deep/inner").read_bytes() == b"deep down"
    assert not any(path.name.endswith(".sf") for path in out.iterdir())
    assert steps[-1] == (copy.report.data_bytes, copy.report.data_bytes)
    assert [text for text in copy.report.skipped if "/raw" in text]  # a raw device mapping has nothing to copy
    assert (out / "vm").stat().st_mtime == (out / "note").stat().st_mtime == 0x49EDF8C8


def test_a_folder_needs_to_be_meant(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    with pytest.raises(IsAFolder):
        TreeCopy().run(HostNode(tmp_path / "from"), HostFolder(tmp_path), "to", recursive=False)


def test_a_folder_within_itself_ends(tmp_path: Path) -> None:
    volume = Specimen(tmp_path)
    folder = volume.mkdir("a")
    folder.entries.append((2, volume.address(folder), folder.generation, b"again"))
    volume.finish()
    with pytest.raises(BadInput, match="a loop"):
        copy_out(volume.paths, "/", tmp_path / "one")
    copy = copy_out(volume.paths, "/", tmp_path / "two", going_on=True)
    assert any("a loop" in text for text in copy.report.skipped) and (tmp_path / "two/a").is_dir()


def test_links_of_the_host_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "there").symlink_to("outside")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(HostRefused):
        TreeCopy().run(HostNode(tmp_path / "file"), HostFolder(tmp_path), "there", recursive=False)
    with pytest.raises(HostRefused):
        TreeCopy(replace=True).run(HostNode(tmp_path / "outside"), HostFolder(tmp_path), "there", recursive=True)
    TreeCopy(replace=True).run(HostNode(tmp_path / "file"), HostFolder(tmp_path), "there", recursive=False)
    assert (tmp_path / "there").read_bytes() == b"x" and not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(HostRefused):
        TreeCopy().run(HostNode(tmp_path / "file"), HostFolder(tmp_path / "folder"), name, recursive=False)
    assert not list((tmp_path / "folder").iterdir())


def test_what_cannot_be_read_is_zeros_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Sound(tmp_path)
    bad = 0x1100000 + (sound.other.words[1] >> 6) * MIB
    read = Lun.read

    def fail(lun: Lun, offset: int, views: list[memoryview]) -> None:
        if offset <= bad < offset + sum(map(len, views)):
            raise HostTrouble(lun.path, offset, "a bad sector")
        read(lun, offset, views)

    monkeypatch.setattr(Lun, "read", fail)
    copy = copy_out(sound.paths, "/other", tmp_path / "other", going_on=True)
    assert (tmp_path / "other").stat().st_size == 2 * MIB
    assert len(copy.report.skipped) == 1 and "a bad sector" in copy.report.skipped[0]
    with pytest.raises(HostTrouble):
        copy_out(sound.paths, "/other", tmp_path / "strict")
    assert not (tmp_path / "strict").exists()


def test_what_the_host_cannot_keep_is_passed_over_but_want_of_room_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Sound(tmp_path)
    truncate = os.ftruncate

    def fail(number: int) -> Any:
        def one(fd: int, length: int) -> None:
            if length == 300 * MIB:
                raise OSError(number, os.strerror(number))
            truncate(fd, length)

        return one

    monkeypatch.setattr(os, "ftruncate", fail(errno.EFBIG))
    copy = copy_out(sound.paths, "/", tmp_path / "out", going_on=True)
    assert any("/vm/large" in text and "too large" in text for text in copy.report.skipped)
    assert (tmp_path / "out/vm/disk").exists() and not (tmp_path / "out/vm/large").exists()
    with pytest.raises(HostRefused):
        copy_out(sound.paths, "/", tmp_path / "out", going_on=True)  # it is there already
    monkeypatch.setattr(os, "ftruncate", fail(errno.ENOSPC))
    with pytest.raises(OutOfSpace):
        copy_out(sound.paths, "/", tmp_path / "full", going_on=True)


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(MIB))
    node = HostNode(tmp_path / "file")
    with node.content() as content:
        os.truncate(tmp_path / "file", 10)
        with pytest.raises(HostTrouble, match="became shorter"):
            content.read(0, memoryview(bytearray(100)))
