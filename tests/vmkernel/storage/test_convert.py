"""Converting: every kind from every kind, all or nothing, through pipes too. QEMU says whether it is the same."""

from __future__ import annotations

import os
import random
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringfence.errors import HostRefused, MediaError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, put, qemu_img, scribble, written
from vmkernel.storage import copy_new
from vmkernel.storage.chain import open_disk, open_raw
from vmkernel.storage.convert import convert, create_plain, from_pipe, write_raw
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.formats import TARGETS, Format, Plain, Target, open_image
from vmkernel.storage.vmdk.descriptor_spec import Adapter

SIZE = 2 * MIB + 7 * SECTOR


def bare(path: Path) -> bytes:
    model = bytearray(SIZE)
    model[: 300 * SECTOR] = data(1, 300)
    model[MIB : MIB + 200 * SECTOR] = random.Random(1).randbytes(200 * SECTOR)
    model[-SECTOR:] = data(2, 1)
    path.write_bytes(model)
    return bytes(model)


def chain_of(folder: Path) -> tuple[Path, bytes]:
    base, child = folder / "base.vmdk", folder / "base-000001.vmdk"
    model = bytearray(written(base, Kind.MONOLITHIC_SPARSE, SIZE))
    create_child(child, base)
    with open_disk(child, writable=True) as disk:
        scribble(disk, 5, model, 10)
    return child, bytes(model)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_chain_becomes_one_disk_of_any_kind(tmp_path: Path, kind: Target) -> None:
    path, model = chain_of(tmp_path)
    target = tmp_path / "copy.vmdk"
    with open_disk(path) as source:
        convert(source, target, kind)
    raw = tmp_path / "raw"
    raw.write_bytes(model)
    form = "raw" if kind is Plain.RAW else "vmdk"
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", form, raw, target)
    with open_image(target, Format(form)) as disk:
        assert not disk.links[0].has_parent
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("kind", TARGETS)
def test_bare_sectors_from_every_kind(tmp_path: Path, kind: Target) -> None:
    model = bare(tmp_path / "disk.raw")
    with open_raw(tmp_path / "disk.raw") as source:
        convert(source, tmp_path / "disk.vmdk", kind)
    with open_image(tmp_path / "disk.vmdk", Format.RAW if kind is Plain.RAW else Format.VMDK) as source:
        convert(source, tmp_path / "again.raw", Plain.RAW)
    assert (tmp_path / "again.raw").read_bytes() == model


@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Kind.THIN, Kind.TWO_GB_SPARSE, Kind.VMFS_SPARSE])
def test_zeros_take_up_no_space(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(4 * MIB) + data(1, 1))
    with open_raw(tmp_path / "disk.raw") as source:
        convert(source, tmp_path / "disk.vmdk", kind)
    assert sum(path.stat().st_blocks * SECTOR for path in tmp_path.glob("disk*.vmdk")) < MIB


@pytest.mark.parametrize("kind", [Kind.TWO_GB_SPARSE, Kind.THIN, Plain.STREAM, Plain.RAW])
@pytest.mark.parametrize("after", [0, 1], ids=["at_once", "later"])
def test_an_interruption_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Target, after: int
) -> None:
    bare(tmp_path / "disk.raw")
    left = [after]

    def interrupting(done: int, whole: int) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1

    for module, name in ((copy_new, "PROGRESS_BYTES"), (copy_new, "PIECE_BYTES")):
        monkeypatch.setattr(module, name, 64 << 10)
    with open_raw(tmp_path / "disk.raw") as source, pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "disk.vmdk", kind, progress=interrupting)
    assert [file.name for file in tmp_path.iterdir()] == ["disk.raw"]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The host refuses to write a file past this size, as it does when it is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Plain.STREAM, Kind.EAGER_ZEROED_THICK])
def test_a_full_host_is_named_and_nothing_is_left(tmp_path: Path, kind: Target) -> None:
    (tmp_path / "disk.raw").write_bytes(random.Random(2).randbytes(3 * MIB))
    with open_raw(tmp_path / "disk.raw") as source, files_up_to(MIB):  # noqa: SIM117
        with pytest.raises(HostRefused, match=r"disk.vmdk: no room: .* bytes left"):
            convert(source, tmp_path / "disk.vmdk", kind)
    assert [file.name for file in tmp_path.iterdir()] == ["disk.raw"]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    bare(tmp_path / "disk.raw")
    (tmp_path / "copy-flat.vmdk").write_bytes(b"mine")
    with open_raw(tmp_path / "disk.raw") as source:
        with pytest.raises(HostRefused, match=r"copy-flat.vmdk: it is there already"):
            convert(source, tmp_path / "copy.vmdk", Kind.THIN)
        with pytest.raises(HostRefused, match=r"disk.raw: it is there already"):
            convert(source, tmp_path / "disk.raw", Plain.RAW)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy-flat.vmdk", "disk.raw"]
    assert (tmp_path / "copy-flat.vmdk").read_bytes() == b"mine"


def test_damage_in_the_source_leaves_nothing(tmp_path: Path) -> None:
    bare(tmp_path / "disk.raw")
    with open_raw(tmp_path / "disk.raw") as source:
        convert(source, tmp_path / "stream.vmdk", Plain.STREAM)
    with (tmp_path / "stream.vmdk").open("r+b") as file:
        file.seek(128 * SECTOR + 20)
        file.write(b"\xff" * 40)
    with open_disk(tmp_path / "stream.vmdk") as source, pytest.raises(MediaError, match=r"stream.vmdk: byte 65536"):
        convert(source, tmp_path / "copy.vmdk", Kind.MONOLITHIC_SPARSE)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk.raw", "stream.vmdk"]


def through_a_pipe(content: bytes, keep_in: Path, form: Format = Format.AUTO) -> bytes:
    """What the disk holds that arrives so."""
    reads, writes = os.pipe()

    def send() -> None:
        with os.fdopen(writes, "wb") as out:
            out.write(content)

    sender = threading.Thread(target=send)
    sender.start()
    out = bytearray()

    class Sink:
        def write(self, piece: bytes) -> int:
            out.extend(piece[:100_000])  # as a pipe does, not always all
            return min(len(piece), 100_000)

    try:
        with from_pipe(reads, form, keep_in) as disk:
            write_raw(disk, Sink())
    finally:
        os.close(reads)
        sender.join()
    return bytes(out)


def test_bare_sectors_come_through_a_pipe(tmp_path: Path) -> None:
    model = bare(tmp_path / "disk.raw")
    assert through_a_pipe(model, tmp_path) == model
    assert through_a_pipe(model[:-10], tmp_path) == model[:-10] + bytes(10), "filled up to a whole sector"


def test_qemus_stream_comes_through_a_pipe(tmp_path: Path) -> None:
    model = bare(tmp_path / "disk.raw")
    stream = tmp_path / "stream.vmdk"
    qemu_img("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "-f", "raw", tmp_path / "disk.raw", stream)
    size = through_a_pipe(stream.read_bytes(), tmp_path)
    assert size[: len(model)] == model and not any(size[len(model) :])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk.raw", "stream.vmdk"]


def test_empty_plain_disks(tmp_path: Path) -> None:
    create_plain(tmp_path / "disk.raw", Plain.RAW, MIB, Adapter.IDE)
    create_plain(tmp_path / "disk.vmdk", Plain.STREAM, MIB, Adapter.IDE)
    assert (tmp_path / "disk.raw").read_bytes() == bytes(MIB) == contents(tmp_path / "disk.vmdk")


def test_a_guests_descriptor_in_sector_0_is_not_believed(tmp_path: Path) -> None:
    create(tmp_path / "disk.vmdk", Kind.THIN, MIB)
    text = (tmp_path / "disk.vmdk").read_bytes()
    with (tmp_path / "guest.raw").open("wb") as file:
        file.write(text)
        file.truncate(MIB)
    with pytest.raises(Exception, match="say which it is with --format"):
        open_image(tmp_path / "guest.raw")
    with open_image(tmp_path / "guest.raw", Format.RAW) as disk:
        assert disk.size_bytes == MIB
    put_back = tmp_path / "named.vmdk"
    put_back.write_bytes(bytes(MIB))
    with pytest.raises(Exception, match="expected a VMDK"):
        open_image(put_back)
    with open_image(put_back, Format.RAW, writable=True) as disk:
        put(disk, 0, data(1, 1))
