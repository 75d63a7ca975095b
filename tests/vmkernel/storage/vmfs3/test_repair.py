"""What a repair mends: afterwards a check, vmfs-tools and dissect find nothing wrong, and data is what it was."""

from __future__ import annotations

import random
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.fuzz.vmfs_images import damaged, specimens
from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.damaged import (
    DAMAGES,
    HEAD,
    HEARTBEATS,
    OWNER,
    TAIL,
    Damage,
    Sound,
    copied,
    dead_host,
)
from tests.vmkernel.storage.vmfs3.specimen import LBA_128, MIB
from vmkernel.storage.errors import Locked, Unsupported
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.finding import Fault
from vmkernel.storage.vmfs3.host import Host, Process
from vmkernel.storage.vmfs3.journal import Journal, Piece
from vmkernel.storage.vmfs3.repair import repair
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import open_for_writing

COUNTED = ("Unallocated blocks", "Undefined inodes", "Orphaned inodes", "Directory errors")


class Hurried(Clock):
    """Its seconds pass as soon as somebody waits for them."""

    def __init__(self) -> None:
        self.us = super().now_us()

    def now_us(self) -> int:
        return self.us

    awake_us = now_us

    def sleep(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return Sound(tmp_path_factory.mktemp("sound"))


def contents(volume: Volume, path: str) -> bytes:
    reader = volume.open_file(volume.lookup(path))
    return reader.bytes_at(0, reader.size)


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


def mend_damaged(folder: Path, seeds: range) -> None:
    """After a repair of whatever was damaged, nothing is left that a repair would mend."""
    targets = specimens(folder)
    for seed in seeds:
        target = targets[seed % len(targets)]
        copies = [folder / f"copy{number}.img" for number in range(len(target.paths))]
        with damaged(target, random.Random(seed)):
            for path, copy in zip(target.paths, copies, strict=True):
                subprocess.run(["cp", "--sparse=always", path, copy], check=True)
        with suppress(RingfenceError):  # refused: it is no volume any more, or is not all there
            repair(copies, clock=Hurried())
            assert not [str(one) for one in check(copies) if one.can_be_mended], f"seed {seed}"


def test_damage_at_random_is_mended_at_once(tmp_path: Path) -> None:
    mend_damaged(tmp_path, range(12))


@pytest.mark.long
def test_much_damage_at_random_is_mended_at_once(tmp_path: Path) -> None:
    mend_damaged(tmp_path, range(10_000, 11_000))
