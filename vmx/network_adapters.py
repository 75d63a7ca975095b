"""The network adapters of a machine: built, in the slots from 11h on that no SCSI adapter has, each with its cable.

A vlance looks at its transmit ring unasked every few milliseconds, as its driver may rely on; a thread sees to that,
seldom while there is nothing to send. Before state is copied nothing has to be waited for: a frame is sent or it is
not, and those that wait in a cable are lost, as on a wire.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hw.firmware.board import PciInterrupt
from hw.net.vlance import Vlance, VlanceState
from hw.net.vmxnet_pci import VmxnetPci, VmxnetPciState
from hw.pci import PciBuses, PciLinks
from hw.wiring import Device, GuestMemory
from ringfence.errors import HostRefused
from vmm.nic_hall import NicHall
from vmx.network_cable import Cable, CableHost, SwitchPort
from vmx.network_config import NicKind
from vmx.network_threads import NetworkThreads

FIRST_SLOT, SLOTS, INTA = 0x11, 32, 1
POLL_MIN_S, POLL_MAX_S = 0.002, 0.032
Adapter = Vlance | VmxnetPci
Section = Callable[[str, type[Any]], Any]  # of the state file, by name and type

STATES: dict[NicKind, type[ctypes.Structure]] = {NicKind.VLANCE: VlanceState, NicKind.VMXNET: VmxnetPciState}
assert STATES.keys() == set(NicKind)


@dataclass(slots=True)
class PluggedNic:
    """An adapter and what it is plugged into; `port` None: nothing. `rom` is for a vlance to boot from the network."""

    kind: NicKind
    address: bytes
    port: SwitchPort | None = None
    connected: bool = True
    rom: bytes = b""


def network_sections(nics: Mapping[int, PluggedNic]) -> dict[str, type[ctypes.Structure]]:
    """The adapters' parts of the state file."""
    return {f"ethernet{number}": STATES[nic.kind] for number, nic in nics.items()}


def nic_slots(numbers: Mapping[int, object], taken: Mapping[int, object]) -> dict[int, int]:
    """The slot of each adapter. `taken`: the SCSI adapters, which are numbered from slot 10h on."""
    free = (slot for slot in range(FIRST_SLOT, SLOTS) if slot - FIRST_SLOT + 1 not in taken)
    return dict(zip(sorted(numbers), free, strict=False))


class NetworkAdapters:
    """All of one machine. Called under the machine's lock, but for `start` and `close`."""

    def __init__(
        self, section: Section, buses: PciBuses, links: PciLinks, memory: GuestMemory,
        nics: Mapping[int, PluggedNic], scsi: Mapping[int, object], host: CableHost, hall: NicHall,
    ) -> None:  # fmt: skip
        """Wire only. `scsi`: the machine's SCSI adapters by number; `hall`: where the core answers, and walks rings."""
        self._slots = nic_slots(nics, scsi)
        self.chips: dict[int, Adapter] = {}
        self.cables: dict[int, Cable] = {}
        self._poller = Poller(host, self._wants_poll, self._poll, self._is_urgent)
        self._threads = NetworkThreads(hall, self.cables)
        for number, nic in nics.items():
            state = section(f"ethernet{number}", STATES[nic.kind])
            pin = links.pin(self._slots[number], INTA)
            cable = Cable(host, nic.port, plugged=nic.connected)
            cable.look_soon = self._poller.hurry
            chip: Adapter = (
                Vlance(state, buses, pin, memory, cable, nic.address, nic.rom, hall.front(number))
                if nic.kind is NicKind.VLANCE
                else VmxnetPci(state, buses, pin, memory, cable, nic.address)
            )
            cable.nic = chip
            self.chips[number], self.cables[number] = chip, cable

    def slots(self) -> Iterator[tuple[tuple[int, int, int], Adapter]]:
        """(bus, slot, function) of each chip."""
        for number, chip in self.chips.items():
            yield (0, self._slots[number], 0), chip

    def interrupt_pins(self) -> tuple[PciInterrupt, ...]:
        return tuple(PciInterrupt(slot, INTA) for slot in self._slots.values())

    def devices(self) -> list[Device]:
        return list(self.chips.values())

    def set_plugged(self, number: int, plugged: bool) -> None:
        """Put a cable into its port, or pull it out."""
        self.cables[number].set_plugged(plugged)

    def is_plugged(self, number: int) -> bool:
        return self.cables[number].plugged

    def start(self) -> None:
        """The machine is about to run. Raises HostRefused when the host gives no thread."""
        for cable in self.cables.values():
            cable.start()
        if not self.chips:
            return
        self._poller.start()
        if any(isinstance(chip, Vlance) for chip in self.chips.values()):
            self._threads.start()

    def settle(self) -> None:
        """Guest time stands still: from here on no frame moves, and all that did is in the state."""
        for chip in self.chips.values():
            chip.settle()

    def close(self) -> None:
        """The machine is switched off. Idempotent."""
        self._poller.stop()
        self._threads.close()
        for cable in self.cables.values():
            cable.close()

    def _wants_poll(self) -> bool:
        """Any thread: a moment's delay does no harm."""
        return any(chip.wants_poll for chip in self.chips.values()) or any(
            cable.is_waiting for cable in self.cables.values()
        )

    def _is_urgent(self) -> bool:
        """Does a driver wait for us? Any thread."""
        return any(cable.is_waiting for cable in self.cables.values()) or any(
            isinstance(chip, Vlance) and chip.owes_word for chip in self.chips.values()
        )

    def _poll(self) -> bool:
        """Whether there was something to send."""
        found = False
        for number, chip in self.chips.items():
            self.cables[number].ready()
            if isinstance(chip, Vlance) and chip.wants_poll:
                before = chip.pcnet.transmitter.stats.frames
                chip.poll()
                found = found or chip.pcnet.transmitter.stats.frames != before
        return found


def always() -> bool:
    return True


class Poller:
    """Has `poll` called by the machine while `wanted`: soon again if it finds something, else ever more seldom.

    After `hurry` it looks soon, too, but leaves the machine alone while nothing is `urgent`.
    """

    def __init__(
        self, host: CableHost, wanted: Callable[[], bool], poll: Callable[[], bool], urgent: Callable[[], bool] = always
    ) -> None:
        self._host, self._wanted, self._poll, self._urgent = host, wanted, poll, urgent
        self._ending, self._done = threading.Event(), threading.Event()
        self._hurried = threading.Event()
        self._wait_s = POLL_MIN_S
        self._found = self._busy = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Raises HostRefused when the host gives no thread. Idempotent."""
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._work, name="nic-poll", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise HostRefused(f"network: the host gives no thread: {error}") from error
        self._thread = thread

    def stop(self) -> None:
        """Idempotent; for good."""
        self._ending.set()
        self._hurried.set()
        if self._thread is not None:
            self._thread.join()

    def hurry(self) -> None:
        """Something goes on: look soon, and soon again. Any thread."""
        self._busy = True
        if self._wait_s > POLL_MIN_S:
            self._wait_s = POLL_MIN_S
            self._hurried.set()

    def _work(self) -> None:
        waited = 0.0
        while True:
            waited += self._wait_s
            if self._hurried.wait(self._wait_s):
                self._hurried.clear()
                self._ending.wait(POLL_MIN_S)
            if self._ending.is_set():
                return
            busy, self._busy = self._busy, False
            if busy and not self._found and waited < POLL_MAX_S and not self._urgent():
                self._wait_s = POLL_MIN_S
                continue
            waited = 0.0
            if not self._wanted():
                self._wait_s = POLL_MAX_S
                continue
            self._done.clear()
            self._host.post(self._look)
            while not self._done.wait(POLL_MAX_S):  # the machine may stand still
                if self._ending.is_set():
                    return
            self._wait_s = POLL_MIN_S if self._found or self._busy else min(2 * self._wait_s, POLL_MAX_S)

    def _look(self) -> None:
        try:
            self._found = self._poll()
        finally:
            self._done.set()
