"""What a repair mends: afterwards a check, vmfs-tools and dissect find nothing wrong, and data is what it was."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.damaged import (
    DAMAGES,
    HEAD,
    HEARTBEATS,
    OWNER,
    SUPERBLOCK,
    TAIL,
    Damage,
    Sound,
    copied,
    dead_host,
)
from tests.vmkernel.storage.vmfs3.rescued import Hurried, kept, mend
from tests.vmkernel.storage.vmfs3.specimen import DATA_AT, LBA_128, MIB, Specimen
from vmkernel.storage.errors import Locked, Unsupported
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.errors import IncompleteVolume
from vmkernel.storage.vmfs3.finding import Fault
from vmkernel.storage.vmfs3.host import Host, Process
from vmkernel.storage.vmfs3.journal import Journal, Piece
from vmkernel.storage.vmfs3.repair import repair
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import open_for_writing

COUNTED = ("Unallocated blocks", "Undefined inodes", "Orphaned inodes", "Directory errors")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return Sound(tmp_path_factory.mktemp("sound"))


def contents(volume: Volume, path: str) -> bytes:
    reader = volume.open_file(volume.lookup(path))
    return reader.bytes_at(0, reader.size)


def heads(paths: list[Path]) -> list[bytes]:
    """All that devices say of themselves and of the volume."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            found.append(file.read(2 * MIB))
    return found


def peers_agree(paths: list[Path]) -> None:
    """But for the block with TBZ, which fsck.vmfs calls lost."""
    assert peers.bitmap_errors(paths) == 0
    assert peers.fsck(paths) == dict.fromkeys(COUNTED, 0) | {"Lost blocks": 1}
    with peers.dissected(paths, LBA_128) as volume:
        assert peers.dissect_reads(volume, "/vm/large")[: len(HEAD)] == HEAD


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_is_mended(tmp_path: Path, sound: Sound, damage: Damage) -> None:
    volume = mended(tmp_path, sound, damage)
    left = check(volume.paths)
    if not damage.is_mended:
        assert [one.what for one in left if one.fault is damage.fault]
        return
    assert left == [], [str(one) for one in left]


@pytest.mark.long
@pytest.mark.parametrize("damage", [one for one in DAMAGES if one.is_mended], ids=lambda damage: damage.name)
def test_others_find_nothing_wrong_with_what_was_mended(tmp_path: Path, sound: Sound, damage: Damage) -> None:
    peers_agree(mended(tmp_path, sound, damage).paths)


def mended(folder: Path, sound: Sound, damage: Damage) -> Sound:
    """A copy that was damaged and repaired."""
    volume = copied(sound, folder)
    damage.make(volume)
    outcomes = repair(volume.paths, clock=Hurried())
    assert outcomes and all(one.mended for one in outcomes) == damage.is_mended
    return volume


def test_what_was_there_before_the_damage_is_there_after_the_repair(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    spared = ("FD type", "FD zla", "superblock", "header", "lvm", "volume", "PE")
    for damage in DAMAGES:
        if damage.is_mended and not damage.name.startswith(spared) and "name" not in damage.name:
            damage.make(volume)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    peers_agree(volume.paths)
    with Volume.open(volume.paths) as mended:
        assert contents(mended, "/vm/disk")[: len(HEAD)] == HEAD
        assert contents(mended, "/vm/large")[-len(TAIL) :] == TAIL


def test_a_block_of_two_files_becomes_two_blocks(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    next(damage for damage in DAMAGES if damage.name == "shared block").make(volume)
    repair(volume.paths, clock=Hurried())
    with Volume.open(volume.paths) as mended:
        assert contents(mended, "/vm/disk")[: len(HEAD)] == HEAD
        assert contents(mended, "/other") == HEAD + TAIL
        places = [int(mended.map(mended.lookup(path)).lv_offset[0]) for path in ("/vm/disk", "/other")]
        assert places[0] != places[1]


def test_a_file_without_a_name_is_found_in_the_root(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    next(damage for damage in DAMAGES if damage.name == "directory without a name").make(volume)
    repair(volume.paths, clock=Hurried())
    with Volume.open(volume.paths) as mended:
        names = [entry.name for entry in mended.entries(mended.root) if entry.name.startswith("lost-")]
        assert len(names) == 1
        assert contents(mended, f"/{names[0]}/inner") == b"deep down"


def with_journal(sound: Sound) -> None:
    """A dead host, whose journal holds a transaction that was not written in place: `disk` gets 5 links."""
    dead_host(sound)
    with Volume.open(sound.paths, writable=True) as volume:
        at = sound.fd(sound.disk) + 0x200
        sector = bytearray(volume.lv.bytes_at(at, 512))
        sector[8:12] = (5).to_bytes(4, "little")
        host = Host(uuid=OWNER, name="gone", process=Process(bytes(16), 1, 0))
        journal = Journal(volume.lv, 249 << 6 | 1, volume.block_size)
        journal.write(host, (HEARTBEATS + 7 * 512, 3), 9, [Piece(at, bytes(sector))])


def test_what_waits_in_a_journal_counts(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    with_journal(volume)
    assert volume.peek(volume.fd(volume.disk) + 0x208, "<I") == 1
    links = [one for one in check(volume.paths) if one.fault is Fault.LINKS]
    assert [(one.expected, one.found) for one in links] == [("1", "5")]
    assert volume.peek(volume.fd(volume.disk) + 0x208, "<I") == 1
    outcomes = repair(volume.paths, clock=Hurried())
    assert Fault.LINKS in {one.finding.fault for one in outcomes}  # it was replayed, and then mended
    assert check(volume.paths) == []


def test_a_host_that_lives_is_left_alone(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    before = volume.paths[0].stat().st_size
    told: list[str] = []
    with open_for_writing(volume.paths, Host(process=Process(bytes(16), 1, 0)), background=False) as host:
        clock = Hurried()
        sleep = clock.sleep

        def beat(seconds: float) -> None:
            sleep(seconds)
            host.session.heartbeat.beat()

        clock.sleep = beat  # type: ignore[method-assign]
        with pytest.raises(Locked, match="has the volume mounted"):
            repair(volume.paths, clock=clock, waiting=told.append)
    assert len(told) == 1 and volume.paths[0].stat().st_size == before
    assert check(volume.paths) == []


def test_a_journal_that_only_its_host_can_replay_is_left(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    dead_host(volume)
    volume.poke(249 * MIB, "<I", 1)
    with pytest.raises(Unsupported, match="only its host can replay"):
        repair(volume.paths, clock=Hurried())
    assert volume.peek(HEARTBEATS + 7 * 512, "<I") == 0xABCDEF02


def test_a_later_version_is_refused_before_anything_is_written(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    dead_host(volume)
    volume.poke(0x200004, "<I", 14)
    before = volume.paths[0].stat().st_mtime_ns
    with pytest.raises(Unsupported, match="VMFS-5"):
        repair(volume.paths, clock=Hurried())
    assert volume.paths[0].stat().st_mtime_ns == before


def test_damage_at_random_is_mended_at_once(tmp_path: Path) -> None:
    """Files that were not hit are what they were, for vmfs-tools and dissect too."""
    tally = mend(tmp_path, range(12), with_peers=True)
    assert tally.clean == 12 and tally.files > 50, tally


@pytest.mark.long
def test_much_damage_at_random_is_mended_at_once(tmp_path: Path) -> None:
    tally = mend(tmp_path, range(10_000, 11_000), with_peers=True)
    assert tally.clean > 900 and tally.files > 5000 and not tally.left, tally


@pytest.mark.parametrize("field", ["<I", "<4xI", "<16xI", "<20xI", "<24xI"])
@pytest.mark.parametrize("value", [1, 4, 12, 17, 180, 1 << 20])
@pytest.mark.parametrize("which", ["fbb", "fdc", "pbc", "sbc"])
def test_no_number_in_a_resource_header_takes_the_files_along(
    tmp_path: Path, which: str, field: str, value: int
) -> None:  # fmt: skip
    """Everything in a resource file lies elsewhere by it; what else tells of the layout outweighs it."""
    one = kept(tmp_path, name="one", fds=64, sbs=32)
    volume = one.made
    at = volume.base + DATA_AT + volume.place(getattr(volume, which), 0) + struct.calcsize(field) - 4
    with one.target.paths[0].open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<I", value))
    repair(one.target.paths, clock=Hurried())
    assert check(one.target.paths) == []
    with Volume.open(one.target.paths) as mended:
        assert {path: zlib.crc32(contents(mended, path)) for path in one.checksums} == one.checksums


def test_a_directory_whose_first_address_is_lost_keeps_its_files(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    volume.poke(volume.fd(volume.vm) + 0x400, "<I", 0)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    with Volume.open(volume.paths) as mended:
        assert contents(mended, "/vm/small") == b"a few bytes"


@pytest.mark.parametrize("offset", [0x20C, 0x244])
@pytest.mark.parametrize("name", ["small", "disk", "large", "vm"])
@pytest.mark.parametrize("value", [0, 1, 2, 3, 9])
def test_a_wrong_zla_or_type_does_not_take_the_contents_along(
    tmp_path: Path, sound: Sound, name: str, offset: int, value: int
) -> None:  # fmt: skip
    if offset == 0x20C and 2 <= value <= 3:
        return  # it could be that
    volume = copied(sound, tmp_path)
    volume.poke(volume.fd(getattr(volume, name)) + offset, "<I", value)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    with Volume.open(volume.paths) as mended:
        assert contents(mended, "/vm/small") == b"a few bytes"
        assert contents(mended, "/vm/disk")[-len(TAIL) :] == contents(mended, "/vm/large")[-len(TAIL) :] == TAIL


@pytest.mark.parametrize("name", ["disk", "large"])
def test_a_length_that_is_too_short_for_the_counted_blocks_is_mended(tmp_path: Path, sound: Sound, name: str) -> None:
    volume = copied(sound, tmp_path)
    volume.poke(volume.fd(getattr(volume, name)) + 0x214, "<Q", 5)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    with Volume.open(volume.paths) as mended:
        assert contents(mended, f"/vm/{name}")[-len(TAIL) :] == TAIL


def test_the_root_and_the_names_in_it_of_files_of_the_system_are_known(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    volume.poke(volume.fd(volume.root) + 0x20C, "<I", 105)
    volume.poke(volume.entry(volume.root, 4) + 12, "3s", b"x")
    repair(volume.paths, clock=Hurried())
    peers_agree(volume.paths)
    with Volume.open(volume.paths) as mended:
        assert ".pbc.sf" in [entry.name for entry in mended.entries(mended.root)]


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize(("offset", "length"), [(0x400, 4), (0x400, 1024), (0x214, 8)])
def test_a_file_of_the_system_is_known_without_its_addresses_and_length(
    tmp_path: Path, sound: Sound, number: int, offset: int, length: int
) -> None:  # fmt: skip
    volume = copied(sound, tmp_path)
    volume.poke(volume.place(volume.fdc, volume.fdc.item(number)) + offset, f"{length}s", bytes(length))
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    peers_agree(volume.paths)
    with Volume.open(volume.paths) as mended:
        assert contents(mended, "/vm/small") == b"a few bytes"


def test_a_directory_of_which_nothing_is_left_is_removed(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    volume.poke(volume.entry(volume.vm, 0), "<I", 9)
    volume.poke(volume.fd(volume.vm) + 0x400, "<I", 0)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    with Volume.open(volume.paths) as mended:
        names = {entry.name for entry in mended.entries(mended.root)}
    assert "vm" not in names
    assert {name for name in names if name.startswith("lost-")} == {
        f"lost-0-{file.number}" for file in (volume.small, volume.disk, volume.large)
    }


@pytest.mark.parametrize("offset", [0x10006A, 0x10006E, 0x100274, 0x100278, 0x100280])
def test_what_one_place_says_of_a_devices_extents_does_not_outweigh_the_rest(
    tmp_path: Path, sound: Sound, offset: int
) -> None:  # fmt: skip
    volume = copied(sound, tmp_path)
    before = heads(volume.paths)
    volume.poke_device(offset, "<I", 0xFFFF)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    assert heads(volume.paths) == before


def test_an_image_that_was_cut_short_is_checked_and_not_repaired(tmp_path: Path) -> None:
    sound = Sound(tmp_path)
    with sound.paths[0].open("r+b") as file:
        file.truncate(sound.base + DATA_AT + 250 * MIB)
    assert "it was cut short" in str(check(sound.paths)[0])
    with pytest.raises(IncompleteVolume, match="can only be read"):
        repair(sound.paths, clock=Hurried())


def test_the_version_and_the_size_of_blocks_are_known_without_the_superblock(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    volume.poke(SUPERBLOCK + 4, "157s", b"\3" * 157)  # from the version up to the size of blocks
    volume.poke(SUPERBLOCK + 0xA1, "60s", b"\3" * 60)
    volume.poke(SUPERBLOCK + 0xE1, "12s", b"\3" * 12)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    peers_agree(volume.paths)
    with Volume.open(volume.paths) as mended:
        assert contents(mended, "/vm/small") == b"a few bytes"


@pytest.mark.parametrize("block_size", [1, 2, 8])
@pytest.mark.parametrize("said", [0, 1, 4, 8])
def test_a_wrong_size_of_blocks_does_not_take_the_files_along(tmp_path: Path, block_size: int, said: int) -> None:
    volume = Specimen(tmp_path, block_size=block_size * MIB)
    volume.sparse("disk", 20 * block_size * MIB, {0: HEAD, 19: TAIL})
    volume.finish()
    with volume.paths[0].open("r+b") as file:
        file.seek(volume.base + DATA_AT + SUPERBLOCK + 0xA1)
        file.write(struct.pack("<Q", said * MIB))
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    with Volume.open(volume.paths) as mended:
        assert mended.block_size == block_size * MIB
        disk = contents(mended, "/disk")
    assert disk.startswith(HEAD) and disk[19 * block_size * MIB :].startswith(TAIL)


def test_a_host_is_watched_where_the_version_is_lost(tmp_path: Path, sound: Sound) -> None:
    volume = copied(sound, tmp_path)
    dead_host(volume)
    volume.poke(SUPERBLOCK + 4, "<I", 9)
    told: list[str] = []
    repair(volume.paths, clock=Hurried(), waiting=told.append)
    assert len(told) == 1 and check(volume.paths) == []


def test_a_version_that_there_is_none_of_is_left_where_the_superblock_names_a_later_ones_file(
    tmp_path: Path, sound: Sound
) -> None:  # fmt: skip
    volume = copied(sound, tmp_path)
    volume.poke(SUPERBLOCK + 4, "<I", 9)
    volume.poke(SUPERBLOCK + 0xE1, "<Q", volume.fd(volume.small))
    outcomes = repair(volume.paths, clock=Hurried())
    assert [(one.finding.what, one.mended) for one in outcomes] == [("major", False)]
    assert volume.peek(SUPERBLOCK + 4, "<I") == 9


@pytest.mark.parametrize("pes", [(1,), (1, 1), (1, 2, 1)])
@pytest.mark.parametrize("offset", [0, 0x90])
@pytest.mark.parametrize("value", [0, 3])
@pytest.mark.parametrize("device", [0, -1])
def test_the_sums_of_all_devices_are_mended_by_counting_them(
    tmp_path: Path, pes: tuple[int, ...], offset: int, value: int, device: int
) -> None:  # fmt: skip
    """The size of the volume and the count of devices."""
    volume = Specimen(tmp_path, pes=pes)
    volume.file("a", b"b")
    volume.finish()
    before = heads(volume.paths)
    with volume.paths[device].open("r+b") as file:
        file.seek(volume.base + 0x100200 + offset)
        file.write(struct.pack("<I", value))
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    assert heads(volume.paths) == before


def test_a_device_that_is_not_given_is_not_counted_away(tmp_path: Path) -> None:
    volume = Specimen(tmp_path, pes=(1, 1, 1))
    volume.finish()
    given = volume.paths[:2]
    before = heads(given)
    assert [one.finding.what for one in repair(given, clock=Hurried()) if one.mended] == []
    assert heads(given) == before


@pytest.mark.parametrize(("kind", "length"), [(3, 0), (3, 5 << 30), (3, 1 << 47), (2, 420)])
def test_a_file_without_addresses_whose_zla_is_lost_is_mended(
    tmp_path: Path, sound: Sound, kind: int, length: int
) -> None:  # fmt: skip
    """A regular file without any address, and a directory whose contents are found elsewhere."""
    volume = copied(sound, tmp_path)
    file = volume.empty if kind == 3 else volume.deep
    at = volume.fd(file)
    for offset, layout, value in ((0x214, "<Q", length), (0x21C, "<Q", 0), (0x244, "<I", 0), (0x400, "<I", 0)):
        volume.poke(at + offset, layout, value)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    peers_agree(volume.paths)
    with Volume.open(volume.paths) as mended:
        found = {entry.name for entry in mended.entries(mended.root)}
        assert not [name for name in found if name.startswith("lost-")]
        assert mended.lookup("/empty").num_blocks == 0
        assert contents(mended, "/deeper/deep/inner") == b"deep down"


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize(("offset", "value"), [(0x244, 0), (0x244, 2), (0x20C, 3), (0x20C, 9)])
def test_a_file_of_the_system_is_known_by_its_number(
    tmp_path: Path, sound: Sound, number: int, offset: int, value: int
) -> None:  # fmt: skip
    volume = copied(sound, tmp_path)
    at = volume.place(volume.fdc, volume.fdc.item(number))
    volume.poke(at + offset, "<I", value)
    volume.poke(at + 0x21C, "<Q", 0)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    with Volume.open(volume.paths) as mended:
        assert contents(mended, "/vm/small") == b"a few bytes"
    assert volume.peek(at + 0x20C, "<I") == 5


@pytest.mark.parametrize("zla", [0, 1, 3])
@pytest.mark.parametrize("name", ["root", "vm"])
def test_a_directory_whose_address_says_pointer_block_is_found(
    tmp_path: Path, sound: Sound, name: str, zla: int
) -> None:  # fmt: skip
    volume = copied(sound, tmp_path)
    at = volume.fd(getattr(volume, name))
    volume.poke(at + 0x400, "<I", 0x1B)
    volume.poke(at + 0x244, "<I", zla)
    repair(volume.paths, clock=Hurried())
    assert check(volume.paths) == []
    peers_agree(volume.paths)
    with Volume.open(volume.paths) as mended:
        assert contents(mended, "/vm/small") == b"a few bytes"
