"""Plugs each device into a board, with neighbours that log or hold what it drives."""

from __future__ import annotations

from ctypes import LittleEndianStructure
from typing import Any

import numpy as np

from hw.backdoor import Backdoor, MachineFacts
from hw.backdoor_spec import MAGIC, PORT, PointerCommand
from hw.dma8237 import Dma8237, DmaState
from hw.fdc import Fdc
from hw.fdc_data import FdcState
from hw.fw_cfg import FwCfg
from hw.i440bx import AgpBridge, I440bx
from hw.i8042 import I8042
from hw.parallel import Parallel
from hw.pci import PciConfigSpace, PciDevice, PciHost
from hw.pci_spec import CONFIG_ADDRESS
from hw.piix4_isa import Piix4Isa
from hw.piix4_pm import Piix4Pm
from hw.piix4_pm_spec import APM_PORTS, APMC_PORT
from hw.reset import FastReset
from hw.rtc import Rtc
from hw.uart import Uart
from hw.vga import Vga
from hw.vga_memory import VideoMemory
from hw.vga_spec import PAGE_BYTES, VGA_BYTES
from ringfence.pci_header import IoBar, MemBar, PciIds, Pin, RomBar, header
from ringfence.registers import RegBank
from tests.conformance.board import A20, Board, PowerAndReset
from tests.conformance.specimen import Device
from tests.hw.ide import board as ide_board

MEMORY_MIB = 64
FRAMEBUFFER_BYTES = 1 << 20
GUEST_TIME_0 = 1_699_999_990_000_000_000  # wall time at power-on
FLOPPY_CHANNEL, SOUND_CHANNEL = 2, 5


def build_uart(board: Board, state: Any) -> Device:
    class FarEnd:
        transmit, ready = staticmethod(board.act("sent")), staticmethod(board.act("ready"))

    uart = Uart(state, board.lines[4], FarEnd())
    board.ports.claim(0x3F8, 8, uart)
    board.events += [
        lambda value: uart.received(value & 0xFF, value >> 8 & 0xFF),
        lambda value: uart.set_inputs(value & 0xFF),
    ]
    return uart


def build_pci_host(board: Board, state: Any) -> Device:
    host = PciHost(state)
    board.ports.claim(CONFIG_ADDRESS, PciHost.PORTS, host, width=PciHost.WIDTH)
    return host


def build_i440bx(board: Board, state: Any) -> Device:
    class Shadow:
        set_shadow, set_smram = staticmethod(board.level("shadow")), staticmethod(board.level("smram"))

    bridge = I440bx(state, Shadow(), MEMORY_MIB)
    board.config(bridge)
    return bridge


def build_agp(board: Board, state: Any) -> Device:
    bridge = AgpBridge(state, board.buses)
    board.config(bridge)
    return bridge


def build_isa(board: Board, state: Any) -> Device:
    isa = Piix4Isa(state, board.buses, board.links, board.lines)
    board.config(isa)
    pins = [board.links.pin(16, Pin.INTA), board.links.pin(18, Pin.INTB), board.links.pin(17, Pin.INTC)]

    def drive(index: int, level: bool) -> None:
        board.world[f"pin {index}"] = level
        pins[index].set_level(level)

    for index in range(len(pins)):
        drive(index, bool(board.world.get(f"pin {index}")))
    board.events.append(lambda value: drive(value % len(pins), bool(value & 0x100)))
    return isa


def build_pm(board: Board, state: Any) -> Device:
    class Core:
        set_pm_base, set_sci_enable = staticmethod(board.level("pm base")), staticmethod(board.level("sci enable"))

    pm = Piix4Pm(state, board.ports, Core(), PowerAndReset(board))
    board.ports.claim(APMC_PORT, APM_PORTS, pm.apm)
    board.config(pm)
    return pm


def build_ide(board: Board, state: Any) -> Device:
    class Around:
        lines, dma = board.lines, staticmethod(board.ram.dma)

    device = ide_board.IdeBoard(state, board.ports, Around())
    board.config(device.ide)
    board.events.append(lambda value: device.exchange())
    return device


def build_fw_cfg(board: Board, state: Any) -> Device:
    config = FwCfg(state, board.ram)
    config.add_file("etc/test", bytes(range(200)))
    board.ports.claim(0x510, FwCfg.PORTS, config, width=FwCfg.WIDTH)
    return config


def build_rtc(board: Board, state: Any) -> Device:
    class Core:
        @property
        def now_ns(self) -> int:
            return board.clock.ns - GUEST_TIME_0

        def program_rtc(self, *values: int) -> None:
            assert all(0 <= value < 1 << 64 for value in values)
            board.levels["rtc"] = values

        def read_rtc_c(self) -> int:
            return 0xA0

    def advance(value: int) -> None:
        board.clock.ns += value
        rtc.sync()

    rtc = Rtc(state, Core(), board.clock)
    board.ports.claim(0x70, 2, rtc)
    board.events.append(advance)
    return rtc


def build_i8042(board: Board, state: Any) -> Device:
    chip = I8042(state, board.lines[1], board.lines[12], A20(board), PowerAndReset(board))
    board.ports.claim(0x60, 1, chip.data_port)
    board.ports.claim(0x64, 1, chip.command_port)
    def press(value: int) -> None:
        board.acts.append(chip.key(value & 0xFFFF, bool(value & 1 << 16)))

    board.events += [
        press,
        lambda value: chip.move(value & 0x3FF, -(value >> 8 & 0x3FF), value >> 18 & 7, value >> 20),
    ]
    return chip


class Printer:
    """Takes bytes, and is never busy."""

    def __init__(self, board: Board) -> None:
        self.printed = board.act("printed")

    def __call__(self, byte: int) -> None:
        self.printed(byte)

    def is_busy(self) -> bool:
        return False


def build_parallel(board: Board, state: Any) -> Device:
    parallel = Parallel(state, board.lines[7], Printer(board))
    board.ports.claim(0x378, 3, parallel)
    return parallel


def build_reset(board: Board, state: Any) -> Device:
    fast = FastReset(state, A20(board), PowerAndReset(board))
    board.ports.claim(0x92, 1, fast)
    board.ports.claim(0xCF9, 1, fast.control)
    return fast


def build_backdoor(board: Board, state: Any) -> Device:
    """Its calls are events, since it is on no bus; the registers after each are an act."""

    class Cpu:
        cpl = 3
        gpr: Any = [0] * 8

    def call(command: int, argument: int) -> None:
        cpu = Cpu()
        cpu.cpl = argument & 3
        cpu.gpr = [MAGIC, command, PORT, argument, 1, 2, 3, 4]
        door.call(PORT, cpu)
        assert all(0 <= value < 1 << 32 for value in cpu.gpr)
        board.acts.append(("answered", *cpu.gpr))

    door = Backdoor(state, MachineFacts(MEMORY_MIB, 2_000_000_000, 100_000_000, bytes(range(16))), board.clock)
    board.events += [
        lambda value: call(value & 0x3F, value >> 6 & 0xFFFF),
        lambda value: call(value & 0xFFFF, value),
        lambda value: call(6 + value % 4, value >> 24),
        lambda value: call(39 + value % 3, value >> 29),
        lambda value: call(41, (*PointerCommand, value)[value % 5]),
        lambda value: board.acts.append(door.pointer.point(value >> 16, value & 0xFFFF, -(value & 3), value & 7)),
        lambda value: board.acts.append(door.pointer.move(value >> 24, -(value & 0xFF), value & 3, value & 7)),
        lambda value: door.grab(value >> 16, value & 0xFFFF) if value & 1 else door.ungrab(),
        lambda value: door.clipboard.set_text(bytes(value & 0x3F)),
    ]
    return door


class Adapter(PciDevice):
    """A function with windows of every kind, for the bus itself; its registers read as their offsets."""

    BARS = (IoBar(0, 32), MemBar(1, 0x1000), MemBar(2, 0x100000, direct=True), RomBar(0x8000))
    CONFIG = RegBank("adapter", 256, *header(PciIds(0x1022, 0x2000, 0x020000), BARS, pin=Pin.INTA))

    def __init__(self, state: PciConfigSpace, board: Board) -> None:
        super().__init__(state.config, board.buses, board.links.pin(17, Pin.INTA))
        self.state, self.board = state, board
        self.port_write = self.mmio_write = board.act("stored")

    def reset(self) -> None:
        self.reset_config()
        self.sync()

    def sync(self) -> None:
        self.map_bars()

    def window_moved(self, index: int, base: int | None) -> None:
        if base is None:
            self.board.levels.pop(f"window {index}", None)
        else:
            self.board.levels[f"window {index}"] = base

    def port_read(self, offset: int, width: int) -> int:
        return offset

    mmio_read = port_read


def build_adapter(board: Board, state: Any) -> Device:
    adapter = Adapter(state, board)
    board.config(adapter)
    return adapter


def build_dma8237(board: Board, state: Any) -> Device:
    """With a device on each of two channels, one of bytes and one of words."""

    def transfer(channel: int, value: int) -> None:
        if dma.granted(channel):
            data = memoryview(bytearray([value & 0xFF]) * (value >> 8 & 0x3FF))
            board.acts.append(dma.write_memory(channel, data) if value & 1 << 20 else dma.read_memory(channel, data))
            board.acts.append(bytes(data))

    dma = Dma8237(state, board.ram)
    claim_dma(board, dma)
    for channel in (FLOPPY_CHANNEL, SOUND_CHANNEL):
        dma.connect(channel, lambda channel=channel: board.acts.append(("opened", channel)))  # type: ignore[misc]
    board.events += [
        lambda value: dma.request((FLOPPY_CHANNEL, SOUND_CHANNEL)[value & 1], bool(value & 0x100)),
        lambda value: transfer(FLOPPY_CHANNEL, value),
        lambda value: transfer(SOUND_CHANNEL, value),
        lambda value: withdraw(dma),
    ]
    return dma


def withdraw(dma: Dma8237) -> None:
    """No device requests anything."""
    for channel in range(8):
        dma.request(channel, False)


def claim_dma(board: Board, dma: Dma8237) -> None:
    board.ports.claim(0x00, 16, dma.first, name="first 8237")
    board.ports.claim(0xC0, 32, dma.second, name="second 8237")
    board.ports.claim(0x81, 15, dma.pages, name="pages")


class FloppyState(LittleEndianStructure):
    """The floppy controller and the DMA controllers that it needs."""

    _fields_ = [("fdc", FdcState), ("dma", DmaState)]


class PatternDiskette(ide_board.PatternBlocks):
    """1.44 MB, some of it bad."""

    writable = True

    def __init__(self) -> None:
        super().__init__(2880, 512)


class FloppyController:
    """Both as one device."""

    def __init__(self, board: Board, state: Any) -> None:
        self.board = board
        self.dma = Dma8237(state.dma, board.ram)
        diskette = PatternDiskette() if board.world.get("diskette", 1) else None
        self.fdc = Fdc(state.fdc, board.lines[6], self.dma, FLOPPY_CHANNEL, (diskette, None))
        self.dma.connect(FLOPPY_CHANNEL, self.fdc.channel_opened)
        claim_dma(board, self.dma)
        board.ports.claim(0x3F0, 6, self.fdc)
        board.ports.claim(0x3F7, 1, self.fdc.rate_port)
        board.events += [self.change, lambda value: withdraw(self.dma)]

    def change(self, value: int) -> None:
        """The diskette comes or goes."""
        self.board.world["diskette"] = value & 1
        if value & 1:
            self.fdc.insert(0, PatternDiskette())
        else:
            self.fdc.remove(0)

    def reset(self) -> None:
        self.dma.reset()
        self.fdc.reset()

    def sync(self) -> None:
        self.dma.sync()
        self.fdc.sync()


def build_vga(board: Board, state: Any) -> Device:
    """Video memory is the board's: it survives a reset, and a rebuilt adapter finds it as it was."""

    class Video:
        set_window, set_framebuffer = staticmethod(board.level("window")), staticmethod(board.level("framebuffer"))
        set_rom = staticmethod(board.level("rom"))

    class GuestClock:
        @property
        def now_ns(self) -> int:
            return board.clock.ns - GUEST_TIME_0

    size = FRAMEBUFFER_BYTES + VGA_BYTES
    store = board.stores.setdefault("video", bytearray(size))
    memory = VideoMemory(memoryview(store), np.zeros(size // PAGE_BYTES, np.uint8))
    vga = Vga(state, board.buses, memory, GuestClock(), Video())
    board.config(vga)
    board.events.append(lambda value: setattr(board.clock, "ns", board.clock.ns + value))
    return vga
