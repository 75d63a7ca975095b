"""A journal block: what it holds, when it is believed, and that it is never lost track of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3.hosts import SteppedClock, make, opened, put, tree
from tests.vmkernel.storage.vmfs3.power import recorded
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.journal import Journal, Piece, joined
from vmkernel.storage.vmfs3.journal_spec import HEADER_BYTES, JournalState
from vmkernel.storage.vmfs3.writable import WritableVolume

SECTOR = 512


@pytest.fixture
def volume(tmp_path: Path):  # type: ignore[no-untyped-def]
    with opened(make(tmp_path)) as volume:
        yield volume


def journal(volume: WritableVolume) -> Journal:
    found = volume.session.transactions.journal
    assert found is not None
    return found


def test_neighbouring_sectors_are_one_piece() -> None:
    sectors = {1024: b"b" * 512, 512: b"a" * 512, 4096: b"c" * 512}
    assert joined(sectors) == [Piece(512, b"a" * 512 + b"b" * 512), Piece(4096, b"c" * 512)]


def test_a_journal_says_whose_it_is_and_what_is_to_be_replayed(volume: WritableVolume) -> None:
    session = volume.session
    volume.mkdir("/d")
    volume.sync()
    head = journal(volume).head()
    assert head is not None
    assert (head.owner, head.owner_text) == (session.host.uuid, "elsewhere (pid 4711)")
    assert (head.hb_position, head.hb_generation) == session.transactions.slot
    assert head.state is JournalState.COMMITTED
    pieces = journal(volume).transaction(head)
    assert all(volume.lv.bytes_at(piece.position, len(piece.data)) == piece.data for piece in pieces)
    assert sum(len(piece.data) for piece in pieces) == head.sectors * SECTOR
    volume.settle()
    head = journal(volume).head()
    assert head is not None
    assert (head.state, journal(volume).transaction(head)) == (JournalState.EMPTY, [])


@pytest.mark.parametrize("damage", [0, 100, HEADER_BYTES, HEADER_BYTES + 16, HEADER_BYTES + SECTOR + 5, 3000])
def test_a_damaged_transaction_is_not_believed(volume: WritableVolume, damage: int) -> None:
    volume.mkdir("/d")
    volume.sync()
    head = journal(volume).head()
    assert head is not None and head.sectors > 6
    at = journal(volume).position + damage
    volume.lv.write(at, [bytes([volume.lv.bytes_at(at, 1)[0] ^ 0x40])])
    head = journal(volume).head()
    assert head is None if damage < HEADER_BYTES else head is not None and journal(volume).transaction(head) == []


def test_what_claims_to_be_longer_than_the_block_is_not_believed(volume: WritableVolume) -> None:
    session = volume.session
    journal(volume).write(session.host, session.transactions.slot, 99, [Piece(0, bytes(SECTOR))])
    head = journal(volume).head()
    assert head is not None
    for wrong in ({"sectors": 1 << 31}, {"pieces": 1 << 31}):
        from dataclasses import replace

        assert journal(volume).transaction(replace(head, **wrong)) == []


def test_a_group_of_operations_is_one_transaction(volume: WritableVolume) -> None:
    before = volume.session.transactions.sequence
    for number in range(50):
        volume.create(f"/f{number}")
    with recorded() as tape:
        volume.sync()
    assert volume.session.transactions.sequence == before + 1
    assert len(tape.writes) < 12
    assert len(tape.syncs) <= 2


def test_changes_that_do_not_fit_become_several_transactions(volume: WritableVolume) -> None:
    sequence = volume.session.transactions.sequence
    for number in range(200):
        volume.create(f"/f{number}")
        volume.symlink("x" * 2000, f"/l{number}") if number < 40 else None
    volume.sync()
    assert volume.session.transactions.sequence > sequence
    for number in range(200):
        volume.remove(f"/f{number}")
    assert len(volume.session.transactions.sectors) < volume.session.transactions.room


def test_old_changes_become_durable_without_being_asked_for(tmp_path: Path) -> None:
    paths = make(tmp_path)
    volume = opened(paths)
    volume.mkdir("/d")
    clock = volume.session.clock
    for _ in range(3):
        clock.sleep(0.4)
        volume.session.tick()
    volume.create("/e")
    clock.sleep(2)
    volume.session.tick()
    assert not volume.session.transactions.sectors
    assert not volume.session.locks.has_transaction_locks()
    volume.abandon()
    later = SteppedClock(1)
    with opened(paths, later) as other:
        later.advance(17)
        other.session.recover()
        assert sorted(tree(other)) == ["/d", "/e"]
    assert check(paths) == []


def test_the_journal_of_a_host_that_died_is_free_again(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with opened(paths) as volume:
        free = volume.free_bytes()
    for _ in range(3):
        volume = opened(paths, SteppedClock(1))
        put(volume, "/f", b"x")
        volume.sync()
        volume.abandon()
    clock = SteppedClock(1)
    with opened(paths, clock) as volume:
        clock.advance(17)
        volume.session.recover()
        assert volume.free_bytes() == free
    assert check(paths) == []
