"""Streams: what is written is one, in the order in which an importer needs it; and what is read in every shape."""

from __future__ import annotations

import os
import random
import struct
import threading
import zlib
from pathlib import Path
from types import ModuleType

import pytest

from ringfence.errors import MediaError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put, qemu_reads, written
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create
from vmkernel.storage.errors import CorruptImage, DamagedGrain, Unsupported
from vmkernel.storage.vmdk import deflate
from vmkernel.storage.vmdk.sparse_spec import HEADER, MARKER, GrainMarker, Marker
from vmkernel.storage.vmdk.stream_writer import write_stream

GRAIN = 128 * SECTOR


def stream_of(path: Path, out: Path) -> bytearray:
    with open_disk(path) as disk, out.open("wb") as file:
        assert write_stream(disk, file, out.name) == file.tell()
    return bytearray(out.read_bytes())


def markers(stream: bytes) -> list[tuple[str, int]]:
    """(kind, sector of the disk or of the file) of everything behind the descriptor."""
    found, at = [], 128 * SECTOR
    while at < len(stream):
        marker = MARKER.parse(stream[at : at + SECTOR])
        if marker.size:
            found.append(("GRAIN", marker.value))
            at += -(-(12 + marker.size) // SECTOR) * SECTOR
        else:
            found.append((Marker(marker.type).name, marker.value))
            at += (1 + marker.value) * SECTOR
    return found


def test_a_stream_is_in_the_order_that_an_importer_needs(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.THIN, 128 * MIB)
    with open_disk(path, writable=True) as disk:
        for sector in (0, 300, 65536 * 2 + 5, 128 * 2048 - 1):
            put(disk, sector, data(sector, 1))
    stream = stream_of(path, tmp_path / "stream.vmdk")
    expected = [("GRAIN", 0), ("GRAIN", 256), ("TABLE", 4), ("GRAIN", 131072), ("TABLE", 4), ("GRAIN", 262016),
                ("TABLE", 4), ("DIRECTORY", 1), ("FOOTER", 1), ("END", 0)]  # fmt: skip
    assert markers(stream) == expected
    header, footer = HEADER.parse(stream[:SECTOR]), HEADER.parse(stream[-2 * SECTOR : -SECTOR])
    assert (header.version, header.flags, header.gd_offset, header.over_head) == (3, 0x30001, (1 << 64) - 1, 128)
    assert footer.gd_offset * SECTOR == len(stream) - 4 * SECTOR
    directory = struct.unpack_from("<4I", stream, footer.gd_offset * SECTOR)
    assert [bool(table) for table in directory] == [True, False, True, True]
    with open_disk(tmp_path / "stream.vmdk") as read, open_disk(path) as disk:
        for sector in (0, 299, 131072, 262143 - 127):
            assert get(read, sector, 128) == get(disk, sector, 128)


def test_an_empty_disk_is_a_stream_without_tables(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    create(path, Kind.MONOLITHIC_SPARSE, 1 << 30)
    stream = stream_of(path, tmp_path / "stream.vmdk")
    assert len(stream) == 133 * SECTOR
    with open_disk(tmp_path / "stream.vmdk") as disk:
        assert disk.size_bytes == 1 << 30
        assert [piece.file for piece in disk.runs(0, 1 << 30)] == [None]


def test_a_stream_goes_through_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = written(path, Kind.VMFS_SPARSE, 5 * MIB + SECTOR)
    reading, writing = os.pipe()
    received: list[bytes] = []

    def drain() -> None:
        with os.fdopen(reading, "rb") as pipe:
            received.append(pipe.read())

    thread = threading.Thread(target=drain)
    thread.start()
    steps: list[tuple[int, int]] = []
    with open_disk(path) as disk, os.fdopen(writing, "wb") as pipe:
        write_stream(disk, pipe, "s.vmdk", progress=lambda done, size: steps.append((done, size)))
    thread.join()
    (tmp_path / "s.vmdk").write_bytes(received[0])
    assert contents(tmp_path / "s.vmdk") == model
    assert steps == sorted(steps)
    assert steps[-1] == (len(model), len(model))


def test_what_does_not_compress_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = random.Random(5).randbytes(3 * GRAIN + 7 * SECTOR)
    create(path, Kind.MONOLITHIC_FLAT, len(model))
    with open_disk(path, writable=True) as disk:
        disk.write(0, [memoryview(model)])
    stream_of(path, tmp_path / "stream.vmdk")
    assert contents(tmp_path / "stream.vmdk") == qemu_reads(tmp_path / "stream.vmdk") == model


def by_hand(folder: Path, grains: dict[int, bytes], sectors: int, *, shape: str = "workstation") -> Path:
    """A stream as others write them. `grains`: marker and compressed data by number.

    workstation: directory and table in front, no footer; old: no markers but the sizes, version 1.
    """
    text = 'version=1\nCID=5\nparentCID=ffffffff\ncreateType="streamOptimized"\n'
    text += f'RDONLY {sectors} SPARSE "call-me-stream.vmdk"\n'
    out, table = bytearray(128 * SECTOR), [0] * 512
    for number, content in grains.items():
        table[number] = len(out) // SECTOR
        out += content + bytes(-len(content) % SECTOR)
    if shape == "workstation":
        out += MARKER.build({"value": 0, "size": 0, "type": 0, "pad": bytes(496)})
    out[:SECTOR] = HEADER.build(
        {
            "magic": b"KDMV", "version": 3 if shape == "workstation" else 1, "capacity": sectors, "grain_size": 128,
            "flags": 0x30001 if shape == "workstation" else 0x10001, "descriptor_offset": 1, "descriptor_size": 20,
            "gtes_per_gt": 512, "rgd_offset": 0, "gd_offset": 21, "over_head": 128, "unclean_shutdown": 0,
            "newlines": b"\n \r\n", "compression": 1, "pad": bytes(433),
        }
    )  # fmt: skip
    out[SECTOR : SECTOR + len(text)] = text.encode()
    struct.pack_into("<I", out, 21 * SECTOR, 22)
    struct.pack_into("<512I", out, 22 * SECTOR, *table)
    (folder / "disk.vmdk").write_bytes(out)
    return folder / "disk.vmdk"


def marked(number: int, packed: bytes) -> bytes:
    return bytes(GrainMarker(number * 128, len(packed))) + packed


def bare(content: bytes) -> bytes:
    """RFC 1951, without the wrapper."""
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(content) + deflater.flush()


def test_a_directory_in_front_and_no_footer(tmp_path: Path) -> None:
    grains = {0: marked(0, zlib.compress(data(1, 128))), 2: marked(2, zlib.compress(data(2, 100), 9))}
    path = by_hand(tmp_path, grains, 356)
    assert contents(path) == data(1, 128) + bytes(GRAIN) + data(2, 100)
    with open_disk(path, recover=True) as disk:
        assert get(disk, 0, 356) == contents(path)
        assert not disk.warnings
    with pytest.raises(Unsupported, match="streamOptimized"):
        open_disk(path, writable=True)


def test_streams_without_markers_and_without_wrapper(tmp_path: Path) -> None:
    packed = bare(data(1, 128))
    path = by_hand(tmp_path, {1: struct.pack("<I", len(packed)) + packed}, 256, shape="old")
    assert contents(path) == bytes(GRAIN) + data(1, 128)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (marked(1, zlib.compress(data(1, 128))), "marker: expected sector 0, found sector 128"),
        (marked(0, zlib.compress(bytes(1 << 24))), "inflated grain: expected 65536 to 65536 bytes, found more than"),
        (marked(0, zlib.compress(data(1, 127))), "inflated grain: expected 65536 to 65536 bytes, found 65024"),
        (marked(0, zlib.compress(data(1, 128))[:-9]), "grain: expected a deflated stream"),
        (marked(0, b"not deflated" * 9), "grain: expected a deflated stream"),
        (bytes(12), "compressed size: expected 1 to 131584, found 0"),
        (bytes(GrainMarker(0, 1 << 31)), "compressed size"),
        (bytes(GrainMarker(0, 5000)), "grain: expected 5000 bytes, found the end of the file"),
    ],
)
def test_a_grain_that_cannot_be_true_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = by_hand(tmp_path, {0: content}, 128)
    with open_disk(path) as disk, pytest.raises(DamagedGrain, match=said) as caught:
        get(disk, 5, 1)
    assert caught.value.block == 5
    assert isinstance(caught.value, MediaError)


def test_a_stream_that_was_cut_short_is_recovered_on_request(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    model = bytearray(40 * MIB)
    create(path, Kind.THIN, len(model))
    with open_disk(path, writable=True) as disk:
        for sector in (0, 300, 66000):
            put(disk, sector, data(sector, 1))
            model[sector * SECTOR : (sector + 1) * SECTOR] = data(sector, 1)
    stream = stream_of(path, tmp_path / "stream.vmdk")
    for cut in (len(stream) - 5 * SECTOR, len(stream) - SECTOR):
        (tmp_path / "cut.vmdk").write_bytes(stream[:cut])
        with pytest.raises(CorruptImage):
            open_disk(tmp_path / "cut.vmdk")
        with open_disk(tmp_path / "cut.vmdk", recover=True) as disk:
            assert get(disk, 0, disk.sectors) == model
    (tmp_path / "cut.vmdk").write_bytes(stream[: 129 * SECTOR + 100])
    with open_disk(tmp_path / "cut.vmdk", recover=True) as disk:
        assert "cut short" in disk.warnings[0] or "end of the file" in disk.warnings[0]
        assert get(disk, 0, 1) == data(0, 1)
    (tmp_path / "cut.vmdk").write_bytes(stream + b"trailing garbage")
    with open_disk(tmp_path / "cut.vmdk", recover=True) as disk:
        assert get(disk, 0, disk.sectors) == model


@pytest.mark.parametrize("codec", [deflate.CODEC, zlib], ids=["fastest", "zlib"])
def test_deflate_stops_where_it_is_told_to(codec: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflate, "CODEC", codec)
    bomb = zlib.compress(bytes(1 << 24))
    assert len(deflate.unpack(bomb, 65536)) == 65537
    assert deflate.unpack(deflate.pack(b"x" * 500), 500) == b"x" * 500
    for nothing in (b"", b"\x78", b"\xff" * 40):
        with pytest.raises(ValueError):
            deflate.unpack(nothing, 65536)
