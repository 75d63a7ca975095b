"""What a FUSE mount answers, asked without FUSE: attributes, errors by the host's numbers, files open twice."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vmkernel.storage.vmfs3.damaged import HEAD, Sound
from tests.vmkernel.storage.vmfs3.specimen import MIB
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.fuse_volume import VolumeFolder
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import open_for_writing


def nothing() -> None:
    """What is called once it is mounted."""


@pytest.fixture
def sound(tmp_path: Path) -> Sound:
    return Sound(tmp_path)


@pytest.fixture
def reader(sound: Sound) -> Iterator[VolumeFolder]:
    with Volume.open(sound.paths) as volume:
        yield VolumeFolder(volume, started=nothing, clock=lambda: 0)


@pytest.fixture
def writer(sound: Sound) -> Iterator[VolumeFolder]:
    with open_for_writing(sound.paths, background=False) as volume:
        folder = VolumeFolder(volume, started=nothing, clock=lambda: 10**18)
        yield folder
        folder.close()
    assert check(sound.paths) == []


def number(call: Any, *words: Any) -> int:
    """The error that a call ends with."""
    with pytest.raises(OSError) as caught:
        call(*words)
    assert caught.value.errno is not None
    return caught.value.errno


def test_files_are_read_and_described(reader: VolumeFolder) -> None:
    facts = reader.getattr("/vm/disk")
    assert stat.S_ISREG(facts["st_mode"]) and facts["st_size"] == 10 * MIB and facts["st_blocks"] == 3 * MIB // 512
    assert not facts["st_mode"] & 0o222 and facts["st_uid"] == os.geteuid()
    assert reader.readdir("/vm", 0) == [".", "..", "disk", "large", "small"]
    assert reader.readlink("/link") == "vm/small"
    fh = reader.open("/vm/disk", os.O_RDONLY)
    assert reader.read("/vm/disk", 11, 0, fh) == HEAD[:11] and reader.read("/vm/disk", 5, 10 * MIB, fh) == b""
    assert reader.release("/vm/disk", fh) == 0
    facts = reader.statfs("/")
    assert facts["f_blocks"] == 256 and facts["f_files"] == 256


def test_errors_have_the_hosts_numbers(reader: VolumeFolder) -> None:
    assert number(reader.getattr, "/missing") == errno.ENOENT
    assert number(reader.getattr, "/note/x") == errno.ENOTDIR
    assert number(reader.readdir, "/note", 0) == errno.ENOTDIR
    assert number(reader.readlink, "/note") == errno.EINVAL
    assert number(reader.open, "/vm", os.O_RDONLY) == errno.EISDIR
    assert number(reader.open, "/note", os.O_RDWR) == errno.EROFS
    assert number(reader.mkdir, "/new", 0o755) == errno.EROFS
    assert number(reader.unlink, "/note") == errno.EROFS
    assert number(reader.open, "/raw", os.O_RDONLY) == errno.EIO
    reader.close()
    assert number(reader.getattr, "/") == errno.ESHUTDOWN


def test_a_file_open_twice_is_one_file(writer: VolumeFolder) -> None:
    read = writer.open("/note", os.O_RDONLY)
    write = writer.open("/note", os.O_RDWR)
    writer.write("/note", b"A" * 100_000, 0, write)
    assert writer.read("/note", 4, 99_996, read) == b"AAAA"
    assert writer.getattr("/note")["st_size"] == 100_000
    writer.release("/note", write)
    assert writer.read("/note", 4, 0, read) == b"AAAA"
    writer.truncate("/note", 10)
    assert writer.getattr("/note")["st_size"] == 10
    writer.release("/note", read)
    assert writer.fsync("/note", 0, read) == 0


def test_names_are_made_changed_and_removed(writer: VolumeFolder) -> None:
    fh = writer.create("/new", 0o100640)
    writer.write("/new", b"x", 0, fh)
    writer.release("/new", fh)
    assert stat.S_IMODE(writer.getattr("/new")["st_mode"]) == 0o640
    writer.mkdir("/folder", 0o40700)
    writer.symlink("/folder/link", "../new")
    assert writer.readlink("/folder/link") == "../new"
    writer.rename("/new", "/folder/moved")
    writer.utimens("/folder/moved", (10**18, 2 * 10**18))
    assert writer.getattr("/folder/moved")["st_mtime"] == 2 * 10**18
    assert number(writer.rmdir, "/folder") == errno.ENOTEMPTY
    assert number(writer.mkdir, "/folder", 0o755) == errno.EEXIST
    assert number(writer.unlink, "/.fbb.sf") == errno.EPERM
    assert number(writer.mknod, "/pipe", stat.S_IFIFO | 0o600, 0) == errno.EPERM
    assert number(writer.create, "/" + "n" * 128, 0o100600) in (errno.EINVAL, errno.ENAMETOOLONG)
    writer.unlink("/folder/moved")
    writer.unlink("/folder/link")
    writer.rmdir("/folder")
    writer.mknod("/plain", stat.S_IFREG | 0o600, 0)
    assert writer.chown("/plain", 1, 1) == 0
    assert number(writer.getattr, "/folder") == errno.ENOENT
