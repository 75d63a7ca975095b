"""`ringfence vmfs mount`: a volume's files as the programs of this host see and change them."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools.command import ringfence_here
from tests.vmkernel.storage.vmfs3.damaged import HEAD, Sound
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.mkfs import format_volume

MIB = 1 << 20
WAIT_S = 120
COMMAND = "import sys; from tools.ringfence import main; sys.exit(main())"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty one, where FUSE works."""
    pytest.importorskip("mfusepy", reason="needs mfusepy", exc_type=(ImportError, OSError))  # type: ignore[arg-type]
    if shutil.which("fusermount3") is None:
        pytest.skip("needs fusermount3, of the package fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    path = tmp_path / "mounted"
    path.mkdir()
    yield path
    if os.path.ismount(path):
        subprocess.run(["fusermount3", "-u", "-z", path], check=False)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "lun.img"
    path.touch()
    os.truncate(path, 300 * MIB)
    format_volume([path], label="store")
    return path


@contextmanager
def mounted(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command, once it is mounted. At the end it is unmounted, and has said nothing."""
    command = [sys.executable, "-c", COMMAND, "vmfs", "mount", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(WAIT_S)
        assert process.stderr.read() == ""


def test_files_are_seen_and_not_written(tmp_path: Path, folder: Path) -> None:
    sound = Sound(tmp_path)
    before = sound.paths[0].stat()
    with mounted(sound.paths[0], folder):
        assert {path.name for path in folder.iterdir()} >= {"vm", "note", "link", "raw", "empty", ".fbb.sf"}
        assert (folder / "link").read_bytes() == (folder / "vm/small").read_bytes() == b"a few bytes"
        assert (folder / "vm/disk").stat().st_size == 10 * MIB
        with (folder / "vm/disk").open("rb") as file:
            assert file.read(len(HEAD) + 5) == HEAD + bytes(5)
        assert (folder / "deeper/deep/inner").read_bytes() == b"deep down"
        assert os.readlink(folder / "link") == "vm/small"
        status = (folder / "vm/small").stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode), int(status.st_mtime)) == (os.geteuid(), 0o400, 0x49EDF8C8)
        for path in (folder / "new", folder / "note"):
            with pytest.raises(OSError, match="Read-only file system"):
                path.open("ab")
        with pytest.raises(OSError, match="Input/output error"):
            (folder / "raw").read_bytes()
        assert os.statvfs(folder).f_frsize == MIB
        assert not (folder / "missing").exists()
    assert sound.paths[0].stat().st_mtime_ns == before.st_mtime_ns


def test_what_is_written_is_there_afterwards(image: Path, folder: Path) -> None:
    with mounted(image, folder, "--rw"):
        (folder / "d").mkdir()
        (folder / "d/file").write_bytes(b"x" * 100_000)
        with (folder / "d/file").open("r+b") as file:
            file.seek(50_000)
            file.write(b"middle")
            file.truncate(60_000)
            os.fsync(file.fileno())
            assert os.fstat(file.fileno()).st_size == 60_000
        with pytest.raises(FileExistsError):
            (folder / "d").mkdir()
        with pytest.raises(OSError, match="not empty"):
            (folder / "d").rmdir()
        (folder / "d/link").symlink_to("file")
        (folder / "d/file").rename(folder / "moved")
        (folder / "moved").chmod(0o640)
        os.utime(folder / "moved", (10**9, 10**9))
        (folder / "gone").write_bytes(b"1")
        with (folder / "gone").open("rb") as held:
            (folder / "gone").unlink()
            assert held.read() == b"1"
        with pytest.raises(OSError, match=r"Invalid argument|too long"):
            (folder / ("n" * 200)).touch()
        with pytest.raises(PermissionError):
            (folder / ".fbb.sf").unlink()
        subprocess.run(["fusermount3", "-u", folder], check=True, timeout=WAIT_S)
    assert check([image]) == []
    listed = ringfence_here("vmfs", "ls", "-lR", str(image)).stdout.splitlines()
    assert len(listed) == 3
    assert listed[2].startswith("-rw-r-----") and listed[2].endswith("60000 2001-09-09 01:46:40 moved")
    dump = ringfence_here("vmfs", "dump", f"{image}:/moved", "49999", "8").stdout
    assert "78 6d 69 64 64 6c 65 78" in dump


def test_many_names_are_made_seen_and_removed(image: Path, folder: Path) -> None:
    with mounted(image, folder, "--rw"):
        (folder / "many").mkdir()
        for number in range(200):
            (folder / f"many/{number}").write_bytes(b"%d" % number)
        assert sorted(int(path.name) for path in (folder / "many").iterdir()) == list(range(200))
        assert all((folder / f"many/{number}").read_bytes() == b"%d" % number for number in range(200))
        shutil.rmtree(folder / "many")
        assert "many" not in {path.name for path in folder.iterdir()}
    assert check([image]) == []


def test_a_mount_that_is_killed_leaves_what_the_next_host_mends(image: Path, folder: Path) -> None:
    with mounted(image, folder, "--rw") as process:
        (folder / "kept").write_bytes(b"kept")
        with (folder / "kept").open("r+b") as file:
            os.fsync(file.fileno())
        process.kill()
        process.wait(WAIT_S)
    subprocess.run(["fusermount3", "-u", "-z", folder], check=False)
    assert ringfence_here("vmfs", "mkdir", f"{image}:/next").returncode == 0
    assert ringfence_here("vmfs", "repair", str(image), "--yes").returncode == 0
    assert check([image]) == []


def test_a_mount_that_cannot_be_is_one_line(image: Path, folder: Path) -> None:
    for words in (
        (str(image), str(folder / "missing")), (str(folder / "no image"), str(folder)), (f"{image}:/x", str(folder)),
    ):  # fmt: skip
        done = ringfence_here("vmfs", "mount", *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)


EVERYBODYS_FUSE = """\
mount -t tmpfs -o dev tmpfs {0}/dev && mknod -m 666 {0}/dev/fuse c 10 229 || exit 77
mount --bind {0}/dev/fuse /dev/fuse || exit 77
exec "$@"
"""
AS_USER = (  # who may look where others cannot: the interpreter may be root's
    "setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--inh-caps", "+dac_read_search",
    "--ambient-caps", "+dac_read_search",
)  # fmt: skip


@pytest.fixture
def users_folder(folder: Path) -> Iterator[Path]:
    """One that an ordinary user can get to, which pytest's are not."""
    with tempfile.TemporaryDirectory() as made:
        users = Path(made) / folder.name
        users.mkdir()
        for path in (users, users.parent):
            os.chown(path, 1000, 1000)
        yield users


def test_an_ordinary_user_mounts(image: Path, users_folder: Path, tmp_path: Path) -> None:
    """In a mount namespace of its own, where /dev/fuse is everybody's, by a process that is not root."""
    if os.geteuid():
        pytest.skip("needs root, to become somebody else; the other tests of this file are by an ordinary user then")
    if shutil.which("setpriv") is None or shutil.which("unshare") is None:
        pytest.skip("needs setpriv and unshare, of the package util-linux")
    (tmp_path / "dev").mkdir()
    assert ringfence_here("vmfs", "mkdir", f"{image}:/d").returncode == 0
    os.chown(image, 1000, 1000)
    command = [sys.executable, "-c", COMMAND, "vmfs", "mount", str(image), str(users_folder), "--rw"]
    act = 'echo mine > "$0/d/file" && ls -l "$0/d" && stat -c %u "$0/d/file"'
    script = EVERYBODYS_FUSE.format(tmp_path)
    with subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *AS_USER, *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        try:
            line = process.stdout.readline()
            if not line and process.wait(WAIT_S) == 77:
                pytest.skip("needs a mount namespace with a device file in it")
            assert line, process.stderr.read()
            done = subprocess.run(
                ["nsenter", "-m", "-t", str(process.pid), *AS_USER, "sh", "-c", act, users_folder],
                capture_output=True, text=True, timeout=WAIT_S, check=False,
            )  # fmt: skip
            assert (done.stderr, done.stdout.splitlines()[-1]) == ("", "1000")
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(WAIT_S)
        assert process.stderr.read() == ""
    assert ringfence_here("vmfs", "cp", f"{image}:/d/file", str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out").read_text() == "mine\n"
    assert check([image]) == []
