"""The SCSI adapters of a machine, in slots 10h to 13h: built, with a target behind each id that has a drive.

Disks are read and written by a pool of threads; a CD-ROM drive's discs in the vCPU's thread, for they may be taken out.
Before state is copied nothing may be under way (`settle`), and nothing after a reset (`abandon`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hw.firmware.board import PciInterrupt
from hw.pci import PciBuses, PciLinks
from hw.scsi.buslogic import BusLogic, BusLogicState
from hw.scsi.cdrom import Cdrom, CdromState
from hw.scsi.cdrom_unit import CdromUnit
from hw.scsi.disk import Disk, DiskState
from hw.scsi.lsilogic import LsiLogic, LsiLogicState
from hw.scsi.target import Target
from hw.scsi.wiring import LogicalUnit, Operator, Workers
from hw.wiring import Device, GuestMemory
from vmx.attachments import Attachments, Disc
from vmx.disk_workers import DiskWorkers, WorkersHost
from vmx.machine_config import AdapterKind
from vmx.scsi_disk import ScsiDisk

FIRST_SLOT, INTA = 0x10, 1
Adapter = LsiLogic | BusLogic
Result = TypeVar("Result")
Section = Callable[[str, type[Any]], Any]  # of the state file, by name and type

ADAPTERS: dict[AdapterKind, type[Adapter]] = {AdapterKind.LSILOGIC: LsiLogic, AdapterKind.BUSLOGIC: BusLogic}
STATES: dict[AdapterKind, type[ctypes.Structure]] = {
    AdapterKind.LSILOGIC: LsiLogicState,
    AdapterKind.BUSLOGIC: BusLogicState,
}
assert ADAPTERS.keys() == STATES.keys() == set(AdapterKind)


def scsi_sections(attachments: Attachments) -> dict[str, type[ctypes.Structure]]:
    """The adapters' and targets' parts of the state file."""
    found: dict[str, type[ctypes.Structure]] = {}
    for number, adapter in attachments.scsi.items():
        found[f"scsi{number}"] = STATES[adapter.kind]
        for place, unit in adapter.units.items():
            found[f"scsi{number}_{place}"] = CdromState if isinstance(unit, Disc) else DiskState
    return found


class AtOnce:
    """Workers that do it in the calling thread."""

    def submit(self, work: Callable[[], Result], finished: Callable[[Result], None]) -> None:
        finished(work())


class ScsiAdapters:
    """All of one machine. Called under the machine's lock, but for `close`."""

    def __init__(
        self, section: Section, buses: PciBuses, links: PciLinks, memory: GuestMemory, attachments: Attachments,
        host: WorkersHost, operator: Operator,
    ) -> None:  # fmt: skip
        """Wire only."""
        self.workers = DiskWorkers(host)
        self.chips: dict[int, Adapter] = {}
        self._targets: list[Target] = []
        for number, adapter in attachments.scsi.items():
            targets = {}
            for place, unit in adapter.units.items():
                state = section(f"scsi{number}_{place}", CdromState if isinstance(unit, Disc) else DiskState)
                logical, workers = self._unit(unit, state)
                targets[place] = Target(logical, workers, operator)
            pin = links.pin(FIRST_SLOT + number, INTA)
            state = section(f"scsi{number}", STATES[adapter.kind])
            self.chips[number] = ADAPTERS[adapter.kind](state, buses, pin, memory, targets)
            self._targets += targets.values()

    def _unit(self, unit: ScsiDisk | Disc, state: Any) -> tuple[LogicalUnit, Workers]:
        if isinstance(unit, ScsiDisk):
            return Disk(state, unit.backing, unit.profile), self.workers
        cdrom = Cdrom(state, unit.tray, unit.tray.medium, scsi=True)
        unit.tray.attach(cdrom)
        return CdromUnit(cdrom), AtOnce()

    def slots(self) -> Iterator[tuple[tuple[int, int, int], Adapter]]:
        """(bus, slot, function) of each chip."""
        for number, chip in self.chips.items():
            yield (0, FIRST_SLOT + number, 0), chip

    def interrupt_pins(self) -> tuple[PciInterrupt, ...]:
        return tuple(PciInterrupt(FIRST_SLOT + number, INTA) for number in self.chips)

    def devices(self) -> list[Device]:
        """The targets before the adapters."""
        return [*self._targets, *self.chips.values()]

    def settle(self) -> None:
        """Wait until nothing is under way but what waits for a person."""
        self.workers.drain()

    def abandon(self) -> None:
        """Wait for the threads, and forget what is left."""
        self.workers.drain()
        for chip in self.chips.values():
            chip.bus.drop()

    def close(self) -> None:
        """The machine is switched off. Idempotent."""
        try:
            self.abandon()
        finally:
            self.workers.close()
