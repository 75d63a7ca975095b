"""Machines to describe, and guest memory to put their tables into."""

from __future__ import annotations

import uuid
from typing import Any

from hw.firmware.board import BoardFacts, PciInterrupt

UUID = uuid.UUID("564d1234-5678-9abc-def0-112233445566").bytes
PINS = (PciInterrupt(0x07, 1), PciInterrupt(0x07, 4), PciInterrupt(0x0F, 1), PciInterrupt(0x10, 1),
        PciInterrupt(0x11, 1), PciInterrupt(0x12, 1))  # fmt: skip


def facts(vcpus: int = 2, memory_mib: int = 256, **more: Any) -> BoardFacts:
    return BoardFacts(vcpus, memory_mib, UUID, **{"interrupts": PINS, **more})


class Ram:
    """Sparse guest memory: what was written, by address. Writes must not overlap."""

    def __init__(self) -> None:
        self.pieces: dict[int, bytes] = {}

    def write(self, gpa: int, data: bytes) -> None:
        for start, piece in self.pieces.items():
            assert gpa + len(data) <= start or start + len(piece) <= gpa, f"{gpa:#x} overlaps {start:#x}"
        self.pieces[gpa] = data

    def read(self, gpa: int, size: int) -> bytes:
        for start, piece in self.pieces.items():
            if start <= gpa and gpa + size <= start + len(piece):
                return piece[gpa - start : gpa - start + size]
        raise AssertionError(f"nobody wrote {size} bytes at {gpa:#x}")

    def find(self, signature: bytes) -> list[int]:
        """Where systems find a structure that they search the F segment for, every 16 bytes."""
        return [
            gpa
            for gpa in range(0xF0000, 0x100000, 16)
            if any(piece[gpa - start :].startswith(signature) for start, piece in self.pieces.items() if gpa >= start)
        ]
