"""The running transaction: whole operations that become durable together, or none of them.

Changed sectors are kept in memory (and laid over what is read), then written as one record into the host's journal,
flushed, and written in place. Only when they are durable there, and the journal is empty again, are locks given back.
So whoever may change something next finds it complete, and a record in the journal of a dead host can always be
replayed. File data goes straight to its blocks and is flushed before the record that makes it reachable. Space that is
freed is not given out again before that is durable: until then it is the old file's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vmkernel.storage.vmfs3.heartbeat import Heartbeat
from vmkernel.storage.vmfs3.journal import Journal, joined
from vmkernel.storage.vmfs3.locks import Lease, Locks
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.lvm_spec import SECTOR_BYTES
from vmkernel.storage.vmfs3.records import Record
from vmkernel.storage.vmfs3.volume_spec import FIXED_END, HEARTBEATS_AT

SHARE = 2  # a transaction of this part of the journal is committed; what is left is for the operation that follows


class Transactions:
    """Of one opening. `sectors` is what the LUNs lay over what they read; `records` what is known under our locks."""

    def __init__(self, lv: LogicalVolume, heartbeat: Heartbeat, locks: Locks, sectors: dict[int, bytes]) -> None:
        self.lv, self.heartbeat, self.locks, self.sectors = lv, heartbeat, locks, sectors
        self.records: dict[int, Record] = {}
        self.journal: Journal | None = None
        self.sequence = 0
        self.begun_us = 0
        self.on_commit: list[Callable[[], object]] = []  # called after each
        self._unsynced = False  # something was written since the last flush
        self._unretired = False  # the journal holds a transaction

    @property
    def slot(self) -> tuple[int, int]:
        return self.heartbeat.position, self.heartbeat.generation

    @property
    def room(self) -> int:
        """Sectors that fit into one transaction."""
        assert self.journal is not None
        return self.journal.room // SECTOR_BYTES

    @property
    def is_large(self) -> bool:
        return bool(self.sectors) and len(self.sectors) > self.room // SHARE

    def wrote(self) -> None:
        """File data was written: it is flushed before what makes it reachable."""
        self._unsynced = True

    def add(self, changed: dict[int, bytes]) -> None:
        """The sectors of a whole operation."""
        if self.sectors and len(self.sectors) + len(changed) > self.room:
            self.commit()
        if not self.sectors:
            self.begun_us = self.heartbeat.clock.now_us()
        self.sectors.update(changed)

    def flush(self) -> None:
        if self._unsynced:
            self._unsynced = False  # before: what is written meanwhile by another thread is for the next flush
            self.lv.sync()

    def commit(self) -> None:
        """Make everything durable. Raises HeartbeatLost, HostTrouble: then nothing may be written any more."""
        self.flush()
        if self.sectors:
            self._log()
            self.in_place()

    def found(self, journal: Journal) -> None:
        """The journal of this opening, durably with the running transaction in it: the one that allocates the block."""
        self.journal = journal
        self._log()

    def _log(self) -> None:
        """The journal has the running transaction, durably."""
        assert self.journal is not None
        self.sequence += 1
        with self.heartbeat.fenced():
            self.journal.write(self.heartbeat.host, self.slot, self.sequence, joined(self.sectors))
        self.lv.sync()
        self._unretired = True

    def in_place(self) -> None:
        """The running transaction, which the journal has, at its places. It ends with that."""
        self._unsynced = True
        with self.heartbeat.fenced():
            pieces = joined(self.sectors)
            slots = [piece for piece in pieces if HEARTBEATS_AT <= piece.position < FIXED_END]
            for piece in pieces:
                if piece not in slots:
                    self.lv.write(piece.position, [piece.data])
            if slots:  # the last: our own slot may name the journal no more
                self.lv.sync()
                for piece in slots:
                    self.lv.write(piece.position, [piece.data])
        self.sectors.clear()
        self._born_are_ours()
        for done in self.on_commit:
            done()

    def _born_are_ours(self) -> None:
        """New descriptors are on the disk: those that are open are locked there, of the others others may know now."""
        for position, held in list(self.locks.held.items()):
            if held.lease is Lease.BORN:
                if held.users:
                    held.lease = Lease.OPEN
                    held.record.raw[:] = self.lv.bytes_at(position, SECTOR_BYTES)
                else:
                    del self.locks.held[position]
                    self.records.pop(position, None)

    def settle(self) -> None:
        """Commit, and give back what locks were taken for it."""
        self.commit()
        if not self.locks.has_transaction_locks():
            return
        self.retire()
        self.locks.give_back()
        self.records = {at: record for at, record in self.records.items() if self.is_ours(at)}

    def is_ours(self, position: int) -> bool:
        """Nobody else changes what lies there: it is under a lock that we keep."""
        return position in self.locks.held

    def retire(self) -> None:
        """The journal's transaction is durable in place: it is not to be replayed any more."""
        if self._unretired:
            self.flush()
            self.name_journal()
            self._unretired = False

    def name_journal(self) -> None:
        """The journal says whose it is, and holds no transaction."""
        assert self.journal is not None
        with self.heartbeat.fenced():
            self.journal.retire(self.heartbeat.host, self.slot, self.sequence)
        self._unsynced = True


def changed_sectors(records: Iterable[Record]) -> dict[int, bytes]:
    """Of all of them, by their byte of the volume."""
    changed: dict[int, bytes] = {}
    for record in records:
        record.flush_into(changed)
    return changed
