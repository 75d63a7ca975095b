"""Other programs read what is written here, and their disks are read here: QEMU, libvmdk, dissect."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import (
    MIB,
    SECTOR,
    contents,
    data,
    get,
    needs,
    put,
    qemu_img,
    qemu_reads,
    scribble,
    written,
)
from vmkernel.storage.chain import open_disk
from vmkernel.storage.copying import copy_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.repair import check
from vmkernel.storage.vmdk.descriptor_spec import Adapter
from vmkernel.storage.vmdk.stream_writer import write_stream

SIZE = 5 * MIB
QEMU_FORMS = ("monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized")


def raw_image(path: Path, size: int) -> bytes:
    """Data, zeros, and what does not compress."""
    model = bytearray(size)
    model[: 300 * SECTOR] = data(1, 300)
    model[2 * MIB : 2 * MIB + 200 * SECTOR] = random.Random(1).randbytes(200 * SECTOR)
    model[-SECTOR:] = data(2, 1)
    path.write_bytes(model)
    return bytes(model)


def streamed(disk_path: Path, path: Path) -> None:
    with open_disk(disk_path) as disk, path.open("wb") as out:
        write_stream(disk, out, path.name)


def judged_by_qemu(path: Path) -> None:
    """`qemu-img check` knows the hosted formats; it finds no error in ours."""
    assert "No errors" in qemu_img("check", "-f", "vmdk", path)


@pytest.mark.parametrize("kind", Kind)
def test_qemu_reads_what_is_written_here(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, kind, SIZE)
    assert qemu_reads(path) == model
    if "Sparse" in kind:
        judged_by_qemu(path)


@pytest.mark.parametrize("form", QEMU_FORMS)
def test_what_qemu_writes_is_read_here(tmp_path: Path, form: str) -> None:
    model = raw_image(tmp_path / "raw", SIZE)
    path = tmp_path / "disk.vmdk"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={form}", tmp_path / "raw", path)
    assert contents(path) == model
    assert not check(path, deep=True)


@pytest.mark.parametrize("form", QEMU_FORMS[:4])
def test_what_is_written_into_a_disk_of_qemus_qemu_reads(tmp_path: Path, form: str) -> None:
    model = bytearray(raw_image(tmp_path / "raw", SIZE))
    path = tmp_path / "disk.vmdk"
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={form}", tmp_path / "raw", path)
    with open_disk(path, writable=True) as disk:
        scribble(disk, 4, model)
    assert qemu_reads(path) == bytes(model)
    if "Sparse" in form:
        judged_by_qemu(path)
    assert not check(path)


def test_zeroed_grains_of_qemu_are_zeros_over_a_parent(tmp_path: Path) -> None:
    base, child = tmp_path / "base.vmdk", tmp_path / "child.vmdk"
    raw_image(tmp_path / "raw", SIZE)
    qemu_img("convert", "-f", "raw", "-O", "vmdk", tmp_path / "raw", base)
    qemu_img("create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on", "-b", base, "-F", "vmdk", child)
    program = needs("qemu-io", "qemu-utils")
    subprocess.run([program, "-f", "vmdk", "-c", "write -z 64k 64k", child], check=True, capture_output=True)
    with open_disk(child, writable=True) as disk:
        assert get(disk, 0, 128) == data(1, 300)[: 128 * SECTOR]
        assert get(disk, 128, 128) == bytes(128 * SECTOR)
        put(disk, 130, data(5, 1))
        disk.zero(256 * SECTOR, 44 * SECTOR)
    assert qemu_reads(child) == contents(child)
    assert contents(child)[128 * SECTOR : 132 * SECTOR] == bytes(2 * SECTOR) + data(5, 1) + bytes(SECTOR)


def test_qemu_reads_a_chain(tmp_path: Path) -> None:
    base = tmp_path / "base.vmdk"
    model = bytearray(written(base, Kind.THIN, SIZE))
    parent = base
    for number, kind in enumerate((Kind.VMFS_SPARSE, Kind.MONOLITHIC_SPARSE, Kind.VMFS_SPARSE)):
        path = tmp_path / f"base-{number:06}.vmdk"
        create_child(path, parent, kind)
        with open_disk(path, writable=True) as disk:
            scribble(disk, 20 + number, model)
        parent = path
    assert qemu_reads(parent) == bytes(model)


@pytest.mark.parametrize("size", [SIZE, 33 * MIB, 200 * SECTOR], ids=["tail", "tables", "short"])
def test_qemu_reads_a_stream(tmp_path: Path, size: int) -> None:
    if size >= SIZE:
        model = raw_image(tmp_path / "raw", size)
    else:
        model = data(6, size // SECTOR)
        (tmp_path / "raw").write_bytes(model)
    path, made = tmp_path / "disk.vmdk", tmp_path / "stream.vmdk"
    create(path, Kind.MONOLITHIC_FLAT, size, Adapter.IDE)
    with open_disk(path, writable=True) as disk:
        disk.write(0, [memoryview(model)])
    streamed(path, made)
    assert contents(made) == model
    assert qemu_reads(made) == model
    judged_by_qemu(made)


@pytest.mark.parametrize("kind", [*Kind, "stream"])
def test_libvmdk_reads_what_is_written_here(tmp_path: Path, kind: str) -> None:
    program = needs("vmdkinfo", "libvmdk-utils")
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.THIN if kind == "stream" else Kind(kind), SIZE)
    if kind == "stream":
        streamed(path, path := tmp_path / "stream.vmdk")
    done = subprocess.run([program, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"({SIZE} bytes)" in done.stdout
    code = (
        "import sys, pyvmdk\n"
        "handle = pyvmdk.handle(); handle.open(sys.argv[1]); handle.open_extent_data_files()\n"
        "sys.stdout.buffer.write(handle.read_buffer_at_offset(handle.get_media_size(), 0))\n"
    )
    read = subprocess.run(["/usr/bin/python3", "-c", code, path], capture_output=True, timeout=60)
    if b"No module named" in read.stderr:
        pytest.skip("needs pyvmdk, of the package python3-libvmdk")
    assert read.returncode == 0, read.stderr
    assert read.stdout == model


def test_dissect_reads_what_is_written_here(tmp_path: Path) -> None:
    pytest.importorskip("dissect.hypervisor.disk.vmdk")
    models = {}
    for number, kind in enumerate(Kind):
        path = tmp_path / f"{kind}.vmdk"
        models[path] = written(path, kind, SIZE, number)
    streamed(path, stream := tmp_path / "stream.vmdk")
    models[stream] = models[path]
    code = (
        "import sys, pathlib\n"
        "from dissect.hypervisor.disk.vmdk import VMDK\n"
        "for path in map(pathlib.Path, sys.argv[2:]):\n"
        "    path.with_suffix('.read').write_bytes(VMDK(path).read(int(sys.argv[1])))\n"
    )
    read = subprocess.run([sys.executable, "-c", code, str(SIZE), *models], capture_output=True, timeout=60)
    assert read.returncode == 0, read.stderr
    for path, model in models.items():
        assert path.with_suffix(".read").read_bytes() == model, path.name


@pytest.mark.parametrize("kind", Kind)
def test_a_copy_is_the_same(tmp_path: Path, kind: Kind) -> None:
    model = raw_image(tmp_path / "raw", SIZE)
    qemu_img("convert", "-f", "raw", "-O", "vmdk", tmp_path / "raw", tmp_path / "from.vmdk")
    create(tmp_path / "to.vmdk", kind, SIZE)
    with open_disk(tmp_path / "from.vmdk") as source, open_disk(tmp_path / "to.vmdk", writable=True) as target:
        copy_disk(source, target, target_is_new=True)
    assert contents(tmp_path / "to.vmdk") == model
    with open_disk(tmp_path / "to.vmdk", writable=True) as target:
        scribble(target, 5, bytearray(model))
        with open_disk(tmp_path / "from.vmdk") as source:
            copy_disk(source, target)
    assert contents(tmp_path / "to.vmdk") == model
    assert "Images are identical" in qemu_img(
        "compare", "-f", "raw", "-F", "vmdk", tmp_path / "raw", tmp_path / "to.vmdk"
    )


def test_a_split_disk_of_many_extents_is_one_to_qemu(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.TWO_GB_SPARSE, 5 << 30)
    boundary = 4192256
    with open_disk(path, writable=True) as disk:
        put(disk, boundary - 100, data(7, 200))
        put(disk, 2 * boundary - 1, data(8, 2))
        assert get(disk, boundary - 100, 200) == data(7, 200)
    qemu_img("convert", "-f", "vmdk", "-O", "raw", path, tmp_path / "raw")
    with (tmp_path / "raw").open("rb") as raw:
        raw.seek((boundary - 100) * SECTOR)
        assert raw.read(200 * SECTOR) == data(7, 200)
        raw.seek((2 * boundary - 1) * SECTOR)
        assert raw.read(2 * SECTOR) == data(8, 2)
