"""Checks the head of a logical volume: the superblock, and the heartbeat slots with the journals that they name.

A slot in use is no damage: a host has the volume, or had it when it stopped. The check cannot tell; a repair waits to
see, and replays the journal of one that has stopped.
Source: vmfs-tools, libvmfs/vmfs_fs.c, vmfs_heartbeat.c.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from construct import Int32ul, Int64ul
from numpy.typing import NDArray

from vmkernel.storage.vmfs3 import volume_spec as spec
from vmkernel.storage.vmfs3.check_version import block_size as right_block_size
from vmkernel.storage.vmfs3.check_version import is_vmfs3
from vmkernel.storage.vmfs3.descriptor_spec import BLOCK_MAX, BLOCK_SHIFT, TYPE_MASK, AddressType
from vmkernel.storage.vmfs3.finding import Fault, Findings, Patch, Replay
from vmkernel.storage.vmfs3.identity import uuid_text
from vmkernel.storage.vmfs3.journal import Journal
from vmkernel.storage.vmfs3.layout import offsets
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.lvm_spec import SECTOR_BYTES

SUPERBLOCK_OFFSETS = offsets(spec.SUPERBLOCK)
HEARTBEAT_OFFSETS = offsets(spec.HEARTBEAT)
FILES_OF_VMFS5 = ("pb2_position", "pb2_address", "sdd_position", "sdd_address")
FREE_SLOT_KEEPS = ("generation", "stamp", "driver_major", "driver_minor")


def read_superblock(lv: LogicalVolume) -> Any:
    return spec.SUPERBLOCK.parse(lv.bytes_at(spec.SUPERBLOCK_AT, 512))


def check_superblock(lv: LogicalVolume, findings: Findings) -> Any | None:
    """It, with the version and the block size that it ought to have. None: nothing more can be read by it."""
    block = read_superblock(lv)
    lvm_uuid = bytes(block.lvm_uuid if lv.uuid is None else lv.uuid)

    def find(name: str, expected: object, found: object, data: bytes = b"") -> None:
        at = spec.SUPERBLOCK_AT + SUPERBLOCK_OFFSETS[name]
        patches = [Patch(at, data)] if data else []
        plan = "it is written" if data else ""
        findings.add(Fault.SUPERBLOCK, at, "superblock", name, expected, found, plan, *patches)

    if block.magic not in (spec.MAGIC, spec.MAGIC_LOCAL):
        find("magic", f"{spec.MAGIC:#x}", f"{block.magic:#x}", Int32ul.build(spec.MAGIC))
    if block.major != spec.MAJOR_VMFS3:
        is_known = is_vmfs3(lv, block)
        data = Int32ul.build(spec.MAJOR_VMFS3) if is_known else b""
        find("major", f"{spec.MAJOR_VMFS3}, of VMFS-3", block.major, data)
        if not is_known:
            return None
        block.major = spec.MAJOR_VMFS3
    size = right_block_size(lv, block)
    if size is None:
        find("block_size", "1, 2, 4 or 8 MiB", block.block_size)
        return None
    if block.block_size != size:
        find("block_size", f"{size}, as in the system's files", block.block_size, Int64ul.build(size))
        block.block_size = size
    if block.lvm_uuid != lvm_uuid:
        find("lvm_uuid", uuid_text(lvm_uuid), uuid_text(block.lvm_uuid), lvm_uuid)
    if block.disk_block_size != 512:
        find("disk_block_size", 512, block.disk_block_size, Int32ul.build(512))
    if block.sub_block_size != spec.SUB_BLOCK_BYTES:
        find("sub_block_size", spec.SUB_BLOCK_BYTES, block.sub_block_size, Int32ul.build(spec.SUB_BLOCK_BYTES))
    if block.config & spec.Config.DENSE:
        config = block.config & ~spec.Config.DENSE
        find("config", "no dense addresses", f"{block.config:#x}", Int32ul.build(config))
    for name in FILES_OF_VMFS5:
        if block[name]:
            size = 8 if name.endswith("position") else 4
            find(name, "0, as VMFS-3 has no such file", f"{block[name]:#x}", bytes(size))
    label = block.label.partition(b"\0")[0]
    try:
        label.decode()
    except UnicodeDecodeError:
        right = label.decode("utf-8", "ignore").encode()
        find("label", "UTF-8", repr(label), right.ljust(spec.LABEL_BYTES, b"\0"))
    else:
        if block.label[len(label) :].strip(b"\0"):
            find("label", "zeros behind its end", "other bytes", label.ljust(spec.LABEL_BYTES, b"\0"))
    return block


def read_heartbeats(lv: LogicalVolume) -> NDArray[Any]:
    return np.frombuffer(lv.bytes_at(spec.HEARTBEATS_AT, spec.HEARTBEATS * spec.HEARTBEAT_BYTES), spec.HEARTBEAT)


def slot_at(slot: int) -> int:
    return spec.HEARTBEATS_AT + slot * spec.HEARTBEAT_BYTES


def check_heartbeats(slots: NDArray[Any], blocks: int, findings: Findings) -> NDArray[np.int64]:
    """The file blocks of the journals that slots in use name, by slot; -1 where there is none."""
    journals = np.full(len(slots), -1, np.int64)
    expected = slot_at(0) + np.arange(len(slots)) * spec.HEARTBEAT_BYTES
    known = np.asarray(np.isin(slots["magic"], [int(magic) for magic in spec.HeartbeatMagic]))
    owned = np.asarray(np.frombuffer(slots["owner"].tobytes(), np.uint8).reshape(len(slots), -1).any(axis=1))
    in_use = slots["magic"] != spec.HeartbeatMagic.FREE
    odd = ~known | (slots["position"] != expected) | in_use | owned | (slots["journal"] != 0)
    for slot in np.flatnonzero(odd).tolist():
        one = slots[slot]
        if not known[slot]:
            find_slot(findings, slot, one, "magic", f"{spec.HeartbeatMagic.FREE:#x}", f"{int(one['magic']):#x}")
        elif one["position"] != expected[slot]:
            data = Int64ul.build(int(expected[slot]))
            at = slot_at(slot) + HEARTBEAT_OFFSETS["position"]
            findings.add(
                Fault.HEARTBEAT, at, f"slot {slot}", "position", f"{expected[slot]:#x}", f"{int(one['position']):#x}",
                "it is written", Patch(at, data),
            )  # fmt: skip
        elif not in_use[slot]:
            name = "owner" if owned[slot] else "journal"
            value = uuid_text(one["owner"].tobytes()) if owned[slot] else f"{int(one['journal']):#x}"
            find_slot(findings, slot, one, name, "none in a free slot", value)
        else:
            found = f"in use by host {uuid_text(one['owner'].tobytes())}"
            plan = "if the host has stopped: its journal is replayed, the slot freed"
            findings.add(
                Fault.HEARTBEAT, slot_at(slot), f"slot {slot}", "state", "free", found, plan, Replay(slot)
            )  # fmt: skip
            journals[slot] = journal_block(slot, int(one["journal"]), blocks, findings)
    return journals


def waiting_sectors(
    lv: LogicalVolume, slots: NDArray[Any], journals: NDArray[np.int64], block_size: int, findings: Findings
) -> dict[int, bytes]:
    """What the transactions of hosts that did not write them in place yet have, by the place in the volume."""
    sectors: dict[int, bytes] = {}
    for slot in np.flatnonzero(journals >= 0).tolist():
        journal = Journal(lv, int(slots["journal"][slot]), block_size)
        if (journals[slot] + 1) * block_size > lv.size or (head := journal.head()) is None:
            continue
        if (head.owner, head.hb_position) != (slots["owner"][slot].tobytes(), slot_at(slot)):
            continue
        for piece in journal.transaction(head):
            if piece.position % SECTOR_BYTES or piece.position + len(piece.data) > lv.size:
                findings.add(
                    Fault.JOURNAL, journal.position, f"journal of slot {slot}", "place of a piece",
                    "sectors of the volume", f"{len(piece.data)} bytes at {piece.position:#x}",
                )  # fmt: skip
                continue
            for at in range(0, len(piece.data), SECTOR_BYTES):
                sectors[piece.position + at] = piece.data[at : at + SECTOR_BYTES]
    return sectors


def journal_block(slot: int, address: int, blocks: int, findings: Findings) -> int:
    """-1: there is none."""
    if not address:
        return -1
    number = address >> BLOCK_SHIFT
    if address & TYPE_MASK != AddressType.FILE_BLOCK or number >= min(blocks, BLOCK_MAX + 1):
        at = slot_at(slot) + HEARTBEAT_OFFSETS["journal"]
        found = f"{address:#x}"
        findings.add(Fault.JOURNAL, at, f"slot {slot}", "address of its journal", f"a block below {blocks}", found)
        return -1
    return number


def find_slot(findings: Findings, slot: int, one: Any, name: str, expected: object, found: object) -> None:
    """Something that no slot has: it becomes a free one, with what a free one keeps."""
    fresh = np.zeros(1, spec.HEARTBEAT)
    fresh["magic"], fresh["position"] = spec.HeartbeatMagic.FREE, slot_at(slot)
    for kept in FREE_SLOT_KEEPS:
        fresh[kept] = one[kept]
    at = slot_at(slot) + HEARTBEAT_OFFSETS[name]
    patch = Patch(slot_at(slot), fresh.tobytes())
    findings.add(Fault.HEARTBEAT, at, f"slot {slot}", name, expected, found, "the slot is freed", patch)
