"""The PCnets of one machine whose rings the core walks (vmm/core/nic_rings.h): their fronts, and what its threads call.

`work` and `listen` are for a thread each; they wait in the core. Everything else may be called from any thread.
"""

from __future__ import annotations

from ctypes import LittleEndianStructure
from dataclasses import dataclass
from typing import Any

from ringfence.errors import HostRefused
from vmm._core import ffi, lib
from vmm.engines.contract import EngineMap
from vmm.interrupts import Interrupts
from vmm.layout_spec import NicFront as NicFrontState
from vmm.layout_spec import NicPlan

NOWHERE = -1
FRONTS = range(lib.RF_NICS)
ROOM_SHIFT = 8  # of nic_work: bits of fronts whose socket is full


@dataclass(frozen=True, slots=True)
class Work:
    """Numbers of fronts: whose transmit ring needs the device, and whose socket is full."""

    device: tuple[int, ...]
    full: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """A message for a front's device, as long as `listen` is not called again; None: its socket has no other end."""

    number: int
    message: memoryview | None


class HallFront:
    """A front whose rings the core walks while nobody holds it. Whoever holds it may change `state` and `plan`."""

    def __init__(self, hall: NicHall, number: int) -> None:
        self.hall, self.number = hall, number
        self.state: NicFrontState = hall.interrupts.state.nic[number]
        self.plan: NicPlan = _at(NicPlan, lib.nic_plan_of(hall.raw, number))

    def hold(self) -> None:
        """Wait until the rings have been put down."""
        lib.nic_enter(self.hall.raw, self.number)

    def give(self) -> None:
        """Let the core go on, and drive INTA# as `state` has it."""
        self.hall.interrupts.kicked(lib.nic_leave(self.hall.raw, self.number))

    def wire(self, fd: int | None) -> None:
        """Frames go to a socket and come from it; None: nowhere, and the one before is not used any more."""
        lib.nic_wire(self.hall.raw, self.number, NOWHERE if fd is None else fd)

    def has_room(self) -> None:
        """The socket was full."""
        lib.nic_ready(self.hall.raw, self.number)


class NicHall:
    """Raises HostRefused where the host has no memory or descriptor for it."""

    def __init__(self, where: EngineMap, interrupts: Interrupts) -> None:
        """`where` must outlive it."""
        self.interrupts = interrupts
        controls = [ffi.cast("struct control *", address) for address in where.controls]
        self.raw = lib.nic_hall_new(
            interrupts.page, ffi.cast("struct machine *", where.pages), ffi.cast("uint8_t *", where.ram),
            ffi.new("struct control *[]", controls), len(controls),
        )  # fmt: skip
        if self.raw == ffi.NULL:
            raise HostRefused("network: the host gives no memory or descriptor for the adapters' threads")
        self._word = ffi.new("struct nic_word *")

    def front(self, number: int) -> HallFront:
        if number not in FRONTS:
            raise ValueError(f"network adapter {number}: expected 0 to {len(FRONTS) - 1}")
        return HallFront(self, number)

    def stop(self) -> None:
        """No ring is walked until `go`; the two may be nested."""
        lib.nic_stop(self.raw)

    def go(self) -> None:
        lib.nic_go(self.raw)

    def work(self) -> Work | None:
        """Walk transmit rings until somebody else must do something. None: `end` was called."""
        need = lib.nic_work(self.raw)
        if not need:
            return None
        return Work(
            tuple(number for number in FRONTS if need >> number & 1),
            tuple(number for number in FRONTS if need >> ROOM_SHIFT + number & 1),
        )

    def listen(self) -> Heard | None:
        """Fill receive rings likewise."""
        word = self._word
        lib.nic_listen(self.raw, word)
        if word.heard == lib.NIC_ENDING:
            return None
        if word.heard == lib.NIC_CLOSED:
            return Heard(word.number, None)
        return Heard(word.number, memoryview(ffi.buffer(word.message, word.length)).toreadonly())

    def end(self) -> None:
        """`work` and `listen` come back, for good."""
        lib.nic_end(self.raw)

    def close(self) -> None:
        """Nobody is in `work` or `listen`, and no front is used any more. Idempotent."""
        raw, self.raw = self.raw, ffi.NULL
        if raw != ffi.NULL:
            lib.nic_hall_free(raw)


def _at(kind: type[Any], raw: object) -> Any:
    assert issubclass(kind, LittleEndianStructure)
    return kind.from_address(int(ffi.cast("uintptr_t", raw)))
