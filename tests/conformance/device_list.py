"""Every device of hw/, once: how to build it, where it answers, and which of its bits do more than their masks say.

A new device is one more row of DEVICES, with a function that plugs it into a board. Everything else follows from it.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from hw.backdoor import BackdoorState
from hw.dma8237 import DmaState
from hw.fw_cfg import FwCfgState
from hw.i440bx import I440bxState, row_boundaries
from hw.i440bx_spec import AGP_BRIDGE, BRIDGE, ID_440FX
from hw.i8042 import I8042State
from hw.ide import bmide_spec
from hw.parallel import ParallelState
from hw.pci import PciConfigSpace, PciHostState
from hw.pci_spec import LATCHED
from hw.piix4_isa import Piix4IsaState
from hw.piix4_isa_spec import BRIDGE as ISA_BRIDGE
from hw.piix4_pm import Piix4PmState
from hw.piix4_pm_spec import APM_PORTS, APMC_PORT, CORE_OFFSETS
from hw.piix4_pm_spec import BLOCK as PM_BLOCK
from hw.piix4_pm_spec import CONFIG as PM_CONFIG
from hw.piix4_pm_spec import SMBUS as PM_SMBUS
from hw.reset import ResetState
from hw.rtc import RtcState
from hw.uart import UartState
from hw.vga import VgaState
from hw.vga_spec import ATTRIBUTE, CRT, GRAPHICS, SEQUENCER, config_bank
from ringfence.registers import Reg, RegBank
from tests.conformance import device_builders as builders
from tests.conformance import device_scripts as scripts
from tests.conformance.board import CONFIG_WINDOW, Access
from tests.conformance.device_builders import FRAMEBUFFER_BYTES, MEMORY_MIB, Adapter
from tests.conformance.network_adapters import NETWORK_ADAPTERS
from tests.conformance.scsi_adapters import SCSI_ADAPTERS
from tests.conformance.specimen import Bank, Indexed, Specimen, out
from tests.hw.ide import board as ide_board

# rows of devices that keep their registers in their own way

UART_ROWS = RegBank(
    "uart", 8, Reg(1, "IER", 1, 0, 0x0F), Reg(3, "LCR", 1, 0, 0xFF), Reg(4, "MCR", 1, 0, 0x1F), Reg(5, "LSR", 1, 0x60),
    Reg(6, "MSR", 1, 0xB0), Reg(7, "SCR", 1, 0, 0xFF),
)  # fmt: skip
PARALLEL_ROWS = RegBank("parallel", 3, Reg(0, "DATA", 1, 0, 0xFF), Reg(2, "CONTROL", 1, 0xC0, 0x3F))
HOST_ROWS = RegBank("pci_host", 4, Reg(0, "CONFADD", 4, 0, int(LATCHED)))
CMOS_ROWS = RegBank(
    "cmos", 128, Reg(0x0D, "D", 1, 0x80),
    *(Reg(index, f"CMOS_{index:02X}", 1, 0, 0xFF) for index in range(0x0E, 0x80) if index != 0x32),
)  # fmt: skip
PORT_92_ROWS = RegBank("port_92", 1, Reg(0, "PORT92", 1, 0, 0x03))
RESET_ROWS = RegBank("reset_control", 1, Reg(0, "RC", 1, 0, 0x06))

# how the windows of a function are opened

IDE_SETUP = (
    out(CONFIG_WINDOW + 0x20, 4, ide_board.BMIBA), out(CONFIG_WINDOW + 0x40, 4, 0x80008000),
    out(CONFIG_WINDOW + 0x04, 2, 5),
)  # fmt: skip
PM_BASE, SMBUS_BASE = 0x5000, 0x5100
PM_SETUP = (
    out(CONFIG_WINDOW + 0x40, 4, PM_BASE), out(CONFIG_WINDOW + 0x80, 1, 1), out(CONFIG_WINDOW + 0x90, 4, SMBUS_BASE),
    out(CONFIG_WINDOW + 0xD2, 1, 1),
)  # fmt: skip
VGA_SETUP = (out(0x3C2, 1, 0x67), out(CONFIG_WINDOW + 0x10, 4, 0x7000), out(CONFIG_WINDOW + 0x04, 2, 7))
VGA_COLOUR = (out(0x3C2, 1, 0x67),)
ADAPTER_PORTS, ADAPTER_MEMORY = 0x6000, 0x80001000
ADAPTER_SETUP = (
    out(CONFIG_WINDOW + 0x10, 4, ADAPTER_PORTS), out(CONFIG_WINDOW + 0x14, 4, ADAPTER_MEMORY),
    out(CONFIG_WINDOW + 0x18, 4, 0x90000000), out(CONFIG_WINDOW + 0x04, 2, 7),
)  # fmt: skip
CRT_LOCK = next(row.name for row in CRT.rows if row.offset == 0x11)  # its bit 7 locks the first eight
CONFIG_PORTS = (CONFIG_WINDOW, 256)


def config_of(state: Any) -> MutableSequence[int]:
    store: MutableSequence[int] = state.config
    return store


DEVICES = (
    Specimen(
        name="uart", state=UartState, build=builders.build_uart, ports=[(0x3F8, 8)],
        banks=[Bank(bank=UART_ROWS, window=0x3F8, acts={"MCR": 0x10, "MSR": 0xFF})],
    ),
    Specimen(
        name="pci_host", state=PciHostState, build=builders.build_pci_host, ports=[(0xCF8, 8)], values=[0x80000000],
        banks=[Bank(bank=HOST_ROWS, window=0xCF8)],
    ),
    Specimen(
        name="i440bx", state=I440bxState, build=builders.build_i440bx, ports=[CONFIG_PORTS, (CONFIG_WINDOW + 0x58, 8)],
        values=[0x10_00_00_00, 0x30_00_00_00, 0x1000],
        banks=[Bank(
            bank=BRIDGE, window=CONFIG_WINDOW, store=config_of,
            acts={"APBASE": 0x0FC00000, "SMRAM": 0x58}, driven={"DID": 0xFFFF, "SMRAM": 0x78, "APBASE": 0xFFFFFFFF},
            resets={"DID": ID_440FX, **{f"DRB{row}": end for row, end in enumerate(row_boundaries(MEMORY_MIB))}},
        )],
    ),
    Specimen(
        name="agp_bridge", state=PciConfigSpace, build=builders.build_agp, ports=[CONFIG_PORTS],
        banks=[Bank(bank=AGP_BRIDGE, window=CONFIG_WINDOW, store=config_of)],
    ),
    Specimen(
        name="piix4_isa", state=Piix4IsaState, build=builders.build_isa,
        ports=[CONFIG_PORTS, (CONFIG_WINDOW + 0x60, 4)],
        banks=[Bank(bank=ISA_BRIDGE, window=CONFIG_WINDOW, store=config_of)],
    ),
    Specimen(
        name="piix4_pm", state=Piix4PmState, build=builders.build_pm, setup=PM_SETUP,
        ports=[CONFIG_PORTS, (APMC_PORT, APM_PORTS), (PM_BASE, 64), (SMBUS_BASE, 16), (CONFIG_WINDOW + 0x40, 4)],
        values=[0xF0, 0xF1, 0x2000, PM_BASE, SMBUS_BASE, CONFIG_WINDOW],
        banks=[
            Bank(bank=PM_CONFIG, window=CONFIG_WINDOW, store=config_of),
            Bank(
                bank=PM_BLOCK, window=PM_BASE, store=lambda state: state.block, setup=PM_SETUP,
                acts={"PM1_CNT": 0x2004}, elsewhere=CORE_OFFSETS,
            ),
            Bank(
                bank=PM_SMBUS, window=SMBUS_BASE, store=lambda state: state.smbus, setup=PM_SETUP,
                acts={"SMBHSTCNT": 0x40}, driven={"SMBHSTSTS": 0x1F},
            ),
        ],
    ),
    Specimen(
        name="ide", state=ide_board.IdeBoardState, build=builders.build_ide, setup=IDE_SETUP,
        script=scripts.ide_script, weight=4,
        ports=[(0x1F0, 8), (0x170, 8), (0x3F6, 1), (0x376, 1), (ide_board.BMIBA, 16), CONFIG_PORTS],
        banks=[
            Bank(
                bank=bmide_spec.CONFIG, window=CONFIG_WINDOW, store=lambda state: state.ide.config,
                resets={"BAR4": ide_board.BMIBA | 1, "PCICMD": 5, "IDETIM_PRI": 0x8000, "IDETIM_SEC": 0x8000},
            ),
            Bank(
                bank=bmide_spec.BLOCK, window=ide_board.BMIBA, store=lambda state: state.ide.block, setup=IDE_SETUP,
                driven={"BMISP": 0x01, "BMISS": 0x01},
            ),
        ],
    ),
    Specimen(
        name="ata_disk", state=ide_board.IdeBoardState, build=builders.build_ide, setup=IDE_SETUP, weight=8,
        ports=[(0x1F0, 8), (0x1F0, 1), (0x3F6, 1), (ide_board.BMIBA, 8)],
        script=scripts.channel_script(0x1F0, ide_board.BMIBA),
    ),
    Specimen(
        name="atapi", state=ide_board.IdeBoardState, build=builders.build_ide, setup=IDE_SETUP, weight=8,
        ports=[(0x170, 8), (0x170, 1), (0x376, 1), (ide_board.BMIBA + 8, 8)],
        script=scripts.channel_script(0x170, ide_board.BMIBA + 8),
    ),
    Specimen(
        name="fw_cfg", state=FwCfgState, build=builders.build_fw_cfg, ports=[(0x510, 12)], script=scripts.fw_cfg_script,
        values=[0x19, 0x20, 0x8000],
    ),
    Specimen(
        name="rtc", state=RtcState, build=builders.build_rtc, ports=[(0x70, 2), (0x71, 1)],
        values=[*range(0x0F), 0x32, 0x26, 0x82, 0x59],
        banks=[Bank(bank=CMOS_ROWS, window=Indexed(0x70, 0x71, 0x71), store=lambda state: state.cmos)],
        kept=["seconds", "second_ns", "index", "weekday_shift", "cmos"],
    ),
    Specimen(
        name="i8042", state=I8042State, build=builders.build_i8042, ports=[(0x60, 1), (0x64, 1)],
        script=scripts.i8042_script, weight=2,
        values=[0x60, 0x47, 0xD4, 0xAE, 0xA8, 0xD3, 0xF2, 0xF3, 0xF4, 0xC8, 0x64, 0x50, 0xF0, 0xEB],
    ),
    Specimen(
        name="parallel", state=ParallelState, build=builders.build_parallel, ports=[(0x378, 3)],
        banks=[Bank(bank=PARALLEL_ROWS, window=0x378)],
    ),
    Specimen(
        name="reset", state=ResetState, build=builders.build_reset, ports=[(0x92, 1), (0xCF9, 1)],
        banks=[Bank(bank=PORT_92_ROWS, window=0x92), Bank(bank=RESET_ROWS, window=0xCF9)],
    ),
    Specimen(
        name="dma8237", state=DmaState, build=builders.build_dma8237, script=scripts.dma8237_script,
        ports=[(0x00, 16), (0xC0, 32), (0x81, 15)], before_reset=[Access("event", 3, 4, 0)],
    ),
    Specimen(
        name="fdc", state=builders.FloppyState, build=builders.FloppyController, script=scripts.fdc_script, weight=4,
        ports=[(0x3F0, 8), (0x00, 16), (0xC0, 32), (0x81, 15)], values=[0x1C, 0x0C, 0x46, 0x4A, 0xE6, 0xC5],
        before_reset=[Access("event", 1, 4, 0)], kept=["fdc.drives"],
    ),
    Specimen(
        name="vga", state=VgaState, build=builders.build_vga, setup=VGA_SETUP, script=scripts.vga_script,
        ports=[(0x3B4, 8), (0x3C0, 32), (0x1CE, 4), (0x7000, 16), CONFIG_PORTS], memory=[(0xA0000, 0x20000)],
        values=[0x67, 0xE0000000, 0x7000, 7], kept=["palette", "layout"],
        banks=[
            Bank(bank=config_bank(FRAMEBUFFER_BYTES), window=CONFIG_WINDOW, store=config_of),
            Bank(bank=SEQUENCER, window=Indexed(0x3C4, 0x3C5, 0x3C5), store=lambda state: state.sequencer),
            Bank(bank=GRAPHICS, window=Indexed(0x3CE, 0x3CF, 0x3CF), store=lambda state: state.graphics),
            Bank(
                bank=CRT, window=Indexed(0x3D4, 0x3D5, 0x3D5), store=lambda state: state.crt, setup=VGA_COLOUR,
                acts={CRT_LOCK: 0x80},
            ),
            Bank(
                bank=ATTRIBUTE, window=Indexed(0x3C0, 0x3C0, 0x3C1, (Access("in", 0x3DA, 1, 0),)),
                store=lambda state: state.attribute, setup=VGA_COLOUR,
            ),
        ],
    ),
    Specimen(name="backdoor", state=BackdoorState, build=builders.build_backdoor),
    Specimen(
        name="pci_function", state=PciConfigSpace, build=builders.build_adapter, setup=ADAPTER_SETUP,
        ports=[CONFIG_PORTS, (CONFIG_WINDOW + 0x10, 12), (ADAPTER_PORTS, 32)], memory=[(ADAPTER_MEMORY, 0x1000)],
        values=[ADAPTER_PORTS, ADAPTER_MEMORY, 0x90000000, 7, 0],
        banks=[Bank(
            bank=Adapter.CONFIG, window=CONFIG_WINDOW, store=config_of, acts={"INTLN": 0xFF}, resets={"INTLN": 0xFF},
        )],
    ),
    *SCSI_ADAPTERS,
    *NETWORK_ADAPTERS,
)  # fmt: skip
