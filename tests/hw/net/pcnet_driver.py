"""A driver for the Am79C970A, made from the data sheet's layouts alone: offsets, not the device's structures."""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from hw.net.vlance import Vlance
from tests.hw.net.nic_rig import ADDRESS, PORTS, NicRig

RDP, RAP, RESET, BDP = 0x10, 0x12, 0x14, 0x16
RDP_32, RAP_32, RESET_32, BDP_32 = 0x10, 0x14, 0x18, 0x1C
INIT, STRT, STOP, TDMD, TXON, RXON, IENA, INTR, IDON, TINT, RINT, MERR, MISS, CERR, BABL, ERR = (
    1 << bit for bit in range(16)
)  # fmt: skip
OWN, R_ERR, FRAM, OFLO, CRC, BUFF, STP, ENP, BPE, PAM, LAFM, BAM = (1 << bit for bit in range(15, 3, -1))
ADD_FCS, MORE, ONE, DEF = 0x2000, 0x1000, 0x0800, 0x0400
T_BUFF, UFLO, EXDEF, LCOL, LCAR, RTRY = (1 << bit for bit in range(31, 25, -1))
DRX, DTX, LOOP, DXMTFCS, FCOLL, DRTY, INTL = (1 << bit for bit in range(7))
DLNKTST, DRCVPA, DRCVBC, PROM = (1 << bit for bit in range(12, 16))
BLOCK, RX_RING, TX_RING, RX_DATA, TX_DATA = 0x1000, 0x2000, 0x4000, 0x10000, 0x40000
BUFFER = 0x800


class Rx(NamedTuple):
    """A receive descriptor that came back."""

    status: int
    length: int
    data: bytes


def fcs_of(frame: bytes) -> bytes:
    return zlib.crc32(frame).to_bytes(4, "little")


class PcnetRig(NicRig[Vlance]):
    """And its driver, with rings of `1 << log` descriptors, in any software style."""

    def __init__(self, style: int = 2, log: int = 3, pieces: int = 1, **options: Any) -> None:
        super().__init__(Vlance, pieces, **options)
        self.style, self.log = style, log
        self.size = 16 if style else 8
        self.high = 0

    # registers

    def get(self, offset: int, width: int = 2) -> int:
        return self.ports.read(PORTS + offset, width)

    def put(self, offset: int, value: int, width: int = 2) -> None:
        self.ports.write(PORTS + offset, width, value)

    def csr(self, number: int) -> int:
        self.put(RAP, number)
        return self.get(RDP)

    def set_csr(self, number: int, value: int) -> None:
        self.put(RAP, number)
        self.put(RDP, value)

    def bcr(self, number: int) -> int:
        self.put(RAP, number)
        return self.get(BDP)

    def set_bcr(self, number: int, value: int) -> None:
        self.put(RAP, number)
        self.put(BDP, value)

    # memory

    def write(self, gpa: int, data: bytes) -> None:
        self.ram[gpa : gpa + len(data)] = data

    def init_block(self, mode: int = 0, hashes: int = 0, address: bytes = ADDRESS) -> bytes:
        if self.style:
            return struct.pack(
                "<HBB6sHQII", mode, self.log << 4, self.log << 4, address, 0, hashes, RX_RING, TX_RING
            )  # fmt: skip
        return struct.pack(
            "<H6sQII", mode, address, hashes, self.log << 29 | RX_RING, self.log << 29 | TX_RING
        )  # fmt: skip

    def start(self, mode: int = 0, hashes: int = 0, *, features: int = 0x0115, run: int = STRT | IENA) -> None:
        """All receive descriptors given to the controller, each with a buffer of 2 KiB; then INIT and STRT."""
        self.set_csr(0, STOP)
        self.set_bcr(20, self.style)
        self.set_csr(4, features)
        for index in range(1 << self.log):
            self.rx(index)
            self.tx(index, 0, 1, 0)
        self.write(BLOCK, self.init_block(mode, hashes))
        self.set_csr(1, BLOCK & 0xFFFF)
        self.set_csr(2, BLOCK >> 16)
        self.set_csr(0, INIT)
        assert self.csr(0) & IDON
        self.set_csr(0, IDON | run)
        self.wire.frames.clear()

    def descriptor(self, ring: int, index: int, address: int, length: int, status: int, misc: int = 0) -> None:
        count = 0xF000 | -length & 0xFFF
        if self.style == 0:
            data = struct.pack("<HBBHH", address & 0xFFFF, address >> 16, status >> 8, count, misc)
        elif self.style == 3:
            data = struct.pack("<IHHII", misc, count, status, address, 0xAAAAAAAA)
        else:
            data = struct.pack("<IHHII", address, count, status, misc, 0xAAAAAAAA)
        self.write(ring + index * self.size, data)

    def status(self, ring: int, index: int) -> int:
        at = ring + index * self.size
        if self.style == 0:
            return self.ram[at + 3] << 8
        return int(struct.unpack_from("<H", self.ram, at + 6)[0])

    def misc(self, ring: int, index: int) -> int:
        """Of 16-bit structures, where 32-bit ones have the same bits."""
        at = ring + index * self.size
        if self.style == 0:
            word = int(struct.unpack_from("<H", self.ram, at + 6)[0])
            return word << 16 if ring == TX_RING else word
        return int(struct.unpack_from("<I", self.ram, at + (0 if self.style == 3 else 8))[0])

    def rx(self, index: int, length: int = BUFFER, address: int | None = None, status: int = OWN) -> None:
        self.descriptor(RX_RING, index, RX_DATA + index * BUFFER if address is None else address, length, status)

    def tx(self, index: int, address: int, length: int, status: int = OWN | STP | ENP) -> None:
        self.descriptor(TX_RING, index, address, length, status, 0)

    def put_frame(self, index: int, frame: bytes, status: int = OWN | STP | ENP) -> None:
        """In one buffer."""
        self.write(TX_DATA + index * BUFFER, frame)
        self.tx(index, TX_DATA + index * BUFFER, len(frame), status)

    def kick(self) -> None:
        self.set_csr(0, TDMD | IENA)

    def received(self, index: int) -> Rx:
        """What is in a buffer, with the FCS."""
        length = self.misc(RX_RING, index) & 0xFFF
        data = bytes(self.ram[RX_DATA + index * BUFFER : RX_DATA + index * BUFFER + length])
        return Rx(self.status(RX_RING, index), length, data)
