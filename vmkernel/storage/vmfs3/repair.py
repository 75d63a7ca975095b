"""Mends a volume by what a check found: pass after pass, until nothing is left that can be mended.

Nobody else may have the volume: a host that has a heartbeat slot is watched until it beats, which ends the repair, or
is dead; then its journal is replayed and its slot freed. All devices stay reserved while anything is written. Space
that is in use but marked free is marked first, copies are made before words point at them, so a repair that is cut
short leaves what the next one mends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vmkernel.storage.errors import Locked
from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3 import descriptor_spec as fd_spec
from vmkernel.storage.vmfs3.check import Check, judge_file_system, open_luns
from vmkernel.storage.vmfs3.check_files import KIND_OF
from vmkernel.storage.vmfs3.check_head import check_superblock, read_superblock
from vmkernel.storage.vmfs3.check_lvm import judge_whole
from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.descriptor_spec import AddressType
from vmkernel.storage.vmfs3.errors import CorruptVolume, IncompleteVolume
from vmkernel.storage.vmfs3.finding import Fault, Finding, Findings, Patch, Separate
from vmkernel.storage.vmfs3.heartbeat import Watch, read_slot, slots_in_use
from vmkernel.storage.vmfs3.identity import NOBODY
from vmkernel.storage.vmfs3.journal import Journal
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.overlay import OverlaidLun, lay_over
from vmkernel.storage.vmfs3.volume_spec import HeartbeatMagic

PASSES_MAX = 12
LOOK_S = 0.5
Key = tuple[Fault, int, str, int | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finding, and what became of it."""

    finding: Finding
    mended: bool

    def __str__(self) -> str:
        return f"{self.finding} ({'mended' if self.mended else 'left as it is'})"


def repair(
    paths: Sequence[Path], *, clock: Clock | None = None, waiting: Callable[[str], None] | None = None
) -> list[Outcome]:  # fmt: skip
    """Mend what can be. `waiting` is told of hosts that are watched. Raises Locked where one lives, and as `check`."""
    with ExitStack() as stack:
        luns = open_luns(paths, stack, writable=True)
        one = Repair(luns, clock or Clock(), waiting)
        one.end_hosts()
        for lun in luns:
            stack.enter_context(lun.reserve())
        return one.run()


class Repair:
    """One repair. The LUNs are reserved by the caller while `run` runs."""

    def __init__(self, luns: Sequence[OverlaidLun], clock: Clock, waiting: Callable[[str], None] | None) -> None:
        self.luns, self.clock, self.waiting = list(luns), clock, waiting
        self.seen: dict[Key, Finding] = {}

    # hosts that have the volume, or had

    def end_hosts(self) -> None:
        """Raises Locked, and what `check` raises; IncompleteVolume for images that were cut short."""
        Check(self.luns).judge_version()
        if not self.luns[0].is_bare:
            judge_whole(self.luns)
        try:
            lv = LogicalVolume.open(self.luns)
        except (CorruptVolume, IncompleteVolume):
            return
        lay_over(lv, {})
        judge_file_system(lv, read_superblock(lv))
        superblock = check_superblock(lv, Findings())
        if superblock is None:
            return
        block_size = int(superblock.block_size)
        watch = Watch(lv, self.clock, block_size)
        told = False
        for position in slots_in_use(lv):
            while not watch.is_dead(position):
                name = watch.name(position, bytes(read_slot(lv, position).owner))
                if watch.is_alive(position):
                    raise Locked(f"{lv.name}: {name} has the volume mounted")
                if not told and self.waiting is not None:
                    self.waiting(f"waiting to see whether {name} lives")
                told = True
                self.clock.sleep(LOOK_S)
            self._end(lv, position, block_size)

    def _end(self, lv: LogicalVolume, position: int, block_size: int) -> None:
        """Replay a dead host's journal and free its slot. Its locks are stale then, and its journal's block is lost."""
        with lv.reserve():
            slot = read_slot(lv, position)
            if slot.magic != HeartbeatMagic.IN_USE:
                return
            if slot.journal and addresses.kind(slot.journal) == AddressType.FILE_BLOCK:
                journal = Journal(lv, slot.journal, block_size)
                if journal.position + block_size <= lv.size:
                    self._replay(lv, journal, (bytes(slot.owner), position))
            slot.magic, slot.owner, slot.journal = HeartbeatMagic.FREE, NOBODY, 0
            lv.write(position, [slot.raw])
            lv.sync()

    @staticmethod
    def _replay(lv: LogicalVolume, journal: Journal, owner: tuple[bytes, int]) -> None:
        """ESX zeroes the first sector of its journal when nothing waits in it. Raises Unsupported where it is not."""
        head = journal.head()
        journal.judge_ours()
        if head is not None and (head.owner, head.hb_position) == owner:
            for piece in journal.transaction(head):
                lv.write(piece.position, [piece.data])
            lv.sync()

    # findings

    def run(self) -> list[Outcome]:
        """Check and mend until a check finds nothing new that can be mended."""
        for _ in range(PASSES_MAX):
            check = Check(self.luns)
            check.run()
            found = check.result()
            if check.lv is not None and slots_in_use(check.lv):
                raise Locked(f"{check.lv.name}: a host has mounted the volume meanwhile")
            known = len(self.seen)
            for one in found:
                self.seen.setdefault(key(one), one)
            if not self._mend(check, found) and len(self.seen) == known:
                break
        left = {key(one) for one in found}
        return [Outcome(one, place not in left) for place, one in self.seen.items()]

    def _mend(self, check: Check, found: list[Finding]) -> bool:
        """One stage; False: there was nothing to do."""
        for stage in (
            [one for one in found if one.fault is Fault.LVM], [one for one in found if one.fault is Fault.FREE],
        ):  # fmt: skip
            if patches := patches_of(stage):
                self._write(check, patches)
                return True
        wanted = [mend for one in found for mend in one.mends if isinstance(mend, Separate)]
        if wanted and self._separate(check, wanted):
            return True
        patches = patches_of(found)
        self._write(check, patches)
        return bool(patches)

    def _write(self, check: Check, patches: list[Patch]) -> None:
        for one in patches:
            if one.device is not None:
                self.luns[one.device].write(one.offset, [one.data])
            elif check.lv is not None:
                check.lv.write(one.offset, [one.data])
        for lun in self.luns:
            lun.sync()

    def _separate(self, check: Check, wanted: list[Separate]) -> bool:
        """A copy for each, as long as there is room. False: there was none for any."""
        assert check.files is not None and check.lv is not None
        done = False
        none = np.zeros(0, np.int64)
        used = {kind: check.files.used(kind, none) | table.used for kind, table in check.tables.items()}
        for one in wanted:
            of = AddressType(one.address & fd_spec.TYPE_MASK)
            table, taken = check.tables[KIND_OF[of]], used[KIND_OF[of]]
            free = np.flatnonzero(~taken)
            if not len(free):
                continue
            number = int(free[0])
            taken[number] = True
            cluster, resource = divmod(number, table.per_cluster)
            if of is AddressType.FILE_BLOCK:
                old, word = addresses.block_number(one.address), addresses.file_block(number)
                word |= one.address & fd_spec.FileBlockFlag.TBZ
            else:
                place = addresses.place(one.address)
                old = place[0] * table.per_cluster + place[1]
                make = addresses.sub_block if of is AddressType.SUB_BLOCK else addresses.pointer_block
                word = make(cluster, resource)
            self._write(check, list(table.bitmap_patch(cluster, taken)))
            copy(check.lv, table.item_runs(old), table.item_runs(number))
            check.lv.sync()
            self._write(check, [Patch(one.word, word.to_bytes(fd_spec.ADDRESS.itemsize, "little"))])
            done = True
        return done


def copy(lv: LogicalVolume, source: list[tuple[int, int]], target: list[tuple[int, int]]) -> None:
    """Runs of equal length in all."""
    data = b"".join(lv.bytes_at(place, length) for place, length in source)
    for place, length in target:
        lv.write(place, [data[:length]])
        data = data[length:]


def patches_of(found: Iterable[Finding]) -> list[Patch]:
    """Each once."""
    return list(dict.fromkeys(mend for one in found for mend in one.mends if isinstance(mend, Patch)))


def key(one: Finding) -> Key:
    """What makes two findings of two checks the same."""
    return one.fault, one.offset, one.what, one.device

