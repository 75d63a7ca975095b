"""Mailboxes of the BT-958 in both formats, and the completions that wait for one to be free.

Source: BusLogic MultiMaster technical reference manual, "Mailboxes"; AHA-1540B user's manual.
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof

from hw.scsi.buslogic_ccb import big
from hw.scsi.buslogic_spec import Box24, Box32

TASKS_MAX = 256  # under way, or done and waiting for an incoming mailbox


class Ended(LittleEndianStructure):
    """A completion that waits for an incoming mailbox."""

    _fields_ = [("ccb", c_uint32), ("host", c_uint8), ("device", c_uint8), ("code", c_uint8), ("reserved", c_uint8)]


class EndedQueue(LittleEndianStructure):
    """Those completions, in order."""

    _fields_ = [("first", c_uint16), ("count", c_uint16), ("slots", Ended * TASKS_MAX)]
    first: int
    count: int

    def __len__(self) -> int:
        return min(self.count, TASKS_MAX)

    def push(self, ended: Ended) -> None:
        count = len(self)
        if count < TASKS_MAX:
            self.slots[(self.first + count) % TASKS_MAX] = ended
            self.count = count + 1

    def peek(self) -> Ended:
        slot: Ended = self.slots[self.first % TASKS_MAX]
        return slot

    def drop(self) -> None:
        self.first, self.count = (self.first + 1) % TASKS_MAX, len(self) - 1

    def clear(self) -> None:
        self.first = self.count = 0


assert sizeof(EndedQueue) == 4 + sizeof(Ended) * TASKS_MAX


def opened(kind: type[Box24] | type[Box32], content: bytes) -> tuple[int, int]:
    """A mailbox's code, and the address of its control block."""
    box = kind.from_buffer_copy(content)
    return box.code, big(box.ccb) if isinstance(box, Box24) else box.ccb


def filled(kind: type[Box24] | type[Box32], entry: Ended) -> bytes:
    """An incoming mailbox's content."""
    if kind is Box24:
        return bytes([entry.code]) + (entry.ccb & 0xFFFFFF).to_bytes(3, "big")
    return bytes(Box32(ccb=entry.ccb, host_status=entry.host, device_status=entry.device, code=entry.code))
