"""A driver for the 53C1030, made from the MPI specification's layouts alone: offsets, not the device's structures."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from hw.scsi.lsilogic import LsiLogic
from tests.hw.scsi.adapter_rig import MEMORY, TEST_UNIT_READY, Rig

DOORBELL, SEQUENCE, DIAGNOSTIC, INT_STATUS, INT_MASK, REQUEST, REPLY = 0x00, 0x04, 0x08, 0x30, 0x34, 0x40, 0x44
EMPTY = 0xFFFFFFFF
REPLY_FRAMES, REPLY_BYTES = 0x1000, 80
REQUESTS, CHAINS, SENSE, DATA = 0x4000, 0x8000, 0xC000, 0x10000
READY, OPERATIONAL, FAULT = 1, 2, 4
LAST, END_BUFFER, SIMPLE, CHAIN, OUT, WIDE, END = 0x80, 0x40, 0x10, 0x30, 0x04, 0x02, 0x01


class Reply(NamedTuple):
    """A reply frame; `context` is its message context."""

    context: int
    frame: bytes

    def u16(self, at: int) -> int:
        return int(struct.unpack_from("<H", self.frame, at)[0])

    def u32(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.frame, at)[0])

    @property
    def status(self) -> int:
        return self.u16(0x0E)


class LsiRig(Rig[LsiLogic]):
    """And its driver."""

    def __init__(self, ids: tuple[int, ...] = (0,), workers: Any = None) -> None:
        super().__init__(LsiLogic, ids, workers)
        self.next_frame = 0

    def get(self, register: int) -> int:
        return self.mmio.read(MEMORY + register, 4)

    def put(self, register: int, value: int) -> None:
        self.mmio.write(MEMORY + register, 4, value)

    @property
    def state(self) -> int:
        return self.get(DOORBELL) >> 28

    # by the doorbell

    def handshake(self, request: bytes) -> bytes:
        """As Linux does it, waiting for the interrupt bit at each step."""
        self.put(INT_STATUS, 0)
        self.put(DOORBELL, 0x42000000 | len(request) // 4 << 16)
        self._acknowledge()
        assert self.get(DOORBELL) & 1 << 27, "the doorbell is in use"
        for at in range(0, len(request), 4):
            self.put(DOORBELL, int.from_bytes(request[at : at + 4], "little"))
        words: list[int] = []
        length = 2
        while len(words) < length:
            assert self.get(INT_STATUS) & 1
            words.append(self.get(DOORBELL) & 0xFFFF)
            self.put(INT_STATUS, 0)
            if len(words) == 2:
                length = 2 * (words[1] & 0xFF)
        self._acknowledge()
        assert not self.get(DOORBELL) & 1 << 27
        return struct.pack(f"<{length}H", *words)

    def handshake_without_reply(self, request: bytes) -> None:
        self.put(DOORBELL, 0x42000000 | len(request) // 4 << 16)
        self._acknowledge()
        for at in range(0, len(request), 4):
            self.put(DOORBELL, int.from_bytes(request[at : at + 4], "little"))
        self._acknowledge()

    def _acknowledge(self) -> None:
        assert self.get(INT_STATUS) & 1
        self.put(INT_STATUS, 0)
        assert not self.get(INT_STATUS) & 1

    def start(self, frames: int = 16, sense_high: int = 0) -> None:
        """Frames for replies, IOCInit, PortEnable, interrupts on; the disks' power-on attentions are taken."""
        for index in range(frames):
            self.give_frame(index)
        request = struct.pack("<BBBBBBBBIHHIIIIHHI", 4, 0, 0, 2, 0, 16, 1, 0, 0xAA, REPLY_BYTES, 0, 0, sense_high,
                              0, 0, 0, 0, 0)  # fmt: skip
        assert struct.unpack_from("<H", self.handshake(request), 0x0E) == (0,)
        assert self.state == OPERATIONAL
        self.handshake(struct.pack("<HBBIII", 0, 0, 6, 0, 0xAB, 0)[:12])
        self.put(INT_MASK, 1)
        if frames:
            for target in self.targets:
                self.run(target, bytes([TEST_UNIT_READY] + [0] * 5))

    def give_frame(self, index: int) -> None:
        self.put(REPLY, REPLY_FRAMES + index * 128)

    # by the queues

    def post(self, frame: bytes) -> None:
        gpa = REQUESTS + self.next_frame % 64 * 128
        self.next_frame += 1
        self.ram[gpa : gpa + len(frame)] = frame
        self.put(REQUEST, gpa)

    def replies(self) -> list[int | Reply]:
        """Contexts, and reply frames, which are given back at once; until there are none."""
        found: list[int | Reply] = []
        while (word := self.get(REPLY)) != EMPTY:
            if word & 1 << 31:
                gpa = word << 1 & 0xFFFFFFFF
                frame = bytes(self.ram[gpa : gpa + REPLY_BYTES])
                found.append(Reply(struct.unpack_from("<I", frame, 8)[0], frame))
                self.put(REPLY, gpa)
            else:
                found.append(word)
        return found

    def begin(
        self, target: int, cdb: bytes, sgl: bytes = b"", length: int = 0, *, out: bool = False, context: int = 0x77,
        chain: int = 0, lun: int = 0, attribute: int = 0, bus: int = 0, cdb_length: int = 0, control: int | None = None,
    ) -> None:  # fmt: skip
        if control is None:
            control = (1 if out else 2 if length else 0) << 24
        head = struct.pack(
            "<BBBBBBBBI8sI16sII", target, bus, chain, 0, cdb_length or len(cdb), 64, 0, 0, context,
            bytes([0, lun, 0, 0, 0, 0, 0, 0]), control | attribute << 8, cdb, length, SENSE,
        )  # fmt: skip
        self.post(head + (sgl or sge(0xFFFFFFFF, 0)))

    def run(self, target: int, cdb: bytes, sgl: bytes = b"", length: int = 0, **how: Any) -> int | Reply:
        """The one reply to a command that ends at once."""
        self.begin(target, cdb, sgl, length, **how)
        (reply,) = self.replies()
        return reply

    def manage(self, kind: int, target: int = 0, *, task: int = 0, context: int = 0x99, doorbell: bool = False) -> None:
        request = struct.pack("<BBBBBBBBI8s28sI", target, 0, 0, 1, 0, kind, 0, 0, context, bytes(8), bytes(28), task)
        if doorbell:
            self.handshake_without_reply(request)
        else:
            self.post(request)

    def page(self, action: int, kind: int, number: int, address: int = 0, *, gpa: int = DATA, out: bool = False,
             size: int = 256) -> Reply:  # fmt: skip
        request = struct.pack("<BBBBHBBI8sBBBBI", action, 0, 0, 4, 0, 0, 0, 0x55, bytes(8), 0, 0, number, kind, address)
        self.post(request + sge(gpa, size, out=out))
        (reply,) = self.replies()
        assert isinstance(reply, Reply) and reply.context == 0x55
        return reply


def sge(gpa: int, length: int, *, out: bool = False, wide: bool = False, last: bool = True, end: bool = True) -> bytes:
    """A simple element."""
    flags = SIMPLE | LAST * last | (END_BUFFER | END) * end | OUT * out | WIDE * wide
    return struct.pack("<IQ" if wide else "<II", flags << 24 | length, gpa)


def chain_element(gpa: int, length: int, next_offset: int = 0, *, wide: bool = False) -> bytes:
    flags = CHAIN | (WIDE if wide else 0)
    return struct.pack("<HBBQ" if wide else "<HBBI", length, next_offset, flags, gpa)
