"""What a check finds: nothing in sound volumes that others made, and each kind of damage by its place."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3 import fetched
from tests.vmkernel.storage.vmfs3.damaged import DAMAGES, Damage, Sound, copied
from tests.vmkernel.storage.vmfs3.specimen import MIB, Specimen
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.vmfs3.check import check, open_luns
from vmkernel.storage.vmfs3.check_lvm import check_devices
from vmkernel.storage.vmfs3.finding import Fault, Finding, Findings
from vmkernel.storage.vmfs3.vmfsimg import expand


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return Sound(tmp_path_factory.mktemp("sound"))


def found(volume: Specimen) -> list[Finding]:
    return check(volume.paths)


def test_a_sound_volume_has_no_findings(sound: Sound) -> None:
    before = sound.paths[0].stat()
    assert found(sound) == []
    after = sound.paths[0].stat()
    assert (after.st_mtime_ns, after.st_blocks) == (before.st_mtime_ns, before.st_blocks)


@pytest.mark.parametrize("block_size", [1, 2, 4, 8])
def test_sound_volumes_of_all_block_sizes_and_extents(tmp_path: Path, block_size: int) -> None:
    volume = Specimen(tmp_path, pes=(1, 2, 1), block_size=block_size * MIB)
    volume.sparse("disk", 600 * block_size * MIB, {0: b"1", 599: b"2"}, volume.mkdir("vm"))
    volume.finish()
    assert found(volume) == []
    assert check(volume.paths[::-1]) == []  # their order does not matter


def test_system_files_in_scattered_blocks_are_read(tmp_path: Path) -> None:
    volume = Specimen(tmp_path, fragmented=True)  # the blocks between them are nobody's
    volume.file("a", b"b")
    volume.finish()
    assert {one.fault for one in found(volume)} == {Fault.LOST}


def test_a_volume_on_the_whole_device_without_the_readers_byte(tmp_path: Path) -> None:
    volume = Specimen(tmp_path, partitioned=False, shift=False)
    volume.file("a", b"b")
    volume.finish()
    assert found(volume) == []


@pytest.mark.parametrize("names", [("lvm3",), ("lvm3-span-0", "lvm3-span-1")])
def test_nothing_is_wrong_with_the_devices_that_esx_made(names: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        findings = Findings()
        check_devices(open_luns(fetched.volume(*names), stack), findings)
    assert findings.all() == []


@pytest.mark.long
def test_nothing_is_wrong_with_the_volume_that_esx_made(tmp_path: Path) -> None:
    expand(fetched.container(), tmp_path / "volume.img")
    assert [str(one) for one in check([tmp_path / "volume.img"]) if not one.is_harmless] == []


def test_a_volume_of_another_version_is_refused() -> None:
    with pytest.raises(Unsupported, match="LVM 5"):
        check(fetched.volume("vmfs5"))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_is_found_where_it_is(tmp_path: Path, sound: Sound, damage: Damage) -> None:
    volume = copied(sound, tmp_path)
    at = damage.make(volume)
    hits = [one for one in found(volume) if one.fault is damage.fault and damage.what in one.what]
    assert hits, [str(one) for one in found(volume)]
    assert (at, 0 if damage.on_device else None) in {(one.offset, one.device) for one in hits}, [*map(str, hits)]
    assert all(one.expected and one.found for one in hits)
