"""All tables of a machine: as files for its firmware, or in memory for a guest that is started without any.

Firmware gets ACPI and SMBIOS, places them and makes its own MP and PIR tables. Without it, `place` does the placing:

    F0000          RSDP, SMBIOS, MP and PIR tables
    top of RAM     a page with the FACS, below it the ACPI tables; or all of that below F0000

It then says what of memory is the guest's. That is all it does of what firmware would: registers of the chipset that
tables speak of (PMBASE, SMBBASE, PAM) are set by who starts the guest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from hw.firmware import mptable, mptable_spec, pir, pir_spec, smbios, smbios_spec
from hw.firmware.acpi import FACS_FILE, LOADER_FILE, RSDP_FILE, TABLES_FILE, acpi_files
from hw.firmware.board import IO_APIC, LOCAL_APIC, BoardFacts
from hw.firmware.linker import link
from hw.firmware.linker_spec import Zone
from hw.fw_cfg_spec import E820Type
from ringfence.errors import BadInput

PAGE = 0x1000
CONVENTIONAL_TOP, VIDEO = 0x9FC00, 0xA0000
OPTION_ROMS, F_SEGMENT, HIGH_MEMORY = 0xC0000, 0xF0000, 0x100000
KEPT = {FACS_FILE: E820Type.NVS, TABLES_FILE: E820Type.ACPI}  # what the pages of a file in high memory are

MemoryRow = tuple[int, int, E820Type]
Write = Callable[[int, bytes], None]


class Placement(NamedTuple):
    """What was placed: the memory map, as (address, length, type) in order, and where the RSDP lies."""

    memory_map: list[MemoryRow]
    rsdp: int


@dataclass(slots=True)
class FirmwareTables:
    """The tables of one machine. Raises BadOption for a machine that they cannot describe."""

    facts: BoardFacts

    def __post_init__(self) -> None:
        self.facts.check()

    def fw_cfg_files(self) -> dict[str, bytes]:
        """Files of the firmware configuration device, by name."""
        acpi = acpi_files(self.facts)
        files = {name: bytes(data) for name, data in acpi.files.items()}
        return files | {LOADER_FILE: acpi.script} | smbios.smbios_files(self.facts)

    def place(self, write: Write, *, below_1_mib: bool = False) -> Placement:
        """Write the tables into guest memory; the ACPI tables at the top of RAM, or all of them below 1 MiB."""
        low = LowZone(F_SEGMENT, HIGH_MEMORY)
        high = HighZone(F_SEGMENT, OPTION_ROMS) if below_1_mib else HighZone(self.facts.memory_bytes, HIGH_MEMORY)
        acpi = acpi_files(self.facts)
        files = {name: bytes(data) for name, data in acpi.files.items()}
        placed = link(acpi.script, files, {Zone.F_SEGMENT: low.allocate, Zone.HIGH: high.allocate})
        pieces = {file.address: bytes(file.data) for file in placed.values()}
        for piece in self._without_acpi(low):
            pieces |= piece
        for address, data in pieces.items():
            write(address, data)
        kept = [(placed[name].address, page_up(len(placed[name].data)), kind) for name, kind in KEPT.items()]
        usable_end = self.facts.memory_bytes if below_1_mib else min(address for address, _, _ in kept)
        return Placement(memory_map(usable_end, kept), placed[RSDP_FILE].address)

    def _without_acpi(self, low: LowZone) -> list[dict[int, bytes]]:
        """SMBIOS, MP and PIR tables by address, all of them in the F segment."""
        structures = smbios.tables(self.facts)
        inventory = b"".join(structures)
        inventory_at = low.allocate(len(inventory), smbios_spec.ANCHOR_ALIGNMENT)
        configuration = mptable.configuration_table(self.facts)
        configuration_at = low.allocate(len(configuration), mptable_spec.POINTER_ALIGNMENT)
        return [
            {inventory_at: inventory, configuration_at: configuration},
            low.take(smbios.entry_point(structures, inventory_at), smbios_spec.ANCHOR_ALIGNMENT),
            low.take(mptable.floating_pointer(configuration_at), mptable_spec.POINTER_ALIGNMENT),
            low.take(pir.routing_table(self.facts), pir_spec.ALIGNMENT),
        ]


@dataclass(slots=True)
class LowZone:
    """Addresses that are given out from the bottom."""

    next: int
    end: int

    def allocate(self, size: int, alignment: int) -> int:
        address = -(-self.next // alignment) * alignment
        if address + size > self.end:
            raise BadInput("firmware tables", "F segment", f"{size} bytes free", f"{max(self.end - address, 0)}")
        self.next = address + size
        return address

    def take(self, data: bytes, alignment: int) -> dict[int, bytes]:
        return {self.allocate(len(data), alignment): data}


@dataclass(slots=True)
class HighZone:
    """Whole pages, given out from the top."""

    end: int
    floor: int
    next: int = field(init=False)

    def __post_init__(self) -> None:
        self.next = self.end & -PAGE

    def allocate(self, size: int, alignment: int) -> int:
        assert PAGE % alignment == 0, f"an alignment of {alignment}"
        self.next -= page_up(size)
        if self.next <= self.floor:
            raise BadInput("firmware tables", "memory", f"{size} bytes free above {self.floor:#x}", "none")
        return self.next


def page_up(size: int) -> int:
    return -(-size // PAGE) * PAGE


def memory_map(usable_end: int, kept: list[MemoryRow]) -> list[MemoryRow]:
    """A PC with RAM for the guest up to `usable_end`, and these rows kept back; in order of address."""
    rows = [
        (0, CONVENTIONAL_TOP, E820Type.RAM),
        (CONVENTIONAL_TOP, VIDEO - CONVENTIONAL_TOP, E820Type.RESERVED),
        (F_SEGMENT, HIGH_MEMORY - F_SEGMENT, E820Type.RESERVED),
        (HIGH_MEMORY, usable_end - HIGH_MEMORY, E820Type.RAM),
        *kept,
        (IO_APIC, 0x10000, E820Type.RESERVED),
        (LOCAL_APIC, PAGE, E820Type.RESERVED),
        (0xFFFC0000, 0x40000, E820Type.RESERVED),
    ]
    return sorted(rows)
