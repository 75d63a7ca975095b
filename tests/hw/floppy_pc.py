"""Our DMA and floppy disk controllers as a PC, with the same ways in as QEMU's; and a driver that uses either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from hw.bus import PortBus
from hw.dma8237 import Dma8237, DmaState
from hw.fdc import Fdc
from hw.fdc_data import FdcState
from hw.floppy_drive import Diskette
from ringfence.errors import MediaError, RingfenceError

RAM_BYTES = 1 << 20
DOR, MSR, FIFO, DIR, CCR = 0x3F2, 0x3F4, 0x3F5, 0x3F7, 0x3F7
RQM, DIO, BUSY = 0x80, 0x40, 0x10
BUFFER = 0x12000
TO_MEMORY, FROM_MEMORY = 0x46, 0x4A  # single mode, channel 2


class Pc(Protocol):
    def inb(self, port: int) -> int: ...

    def outb(self, port: int, value: int) -> None: ...

    def peek(self, gpa: int, length: int) -> bytes: ...

    def poke(self, gpa: int, data: bytes) -> None: ...

    def irq(self, number: int) -> bool: ...


class Image:
    """A diskette in memory; `bad` are blocks that fail."""

    block_size = 512

    def __init__(self, blocks: int = 2880, writable: bool = True) -> None:
        self.blocks, self.writable = blocks, writable
        self.data = bytearray(b"".join(block.to_bytes(4, "big") * 128 for block in range(blocks)))
        self.bad: set[int] = set()

    def read(self, block: int, views: list[memoryview]) -> None:
        if block in self.bad:
            raise MediaError(block, 1)
        at = block * 512
        for view in views:
            view[:] = self.data[at : at + len(view)]
            at += len(view)

    def write(self, block: int, views: list[memoryview]) -> None:
        assert self.writable
        if block in self.bad:
            raise MediaError(block, 1)
        data = b"".join(views)
        self.data[block * 512 : block * 512 + len(data)] = data

    def flush(self) -> None:
        """It is in memory."""


class Memory:
    """RAM from 0; a DMA is cut in two, as memory that is not contiguous in its file is."""

    def __init__(self) -> None:
        self.ram = bytearray(RAM_BYTES)

    @contextmanager
    def dma(self, gpa: int, length: int, write: bool) -> Iterator[list[memoryview]]:
        if gpa + length > RAM_BYTES:
            raise RingfenceError("no memory there")
        middle = gpa + length // 2
        yield [memoryview(self.ram)[gpa:middle], memoryview(self.ram)[middle : gpa + length]]


class OurPc:
    """The two controllers on a bus, as firmware leaves them: the first one's requests pass through the second."""

    def __init__(self, drives: Sequence[Diskette | None] = (None,)) -> None:
        memory = Memory()
        self.ram = memory.ram
        self.level = False
        self.edges = 0
        self.bus = PortBus()
        self.dma = Dma8237(DmaState(), memory)
        self.fdc = Fdc(FdcState(), self, self.dma, 2, drives)
        self.dma.connect(2, self.fdc.channel_opened)
        self.bus.claim(0, 16, self.dma.first)
        self.bus.claim(0xC0, 32, self.dma.second)
        self.bus.claim(0x81, 15, self.dma.pages)
        self.bus.claim(0x3F0, 6, self.fdc)
        self.bus.claim(0x3F7, 1, self.fdc.rate_port)
        self.dma.reset()
        self.fdc.reset()

    def set_level(self, level: bool) -> None:
        self.edges += level and not self.level
        self.level = level

    def inb(self, port: int) -> int:
        return self.bus.read(port, 1)

    def outb(self, port: int, value: int) -> None:
        self.bus.write(port, 1, value)

    def peek(self, gpa: int, length: int) -> bytes:
        return bytes(self.ram[gpa : gpa + length])

    def poke(self, gpa: int, data: bytes) -> None:
        self.ram[gpa : gpa + len(data)] = data

    def irq(self, number: int) -> bool:
        return self.level


class Driver:
    """A floppy driver for drive 0 of any PC."""

    def __init__(self, pc: Pc) -> None:
        self.pc = pc
        for port, value in ((0xDA, 0), (0x0D, 0), (0xD6, 0xC0), (0xD4, 0)):
            pc.outb(port, value)

    def reset(self) -> list[list[int]]:
        """Reset through DOR; what four SENSE INTERRUPTs say."""
        self.pc.outb(DOR, 0x00)
        self.pc.outb(DOR, 0x1C)
        return [self.command(0x08) for _ in range(4)]

    def send(self, *values: int) -> None:
        for value in values:
            assert self.pc.inb(MSR) & (RQM | DIO) == RQM
            self.pc.outb(FIFO, value)

    def command(self, *values: int) -> list[int]:
        """A command and its result, as far as MSR says that there is one."""
        self.send(*values)
        return self.result()

    def result(self) -> list[int]:
        found = []
        while self.pc.inb(MSR) & (RQM | DIO | BUSY) == RQM | DIO | BUSY and len(found) < 16:
            found.append(self.pc.inb(FIFO))
        return found

    def ready(self, rate: int = 0) -> None:
        """Reset, set up, head on track 0."""
        self.reset()
        self.pc.outb(CCR, rate)
        self.command(0x03, 0xAF, 0x02)
        self.seek(1)
        self.recalibrate()

    def recalibrate(self) -> list[int]:
        self.send(0x07, 0)
        return self.command(0x08)

    def seek(self, cylinder: int) -> list[int]:
        self.send(0x0F, 0, cylinder)
        return self.command(0x08)

    def program(self, mode: int, length: int, gpa: int = BUFFER) -> None:
        """Channel 2, ready for `length` bytes."""
        outb = self.pc.outb
        outb(0x0A, 0x06)
        outb(0x0C, 0)
        outb(0x0B, mode)
        for port, value in ((0x04, gpa), (0x05, length - 1)):
            outb(port, value & 0xFF)
            outb(port, value >> 8 & 0xFF)
        outb(0x81, gpa >> 16)
        outb(0x0A, 0x02)

    def read(self, c: int, h: int, r: int, sectors: int, eot: int = 18, op: int = 0xE6) -> list[int]:
        self.program(TO_MEMORY, sectors * 512)
        return self.command(op, h << 2, c, h, r, 2, eot, 0x1B, 0xFF)

    def write(self, c: int, h: int, r: int, data: bytes, eot: int = 18, op: int = 0xC5) -> list[int]:
        self.pc.poke(BUFFER, data)
        self.program(FROM_MEMORY, len(data))
        return self.command(op, h << 2, c, h, r, 2, eot, 0x1B, 0xFF)
