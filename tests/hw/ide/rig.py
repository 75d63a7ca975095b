"""A PIIX4 IDE function with a disk and a CD-ROM drive on a bus, and a driver's ways to use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hw.bus import PortBus
from hw.ide.ata import Channel, ChannelState
from hw.ide.ata_disk import AtaDisk
from hw.ide.atapi import AtapiDrive
from hw.ide.bmide import Piix4Ide, Piix4IdeState
from hw.mmio import MmioSpace
from hw.pci import PciBuses
from hw.scsi.cdrom import Cdrom, CdromState
from ringfence.errors import MediaError, RingfenceError

DATA, ERROR, FEATURES, COUNT, LOW, MID, HIGH, DEVICE, STATUS, COMMAND = 0, 1, 1, 2, 3, 4, 5, 6, 7, 7
PRIMARY, SECONDARY = 0x1F0, 0x170
CONTROL = {PRIMARY: 0x3F6, SECONDARY: 0x376}
BMIBA = 0x1050
RAM_BYTES = 1 << 20


class Memory:
    """RAM from 0; a DMA is cut in two, as memory that is not contiguous in its file is."""

    def __init__(self) -> None:
        self.ram = bytearray(RAM_BYTES)

    @contextmanager
    def dma(self, gpa: int, length: int, write: bool) -> Iterator[list[memoryview]]:
        if gpa < 0 or gpa + length > RAM_BYTES:
            raise RingfenceError(f"nothing at {gpa:#x}")
        view = memoryview(self.ram)[gpa : gpa + length]
        yield [view[: length // 3], view[length // 3 :]]


class Line:
    level = False
    edges = 0

    def set_level(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level


class Blocks:
    """A block device in memory; `bad` are blocks that fail."""

    def __init__(self, blocks: int, block_size: int) -> None:
        self.blocks, self.block_size = blocks, block_size
        self.store: dict[int, bytes] = {}
        self.bad: set[int] = set()
        self.flushes = 0
        self.log: list[tuple[str, int, int]] = []

    def content(self, block: int) -> bytes:
        return self.store.get(block) or block.to_bytes(8, "little") * (self.block_size // 8)

    def _spans(self, block: int, views: list[memoryview]) -> int:
        length = sum(len(view) for view in views)
        assert length % self.block_size == 0
        count = length // self.block_size
        assert block >= 0 and block + count <= self.blocks
        for at in range(block, block + min(count, 1 << 12)):
            if at in self.bad:
                raise MediaError(at, count)
        return count

    def read(self, block: int, views: list[memoryview]) -> None:
        count = self._spans(block, views)
        self.log.append(("read", block, count))
        data = b"".join(self.content(at) for at in range(block, block + count))
        for view in views:
            view[:] = data[: len(view)]
            data = data[len(view) :]

    def write(self, block: int, views: list[memoryview]) -> None:
        count = self._spans(block, views)
        self.log.append(("write", block, count))
        data = b"".join(views)
        for index in range(count):
            self.store[block + index] = data[index * self.block_size : (index + 1) * self.block_size]

    def flush(self) -> None:
        self.flushes += 1


class Rig:
    """Primary master: a disk. Secondary master: a CD-ROM drive with a disc."""

    def __init__(self, sectors: int = 1 << 20, disc_blocks: int = 256_000) -> None:
        self.bus, self.memory = PortBus(), Memory()
        self.lines = {PRIMARY: Line(), SECONDARY: Line()}
        self.medium, self.disc = Blocks(sectors, 512), Blocks(disc_blocks, 2048)
        self.ejections = 0
        first = Channel(ChannelState(), self.lines[PRIMARY])
        second = Channel(ChannelState(), self.lines[SECONDARY])
        self.channels = {PRIMARY: first, SECONDARY: second}
        self.disk = AtaDisk(first.state.drives[0], first, self.medium)
        self.cdrom = Cdrom(CdromState(), self, self.disc)
        first.attach(0, self.disk)
        second.attach(0, AtapiDrive(second.state.drives[0], second, self.cdrom))
        self.ide = Piix4Ide(Piix4IdeState(), PciBuses(self.bus, MmioSpace()), self.memory, (first, second))
        for device in (first, second, self.ide):
            device.reset()
        self.ide.config_write(0x04, 2, 0x0005)
        self.ide.config_write(0x20, 4, BMIBA)
        self.ide.config_write(0x40, 4, 0x80008000)

    def ejected(self) -> None:
        self.ejections += 1

    def get(self, reg: int, base: int = PRIMARY) -> int:
        return self.bus.read(base + reg, 1)

    def put(self, reg: int, value: int, base: int = PRIMARY) -> None:
        self.bus.write(base + reg, 1, value)

    def alternate(self, base: int = PRIMARY) -> int:
        return self.bus.read(CONTROL[base], 1)

    def control(self, value: int, base: int = PRIMARY) -> None:
        self.bus.write(CONTROL[base], 1, value)

    def command(self, command: int, lba: int = 0, count: int = 0, features: int = 0, device: int = 0xE0) -> None:
        """A 28-bit command for the disk."""
        for reg, value in ((FEATURES, features), (COUNT, count & 0xFF), (LOW, lba & 0xFF), (MID, lba >> 8 & 0xFF),
                           (HIGH, lba >> 16 & 0xFF), (DEVICE, device | lba >> 24 & 0xF)):  # fmt: skip
            self.put(reg, value)
        self.put(COMMAND, command)

    def command_48(self, command: int, lba: int, count: int) -> None:
        for reg, value in ((COUNT, count), (LOW, lba >> 24 & 0xFF | lba & 0xFF), (MID, 0), (HIGH, 0)):
            if reg == COUNT:
                self.put(reg, value >> 8)
                self.put(reg, value & 0xFF)
            else:
                shift = 8 * (reg - LOW)
                self.put(reg, lba >> 24 + shift & 0xFF)
                self.put(reg, lba >> shift & 0xFF)
        self.put(DEVICE, 0xE0)
        self.put(COMMAND, command)

    def read_data(self, length: int, base: int = PRIMARY, width: int = 2) -> bytes:
        return b"".join(self.bus.read(base, width).to_bytes(width, "little") for _ in range(length // width))

    def write_data(self, data: bytes, base: int = PRIMARY, width: int = 2) -> None:
        for at in range(0, len(data), width):
            self.bus.write(base, width, int.from_bytes(data[at : at + width], "little"))

    def packet(self, cdb: bytes, limit: int = 0xFFFE, features: int = 0) -> None:
        """PACKET and its CDB."""
        base = SECONDARY
        for reg, value in ((DEVICE, 0xA0), (FEATURES, features), (MID, limit & 0xFF), (HIGH, limit >> 8),
                           (COMMAND, 0xA0)):  # fmt: skip
            self.put(reg, value, base)
        if self.get(STATUS, base) & 0x08:
            self.write_data(cdb.ljust(12, b"\0"), base)

    def packet_in(self, cdb: bytes, limit: int = 0xFFFE) -> bytes:
        """A packet command by PIO, as an interrupt handler carries it on; its data."""
        self.packet(cdb, limit)
        data = b""
        while True:
            assert self.lines[SECONDARY].level, "each block and the end interrupt"
            status = self.get(STATUS, SECONDARY)
            if not status & 0x08:
                break
            assert self.get(COUNT, SECONDARY) == 2
            length = self.get(MID, SECONDARY) | self.get(HIGH, SECONDARY) << 8
            assert 0 < length <= limit
            data += self.read_data(length + 1 & ~1, SECONDARY)[:length]
        assert self.get(COUNT, SECONDARY) == 3
        return data

    def sense(self) -> tuple[int, int, int]:
        data = self.packet_in(bytes([3, 0, 0, 0, 18]))
        return data[2] & 0xF, data[12], data[13]

    def awake(self) -> None:
        """Past the power-on attention."""
        self.packet(bytes(12))
        self.sense()

    def table(self, regions: list[tuple[int, int]], at: int = 0x8000, end: bool = True) -> int:
        for index, (base, count) in enumerate(regions):
            last = 0x8000 if end and index == len(regions) - 1 else 0
            entry = base.to_bytes(4, "little") + (count & 0xFFFF).to_bytes(2, "little") + last.to_bytes(2, "little")
            self.memory.ram[at + 8 * index : at + 8 * index + 8] = entry
        return at

    def start(self, table: int, to_memory: bool, channel: int = 0) -> None:
        block = BMIBA + 8 * channel
        self.bus.write(block + 4, 4, table)
        self.bus.write(block + 2, 1, 0x66)
        self.bus.write(block, 1, 8 * to_memory)
        self.bus.write(block, 1, 8 * to_memory | 1)

    def master_status(self, channel: int = 0) -> int:
        return self.bus.read(BMIBA + 8 * channel + 2, 1) & 0x07
