"""Intel 82443BX host bridge (8086:7190) and its AGP bridge (8086:7191): configuration registers; no behaviour.

The bytes that VMware's board puts into registers that no guest depends on are not known; these are the data sheet's
resets, with an aperture of 64 MB.
Source: Intel 82443BX data sheet, sections 3.3 and 3.4.
"""

from enum import IntFlag
from typing import NamedTuple

from ringfence.pci_header import CONFIG_BYTES, PciIds, bridge_header
from ringfence.registers import Reg, RegBank

SLOT = (0, 0, 0)  # bus, device, function
AGP_SLOT = (0, 1, 0)
ID_440BX = 0x7190
ID_440FX = 0x1237
AGP_IDS = PciIds(0x8086, 0x7191, 0x060400, revision=1)

PAM0 = 0x59
PAM_COUNT = 7
PAM_LOCKED = 0x10  # PAM0 as firmware leaves it: F0000-FFFFF read from DRAM, write-protected
DRAMT = 0x58
DRB_ROWS = 8
DRB_UNIT_MIB = 8
ROW_UNITS = 32  # the largest module row: 256 MB
APERTURE_FIXED = 0xF0000000  # of APBASE: decoded whatever the size


class Pam(IntFlag):
    """One nibble: where a segment's reads and writes go when set, else to the ROM's bus."""

    RE = 1 << 0
    WE = 1 << 1


class Segment(NamedTuple):
    """A range of memory and the nibble that steers it: register PAM`pam`, low or high half."""

    first: int
    size: int
    pam: int
    shift: int


SEGMENTS = (
    *(Segment(0xC0000 + 0x4000 * index, 0x4000, 1 + index // 2, 4 * (index % 2)) for index in range(12)),
    Segment(0xF0000, 0x10000, 0, 4),
)
assert sum(segment.size for segment in SEGMENTS) == 0x40000


class Smram(IntFlag):
    """System management RAM control."""

    C_BASE_SEG = 0x02  # A0000, the only one
    G_SMRAME = 1 << 3
    D_LCK = 1 << 4
    D_CLS = 1 << 5
    D_OPEN = 1 << 6


BRIDGE = RegBank(
    "i440bx", CONFIG_BYTES,
    #   offset  name       width  reset        rw
    Reg(0x00, "VID",        2, 0x8086),
    Reg(0x02, "DID",        2, ID_440BX),
    Reg(0x04, "PCICMD",     2, 0x0006,     0x0140),
    Reg(0x06, "PCISTS",     2, 0x2210,     w1c=0xF900),
    Reg(0x08, "RID",        1, 0x01),
    Reg(0x09, "CLASSC",     3, 0x060000),
    Reg(0x0D, "MLT",        1, 0x00,       0xF8),
    Reg(0x0E, "HDR",        1, 0x00),
    Reg(0x10, "APBASE",     4, 0x00000008, 0xFFC00000, on_write="aperture_written"),
    Reg(0x2C, "SVID",       2, 0x15AD),
    Reg(0x2E, "SID",        2, 0x1976),
    Reg(0x34, "CAPPTR",     1, 0xA0),
    Reg(0x50, "NBXCFG",     4, 0xFF000000, 0xFFFFFFFF),
    Reg(0x57, "DRAMC",      1, 0x00,       0x3F),
    Reg(DRAMT, "DRAMT",     1, 0x03,       0xFF),
    *(Reg(PAM0 + index, f"PAM{index}", 1, 0x00, 0x33 if index else 0x30, on_write="pam_written")
      for index in range(PAM_COUNT)),
    *(Reg(0x60 + row, f"DRB{row}", 1, 0x01, 0xFF) for row in range(DRB_ROWS)),
    Reg(0x68, "FDHC",       1, 0x00,       0xC0),
    Reg(0x69, "MBSC",       6, 0x00,       0xFFFFFFFFFFFF),
    Reg(0x72, "SMRAM",      1, 0x02,       0x78,       on_write="smram_written"),
    Reg(0x73, "ESMRAMC",    1, 0x38,       0x87),
    Reg(0x74, "RPS",        2, 0x0000,     0xFFFF),
    Reg(0x76, "SDRAMC",     2, 0x0000,     0xFFFF),
    Reg(0x78, "PGPOL",      2, 0x0000,     0xFFFF),
    Reg(0x7A, "PMCR",       2, 0x0000,     0xFFFF),
    Reg(0x7C, "SCRR",       2, 0x0038,     0xFFFF),
    Reg(0x80, "EAP",        4, 0x00000000),
    Reg(0x90, "ERRCMD",     1, 0x80,       0xFF),
    Reg(0x91, "ERRSTS",     2, 0x0000,     w1c=0x1FFF),
    Reg(0xA0, "ACAPID",     4, 0x00100002),
    Reg(0xA4, "AGPSTAT",    4, 0x1F000203),
    Reg(0xA8, "AGPCMD",     4, 0x00000000, 0x00000303),
    Reg(0xB0, "AGPCTRL",    4, 0x00000000, 0x0000A080),
    Reg(0xB4, "APSIZE",     1, 0x30,       0x3F,       on_write="aperture_written"),
    Reg(0xB8, "ATTBASE",    4, 0x00000000, 0xFFFFF000),
    Reg(0xD0, "BSPAD",      8, 0x00,       0xFFFFFFFFFFFFFFFF),
    Reg(0xF0, "DWTC",       4, 0x00000000, 0xFFFFFFFF),
)  # fmt: skip

AGP_BRIDGE = RegBank("i440bx_agp", CONFIG_BYTES, *bridge_header(AGP_IDS))
