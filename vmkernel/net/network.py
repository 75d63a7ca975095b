"""All virtual switches of a host, and the ports that are plugged into their port groups by name.

A change of the configuration applies to what runs: a port whose group goes is off, and on again when a group of that
name is there, on whichever switch. Passive, as the switches are.
"""

from __future__ import annotations

from collections.abc import Iterator

from ringfence.errors import BadOption
from vmkernel.net.cdp import Discovery, Identity, Neighbour
from vmkernel.net.host_network import HostNetwork, Nic
from vmkernel.net.port import Endpoint, Group, Port
from vmkernel.net.switch import GroupSetting, Switch
from vmkernel.net.team import Uplink

TOKEN_BYTES = 16


NOBODY = Identity()


def nowhere(frame: bytes) -> bool:
    """Of an uplink without a device."""
    return False


class Network:
    """`token` tells beacon probes of this host from all others; `identity` is who it is to devices outside."""

    def __init__(self, token: bytes, identity: Identity = NOBODY) -> None:
        assert len(token) == TOKEN_BYTES
        self._token = token
        self._discovery = Discovery(identity)
        self.configured = HostNetwork()
        self.switches: dict[str, Switch] = {}
        self.uplinks: dict[str, Uplink] = {}
        self._owner: dict[str, Switch] = {}  # of an uplink
        self._homeless: dict[Port, None] = {}

    def apply(self, wanted: HostNetwork, now_ns: int) -> None:
        """A level; `wanted` has been checked. A NIC that leads elsewhere than before is another uplink."""
        before = self.configured
        self.configured = wanted
        for name in [name for name in self.uplinks if not self._same(before.nics[name], wanted.nics.get(name))]:
            del self.uplinks[name]
        for nic in wanted.nics.values():
            self.uplinks.setdefault(nic.name, Uplink(nic.name, nic.address, nowhere))
        for name in [name for name in self.switches if name not in wanted.switches]:
            self._leave(self.switches.pop(name).set_up(0, 0, [], {}, now_ns))
        self._owner = {}
        for name, one in wanted.switches.items():
            switch = self.switches.setdefault(name, Switch(name, one.ports, self._token))
            uplinks = [self.uplinks[nic] for nic in one.uplinks]
            groups = {group: GroupSetting(each.vlan, one.policy_of(group)) for group, each in one.groups.items()}
            self._leave(switch.set_up(one.ports, one.mtu, uplinks, groups, now_ns))
            self._owner |= dict.fromkeys(one.uplinks, switch)
        modes = {
            self.uplinks[nic]: (one.cdp, one.mtu) for one in wanted.switches.values() for nic in one.uplinks
        }
        own = [port.interface.ip for port in wanted.host_ports.values() if port.enabled and port.interface is not None]
        self._discovery.set_up(modes, own, now_ns)
        for port in list(self._homeless):
            found = self.find(port.group_name)
            if found is not None and not found[0].is_full:
                del self._homeless[port]
                found[0].attach(port, found[1], now_ns)
                port.endpoint.switched(True)

    @staticmethod
    def _same(before: Nic, after: Nic | None) -> bool:
        return after is not None and (before.place, before.address) == (after.place, after.address)

    def _leave(self, ports: list[Port]) -> None:
        for port in ports:
            self._homeless[port] = None
            port.endpoint.switched(False)

    def find(self, group: str) -> tuple[Switch, Group] | None:
        for switch in self.switches.values():
            if group in switch.groups:
                return switch, switch.groups[group]
        return None

    # ports

    def open(self, group: str, address: bytes, endpoint: Endpoint, label: str, now_ns: int) -> Port:
        """A port that is on. Raises BadOption for a group that is not there, or a switch that is full."""
        found = self.find(group)
        if found is None:
            known = ", ".join(name for _, name, _ in self.configured.groups()) or "there is none"
            raise BadOption(f"port group {group!r}: expected one of this host: {known}")
        if found[0].is_full:
            full = f"{found[0].name} is full: all of its {found[0].capacity} ports are used"
            raise BadOption(f"port group {group!r}: {full}")
        port = Port(group, address, endpoint, label)
        found[0].attach(port, found[1], now_ns)
        return port

    def close(self, port: Port) -> None:
        """Idempotent."""
        self._homeless.pop(port, None)
        switch = self.switch_of(port)
        if switch is not None:
            switch.detach(port)

    def switch_of(self, port: Port) -> Switch | None:
        return None if port.group is None else port.group.switch

    def ports(self) -> Iterator[tuple[Switch, Group, Port]]:
        """Those that are on."""
        for switch in self.switches.values():
            for group in switch.groups.values():
                for port in group.ports:
                    yield switch, group, port

    # uplinks

    def set_link(self, name: str, up: bool, now_ns: int) -> None:
        owner = self._owner.get(name)
        if owner is not None:
            owner.set_link(self.uplinks[name], up, now_ns)
        else:
            self.uplinks[name].link = up
        self._discovery.linked(self.uplinks[name], now_ns)

    def receive(self, name: str, frame: bytes, now_ns: int) -> None:
        """A frame from an uplink's device; one that is on no switch leads nowhere."""
        owner, uplink = self._owner.get(name), self.uplinks[name]
        if owner is None:
            return
        if self._discovery.heard(uplink, frame, now_ns):
            uplink.counters.frames_in += 1
            uplink.counters.bytes_in += len(frame)
            for capture in uplink.captures:
                capture.frame(frame, now_ns, outbound=False)
            return
        owner.receive(uplink, frame, now_ns)

    def neighbours(self, name: str, now_ns: int) -> list[Neighbour]:
        """Who has said something of itself at an uplink, by CDP."""
        return self._discovery.neighbours(self.uplinks[name], now_ns)

    # time

    def next_ns(self, now_ns: int) -> int | None:
        """When `tick` is due."""
        times = [at for switch in self.switches.values() if (at := switch.next_ns(now_ns)) is not None]
        if (due := self._discovery.next_ns()) is not None:
            times.append(due)
        return min(times, default=None)

    def tick(self, now_ns: int) -> None:
        for switch in self.switches.values():
            switch.tick(now_ns)
        for uplink, frame in self._discovery.tick(now_ns):
            uplink.emit(frame, now_ns)
