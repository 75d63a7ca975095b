"""PIIX4 power-management function: where the guest finds the ACPI registers and switches itself off.

PMBASE (configuration register 40h) places a block of 64 ports once PMREGMISC.PMIOSE is set. PM1_STS, PM1_EN and the PM
timer in that block belong to the core, which is told the base; SLP_EN with SLP_TYP 0 in PM1_CNT is soft-off.
Not modelled: SMBus, general-purpose events, throttling, sleep states other than soft-off (SLP_EN is then ignored).
Source: Intel 82371AB (PIIX4) data sheet, cited as [ds].
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, sizeof
from typing import Protocol

from hw.bus import Claim, PortBus
from hw.pci_spec import CONFIG_BYTES
from hw.piix4_pm_spec import BLOCK, BLOCK_OFFSETS, BLOCK_PORTS, CONFIG, PMBASE_MASK, PMIOSE, SLP_TYP_SOFT_OFF, Pm1Cnt
from hw.wiring import PowerSwitch


class PmCore(Protocol):
    """The core's share of the block."""

    def set_pm_base(self, port: int) -> None:
        """First port of the block; 0 while it is not decoded."""

    def set_sci_enable(self, on: bool) -> None: ...


class Piix4PmState(LittleEndianStructure):
    """All guest-visible state that is not the core's."""

    _fields_ = [("config", c_uint8 * CONFIG_BYTES), ("block", c_uint8 * BLOCK_PORTS)]


assert sizeof(Piix4PmState) == CONFIG_BYTES + BLOCK_PORTS


class Piix4Pm:
    """Function 3 of the PIIX4."""

    State = Piix4PmState

    def __init__(self, state: Piix4PmState, bus: PortBus, core: PmCore, power: PowerSwitch) -> None:
        self.state, self.bus, self.core, self.power = state, bus, core, power
        self._claim: Claim | None = None

    def reset(self) -> None:
        CONFIG.reset(self.state.config)
        BLOCK.reset(self.state.block)
        self.sync()

    def config_read(self, offset: int, width: int) -> int:
        return CONFIG.read(self.state.config, offset, width)

    def config_write(self, offset: int, width: int, value: int) -> None:
        CONFIG.dispatch(self, CONFIG.write(self.state.config, offset, width, value))

    def port_read(self, offset: int, width: int) -> int:
        return BLOCK.read(self.state.block, offset, width)

    def port_write(self, offset: int, width: int, value: int) -> None:
        BLOCK.dispatch(self, BLOCK.write(self.state.block, offset, width, value))

    def decode_changed(self) -> None:
        self.sync()

    def control_written(self) -> None:
        """SLP_EN starts the transition that SLP_TYP names, and reads as 0. [ds: 7.2, PMCNTRL]"""
        control = BLOCK.get(self.state.block, "PM1_CNT")
        BLOCK.put(self.state.block, "PM1_CNT", control & ~Pm1Cnt.SLP_EN)
        if control & Pm1Cnt.SLP_EN and control & Pm1Cnt.SLP_TYP == SLP_TYP_SOFT_OFF:
            self.power.power_off()
        self.sync()

    def sync(self) -> None:
        """The block is decoded where and while the configuration says so."""
        base = CONFIG.get(self.state.config, "PMBASE") & PMBASE_MASK
        decoded = base and CONFIG.get(self.state.config, "PMREGMISC") & PMIOSE
        if self._claim is not None:
            self.bus.release(self._claim)
            self._claim = None
        self.core.set_pm_base(base if decoded else 0)
        if decoded:
            self._claim = self.bus.place(base, BLOCK_OFFSETS, self, width=4, name="piix4_pm")
        self.core.set_sci_enable(bool(BLOCK.get(self.state.block, "PM1_CNT") & Pm1Cnt.SCI_EN))
