"""The queues of the 53C1030, as they lie in its state: descriptors, and replies for which no frame was given yet.

Source: Fusion-MPT Message Passing Interface specification, "Message Queues".
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof

from hw.scsi.lsilogic_spec import FIFO_DEPTH, REPLY_BYTES_MAX


class Fifo(LittleEndianStructure):
    """A queue of descriptors."""

    _fields_ = [("first", c_uint16), ("count", c_uint16), ("slots", c_uint32 * FIFO_DEPTH)]
    first: int
    count: int

    def __len__(self) -> int:
        count = self.count
        return count if count < FIFO_DEPTH else FIFO_DEPTH

    def push(self, value: int) -> bool:
        """False: there is no room."""
        count = self.count
        if count >= FIFO_DEPTH:
            return False
        self.slots[(self.first + count) % FIFO_DEPTH] = value
        self.count = count + 1
        return True

    def pop(self) -> int | None:
        count = self.count
        if not count:
            return None
        first = self.first % FIFO_DEPTH
        self.first, self.count = (first + 1) % FIFO_DEPTH, min(count, FIFO_DEPTH) - 1
        return int(self.slots[first])

    def clear(self) -> None:
        self.first = self.count = 0


class HeldReply(LittleEndianStructure):
    """A reply that waits for a frame."""

    _fields_ = [("length", c_uint8), ("reserved", c_uint8 * 3), ("frame", c_uint8 * REPLY_BYTES_MAX)]


class HeldReplies(LittleEndianStructure):
    """Those replies, in order."""

    _fields_ = [("first", c_uint16), ("count", c_uint16), ("slots", HeldReply * FIFO_DEPTH)]
    first: int
    count: int

    def __len__(self) -> int:
        return min(self.count, FIFO_DEPTH)

    def push(self, frame: bytes) -> None:
        count = len(self)
        if count < FIFO_DEPTH:
            slot = self.slots[(self.first + count) % FIFO_DEPTH]
            slot.length = len(frame)
            slot.frame[: len(frame)] = frame
            self.count = count + 1

    def pop(self) -> bytes:
        slot = self.slots[self.first % FIFO_DEPTH]
        self.first, self.count = (self.first + 1) % FIFO_DEPTH, len(self) - 1
        return bytes(slot.frame)[: slot.length]

    def clear(self) -> None:
        self.first = self.count = 0


assert sizeof(Fifo) == 4 + 4 * FIFO_DEPTH
assert sizeof(HeldReplies) == 4 + sizeof(HeldReply) * FIFO_DEPTH
