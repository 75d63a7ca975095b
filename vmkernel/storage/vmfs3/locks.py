"""On-disk locks, as this opening takes and gives them back.

A lock that is taken for a transaction is kept until others want it or nothing is going on, and given back only when all
that was changed under it is in place and durable. A file that is open keeps its lock. Whose heartbeat slot has passed
to somebody else has lost its locks; whose has stopped is broken first (see recovery).
Source: vmfs-tools, libvmfs/vmfs_metadata.c, vmfs_inode.c; VMware KB 10051.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.doorbell import Doorbell
from vmkernel.storage.vmfs3.errors import CorruptVolume
from vmkernel.storage.vmfs3.heartbeat import Heartbeat, Watch
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.records import LockRecord
from vmkernel.storage.vmfs3.volume_spec import HOLDER, HOLDERS, LOCK_BYTES, LockMode, LockType

GIVE_WAY_US = 50_000  # who gave a lock back because others waited lets them have it for so long
GIVE_WAY_STEP_S = 0.001
SHARED = (LockMode.READ_ONLY, LockMode.MULTI_WRITER)


class Contended(Exception):
    """A live host holds the lock at this byte of the volume."""

    def __init__(self, position: int, kind: LockType, hb_position: int, owner: bytes) -> None:
        super().__init__()
        self.position, self.kind, self.hb_position, self.owner = position, kind, hb_position, owner


class DeadOwner(Exception):
    """The lock is held by a host whose heartbeat, in this slot, has stopped: to be broken first."""

    def __init__(self, hb_position: int) -> None:
        super().__init__()
        self.hb_position = hb_position


class Lease(Enum):
    """How long a lock is kept."""

    TRANSACTION = "transaction"
    OPEN = "open"  # as long as a file is
    BORN = "born"  # of a new descriptor, which nobody else can know of before it is committed


@dataclass(slots=True)
class Held:
    """A lock of ours; `record` is its sector as it is on the disk, or will be with the transaction."""

    record: LockRecord
    lease: Lease
    mode: LockMode
    users: int = 0  # open files


@dataclass(slots=True)
class Locks:
    """Those of one opening, by their byte of the volume."""

    lv: LogicalVolume
    heartbeat: Heartbeat
    watch: Watch
    doorbell: Doorbell
    clock: Clock
    held: dict[int, Held] = field(default_factory=dict)
    gave_way: dict[int, int] = field(default_factory=dict)

    def take(
        self, position: int, kind: LockType, length: int = LOCK_BYTES, *, mode: LockMode = LockMode.EXCLUSIVE,
        lease: Lease = Lease.TRANSACTION,
    ) -> bytearray:  # fmt: skip
        """Take a lock that is not held yet. Its object's bytes as they are now, in so many bytes.

        Raises Contended, DeadOwner, CorruptVolume, HeartbeatLost.
        """
        self._let_others(position)
        with self.heartbeat.fenced():
            raw = bytearray(self.lv.bytes_at(position, length))
            lock = LockRecord(position, raw)
            if lock.lock_type != kind:
                raise CorruptVolume(self.lv.name, position, "lock type", f"{int(kind):#x}", f"{lock.lock_type:#x}")
            self._claim(lock, kind, mode)
            self.lv.write(position, [raw[:LOCK_BYTES]])
        self.held[position] = Held(LockRecord(position, raw[:LOCK_BYTES]), lease, mode)
        return raw

    def _let_others(self, position: int) -> None:
        since = self.gave_way.pop(position, None)
        if since is not None:
            while self.clock.now_us() - since < GIVE_WAY_US and self.doorbell.rings(position):
                self.clock.sleep(GIVE_WAY_STEP_S)

    def _claim(self, lock: LockRecord, kind: LockType, mode: LockMode) -> None:
        """Make a lock ours in memory."""
        others = self._others(lock, kind, mode)
        lock.token = lock.token + 1
        lock.lock_mode, lock.lock_mtime = mode, self.clock.now_us()
        if mode in SHARED:
            lock.owner = bytes(16)
            lock.holders = np.concatenate([others, self._row()])
            return
        lock.hb_position, lock.hb_generation = self.heartbeat.position, self.heartbeat.generation
        lock.owner, lock.holders = self.heartbeat.host.uuid, np.empty(0, HOLDER)

    def claim_born(self, record: LockRecord) -> None:
        """Of a new descriptor: it is locked on the disk as soon as it is there."""
        self._claim(record, LockType.FILE_DESCRIPTOR, LockMode.EXCLUSIVE)

    def _row(self) -> NDArray[np.void]:
        row = np.zeros(1, HOLDER)
        row["hb_position"], row["hb_generation"] = self.heartbeat.position, self.heartbeat.generation
        row["owner"] = np.void(self.heartbeat.host.uuid)
        return row

    def _others(self, lock: LockRecord, kind: LockType, mode: LockMode) -> NDArray[np.void]:
        """Live holders beside whom the lock can be shared; stale ones are left out. Raises Contended, DeadOwner."""
        nobody = np.empty(0, HOLDER)
        if lock.lock_mode == LockMode.FREE:
            return nobody
        if lock.lock_mode not in SHARED:
            self._judge(lock, kind, lock.hb_position, lock.hb_generation, lock.owner, shared=False)
            return nobody
        shared = lock.lock_mode == mode
        live = [
            row for row in lock.holders
            if self._judge(lock, kind, int(row["hb_position"]), int(row["hb_generation"]), bytes(row["owner"]),
                           shared=shared)
        ]  # fmt: skip
        if len(live) >= HOLDERS:
            raise Contended(lock.position, kind, int(live[0]["hb_position"]), bytes(live[0]["owner"]))
        return np.array(live, HOLDER) if live else nobody

    def _judge(
        self, lock: LockRecord, kind: LockType, hb_position: int, generation: int, owner: bytes, *, shared: bool
    ) -> bool:
        """Is this holder one to share with? False: it is none any more. Raises Contended, DeadOwner."""
        if owner == self.heartbeat.host.uuid or self.watch.is_stale(hb_position, generation, owner, lock):
            return False
        if self.watch.is_dead(hb_position):
            raise DeadOwner(hb_position)
        if not shared:
            raise Contended(lock.position, kind, hb_position, owner)
        return True

    def give_back(self) -> None:
        """Every lock that was taken for a transaction, descriptors first: when a cluster's is free, others may use what
        was in it. What was changed under them must be durable. Raises HeartbeatLost.
        """
        mine = [held for held in self.held.values() if held.lease is Lease.TRANSACTION]
        if not mine:
            return
        mine.sort(key=lambda held: (held.record.lock_type != LockType.FILE_DESCRIPTOR, held.record.position))
        now = self.clock.now_us()
        with self.heartbeat.fenced():
            for held in mine:
                self._free(held, now)
        for held in mine:
            position = held.record.position
            del self.held[position]
        self.gave_way = {
            at: since for at, since in self.gave_way.items() if now - since < GIVE_WAY_US
        }  # fmt: skip

    def give_back_unchanged(self, position: int) -> None:
        """One under which nothing was changed: nothing has to be durable first. Raises HeartbeatLost, Locked."""
        with self.heartbeat.fenced():
            self._free(self.held[position], self.clock.now_us())
        del self.held[position]

    def _free(self, held: Held, now_us: int) -> None:
        record = held.record
        if held.mode in SHARED:
            record.raw[:] = self.lv.bytes_at(record.position, LOCK_BYTES)
            ours = self.heartbeat.host.uuid
            rest = [row for row in record.holders if bytes(row["owner"]) != ours]
            if rest:
                record.holders = np.array(rest, HOLDER)
                self.lv.write(record.position, [record.raw])
                return
        record.set_free(now_us)
        self.lv.write(record.position, [record.raw])

    def has_transaction_locks(self) -> bool:
        return any(held.lease is Lease.TRANSACTION for held in self.held.values())

    def are_wanted(self) -> bool:
        """Does another host wait for one that we keep without need? They are noted, to let it have them."""
        if not self.doorbell.rings():
            return False
        now = self.clock.now_us()
        wanted = [
            at for at, held in self.held.items() if held.lease is Lease.TRANSACTION and self.doorbell.rings(at)
        ]  # fmt: skip
        self.gave_way.update(dict.fromkeys(wanted, now))
        return bool(wanted)
