"""`vmkfstools -C`, `-Z` and `-P`, in the words of ESX Server 3."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3 import peers
from tools import vmkfstools
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.volume import Volume

MIB = 1 << 20


def device(folder: Path, name: str = "lun.img", size: int = 300 * MIB) -> Path:
    path = folder / name
    path.touch()
    os.truncate(path, size)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 0) -> str:
    assert vmkfstools.main([str(word) for word in words]) == status
    shown = capsys.readouterr()
    assert shown.err.count("\n") == (status == 2)
    return shown.err if status else shown.out


def test_a_volume_is_made_and_described_as_on_esx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = device(tmp_path)
    made = run(capsys, "-C", "vmfs3", "-b", "1m", "-S", "my_vmfs", path)
    assert f'file system on "{path}" with blockSize 1048576 and volume label "my_vmfs".' in made
    with Volume.open([path]) as volume:
        uuid, free = uuid_text(volume.uuid), volume.statistics()["file_block"][1]
    assert made.endswith(f"Successfully created new volume: {uuid}\n")
    assert run(capsys, "-P", path).splitlines() == [
        "VMFS-3.31 file system spanning 1 partitions.", "File system label (if any): my_vmfs", "Mode: public",
        f"Capacity 268435456 (256 file blocks * 1048576), {free * MIB} ({free} blocks) avail", f"UUID: {uuid}",
        'Partitions spanned (on "lvm"):', f"\t{path}",
    ]  # fmt: skip
    assert f"Capacity 256.0M, {free}.0M available, file block size 1.0M" in run(capsys, "-P", "-h", path)
    assert peers.bitmap_errors([path]) == 0


def test_the_block_size_is_1_mib_where_none_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = device(tmp_path)
    run(capsys, "--createfs", "vmfs3", path)
    assert "* 1048576)" in run(capsys, "--queryfs", path)


def test_a_partition_that_is_there_for_it_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = device(tmp_path, size=400 * MIB)
    start, length = 50 * MIB, 300 * MIB
    with path.open("r+b") as file:
        file.seek(446)
        file.write(struct.pack("<B3sB3sII", 0, b"", 0x83, b"", 63, 1000))
        file.write(struct.pack("<B3sB3sII", 0, b"", 0xFB, b"", start // 512, length // 512))
        file.seek(510)
        file.write(b"\x55\xaa")
    table = path.read_bytes()[:512]
    run(capsys, "-C", "vmfs3", path)
    assert path.read_bytes()[:512] == table
    with path.open("rb") as file:
        assert os.pread(file.fileno(), 4, start + 0x100000) == b"\x0d\xd0\x01\xc0"


def test_a_volume_is_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, more = device(tmp_path), device(tmp_path, "more.img")
    run(capsys, "-C", "vmfs3", head)
    run(capsys, "-Z", more, head)
    assert run(capsys, "-P", f"{head}+{more}").startswith("VMFS-3.31 file system spanning 2 partitions.\n")
    assert check([head, more]) == []
    assert peers.bitmap_errors([head, more]) == 0


def test_help_is_there_by_h_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        vmkfstools.main(["-h"])
    assert re.search(r"-C vmfs3", capsys.readouterr().out)


@pytest.mark.parametrize(
    "words",
    [
        ("-C", "vmfs5", "lun.img"), ("-C", "vmfs3", "-b", "3m", "lun.img"), ("-C", "vmfs3", "missing.img"),
        ("-C", "vmfs3", "-S", "x" * 200, "lun.img"), ("-P", "lun.img"), ("-P", "missing.img"), ("-b", "1m", "-P", "x"),
        ("-S", "name", "-g", "x.vmdk"), ("-Z", "lun.img", "lun.img"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    path = device(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *words, status=2).startswith("vmkfstools: ")
    assert path.stat().st_blocks == 0
