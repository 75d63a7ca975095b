"""`ringfence disk convert` from and to pipes: what can be taken in one pass is not kept anywhere."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import MIB, SECTOR, data

COMMAND = [sys.executable, "-c", "import sys; from tools.ringfence import main; sys.exit(main())", "disk", "convert"]
SIZE = 3 * MIB + 5 * SECTOR


def convert(words: list[str], given: bytes, *, largest_file: int | None = None) -> subprocess.CompletedProcess[bytes]:
    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run([*COMMAND, *words], input=given, capture_output=True, preexec_fn=limit)


@pytest.fixture
def bare() -> bytes:
    return data(1, 100) + bytes(SIZE - 101 * SECTOR) + data(2, 1)


def test_a_stream_to_a_pipe_is_kept_in_no_file(bare: bytes) -> None:
    stream = convert(["-", "-"], bare)
    assert stream.returncode == 0
    again = convert(["-", "-", "--to", "raw"], stream.stdout, largest_file=SECTOR)
    assert (again.returncode, again.stdout == bare) == (0, True), again.stderr
    once_more = convert(["-", "-"], stream.stdout, largest_file=SECTOR)
    assert convert(["-", "-", "--to", "raw"], once_more.stdout).stdout == bare


def test_bare_sectors_to_a_pipe_are_kept_in_no_file_and_end_with_a_whole_sector(bare: bytes) -> None:
    done = convert(["-", "-", "--to", "raw"], bare + b"x", largest_file=SECTOR)
    assert (done.returncode, done.stdout == bare + b"x".ljust(SECTOR, b"\0")) == (0, True), done.stderr


def test_bare_sectors_become_a_thin_file(bare: bytes, tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    assert convert(["-", str(target)], bare + bytes(40 * MIB)).returncode == 0
    assert target.read_bytes() == bare + bytes(40 * MIB)
    assert target.stat().st_blocks * 512 < 8 * MIB
    refused = convert(["-", str(target)], bare)
    assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1) and b"it is there already" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["disk.raw"]


def test_a_stream_that_is_cut_short_leaves_nothing(bare: bytes, tmp_path: Path) -> None:
    stream = convert(["-", "-"], bare).stdout
    done = convert(["-", str(tmp_path / "disk.vmdk")], stream[:-SECTOR])
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1) and b"the end of the stream" in done.stderr
    assert not list(tmp_path.iterdir())
    assert convert(["-", str(tmp_path / "disk.raw"), "--recover"], stream[:-SECTOR]).returncode == 0
    assert (tmp_path / "disk.raw").read_bytes() == bare
