"""A driver for vmxnet, made from its headers' layouts alone: offsets, not the device's structures."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from hw.net.vlance import Vlance
from hw.net.vmxnet_pci import VmxnetPci
from tests.hw.net.nic_rig import PORTS, NicRig

INIT_ADDR, INIT_LENGTH, TX_ADDR, COMMAND, MAC, LOW, HIGH, STATUS, APROM = 0, 4, 8, 0xC, 0x10, 0x18, 0x1C, 0x20, 0x28
INT_ENABLE = 0x30
INTR_ACK, UPDATE_LADRF, UPDATE_IFF, INTR_DISABLE, INTR_ENABLE = 1, 2, 4, 0x20, 0x40
CHECK_TX_DONE, GET_RX, GET_TX, PIN_TX, CAPABILITIES, FEATURES = 0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000
PROMISCUOUS, BROADCASTS, MULTICASTS, DIRECTED = 1, 2, 4, 8
DRIVER, NIC = 0, 2
CAN_KEEP, RING_LOW, MORE = 1, 2, 0x20
MAGIC = 0xBABE864F
DATA, RX_BUFFERS, TX_BUFFERS, BUFFER = 0x3000, 0x10000, 0x40000, 0x800
HEADER, RX_BYTES, TX_BYTES = 176, 24, 64


class Rx(NamedTuple):
    """A receive entry."""

    owner: int
    length: int
    flags: int
    data: bytes


class VmxnetRig(NicRig[Any]):
    """And its driver: on an adapter of its own, or on a vlance that it has turned into one."""

    def __init__(self, *, morphed: bool = False, entries: int = 8, pieces: int = 1) -> None:
        super().__init__(Vlance if morphed else VmxnetPci, pieces)
        self.base, self.entries = PORTS, entries
        if morphed:
            self.ports.write(PORTS + 0x20, 2, 0x4392)
            self.base += 0x24
        self.rx_offset = HEADER
        self.tx_offset = HEADER + RX_BYTES * (entries + 1)
        self.length = self.tx_offset + TX_BYTES * entries
        self.rx_next = 0

    def get(self, register: int, width: int = 4) -> int:
        return self.ports.read(self.base + register, width)

    def put(self, register: int, value: int, width: int = 4) -> None:
        self.ports.write(self.base + register, width, value)

    def command(self, command: int) -> int:
        self.put(COMMAND, command)
        return self.get(COMMAND)

    def field(self, offset: int, value: int) -> None:
        """Of DriverData."""
        struct.pack_into("<I", self.ram, DATA + offset, value)

    def prepare(self, flags: int = BROADCASTS | DIRECTED, hashes: int = 0) -> None:
        """DriverData and the rings, as a driver has them before it opens the device."""
        self.ram[DATA : DATA + self.length] = bytes(self.length)
        for offset, value in ((0x00, MAGIC), (0x04, self.entries), (0x0C, 1), (0x18, flags), (0x28, self.entries),
                              (0x68, self.length), (0x6C, self.rx_offset),
                              (0x70, self.rx_offset + RX_BYTES * self.entries), (0x74, self.tx_offset)):  # fmt: skip
            self.field(offset, value)
        struct.pack_into("<Q", self.ram, DATA + 0x1C, hashes)
        for index in range(self.entries):
            self.rx(index)
        self.rx_next = 0

    def start(self, flags: int = BROADCASTS | DIRECTED, hashes: int = 0) -> None:
        self.prepare(flags, hashes)
        self.put(INIT_ADDR, DATA)
        self.put(INIT_LENGTH, self.length)
        assert self.get(STATUS) == 3

    def rx(self, index: int, length: int = BUFFER, owner: int = NIC, address: int | None = None) -> None:
        place = RX_BUFFERS + index * BUFFER if address is None else address
        at = DATA + self.rx_offset + index * RX_BYTES
        struct.pack_into("<QIIHHI", self.ram, at, place, length, 0xEEEE, owner, 0xEE, 0x1234 + index)

    def tx(self, index: int, pieces: list[tuple[int, int]], flags: int = CAN_KEEP, count: int | None = None) -> None:
        at = DATA + self.tx_offset + index * TX_BYTES
        struct.pack_into("<HHIIHH", self.ram, at, flags, NIC, 0, 0, 0, len(pieces) if count is None else count)
        for number, (address, length) in enumerate(pieces):
            struct.pack_into("<IHH", self.ram, at + 16 + number * 8, address & 0xFFFFFFFF, address >> 32, length)

    def put_frame(self, index: int, frame: bytes, flags: int = CAN_KEEP) -> None:
        place = TX_BUFFERS + index * BUFFER
        self.ram[place : place + len(frame)] = frame
        self.tx(index, [(place, len(frame))], flags)

    def kick(self) -> None:
        self.get(TX_ADDR)

    def tx_owner(self, index: int) -> int:
        return int(struct.unpack_from("<H", self.ram, DATA + self.tx_offset + index * TX_BYTES + 2)[0])

    def received(self, index: int) -> Rx:
        at = DATA + self.rx_offset + index * RX_BYTES
        address, _, length, owner, flags, number = struct.unpack_from("<QIIHHI", self.ram, at)
        assert number == 0x1234 + index, "the driver's own"
        return Rx(owner, length, flags, bytes(self.ram[address : address + length]) if owner == DRIVER else b"")
