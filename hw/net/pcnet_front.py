"""The PCnet's registers that its driver uses at each interrupt, where the core answers them: RAP, CSR0 and CSR3.

An access that leaves the guest costs more than all that the chip does in it, and a driver makes a dozen at each
interrupt which only ask, acknowledge, mask and unmask. While nobody works on the chip, the core has these registers
(`NicFront`), answers for them in the ports, and drives INTA#. Whoever enters the chip holds them: they are in the
chip's own state meanwhile, and every access comes to the chip. Off, where the ports are not all ours, or there is no
core: then they are in the chip's state all the time.

The same goes for the rings, whose ordinary frames the core moves itself (pcnet_walked.py), where the core has a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from hw.net.pcnet import Pcnet
from hw.net.pcnet_spec import APROM_BYTES, DWIO, WINDOW_BYTES, Bcr, Csr
from hw.net.pcnet_walked import describe, take_back
from hw.net.wiring import CoreFront
from vmm.layout_spec import NicRings

ANSWERED = range(APROM_BYTES, WINDOW_BYTES)  # of the window: RDP and RAP are in them
TRANSMIT = int(NicRings.TRANSMIT)
STATUS, INTERRUPT_MASK, BUS = int(Csr.STATUS), int(Csr.INTERRUPT_MASK), int(Bcr.BUS)


class Front:
    """`drive` sets the level of the chip's pin when it is not the core's to do."""

    def __init__(self, pcnet: Pcnet, core: CoreFront | None, drive: Callable[[], None]) -> None:
        """Wire only."""
        self.pcnet, self.registers, self.core, self.drive = pcnet, pcnet.registers, core, drive
        self.plan = None if core is None else core.plan
        self.port = self.inputs = 0
        self._holders = self._refused = 0  # frames that the port had refused when the chip was entered

    def place(self, base: int | None, inputs: int) -> None:
        """Where the window of 32 bytes begins, None: nowhere; and what INTA# drives. It counts from `give` on."""
        self.port, self.inputs = 0 if base is None else base + APROM_BYTES, inputs

    @property
    def is_on(self) -> bool:
        """Are the registers the core's, when nobody holds them?"""
        return self.core is not None and self.core.state.port != 0

    @property
    def is_settled(self) -> bool:
        """Is the core where `place` wants it?"""
        return self.core is not None and self.core.state.port == self.port

    def hold(self) -> None:
        """Enter the chip. Under the machine's lock; whoever is in it may enter again."""
        self._holders += 1
        if self._holders > 1 or (core := self.core) is None:
            return
        core.hold()
        if core.state.port:
            self._take(core)
        self._refused = self.pcnet.transmitter.stats.refused

    def _take(self, core: CoreFront) -> None:
        there, state, csr = core.state, self.registers.state, self.registers.csr
        state.rap, csr[STATUS], csr[INTERRUPT_MASK] = there.rap, there.csr0, there.csr3
        state.attended, state.unsaid = there.attended, there.unsaid
        if self.plan is not None and there.rings:
            take_back(self.registers, self.plan, there.rings, self.pcnet.transmitter.stats, self.pcnet.receiver.stats)

    def give(self) -> None:
        """Leave the chip."""
        self._holders -= 1
        if self._holders or (core := self.core) is None:
            return
        there, registers = core.state, self.registers
        state, csr = registers.state, registers.csr
        if self.port:
            was_on = there.port
            there.rap, there.csr0, there.csr3 = state.rap, csr[STATUS], csr[INTERRUPT_MASK]
            there.attended, there.unsaid = state.attended, state.unsaid
            there.others, there.careful = registers.other_causes(), registers.user_interrupt_waits()
            there.width, there.lines = 4 if registers.bcr[BUS] & DWIO else 2, self.inputs
            there.port = self.port
            if self.plan is not None:
                there.rings = describe(registers, self.plan, may_master=self.pcnet.bus.may_master)
                self.plan.full = self.pcnet.transmitter.stats.refused != self._refused
            core.give()
            if not was_on:
                self.drive()
            return
        if there.port:
            there.port = there.rings = 0
            self.drive()
        core.give()

    # any thread; a moment old

    @property
    def attended(self) -> bool:
        return bool(self.core.state.attended if self.is_on and self.core else self.registers.state.attended)

    @property
    def unsaid(self) -> int:
        return int(self.core.state.unsaid if self.is_on and self.core else self.registers.state.unsaid)

    @property
    def sends(self) -> bool:
        """Does the core look at the transmit ring, unasked too?"""
        return self.core is not None and bool(self.core.state.rings & TRANSMIT)

    def set_waits(self, waits: bool) -> None:
        """Frames wait until the driver lets them through."""
        if self.core is not None:
            self.core.state.waits = int(waits)

    def wire(self, fd: int | None) -> bool:
        """Does the core use it?"""
        if self.plan is None or self.core is None:
            return False
        self.core.wire(fd)
        return True

    def has_room(self) -> bool:
        """Does the core go on sending?"""
        if self.core is not None:
            self.core.has_room()
        return self.sends


class HasFront(Protocol):
    """What `inside` decorates the methods of."""

    @property
    def front(self) -> Front: ...


Self = TypeVar("Self", bound=HasFront)
P = ParamSpec("P")
R = TypeVar("R")


def inside(method: Callable[Concatenate[Self, P], R]) -> Callable[Concatenate[Self, P], R]:
    """A method that enters the chip."""

    @wraps(method)
    def entered(self: Self, /, *args: P.args, **named: P.kwargs) -> R:
        front = self.front
        front.hold()
        try:
            return method(self, *args, **named)
        finally:
            front.give()

    return entered
