"""Intel 440BX host bridge: which memory answers between C0000 and FFFFF and at A0000, and much that is only stored.

Firmware unlocks the DRAM under the ROM by the PAM registers, copies itself there and locks it again. What each segment
is then comes out as a list of ranges, given to a `ShadowMap`.

Firmware made for another board looks for the 82441FX (8086:1237), whose PAM and SMRAM registers are the same. So from
reset this bridge names that id, and its own from the moment firmware has locked its shadow: the dword write at 58h
that sets PAM0 to 10h, before which it reads the id for the last time. Everything else stays the same meanwhile.

Not modelled: address translation by the AGP aperture (it reads all ones), SMM (SMRAM is seen by everybody or nobody),
sizing of memory modules (the row boundaries come filled in).
Source: Intel 82443BX data sheet, cited as [ds]; SeaBIOS, src/fw/shadow.c, for the order of accesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import LittleEndianStructure, c_uint8, sizeof
from enum import Enum
from typing import NamedTuple, Protocol

from hw.i440bx_spec import (
    AGP_BRIDGE,
    APERTURE_FIXED,
    BRIDGE,
    DRAMT,
    DRB_ROWS,
    DRB_UNIT_MIB,
    ID_440BX,
    ID_440FX,
    PAM0,
    PAM_COUNT,
    PAM_LOCKED,
    ROW_UNITS,
    SEGMENTS,
    Pam,
    Smram,
)
from hw.pci import PciBuses, PciConfigSpace, PciDevice
from ringfence.pci_header import CONFIG_BYTES, PREFETCHABLE

SMRAM_OFFSET = BRIDGE.by_name["SMRAM"].offset
SMRAM_FROZEN = 0xFF & ~int(Smram.D_CLS)  # what D_LCK makes read-only


class Target(Enum):
    """Where an access to a segment goes. PCI is the ROM, where there is one, and otherwise nobody."""

    DRAM = "dram"
    PCI = "pci"


class ShadowRange(NamedTuple):
    """`size` bytes from guest physical address `first`: what answers loads, and what takes stores."""

    first: int
    size: int
    reads: Target
    writes: Target


class ShadowMap(Protocol):
    """Whoever maps memory for the processor. Both are told when they change, and once at power-on."""

    def set_shadow(self, ranges: Sequence[ShadowRange]) -> None:
        """All of C0000-FFFFF, in order, neighbours that are alike being one."""

    def set_smram(self, opened: bool) -> None:
        """Is A0000-BFFFF DRAM, rather than the video adapter's?"""


def shadow_ranges(pam: Sequence[int]) -> tuple[ShadowRange, ...]:
    """What PAM0-PAM6 mean. [ds: PAM]"""
    ranges: list[ShadowRange] = []
    for segment in SEGMENTS:
        bits = pam[segment.pam] >> segment.shift
        reads = Target.DRAM if bits & Pam.RE else Target.PCI
        writes = Target.DRAM if bits & Pam.WE else Target.PCI
        if ranges and ranges[-1][2:] == (reads, writes):
            ranges[-1] = ranges[-1]._replace(size=ranges[-1].size + segment.size)
        else:
            ranges.append(ShadowRange(segment.first, segment.size, reads, writes))
    return tuple(ranges)


def row_boundaries(memory_mib: int) -> list[int]:
    """DRB0-7 for this much memory: upper ends of the rows in units of 8 MB, rows of up to 256 MB filled in order."""
    units = memory_mib // DRB_UNIT_MIB
    return [min(units, ROW_UNITS * (row + 1), 0xFF) for row in range(DRB_ROWS)]


class I440bxState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("config", c_uint8 * CONFIG_BYTES)]


assert sizeof(I440bxState) == CONFIG_BYTES


class I440bx:
    """Function 0 of slot 0. `masquerade`: be the 82441FX until firmware has locked its shadow."""

    State = I440bxState

    def __init__(self, state: I440bxState, memory: ShadowMap, memory_mib: int, masquerade: bool = True) -> None:
        """Wire only."""
        self.state, self.memory, self.memory_mib, self.masquerade = state, memory, memory_mib, masquerade
        self._shadow: tuple[ShadowRange, ...] = ()
        self._smram_open: bool | None = None

    def reset(self) -> None:
        config = self.state.config
        BRIDGE.reset(config)
        for row, boundary in enumerate(row_boundaries(self.memory_mib)):
            BRIDGE.put(config, f"DRB{row}", boundary)
        if self.masquerade:
            BRIDGE.put(config, "DID", ID_440FX)
        self.sync()

    # from the guest

    def config_read(self, offset: int, width: int) -> int:
        return BRIDGE.read(self.state.config, offset, width)

    def config_write(self, offset: int, width: int, value: int) -> None:
        config = self.state.config
        smram = config[SMRAM_OFFSET]
        touched = BRIDGE.write(config, offset, width, value)
        if smram & Smram.D_LCK:
            config[SMRAM_OFFSET] = smram & SMRAM_FROZEN | config[SMRAM_OFFSET] & ~SMRAM_FROZEN
        BRIDGE.dispatch(self, touched)
        if offset == DRAMT and width == 4 and config[PAM0] == PAM_LOCKED:
            BRIDGE.put(config, "DID", ID_440BX)

    # register handlers

    def aperture_written(self) -> None:
        """A clear bit of APSIZE 5:0 holds its bit of APBASE 27:22 at 0. [ds: APSIZE]"""
        config = self.state.config
        size = BRIDGE.get(config, "APSIZE")
        BRIDGE.put(config, "APBASE", BRIDGE.get(config, "APBASE") & (APERTURE_FIXED | size << 22) | PREFETCHABLE)

    def smram_written(self) -> None:
        """Setting D_LCK clears D_OPEN. [ds: SMRAM]"""
        if self.state.config[SMRAM_OFFSET] & Smram.D_LCK:
            self.state.config[SMRAM_OFFSET] &= ~int(Smram.D_OPEN) & 0xFF
        self.sync()

    def pam_written(self) -> None:
        self.sync()

    def sync(self) -> None:
        """Tell the memory what changed; to map anew costs every vCPU its translations."""
        config = self.state.config
        shadow = shadow_ranges(config[PAM0 : PAM0 + PAM_COUNT])
        if shadow != self._shadow:
            self._shadow = shadow
            self.memory.set_shadow(shadow)
        opened = bool(config[SMRAM_OFFSET] & Smram.D_OPEN)
        if opened != self._smram_open:
            self._smram_open = opened
            self.memory.set_smram(opened)


class AgpBridge(PciDevice):
    """Slot 1: the bridge to bus 1, on which there is nothing."""

    State = PciConfigSpace
    CONFIG = AGP_BRIDGE

    def __init__(self, state: PciConfigSpace, buses: PciBuses) -> None:
        super().__init__(state.config, buses)
        self.state = state

    def reset(self) -> None:
        self.reset_config()

    def sync(self) -> None:
        """Drives nothing."""
