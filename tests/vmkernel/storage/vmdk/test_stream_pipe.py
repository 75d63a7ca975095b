"""Streams from pipes: read once and front to back, they come to what a reader that begins with the directory sees."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.lab import SECTOR, contents, data, qemu_img
from vmkernel.storage.chain import open_disk, open_raw
from vmkernel.storage.convert import convert, write_raw
from vmkernel.storage.copy_new import copy_into_new
from vmkernel.storage.create import Kind, create
from vmkernel.storage.errors import CorruptImage, Unsupported
from vmkernel.storage.formats import Plain
from vmkernel.storage.vmdk.sparse_spec import Marker
from vmkernel.storage.vmdk.stream_pipe import PipedStream, streamed
from vmkernel.storage.vmdk.stream_writer import write_stream

MIB = 1 << 20
SIZE = 70 * MIB + 9 * SECTOR
GRAIN = 64 << 10
PIPE = Path("standard input")
MARKER = struct.Struct("<QII")


class Pipe:
    """Gives what is left of its bytes, a part at a time."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def __call__(self, length: int) -> bytes:
        part = self.content[self.at : self.at + length]
        self.at += len(part)
        return part


def piped(content: bytes) -> PipedStream:
    fetch = Pipe(content)
    disk, _ = streamed(fetch(SECTOR), PIPE, fetch)
    assert disk is not None
    return disk


class Collected(bytearray):
    def write(self, part: bytes, /) -> int:
        self.extend(part)
        return len(part)


@pytest.fixture(scope="module")
def model() -> bytes:
    """Holes, zeros, runs that begin and end anywhere, more than one table's worth apart."""
    image = bytearray(SIZE)
    for at, sectors in ((0, 3), (130, 500), (4000, 1), (66_000, 129), (140_000, 300)):
        image[at * SECTOR : (at + sectors) * SECTOR] = data(at % 97, sectors)
    image[5 * MIB : 8 * MIB] = random.Random(3).randbytes(3 * MIB)
    image[-SECTOR:] = data(9, 1)
    return bytes(image)


@pytest.fixture(scope="module")
def stream(model: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    raw = tmp_path_factory.mktemp("stream") / "disk.raw"
    raw.write_bytes(model)
    out = Collected()
    with open_raw(raw) as disk:
        write_stream(disk, out, "disk.vmdk")
    return bytes(out)


def bare(disk: PipedStream) -> bytes:
    out = Collected()
    write_raw(disk, out)
    return bytes(out)


def markers(content: bytes, first: int) -> list[tuple[int, int, int, int]]:
    """(byte, value, size, type) of each."""
    found, at = [], first * SECTOR
    while True:
        value, size, kind = MARKER.unpack_from(content, at)
        found.append((at, value, size, kind))
        if not size and kind == Marker.END:
            return found
        at += -(-(size + 12) // SECTOR) * SECTOR if size else SECTOR * (1 + value)


def test_it_comes_to_what_was_put_in(stream: bytes, model: bytes) -> None:
    assert bare(piped(stream)) == model


@pytest.mark.parametrize("kind", [Kind.MONOLITHIC_SPARSE, Kind.THIN, Plain.STREAM, Plain.RAW])
def test_it_becomes_a_disk_that_qemu_finds_the_same(
    stream: bytes, model: bytes, tmp_path: Path, kind: Kind | Plain
) -> None:
    raw, target = tmp_path / "disk.raw", tmp_path / "copy.vmdk"
    raw.write_bytes(model)
    convert(piped(stream), target, kind)
    form = "raw" if kind is Plain.RAW else "vmdk"
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", form, raw, target)


def test_it_holds_no_more_than_a_part(stream: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmkernel.storage.copy_new.PROGRESS_BYTES", MIB)
    disk, most = piped(stream), 0
    read = disk.read

    def counting(offset: int, views: list[memoryview]) -> None:
        nonlocal most
        most = max(most, len(disk._held))
        read(offset, views)

    monkeypatch.setattr(disk, "read", counting)
    create(tmp_path / "copy.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(tmp_path / "copy.vmdk", writable=True) as target:
        copy_into_new(disk, target)
    assert 0 < most <= 5 * MIB // GRAIN and not disk._held


def test_what_comes_after_the_end_is_taken_from_the_pipe(stream: bytes) -> None:
    fetch = Pipe(stream + bytes(3 * MIB))
    disk, _ = streamed(fetch(SECTOR), PIPE, fetch)
    assert disk is not None
    bare(disk)
    assert fetch.at == len(fetch.content)


def reordered(stream: bytes) -> bytes:
    """The first two grains change places, and the table says so."""
    found = markers(stream, 128)
    (first, _, one, _), (second, _, two, _) = found[:2]
    ends = [at + -(-(size + 12) // SECTOR) * SECTOR for at, size in ((first, one), (second, two))]
    swapped = bytearray(stream)
    swapped[first : ends[1]] = stream[second : ends[1]] + stream[first : ends[0]]
    table = next(at + SECTOR for at, _, size, kind in found if not size and kind == Marker.TABLE)
    places = {first // SECTOR: (first + ends[1] - second) // SECTOR, second // SECTOR: first // SECTOR}
    for at in range(table, table + 2048, 4):
        (entry,) = struct.unpack_from("<I", swapped, at)
        struct.pack_into("<I", swapped, at, places.get(entry, entry))
    return bytes(swapped)


def test_grains_in_any_order_become_a_file(stream: bytes, model: bytes, tmp_path: Path) -> None:
    content = reordered(stream)
    (tmp_path / "mixed.vmdk").write_bytes(content)
    assert contents(tmp_path / "mixed.vmdk") == model
    convert(piped(content), tmp_path / "disk.raw", Plain.RAW)
    assert (tmp_path / "disk.raw").read_bytes() == model


@pytest.mark.parametrize("read", [bare, lambda disk: write_stream(disk, Collected(), "x")], ids=["bare", "stream"])
def test_grains_that_fall_back_are_refused_where_nobody_can(
    stream: bytes, read: Callable[[PipedStream], object]
) -> None:
    with pytest.raises(Unsupported, match="next grain: expected sector 256 or later, for nobody can go back"):
        read(piped(reordered(stream)))


def corrupted(stream: bytes, kind: Marker, offset: int) -> bytes:
    at = next(at for at, _, size, found in markers(stream, 128) if not size and found == kind)
    content = bytearray(stream)
    content[at + SECTOR + offset] ^= 0x40
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "offset", "what"),
    [
        (Marker.TABLE, 0, "grain table"), (Marker.DIRECTORY, 1, "grain directory, entry 0"),
        (Marker.FOOTER, 56, "gd_offset of the footer"), (Marker.FOOTER, 12, "capacity of the footer"),
    ],
)  # fmt: skip
def test_metadata_that_says_otherwise_is_an_error(
    stream: bytes, tmp_path: Path, kind: Marker, offset: int, what: str
) -> None:
    with pytest.raises(CorruptImage, match=f"standard input: byte .*{what}"):
        convert(piped(corrupted(stream, kind, offset)), tmp_path / "copy.vmdk", Kind.MONOLITHIC_SPARSE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_stream_that_is_cut_short_is_an_error(stream: bytes, tmp_path: Path, part: float) -> None:
    with pytest.raises(CorruptImage, match="the end of the stream"):
        convert(piped(stream[: int(len(stream) * part)]), tmp_path / "copy.raw", Plain.RAW)
    assert not list(tmp_path.iterdir())


def test_a_table_that_is_not_in_the_stream_is_missed(stream: bytes) -> None:
    at = next(at for at, _, size, kind in markers(stream, 128) if not size and kind == Marker.TABLE)
    content = bytearray(stream)
    struct.pack_into("<QII", content, at, 4, 0, 17)  # a kind that nobody knows, which is passed over
    with pytest.raises(CorruptImage, match="directory, entry 0: expected none, for no table came"):
        bare(piped(bytes(content)))


def test_what_has_its_tables_in_front_is_kept(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(data(1, 400))
    qemu_img("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", tmp_path / "disk.raw", tmp_path / "q.vmdk")
    fetch = Pipe((tmp_path / "q.vmdk").read_bytes())
    disk, start = streamed(fetch(SECTOR), PIPE, fetch)
    assert disk is None and start == fetch.content[: fetch.at]


def test_damaged_streams_are_read_or_refused(stream: bytes) -> None:
    chance = random.Random(5)
    for _ in range(60):
        content = bytearray(stream)
        for _ in range(chance.choice((1, 3))):
            at = chance.choice((chance.randrange(SECTOR), chance.randrange(128 * SECTOR, len(content))))
            content[at : at + 4] = chance.choice((bytes(4), b"\xff" * 4, chance.randbytes(4)))
        fetch = Pipe(bytes(content))
        try:
            disk, _ = streamed(fetch(SECTOR), PIPE, fetch)
            if disk is not None:
                disk.rising = True
                for piece in disk.runs(0, disk.size_bytes):
                    if piece.file is not None:
                        disk.read(piece.start, [memoryview(bytearray(piece.length))])
        except RingfenceError as error:
            assert "\n" not in str(error)
