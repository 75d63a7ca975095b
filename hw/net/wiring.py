"""Between a network adapter and what its cable is plugged into: frames go out and come in, as views of memory.

A frame begins with the destination address and has no FCS. It is a list of memoryviews, in order, which are valid
during the call only: whoever keeps it copies it. Everything is called under the machine's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vmm.layout_spec import NicFront, NicPlan

Frame = Sequence[memoryview]


@dataclass(frozen=True, slots=True)
class AddressFilter:
    """What an adapter's driver wants to receive. `hashes` has a bit for each index that `ethernet.hash_index` gives."""

    address: bytes
    receiving: bool = False
    unicast: bool = False  # frames for `address`
    broadcast: bool = False
    promiscuous: bool = False
    hashes: int = 0


class Port(Protocol):
    """The socket that a cable is plugged into."""

    def transmit(self, frame: list[memoryview]) -> bool:
        """A frame leaves the adapter. False: not now; `Nic.port_ready` is to be called when it may be offered again."""

    def ready(self) -> None:
        """The driver may have given receive buffers back. Called often: frames that wait should be delivered."""

    def set_filter(self, wanted: AddressFilter) -> None:
        """A level, not an edge: what a switch that learns from its ports has to know."""


class CoreFront(Protocol):
    """Where the core answers for a PCnet's registers, and drives INTA#. From `hold` to `give` it does neither."""

    @property
    def state(self) -> NicFront:
        """The chip's to change while it is held."""

    @property
    def plan(self) -> NicPlan | None:
        """Likewise, where the core walks rings."""

    def hold(self) -> None: ...

    def give(self) -> None:
        """INTA# is driven anew."""

    def wire(self, fd: int | None) -> None:
        """As `Nic.wire`, where there is a plan."""

    def has_room(self) -> None: ...


class Nic(Protocol):
    """An adapter, from the cable's side."""

    def receive(self, frame: Frame) -> bool:
        """A frame arrives. False: the driver has no buffer for it, and it is lost and counted."""

    def offer(self, frame: Frame) -> bool:
        """The same for a port that can wait: False means not now, and nothing has happened. `Port.ready` says when."""

    def port_ready(self) -> None:
        """A port that said no may be asked again; also after a resume."""

    @property
    def attended(self) -> bool:
        """The driver has been interrupted, and calls `Port.ready` when it is done: until then frames may wait for it.

        From any thread; no promise, for a driver may be at fault.
        """

    def set_waits(self, waits: bool) -> None:
        """A level: frames wait until the driver is done. Any thread."""

    def set_link(self, up: bool) -> None:
        """A level."""

    def wire(self, fd: int | None) -> bool:
        """A socket that frames come from and go to, until it is another or None. False: the adapter cannot use it.

        Any thread, which holds nothing that `Port` needs. Once it returns the one before is not used any more.
        """

    def has_room(self) -> bool:
        """That socket was full. False: `port_ready` is to be called. Any thread, likewise."""
