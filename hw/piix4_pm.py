"""PIIX4 power-management function: the ACPI registers, soft-off, the APM ports and the SMBus host.

PMBASE (configuration register 40h) places a block of 64 ports once PMREGMISC.PMIOSE is set. PM1_STS, PM1_EN and the PM
timer in that block belong to the core, which is told the base; SLP_EN with SLP_TYP 0 in PM1_CNT is soft-off.
SMBBASE (90h) places 16 ports once SMBHSTCFG.HST_EN is set. The bus is empty, so each transfer ends at once with a
device error. APMC (B2h) obeys the two commands by which an operating system turns ACPI on and off.
Not modelled: general-purpose events, throttling, system management interrupts, SMBus interrupts (drivers poll), sleep
states other than soft-off (SLP_EN is then ignored).
Source: Intel 82371AB (PIIX4) data sheet, cited as [ds].
"""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, sizeof
from typing import Protocol

from hw.bus import Claim, PortBus
from hw.piix4_pm_spec import (
    APM_PORTS,
    BLOCK,
    BLOCK_OFFSETS,
    BLOCK_PORTS,
    CONFIG,
    CONFIG_BYTES,
    PMBASE_MASK,
    PMIOSE,
    SLP_TYP_SOFT_OFF,
    SMBBASE_MASK,
    SMBUS,
    SMBUS_PORTS,
    ApmCommand,
    Pm1Cnt,
    SmbControl,
    SmbHostConfig,
    SmbStatus,
)
from hw.wiring import PowerSwitch


class PmCore(Protocol):
    """The core's share of the block."""

    def set_pm_base(self, port: int) -> None:
        """First port of the block; 0 while it is not decoded."""

    def set_sci_enable(self, on: bool) -> None: ...


class Piix4PmState(LittleEndianStructure):
    """All guest-visible state that is not the core's."""

    _fields_ = [
        ("config", c_uint8 * CONFIG_BYTES),
        ("block", c_uint8 * BLOCK_PORTS),
        ("smbus", c_uint8 * SMBUS_PORTS),
        ("apm", c_uint8 * APM_PORTS),
    ]


assert sizeof(Piix4PmState) == CONFIG_BYTES + BLOCK_PORTS + SMBUS_PORTS + APM_PORTS


class Piix4Pm:
    """Function 3 of the PIIX4. Ports B2h and B3h are answered by `apm`, wherever they are claimed."""

    State = Piix4PmState

    def __init__(self, state: Piix4PmState, bus: PortBus, core: PmCore, power: PowerSwitch) -> None:
        self.state, self.bus, self.core, self.power = state, bus, core, power
        self.smbus, self.apm = SmbusHost(state), ApmPorts(self)
        self._bases = (0, 0)  # of the block and of the SMBus host, as they are decoded now
        self._claims: list[Claim] = []

    def reset(self) -> None:
        CONFIG.reset(self.state.config)
        BLOCK.reset(self.state.block)
        SMBUS.reset(self.state.smbus)
        self.state.apm[:] = [0] * APM_PORTS
        self.sync()

    # from the guest

    def config_read(self, offset: int, width: int) -> int:
        return CONFIG.read(self.state.config, offset, width)

    def config_write(self, offset: int, width: int, value: int) -> None:
        CONFIG.dispatch(self, CONFIG.write(self.state.config, offset, width, value))

    def port_read(self, offset: int, width: int) -> int:
        return BLOCK.read(self.state.block, offset, width)

    def port_write(self, offset: int, width: int, value: int) -> None:
        BLOCK.dispatch(self, BLOCK.write(self.state.block, offset, width, value))

    def acpi_enabled(self, on: bool) -> None:
        """The operating system takes the power-management events, or gives them back to firmware."""
        control = BLOCK.get(self.state.block, "PM1_CNT") & ~Pm1Cnt.SCI_EN
        BLOCK.put(self.state.block, "PM1_CNT", control | (Pm1Cnt.SCI_EN if on else 0))
        self.sync()

    # register handlers

    def decode_changed(self) -> None:
        self.sync()

    def control_written(self) -> None:
        """SLP_EN starts the transition that SLP_TYP names; it and GBL_RLS read as 0. [ds: PMCNTRL]"""
        control = BLOCK.get(self.state.block, "PM1_CNT")
        BLOCK.put(self.state.block, "PM1_CNT", control & ~(Pm1Cnt.SLP_EN | Pm1Cnt.GBL_RLS))
        if control & Pm1Cnt.SLP_EN and control & Pm1Cnt.SLP_TYP == SLP_TYP_SOFT_OFF:
            self.power.power_off()
        self.sync()

    def sync(self) -> None:
        """Both blocks are decoded where and while the configuration says so; where they overlap, the first answers."""
        config = self.state.config
        on = CONFIG.get(config, "PMREGMISC") & PMIOSE
        block = CONFIG.get(config, "PMBASE") & PMBASE_MASK if on else 0
        on = CONFIG.get(config, "SMBHSTCFG") & SmbHostConfig.HST_EN
        smbus = CONFIG.get(config, "SMBBASE") & SMBBASE_MASK if on else 0
        self.core.set_pm_base(block)
        if self._bases != (block, smbus):
            self._bases = (block, smbus)
            self._decode(block, smbus)
        self.core.set_sci_enable(bool(BLOCK.get(self.state.block, "PM1_CNT") & Pm1Cnt.SCI_EN))

    def _decode(self, block: int, smbus: int) -> None:
        """Always in this order, so that what answers follows from the registers and not from how they came to be so."""
        for claim in self._claims:
            self.bus.release(claim)
        self._claims = []
        if block:
            self._claims.append(self.bus.place(block, BLOCK_OFFSETS, self, width=4, name="piix4_pm"))
        if smbus:
            ports = range(SMBUS_PORTS)
            self._claims.append(self.bus.place(smbus, ports, self.smbus, width=4, name="piix4_smbus"))


class SmbusHost:
    """The SMBus host controller, on a bus without devices."""

    def __init__(self, state: Piix4PmState) -> None:
        self.state = state

    def port_read(self, offset: int, width: int) -> int:
        return SMBUS.read(self.state.smbus, offset, width)

    def port_write(self, offset: int, width: int, value: int) -> None:
        SMBUS.dispatch(self, SMBUS.write(self.state.smbus, offset, width, value))

    def command_written(self) -> None:
        """START gets no acknowledgement; KILL ends the transfer as FAILED. START reads as 0. [ds: SMBHSTCNT]"""
        store = self.state.smbus
        control = SMBUS.get(store, "SMBHSTCNT")
        SMBUS.put(store, "SMBHSTCNT", control & ~SmbControl.START)
        status = SMBUS.get(store, "SMBHSTSTS") & ~SmbStatus.HOST_BUSY
        if control & SmbControl.KILL:
            status |= SmbStatus.FAILED
        elif control & SmbControl.START:
            status |= SmbStatus.DEV_ERR
        SMBUS.put(store, "SMBHSTSTS", status)


class ApmPorts:
    """APMC and APMS: both are stored."""

    def __init__(self, chip: Piix4Pm) -> None:
        self.chip = chip

    def port_read(self, offset: int, width: int) -> int:
        return int(self.chip.state.apm[offset])

    def port_write(self, offset: int, width: int, value: int) -> None:
        self.chip.state.apm[offset] = value & 0xFF
        if offset == 0 and value in {ApmCommand.ACPI_ENABLE, ApmCommand.ACPI_DISABLE}:
            self.chip.acpi_enabled(value == ApmCommand.ACPI_ENABLE)
