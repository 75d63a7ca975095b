"""One opening of a volume for writing: heartbeat, journal, transaction, and the thread that keeps them going.

Every operation runs alone in its process (`operate`). The thread beats every 3 s, commits what is old, gives locks back
when others want them or nothing is going on, and breaks hosts that have died. Reading and writing file data in blocks
that are there already takes no lock of this process.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from ringfence.errors import RingfenceError
from vmkernel.storage.errors import HostTrouble, Locked
from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.descriptor_spec import AddressType
from vmkernel.storage.vmfs3.doorbell import Doorbell
from vmkernel.storage.vmfs3.errors import FileLocked
from vmkernel.storage.vmfs3.heartbeat import BEAT_US, Heartbeat, Watch, slots_in_use
from vmkernel.storage.vmfs3.host import Host
from vmkernel.storage.vmfs3.locks import Contended, DeadOwner, Lease, Locks
from vmkernel.storage.vmfs3.operation import NeedsCommit, Operation
from vmkernel.storage.vmfs3.pools import Pool
from vmkernel.storage.vmfs3.recovery import break_host, free_journal, hold_journal
from vmkernel.storage.vmfs3.transaction import Transactions
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import HEARTBEATS_AT, LockType

Answer = TypeVar("Answer")
COMMIT_US = 5_000_000  # what is older is made durable
IDLE_US = 1_000_000  # locks that were not used for so long are given back
ASK_US = 5_000  # how often a busy host looks whether others wait
TICK_S = 0.05
TRY_S, TRY_MAX_S = 0.002, 0.1  # how often a host that waits looks whether a lock is free; less often later
TRY_SHARE = 0.02  # of the time that it has waited already
FILE_PATIENCE_US = 1_000_000  # a descriptor whose host lives and does not give it back is of an open file
PATIENCE_US = 60_000_000


class Session:
    """`volume` is open for writing, its LUNs lay `sectors` over what they read.

    `background`: with the thread. Without it the caller calls `tick`.
    """

    def __init__(
        self, volume: Volume, sectors: dict[int, bytes], host: Host, clock: Clock, *, background: bool = True
    ) -> None:
        lv = volume.lv
        self.volume, self.lv, self.host, self.clock = volume, lv, host, clock
        self.mutex = threading.RLock()
        self.failed: BaseException | None = None
        self.heartbeat = Heartbeat(lv, host, clock)
        self.watch = Watch(lv, clock, volume.block_size)
        self.doorbell = Doorbell(lv.lun_at(HEARTBEATS_AT)[0].fd)
        self.locks = Locks(lv, self.heartbeat, self.watch, self.doorbell, clock)
        self.transactions = Transactions(lv, self.heartbeat, self.locks, sectors)
        start = int.from_bytes(host.uuid[:10], "little")
        self.pools = {
            kind: Pool(volume.resource_file(kind), start)
            for kind in (
                AddressType.FILE_BLOCK, AddressType.FILE_DESCRIPTOR, AddressType.POINTER_BLOCK, AddressType.SUB_BLOCK,
            )
        }  # fmt: skip
        self.transactions.on_commit += [pool.recent.clear for pool in self.pools.values()]
        self.closed = self._stopping = False
        self._used_us = self._asked_us = 0
        self._unwatched = False  # the others are to be looked at
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.background = background

    # life

    def begin(self) -> None:
        """Take a slot and a journal, and see to what dead hosts left. The first writes of this opening."""
        self.heartbeat.take()
        try:
            hold_journal(self)
        except BaseException:
            self.heartbeat.free()
            raise
        try:
            self.recover()
        except BaseException:
            self.end()
            raise
        if self.background:
            self._thread = threading.Thread(target=self._run, name="vmfs heartbeat", daemon=True)
            self._thread.start()

    def recover(self) -> None:
        """Look at every other host, and break those that are known to be dead."""
        others = [position for position in slots_in_use(self.lv) if position != self.heartbeat.position]
        for position in set(self.watch.sights) - set(others):
            del self.watch.sights[position]
        for position in others:
            if self.watch.is_dead(position):
                break_host(self, position)

    def end(self) -> None:
        """Everything durable, every lock given back, journal and slot free."""
        if self.closed:
            return
        self._stop()
        with self.mutex:
            if self.failed is None:
                self.transactions.commit()
                for held in self.locks.held.values():
                    if held.lease is Lease.OPEN:
                        held.lease = Lease.TRANSACTION
                self.transactions.settle()
                free_journal(self)
                self.lv.sync()  # no lock names the slot any more
                self.heartbeat.free()
                self.lv.sync()
            self.closed = True

    def abandon(self) -> None:
        """As if the host had died here: nothing more is written."""
        self._stop()
        self.closed = True

    def _stop(self) -> None:
        if self._thread is not None:
            self._stopping = True
            self._wake.set()
            self._thread.join()
            self._thread = None

    # operations

    def operate(self, change: Callable[[Operation], Answer], what: str = "") -> Answer:
        """Do it whole or not at all. `what` names it when a lock cannot be had.

        Raises what `change` raises, FileLocked, VolumeFull, HeartbeatLost, HostTrouble.
        """
        with self.mutex:
            while True:
                self.judge()
                operation = Operation(self.transactions, self.pools)
                try:
                    answer = change(operation)
                except BaseException as error:  # noqa: BLE001 - raised again, where it is not for this method
                    operation.discard()
                    self._clear_the_way(error, what)
                    continue
                try:
                    self._must(operation.finish)
                except Locked:
                    operation.discard()
                    raise
                with contextlib.suppress(Locked):  # what is done is done; the thread tries again
                    self._after()
                return answer

    def _clear_the_way(self, error: BaseException, what: str) -> None:
        """Of an operation that was given up; raises the error where there is nothing to be done."""
        if isinstance(error, Contended):
            self._wait(error, what)
        elif isinstance(error, DeadOwner):
            break_host(self, error.hb_position)
        elif isinstance(error, NeedsCommit):
            self._must(self.transactions.settle if error.settle else self.transactions.commit)
        else:
            raise error

    def judge(self) -> None:
        """May this opening write at all? Raises what has made it impossible."""
        if self.failed is not None or self.closed:
            raise self.failed or HostTrouble(self.lv.name, 0, "the volume was closed")
        self._must(self.heartbeat.ensure_fresh)

    def judge_alive(self) -> None:
        """Before file data is written in place. Raises HeartbeatLost, or what has ended this opening."""
        if self.failed is not None or self.closed:
            raise self.failed or HostTrouble(self.lv.name, 0, "the volume was closed")
        self.heartbeat.ensure_fresh()

    def _must(self, step: Callable[[], None]) -> None:
        """A step whose failure ends all writing: what is on the disk is for the next opening to recover.

        But for a device that another host keeps reserved: nothing has been written then, and it can be tried again.
        """
        try:
            step()
        except Locked:
            raise
        except BaseException as error:
            self.failed = error
            raise

    def _after(self) -> None:
        now = self._used_us = self.clock.now_us()
        if self.transactions.is_large:
            self._must(self.transactions.commit)
        if now - self._asked_us > ASK_US:
            self._asked_us = now
            if self.locks.are_wanted():
                self._must(self.transactions.settle)
        if not self._wake.is_set():
            self._wake.set()

    def _wait(self, busy: Contended, what: str) -> None:
        """Take the lock as soon as it is free. Raises FileLocked."""
        self._must(self.transactions.settle)
        begun = self.clock.now_us()
        own = busy.owner == self.host.uuid
        with self.doorbell.ringing(busy.position):
            while True:
                waited = self.clock.now_us() - begun
                is_file = busy.kind is LockType.FILE_DESCRIPTOR and waited > FILE_PATIENCE_US
                if own or waited > PATIENCE_US or (is_file and self.watch.is_alive(busy.hb_position)):
                    raise FileLocked(what or f"{self.lv.name}: lock at {busy.position:#x}", self.owner(busy))
                self.mutex.release()
                try:
                    self.clock.sleep(min(max(TRY_S, waited / 1e6 * TRY_SHARE), TRY_MAX_S))
                finally:
                    self.mutex.acquire()
                self.judge()
                try:
                    if busy.position not in self.locks.held:
                        self.locks.take(busy.position, busy.kind)
                    return
                except Contended as still:
                    busy = still
                except DeadOwner as dead:
                    break_host(self, dead.hb_position)

    def owner(self, busy: Contended) -> str:
        if busy.owner == self.host.uuid:
            return f"this opening, {self.host}"
        return self.watch.name(busy.hb_position, busy.owner)

    # durability

    def sync(self) -> None:
        """All operations so far are durable, and all file data."""
        with self.mutex:
            self.judge()
            self._must(self.transactions.commit)

    def settle(self) -> None:
        """The same, and no lock is kept but those of open files."""
        with self.mutex:
            self.judge()
            self._must(self.transactions.settle)

    # the thread

    def tick(self) -> None:
        """What there is to be done at this time. Raises HeartbeatLost, HostTrouble."""
        now = self.clock.now_us()
        if now - self.heartbeat.last_us >= BEAT_US:
            self._must(self.heartbeat.beat)
            self._unwatched = True
        if not self.mutex.acquire(blocking=False):
            return
        try:
            if self.failed is None and not self.closed:
                if self._unwatched:
                    self._unwatched = False
                    self.recover()
                transactions = self.transactions
                if self.locks.has_transaction_locks() and (now - self._used_us > IDLE_US or self.locks.are_wanted()):
                    self._must(transactions.settle)
                elif transactions.sectors and now - transactions.begun_us > COMMIT_US:
                    self._must(transactions.commit)
        finally:
            self.mutex.release()

    def is_stopping(self) -> bool:
        return self._stopping

    def _run(self) -> None:
        while not self.is_stopping() and self.failed is None:
            self._wake.clear()
            left = max(self.heartbeat.last_us + BEAT_US - self.clock.now_us(), 0) / 1e6
            if self.transactions.sectors or self.locks.has_transaction_locks():
                self.clock.sleep(min(TICK_S, left))
            else:
                self._wake.wait(left)
            if self.is_stopping():
                return
            with contextlib.suppress(RingfenceError, OSError):  # `failed` has it, for whoever writes next
                self.tick()
