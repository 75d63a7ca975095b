"""On-disk locks between hosts: who has them, who waits, whose are broken; and what is on the disk meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.vmkernel.storage.vmfs3.hosts import MIB, SteppedClock, get, make, opened, put, somewhere
from vmkernel.storage.errors import Locked
from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.descriptor_spec import AddressType
from vmkernel.storage.vmfs3.errors import CorruptVolume, FileLocked
from vmkernel.storage.vmfs3.records import DescriptorRecord, LockRecord
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import LockMode
from vmkernel.storage.vmfs3.writable import WritableVolume


def lock_of(paths: list[Path], path: str) -> LockRecord:
    """As it is on the disk."""
    with Volume.open(paths) as volume:
        fd = volume.lookup(path)
        return DescriptorRecord(fd.position, bytearray(volume.fdc.read(*addresses.place(fd.address))))


def test_an_open_file_is_locked_and_a_closed_one_is_not(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        volume.create("/f")
        volume.settle()
        assert (lock_of(paths, "/f").lock_mode, lock_of(paths, "/f").token) == (LockMode.FREE, 1)
        with volume.open_for_write("/f"):
            lock = lock_of(paths, "/f")
            assert (lock.lock_mode, lock.token, lock.owner) == (LockMode.EXCLUSIVE, 2, volume.session.host.uuid)
            slot = volume.session.heartbeat
            assert (lock.hb_position, lock.hb_generation) == (slot.position, slot.generation)
            volume.settle()
            assert lock_of(paths, "/f").lock_mode == LockMode.EXCLUSIVE
        volume.settle()
        lock = lock_of(paths, "/f")
        assert (lock.lock_mode, lock.owner, lock.token) == (LockMode.FREE, bytes(16), 2)
        assert (lock.hb_position, lock.hb_generation) == (slot.position, slot.generation)


def test_a_new_file_that_is_open_is_locked_once_it_is_on_the_disk(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        volume.create("/f")
        with volume.open_for_write("/f") as file:
            file.write(0, [b"x"])
            volume.sync()
            assert lock_of(paths, "/f").lock_mode == LockMode.EXCLUSIVE
        volume.settle()
        assert lock_of(paths, "/f").lock_mode == LockMode.FREE


def test_a_closed_volume_has_no_locks(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        volume.mkdir("/d")
        volume.create("/d/f")
        volume.open_for_write("/d/f").write(0, [bytes(2 * MIB)])
    with Volume.open(paths) as volume:
        modes = [volume.descriptor(entry.address).lock["mode"] for entry in volume.entries(volume.root)]
        for file in (volume.fbb, volume.fdc, volume.pbc, volume.sbc):
            modes += file.cluster_table()["lock"]["mode"].tolist()
    assert not np.any(modes)


@pytest.fixture
def two(tmp_path: Path) -> tuple[WritableVolume, WritableVolume, list[Path]]:
    paths = make(tmp_path)
    return opened(paths, host=somewhere(1)), opened(paths, SteppedClock(0.01), somewhere(2)), paths


def test_another_host_is_told_who_has_a_file_open(two: tuple[WritableVolume, WritableVolume, list[Path]]) -> None:
    one, other, _ = two
    put(one, "/f", b"1")
    file = one.open_for_write("/f")
    one.settle()
    clock = other.session.clock
    sleep = clock.sleep

    def beating(seconds: float) -> None:
        sleep(seconds)
        one.session.clock.sleep(seconds)
        one.session.tick()

    clock.sleep = beating  # type: ignore[method-assign]
    for act in (other.open_for_write, other.remove, lambda path: other.rename(path, "/g")):
        with pytest.raises(FileLocked, match=r"/f: locked by elsewhere \(pid 4712\)"):
            act("/f")
    assert isinstance(FileLocked("x", "y"), Locked)
    file.close()
    one.settle()
    other.remove("/f")
    other.close()
    one.close()


def test_a_dead_hosts_lock_is_broken_after_sixteen_seconds(
    two: tuple[WritableVolume, WritableVolume, list[Path]],
) -> None:  # fmt: skip
    one, other, paths = two
    put(one, "/f", b"1")
    one.open_for_write("/f").write(1, [b"2"])
    one.sync()
    token = lock_of(paths, "/f").token
    one.abandon()
    clock = other.session.clock
    before = clock.now_us()
    with other.open_for_write("/f") as file:
        file.write(2, [b"3"])
    assert 15_000_000 < clock.now_us() - before < 20_000_000
    assert get(other, "/f") == b"123"
    other.close()
    assert lock_of(paths, "/f").token == token + 1


def test_hosts_see_each_others_changes(two: tuple[WritableVolume, WritableVolume, list[Path]]) -> None:
    one, other, _ = two
    for number in range(10):
        here, there = (one, other) if number % 2 else (other, one)
        here.create(f"/f{number}")
        put(here, f"/f{number}", b"%d" % number)
        if number > 3:
            here.remove(f"/f{number - 3}")
        here.settle()
        assert get(there, f"/f{number}") == b"%d" % number
        assert there.exists("/f1") == (number in (1, 2, 3))
    one.close()
    other.close()


def test_a_cluster_that_another_host_has_is_passed_over(
    two: tuple[WritableVolume, WritableVolume, list[Path]],
) -> None:  # fmt: skip
    one, other, _ = two
    for volume, folder in ((one, "/one"), (other, "/other")):
        volume.mkdir(folder)
        volume.settle()
    put(one, "/one/f", bytes(MIB))
    other.session.pools[AddressType.FILE_DESCRIPTOR].cursor = one.session.pools[AddressType.FILE_DESCRIPTOR].cursor
    before = other.session.clock.now_us()
    put(other, "/other/f", bytes(MIB))
    assert other.session.clock.now_us() == before
    here, there = (
        addresses.place(volume.lookup(path).address) for volume, path in ((one, "/one/f"), (other, "/other/f"))
    )  # fmt: skip
    assert here[0] != there[0]
    one.close()
    other.close()


def test_shared_readers_are_named_in_the_lock(two: tuple[WritableVolume, WritableVolume, list[Path]]) -> None:
    one, other, paths = two
    put(one, "/f", b"shared")
    one.settle()
    readers = [volume.open_file(volume.lookup("/f"), lock="read") for volume in (one, other)]
    lock = lock_of(paths, "/f")
    assert (lock.lock_mode, lock.num_holders, lock.owner) == (LockMode.READ_ONLY, 2, bytes(16))
    owners = {bytes(row["owner"]) for row in lock.holders}
    assert owners == {one.session.host.uuid, other.session.host.uuid}
    assert [reader.bytes_at(0, 6) for reader in readers] == [b"shared"] * 2
    readers[0].close()  # type: ignore[attr-defined]
    one.settle()
    assert lock_of(paths, "/f").num_holders == 1
    readers[1].close()  # type: ignore[attr-defined]
    other.settle()
    assert lock_of(paths, "/f").lock_mode == LockMode.FREE
    one.close()
    other.close()


def test_a_shared_lock_is_free_with_the_last_reader(
    two: tuple[WritableVolume, WritableVolume, list[Path]],
) -> None:  # fmt: skip
    one, other, paths = two
    put(one, "/f", b"shared")
    one.settle()
    readers = [volume.open_file(volume.lookup("/f"), lock="read") for volume in (one, one, other)]
    put(one, "/g", b"what is not durable yet stays so")
    waiting = dict(one.session.transactions.sectors)
    assert waiting
    readers[0].close()
    assert lock_of(paths, "/f").num_holders == 2
    readers[1].close()
    assert lock_of(paths, "/f").num_holders == 1
    readers[2].close()
    assert lock_of(paths, "/f").lock_mode == LockMode.FREE
    assert one.session.transactions.sectors == waiting
    before = other.session.clock.now_us()
    put(other, "/f", b"written at once")
    assert other.session.clock.now_us() == before
    other.settle()
    with one.open_for_write("/f") as file:
        assert file.bytes_at(0, 15) == b"written at once"
    other.close()
    one.close()


def test_a_lock_that_names_no_slot_is_damage(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        put(volume, "/f", b"x")
        volume.settle()
        fd = volume.lookup("/f")
        record = LockRecord(fd.position, bytearray(volume.lv.bytes_at(fd.position, 512)))
        record.lock_mode, record.hb_position, record.owner = LockMode.EXCLUSIVE, 12345, b"x" * 16
        volume.lv.write(fd.position, [record.raw])
        with pytest.raises(CorruptVolume, match="heartbeat slot of a lock"):
            volume.remove("/f")
        with pytest.raises(CorruptVolume):
            volume.open_for_write("/f")
