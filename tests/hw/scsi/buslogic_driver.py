"""A driver for the BT-958, made from the manual's layouts alone: offsets, not the device's structures."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from hw.scsi.buslogic import BusLogic
from tests.hw.scsi.adapter_rig import PORTS, TEST_UNIT_READY, Rig

STATUS, COMMAND, INTERRUPT, GEOMETRY = 0, 1, 2, 3
HARD_RESET, SOFT_RESET, RESET_INTERRUPT, RESET_BUS = 0x80, 0x40, 0x20, 0x10
READY, UNINITIALIZED, ACTIVE, INVALID, DATA_READY = 0x10, 0x20, 0x80, 0x01, 0x04
LOADED, MAILBOX_READY, COMPLETE, BUS_RESET, VALID = 0x01, 0x02, 0x04, 0x08, 0x80
BOXES, CCBS, SENSE, DATA = 0x2000, 0x4000, 0xC000, 0x10000
CCB_STRIDE = 0x80
START, ABORT = 1, 2


class Done(NamedTuple):
    """What an incoming mailbox said."""

    ccb: int
    host: int
    device: int
    code: int


class BusLogicRig(Rig[BusLogic]):
    """And its driver, in strict round robin and 32-bit mode as Linux has it, or 24-bit mode."""

    def __init__(self, ids: tuple[int, ...] = (0,), workers: Any = None, *, boxes: int = 8, wide: bool = True) -> None:
        super().__init__(BusLogic, ids, workers)
        self.boxes, self.wide = boxes, wide
        self.next_out = self.next_in = self.next_ccb = 0
        self.box_bytes = 8 if wide else 4

    def get(self, register: int) -> int:
        return self.ports.read(PORTS + register, 1)

    def put(self, register: int, value: int) -> None:
        self.ports.write(PORTS + register, 1, value)

    def command(self, opcode: int, parameters: bytes = b"", reply: int = 0) -> bytes:
        """Give a command, take its reply, and reset the interrupt."""
        assert self.get(STATUS) & READY
        self.put(COMMAND, opcode)
        for byte in parameters:
            assert not self.get(STATUS) & (READY | DATA_READY), "it waits for more"
            self.put(COMMAND, byte)
        found = bytearray()
        while self.get(STATUS) & DATA_READY:
            found.append(self.get(COMMAND))
        assert len(found) == reply, f"a reply of {len(found)} bytes"
        assert self.get(STATUS) & READY and not self.get(STATUS) & INVALID
        self.put(STATUS, RESET_INTERRUPT)
        return bytes(found)

    def start(self) -> None:
        """Mailboxes, their order, and the disks' power-on attentions are taken."""
        size = self.box_bytes * self.boxes * 2
        self.ram[BOXES : BOXES + size] = bytes(size)
        if self.wide:
            self.command(0x81, struct.pack("<BI", self.boxes, BOXES))
            self.command(0x8F, b"\1")
            self.command(0x96, b"\1")
        else:
            self.command(0x01, bytes([self.boxes]) + BOXES.to_bytes(3, "big"))
        self.next_out = self.next_in = 0
        for target in self.targets:
            self.run(target, bytes([TEST_UNIT_READY] + [0] * 5))

    def ccb(
        self, target: int, cdb: bytes, data: int = 0, length: int = 0, *, opcode: int = 0, direction: int = 0,
        lun: int = 0, sense: int = 18, tag: int = 0, cdb_length: int = 0,
    ) -> int:  # fmt: skip
        """A block in memory; its address."""
        gpa = CCBS + self.next_ccb % 64 * CCB_STRIDE
        self.next_ccb += 1
        if self.wide:
            block = struct.pack(
                "<BBBBIIHBBBB12sHII", opcode, direction << 3 | tag, cdb_length or len(cdb), sense, length, data, 0,
                0xEE, 0xEE, target, lun, cdb, 0, 0, SENSE,
            )  # fmt: skip
        else:
            block = struct.pack(
                ">BBBB3s3s4sBBH12s", opcode, target << 5 | direction << 3 | lun, cdb_length or len(cdb), sense,
                length.to_bytes(3, "big"), data.to_bytes(3, "big"), bytes(4), 0xEE, 0xEE, 0, cdb,
            )  # fmt: skip
        self.ram[gpa : gpa + len(block)] = block
        return gpa

    def fill_box(self, ccb: int, action: int = START) -> None:
        """The next outgoing box."""
        gpa = BOXES + self.next_out * self.box_bytes
        assert self.ram[gpa + (7 if self.wide else 0)] == 0, "the driver waits for a free box"
        if self.wide:
            self.ram[gpa : gpa + 8] = struct.pack("<IHBB", ccb, 0, 0, action)
        else:
            self.ram[gpa : gpa + 4] = bytes([action]) + ccb.to_bytes(3, "big")
        self.next_out = (self.next_out + 1) % self.boxes

    def send(self, ccb: int, action: int = START) -> int:
        self.fill_box(ccb, action)
        self.put(COMMAND, 2)
        return ccb

    def done(self) -> list[Done]:
        """As Linux's handler: reset the interrupt, then take what is in the incoming boxes."""
        if self.get(INTERRUPT) & VALID:
            self.put(STATUS, RESET_INTERRUPT)
        return self.take()

    def take(self, limit: int = 1000) -> list[Done]:
        found: list[Done] = []
        while len(found) < limit:
            gpa = BOXES + (self.boxes + self.next_in) * self.box_bytes
            if self.wide:
                ccb, host, device, _, code = struct.unpack_from("<IBBBB", self.ram, gpa)
            else:
                code, ccb = self.ram[gpa], int.from_bytes(self.ram[gpa + 1 : gpa + 4], "big")
                host, device = self.ram[ccb + 0x0E : ccb + 0x10] or bytes(2)
            if not code:
                break
            found.append(Done(ccb, host, device, code))
            self.ram[gpa : gpa + self.box_bytes] = bytes(self.box_bytes)
            self.next_in = (self.next_in + 1) % self.boxes
        return found

    def run(self, target: int, cdb: bytes, data: int = 0, length: int = 0, **how: Any) -> Done:
        """The one completion of a command that ends at once; its block has the same statuses."""
        gpa = self.send(self.ccb(target, cdb, data, length, **how))
        (done,) = self.done()
        assert done.ccb == gpa
        assert (self.ram[gpa + 0x0E], self.ram[gpa + 0x0F]) == (done.host, done.device)
        return done

    def segments(self, gpa: int, pieces: list[tuple[int, int]]) -> tuple[int, int]:
        """A data segment list at `gpa` of (address, length); its place and size for a block."""
        if self.wide:
            table = b"".join(struct.pack("<II", length, at) for at, length in pieces)
        else:
            table = b"".join(length.to_bytes(3, "big") + at.to_bytes(3, "big") for at, length in pieces)
        self.ram[gpa : gpa + len(table)] = table
        return gpa, len(table)
