"""PIIX4 power-management function (8086:7113): configuration registers, I/O block, SMBus host; no behaviour.

Source: Intel 82371AB (PIIX4) data sheet, sections 7.1 to 7.3.
"""

from enum import IntEnum, IntFlag

from ringfence.registers import Reg, RegBank

SLOT = (0, 7, 3)  # bus, device, function
CONFIG_BYTES = 256
BLOCK_PORTS = 64
SMBUS_PORTS = 16
PMBASE_MASK = 0xFFC0
SMBBASE_MASK = 0xFFF0
PMIOSE = 0x01

APMC_PORT = 0xB2  # APMC; APMS follows
APM_PORTS = 2


class ApmCommand(IntEnum):
    """What the ACPI tables say to write to APMC: with no SMM code about, the chip itself obeys."""

    ACPI_DISABLE = 0xF0
    ACPI_ENABLE = 0xF1


class SmbHostConfig(IntFlag):
    """SMBus host configuration, D2h."""

    HST_EN = 1 << 0
    INTRSEL = 7 << 1


CONFIG = RegBank(
    "piix4_pm", CONFIG_BYTES,
    #   offset  name        width  reset        rw
    Reg(0x00, "VID",        2, 0x8086),
    Reg(0x02, "DID",        2, 0x7113),
    Reg(0x04, "PCICMD",     2, 0x0000,     0x0001),
    Reg(0x06, "PCISTS",     2, 0x0280,     w1c=0x0800),
    Reg(0x08, "RID",        1, 0x08),
    Reg(0x09, "CLASSC",     3, 0x068000),
    Reg(0x0E, "HEDT",       1, 0x00),
    Reg(0x2C, "SVID",       2, 0x15AD),
    Reg(0x2E, "SID",        2, 0x1976),
    Reg(0x3C, "INTLN",      1, 0x09,       0xFF),
    Reg(0x3D, "INTPN",      1, 0x01),
    Reg(0x40, "PMBASE",     4, 0x00000001, PMBASE_MASK, on_write="decode_changed"),
    Reg(0x44, "CNTA",       4, 0x00000000, 0xFFFFFFFF),
    Reg(0x48, "CNTB",       4, 0x00000000, 0xFFFFFFFF),
    Reg(0x4C, "GPICTL",     4, 0x00000000, 0xFFFFFFFF),
    Reg(0x50, "DEVRESD",    4, 0x00000000, 0xFFFFFFFF),
    Reg(0x54, "DEVACTA",    4, 0x00000000, 0xFFFFFFFF),
    Reg(0x58, "DEVACTB",    4, 0x02000000, 0xFFFFFFFF),  # APMC_EN set: firmware then needs no SMM set-up
    Reg(0x5C, "DEVRESA",    4, 0x80000000, 0xFFFFFFFF),  # the parallel port is there
    Reg(0x60, "DEVRESB",    4, 0x60000000, 0xFFFFFFFF),
    Reg(0x64, "DEVRESC",    4, 0x98000000, 0xFFFFFFFF),  # both serial ports are there
    Reg(0x68, "DEVRESE",    4, 0x00000000, 0xFFFFFFFF),
    Reg(0x6C, "DEVRESF",    4, 0x00000000, 0xFFFFFFFF),
    Reg(0x70, "DEVRESG",    4, 0x00000000, 0xFFFFFFFF),
    Reg(0x74, "DEVRESH",    4, 0x00000000, 0xFFFFFFFF),
    Reg(0x78, "DEVRESI",    4, 0x00000000, 0xFFFFFFFF),
    Reg(0x7C, "DEVRESJ",    4, 0x00000000, 0xFFFFFFFF),
    Reg(0x80, "PMREGMISC",  1, 0x00,       0x01,       on_write="decode_changed"),
    Reg(0x90, "SMBBASE",    4, 0x00000001, SMBBASE_MASK, on_write="decode_changed"),
    Reg(0xD2, "SMBHSTCFG",  1, 0x00,       int(SmbHostConfig.HST_EN | SmbHostConfig.INTRSEL),
        on_write="decode_changed"),
    Reg(0xD3, "SMBSLVC",    1, 0x00,       0xFF),
    Reg(0xD4, "SMBSHDW1",   1, 0x00,       0xFF),
    Reg(0xD5, "SMBSHDW2",   1, 0x00,       0xFF),
    Reg(0xD6, "SMBREV",     1, 0x00),
)  # fmt: skip


class Pm1Cnt(IntFlag):
    """PM1a control, offset 04h."""

    SCI_EN = 1 << 0
    BM_RLD = 1 << 1
    GBL_RLS = 1 << 2
    SLP_TYP = 7 << 10
    SLP_EN = 1 << 13


SLP_TYP_SOFT_OFF = 0

# PM1_STS and PM1_EN (0-3) and the timer (8-11) are the core's; the rest of the block is here. No general-purpose,
# global or device event ever happens, so no status bit is ever set; P_LVL2 and P_LVL3 read as 0 without stopping.
BLOCK = RegBank(
    "piix4_pm_io", BLOCK_PORTS,
    #   offset  name      width  reset   rw          w1s
    Reg(0x04, "PM1_CNT",  2, 0x0000, 0x1C03, w1s=int(Pm1Cnt.GBL_RLS | Pm1Cnt.SLP_EN), on_write="control_written"),
    Reg(0x0C, "GPSTS",    2, 0x0000,     w1c=0x0F81),
    Reg(0x0E, "GPEN",     2, 0x0000,     0x0F01),
    Reg(0x10, "PCNTRL",   4, 0x00000000, 0x00023E1E),
    Reg(0x14, "PLVL2",    1, 0x00),
    Reg(0x15, "PLVL3",    1, 0x00),
    Reg(0x18, "GLBSTS",   2, 0x0000,     w1c=0x0C1F),
    Reg(0x1C, "DEVSTS",   4, 0x00000000, w1c=0x3FFF003F),
    Reg(0x20, "GLBEN",    2, 0x0000,     0x0F03),
    Reg(0x28, "GLBCTL",   4, 0x00000000, 0x0303FF07),
    Reg(0x2C, "DEVCTL",   4, 0x00000000, 0x0FFFFFFF),
    Reg(0x30, "GPIREG",   3, 0x000000),
    Reg(0x34, "GPOREG",   4, 0x7FFFBFFF, 0xFFFFFFFF),
)  # fmt: skip
CORE_OFFSETS = frozenset({0, 1, 2, 3, 8, 9, 10, 11})
BLOCK_OFFSETS = [offset for offset in range(BLOCK_PORTS) if offset not in CORE_OFFSETS]


class SmbStatus(IntFlag):
    """SMBus host status."""

    HOST_BUSY = 1 << 0
    INTER = 1 << 1
    DEV_ERR = 1 << 2
    BUS_ERR = 1 << 3
    FAILED = 1 << 4


class SmbControl(IntFlag):
    """SMBus host control."""

    INTEREN = 1 << 0
    KILL = 1 << 1
    SMB_CMD_PROT = 7 << 2
    START = 1 << 6


SMBUS = RegBank(
    "piix4_smbus", SMBUS_PORTS,
    #   offset  name        width  reset  rw
    Reg(0x00, "SMBHSTSTS",  1, 0x00, w1c=0x1E),
    Reg(0x01, "SMBSLVSTS",  1, 0x00, w1c=0x3C),
    Reg(0x02, "SMBHSTCNT",  1, 0x00, 0x1F, w1s=int(SmbControl.START), on_write="command_written"),
    Reg(0x03, "SMBHSTCMD",  1, 0x00, 0xFF),
    Reg(0x04, "SMBHSTADD",  1, 0x00, 0xFF),
    Reg(0x05, "SMBHSTDAT0", 1, 0x00, 0xFF),
    Reg(0x06, "SMBHSTDAT1", 1, 0x00, 0xFF),
    Reg(0x07, "SMBBLKDAT",  1, 0x00, 0xFF),
    Reg(0x08, "SMBSLVCNT",  1, 0x00, 0x0F),
    Reg(0x09, "SMBSHDWCMD", 1, 0x00),
    Reg(0x0A, "SMBSLVEVT",  2, 0x0000, 0xFFFF),
    Reg(0x0C, "SMBSLVDAT",  2, 0x0000),
)  # fmt: skip
