"""PIIX4 IDE function (8086:7111): configuration registers, bus-master registers, region descriptors; no behaviour.

The subsystem and the programming interface are those of VMware machines.
Source: Intel 82371AB (PIIX4) data sheet, chapter 6.
"""

from ctypes import LittleEndianStructure, c_uint16, c_uint32, sizeof
from enum import IntFlag

from ringfence.pci_header import CONFIG_BYTES, Command, IoBar, PciIds, Status, header
from ringfence.registers import Reg, RegBank

SLOT = (0, 7, 1)  # bus, device, function
IDS = PciIds(0x8086, 0x7111, 0x01018A, revision=1, subsystem_vendor=0x15AD, subsystem=0x1976)
BLOCK_PORTS = 16
BMIBA = IoBar(4, BLOCK_PORTS)
IDE_DECODE = 0x8000  # IDETIM

CONFIG = RegBank(
    "piix4_ide", CONFIG_BYTES,
    *header(IDS, (BMIBA,), command_rw=int(Command.IO | Command.MASTER), latency_rw=0xF0,
            status=int(Status.MEDIUM_DEVSEL) | 0x80),
    #   offset  name        width  reset   rw
    Reg(0x40, "IDETIM_PRI", 2, 0x0000, 0xFFFF, on_write="map_bars"),
    Reg(0x42, "IDETIM_SEC", 2, 0x0000, 0xFFFF, on_write="map_bars"),
    Reg(0x44, "SIDETIM",    1, 0x00,   0xFF),
    Reg(0x48, "UDMACTL",    1, 0x00,   0x0F),
    Reg(0x4A, "UDMATIM",    2, 0x0000, 0x3333),
)  # fmt: skip
TIMINGS = ("IDETIM_PRI", "IDETIM_SEC")


class Bmicx(IntFlag):
    """Bus-master command."""

    SSBM = 1 << 0
    RWCON = 1 << 3  # 1: to memory


class Bmisx(IntFlag):
    """Bus-master status."""

    BMIDEA = 1 << 0
    ERROR = 1 << 1
    IDEINTS = 1 << 2
    DMA0CAP = 1 << 5
    DMA1CAP = 1 << 6


BLOCK = RegBank(
    "piix4_ide_io", BLOCK_PORTS,
    #   offset  name      width  reset   rw          w1c
    Reg(0x00, "BMICP",    1, 0x00, 0x09,       on_write="command_written"),
    Reg(0x02, "BMISP",    1, 0x00, 0x60,       0x06),
    Reg(0x04, "BMIDTPP",  4, 0x00, 0xFFFFFFFC),
    Reg(0x08, "BMICS",    1, 0x00, 0x09,       on_write="command_written"),
    Reg(0x0A, "BMISS",    1, 0x00, 0x60,       0x06),
    Reg(0x0C, "BMIDTPS",  4, 0x00, 0xFFFFFFFC),
)  # fmt: skip
COMMANDS, STATUSES, TABLES = ("BMICP", "BMICS"), ("BMISP", "BMISS"), ("BMIDTPP", "BMIDTPS")


class Prd(LittleEndianStructure):
    """Physical region descriptor. A count of 0 is 64 KiB; bit 0 of base and count is ignored."""

    _fields_ = [("base", c_uint32), ("count", c_uint16), ("flags", c_uint16)]


assert sizeof(Prd) == 8
PRD_BYTES = 8
PRD_EOT = 0x8000
PRD_COUNT_0 = 0x10000
TABLE_BYTES_MAX = 0x10000  # a table may not cross a 64 KiB boundary
