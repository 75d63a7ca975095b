"""An image that was cut short: what is there is read, what is not is named, and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.errors import MediaError
from tests.tools.command import ringfence_here
from tests.vmkernel.storage.vmfs3.hosts import GIB, MIB, get, make, opened, put
from vmkernel.storage.vmfs3.descriptor_spec import AddressType
from vmkernel.storage.vmfs3.errors import IncompleteVolume
from vmkernel.storage.vmfs3.new_devices import Placement
from vmkernel.storage.vmfs3.volume import Volume

HERE, LOST = b"near" * 50_000, b"far" * 100_000


def cut(tmp_path: Path, placement: Placement) -> Path:
    """A volume that is cut where the last file lies."""
    (image,) = paths = make(tmp_path, GIB, placement=placement)
    with opened(paths) as volume:
        pool = volume.session.pools[AddressType.FILE_BLOCK]
        pool.cursor = 0
        volume.mkdir("/d")
        put(volume, "/d/here", HERE)
        put(volume, "/d/zz last", b"small")
        pool.cursor = volume.fbb.clusters - 1
        put(volume, "/d/lost", LOST)
        lun, place = volume.lv.lun_at(volume.map(volume.lookup("/d/lost")).position(0))
        left = lun.base + place + 1000
        assert left > volume.map(volume.lookup("/d/here")).position(0) + 64 * MIB
    os.truncate(image, left)
    return image


@pytest.mark.parametrize("placement", [Placement.NEW_PARTITION, Placement.WHOLE_DEVICE])
def test_what_is_there_is_read(tmp_path: Path, placement: Placement) -> None:
    image = cut(tmp_path, placement)
    before = image.stat()
    with Volume.open([image]) as volume:
        assert [lun.path for lun, missing in volume.lv.missing() if missing > 0] == [image]
        assert [entry.name for entry in volume.entries(volume.lookup("/d"))] == ["here", "zz last", "lost"]
        assert get(volume, "/d/here") == HERE
        with pytest.raises(MediaError, match=rf"the image ends before, after {before.st_size} bytes"):
            get(volume, "/d/lost")
    for attempt in (lambda: opened([image]), lambda: Volume.open([image], writable=True)):
        with pytest.raises(IncompleteVolume, match="it was cut short, and can only be read"):
            attempt()
    assert image.stat() == before


def test_a_tree_is_copied_but_for_what_is_lost(tmp_path: Path) -> None:
    image = cut(tmp_path, Placement.NEW_PARTITION)
    done = ringfence_here("vmfs", "cp", "-r", f"{image}:/d", str(tmp_path / "copy"))
    warning, line = done.stderr.splitlines()
    assert done.returncode == 1
    assert "it was cut short" in warning
    assert line.startswith(f"ringfence: warning: not copied: {image}:/d/lost: ") and "the image ends before" in line
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"here", "zz last"}
    assert (tmp_path / "copy/here").read_bytes() == HERE
    for words, status in (
        (("info", str(image)), 0), (("ls", "-lR", str(image)), 0),
        (("cp", f"{image}:/d/here", str(tmp_path / "same")), 0), (("cp", f"{image}:/d/lost", str(tmp_path / "one")), 2),
        (("mkdir", f"{image}:/new"), 2), (("undelete", str(image)), 0),
        (("extract", f"{image}:/d", str(tmp_path / "out")), 1),
    ):  # fmt: skip
        assert ringfence_here("vmfs", *words).returncode == status, words
    assert (tmp_path / "out/lost").read_bytes() == bytes(len(LOST))
    command = [sys.executable, "-m", "tools.ringfence", "vmfs", "cat", f"{image}:/d/lost"]
    cat = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert cat.returncode == 2 and f"{image}:/d/lost: " in cat.stderr
    assert not (tmp_path / "one").exists()
