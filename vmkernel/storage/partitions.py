"""The partitions of a disk, numbered as Linux numbers them: an MBR's 1 to 4 and logical ones from 5, a GPT's by entry.

What a table says is believed as far as it lies on the disk: an entry that does not is left out. A GPT is read from its
second copy where the checksums of the first are wrong. Not modelled: sectors of other sizes, BSD and hybrid tables.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from vmkernel.storage.disk import SECTOR_BYTES, Disk
from vmkernel.storage.partitions_spec import (
    BOOT_MARKS,
    EXTENDED_TYPES,
    FIRST_LOGICAL,
    GPT_CRC_AT,
    GPT_ENTRIES_BYTES_MAX,
    GPT_ENTRY,
    GPT_HEADER,
    GPT_SIGNATURE,
    LOGICALS_MAX,
    MBR,
    PROTECTIVE_TYPE,
    SIGNATURE,
)


@dataclass(frozen=True, slots=True)
class Partition:
    """In bytes of the disk. `kind` is the MBR's type or the GPT's type GUID, in hex."""

    number: int
    start: int
    length: int
    kind: str
    name: str = ""


def partitions(disk: Disk) -> list[Partition]:
    """Those of its table, by number; none where there is no table. Raises MediaError."""
    entries = mbr_entries(sectors(disk, 0, 1))
    if any(entry.type == PROTECTIVE_TYPE for entry in entries):
        return gpt(disk)
    return list(mbr(disk, entries))


def sectors(disk: Disk, first: int, count: int) -> bytes:
    data = bytearray(count * SECTOR_BYTES)
    disk.read(first * SECTOR_BYTES, [memoryview(data)])
    return bytes(data)


def mbr_entries(sector: bytes) -> list[MBR]:
    """The four; none where this is no table, as in a boot sector of a file system."""
    if not sector.endswith(SIGNATURE):
        return []
    entries = list(MBR.parse(sector).entries)
    return entries if all(entry.boot in BOOT_MARKS for entry in entries) else []


def mbr(disk: Disk, entries: list[MBR]) -> Iterator[Partition]:
    for number, entry in enumerate(entries, 1):
        if entry.type and fits(disk, entry.start, entry.sectors):
            yield of_mbr(number, entry.start, entry)
    for entry in entries:
        if entry.type in EXTENDED_TYPES and fits(disk, entry.start, 1):
            yield from logical(disk, entry.start)
            return


def logical(disk: Disk, extended: int) -> Iterator[Partition]:
    """The chain in an extended partition: places are relative to its own sector, links to the first of them."""
    at, number, seen = extended, FIRST_LOGICAL, set[int]()
    while at not in seen and len(seen) < LOGICALS_MAX and fits(disk, at, 1):
        seen.add(at)
        entries = mbr_entries(sectors(disk, at, 1))
        for entry in entries:
            if entry.type and entry.type not in EXTENDED_TYPES and fits(disk, at + entry.start, entry.sectors):
                yield of_mbr(number, at + entry.start, entry)
                number += 1
        links = [entry for entry in entries if entry.type in EXTENDED_TYPES]
        if not links:
            return
        at = extended + links[0].start


def of_mbr(number: int, start: int, entry: MBR) -> Partition:
    return Partition(number, start * SECTOR_BYTES, entry.sectors * SECTOR_BYTES, f"{entry.type:02x}")


def gpt(disk: Disk) -> list[Partition]:
    last = disk.size_bytes // SECTOR_BYTES - 1
    for at in (1, last):
        table = gpt_entries(disk, at)
        if table is not None:
            return [
                Partition(
                    number, entry.first * SECTOR_BYTES, (entry.last + 1 - entry.first) * SECTOR_BYTES,
                    entry.type_guid.hex(), entry.name.decode("utf-16-le", "replace").partition("\0")[0],
                )
                for number, entry in enumerate(table, 1)
                if any(entry.type_guid) and fits(disk, entry.first, entry.last + 1 - entry.first)
            ]  # fmt: skip
    return []


def gpt_entries(disk: Disk, at: int) -> list[GPT_ENTRY] | None:
    """The array that the header at this sector names; None: there is none, or its checksums are wrong."""
    if not fits(disk, at, 1):
        return None
    sector = sectors(disk, at, 1)
    if not sector.startswith(GPT_SIGNATURE):
        return None
    header = GPT_HEADER.parse(sector)
    if not GPT_HEADER.sizeof() <= header.header_bytes <= SECTOR_BYTES:
        return None
    summed = bytearray(sector[: header.header_bytes])
    summed[GPT_CRC_AT : GPT_CRC_AT + 4] = bytes(4)
    size = header.entry_count * header.entry_bytes
    count = -(-size // SECTOR_BYTES)
    if (
        zlib.crc32(summed) != header.header_crc
        or header.entry_bytes < GPT_ENTRY.sizeof()
        or not 0 < size <= GPT_ENTRIES_BYTES_MAX
        or not fits(disk, header.entries_sector, count)
    ):
        return None
    table = sectors(disk, header.entries_sector, count)[:size]
    if zlib.crc32(table) != header.entries_crc:
        return None
    return [GPT_ENTRY.parse(table[start:]) for start in range(0, size, header.entry_bytes)]


def fits(disk: Disk, start: int, count: int) -> bool:
    return count > 0 and start + count <= disk.size_bytes // SECTOR_BYTES
