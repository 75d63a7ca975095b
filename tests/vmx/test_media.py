"""Disk, disc and floppy images on real files, and an ISO by xorriso read through the whole CD-ROM drive."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from hw.wiring import BlockDevice
from ringfence.errors import BadInput, HostRefused, MediaError, RingfenceError
from tests.hw.floppy_pc import BUFFER, Driver, OurPc
from tests.hw.ide.rig import Rig
from vmx import media
from vmx.media import CYLINDER_BYTES, HostBlocks, open_disc, open_disk, open_floppy

MIB = 1 << 20


def made(path: Path, size: int, head: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def views(*lengths: int) -> tuple[bytearray, list[memoryview]]:
    """A buffer and views of it, one after another."""
    buffer = bytearray(sum(lengths))
    ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
    return buffer, [memoryview(buffer)[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def test_a_medium_is_a_block_device(tmp_path: Path) -> None:
    device: BlockDevice = open_disk(made(tmp_path / "disk", MIB))
    assert (device.block_size, device.blocks) == (512, 2048)


def test_reads_and_writes_go_where_they_should(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    content = bytearray(random.Random(1).randbytes(MIB))
    path.write_bytes(content)
    disk = open_disk(path)
    buffer, parts = views(100, 924, 3 * 512)
    disk.read(7, parts)
    assert buffer == content[7 * 512 : 12 * 512]
    buffer[:] = random.Random(2).randbytes(len(buffer))
    disk.write(2043, parts)
    disk.flush()
    disk.close()
    content[2043 * 512 :] = buffer
    assert path.read_bytes() == content


def test_more_views_than_the_host_takes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "VIEWS_MAX", 3)
    path = tmp_path / "disk"
    path.write_bytes(random.Random(1).randbytes(MIB))
    disk = open_disk(path)
    buffer, parts = views(*[64] * 80)
    disk.read(1, parts)
    assert buffer == path.read_bytes()[512 : 512 + 5120]


@pytest.mark.parametrize(
    ("size", "head", "said"),
    [
        (CYLINDER_BYTES + 1, b"", "multiple of 512"),
        (CYLINDER_BYTES - 512, b"", "at least one cylinder"),
        (0, b"", "at least one cylinder"),
        (MIB, b"KDMV\x01", "a sparse VMDK extent"),
        (MIB, b"COWD\x01", "a VMDK redo log"),
        (MIB, b"# Disk DescriptorFile\nversion=1", "a VMDK descriptor"),
        (MIB, b"QFI\xfb\0\0\0\3", "a qcow image"),
        (MIB, bytes(MIB - 512) + b"conectix", "a VHD image"),
    ],
)
def test_what_is_no_raw_disk_is_refused(tmp_path: Path, size: int, head: bytes, said: str) -> None:
    path = made(tmp_path / "disk", size, head)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=said):
        open_disk(path)
    assert path.read_bytes() == before
    made(path, MIB)
    open_disk(path).close()


def test_the_smallest_disk_has_one_cylinder(tmp_path: Path) -> None:
    assert open_disk(made(tmp_path / "disk", CYLINDER_BYTES)).blocks == 16 * 63


def test_qemu_imgs_formats_are_told_apart(tmp_path: Path) -> None:
    if not shutil.which("qemu-img"):
        pytest.skip("qemu-img is not installed, so there are no images of other formats")
    for form in ("qcow2", "vmdk", "vdi", "vhdx", "vpc", "raw"):
        path = tmp_path / form
        subprocess.run(["qemu-img", "create", "-q", "-f", form, str(path), "8M"], check=True)
        if form == "raw":
            open_disk(path).close()
        else:
            with pytest.raises(BadInput, match="bare sectors"):
                open_disk(path)


def test_one_machine_writes_or_several_read(tmp_path: Path) -> None:
    path = made(tmp_path / "disk", MIB)
    first = open_disk(path)
    for read_only in (False, True):
        with pytest.raises(HostRefused, match="another machine"):
            open_disk(path, read_only=read_only)
    first.close()
    reader = open_disk(path, read_only=True)
    open_disk(path, read_only=True).close()
    with pytest.raises(HostRefused, match="another machine"):
        open_disk(path)
    reader.close()
    open_disk(path).close()


def test_a_read_only_disk_is_not_written(tmp_path: Path) -> None:
    path = made(tmp_path / "disk", MIB)
    disk = open_disk(path, read_only=True)
    with pytest.raises(MediaError) as raised:
        disk.write(5, [memoryview(bytes(1024))])
    assert (raised.value.block, raised.value.count) == (5, 2)
    disk.flush()
    assert "read-only" in disk.trouble


@pytest.mark.parametrize("opener", [open_disk, open_disc, open_floppy])
def test_what_cannot_be_opened_is_one_line(tmp_path: Path, opener: object) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, said in (("missing", "No such file"), (".", "director|regular file"), ("fifo", "regular file|such dev")):
        with pytest.raises(RingfenceError, match=said) as raised:
            opener(tmp_path / name)  # type: ignore[operator]
        assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(HostRefused):
        opener(Path("nul\0byte"))  # type: ignore[operator]


def test_a_file_that_shrinks_fails_from_there_on(tmp_path: Path) -> None:
    path = tmp_path / "disc"
    path.write_bytes(b"x" * 2048 * 10)
    disc = open_disc(path)
    os.truncate(path, 2048 * 4 + 100)
    buffer, parts = views(2048 * 4)
    disc.read(0, parts)
    assert buffer == b"x" * 2048 * 4
    with pytest.raises(MediaError) as raised:
        disc.read(2, views(2048 * 4)[1])
    assert (raised.value.block, raised.value.count) == (4, 4)
    assert "it ends at byte" in disc.trouble


def test_the_hosts_refusal_to_write_is_the_sectors(tmp_path: Path) -> None:
    """A file-size limit stands for a full disk: the host takes one sector of three."""
    path = made(tmp_path / "disk", CYLINDER_BYTES)
    disk = open_disk(path)
    os.truncate(path, 512)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(MediaError) as raised:
            disk.write(1, [memoryview(bytes(1536))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (raised.value.block, raised.value.count) == (2, 3)
    assert "File too large" in disk.trouble


def test_a_flush_that_failed_once_fails_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = open_disk(made(tmp_path / "disk", MIB))

    def refuse(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", refuse)
    for _ in range(2):
        with pytest.raises(MediaError):
            disk.flush()
        monkeypatch.undo()
    assert "Input/output error" in disk.trouble


# discs


@pytest.mark.parametrize(
    ("size", "head", "said"),
    [(0, b"", "an empty file"), (2352 * 20, media.RAW_SYNC, "raw sectors of 2352 bytes")],
)
def test_what_is_no_disc_image_is_refused(tmp_path: Path, size: int, head: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        open_disc(made(tmp_path / "disc", size, head))


def test_a_last_block_is_filled_up_with_zeros(tmp_path: Path) -> None:
    path = tmp_path / "disc"
    path.write_bytes(b"x" * 5000)
    disc = open_disc(path)
    assert disc.blocks == 3
    buffer, parts = views(100, 4096 - 100)
    disc.read(1, parts)
    assert buffer == b"x" * 2952 + bytes(1144)


def test_a_disc_beyond_4_gib(tmp_path: Path) -> None:
    path = made(tmp_path / "disc", 5 << 30)
    with path.open("r+b") as file:
        file.seek((5 << 30) - 2048)
        file.write(b"the end ")
    disc = open_disc(path)
    buffer, parts = views(2048)
    disc.read(disc.blocks - 1, parts)
    assert buffer[:8] == b"the end "


@pytest.fixture
def iso(tmp_path: Path) -> Path:
    """An image that xorriso made."""
    if not shutil.which("xorriso"):
        if os.environ.get("CI"):
            pytest.fail("xorriso is not installed")
        pytest.skip("xorriso is not installed, so nobody else makes a disc image")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "DATA.BIN").write_bytes(random.Random(3).randbytes(300_000))
    path = tmp_path / "disc.iso"
    subprocess.run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-V", "TEST", "-o", str(path), str(folder)],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


def test_an_iso_is_read_by_dma_through_the_drive(iso: Path) -> None:
    disc = open_disc(iso)
    assert not disc.notice
    rig = Rig()
    rig.cdrom.disconnect()
    rig.cdrom.connect(disc)
    for _ in range(3):  # power-on, no disc, another disc
        rig.awake()
    content = iso.read_bytes()
    for first, count in ((16, 1), (0, 30), (disc.blocks - 5, 5)):
        assert read_disc(rig, first, count) == content[first * 2048 : (first + count) * 2048]


def read_disc(rig: Rig, first: int, count: int) -> bytes:
    """READ(10) by DMA to 10000h."""
    rig.packet(bytes([0x28, 0, *first.to_bytes(4, "big"), 0, *count.to_bytes(2, "big")]), features=1)
    rig.start(rig.table([(0x10000, count * 2048)]), True, channel=1)
    assert rig.master_status(1) == 0x04, "done, and interrupted"
    return bytes(rig.memory.ram[0x10000 : 0x10000 + count * 2048])


def test_a_truncated_iso_is_noticed(iso: Path) -> None:
    os.truncate(iso, iso.stat().st_size - 10 * 2048)
    assert "blocks, the file only" in open_disc(iso).notice


# floppies


def test_a_diskette_is_written_through_the_controller(tmp_path: Path) -> None:
    path = made(tmp_path / "floppy", 1_474_560)
    floppy = open_floppy(path)
    driver = Driver(OurPc([floppy]))
    driver.ready()
    driver.seek(2)
    assert driver.write(2, 1, 1, b"on cylinder 2, head 1".ljust(512, b"."))[:3] == [4, 0, 0]
    assert path.read_bytes()[(2 * 2 + 1) * 18 * 512 :].startswith(b"on cylinder 2, head 1.")
    assert driver.read(2, 1, 1, 1)[:3] == [4, 0, 0]
    assert driver.pc.peek(BUFFER, 21) == b"on cylinder 2, head 1"


def test_only_sizes_of_diskettes(tmp_path: Path) -> None:
    for size in (737_280, 1_474_560, 1_720_320):
        open_floppy(made(tmp_path / "floppy", size)).close()
    for size in (0, 512, 1_474_561, 2_949_120):
        with pytest.raises(BadInput, match="one of 737280, 1474560, 1720320 bytes"):
            open_floppy(made(tmp_path / "floppy", size))


def test_a_floppy_can_be_write_protected(tmp_path: Path) -> None:
    floppy = open_floppy(made(tmp_path / "floppy", 1_474_560), read_only=True)
    assert isinstance(floppy, HostBlocks) and not floppy.writable
