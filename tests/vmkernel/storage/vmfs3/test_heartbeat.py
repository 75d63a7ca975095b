"""Heartbeat slots: taken, beaten, watched, lost, and given back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3.hosts import SteppedClock, get, gone, make, opened, put, somewhere
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.errors import HeartbeatLost, VolumeFull
from vmkernel.storage.vmfs3.heartbeat import read_slot, slot_position, slots_in_use
from vmkernel.storage.vmfs3.host import Host
from vmkernel.storage.vmfs3.lun import Lun
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.records import HeartbeatRecord
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import HEARTBEATS, HeartbeatMagic


def slot_of(paths: list[Path], position: int) -> HeartbeatRecord:
    with Volume.open(paths) as volume:
        return read_slot(volume.lv, position)


def in_use(paths: list[Path]) -> list[int]:
    with Volume.open(paths) as volume:
        return slots_in_use(volume.lv)


def test_an_opening_has_a_slot_with_its_journal_until_it_closes(tmp_path: Path) -> None:
    paths = make(tmp_path)
    volume = opened(paths)
    position = volume.session.heartbeat.position
    slot = slot_of(paths, position)
    assert (slot.magic, slot.owner, slot.generation) == (HeartbeatMagic.IN_USE, volume.session.host.uuid, 1)
    assert (slot.own_position, slot.driver_major, slot.driver_minor) == (position, 4, 31)
    assert slot.journal & 7 == 1
    volume.close()
    left = slot_of(paths, position)
    assert (left.magic, left.owner, left.journal) == (HeartbeatMagic.FREE, bytes(16), 0)
    assert (left.generation, left.stamp) == (1, slot.stamp)
    assert check(paths) == []


def test_the_slot_beats_every_three_seconds(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        clock, position, stamps = volume.session.clock, volume.session.heartbeat.position, set()
        for _ in range(12):
            volume.session.tick()
            stamps.add(slot_of(paths, position).stamp)
            clock.sleep(1)
        assert len(stamps) == 4


def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    paths = make(tmp_path)
    before = paths[0].stat()
    with Volume.open(paths) as volume:
        volume.entries(volume.root)
    assert paths[0].stat().st_mtime_ns == before.st_mtime_ns


def test_two_openings_have_two_slots_and_two_journals(tmp_path: Path) -> None:
    paths = make(tmp_path)
    one, two = opened(paths), opened(paths)
    slots = [slot_of(paths, position) for position in in_use(paths)]
    assert len(slots) == 2
    assert slots[0].journal != slots[1].journal
    one.close()
    two.close()
    assert in_use(paths) == []


def test_a_dead_host_whose_journal_only_its_own_kind_can_replay_is_left(tmp_path: Path) -> None:
    paths, clock = make(tmp_path), SteppedClock()
    dead = opened(paths, clock, somewhere(1))
    put(dead, "/f", b"kept")
    dead.sync()
    slot = slot_of(paths, dead.session.heartbeat.position)
    dead.session.lv.write((slot.journal >> 6) * dead.block_size, [b"\1" + bytes(511)])
    dead.abandon()
    with opened(paths, clock, somewhere(2)) as living:
        living.session.recover()
        clock.advance(10)
        living.session.tick()
        clock.advance(10)
        with pytest.raises(Unsupported, match="only its host can replay"):
            living.session.recover()
    assert slot_of(paths, slot.position).magic == HeartbeatMagic.IN_USE


def test_the_process_of_a_slot_that_has_ended_is_dead_at_once(tmp_path: Path) -> None:
    paths = make(tmp_path)
    volume = opened(paths, host=replace(Host(), process=gone()))
    put(volume, "/f", b"kept")
    volume.sync()
    volume.abandon()
    clock = SteppedClock()
    before = clock.now_us()
    with opened(paths, clock) as after:
        assert len(in_use(paths)) == 1
        assert get(after, "/f") == b"kept"
    assert clock.now_us() - before < 1_000_000
    assert check(paths) == []


def test_another_machines_host_is_dead_after_sixteen_seconds_and_not_before(tmp_path: Path) -> None:
    paths = make(tmp_path)
    opened(paths).abandon()
    clock = SteppedClock()
    with opened(paths, clock) as volume:
        clock.advance(15)
        volume.session.recover()
        assert len(in_use(paths)) == 2
        clock.advance(2)
        volume.session.recover()
        assert len(in_use(paths)) == 1


def test_a_host_that_beats_lives_however_long_it_is_watched(tmp_path: Path) -> None:
    paths = make(tmp_path)
    one, clock = opened(paths), SteppedClock()
    with opened(paths, clock) as two:
        for _ in range(20):
            clock.advance(3)
            one.session.clock.sleep(3)
            one.session.tick()
            two.session.tick()
            two.session.recover()
        assert len(in_use(paths)) == 2
        put(one, "/f", b"alive")
    one.close()
    assert check(paths) == []


def test_a_host_that_was_stopped_for_too_long_writes_nothing_more(tmp_path: Path) -> None:
    paths = make(tmp_path)
    sleeper = opened(paths)
    put(sleeper, "/f", b"before")
    with sleeper.open_for_write("/f") as file:
        sleeper.sync()
        clock = SteppedClock()
        other = opened(paths, clock)
        clock.advance(17)
        other.session.recover()
        sleeper.session.clock.sleep(20)
        before = paths[0].stat().st_mtime_ns
        for act in (
            lambda: file.write(0, [b"after"]), lambda: sleeper.create("/g"), sleeper.sync, lambda: file.truncate(0),
        ):  # fmt: skip
            with pytest.raises(HeartbeatLost, match="no longer its own"):
                act()
    sleeper.close()
    assert paths[0].stat().st_mtime_ns == before
    put(other, "/f", b"by the other")
    other.close()
    assert check(paths) == []


def test_a_host_that_was_stopped_and_not_missed_goes_on(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        put(volume, "/f", b"x")
        volume.session.clock.sleep(1000)
        put(volume, "/f", b"y")
    assert check(paths) == []


def test_a_commit_finds_out_that_the_slot_is_lost_though_the_clock_does_not_tell(tmp_path: Path) -> None:
    paths = make(tmp_path)
    sleeper = opened(paths)
    sleeper.create("/never")
    clock = SteppedClock()
    other = opened(paths, clock)
    clock.advance(17)
    other.session.recover()
    with pytest.raises(HeartbeatLost):
        sleeper.sync()
    assert not other.exists("/never")
    sleeper.close()
    other.close()
    assert check(paths) == []


def test_when_every_slot_is_taken_another_host_is_refused(tmp_path: Path) -> None:
    paths = make(tmp_path)
    lv = LogicalVolume.open([Lun.open(path, writable=True) for path in paths])
    for number in range(HEARTBEATS):
        slot = read_slot(lv, slot_position(number))
        slot.magic, slot.owner, slot.generation = HeartbeatMagic.IN_USE, somewhere().uuid, 1
        lv.write(slot.position, [slot.raw])
    lv.close()
    with pytest.raises(VolumeFull, match="2048 heartbeat slots"):
        opened(paths)
