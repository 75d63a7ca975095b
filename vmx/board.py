"""The board: every device of the machine, wired to the buses, the interrupt inputs and the host's ends of its cables.

    00:00.0  440BX host bridge          3F8 IRQ 4   COM1     2F8 IRQ 3   COM2     378 IRQ 7   LPT1
    00:01.0  AGP bridge                 60, 64      keyboard controller, IRQ 1 and 12
    00:07.0  PIIX4 ISA bridge           70, 71      clock and CMOS, IRQ 8
    00:07.1  PIIX4 IDE, IRQ 14 and 15   3F0-3F7     floppy controller, IRQ 6, DMA 2
    00:07.3  PIIX4 power management     510-51B     firmware configuration
    00:0f.0  VGA                        402, F4     debug port and exit port
    00:10.0-13.0  SCSI adapters 0 to 3, where there are any
    00:11.0-18.0  network adapters, in slots that no SCSI adapter has

An interrupt link L = (slot + pin + 1) mod 4 drives I/O APIC input 16 + L, and the ISA IRQ that the PIIX4 routes it to.
The interrupt controllers and timers themselves are the core's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol, TypeVar

from hw.backdoor import Backdoor, BackdoorState, MachineFacts
from hw.bus import PortBus
from hw.debugport import DEBUG_PORT, EXIT_PORT, DebugPort, ExitPort
from hw.dma8237 import Dma8237, DmaState
from hw.dma8237_spec import FIRST_PORT as DMA_FIRST
from hw.dma8237_spec import FIRST_PORTS as DMA_FIRST_PORTS
from hw.dma8237_spec import FLOPPY_CHANNEL, PAGE_PORT, PAGE_PORTS
from hw.dma8237_spec import SECOND_PORT as DMA_SECOND
from hw.dma8237_spec import SECOND_PORTS as DMA_SECOND_PORTS
from hw.fdc import Fdc
from hw.fdc_data import FdcState
from hw.fdc_spec import FIRST_PORT as FDC_PORT
from hw.fdc_spec import FLOPPY_IRQ, RATE_PORT
from hw.fdc_spec import PORTS as FDC_PORTS
from hw.firmware.board import PciInterrupt
from hw.fw_cfg import FwCfg, FwCfgState
from hw.fw_cfg_spec import SELECTOR_PORT as FW_CFG
from hw.i440bx import AgpBridge, I440bx, I440bxState
from hw.i440bx_spec import AGP_SLOT
from hw.i440bx_spec import SLOT as BRIDGE_SLOT
from hw.i8042 import I8042, I8042State
from hw.i8042_spec import COMMAND_PORT, DATA_PORT, KEYBOARD_IRQ, MOUSE_IRQ
from hw.ide.ata import Channel, ChannelState
from hw.ide.ata_disk import AtaDisk
from hw.ide.ata_spec import PRIMARY_IRQ, SECONDARY_IRQ
from hw.ide.atapi import AtapiDrive
from hw.ide.bmide import Piix4Ide, Piix4IdeState
from hw.ide.bmide_spec import SLOT as IDE_SLOT
from hw.lines import SharedLine
from hw.mmio import MmioSpace
from hw.parallel import Parallel, ParallelState
from hw.parallel_spec import LPT1, LPT1_IRQ
from hw.parallel_spec import PORTS as PARALLEL_PORTS
from hw.pci import PciBuses, PciConfigSpace, PciHost, PciHostState, PciLinks
from hw.pci_spec import CONFIG_ADDRESS
from hw.piix4_isa import Piix4Isa, Piix4IsaState
from hw.piix4_isa_spec import SLOT as ISA_SLOT
from hw.piix4_pm import Piix4Pm, Piix4PmState
from hw.piix4_pm_spec import APM_PORTS, APMC_PORT
from hw.piix4_pm_spec import SLOT as PM_SLOT
from hw.reset import PORT_92, A20Gate, FastReset, ResetState
from hw.rtc import CmosFacts, Rtc, RtcState
from hw.rtc_spec import FLOPPY_1440, Boot
from hw.rtc_spec import PORT as CMOS
from hw.rtc_spec import PORTS as CMOS_PORTS
from hw.scsi.cdrom import Cdrom, CdromState
from hw.scsi.wiring import Operator
from hw.uart import Uart, UartState
from hw.uart_spec import COM1, COM1_IRQ, COM2, COM2_IRQ
from hw.uart_spec import PORTS as UART_PORTS
from hw.vga import Vga, VgaState
from hw.vga_spec import SLOT as VGA_SLOT
from hw.wiring import AddressLine20, BytePort, Device, PowerSwitch, ResetSwitch
from vmm.interrupts import LINES, Interrupts, owned_ports
from vmm.memory import GuestMemory
from vmm.nic_hall import NicHall
from vmm.state import StateFile
from vmx.attachments import IDE_PLACES, Attachments, Disc, Disk
from vmx.clock import HostWallClock
from vmx.ide_disk import IdeMedium
from vmx.memory_map import MemoryMap
from vmx.network_adapters import NetworkAdapters, network_sections
from vmx.picture import DirtyLog, Picture
from vmx.removable import RemovableBackends
from vmx.scsi_adapters import ScsiAdapters, scsi_sections
from vmx.video_map import VideoMapping

State = TypeVar("State", bound=ctypes.Structure)

SECTIONS: dict[str, type[ctypes.Structure]] = {
    "uart0": UartState,
    "uart1": UartState,
    "parallel0": ParallelState,
    "dma": DmaState,
    "floppy": FdcState,
    "i8042": I8042State,
    "reset": ResetState,
    "rtc": RtcState,
    "fw_cfg": FwCfgState,
    "pci_host": PciHostState,
    "i440bx": I440bxState,
    "agp_bridge": PciConfigSpace,
    "piix4_isa": Piix4IsaState,
    "piix4_ide": Piix4IdeState,
    "piix4_pm": Piix4PmState,
    "ide0": ChannelState,
    "ide1": ChannelState,
    **{f"cdrom{channel}{unit}": CdromState for channel, unit in IDE_PLACES},
    "vga": VgaState,
    "backdoor": BackdoorState,
}


def sections(attachments: Attachments) -> dict[str, type[ctypes.Structure]]:
    """The devices' parts of the state file of a machine with these attachments."""
    return {**SECTIONS, **scsi_sections(attachments), **network_sections(attachments.nics)}


class BoardHost(PowerSwitch, ResetSwitch, AddressLine20, Protocol):
    """What the board drives outside itself: the power supply, RESET#, INIT# and A20M#; and who calls it back."""

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called soon, under the machine's lock. Any thread."""


class Unplugged:
    """A serial port without a cable."""

    def transmit(self, byte: int) -> None:
        """Nobody is there."""

    def ready(self) -> None:
        """Nobody waits."""


class Board:
    """The devices of one machine, over `state`. `reset` is RESET#; `sync` is for a state that was loaded."""

    def __init__(
        self,
        state: StateFile,
        memory: GuestMemory,
        memory_map: MemoryMap,
        video: VideoMapping,
        interrupts: Interrupts,
        host: BoardHost,
        facts: MachineFacts,
        attachments: Attachments,
        operator: Operator,
        hall: NicHall,
        *,
        local_time: bool = False,
    ) -> None:
        """Wire only. `operator` is whom disks ask; `hall` is the network adapters'; `local_time`: the clock chip is set
        to that instead of UTC."""
        self.state, self.memory, self.interrupts = state, memory, interrupts
        self._local_time, self._operator = local_time, operator
        self.attachments = attachments
        owned = owned_ports()
        self.ports = PortBus(lambda port: port in owned)
        self.mmio = MmioSpace()
        self.devices: list[Device] = []
        self._lines = [SharedLine(interrupts.line(number)) for number in range(LINES)]
        self._buses = PciBuses(self.ports, self.mmio)
        self.links = PciLinks()
        self._build_processor_side(host, facts, memory_map)
        self._build_pci(host, facts)
        self._build_ide()
        self._build_floppy()
        self.scsi = ScsiAdapters(self._section, self._buses, self.links, memory, attachments, host, operator)
        for slot, chip in self.scsi.slots():
            self.pci.attach(*slot, chip)
        self.devices += self.scsi.devices()
        self.network = NetworkAdapters(
            self._section, self._buses, self.links, memory, attachments.nics, attachments.scsi, host, hall
        )
        for slot, nic in self.network.slots():
            self.pci.attach(*slot, nic)
        self.devices += self.network.devices()
        self._build_ports()
        self.vga = Vga(self._section("vga", VgaState), self._buses, video.video_memory(), interrupts, video)
        self.pci.attach(*VGA_SLOT, self.vga)
        self.pictures = DirtyLog(video.dirty)
        self.devices.append(self.vga)

    def _section(self, name: str, kind: type[State]) -> State:
        section = self.state[name]
        assert isinstance(section, kind)
        return section

    # wiring

    def _build_processor_side(self, host: BoardHost, facts: MachineFacts, memory_map: MemoryMap) -> None:
        """What sits between the processors and the rest: bridge, reset, address line 20, the backdoor."""
        gate = A20Gate(host)
        self.fast_reset = FastReset(self._section("reset", ResetState), gate.control(), host)
        self.keyboard_controller = I8042(
            self._section("i8042", I8042State), self._lines[KEYBOARD_IRQ].input(), self._lines[MOUSE_IRQ].input(),
            gate.control(), host,
        )  # fmt: skip
        self.pci = PciHost(self._section("pci_host", PciHostState), self.fast_reset.control)
        self.bridge = I440bx(
            self._section("i440bx", I440bxState), memory_map, facts.memory_mib, bool(self.attachments.firmware)
        )
        self.agp = AgpBridge(self._section("agp_bridge", PciConfigSpace), self._buses)
        self.removable = RemovableBackends(self.attachments)
        self.backdoor = Backdoor(self._section("backdoor", BackdoorState), facts, HostWallClock(), self.removable)
        self.fw_cfg = FwCfg(self._section("fw_cfg", FwCfgState), self.memory)
        self.rtc = Rtc(
            self._section("rtc", RtcState), self.interrupts, HostWallClock(), local_time=self._local_time
        )
        ports = self.ports
        ports.claim(PORT_92, 1, self.fast_reset, name="port 92h")
        ports.claim(DATA_PORT, 1, self.keyboard_controller.data_port, name="i8042 data")
        ports.claim(COMMAND_PORT, 1, self.keyboard_controller.command_port, name="i8042 command")
        ports.claim(CONFIG_ADDRESS, PciHost.PORTS, self.pci, width=PciHost.WIDTH)
        ports.claim(CMOS, CMOS_PORTS, self.rtc, name="rtc")
        if self.attachments.firmware:
            ports.claim(FW_CFG, FwCfg.PORTS, self.fw_cfg, width=FwCfg.WIDTH)
        self.devices += [
            self.fast_reset, self.keyboard_controller, self.pci, self.bridge, self.agp, self.backdoor, self.fw_cfg,
            self.rtc,
        ]  # fmt: skip

    def _build_pci(self, host: BoardHost, facts: MachineFacts) -> None:
        lines = [line.input() for line in self._lines]
        self.isa = Piix4Isa(self._section("piix4_isa", Piix4IsaState), self._buses, self.links, lines)
        self.pm = Piix4Pm(self._section("piix4_pm", Piix4PmState), self.ports, self.interrupts, host)
        self.ports.claim(APMC_PORT, APM_PORTS, self.pm.apm, name="APM")
        for slot, chip in ((BRIDGE_SLOT, self.bridge), (AGP_SLOT, self.agp), (ISA_SLOT, self.isa), (PM_SLOT, self.pm)):
            self.pci.attach(*slot, chip)
        self.devices += [self.isa, self.pm]

    def _build_ide(self) -> None:
        """Two channels with their drives, and the function that masters the bus for them."""
        channels = []
        for number, irq in enumerate((PRIMARY_IRQ, SECONDARY_IRQ)):
            state = self._section(f"ide{number}", ChannelState)
            channel = Channel(state, self._lines[irq].input())
            for unit in range(2):
                self._attach_drive(channel, number, unit)
            channels.append(channel)
        self.ide = Piix4Ide(
            self._section("piix4_ide", Piix4IdeState), self._buses, self.memory, (channels[0], channels[1])
        )
        self.channels = channels
        self.pci.attach(*IDE_SLOT, self.ide)
        self.devices += [*channels, self.ide]

    def _attach_drive(self, channel: Channel, number: int, unit: int) -> None:
        drive, state = self.attachments.drives.get((number, unit)), channel.state.drives[unit]
        if isinstance(drive, Disk):
            medium = IdeMedium(drive.medium, f"ide{number}:{unit}")
            channel.attach(unit, AtaDisk(state, channel, medium, self._operator))
        elif isinstance(drive, Disc):
            target = Cdrom(self._section(f"cdrom{number}{unit}", CdromState), drive.tray, drive.tray.medium)
            drive.tray.attach(target)
            channel.attach(unit, AtapiDrive(state, channel, target))

    def _build_floppy(self) -> None:
        """The DMA controllers, and the floppy controller with its one drive, if there is one."""
        self.dma = Dma8237(self._section("dma", DmaState), self.memory)
        slot = self.attachments.floppy
        drives = [] if slot is None else [slot.diskette]
        self.floppy = Fdc(
            self._section("floppy", FdcState), self._lines[FLOPPY_IRQ].input(), self.dma, FLOPPY_CHANNEL, drives
        )
        self.dma.connect(FLOPPY_CHANNEL, self.floppy.channel_opened)
        if slot is not None:
            slot.attach(self.floppy, 0)
        ports = self.ports
        ports.claim(DMA_FIRST, DMA_FIRST_PORTS, self.dma.first, name="DMA 1")
        ports.claim(DMA_SECOND, DMA_SECOND_PORTS, self.dma.second, name="DMA 2")
        ports.claim(PAGE_PORT, PAGE_PORTS, self.dma.pages, name="DMA pages")
        ports.claim(FDC_PORT, FDC_PORTS, self.floppy, name="floppy")
        ports.claim(RATE_PORT, 1, self.floppy.rate_port, name="floppy rate")
        self.devices += [self.dma, self.floppy]

    def _build_ports(self) -> None:
        """Serial, parallel, and the two ports that no PC has."""
        self.uarts = []
        for number, (base, irq) in enumerate(((COM1, COM1_IRQ), (COM2, COM2_IRQ))):
            far_end: BytePort = self.attachments.serials[number] or Unplugged()
            uart = Uart(self._section(f"uart{number}", UartState), self._lines[irq].input(), far_end)
            self.ports.claim(base, UART_PORTS, uart, name=f"COM{number + 1}")
            self.uarts.append(uart)
            self.devices.append(uart)
        self.parallel = Parallel(
            self._section("parallel0", ParallelState), self._lines[LPT1_IRQ].input(), self.attachments.printer
        )
        self.ports.claim(LPT1, PARALLEL_PORTS, self.parallel, name="LPT1")
        self.devices.append(self.parallel)

    def claim_debug_ports(self, host: PowerSwitch) -> None:
        """Ports 402h and F4h, for those who write firmware and toy kernels."""
        self.ports.claim(DEBUG_PORT, 1, DebugPort(self.attachments.debug_sink))
        self.ports.claim(EXIT_PORT, 1, ExitPort(host))

    def picture(self) -> Picture:
        """The screen, for one more viewer."""
        return Picture(self.vga, self.pictures)

    # as a whole

    def reset(self) -> None:
        """RESET# to every device, once no disk is at work any more."""
        self.scsi.abandon()
        for device in self.devices:
            device.reset()

    def sync(self) -> None:
        """Drive every output from a state that was loaded. No line makes an edge on the way."""
        for line in self._lines:
            line.disconnect()
        for device in self.devices:
            device.sync()
        for line in self._lines:
            line.connect()

    def interrupt_pins(self) -> tuple[PciInterrupt, ...]:
        """The PCI interrupt pins that functions of the root bus drive."""
        return self.scsi.interrupt_pins() + self.network.interrupt_pins()

    def close(self) -> None:
        """Nothing is under way any more."""
        try:
            self.network.close()
        finally:
            self.scsi.close()

    def configure_cmos(self, memory_mib: int, vcpus: int, boot: tuple[Boot, ...]) -> None:
        """What firmware finds in CMOS."""
        floppies = 0 if self.attachments.floppy is None else FLOPPY_1440 << 4
        self.rtc.configure(CmosFacts(memory_mib << 10, vcpus, floppies, boot))
