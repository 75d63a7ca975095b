"""A port of a virtual switch, the port group that it is in, and who is reached in a VLAN.

A port's addresses are known from its adapter, not learnt from its frames; who wants which frames is known too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vmkernel.net.counters import Counters
from vmkernel.net.ethernet_spec import BROADCAST, NO_ADDRESS, VLAN_TRUNK
from vmkernel.net.frames import hash_index
from vmkernel.net.policy import Policy
from vmkernel.net.shaper import Shaper
from vmkernel.net.team import Team, Uplink

if TYPE_CHECKING:
    from vmkernel.net.switch import Switch


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an adapter's driver wants to receive. `hashes` has a bit for each index of `frames.hash_index`."""

    address: bytes
    receiving: bool = False
    unicast: bool = False  # frames for `address`
    broadcast: bool = False
    promiscuous: bool = False
    hashes: int = 0


class Endpoint(Protocol):
    """What is plugged into a port."""

    def deliver(self, frame: bytes) -> bool:
        """False: it has no room, and the frame is lost."""

    def switched(self, on: bool) -> None:
        """The port group is there, or no more."""


class Group:
    """A port group of a switch. `gone` counts for ports that have been closed."""

    __slots__ = ("gone", "name", "policy", "ports", "switch", "team", "vlan")

    def __init__(self, switch: Switch, name: str, vlan: int, policy: Policy, team: Team) -> None:
        self.switch, self.name, self.vlan, self.policy, self.team = switch, name, vlan, policy, team
        self.ports: dict[Port, None] = {}
        self.gone = Counters()

    def counters(self) -> Counters:
        whole = Counters()
        for one in (self.gone, *(port.counters for port in self.ports)):
            whole.add(one)
        return whole


class Port:
    """`initial` is the address in the machine's configuration, `wanted.address` the one that its driver uses.

    `uplink` is where its frames go as long as that does not depend on the frame. `held` are frames above its bandwidth.
    """

    __slots__ = (
        "captures", "counters", "endpoint", "forged", "group", "group_name", "held", "initial", "label", "listens",
        "number", "places", "shaper", "uplink", "wanted",
    )  # fmt: skip

    def __init__(self, group_name: str, initial: bytes, endpoint: Endpoint, label: str) -> None:
        self.group_name, self.initial, self.endpoint, self.label = group_name, initial, endpoint, label
        self.group: Group | None = None  # while the port is on
        self.number = -1
        self.wanted = Wanted(initial)
        self.counters = Counters()
        self.captures: tuple[Any, ...] = ()
        self.uplink: Uplink | None = None
        self.shaper: Shaper | None = None
        self.held: deque[bytes] = deque()
        self.forged = True  # it may send in others' names
        self.listens = False  # for its own address
        self.places: tuple[Segment, bytes] | None = None  # where it can be reached

    @property
    def is_on(self) -> bool:
        return self.group is not None

    @property
    def is_trunk(self) -> bool:
        return self.group is not None and self.group.vlan == VLAN_TRUNK

    @property
    def may_receive(self) -> bool:
        """Under the group's policy on MAC changes."""
        changed = self.wanted.address != self.initial
        return self.group is not None and self.wanted.receiving and (self.group.policy.mac_changes or not changed)

    def __repr__(self) -> str:
        return f"Port({self.number}, {self.label or self.initial.hex(':')})"


class Segment:
    """The ports of one VLAN, by what reaches them. A port that wants everything is in `watchers` alone."""

    __slots__ = ("broadcast", "members", "multicast", "unicast", "watchers")

    def __init__(self) -> None:
        self.members: dict[Port, None] = {}
        self.unicast: dict[bytes, tuple[Port, ...]] = {}
        self.broadcast: dict[Port, None] = {}
        self.multicast: dict[Port, None] = {}
        self.watchers: dict[Port, None] = {}

    def add(self, port: Port) -> None:
        """As it is and as it wants to receive now. `remove` comes before the next `add`."""
        wanted, group = port.wanted, port.group
        assert group is not None and port.places is None
        self.members[port] = None
        port.places = self, wanted.address
        if wanted.address != NO_ADDRESS:
            self.unicast[wanted.address] = (*self.unicast.get(wanted.address, ()), port)
        port.listens = port.may_receive and (wanted.unicast or wanted.promiscuous)
        if not port.may_receive:
            return
        if wanted.promiscuous and group.policy.promiscuous:
            self.watchers[port] = None
            return
        if wanted.broadcast or wanted.promiscuous:
            self.broadcast[port] = None
        if wanted.hashes:
            self.multicast[port] = None

    def remove(self, port: Port) -> None:
        if port.places is None:
            return
        _, address = port.places
        port.places = None
        del self.members[port]
        if left := tuple(one for one in self.unicast.get(address, ()) if one is not port):
            self.unicast[address] = left
        else:
            self.unicast.pop(address, None)
        for row in (self.broadcast, self.multicast, self.watchers):
            row.pop(port, None)

    def audience(self, destination: bytes) -> Iterator[Port]:
        """Who wants a frame to a group of stations."""
        yield from self.watchers
        if destination == BROADCAST:
            yield from self.broadcast
        elif self.multicast:
            bit = 1 << hash_index(destination)
            yield from (port for port in self.multicast if port.wanted.hashes & bit)
