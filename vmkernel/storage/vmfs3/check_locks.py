"""Checks the on-disk locks of descriptors and clusters against the heartbeat slots of those who are said to hold them.

A lock whose slot no longer has its generation or owner is stale: its host is gone, and another may take it. One whose
slot agrees is held, and no finding.
Source: vmfs-tools, libvmfs/vmfs_metadata.c, vmfs_heartbeat.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import volume_spec as spec
from vmkernel.storage.vmfs3.check_files import Files
from vmkernel.storage.vmfs3.check_resources import Places, Table
from vmkernel.storage.vmfs3.finding import Fault, Findings, Patch
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.layout import fields
from vmkernel.storage.vmfs3.volume_spec import HeartbeatMagic, LockMode, LockType

FIELDS = {one.name: one for one in fields(spec.LOCK)}
MODES = [int(mode) for mode in LockMode]
HELD_BY_ONE = (LockMode.EXCLUSIVE, LockMode.MULTI_WRITER)


class Locks(NamedTuple):
    """Many locks: the records, where each lies, and what each is of."""

    records: NDArray[Any]
    at: Places
    title: Callable[[int], str]


def of_files(files: Files) -> Locks:
    rows = np.flatnonzero(files.fds["lock"]["type"] == LockType.FILE_DESCRIPTOR)
    return Locks(files.fds["lock"][rows], files.at[rows], lambda index: files.title(int(rows[index])))


def of_clusters(table: Table) -> Locks:
    return Locks(table.clusters["lock"], table.positions, lambda index: f"{table.name} cluster {index}")


def is_set(uuids: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of many UUIDs are not zeros."""
    raw = np.frombuffer(uuids.tobytes(), np.uint8).reshape(*uuids.shape, spec.LOCK["owner"].itemsize)
    return np.asarray(raw.any(axis=-1))


def check_locks(locks: Locks, slots: NDArray[Any], findings: Findings) -> None:
    records = locks.records
    owned = is_set(records["owner"])
    odd = ~np.isin(records["mode"], MODES) | (records["mode"] != LockMode.FREE) | owned
    for index in np.flatnonzero(odd).tolist():
        lock, title = records[index], locks.title(index)
        for what, expected, found in judge(lock, bool(owned[index]), slots):
            at = int(locks.at[index]) + FIELDS["mode"].offset
            findings.add(
                Fault.LOCK, at, title, what, expected, found, "the lock is freed", *free(int(locks.at[index]))
            )  # fmt: skip


def judge(lock: Any, owned: bool, slots: NDArray[Any]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with one that is not plainly free."""
    mode = int(lock["mode"])
    if mode not in MODES:
        yield "lock mode", "0 to 3", str(mode)
        return
    if mode == LockMode.FREE:
        yield "owner of a free lock", "none", uuid_text(lock["owner"].tobytes())
        return
    name = LockMode(mode).name.lower().replace("_", "-")
    holders = lock["holders"][: min(int(lock["num_holders"]), spec.HOLDERS)]
    if mode in HELD_BY_ONE and owned:
        holder = (lock["hb_position"], lock["hb_generation"], lock["owner"])
        if not is_held(*holder, slots):
            yield f"holder of the {name} lock", "a host with a heartbeat", gone(lock["owner"], lock["hb_position"])
        return
    if not len(holders):
        yield f"holder of the {name} lock", "a host", "none"
    for holder in holders:
        if not is_held(holder["hb_position"], holder["hb_generation"], holder["owner"], slots):
            yield (
                f"holder of the {name} lock", "a host with a heartbeat", gone(holder["owner"], holder["hb_position"])
            )  # fmt: skip


def is_held(position: Any, generation: Any, owner: Any, slots: NDArray[Any]) -> bool:
    """Whether the slot still is of the host that took the lock."""
    offset = int(position) - spec.HEARTBEATS_AT
    if offset % spec.HEARTBEAT_BYTES or not 0 <= offset // spec.HEARTBEAT_BYTES < len(slots):
        return False
    slot = slots[offset // spec.HEARTBEAT_BYTES]
    return bool(
        slot["magic"] != HeartbeatMagic.FREE
        and slot["generation"] == generation
        and slot["owner"].tobytes() == owner.tobytes()
    )


def gone(owner: Any, position: Any) -> str:
    return f"{uuid_text(owner.tobytes())}, whose slot at {int(position):#x} is not its any more"


def free(at: int) -> list[Patch]:
    """What makes a lock a free one; position, token and the last owner's heartbeat stay."""
    names = ("mode", "owner", "num_holders", "holders")
    return [Patch(at + FIELDS[name].offset, bytes(FIELDS[name].size)) for name in names]
