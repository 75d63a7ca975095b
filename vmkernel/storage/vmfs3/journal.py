"""A host's journal block: the redo record of one transaction, whole or not there.

The caller orders things: `write`, flush, the sectors in place, flush, `retire`. So a block that holds a transaction is
one whose sectors may be in place or not, and that nobody else has changed since, for its host still has the locks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vmkernel.storage.errors import Unsupported
from vmkernel.storage.vmfs3 import addresses
from vmkernel.storage.vmfs3.host import Host, Process
from vmkernel.storage.vmfs3.journal_spec import (
    DIGEST_AT,
    DIGEST_BYTES,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    NAME_BYTES,
    PIECE,
    VERSION,
    JournalState,
)
from vmkernel.storage.vmfs3.lvm import LogicalVolume
from vmkernel.storage.vmfs3.lvm_spec import SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class JournalHead:
    """A header that is whole: whose journal it is, and whether there is a transaction in it."""

    owner: bytes
    hb_position: int
    hb_generation: int
    sequence: int
    state: JournalState
    pieces: int
    sectors: int
    digest: bytes
    name: str
    process: Process

    @property
    def owner_text(self) -> str:
        return f"{self.name} (pid {self.process.pid})"


@dataclass(frozen=True, slots=True)
class Piece:
    """Sectors that belong at byte `position` of the volume."""

    position: int
    data: bytes


class Journal:
    """The file block with this address, of `size` bytes."""

    def __init__(self, lv: LogicalVolume, address: int, size: int) -> None:
        self.lv, self.address, self.size = lv, address, size
        self.position = addresses.block_number(address) * size

    @property
    def room(self) -> int:
        """Bytes of sectors that fit, however they are scattered."""
        return (self.size - HEADER_BYTES - SECTOR_BYTES) // (SECTOR_BYTES + PIECE.itemsize) * SECTOR_BYTES

    # reading

    def head(self) -> JournalHead | None:
        """None where there is no header, or a torn one."""
        raw = self.lv.bytes_at(self.position, HEADER_BYTES)
        row = np.frombuffer(raw, HEADER, 1)[0]
        if bytes(row["magic"]) != MAGIC or digest(raw[:DIGEST_AT]) != raw[DIGEST_AT:] or row["version"] != VERSION:
            return None
        return JournalHead(
            bytes(row["owner"]), int(row["hb_position"]), int(row["hb_generation"]), int(row["sequence"]),
            JournalState(int(row["state"])), int(row["pieces"]), int(row["sectors"]), bytes(row["digest"]),
            bytes(row["name"]).rstrip(b"\0").decode("utf-8", "replace"),
            Process(bytes(row["machine"]), int(row["pid"]), int(row["pid_start"])),
        )  # fmt: skip

    def judge_ours(self) -> None:
        """Raises Unsupported where another system's transaction waits: ESX leaves zeros behind one that is complete."""
        first = self.lv.bytes_at(self.position, SECTOR_BYTES)
        if any(first) and not first.startswith(MAGIC):
            what = f"journal at {self.position:#x}"
            found = "one that only its host can replay"
            raise Unsupported(self.lv.name, what, "an empty one, or one of Ringfence", found)

    def transaction(self, head: JournalHead) -> list[Piece]:
        """What a replay has to write; nothing where there is no transaction, or one that was cut short."""
        if head.state is not JournalState.COMMITTED:
            return []
        table_bytes = padded(head.pieces * PIECE.itemsize)
        length = table_bytes + head.sectors * SECTOR_BYTES
        if length > self.size - HEADER_BYTES:
            return []
        raw = self.lv.bytes_at(self.position + HEADER_BYTES, length)
        if digest(raw) != head.digest:
            return []
        table = np.frombuffer(raw, PIECE, head.pieces)
        pieces, at = [], table_bytes
        for position, count in zip(table["position"].tolist(), table["sectors"].tolist(), strict=True):
            pieces.append(Piece(position, raw[at : at + count * SECTOR_BYTES]))
            at += count * SECTOR_BYTES
        return pieces

    # writing

    def write(self, host: Host, slot: tuple[int, int], sequence: int, pieces: list[Piece]) -> None:
        """`slot` is the heartbeat's position and generation."""
        table = np.zeros(len(pieces), PIECE)
        table["position"] = [piece.position for piece in pieces]
        table["sectors"] = [len(piece.data) // SECTOR_BYTES for piece in pieces]
        body = table.tobytes().ljust(padded(table.nbytes), b"\0") + b"".join(piece.data for piece in pieces)
        assert len(body) <= self.size - HEADER_BYTES, "a transaction must fit into the journal"
        header = build_header(host, slot, sequence, len(pieces), int(table["sectors"].sum()), digest(body))
        self.lv.write(self.position, [header, body])

    def retire(self, host: Host, slot: tuple[int, int], sequence: int) -> None:
        """No transaction any more; the owner's name stays."""
        self.lv.write(self.position, [build_header(host, slot, sequence, 0, 0, bytes(DIGEST_BYTES))])

    def forget(self) -> None:
        """No header any more."""
        self.lv.write(self.position, [bytes(HEADER_BYTES)])


def build_header(
    host: Host, slot: tuple[int, int], sequence: int, pieces: int, sectors: int, body_digest: bytes
) -> bytes:
    row = np.zeros(1, HEADER)
    row["magic"], row["version"], row["owner"] = np.void(MAGIC), VERSION, np.void(host.uuid)
    row["state"] = JournalState.COMMITTED if pieces else JournalState.EMPTY
    row["hb_position"], row["hb_generation"] = slot
    row["sequence"], row["pieces"], row["sectors"] = sequence, pieces, sectors
    row["digest"], row["machine"] = np.void(body_digest), np.void(host.process.machine)
    row["pid"], row["pid_start"] = host.process.pid, host.process.start
    row["name"] = np.void(host.name.encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0"))
    raw = row.tobytes()[:DIGEST_AT]
    return raw + digest(raw)


def digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def padded(length: int) -> int:
    return -(-length // SECTOR_BYTES) * SECTOR_BYTES


def joined(sectors: dict[int, bytes]) -> list[Piece]:
    """Sectors by their place, neighbours as one piece."""
    return list(_joined(sorted(sectors.items())))


def _joined(items: Iterable[tuple[int, bytes]]) -> Iterator[Piece]:
    start, end, parts = -1, -1, list[bytes]()
    for position, data in items:
        if position != end:
            if parts:
                yield Piece(start, b"".join(parts))
            start, parts = position, []
        parts.append(data)
        end = position + len(data)
    if parts:
        yield Piece(start, b"".join(parts))
