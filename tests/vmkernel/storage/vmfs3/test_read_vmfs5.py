"""Real VMFS-5 and LVM volumes, made by ESX: read whole, and like dissect.vmfs reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.vmkernel.storage.vmfs3 import fetched, peers
from tests.vmkernel.storage.vmfs3.specimen import MIB, PE
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import FileType, ZeroLevel
from vmkernel.storage.vmfs3.errors import IncompleteVolume
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume, read_device
from vmkernel.storage.vmfs3.volume import Volume

SINGLE = ("vmfs5", "vmfs5-no-dense-sbpc", "vmfs5ld")
BARE = ("vmfs5ld",)
GIB = 1 << 30


def same_file(volume: Volume, fd: Descriptor, theirs: Any, path: str) -> None:
    assert (fd.length, fd.mode & 0o7777, fd.nlink) == (
        theirs.size, theirs.mode & 0o7777, theirs.metadata.linkCount,
    ), path  # fmt: skip
    assert (fd.mtime, fd.ctime, fd.atime) == tuple(
        int(time.timestamp()) for time in (theirs.mtime, theirs.ctime, theirs.atime)
    )
    if fd.is_rdm:
        assert fd.disk_id.id == bytes(theirs.rdm_mapping.diskId.id)
        return
    ours, stream = volume.open_file(fd), theirs.open()
    pieces = [(0, min(fd.length, MIB)), (max(fd.length - MIB, 0), min(fd.length, MIB))]
    rows = ours.map()
    for start, length in zip(rows.file_offset.tolist()[:20], rows.length.tolist(), strict=False):
        pieces.append((start, min(length, MIB, fd.length - start)))
    if path == "/bigger":
        pieces.append((0, fd.length))
    for start, length in pieces:
        stream.seek(start)
        assert ours.bytes_at(start, length) == stream.read(length), (path, start)


def compare(volume: Volume, fd: Descriptor, theirs: Any, path: str = "") -> int:
    """How many files and directories are the same."""
    entries, others = volume.entries(fd, dots=True), list(theirs.iterdir())
    assert [(entry.name, int(entry.type), entry.address) for entry in entries] == [
        (other.name, int(other.type), other.address) for other in others
    ]
    count = 0
    for entry, other in zip(entries, others, strict=True):
        below, found = f"{path}/{entry.name}", volume.descriptor(entry.address)
        same_file(volume, found, other.fd, below)
        count += 1
        if entry.name not in (".", "..") and found.is_directory:
            count += compare(volume, found, other.fd, below)
    return count


@pytest.mark.parametrize("name", SINGLE)
def test_a_volume_is_read_as_dissect_reads_it(name: str) -> None:
    paths = fetched.volume(name)
    with peers.dissected(paths, bare=name in BARE) as theirs, Volume.open(paths) as volume:
        assert (volume.version, volume.label) == (5, name)
        assert compare(volume, volume.root, theirs.root) > 10


def test_a_volume_of_two_devices_is_read_as_dissect_reads_it() -> None:
    """With blocks of 512 KB, its own files need pointer blocks."""
    paths = fetched.volume("vmfs5-span-1", "vmfs5-span-0")
    with peers.dissected(paths) as theirs, Volume.open(paths) as volume:
        assert volume.fdc.descriptor.zla == ZeroLevel.POINTER_BLOCK
        assert compare(volume, volume.root, theirs.root) > 10
    with pytest.raises(IncompleteVolume):
        Volume.open(paths[:1])


def test_contents_are_what_was_put_in() -> None:
    """By its makers: known text, numbered megabytes, a hundred files, disks with one sector written."""
    with Volume.open(fetched.volume("vmfs5")) as volume:

        def read(path: str, start: int = 0, length: int = 200 * MIB) -> bytes:
            return volume.open_file(volume.lookup(path)).bytes_at(start, length)

        assert volume.lookup("/small").zla == ZeroLevel.RESIDENT
        assert read("/small") == b"tiny\n"
        assert volume.readlink(volume.lookup("/symlink", follow=False)) == "/vmfs/volumes/vmfs5/small"
        assert volume.lookup("/symlink").address == volume.lookup("/small").address
        assert read("/big") == b"Kusjes van SRT<3" * 65536 + b"\n"
        assert read("/bigger") == b"".join(bytes([number]) * MIB for number in range(128))
        for number in range(1, 101):
            assert read(f"/directory/file{number}") == f"File {number}\n".encode()
        normal, large = volume.lookup("/normal-flat.vmdk"), volume.lookup("/large-flat.vmdk")
        assert (normal.zla, normal.length) == (ZeroLevel.POINTER_BLOCK, 69 * GIB)
        assert (large.zla, large.length) == (ZeroLevel.DOUBLE, 43008 * GIB)
        assert read("/normal-flat.vmdk", 42 * GIB, 512) == b"\x42" * 512
        assert read("/large-flat.vmdk", 117 * GIB, 512) == b"\x42" * 512
        assert read("/large-flat.vmdk", 43007 * GIB, 512) == bytes(512)
        assert volume.lookup("/rdm-rdm.vmdk").type == FileType.RDM
        assert volume.lookup("/.sdd.sf").is_directory


def test_writing_vmfs_5_is_refused() -> None:
    with pytest.raises(Unsupported, match="writing: expected a VMFS-3 volume, found VMFS-5, which is only read"):
        Volume.open(fetched.volume("vmfs5-no-dense-sbpc"), writable=True)


def test_vmfs_6_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"version of LVM: expected 3 to 5, found 6, which holds VMFS-6"):
        Volume.open(fetched.volume("vmfs6"))


@pytest.mark.parametrize(("names", "extents"), [
    (("lvm3",), [2]), (("lvm5",), [2]), (("lvm3-span-0", "lvm3-span-1"), [2, 2]),
    (("lvm5-span-1", "lvm5-span-0"), [2, 2]),
])  # fmt: skip
def test_real_lvm_headers_are_understood(names: tuple[str, ...], extents: list[int]) -> None:
    luns = [Lun.open(path) for path in fetched.volume(*names)]
    lv = LogicalVolume.open(luns)
    assert [len(device.table) for device in lv.devices] == extents
    assert lv.size == sum(extents) * PE
    total = sum(extents) + len(extents)
    assert {device.descriptor.generation for device in lv.devices} == {total}
    lv.close()


def test_a_real_device_without_its_partner_is_missing_one() -> None:
    with Lun.open(fetched.volume("lvm3-span-0")[0]) as lun:
        assert read_device(lun).descriptor.num_devices == 2
        with pytest.raises(IncompleteVolume, match="devices: expected the 2 of volume"):
            LogicalVolume.open([lun])


def lvm6(path: Path) -> None:
    with Lun.open(path) as lun, pytest.raises(Unsupported):
        read_device(lun)


def test_lvm_6_is_refused() -> None:
    lvm6(fetched.volume("lvm6")[0])
