"""The IDE function, its channels, a disk and a CD-ROM drive as one device with one state, for generated tests."""

from __future__ import annotations

import random
from ctypes import LittleEndianStructure
from typing import Any

from hw.bus import PortBus
from hw.ide.ata import Channel, ChannelState
from hw.ide.ata_disk import AtaDisk
from hw.ide.atapi import AtapiDrive
from hw.ide.bmide import Piix4Ide, Piix4IdeState
from hw.mmio import MmioSpace
from hw.pci import PciBuses
from hw.scsi.cdrom import Cdrom, CdromState
from ringfence.errors import MediaError

BMIBA = 0x1050
CONFIG = 0x4000
COMMANDS = [
    0xEC, 0xA1, 0x20, 0x24, 0x29, 0x30, 0x34, 0x40, 0x91, 0xC4, 0xC5, 0xC6, 0xC8, 0xCA, 0x25, 0x35, 0x08, 0x90, 0xE5,
    0xE7, 0xEF, 0xF8,
]  # fmt: skip
OPERATIONS = [
    0x00, 0x03, 0x12, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2B, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xA0, 0xA8, 0xBD, 0xBE,
]  # fmt: skip
Access = tuple[str, int, int, int]


def accesses(seed: int, count: int) -> list[Access]:
    """What a driver would do, and what none would, so mixed that most commands are begun and many carried through."""
    source = random.Random(seed)
    script: list[Access] = []
    pick, bits = source.choice, source.getrandbits
    while len(script) < count:
        base, block, control = pick([(0x1F0, BMIBA, 0x3F6), (0x170, BMIBA + 8, 0x376)])
        what = source.randrange(12)
        if what < 3:
            script += [("write", base + reg, 1, pick([0, 1, 2, 8, bits(8)])) for reg in range(1, 6)]
            script += [("write", base + 6, 1, pick([0xE0, 0xE0, 0xA0, 0xB0])), ("write", base + 7, 1, pick(COMMANDS))]
        elif what < 6:
            where = [pick([0, 0, 0, 0, 0, 0, 1, bits(8)]) for _ in range(2)]
            cdb = bytes([pick(OPERATIONS), bits(2), *where, *(pick([0, 0, 1, bits(8)]) for _ in range(8))])
            limit = ("write", 0x175, 1, pick([0, 2, 8, bits(8)]))
            script += [("write", 0x176, 1, 0xA0), ("write", 0x171, 1, pick([0, 0, 1])), limit]
            script += [("write", 0x177, 1, 0xA0)]
            script += [("write", 0x170, 2, cdb[at] | cdb[at + 1] << 8) for at in range(0, 12, 2)]
        elif what < 9:
            script += [(pick(["read", "read", "write"]), base, pick([2, 4]), bits(32))] * pick([3, 128, 256])
            script += [("read", base + 7, 1, 0)]
        elif what < 10:
            script += [("write", block + 4, 4, pick([0, 0x100, 0xFFC0, bits(17)]))]
            script += [("write", block, 1, pick([0, 1, 8])), ("write", block, 1, pick([1, 9, 9]))]
            script += [("read", block + 2, 1, 0), ("write", block + 2, 1, 6)]
        elif what < 11:
            script += [("read", pick([base + source.randrange(8), control, block]), pick([1, 2, 4]), 0)]
            script += [("write", CONFIG + pick([0x20, 0x40]), 4, bits(32))] * pick([0, 0, 0, 1])
            script += [("write", CONFIG + 0x40, 4, 0x80008000), ("write", CONFIG + 0x20, 4, BMIBA)]
            script += [("outside", 0, 1, 0)] * pick([0, 1])
        else:
            script += [("write", control, 1, pick([4, 2, bits(8)])), ("write", control, 1, pick([0, 0, 0x80]))]
    return script[:count]


class PatternBlocks:
    """A device whose blocks are known from their numbers and which forgets what is written; some are bad."""

    def __init__(self, blocks: int, block_size: int) -> None:
        self.blocks, self.block_size = blocks, block_size

    def _check(self, block: int, views: list[memoryview]) -> None:
        length = sum(len(view) for view in views)
        assert block >= 0 and length % self.block_size == 0
        assert block + length // self.block_size <= self.blocks
        bad = -(block + 1) % 97 + block
        if bad < block + length // self.block_size:
            raise MediaError(bad, length)

    def read(self, block: int, views: list[memoryview]) -> None:
        self._check(block, views)
        for view in views:
            view[:] = bytes([block & 0xFF]) * len(view)

    def write(self, block: int, views: list[memoryview]) -> None:
        self._check(block, views)

    def flush(self) -> None:
        """Nothing is kept."""


class IdeBoardState(LittleEndianStructure):
    _fields_ = [
        ("ide", Piix4IdeState), ("first", ChannelState), ("second", ChannelState), ("cdrom", CdromState),
    ]  # fmt: skip


class IdeBoard:
    """A device in the sense of the generated tests. `around` has lines and memory."""

    def __init__(self, state: Any, bus: PortBus, around: Any) -> None:
        self.state = state
        self.first, self.second = Channel(state.first, around.lines[14]), Channel(state.second, around.lines[15])
        self.disc = PatternBlocks(50_000, 2048)
        self.cdrom = Cdrom(state.cdrom, self, self.disc)
        self.first.attach(0, AtaDisk(state.first.drives[0], self.first, PatternBlocks(1 << 20, 512)))
        self.second.attach(0, AtapiDrive(state.second.drives[0], self.second, self.cdrom))
        self.ide = Piix4Ide(state.ide, PciBuses(bus, MmioSpace()), around, (self.first, self.second))

    def reset(self) -> None:
        for device in (self.first, self.second, self.ide):
            device.reset()
        self.ide.config_write(0x20, 4, BMIBA)
        self.ide.config_write(0x40, 4, 0x80008000)
        self.ide.config_write(0x04, 2, 5)

    def sync(self) -> None:
        for device in (self.first, self.second, self.ide):
            device.sync()

    def exchange(self) -> None:
        """The host changes the disc for one just like it."""
        self.cdrom.disconnect()
        self.cdrom.connect(self.disc)

    def ejected(self) -> None:
        """The disc stays in the tray."""
