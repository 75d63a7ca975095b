"""The uplinks of a virtual switch, and which of them a port group uses now: load balancing, failover, failback.

As many uplinks are in use as there are active ones; standby ones, in their order, fill the places of those that are
down or not there. Without failback an uplink that comes up again waits until it is needed.
Source: ESX Server 3 Configuration Guide, "Load Balancing and Failover Policy"; VI SDK 2.5, HostNicTeamingPolicy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any

from vmkernel.net.counters import Counters, Drop
from vmkernel.net.frames import ip_hash
from vmkernel.net.policy import LoadBalance, Policy

ADDRESS_LAST = 11  # of a frame's source


class Uplink:
    """A port of the switch that leads out of it. `send` hands a frame to its device; False: the device is full."""

    __slots__ = ("address", "captures", "counters", "link", "name", "number", "send")

    def __init__(self, name: str, address: bytes, send: Callable[[bytes], bool], number: int = 0) -> None:
        self.name, self.address, self.send, self.number = name, address, send, number
        self.link = False
        self.counters = Counters()
        self.captures: tuple[Any, ...] = ()

    def emit(self, frame: bytes, now_ns: int) -> bool:
        """Hand a frame to the device, and show it to captures; whether the device took it."""
        for capture in self.captures:
            capture.frame(frame, now_ns, outbound=True)
        if self.send(frame):
            self.counters.frames_out += 1
            self.counters.bytes_out += len(frame)
            return True
        self.counters.drops[Drop.FULL] += 1
        return False

    def __repr__(self) -> str:
        return f"Uplink({self.name})"


class Team:
    """The uplinks of one port group. `suspect`: beacons cannot tell which of them work, so all are used at once."""

    __slots__ = ("_active", "_fixed", "_places", "_policy", "_standby", "in_use", "suspect")

    def __init__(self, policy: Policy, uplinks: Sequence[Uplink]) -> None:
        self.in_use: list[Uplink] = []
        self.suspect = False
        self.set_up(policy, uplinks)

    def set_up(self, policy: Policy, uplinks: Sequence[Uplink]) -> None:
        """`refresh` has to follow."""
        by_name = {uplink.name: uplink for uplink in uplinks}
        self._policy = policy
        self._active = list(uplinks) if policy.order is None else named(by_name, policy.order.active)
        self._standby = [] if policy.order is None else named(by_name, policy.order.standby)
        self._places = max(len(self._active) if policy.order is None else len(policy.order.active), 1)
        self._fixed = policy.balance in {LoadBalance.PORT, LoadBalance.EXPLICIT}
        self.in_use = [uplink for uplink in self.in_use if by_name.get(uplink.name) is uplink]

    def refresh(self, deaf: Set[Uplink] = frozenset(), suspect: bool = False) -> None:
        """The state of links, or what beacons say, has changed. `deaf`: who is cut off behind its link."""
        order = [*self._active, *self._standby]
        self.suspect = suspect and self._policy.beacon
        if self.suspect:
            self.in_use = [uplink for uplink in order if uplink.link]
            return
        places = 1 if self._policy.balance is LoadBalance.EXPLICIT else self._places
        good = [uplink for uplink in order if uplink.link and not (self._policy.beacon and uplink in deaf)]
        if not self._policy.failback:
            kept = [uplink for uplink in self.in_use if uplink in good and uplink in order]
            good = [*kept, *(uplink for uplink in good if uplink not in kept)]
        self.in_use = good[:places]

    def of_port(self, number: int, address: bytes) -> Uplink | None:
        """Where a port's frames go, and come from, unless that is decided frame by frame."""
        if not self.in_use or self.suspect or self._policy.balance is LoadBalance.IP_HASH:
            return None
        if self._policy.balance is LoadBalance.EXPLICIT:
            return self.in_use[0]
        key = number if self._policy.balance is LoadBalance.PORT else address[-1]
        return self.in_use[key % len(self.in_use)]

    def choose(self, fixed: Uplink | None, frame: bytes) -> Iterable[Uplink]:
        """Where this frame, which has no tag, goes; `fixed` is what `of_port` said."""
        if self.suspect or not self.in_use:
            return self.in_use
        if self._fixed and fixed is not None:
            return (fixed,)
        count = len(self.in_use)
        if self._policy.balance is LoadBalance.IP_HASH:
            return (self.in_use[ip_hash(frame, count)],)
        return (self.in_use[frame[ADDRESS_LAST] % count],)


def named(uplinks: dict[str, Uplink], names: Iterable[str]) -> list[Uplink]:
    return [uplinks[name] for name in names if name in uplinks]
