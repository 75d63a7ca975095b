"""The backdoor: `IN EAX, DX` on port 5658h with VMXh in EAX, by which a guest talks to its virtual machine.

It works from every ring, whatever IOPL and the I/O bitmap say; the engine checks EAX and leaves with a HYPERCALL exit.
A command that is not implemented, or not for this ring, answers EAX = FFFFFFFFh and leaves the other registers alone,
which every caller understands. A command that tells something changes no register.
Not modelled: messages (30: no channel can be opened), hence the high-bandwidth port, whose only use they are; what only
VMware's own BIOS asks (2, 3, 18, 28, 37, 43, 49, 50); pseudo performance counters.
Source: open-vm-tools 2008.02.13, lib/include/backdoor_def.h and the callers in lib/guestApp, lib/misc and lib/message;
Linux, arch/x86/kernel/cpu/vmware.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, sizeof
from dataclasses import dataclass
from typing import Protocol

from hw.backdoor_clipboard import Clipboard, ClipboardState
from hw.backdoor_pointer import AbsolutePointer, PointerState
from hw.backdoor_spec import (
    DEVICE_NAME_BYTES,
    FAILED,
    GUI_OPTIONS_STORED,
    HARDWARE_VERSION,
    INTERFACE_VERSION,
    MAGIC,
    MAX_TIME_LAG_US,
    MESSAGE_REFUSED,
    POINTER_NOT_GRABBED,
    PORT,
    RING0_ONLY,
    TOGGLE_CONNECT,
    Command,
    DeviceRecord,
    Product,
)
from hw.wiring import CpuRegisters, WallClock

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the machine was configured with. `screen`: the console's, in pixels."""

    memory_mib: int
    tsc_hz: int
    bus_hz: int
    uuid: bytes  # 16 bytes, in memory order
    screen: tuple[int, int] = (1024, 768)
    force_bios_setup: bool = False


@dataclass(frozen=True, slots=True)
class RemovableDevice:
    """A device that a guest may ask to have connected or disconnected. `uid`: 0 to 65535, lasting."""

    name: str
    uid: int
    connected: bool


class RemovableDevices(Protocol):
    """Whoever connects devices while the machine runs."""

    def devices(self) -> Sequence[RemovableDevice]:
        """In a lasting order."""

    def connect(self, uid: int, on: bool) -> bool:
        """Connect a device or disconnect it; False: there is none, or it cannot be done."""


class NoDevices:
    """A machine without any."""

    def devices(self) -> Sequence[RemovableDevice]:
        return ()

    def connect(self, uid: int, on: bool) -> bool:
        return False


class BackdoorState(LittleEndianStructure):
    """All guest-visible state. The pointer's place is where the guest was last told that it is, or said so itself."""

    _fields_ = [
        ("gui_options", c_uint32),
        ("pointer_x", c_uint16),
        ("pointer_y", c_uint16),
        ("grabbed", c_uint8),
        ("reserved", c_uint8 * 3),
        ("clipboard", ClipboardState),
        ("pointer", PointerState),
    ]


assert sizeof(BackdoorState) == 12 + sizeof(ClipboardState) + sizeof(PointerState)


class Backdoor:
    """Answers backdoor calls in the caller's registers.

    The console's are `grab`, `ungrab`, `clipboard.set_text`, `pointer.point` and `pointer.move`.
    """

    State = BackdoorState

    def __init__(
        self, state: BackdoorState, facts: MachineFacts, clock: WallClock, removable: RemovableDevices | None = None
    ) -> None:
        """Wire only. The table is what each command does."""
        self.state, self.facts, self.clock = state, facts, clock
        self.removable = removable or NoDevices()
        self.clipboard, self.pointer = Clipboard(state.clipboard), AbsolutePointer(state.pointer)
        self.stats: dict[int, int] = {}
        self._commands: dict[int, Callable[[CpuRegisters], None]] = {
            Command.GETMHZ: lambda regs: answer(regs, facts.tsc_hz // 1_000_000),
            Command.GETPTRLOCATION: self.get_pointer_location,
            Command.SETPTRLOCATION: self.set_pointer_location,
            Command.GETSELLENGTH: lambda regs: answer(regs, self.clipboard.length()),
            Command.GETNEXTPIECE: lambda regs: answer(regs, self.clipboard.next_piece()),
            Command.SETSELLENGTH: lambda regs: self.clipboard.expect(regs.gpr[EBX]),
            Command.SETNEXTPIECE: lambda regs: self.clipboard.add_piece(regs.gpr[EBX]),
            Command.GETVERSION: self.get_version,
            Command.GETDEVICELISTELEMENT: self.get_device_element,
            Command.TOGGLEDEVICE: self.toggle_device,
            Command.GETGUIOPTIONS: lambda regs: answer(regs, self.state.gui_options),
            Command.SETGUIOPTIONS: self.set_gui_options,
            Command.GETSCREENSIZE: lambda regs: answer(regs, facts.screen[0] << 16 | facts.screen[1]),
            Command.GETHWVERSION: lambda regs: answer(regs, HARDWARE_VERSION),
            Command.GETUUID: self.get_uuid,
            Command.GETMEMSIZE: lambda regs: answer(regs, facts.memory_mib),
            Command.GETTIME: self.get_time,
            Command.STOPCATCHUP: lambda regs: None,
            Command.MESSAGE: self.refuse_message,
            Command.ISACPIDISABLED: lambda regs: answer(regs, 0),
            Command.ISMOUSEABSOLUTE: lambda regs: answer(regs, self.pointer.is_absolute),
            Command.ABSPOINTER_DATA: self.take_pointer_data,
            Command.ABSPOINTER_STATUS: lambda regs: answer(regs, self.pointer.status()),
            Command.ABSPOINTER_COMMAND: lambda regs: self.pointer.command(regs.gpr[EBX]),
            Command.GETHZ: self.get_hz,
            Command.GETTIMEFULL: self.get_time_full,
            Command.CHECKFORCEBIOSSETUP: lambda regs: answer(regs, facts.force_bios_setup),
        }

    def reset(self) -> None:
        s = self.state
        s.gui_options = s.pointer_x = s.pointer_y = s.grabbed = 0
        self.clipboard.reset()
        self.pointer.reset()

    def sync(self) -> None:
        """Drives nothing."""

    # from the console

    def grab(self, x: int, y: int) -> None:
        """The console's pointer has come into the guest's screen, here."""
        s = self.state
        s.grabbed, s.pointer_x, s.pointer_y = 1, x & 0xFFFF, y & 0xFFFF

    def ungrab(self) -> None:
        """It has left."""
        self.state.grabbed = 0

    # from the guest

    def call(self, port: int, regs: CpuRegisters) -> None:
        """One call. The engine has seen the magic in EAX; the command is in CX."""
        command = regs.gpr[ECX] & 0xFFFF
        self.stats[command] = self.stats.get(command, 0) + 1
        handler = self._commands.get(command, refuse)
        if port != PORT or (command in RING0_ONLY and regs.cpl != 0):
            handler = refuse
        handler(regs)

    # what the machine is

    def get_version(self, regs: CpuRegisters) -> None:
        answer(regs, INTERFACE_VERSION)
        put(regs, EBX, MAGIC)
        put(regs, ECX, Product.ESX_SERVER)

    def get_uuid(self, regs: CpuRegisters) -> None:
        """EAX, EBX, ECX, EDX hold the 16 bytes in memory order."""
        for index, register in enumerate((EAX, EBX, ECX, EDX)):
            put(regs, register, int.from_bytes(self.facts.uuid[4 * index : 4 * index + 4], "little"))

    def get_hz(self, regs: CpuRegisters) -> None:
        """EBX is not FFFFFFFFh, by which a guest knows that the frequencies are known."""
        answer(regs, self.facts.tsc_hz)
        put(regs, EBX, self.facts.tsc_hz >> 32)
        put(regs, ECX, self.facts.bus_hz)

    # time

    def get_time(self, regs: CpuRegisters) -> None:
        """EDX is the number of minutes west of UTC, as gettimeofday's tz_minuteswest."""
        now_ns = self.clock.now_ns()
        answer(regs, now_ns // NS_PER_S)
        put(regs, EBX, now_ns % NS_PER_S // 1000)
        put(regs, ECX, MAX_TIME_LAG_US)
        put(regs, EDX, -self.clock.zone_minutes())

    def get_time_full(self, regs: CpuRegisters) -> None:
        now_ns = self.clock.now_ns()
        seconds = now_ns // NS_PER_S
        answer(regs, MAGIC)
        put(regs, ESI, seconds >> 32)
        put(regs, EDX, seconds)
        put(regs, EBX, now_ns % NS_PER_S // 1000)
        put(regs, ECX, MAX_TIME_LAG_US)

    # the console

    def get_pointer_location(self, regs: CpuRegisters) -> None:
        s = self.state
        x, y = (s.pointer_x, s.pointer_y) if s.grabbed else (POINTER_NOT_GRABBED, POINTER_NOT_GRABBED)
        answer(regs, x << 16 | y)

    def set_pointer_location(self, regs: CpuRegisters) -> None:
        self.state.pointer_x, self.state.pointer_y = regs.gpr[EBX] >> 16, regs.gpr[EBX] & 0xFFFF

    def set_gui_options(self, regs: CpuRegisters) -> None:
        self.state.gui_options = regs.gpr[EBX] & GUI_OPTIONS_STORED

    def take_pointer_data(self, regs: CpuRegisters) -> None:
        """EBX words, in EAX, EBX, ECX, EDX. A request that cannot be met fails."""
        words = self.pointer.take(regs.gpr[EBX])
        if not words:
            refuse(regs)
        for register, word in zip((EAX, EBX, ECX, EDX), words, strict=False):
            put(regs, register, word)

    # removable devices

    def get_device_element(self, regs: CpuRegisters) -> None:
        """Four bytes of a record in EBX, which held index and offset; EAX says whether there are any."""
        index, offset = regs.gpr[EBX] >> 16, regs.gpr[EBX] & 0xFFFF
        devices = self.removable.devices()
        if index >= len(devices) or offset >= sizeof(DeviceRecord):
            answer(regs, 0)
            return
        device = devices[index]
        name = device.name.encode("ascii", "replace")[: DEVICE_NAME_BYTES - 1]
        record = bytes(DeviceRecord(name, device.uid, device.connected))
        answer(regs, 1)
        put(regs, EBX, int.from_bytes(record[offset : offset + 4], "little"))

    def toggle_device(self, regs: CpuRegisters) -> None:
        wanted = regs.gpr[EBX]
        answer(regs, self.removable.connect(wanted & 0xFFFF, bool(wanted & TOGGLE_CONNECT)))

    # messages

    def refuse_message(self, regs: CpuRegisters) -> None:
        """ECX 31:16 is the status that the caller looks at, and holds the message type before the call."""
        refuse(regs)
        put(regs, ECX, regs.gpr[ECX] & 0xFFFF | MESSAGE_REFUSED << 16)


def answer(regs: CpuRegisters, value: int) -> None:
    put(regs, EAX, value)


def refuse(regs: CpuRegisters) -> None:
    put(regs, EAX, FAILED)


def put(regs: CpuRegisters, register: int, value: int) -> None:
    regs.gpr[register] = value & 0xFFFFFFFF
