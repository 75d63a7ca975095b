"""Other programs as clients: qemu-img, qemu-io, nbdinfo, nbdcopy, libnbd."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import MIB, contents, needs, qemu_img, qemu_reads, written
from tests.vmkernel.storage.nbd.client import serving
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.vmdk.stream_writer import write_stream

SYSTEM_PYTHON = "/usr/bin/python3"
SIZE = 24 * MIB + 512
KINDS = (Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE, Kind.MONOLITHIC_FLAT, Kind.THIN, Kind.VMFS_SPARSE)


def run(program: str, *words: str | Path, package: str) -> str:
    done = subprocess.run(
        [needs(program, package), *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def uri(path: Path, name: str = "") -> str:
    return f"nbd+unix:///{name}?socket={path}"


def qemu_io(path: Path, *commands: str, read_only: bool = False) -> None:
    words = ["-r"] * read_only + [word for command in commands for word in ("-c", command)]
    out = run("qemu-io", "-f", "raw", uri(path), *words, package="qemu-utils")
    assert "fail" not in out.lower() and "error" not in out.lower(), out


@pytest.mark.parametrize("kind", KINDS)
def test_qemu_img_and_nbdcopy_read_every_kind(tmp_path: Path, kind: Kind) -> None:
    content = written(tmp_path / "d.vmdk", kind, SIZE)
    with open_disk(tmp_path / "d.vmdk") as disk, serving(disk, tmp_path) as path:
        qemu_img("convert", "-f", "raw", "-O", "raw", uri(path), tmp_path / "by-qemu")
        run("nbdcopy", uri(path), tmp_path / "by-libnbd", package="libnbd-bin")
    assert (tmp_path / "by-qemu").read_bytes() == content
    assert (tmp_path / "by-libnbd").read_bytes() == content


def test_a_stream_and_a_chain_are_read(tmp_path: Path) -> None:
    content = written(tmp_path / "a.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(tmp_path / "a.vmdk") as disk, (tmp_path / "z.vmdk").open("wb") as out:
        write_stream(disk, out, "z.vmdk")
    create_child(tmp_path / "b.vmdk", tmp_path / "a.vmdk")
    for name in ("z.vmdk", "b.vmdk"):
        with open_disk(tmp_path / name) as disk, serving(disk, tmp_path) as path:
            run("nbdcopy", uri(path), tmp_path / "copy", package="libnbd-bin")
        assert (tmp_path / "copy").read_bytes() == content


@pytest.mark.parametrize("kind", KINDS)
def test_qemu_io_writes_and_reads(tmp_path: Path, kind: Kind) -> None:
    create(tmp_path / "d.vmdk", kind, SIZE)
    with open_disk(tmp_path / "d.vmdk", writable=True) as disk, serving(disk, tmp_path) as path:
        qemu_io(
            path, "write -P 1 0 3M", "write -P 2 1M 64k", "write -f -P 3 10M 512", "write -z 2M 128k",
            "write -z -u 512 4k", "discard 1200k 64k", "flush", "read -P 1 0 512", "read -P 0 512 4k",
            "read -P 2 1M 64k", "read -P 3 10M 512", "read -P 0 2M 128k",
            "aio_write -P 4 4M 1M", "aio_write -P 5 5M 1M",
            "aio_flush", "read -P 4 4M 1M", "write -P 6 24M 512", "read -P 6 24M 512",
        )  # fmt: skip
    if kind is not Kind.VMFS_SPARSE:  # QEMU reads no COWD file that has no parent
        assert contents(tmp_path / "d.vmdk") == qemu_reads(tmp_path / "d.vmdk")
    with open_disk(tmp_path / "d.vmdk") as disk, serving(disk, tmp_path) as path:
        qemu_io(path, "read -P 5 5M 1M", "read -P 6 24M 512", "read -P 1 4608 4k", read_only=True)


def test_nbdcopy_fills_a_disk_over_several_connections(tmp_path: Path) -> None:
    content = written(tmp_path / "a.vmdk", Kind.MONOLITHIC_FLAT, SIZE)
    (tmp_path / "raw").write_bytes(content)
    create(tmp_path / "b.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(tmp_path / "b.vmdk", writable=True) as disk, serving(disk, tmp_path) as path:
        run("nbdcopy", "--flush", tmp_path / "raw", uri(path), package="libnbd-bin")
    assert contents(tmp_path / "b.vmdk") == content
    qemu_img("check", "-f", "vmdk", tmp_path / "b.vmdk")


def test_nbdinfo_and_qemu_see_the_same_map(tmp_path: Path) -> None:
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, 24 * MIB)
    with open_disk(tmp_path / "d.vmdk", writable=True) as disk, serving(disk, tmp_path, name="one") as path:
        qemu_io(path, "write -P 1 1M 2M", "write -P 1 20M 64k")
        found = json.loads(run("nbdinfo", "--json", "--map", uri(path, "one"), package="libnbd-bin"))
        assert [(row["offset"], row["length"], row["type"]) for row in found] == [
            (0, MIB, 3), (MIB, 2 * MIB, 0), (3 * MIB, 17 * MIB, 3), (20 * MIB, 65536, 0),
            (20 * MIB + 65536, 4 * MIB - 65536, 3),
        ]  # fmt: skip
        rows = json.loads(qemu_img("map", "-f", "raw", "--output=json", uri(path)))
        assert [(row["start"], row["length"], row["data"]) for row in rows] == [
            (row["offset"], row["length"], row["type"] == 0) for row in found
        ]


def test_nbdinfo_lists_the_export(tmp_path: Path) -> None:
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, 24 * MIB)
    with open_disk(tmp_path / "d.vmdk") as disk, serving(disk, tmp_path, name="one") as path:
        listed = json.loads(run("nbdinfo", "--json", "--list", uri(path), package="libnbd-bin"))
    [export] = listed["exports"]
    assert listed["protocol"] == "newstyle-fixed" and listed["structured"]
    assert (export["export-name"], export["description"], export["export-size"]) == ("one", "a disk", 24 * MIB)
    assert export["is_read_only"] and export["can_multi_conn"] and export["can_cache"] and export["can_df"]
    assert not export["can_trim"] and not export["can_zero"]
    assert (export["block_size_minimum"], export["block_size_maximum"]) == (512, 32 * MIB)
    assert export["contexts"] == ["base:allocation"]


def test_libnbd_in_its_strictest_mode_finds_no_fault(tmp_path: Path) -> None:
    python = needs(SYSTEM_PYTHON, "python3")
    if subprocess.run([python, "-c", "import nbd"], capture_output=True, check=False).returncode:
        pytest.skip("needs the module nbd of the host's Python, of the package python3-libnbd")
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, 8 * MIB)
    script = tmp_path / "script.py"
    script.write_text(
        "import nbd\n"
        "h = nbd.NBD()\n"
        "h.set_pread_initialize(True)\n"
        "h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)\n"
        f"h.connect_uri({uri(tmp_path / 's')!r})\n"
        "h.pwrite(b'x' * 4096, 1 << 20, nbd.CMD_FLAG_FUA)\n"
        "assert h.pread(4096, 1 << 20) == b'x' * 4096\n"
        "got = []\n"
        "h.pread_structured(1 << 20, 1 << 19, lambda b, o, s, e: got.append((o, len(b), s)))\n"
        "assert sum(n for _, n, _ in got) == 1 << 20, got\n"
        "h.pread_structured(1 << 20, 0, lambda b, o, s, e: got.append(s), nbd.CMD_FLAG_DF)\n"
        "h.zero(4096, 1 << 20, nbd.CMD_FLAG_FAST_ZERO)\n"
        "h.zero(4096, 2 << 20, nbd.CMD_FLAG_NO_HOLE)\n"
        "h.trim(1 << 20, 0, nbd.CMD_FLAG_FUA)\n"
        "h.cache(1 << 20, 0)\n"
        "rows = []\n"
        "h.block_status(8 << 20, 0, lambda m, o, e, err: rows.append(e))\n"
        "h.set_strict_mode(0)\n"
        "for call in (lambda: h.pread(1, 0), lambda: h.pread(512, 8 << 20), lambda: h.pwrite(bytes(512), 8 << 20)):\n"
        "    try:\n"
        "        call()\n"
        "    except nbd.Error as error:\n"
        "        rows.append(error.errno)\n"
        "assert rows[1:] == ['EINVAL', 'EINVAL', 'ENOSPC'], rows\n"
        "h.shutdown()\n"
    )
    with open_disk(tmp_path / "d.vmdk", writable=True) as disk, serving(disk, tmp_path):
        run(SYSTEM_PYTHON, script, package="python3")
