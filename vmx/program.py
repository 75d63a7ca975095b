"""What a machine without firmware starts with: a toy program or a Linux kernel, put into memory anew at every reset.

Firmware's tables are there for both: for a kernel as firmware would place them, with the memory map that goes with
them; for a program all of them below 1 MiB, so that all memory from there up is the program's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hw.firmware.tables import FirmwareTables
from vmm.layout_spec import VcpuState
from vmm.memory import GuestMemory
from vmx.boot import enter_program
from vmx.linux import Initrd, LinuxImage, enter_linux, plan
from vmx.loader import Image
from vmx.symbols import SymbolTable


class Program(Protocol):
    """Something to start with."""

    @property
    def symbols(self) -> SymbolTable: ...

    def enter(self, state: VcpuState, memory: GuestMemory, tables: FirmwareTables) -> None:
        """Into memory, and the boot vCPU at its entry. Raises BadInput where it does not fit."""


@dataclass(frozen=True, slots=True)
class ToyProgram:
    """An ELF or Multiboot program."""

    image: Image
    command_line: str = ""

    @property
    def symbols(self) -> SymbolTable:
        return self.image.symbols

    def enter(self, state: VcpuState, memory: GuestMemory, tables: FirmwareTables) -> None:
        tables.place(memory.write, below_1_mib=True)
        enter_program(state, memory, self.image, self.command_line)


@dataclass(frozen=True, slots=True)
class LinuxProgram:
    """A Linux kernel with its initrd."""

    image: LinuxImage
    command_line: str = ""
    initrd: Initrd | None = None

    @property
    def symbols(self) -> SymbolTable:
        return self.image.symbols

    def enter(self, state: VcpuState, memory: GuestMemory, tables: FirmwareTables) -> None:
        placed = tables.place(memory.write)
        enter_linux(state, memory, plan(self.image, self.command_line, placed.memory_map, self.initrd, placed.rsdp))
