"""What a host's network is to be: switches, port groups, uplinks, the host's own ports; checked as a whole.

Sizes: a switch of 56 ports has 64, of which adapters can have all but 8; the file and esxcfg-vswitch count the larger
number. Names of port groups are unique on the host.
Source: VMware Infrastructure 3, Configuration Maximums; ESX Server 3 Configuration Guide, "Networking".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface

from ringfence.errors import BadOption
from vmkernel.net.cdp import Cdp
from vmkernel.net.ethernet_spec import ADDRESS_BYTES, GROUP, MTU, MTU_MAX, MTU_MIN, VLAN_NONE, VLAN_TRUNK
from vmkernel.net.policy import Overrides, Policy
from vmkernel.net.uplinks.place import Place, parse_place

PORTS_RESERVED = 8
PORT_COUNTS = (8, 24, 56, 120, 248, 504, 1016)
PORTS = 56
SWITCHES_MAX, GROUPS_MAX, UPLINKS_MAX, HOST_PORTS_MAX = 127, 512, 32, 64
NAME_CHARACTERS_MAX = 80
NAME = re.compile(r"[^\x00-\x1f\x7f/\\\"]+")
DEVICE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
DEFAULT_SWITCH, DEFAULT_GROUP, DEFAULT_UPLINK = "vSwitch0", "VM Network", "vmnic0"
Extra = tuple[tuple[str, str], ...]  # keys that nothing here understands, kept as they were


class HostPortKind(StrEnum):
    """Whose port: the VMkernel's own, or the service console's. The value is esx.conf's word."""

    VMKERNEL = "vmkernelnic"
    CONSOLE = "vswif"


@dataclass(frozen=True, slots=True)
class Nic:
    """What stands for a physical adapter, `vmnicN`: a name, an address, and what it is connected to."""

    name: str
    address: bytes
    place: Place
    extra: Extra = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the host itself: an interface in the host. `interface` None: no IP address is given to it."""

    name: str
    kind: HostPortKind
    group: str
    address: bytes
    interface: IPv4Interface | None = None
    mtu: int = MTU
    enabled: bool = True
    extra: Extra = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class PortGroup:
    """A port group of a switch."""

    vlan: int = VLAN_NONE
    overrides: Overrides = field(default_factory=Overrides)
    extra: Extra = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class VirtualSwitch:
    """`ports` is how many adapters can be plugged in. `uplinks` are names of NICs; groups are by name."""

    ports: int = PORTS
    mtu: int = MTU
    uplinks: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
    groups: Mapping[str, PortGroup] = field(default_factory=dict)
    cdp: Cdp = Cdp.LISTEN
    extra: Extra = field(default=(), compare=False)

    def policy_of(self, group: str) -> Policy:
        """What counts for it in the end."""
        return self.groups[group].overrides.over(self.policy)


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """Everything. Never changed: `replace` makes another."""

    switches: Mapping[str, VirtualSwitch] = field(default_factory=dict)
    nics: Mapping[str, Nic] = field(default_factory=dict)
    host_ports: Mapping[str, HostPort] = field(default_factory=dict)

    def groups(self) -> Iterator[tuple[str, str, PortGroup]]:
        """(switch, name, group)."""
        for switch, one in self.switches.items():
            for name, group in one.groups.items():
                yield switch, name, group

    def switch_of(self, group: str) -> str | None:
        return next((switch for switch, name, _ in self.groups() if name == group), None)

    def user_of(self, nic: str) -> str | None:
        """The switch that a NIC is an uplink of."""
        return next((name for name, switch in self.switches.items() if nic in switch.uplinks), None)

    def with_switch(self, name: str, switch: VirtualSwitch) -> HostNetwork:
        return replace(self, switches={**self.switches, name: switch})

    def check(self) -> None:
        """Raises BadOption for what cannot be."""
        limit("switches", len(self.switches), SWITCHES_MAX)
        limit("port groups", sum(1 for _ in self.groups()), GROUPS_MAX)
        limit("network adapters", len(self.nics), UPLINKS_MAX)
        limit("ports of the host", len(self.host_ports), HOST_PORTS_MAX)
        seen: dict[str, str] = {}
        used: dict[str, str] = {}
        for name, switch in self.switches.items():
            check_switch(name, switch)
            for group in switch.groups:
                if seen.setdefault(group, name) != name:
                    raise BadOption(f"port group {group}: expected on one switch, found on {seen[group]} and {name}")
            for nic in switch.uplinks:
                if nic not in self.nics:
                    known = ", ".join(self.nics) or "none"
                    raise BadOption(f"{name}: uplink {nic}: expected a network adapter of this host: {known}")
                if used.setdefault(nic, name) != name:
                    raise BadOption(f"{nic}: expected as an uplink of one switch, found on {used[nic]} and {name}")
        for port in self.host_ports.values():
            if port.group not in seen:
                raise BadOption(f"{port.name}: expected a port group of this host, found {port.group!r}")


def check_switch(name: str, switch: VirtualSwitch) -> None:
    """Raises BadOption."""
    check_name("switch", name)
    if switch.ports not in PORT_COUNTS:
        raise BadOption(f"{name}: expected {', '.join(map(str, PORT_COUNTS))} ports, found {switch.ports}")
    if not MTU_MIN <= switch.mtu <= MTU_MAX:
        raise BadOption(f"{name}: expected an MTU of {MTU_MIN} to {MTU_MAX}, found {switch.mtu}")
    if len(set(switch.uplinks)) != len(switch.uplinks):
        raise BadOption(f"{name}: expected every uplink once, found {', '.join(switch.uplinks)}")
    switch.policy.check(name)
    for group, one in switch.groups.items():
        check_name("port group", group)
        if not VLAN_NONE <= one.vlan <= VLAN_TRUNK:
            raise BadOption(f"port group {group}: expected a VLAN of 0 (none) to 4095 (all), found {one.vlan}")
        switch.policy_of(group).check(f"port group {group}")
    for policy in (switch.policy, *(switch.policy_of(group) for group in switch.groups)):
        for nic in (*policy.order.active, *policy.order.standby) if policy.order else ():
            if nic not in switch.uplinks:
                raise BadOption(f"{name}: expected an uplink of the switch in the order, found {nic}")


def limit(what: str, found: int, most: int) -> None:
    if found > most:
        raise BadOption(f"network: expected at most {most} {what}, found {found}")


def check_name(what: str, name: str) -> None:
    """Raises BadOption."""
    if not NAME.fullmatch(name) or not name.isprintable() or name != name.strip() or len(name) > NAME_CHARACTERS_MAX:
        raise BadOption(f"{what} {name!r}: expected a name of 1 to {NAME_CHARACTERS_MAX} characters without / \\ \"")


def check_device_name(name: str) -> None:
    """Raises BadOption."""
    if not DEVICE_NAME.fullmatch(name):
        raise BadOption(f"{name!r}: expected a name of at most 15 letters, digits and . - _")


def parse_station(text: str) -> bytes:
    """Raises ValueError."""
    address = bytes(int(part, 16) for part in text.split(":"))
    if len(address) != ADDRESS_BYTES or address[0] & GROUP or not any(address):
        raise ValueError(f"the address of a station, found {text!r}")
    return address


def parse_interface(address: str, mask: str) -> IPv4Interface:
    """Raises BadOption."""
    try:
        return IPv4Interface(f"{IPv4Address(address)}/{IPv4Address(mask)}")
    except ValueError as error:
        raise BadOption(f"{address}, {mask}: expected an IPv4 address and a netmask: {error}") from None


def default_network(*, nat: bool, address: bytes) -> HostNetwork:
    """Of a host where nobody has said anything. `address` is for its network adapter."""
    nics = {DEFAULT_UPLINK: Nic(DEFAULT_UPLINK, address, parse_place("nat"))} if nat else {}
    switch = VirtualSwitch(uplinks=tuple(nics), groups={DEFAULT_GROUP: PortGroup()})
    return HostNetwork({DEFAULT_SWITCH: switch}, nics)
