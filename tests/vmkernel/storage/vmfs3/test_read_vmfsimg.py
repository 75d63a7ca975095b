"""VMFSIMG containers are expanded; the real VMFS 3.31 volume that is passed on in one is read."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3 import fetched, peers
from tests.vmkernel.storage.vmfs3.filled import small
from tests.vmkernel.storage.vmfs3.specimen import MIB
from vmkernel.storage.errors import CorruptImage
from vmkernel.storage.vmfs3.errors import NotVmfs
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.vmfsimg import expand
from vmkernel.storage.vmfs3.volume import Volume


def number(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + number(rest) if rest else bytes([low])


def head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(32 * MIB)


def pack(path: Path, version: int = 2) -> bytes:
    """A container of a sparse file, with the data of its first 32 MB."""
    out, zeros, checksum = [b"VMFSIMG", bytes([version])], 0, 1
    data = head(path)
    rest = path.stat().st_size // 512 * 512 - len(data)
    sectors = [data[at : at + 512] for at in range(0, len(data), 512)]
    for sector in sectors:
        if sector == bytes(512):
            zeros += 1
            continue
        if zeros:
            out += [b"\x01", number(zeros - 1)]
            zeros = 0
        words = -(-len(sector.rstrip(b"\0")) // 4)
        out += [b"\0", number(words), sector[: words * 4]] if version > 1 else [b"\0", sector]
    out += [b"\x01", number(zeros + rest // 512 - 1)]
    checksum = zlib.adler32(data, checksum)
    while rest:
        step = min(rest, MIB)
        checksum, rest = zlib.adler32(bytes(step), checksum), rest - step
    return b"".join([*out, b"\x7f", struct.pack("<I", checksum)])


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_gives_the_volume_back(tmp_path: Path, version: int) -> None:
    path = small(tmp_path, partitioned=False)[0]
    packed, target = tmp_path / "packed", tmp_path / "expanded"
    packed.write_bytes(pack(path, version))
    assert expand(packed, target) == path.stat().st_size
    assert head(target) == head(path)
    assert os.stat(target).st_blocks * 512 < 32 * MIB
    with Volume.open([target]) as volume:
        assert volume.open_file(volume.lookup("/d/a")).bytes_at(0, 99) == b"contents of a\n"


@pytest.mark.parametrize(("data", "text"), [
    (b"VMFSIMG\x03", "byte 7: version: expected 1 or 2, found 3"), (b"VMFSIMG\x02\x02", "record: expected 00h, 01h or"),
    (b"VMFSIMG\x02\0\x80\x80\x80\x80\x80\x01", "number: expected up to 5 bytes"),
    (b"VMFSIMG\x02\0\x81\x01", "words of a sector: expected up to 128, found 129"),
    (b"VMFSIMG\x02\0\x02abcdefg", "record: expected 8 bytes, found 7"),
    (b"VMFSIMG\x02\x01", "record: expected 1 bytes"),
    (b"VMFSIMG\x02\x01\x05\x7f\0\0\0\0", "checksum: expected"), (b"VMFSIMG", "record: expected 8 bytes"),
    (b"VMFSIMG\x02" + b"\x01\xff\xff\xff\xff\x7f" * 9, "size of the device: expected up to"),
])  # fmt: skip
def test_a_damaged_container_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "packed").write_bytes(data)
    with pytest.raises(CorruptImage, match=text):
        expand(tmp_path / "packed", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_file_is_no_container(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(b"something")
    with pytest.raises(NotVmfs, match="magic: expected VMFSIMG"):
        expand(tmp_path / "packed", tmp_path / "out")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("real") / "volume"
    expand(fetched.container(), target)
    return target


@pytest.mark.long
def test_the_real_volume_is_what_is_published_of_it(real: Path) -> None:
    with Volume.open([real]) as volume:
        assert (volume.label, volume.superblock.major, volume.superblock.minor) == ("toto", 4, 31)
        assert uuid_text(volume.uuid) == "49edf844-ebfc28f3-65cb-0021280083cf"
        names = [entry.name for entry in volume.entries(volume.root)]
        assert names[:5] == [".fbb.sf", ".fdc.sf", ".pbc.sf", ".sbc.sf", ".vh.sf"]
        shapes = {"thin": (1, 0), "thick": (200, 0), "zeroedthick": (200, 199), "eagerzeroedthick": (200, 0)}
        for kind, (blocks, tbz) in shapes.items():
            fd = volume.lookup(f"/{kind}-flat.vmdk")
            assert (fd.length, fd.num_blocks, fd.tbz) == (200 * MIB, blocks, tbz)
            text = volume.open_file(volume.lookup(f"/{kind}.vmdk")).bytes_at(0, 30)
            assert text.startswith(b"# Disk DescriptorFile")


@pytest.mark.long
def test_the_real_volume_is_read_as_debugvmfs_reads_it(real: Path) -> None:
    with Volume.open([real]) as volume:
        for entry in volume.entries(volume.root):
            file = volume.open_file(volume.descriptor(entry.address))
            assert peers.debugvmfs([real], "cat", f"/{entry.name}") == file.bytes_at(0, file.size)
