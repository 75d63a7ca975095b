"""Heartbeat slots: ours, which says that this host lives, and others', which say whether their hosts do.

A host rewrites its slot every 3 s. A slot that does not change for 16 s belongs to a dead host. A host that may have
been stopped for so long looks whether its slot is still its own before it writes anything; when it is not, others have
broken its locks, and it never writes to the volume again.
Source: vmfs-tools, libvmfs/vmfs_heartbeat.c; VMware KB 10051.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.errors import CorruptVolume, HeartbeatLost, VolumeFull
from vmkernel.storage.vmfs3.host import Host, Process
from vmkernel.storage.vmfs3.identity import NOBODY, uuid_text
from vmkernel.storage.vmfs3.journal import Journal, JournalHead
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.records import HeartbeatRecord, LockRecord
from vmkernel.storage.vmfs3.volume_spec import (
    HEARTBEAT,
    HEARTBEAT_BYTES,
    HEARTBEATS,
    HEARTBEATS_AT,
    MAJOR_VMFS3,
    MINOR_VMFS3,
    HeartbeatMagic,
)

BEAT_US = 3_000_000
DEAD_US = 16_000_000
FRESH_US = 8_000_000  # after this without a beat the slot is looked at before a write


def slot_position(number: int) -> int:
    return HEARTBEATS_AT + number * HEARTBEAT_BYTES


def is_slot(position: int) -> bool:
    """Can a slot lie at this byte of the volume?"""
    number, rest = divmod(position - HEARTBEATS_AT, HEARTBEAT_BYTES)
    return not rest and 0 <= number < HEARTBEATS


def read_slot(lv: LogicalVolume, position: int) -> HeartbeatRecord:
    return HeartbeatRecord(position, bytearray(lv.bytes_at(position, HEARTBEAT_BYTES)))


def slots_in_use(lv: LogicalVolume) -> list[int]:
    """Where they lie."""
    table = np.frombuffer(lv.bytes_at(HEARTBEATS_AT, HEARTBEATS * HEARTBEAT_BYTES), HEARTBEAT)
    return [slot_position(number) for number in np.flatnonzero(table["magic"] == HeartbeatMagic.IN_USE).tolist()]


class Heartbeat:
    """The slot of this opening. `hold` takes one, `free` gives it back."""

    def __init__(self, lv: LogicalVolume, host: Host, clock: Clock) -> None:
        self.lv, self.host, self.clock = lv, host, clock
        self.slot = HeartbeatRecord(0, bytearray(HEARTBEAT_BYTES))
        self.last_us = 0
        self.lost = False

    @property
    def position(self) -> int:
        return self.slot.position

    @property
    def generation(self) -> int:
        return int(self.slot.generation)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """The head device is reserved, and the slot is ours: what is written meanwhile nobody can take from us.

        Raises HeartbeatLost, Locked.
        """
        with self.lv.reserve(HEARTBEATS_AT):
            self.verify()
            yield

    def take(self) -> None:
        """Any free slot, durably, before a lock names it; the host's UUID says where the search begins.

        Raises VolumeFull where 2048 hosts are here.
        """
        with self.lv.reserve(HEARTBEATS_AT):
            table = np.frombuffer(self.lv.bytes_at(HEARTBEATS_AT, HEARTBEATS * HEARTBEAT_BYTES), HEARTBEAT)
            is_free = np.flatnonzero((table["magic"] == HeartbeatMagic.FREE) & (table["journal"] == 0))
            if not len(is_free):
                raise VolumeFull(self.lv.name, "heartbeat slots", HEARTBEATS)
            first = int.from_bytes(self.host.uuid[:10], "little") % HEARTBEATS
            number = int(is_free[np.searchsorted(is_free, first) % len(is_free)])
            self.slot = read_slot(self.lv, slot_position(number))
            self.slot.own_position = self.slot.position
            self.occupy(self.slot)
            self.lv.sync()
            self.last_us = self.clock.now_us()

    def occupy(self, slot: HeartbeatRecord) -> None:
        """Make a slot ours on the disk, in a reservation of the caller's."""
        slot.magic, slot.owner = HeartbeatMagic.IN_USE, self.host.uuid
        slot.generation = slot.generation + 1
        slot.stamp = self.clock.now_us()
        slot.driver_major, slot.driver_minor = MAJOR_VMFS3, MINOR_VMFS3
        self.lv.write(slot.position, [slot.raw])

    def beat(self) -> None:
        """Raises HeartbeatLost."""
        with self.fenced():
            now = self.clock.now_us()
            self.slot.stamp = max(now, self.slot.stamp + 1)
            self.lv.write(self.position, [self.slot.raw])
            self.last_us = now

    def verify(self) -> None:
        """Is the slot on the disk still ours? Raises HeartbeatLost."""
        if not self.lost:
            found = read_slot(self.lv, self.position)
            self.lost = (
                found.magic != HeartbeatMagic.IN_USE or found.owner != self.host.uuid
                or found.generation != self.generation
            )  # fmt: skip
        if self.lost:
            raise HeartbeatLost(self.lv.name, self.position)

    def ensure_fresh(self) -> None:
        """Before a write outside of a reservation: beats when the last one is long ago. Raises HeartbeatLost."""
        if self.lost or self.clock.now_us() - self.last_us > FRESH_US:
            self.beat()

    def free(self) -> None:
        """Give the slot back: the generation and the last stamp stay."""
        with self.fenced():
            self.slot.magic, self.slot.owner, self.slot.journal = HeartbeatMagic.FREE, NOBODY, 0
            self.lv.write(self.position, [self.slot.raw])
            self.lost = True


@dataclass(slots=True)
class Sight:
    """What was seen of another host's slot, since when, whether it was seen to beat, and which process has it."""

    generation: int
    owner: bytes
    stamp: int
    since_us: int
    beats: bool = False
    process: Process | None = None


class Watch:
    """What this host knows of the others."""

    def __init__(self, lv: LogicalVolume, clock: Clock, block_size: int) -> None:
        self.lv, self.clock, self.block_size = lv, clock, block_size
        self.sights: dict[int, Sight] = {}

    def look(self, position: int) -> Sight:
        """At a slot in use, whose host may have beaten since."""
        slot = read_slot(self.lv, position)
        known = self.sights.get(position)
        facts = (int(slot.generation), bytes(slot.owner), int(slot.stamp))
        if known is None or (known.generation, known.owner) != facts[:2]:
            known = self.sights[position] = Sight(*facts, self.clock.awake_us())
        elif known.stamp != facts[2]:
            known.stamp, known.since_us, known.beats = facts[2], self.clock.awake_us(), True
        return known

    def is_dead(self, position: int) -> bool:
        """The host of this slot, which is in use, has stopped for good."""
        sight = self.look(position)
        if self.clock.awake_us() - sight.since_us >= DEAD_US:
            return True
        process = self.process(position, sight)
        return process is not None and process.is_gone

    def is_alive(self, position: int) -> bool:
        """It was seen to beat, or is a process that is here. Neither alive nor dead: wait and look again."""
        sight = self.look(position)
        if sight.beats and self.clock.awake_us() - sight.since_us < DEAD_US:
            return True
        process = self.process(position, sight)
        return process is not None and process.is_here and not process.is_gone

    def process(self, position: int, sight: Sight | None = None) -> Process | None:
        """The process that has this slot, as its journal tells."""
        sight = sight or self.look(position)
        if sight.process is None:
            head = self.journal_head(read_slot(self.lv, position))
            sight.process = None if head is None else head.process
        return sight.process

    def journal_head(self, slot: HeartbeatRecord) -> JournalHead | None:
        """None where the slot names no journal, or one that is not of its host."""
        if not slot.journal:
            return None
        head = Journal(self.lv, slot.journal, self.block_size).head()
        return head if head is not None and (head.owner, head.hb_position) == (slot.owner, slot.position) else None

    def name(self, position: int, owner: bytes) -> str:
        """Whose a lock is, for people: name and pid where its journal tells, else the UUID."""
        if is_slot(position):
            slot = read_slot(self.lv, position)
            head = self.journal_head(slot) if slot.owner == owner else None
            if head is not None:
                return head.owner_text
        return f"the host {uuid_text(owner)}"

    def is_stale(self, position: int, generation: int, owner: bytes, lock: LockRecord) -> bool:
        """The slot that a lock names is no more of the host and time that the lock is of: it may be taken.

        Raises CorruptVolume for a lock that names no slot.
        """
        if not is_slot(position):
            raise CorruptVolume(
                self.lv.name, lock.position, "heartbeat slot of a lock",
                f"one of {HEARTBEATS} from {HEARTBEATS_AT:#x} on", f"{position:#x}",
            )  # fmt: skip
        slot = read_slot(self.lv, position)
        return slot.magic == HeartbeatMagic.FREE or slot.owner != owner or slot.generation != generation
