"""What the tools show of a volume: its structures field by field, the blocks of a file, locks, heartbeats, journals.

Everything is read anew and nothing is judged; a structure that the reader refuses is shown as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vmkernel.storage.vmfs3 import addresses, lvm_spec, volume_spec
from vmkernel.storage.vmfs3 import descriptor_spec as fd_spec
from vmkernel.storage.vmfs3.descriptor import Descriptor
from vmkernel.storage.vmfs3.descriptor_spec import AddressType, FileType, ZeroLevel
from vmkernel.storage.vmfs3.fields import Structure, structure
from vmkernel.storage.vmfs3.journal import Journal, JournalHead, Piece
from vmkernel.storage.vmfs3.journal_spec import HEADER as JOURNAL_HEADER
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.resource_spec import CLUSTER, HEADER
from vmkernel.storage.vmfs3.resources import ResourceFile
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.volume_spec import HeartbeatMagic, LockMode, LockType

RESOURCE_NAMES = {"fbb": ".fbb.sf", "fdc": ".fdc.sf", "pbc": ".pbc.sf", "sbc": ".sbc.sf"}


# structures


def device_structures(lv: LogicalVolume) -> Iterator[Structure]:
    """LVM header, volume descriptor and the PE entries in use of every device."""
    for one in lv.devices:
        device = str(one.lun)
        for title, layout, at in (
            ("LVM header", lvm_spec.DEVICE_HEADER, lvm_spec.HEADER_AT),
            ("volume descriptor", lvm_spec.VOLUME_DESCRIPTOR, lvm_spec.DESCRIPTORS_AT),
        ):
            yield structure(title, layout, one.lun.bytes_at(at, layout.sizeof()), at, device)
        for entry, at in zip(one.table, one.entries_at.tolist(), strict=True):
            yield structure(f"PE table entry {int(entry['pe_id'])}", lvm_spec.PE_ENTRY, entry.tobytes(), at, device)


def volume_structures(volume: Volume) -> Iterator[Structure]:
    """Superblock and the headers of the resource files."""
    lv = volume.lv
    raw = lv.bytes_at(volume_spec.SUPERBLOCK_AT, volume_spec.SUPERBLOCK.sizeof())
    yield structure("superblock", volume_spec.SUPERBLOCK, raw, volume_spec.SUPERBLOCK_AT)
    for name, title in RESOURCE_NAMES.items():
        file: ResourceFile = getattr(volume, name)
        at = file.position(0)
        yield structure(f"header of {title}", HEADER, lv.bytes_at(at, HEADER.sizeof()), at)


def descriptor_structure(fd: Descriptor) -> Structure:
    """Everything but the addresses; of a raw device mapping, the disk id that lies in their place."""
    raw = fd.raw.tobytes()
    title = f"file descriptor {addresses.describe(fd.address)}"
    whole = structure(title, fd_spec.DESCRIPTOR, raw, fd.position)
    fields = tuple(one for one in whole.fields if one.name != "contents")
    if fd.raw["type"] == FileType.RDM:
        at = fd_spec.CONTENTS_AT
        size = lvm_spec.DISK_ID.sizeof()
        fields += structure("", lvm_spec.DISK_ID, raw[at : at + size], fd.position + at).fields
    return Structure(title, fd.position, fields)


# the blocks of a file


@dataclass(frozen=True, slots=True)
class BlockRow:
    """An address word and what it names: bytes of the file, of the volume and of a device. -1: it names none."""

    at: int  # of the word, in the volume
    word: int
    file_offset: int
    length: int
    lv_offset: int = -1
    device: str = ""
    device_offset: int = -1

    def facts(self) -> dict[str, Any]:
        return {
            "address_offset": self.at, "raw": self.word.to_bytes(4, "little").hex(),
            "address": addresses.describe(self.word), "file_offset": self.file_offset, "length": self.length,
            "lv_offset": self.lv_offset if self.lv_offset >= 0 else None, "device": self.device or None,
            "device_offset": self.device_offset if self.device_offset >= 0 else None,
        }  # fmt: skip


def block_rows(volume: Volume, fd: Descriptor) -> Iterator[BlockRow]:
    """Every word of a file's block list that is not 0, pointer blocks before what is in them. Raises CorruptVolume."""
    zla = int(fd.raw["zla"])
    if fd.raw["type"] == FileType.RDM or zla not in (
        ZeroLevel.FILE_BLOCK, ZeroLevel.SUB_BLOCK, ZeroLevel.POINTER_BLOCK
    ):  # fmt: skip
        return
    reach = fd_spec.PER_POINTER_BLOCK if zla == ZeroLevel.POINTER_BLOCK else 1
    size = fd.block_size if zla == ZeroLevel.SUB_BLOCK else volume.block_size
    for index in np.flatnonzero(fd.addresses).tolist():
        word = int(fd.addresses[index])
        row = block_row(volume, fd.address_position(index), word, index * reach * size, reach * size)
        yield row
        if zla != ZeroLevel.POINTER_BLOCK or row.lv_offset < 0 or addresses.kind(word) != AddressType.POINTER_BLOCK:
            continue
        words = np.frombuffer(volume.lv.bytes_at(row.lv_offset, fd_spec.POINTER_BLOCK_BYTES), fd_spec.ADDRESS)
        for inner in np.flatnonzero(words).tolist():
            at = row.lv_offset + inner * fd_spec.ADDRESS.itemsize
            yield block_row(volume, at, int(words[inner]), (index * reach + inner) * size, size)


def block_row(volume: Volume, at: int, word: int, file_offset: int, length: int) -> BlockRow:
    place = address_place(volume, word)
    if place < 0:
        return BlockRow(at, word, file_offset, length)
    lun, device_offset = volume.lv.lun_at(place)
    return BlockRow(at, word, file_offset, length, place, str(lun), device_offset)


def address_place(volume: Volume, word: int) -> int:
    """The byte of the volume that an address names; -1: none."""
    kind = addresses.kind(word)
    if kind == AddressType.FILE_BLOCK:
        number = addresses.block_number(word)
        return number * volume.block_size if number < volume.fbb.total else -1
    if kind not in (AddressType.SUB_BLOCK, AddressType.POINTER_BLOCK, AddressType.FILE_DESCRIPTOR):
        return -1
    cluster, resource = addresses.place(word, dense=volume.superblock.dense)
    return int(volume.resource_file(kind).locate_many(np.array([cluster]), np.array([resource]))[0])


# heartbeats, locks, journals


def heartbeat_table(lv: LogicalVolume) -> Any:
    raw = lv.bytes_at(volume_spec.HEARTBEATS_AT, volume_spec.HEARTBEATS * volume_spec.HEARTBEAT_BYTES)
    return np.frombuffer(raw, volume_spec.HEARTBEAT)


def heartbeats(lv: LogicalVolume, *, everything: bool = False) -> Iterator[tuple[int, Structure]]:
    """The slots that are in use or once were, or all of them, by number."""
    table = heartbeat_table(lv)
    for slot in range(len(table)):
        if everything or table["magic"][slot] != HeartbeatMagic.FREE or table["generation"][slot]:
            at = volume_spec.HEARTBEATS_AT + slot * volume_spec.HEARTBEAT_BYTES
            yield slot, structure(f"heartbeat slot {slot}", volume_spec.HEARTBEAT, table[slot].tobytes(), at)


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that is not free: what it is on, its record, and what its owner's slot says."""

    title: str
    address: int  # of a descriptor; 0: a cluster
    at: int
    record: Any
    slot: int
    is_slot_owners: bool
    owner: str


def held_locks(volume: Volume, *, everything: bool = False) -> Iterator[HeldLock]:
    """Of descriptors in use and of all clusters. `everything`: free ones too."""
    lv = volume.lv
    slots = heartbeat_table(lv)
    for name, title in RESOURCE_NAMES.items():
        file: ResourceFile = getattr(volume, name)
        clusters = file.cluster_table()
        for number in chosen(clusters["lock"], everything):
            at = file.cluster_position(number)
            yield held(volume, f"{title} cluster {number}", 0, at, clusters["lock"][number], slots)
        if name == "fdc":
            yield from file_locks(volume, slots, everything)


def file_locks(volume: Volume, slots: Any, everything: bool) -> Iterator[HeldLock]:
    file = volume.fdc
    used = np.flatnonzero(~file.free_map())
    for start in range(0, len(used), 4096):
        numbers = used[start : start + 4096]
        cluster, resource = numbers // file.per_cluster, numbers % file.per_cluster
        table = file.read_many(cluster, resource).view(fd_spec.DESCRIPTOR).reshape(-1)
        good = table["lock"]["type"] == LockType.FILE_DESCRIPTOR
        for index in chosen(table["lock"], everything):
            if good[index]:
                address = addresses.descriptor(int(cluster[index]), int(resource[index]))
                at = file.locate(int(cluster[index]), int(resource[index]))
                yield held(volume, addresses.describe(address), address, at, table["lock"][index], slots)


def chosen(locks: Any, everything: bool) -> list[int]:
    wanted = np.full(len(locks), True) if everything else locks["mode"] != LockMode.FREE
    numbers: list[int] = np.flatnonzero(wanted).tolist()
    return numbers


def held(volume: Volume, title: str, address: int, at: int, record: Any, slots: Any) -> HeldLock:
    slot, rest = divmod(int(record["hb_position"]) - volume_spec.HEARTBEATS_AT, volume_spec.HEARTBEAT_BYTES)
    if rest or not 0 <= slot < len(slots):
        return HeldLock(title, address, at, record, -1, False, "")
    one = slots[slot]
    is_owners = bool(
        one["magic"] != HeartbeatMagic.FREE and one["generation"] == record["hb_generation"]
        and one["owner"].tobytes() == record["owner"].tobytes()
    )  # fmt: skip
    owner = journal_head(volume, int(one["journal"])) if is_owners else None
    return HeldLock(title, address, at, record, slot, is_owners, owner.owner_text if owner else "")


def journal_head(volume: Volume, address: int) -> JournalHead | None:
    """None where a slot names no journal that can be read."""
    number = addresses.block_number(address)
    if addresses.kind(address) != AddressType.FILE_BLOCK or number >= volume.fbb.total:
        return None
    return Journal(volume.lv, address, volume.block_size).head()


@dataclass(frozen=True, slots=True)
class SlotJournal:
    """The journal that a slot names. `pieces`: a transaction that is waiting to be replayed."""

    slot: int
    address: int
    header: Structure
    head: JournalHead | None
    pieces: list[Piece]


def journals(volume: Volume) -> Iterator[SlotJournal]:
    table = heartbeat_table(volume.lv)
    for slot in np.flatnonzero(table["journal"]).tolist():
        address = int(table["journal"][slot])
        if address_place(volume, address) < 0 or addresses.kind(address) != AddressType.FILE_BLOCK:
            continue
        journal = Journal(volume.lv, address, volume.block_size)
        head = journal.head()
        raw = volume.lv.bytes_at(journal.position, JOURNAL_HEADER.itemsize)
        header = structure(f"journal of slot {slot}", JOURNAL_HEADER, raw, journal.position)
        yield SlotJournal(slot, address, header, head, journal.transaction(head) if head else [])


def cluster_structure(volume: Volume, name: str, number: int) -> Structure:
    """The header of a resource cluster."""
    file: ResourceFile = getattr(volume, name)
    at = file.cluster_position(number)
    return structure(f"{RESOURCE_NAMES[name]} cluster {number}", CLUSTER, file.cluster(number).tobytes(), at)
