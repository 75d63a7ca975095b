"""A host's journal block is allocated and freed here, and what a dead host left is set right.

A journal is never named without being allocated, nor allocated for long without being named, whatever happens in
between:

    allocate   lock the block's cluster; write the transaction "allocated" into the block itself, which is still free;
               name it in the slot, which makes the transaction one to be replayed; write it in place
    free       one transaction: the block is free, and the slot does not name it. The slot is written last
    break      replay the dead host's transaction; free its locks; take its slot over; free its journal, or keep both
               when this host has none yet
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.allocate import allocate_block, free_block, is_free
from vmkernel.storage.vmfs3.descriptor_spec import DESCRIPTOR
from vmkernel.storage.vmfs3.heartbeat import read_slot
from vmkernel.storage.vmfs3.identity import NOBODY
from vmkernel.storage.vmfs3.journal import Journal
from vmkernel.storage.vmfs3.operation import Operation
from vmkernel.storage.vmfs3.records import HeartbeatRecord, LockRecord
from vmkernel.storage.vmfs3.transaction import changed_sectors
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import LOCK_BYTES, HeartbeatMagic, LockMode

if TYPE_CHECKING:
    from vmkernel.storage.vmfs3.session import Session

DESCRIPTORS_AT_ONCE = 4096


def hold_journal(session: Session) -> None:
    """A journal for this opening, named by its slot. Raises VolumeFull."""
    session.operate(lambda operation: _hold(session, operation), "journal")
    session.transactions.settle()


def _hold(session: Session, operation: Operation) -> None:
    transactions, heartbeat = session.transactions, session.heartbeat
    if transactions.journal is not None:
        return  # a dead host's: it stood in the way
    address = addresses.file_block(allocate_block(operation, for_journal=True))
    journal = Journal(session.lv, address, session.volume.block_size)
    records = list(operation.touched.values())
    for position, data in changed_sectors(records).items():
        transactions.sectors[position] = data
    transactions.found(journal)
    heartbeat.slot.journal = address
    with heartbeat.fenced():
        session.lv.write(heartbeat.position, [heartbeat.slot.raw])
    session.lv.sync()
    transactions.in_place()


def free_journal(session: Session) -> None:
    """The journal of this opening is allocated no more, nor named by its slot; the slot stays taken."""
    slot = session.heartbeat.slot
    copy = bytes(slot.raw)
    session.operate(
        lambda operation: _free(operation, HeartbeatRecord(slot.position, bytearray(copy)), keep=True), "journal"
    )
    session.transactions.settle()
    slot.journal = 0


def _free(operation: Operation, slot: HeartbeatRecord, *, keep: bool) -> None:
    number = addresses.block_number(slot.journal)
    if not is_free(operation, number):
        free_block(operation, number)
    operation.touch(slot)
    slot.journal = 0
    if not keep:
        slot.magic, slot.owner = HeartbeatMagic.FREE, NOBODY


def break_host(session: Session, position: int) -> None:
    """Of a dead host: replay its journal, take its slot over, free its journal and the slot. Raises Unsupported."""
    lv, heartbeat = session.lv, session.heartbeat
    with heartbeat.fenced():
        if not session.watch.is_dead(position):
            return
        slot = read_slot(lv, position)
        if slot.magic != HeartbeatMagic.IN_USE:
            return
        dead = bytes(slot.owner), int(slot.generation)
        if slot.journal:
            Journal(lv, slot.journal, session.volume.block_size).judge_ours()
        replay(session, slot)
        for lock in list(locks_of(session.volume, dead[0])):
            free_lock(session, lock, position, *dead)
        lv.sync()
        slot = read_slot(lv, position)
        if not slot.journal:
            slot.magic, slot.owner = HeartbeatMagic.FREE, NOBODY
            lv.write(position, [slot.raw])
            return
        heartbeat.occupy(slot)
        lv.sync()
        session.watch.sights.pop(position, None)
        if session.transactions.journal is None:
            move_to(session, slot)
            return
    session.operate(lambda operation: _free(operation, read_slot(lv, position), keep=False), "journal of a dead host")
    session.settle()


def move_to(session: Session, slot: HeartbeatRecord) -> None:
    """An opening that has no journal yet takes a dead host's, with its slot: without one it could not free it."""
    transactions, heartbeat = session.transactions, session.heartbeat
    session.locks.give_back()
    transactions.records.clear()
    old = heartbeat.slot
    heartbeat.slot, heartbeat.last_us = slot, session.clock.now_us()
    transactions.journal = Journal(session.lv, slot.journal, session.volume.block_size)
    transactions.name_journal()
    old.magic, old.owner = HeartbeatMagic.FREE, NOBODY
    session.lv.write(old.position, [old.raw])


def locks_of(volume: Volume, owner: bytes) -> Iterator[int]:
    """Where locks lie that name a host, of clusters and of descriptors in use."""
    for file in (volume.fbb, volume.fdc, volume.pbc, volume.sbc):
        for number in np.flatnonzero(names(file.cluster_table()["lock"], owner)).tolist():
            yield file.cluster_position(number)
    fdc = volume.fdc
    used = np.flatnonzero(~fdc.free_map())
    for start in range(0, len(used), DESCRIPTORS_AT_ONCE):
        places = np.divmod(used[start : start + DESCRIPTORS_AT_ONCE], fdc.per_cluster)
        locks = fdc.read_many(*places).view(DESCRIPTOR).reshape(-1)["lock"]
        found = np.flatnonzero(names(locks, owner))
        yield from fdc.locate_many(places[0][found], places[1][found]).tolist()


def names(locks: NDArray[np.void], owner: bytes) -> NDArray[np.bool_]:
    """Which of these locks a host has, alone or with others."""
    wanted = np.frombuffer(owner, "u1")
    alone = (as_bytes(locks["owner"]) == wanted).all(-1)
    shared = (as_bytes(locks["holders"]["owner"]) == wanted).all(-1).any(-1)
    return (locks["mode"] != LockMode.FREE) & (alone | shared)


def as_bytes(uuids: NDArray[np.void]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(uuids).view("u1").reshape(*uuids.shape, -1)


def free_lock(session: Session, position: int, hb_position: int, owner: bytes, generation: int) -> None:
    """Of a dead host, in a reservation of the caller's: nobody else takes it meanwhile."""
    lock = LockRecord(position, bytearray(session.lv.bytes_at(position, LOCK_BYTES)))
    if lock.num_holders:
        kept = lock.holders[~(as_bytes(lock.holders["owner"]) == np.frombuffer(owner, "u1")).all(-1)]
        lock.holders = kept
        if not len(kept):
            lock.set_free(session.clock.now_us())
    elif (lock.hb_position, lock.owner, lock.hb_generation) == (hb_position, owner, generation):
        lock.set_free(session.clock.now_us())
    session.lv.write(position, [lock.raw])


def replay(session: Session, slot: HeartbeatRecord) -> int:
    """The dead host's transaction in place, durably, and its journal empty. How many pieces there were."""
    head = session.watch.journal_head(slot)
    if head is None:
        return 0
    journal = Journal(session.lv, slot.journal, session.volume.block_size)
    pieces = journal.transaction(head)
    for piece in pieces:
        session.lv.write(piece.position, [piece.data])
    session.lv.sync()
    journal.forget()
    session.lv.sync()
    return len(pieces)
