"""An adapter on a bus, with disks in memory behind it and RAM before it; what both drivers need."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from hw.bus import PortBus
from hw.mmio import MmioSpace
from hw.pci import PciBuses, PciLinks
from hw.scsi.buslogic import BusLogic
from hw.scsi.disk import Disk, DiskState
from hw.scsi.lsilogic import LsiLogic
from hw.scsi.target import Target
from tests.hw.ide.rig import Memory
from tests.hw.scsi.initiator import AtOnce, MemoryBacking, Person

PORTS, MEMORY, SLOT = 0x1080, 0xF4000000, 16
READ_10, WRITE_10, INQUIRY, TEST_UNIT_READY = 0x28, 0x2A, 0x12, 0x00
BLOCKS = 256
Adapter = TypeVar("Adapter", LsiLogic, BusLogic)


class Rig(Generic[Adapter]):
    """One adapter in slot 16, its ranges mapped, with a disk at each of `ids`."""

    def __init__(self, kind: type[Adapter], ids: tuple[int, ...] = (0,), workers: Any = None) -> None:
        self.ports, self.mmio, self.memory = PortBus(), MmioSpace(), Memory()
        self.links = PciLinks()
        self.backings = {number: MemoryBacking(BLOCKS) for number in ids}
        for number, backing in self.backings.items():
            backing.data[:] = b"".join(block_of(number, block) for block in range(BLOCKS))
        self.targets = {
            number: Target(Disk(DiskState(), backing), workers or AtOnce(), Person())
            for number, backing in self.backings.items()
        }
        self.chip: Adapter = kind(
            kind.State(), PciBuses(self.ports, self.mmio), self.links.pin(SLOT, 1), self.memory, self.targets
        )
        for target in self.targets.values():
            target.reset()
        self.chip.reset()
        self.chip.config_write(0x10, 4, PORTS)
        self.chip.config_write(0x14, 4, MEMORY)
        self.chip.config_write(0x04, 2, 7)

    @property
    def line(self) -> bool:
        return self.links.level((SLOT + 1) % 4)

    @property
    def ram(self) -> bytearray:
        return self.memory.ram


def block_of(target: int, number: int) -> bytes:
    """What a disk has in a block at first."""
    return bytes([target, number & 0xFF]) * 256


def rw_10(opcode: int, first: int, count: int) -> bytes:
    return bytes([opcode, 0, *first.to_bytes(4, "big"), 0, *count.to_bytes(2, "big"), 0])
