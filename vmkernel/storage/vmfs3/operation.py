"""One operation: it takes locks, changes records in memory, and is then part of the running transaction, or was never.

Locks come one after the other. When another host has one, the operation is given up as if it had not begun, everything
that is held is given back, and it begins anew once the lock is free: so hosts that wait for each other never both wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.descriptor_spec import FD_BYTES, POINTER_BLOCK_BYTES, AddressType
from vmkernel.storage.vmfs3.errors import NoSuchFile
from vmkernel.storage.vmfs3.locks import Contended, Held, Lease
from vmkernel.storage.vmfs3.pools import Pool
from vmkernel.storage.vmfs3.records import (
    ClusterRecord,
    DescriptorRecord,
    LockRecord,
    PointerBlockRecord,
    Record,
)
from vmkernel.storage.vmfs3.resource_spec import CLUSTER_HEADER_BYTES
from vmkernel.storage.vmfs3.transaction import Transactions, changed_sectors
from vmkernel.storage.vmfs3.volume_spec import LOCK_BYTES, LockMode, LockType

Some = TypeVar("Some", bound=Record)
Pools = dict[AddressType, Pool]


class NeedsCommit(Exception):
    """What was freed lately would do, once it is durable: commit, and begin anew.

    `settle`: also give back the locks, one of which is to be had in another mode.
    """

    def __init__(self, *, settle: bool = False) -> None:
        super().__init__()
        self.settle = settle


class Operation:
    """`freed` has bits of resources, by pool and cluster."""

    def __init__(self, transactions: Transactions, pools: Pools) -> None:
        self.transactions, self.pools = transactions, pools
        self.locks = transactions.locks
        self.clock = transactions.locks.clock
        self.touched: dict[int, Record] = {}
        self.births: dict[int, DescriptorRecord] = {}
        self.freed: dict[tuple[AddressType, int], int] = {}
        self.unlocked: set[int] = set()
        self.on_finish: list[Callable[[], None]] = []
        self.on_discard: list[Callable[[], None]] = []
        self._seconds = self.clock.seconds()

    @property
    def seconds(self) -> int:
        """The time that this operation stamps files with."""
        return self._seconds

    # records

    def touch(self, record: Some) -> Some:
        """It is going to be changed."""
        self.touched[record.position] = record
        return record

    def new(self, record: Some) -> Some:
        """A record that does not come from the disk."""
        self.transactions.records[record.position] = record
        return self.touch(record)

    def descriptor_position(self, address: int) -> int:
        return self.pools[AddressType.FILE_DESCRIPTOR].item_position(*addresses.place(address))

    def descriptor(self, address: int, generation: int | None = None, path: str = "") -> DescriptorRecord:
        """A descriptor, locked for us, to be changed. `generation`: as the entry says that led to it.

        Raises NoSuchFile when it is another file's by now.
        """
        position = self.descriptor_position(address)
        if position in self.births:
            return self.births[position]
        record = self._locked(position, LockType.FILE_DESCRIPTOR, FD_BYTES, DescriptorRecord)
        if not record.nlink or (generation is not None and record.generation != generation):
            raise NoSuchFile(path or addresses.describe(address))
        return self.touch(record)

    def cluster(self, kind: AddressType, number: int) -> ClusterRecord:
        """A cluster's header, locked for us, to be changed."""
        pool = self.pools[kind]
        record = self._locked(pool.header_position(number), pool.lock_type, CLUSTER_HEADER_BYTES, ClusterRecord)
        return self.touch(record)

    def pointer_block(self, address: int) -> PointerBlockRecord:
        """A pointer block of a file that is locked for us."""
        position = self.pools[AddressType.POINTER_BLOCK].item_position(*addresses.place(address))
        record = self.transactions.records.get(position)
        if not isinstance(record, PointerBlockRecord):
            raw = bytearray(self.transactions.lv.bytes_at(position, POINTER_BLOCK_BYTES))
            record = self.transactions.records[position] = PointerBlockRecord(position, raw)
        return record

    def _locked(self, position: int, kind: LockType, length: int, of: type[Some]) -> Some:
        known = self.transactions.records.get(position)
        if isinstance(known, of) and position in self.locks.held:
            return known
        held = self.locks.held.get(position)
        if held is None:
            raw = self.locks.take(position, kind, length)
        else:
            if held.mode is not LockMode.EXCLUSIVE:
                raise self.busy_here(position) if held.users else NeedsCommit(settle=True)
            raw = bytearray(self.transactions.lv.bytes_at(position, length))
        record = self.transactions.records[position] = of(position, raw)
        return record

    # open files

    def refuse_open(self, position: int) -> None:
        """Raises Contended for a descriptor whose file this opening has open."""
        held = self.locks.held.get(position)
        if held is not None and held.users:
            raise self.busy_here(position)

    def busy_here(self, position: int) -> Contended:
        """This opening itself has the lock."""
        heartbeat = self.locks.heartbeat
        return Contended(position, LockType.FILE_DESCRIPTOR, heartbeat.position, heartbeat.host.uuid)

    def share(self, address: int, mode: LockMode) -> None:
        """Keep the lock of a file's descriptor in a mode that others may have too. Raises FileLocked."""
        position = self.descriptor_position(address)
        held = self.locks.held.get(position)
        if held is None:
            self.locks.take(position, LockType.FILE_DESCRIPTOR, mode=mode, lease=Lease.OPEN)
            held = self.locks.held[position]
        elif not held.users:
            raise NeedsCommit(settle=True)
        elif held.mode is not mode:
            raise self.busy_here(position)
        held.users += 1

    @property
    def clusters_max(self) -> int:
        """How many clusters one operation may change: what fits into the journal beside the rest."""
        return self.transactions.room * 3 // 4

    # births and deaths

    def born(self, record: DescriptorRecord) -> DescriptorRecord:
        """A new descriptor: nobody can know of it before it is committed, so it needs no lock on the disk."""
        self.births[record.position] = record
        return self.new(record)

    def dead(self, record: DescriptorRecord) -> None:
        """A descriptor without links any more: what it says stays there, and its lock is free with the transaction."""
        record.nlink = 0
        record.set_free(self.clock.now_us())
        self.unlocked.add(record.position)

    # the end

    def finish(self) -> None:
        """Become a part of the running transaction, which may be committed before. Raises what `commit` does."""
        self.transactions.add(changed_sectors(self.touched.values()))
        for position, born in self.births.items():
            record = LockRecord(position, bytearray(born.raw[:LOCK_BYTES]))
            self.locks.held[position] = Held(record, Lease.BORN, LockMode.EXCLUSIVE)
        for position in self.unlocked:
            self.locks.held.pop(position, None)
            self.transactions.records.pop(position, None)
        for (kind, cluster), bits in self.freed.items():
            recent = self.pools[kind].recent
            recent[cluster] = recent.get(cluster, 0) | bits
        for done in self.on_finish:
            done()

    def discard(self) -> None:
        """As if it had not begun. What was locked stays locked."""
        for position in self.touched:
            self.transactions.records.pop(position, None)
        for undo in self.on_discard:
            undo()
