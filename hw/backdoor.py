"""The backdoor: `IN EAX, DX` on port 5658h with VMXh in EAX, by which a guest talks to its virtual machine.

It works from every ring, whatever IOPL and the I/O bitmap say; the engine checks EAX and leaves with a HYPERCALL exit.
What is not implemented answers EAX = FFFFFFFFh and leaves EBX alone, which every caller understands.
Not modelled: messages (command 30), removable devices, the high-bandwidth port. The clipboard is always empty and the
pointer is never grabbed.
Source: open-vm-tools 2008.02.13, backdoor_def.h and the callers in lib/backdoor.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import LittleEndianStructure, c_uint32, sizeof
from dataclasses import dataclass

from hw.backdoor_spec import (
    FAILED,
    HARDWARE_VERSION,
    INTERFACE_VERSION,
    MAGIC,
    MAX_TIME_LAG_US,
    POINTER_NOT_GRABBED,
    PORT,
    RING0_ONLY,
    Command,
    Product,
)
from hw.wiring import CpuRegisters, WallClock

EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the machine was configured with."""

    memory_mib: int
    tsc_hz: int
    bus_hz: int
    uuid: bytes  # 16 bytes, in memory order


class BackdoorState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("gui_options", c_uint32)]


assert sizeof(BackdoorState) == 4


class Backdoor:
    """Answers backdoor calls in the caller's registers."""

    State = BackdoorState

    def __init__(self, state: BackdoorState, facts: MachineFacts, clock: WallClock) -> None:
        self.state, self.facts, self.clock = state, facts, clock
        self.stats: dict[int, int] = {}
        self._commands: dict[int, Callable[[CpuRegisters], None]] = {
            Command.GETMHZ: lambda regs: answer(regs, facts.tsc_hz // 1_000_000),
            Command.GETPTRLOCATION: lambda regs: answer(regs, POINTER_NOT_GRABBED << 16 | POINTER_NOT_GRABBED),
            Command.GETSELLENGTH: lambda regs: answer(regs, FAILED),
            Command.GETVERSION: self.get_version,
            Command.GETGUIOPTIONS: lambda regs: answer(regs, self.state.gui_options),
            Command.SETGUIOPTIONS: self.set_gui_options,
            Command.GETHWVERSION: lambda regs: answer(regs, HARDWARE_VERSION),
            Command.GETUUID: self.get_uuid,
            Command.GETMEMSIZE: lambda regs: answer(regs, facts.memory_mib),
            Command.GETTIME: self.get_time,
            Command.STOPCATCHUP: lambda regs: None,
            Command.ISACPIDISABLED: lambda regs: answer(regs, 0),
            Command.ISMOUSEABSOLUTE: lambda regs: answer(regs, 0),
            Command.GETHZ: self.get_hz,
            Command.GETTIMEFULL: self.get_time_full,
        }

    def reset(self) -> None:
        self.state.gui_options = 0

    def sync(self) -> None:
        """Drives nothing."""

    def call(self, port: int, regs: CpuRegisters) -> None:
        """One call. The engine has seen the magic in EAX; the command is in CX."""
        command = regs.gpr[ECX] & 0xFFFF
        self.stats[command] = self.stats.get(command, 0) + 1
        handler = self._commands.get(command)
        if port != PORT or handler is None or (command in RING0_ONLY and regs.cpl != 0):
            answer(regs, FAILED)
        else:
            handler(regs)

    def get_version(self, regs: CpuRegisters) -> None:
        answer(regs, INTERFACE_VERSION)
        regs.gpr[EBX] = MAGIC
        regs.gpr[ECX] = Product.ESX_SERVER

    def set_gui_options(self, regs: CpuRegisters) -> None:
        self.state.gui_options = regs.gpr[EBX]

    def get_uuid(self, regs: CpuRegisters) -> None:
        """EAX, EBX, ECX, EDX hold the 16 bytes in memory order."""
        for index, register in enumerate((EAX, EBX, ECX, EDX)):
            regs.gpr[register] = int.from_bytes(self.facts.uuid[4 * index : 4 * index + 4], "little")

    def get_time(self, regs: CpuRegisters) -> None:
        """EDX is the number of minutes west of UTC, as gettimeofday's tz_minuteswest."""
        now_ns = self.clock.now_ns()
        answer(regs, now_ns // NS_PER_S)
        regs.gpr[EBX] = now_ns % NS_PER_S // 1000
        regs.gpr[ECX] = MAX_TIME_LAG_US
        regs.gpr[EDX] = -self.clock.zone_minutes() & 0xFFFFFFFF

    def get_time_full(self, regs: CpuRegisters) -> None:
        now_ns = self.clock.now_ns()
        seconds = now_ns // NS_PER_S
        answer(regs, MAGIC)
        regs.gpr[ESI] = seconds >> 32 & 0xFFFFFFFF
        regs.gpr[EDX] = seconds & 0xFFFFFFFF
        regs.gpr[EBX] = now_ns % NS_PER_S // 1000
        regs.gpr[ECX] = MAX_TIME_LAG_US

    def get_hz(self, regs: CpuRegisters) -> None:
        answer(regs, self.facts.tsc_hz & 0xFFFFFFFF)
        regs.gpr[EBX] = self.facts.tsc_hz >> 32
        regs.gpr[ECX] = self.facts.bus_hz


def answer(regs: CpuRegisters, value: int) -> None:
    regs.gpr[EAX] = value & 0xFFFFFFFF
