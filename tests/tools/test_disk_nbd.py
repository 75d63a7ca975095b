"""`ringfence disk nbd` and `ringfence disk mount` as processes, with other programs as their clients."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.tools.command import ringfence_here
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, needs, put
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child

WAIT_S = 120
SIZE = 16 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "d.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(path, writable=True) as opened:
        put(opened, 2048, data(1, 2048))
    return path


@contextmanager
def running(*words: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and its first line."""
    command = [sys.executable, "-m", "tools.ringfence", "disk", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            if process.poll() is None:
                process.kill()


def ended(process: subprocess.Popen[str], number: int | None = None) -> tuple[int, str]:
    """Status and what was said on standard error, after a signal or without one."""
    if number is not None:
        process.send_signal(number)
    _, err = process.communicate(timeout=WAIT_S)
    return process.returncode, err


def refused(*words: str | Path) -> str:
    done = ringfence_here("disk", *map(str, words))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    return done.stderr


def qemu_io(uri: str, *commands: str) -> str:
    words = [word for command in commands for word in ("-c", command)]
    command = [needs("qemu-io", "qemu-utils"), "-f", "raw", uri, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True).stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_what_was_written_is_there_after_a_signal(disk: Path, tmp_path: Path, number: int, status: int) -> None:
    path = tmp_path / "s"
    with running("nbd", disk, "--socket", path, "--name", "a disk") as (process, uri):
        assert uri == f"nbd+unix:///a%20disk?socket={path}"
        assert path.stat().st_mode & 0o777 == 0o600
        qemu_io(uri, "write -P 7 4M 1M")
        assert ended(process, number) == (status, "")
    assert not path.exists()
    assert contents(disk)[4 * MIB : 5 * MIB] == b"\7" * MIB


def test_a_port_of_the_loopback_interface(disk: Path) -> None:
    with running("nbd", disk, "--port", "0", "--read-only", "--once") as (process, uri):
        assert uri.startswith("nbd://127.0.0.1:")
        program = needs("nbdcopy", "libnbd-bin")
        copy = disk.with_suffix(".raw")
        subprocess.run([program, uri, copy], timeout=WAIT_S, check=True)
        assert ended(process) == (0, "")
    assert copy.read_bytes() == contents(disk)


def test_a_socket_of_its_own(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with running("nbd", disk) as (process, uri):
        assert f"socket={tmp_path}/run/ringfence/nbd-" in uri
        qemu_io(uri, "read 0 512")
        ended(process, signal.SIGTERM)
    assert not list((tmp_path / "run" / "ringfence").glob("nbd-*"))


def test_a_dead_socket_is_replaced_and_a_living_one_is_not(disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with running("nbd", disk, "--socket", path, "--read-only") as (process, _):
        assert "cannot listen" in refused("nbd", disk, "--socket", path, "--read-only")
        assert path.is_socket()
        ended(process, signal.SIGTERM)


def test_a_file_is_not_taken_for_a_socket(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "cannot listen" in refused("nbd", disk, "--socket", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_one_writes_or_several_read(disk: Path, tmp_path: Path) -> None:
    with running("nbd", disk, "--socket", tmp_path / "s") as (process, _):
        assert "another process has it open" in refused("nbd", disk, "--socket", tmp_path / "t", "--read-only")
        ended(process, signal.SIGTERM)


@pytest.mark.parametrize(
    "words",
    [("--port", "65536"), ("--port", "-1"), ("--socket", "s" * 200), ("--name", "n" * 300), ("--snapshot", "x"),
     ("--socket", "s", "--port", "1"), ("--snapshot", "no such one", "--read-only")],
)  # fmt: skip
def test_what_cannot_be_is_one_line(disk: Path, words: tuple[str, ...]) -> None:
    refused("nbd", disk, *words)


def test_a_snapshot_is_served_as_it_was(disk: Path, tmp_path: Path) -> None:
    before = contents(disk)
    create_child(tmp_path / "d-000001.vmdk", disk)
    with open_disk(tmp_path / "d-000001.vmdk", writable=True) as child:
        put(child, 0, data(2, 16))
    (tmp_path / "m.vmsd").write_text(
        'snapshot.lastUID = "1"\nsnapshot.numSnapshots = "1"\nsnapshot.current = "1"\nsnapshot0.uid = "1"\n'
        'snapshot0.filename = "m-Snapshot1.vmsn"\nsnapshot0.displayName = "before"\nsnapshot0.numDisks = "1"\n'
        'snapshot0.disk0.fileName = "d.vmdk"\nsnapshot0.disk0.node = "ide0:0"\n'
    )
    with running("nbd", tmp_path / "d-000001.vmdk", "--snapshot", "before", "--port", "0", "--once") as (process, uri):
        subprocess.run([needs("nbdcopy", "libnbd-bin"), uri, tmp_path / "copy"], timeout=WAIT_S, check=True)
        assert ended(process) == (0, "")
    assert (tmp_path / "copy").read_bytes() == before != contents(tmp_path / "d-000001.vmdk")
    assert "before" in refused("nbd", tmp_path / "d-000001.vmdk", "--snapshot", "after")


# mount


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty one, where FUSE works."""
    pytest.importorskip("mfusepy", reason="needs mfusepy", exc_type=(ImportError, OSError))  # type: ignore[arg-type]
    needs("fusermount3", "fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    path = tmp_path / "mounted"
    path.mkdir()
    yield path
    if os.path.ismount(path):
        subprocess.run(["fusermount3", "-u", "-z", path], check=False)


def partitioned(path: Path) -> bytes:
    """Put a table with two partitions on the disk, and a file system in the first; what the disk holds."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(bytes(SIZE))
    table = "label: gpt\nsize=8MiB\nsize=4MiB\n"
    sfdisk = needs("/usr/sbin/sfdisk", "fdisk")
    subprocess.run([sfdisk, "-q", "--no-reread", raw], input=table, text=True, check=True, timeout=WAIT_S)
    mkfs = needs("/usr/sbin/mkfs.ext4", "e2fsprogs")
    subprocess.run([mkfs, "-q", "-F", "-E", f"offset={MIB}", raw, "8M"], check=True, timeout=WAIT_S)
    content = raw.read_bytes()
    raw.unlink()
    with open_disk(path, writable=True) as opened:
        opened.write(0, [memoryview(content)])
    return content


def test_a_disk_and_its_partitions_are_files(disk: Path, folder: Path) -> None:
    content = partitioned(disk)
    with running("mount", disk, folder) as (process, line):
        assert line == f"{folder}: disk, p1, p2"
        assert sorted(path.name for path in folder.iterdir()) == ["disk", "p1", "p2"]
        assert (folder / "disk").read_bytes() == content
        assert (folder / "p1").read_bytes() == content[MIB : 9 * MIB]
        assert (folder / "p2").stat().st_size == 4 * MIB
        fsck = needs("/usr/sbin/e2fsck", "e2fsprogs")
        assert subprocess.run([fsck, "-fn", folder / "p1"], capture_output=True, timeout=WAIT_S).returncode == 0
        with pytest.raises(OSError, match="Read-only file system"):
            (folder / "p2").open("r+b")
        subprocess.run(["fusermount3", "-u", folder], check=True, timeout=WAIT_S)
        assert ended(process) == (0, "")


def test_writing_reaches_the_disk(disk: Path, folder: Path) -> None:
    partitioned(disk)
    with running("mount", disk, folder, "--rw", "--partition", "2") as (process, line):
        assert line == f"{folder}: p2"
        with (folder / "p2").open("r+b") as file:
            file.seek(1000)
            file.write(b"written")
            file.flush()
            os.fsync(file.fileno())
        assert ended(process, signal.SIGTERM) == (-signal.SIGTERM, "")
    assert not os.path.ismount(folder)
    assert contents(disk)[9 * MIB + 1000 : 9 * MIB + 1007] == b"written"


def test_an_open_file_does_not_keep_it_mounted(disk: Path, folder: Path) -> None:
    with running("mount", disk, folder) as (process, _):
        fd = os.open(folder / "disk", os.O_RDONLY)
        try:
            assert os.pread(fd, SECTOR, 0) == bytes(SECTOR)
            assert ended(process, signal.SIGTERM) == (-signal.SIGTERM, "")
            assert not os.path.ismount(folder)
        finally:
            with suppress(OSError):  # its other end has gone
                os.close(fd)


def test_a_mount_that_cannot_be_is_one_line(disk: Path, folder: Path) -> None:
    assert "cannot mount here" in refused("mount", disk, folder / "not there")
    assert "partition 7" in refused("mount", disk, folder, "--partition", "7")
    (folder / "file").touch()
    assert "empty folder" in refused("mount", disk, folder)


def test_a_host_without_fuse_is_told_so(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("tools.disk_mount.DEVICE", tmp_path / "no fuse")
    assert "has no FUSE" in refused("mount", disk, tmp_path / "empty")
    monkeypatch.setattr("tools.disk_mount.DEVICE", tmp_path / "empty")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "fusermount3" in refused("mount", disk, tmp_path / "empty")
