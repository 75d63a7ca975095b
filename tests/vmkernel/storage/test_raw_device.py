"""Raw device mappings on a volume: made, asked about, opened as disks, locked, and refused where the device is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringfence.errors import HostRefused
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put
from tests.vmkernel.storage.volume_lab import folder, in_child, volume
from vmkernel.storage.chain import open_disk
from vmkernel.storage.convert import convert
from vmkernel.storage.create import Kind, create_child
from vmkernel.storage.errors import Locked, MissingLink, Unsupported
from vmkernel.storage.facts import disk_facts, use
from vmkernel.storage.family import tree
from vmkernel.storage.luns import Luns, disk_id, lun_name
from vmkernel.storage.raw_device import Mapping, create_mapping, mapping
from vmkernel.storage.redo.child import child_path, make_child
from vmkernel.storage.redo.commit import commit
from vmkernel.storage.renaming import delete_disk, rename_disk
from vmkernel.storage.resize import resize
from vmkernel.storage.vmfs3.descriptor_spec import FileType
from vmkernel.storage.vmfs3.identity import parse_disk_id
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs_place import VolumePlace, place_in
from vmkernel.storage.vmfs_store import close_volumes

__all__ = ["folder", "volume"]  # fixtures


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The names of this user's LUNs."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield tmp_path / "config/ringfence/luns"
    close_volumes()


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "device with a name that is longer than a disk id has room for.img"
    path.write_bytes(data(3, 4 * MIB // SECTOR))
    return path


@pytest.mark.parametrize("passthrough", [False, True])
def test_a_guests_reads_and_writes_are_the_devices(folder: Any, device: Path, passthrough: bool) -> None:
    path = folder / "map.vmdk"
    create_mapping(path, device, passthrough=passthrough)
    assert contents(path) == device.read_bytes()
    with open_disk(path, writable=True) as disk:
        put(disk, 100, data(4, 50))
        assert get(disk, 100, 50) == data(4, 50)
        disk.zero(7 * SECTOR, SECTOR)
    assert device.read_bytes()[100 * SECTOR : 150 * SECTOR] == data(4, 50)
    assert device.read_bytes()[7 * SECTOR : 8 * SECTOR] == bytes(SECTOR)
    found = mapping(path)
    assert found is not None and (found.is_passthrough, found.device) == (passthrough, device)
    facts = disk_facts(path)
    kind = "vmfsPassthroughRawDeviceMap" if passthrough else "vmfsRawDeviceMap"
    assert (facts["bytes"], facts["links"][0]["create_type"]) == (4 * MIB, kind)
    assert [member.path.name for member in [tree(path)]] == ["map.vmdk"]
    with pytest.raises(Unsupported):
        resize(path, 8 * MIB)
    with pytest.raises(HostRefused, match="xists"):
        create_mapping(path, device, passthrough=passthrough)


def test_the_file_on_the_volume_is_what_the_format_says(tmp_path: Path, volume: VolumePlace, device: Path) -> None:
    create_mapping(volume / "map.vmdk", device, passthrough=False)
    close_volumes()
    with Volume.open(sorted(tmp_path.glob("disk*.img"))) as seen:
        fd = seen.lookup("/vm/map-rdm.vmdk")
        assert (fd.type, fd.length, fd.block_size, fd.num_blocks, int(fd.zla), fd.stored_mode & 0o777) == (
            FileType.RDM, 4 * MIB, 512, 0, 0, 0o600,
        )  # fmt: skip
        assert Luns.of_user().device(fd.disk_id, "x") == device


def test_a_device_has_one_name(volume: VolumePlace, device: Path, user: Path) -> None:
    for number in range(3):
        create_mapping(volume / f"map{number}.vmdk", device, passthrough=False)
    (link,) = user.iterdir()
    assert link.resolve() == device and len(link.name) <= 44


def test_a_device_that_this_host_does_not_know_is_refused(volume: Any, device: Path, user: Path) -> None:
    path = volume / "map.vmdk"
    create_mapping(path, device, passthrough=False)
    (link,) = user.iterdir()
    moved = device.rename(device.with_name("moved"))
    with pytest.raises(MissingLink, match=rf"map-rdm.vmdk: device of LUN '{link.name}': .*which is not there"):
        open_disk(path)
    link.unlink()
    for writable in (False, True):
        with pytest.raises(MissingLink, match=r"expected a link to it in .*luns, found none of this name"):
            open_disk(path, writable=writable)
    assert mapping(path) == Mapping(False, None, link.name)
    link.symlink_to(moved)
    assert contents(path) == moved.read_bytes()
    moved.write_bytes(bytes(MIB))
    with pytest.raises(Unsupported, match="expected the 8192 sectors of the device"):
        open_disk(path)


def test_a_volume_names_no_file_of_the_host_by_itself(tmp_path: Path, volume: VolumePlace, user: Path) -> None:
    (tmp_path / "secret").write_bytes(data(1, 8))
    user.mkdir(parents=True)
    for number, name in enumerate((str(tmp_path / "secret")[-44:], "../../../secret", "..", "", ".hidden")):
        (volume / f"raw{number}").map_device(disk_id(name), 8 * SECTOR)
        with pytest.raises(MissingLink, match="device of LUN 'name-"):
            (volume / f"raw{number}").read_bytes()


def test_a_mapping_that_esx_made_is_opened_by_a_link(volume: VolumePlace, device: Path, user: Path) -> None:
    identifier = bytes(range(20)) + b"SYMMET"
    scsi = bytes([1, 26, 0, 0, 0, 4]) + bytes(28) + identifier.ljust(44, b"\0")
    assert lun_name(parse_disk_id(disk_id("vmhba0:C0:T0:L0"))) == "vmhba0:C0:T0:L0"
    (volume / "raw").map_device(scsi, 4 * MIB)
    user.mkdir(parents=True)
    (user / f"scsi-{identifier.hex()}").symlink_to(device)
    assert (volume / "raw").read_bytes() == device.read_bytes()


def test_what_a_guest_wrote_on_the_device_is_no_descriptor(volume: Any, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b'# Disk DescriptorFile\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n'.ljust(SECTOR))
    create_mapping(volume / "map.vmdk", small, passthrough=False)
    assert [member.path.name for member in tree(volume / "map.vmdk").children] == []
    assert contents(volume / "map.vmdk") == small.read_bytes()


def test_a_mapping_has_one_writer(volume: VolumePlace, device: Path) -> None:
    path, second = volume / "map.vmdk", volume / "second.vmdk"
    create_mapping(path, device, passthrough=False)
    create_mapping(second, device, passthrough=True)
    close_volumes()
    devices, inside = volume.store.devices, "vm/map.vmdk"
    fresh = place_in(devices, inside)
    with open_disk(fresh, writable=True) as disk:
        put(disk, 0, data(1, 1))
        disk.flush()

        def another() -> None:
            close_volumes_of_parent()
            with pytest.raises(Locked, match=r"map-rdm.vmdk: locked by .*\(pid "):
                open_disk(place_in(devices, inside), writable=True)
            assert use(place_in(devices, inside)) == "written"

        assert in_child(another) == 0
        with pytest.raises(Locked, match="another process has it open"):
            open_disk(place_in(devices, "vm/second.vmdk"), writable=True)
        with pytest.raises(Locked):
            delete_disk(fresh)
    assert use(fresh) == "free"
    with open_disk(fresh) as one, open_disk(fresh) as two:
        assert get(one, 0, 1) == get(two, 0, 1)
        with pytest.raises(Locked):
            open_disk(fresh, writable=True)


def close_volumes_of_parent() -> None:
    """A forked process has its parent's volumes, and is no host of its own before it has forgotten them."""
    from vmkernel.storage.vmfs_store import STORES

    STORES.clear()


def test_snapshots_are_for_virtual_compatibility(folder: Any, device: Path) -> None:
    virtual, physical = folder / "virtual.vmdk", folder / "physical.vmdk"
    create_mapping(virtual, device, passthrough=False)
    create_mapping(physical, device, passthrough=True)
    with pytest.raises(Unsupported, match="a pass-through raw device mapping"):
        create_child(folder / "child.vmdk", physical)
    child = child_path(virtual)
    before = device.read_bytes()
    with open_disk(virtual, writable=True) as parent:
        make_child(child, parent)
    with open_disk(child, writable=True) as disk:
        put(disk, 9, data(8, 9))
    assert device.read_bytes() == before
    commit(child)
    assert device.read_bytes()[9 * SECTOR : 18 * SECTOR] == data(8, 9)


def test_a_mapping_is_copied_renamed_and_deleted_without_its_device(folder: Any, device: Path) -> None:
    path, moved = folder / "map.vmdk", folder / "moved.vmdk"
    create_mapping(path, device, passthrough=False)
    before = device.read_bytes()
    with open_disk(path) as source:
        convert(source, folder / "copy.vmdk", Kind.THIN)
    assert contents(folder / "copy.vmdk") == before
    rename_disk(path, moved)
    assert contents(moved) == before
    delete_disk(moved)
    assert {name.name for name in folder.iterdir()} == {"copy.vmdk", "copy-flat.vmdk"}
    assert device.read_bytes() == before
