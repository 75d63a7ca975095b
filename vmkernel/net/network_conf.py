"""A host's network in esx.conf: which key says what.

    /net/vswitch/child[0000]/name, numPorts, mtu, uplinks/child[0000]/pnic, cdp/status
                            /securityPolicy/promiscuous, macChange, forgedTx
                            /shapingPolicy/enabled, averageBandwidth, peakBandwidth, burstSize      bit/s, bytes
                            /teamPolicy/team, notifySwitch, rollingRestoration, reversePolicy, linkCriteria/beacon,
                                       hasUplinkOrder, maxActive, uplinks[0000]/pnic                active ones first
                            /portgroup/child[0000]/name, vlanId, and the policies that it does not inherit
    /net/pnic/child[0000]/name, mac, connection                       what it stands for: see uplinks/place.py
    /net/vmkernelnic/child[0000]/name, enable, portgroup, mac, mtu, ipv4address, ipv4netmask        /net/vswif likewise

Keys beside these are kept as they are.
Source: esx.conf of ESX 3.5 and 4. UNKNOWN: its names in shapingPolicy (here those of the VI SDK) and the word for
"check" of linkCriteria/beacon (here "require").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from ringfence.errors import BadInput, BadOption
from vmkernel.net.cdp import Cdp
from vmkernel.net.esx_conf import EsxConf
from vmkernel.net.ethernet_spec import MTU, VLAN_NONE, VLAN_TRUNK
from vmkernel.net.host_network import (
    PORTS,
    PORTS_RESERVED,
    HostNetwork,
    HostPort,
    HostPortKind,
    Nic,
    PortGroup,
    VirtualSwitch,
    parse_interface,
    parse_station,
)
from vmkernel.net.policy import LoadBalance, Overrides, Policy, Shaping, UplinkOrder
from vmkernel.net.uplinks.place import parse_place

T = TypeVar("T")
SWITCHES, NICS = "/net/vswitch/", "/net/pnic/"
CONFIGURED = "/net/configured"  # ours: so a network without anything can be told from none that was ever said
PREFIXES = (SWITCHES, NICS, CONFIGURED, *(f"/net/{kind}/" for kind in HostPortKind))
TRUE, FALSE, IGNORE, REQUIRE = "true", "false", "ignore", "require"
INDEX_MAX = 9999
POLICY_WORDS = ("securityPolicy/", "shapingPolicy/", "teamPolicy/")
BOOLEANS = {
    "promiscuous": "securityPolicy/promiscuous", "mac_changes": "securityPolicy/macChange",
    "forged_transmits": "securityPolicy/forgedTx", "notify": "teamPolicy/notifySwitch",
    "reverse": "teamPolicy/reversePolicy",
}  # fmt: skip
ROLLING, BEACON, TEAM = "teamPolicy/rollingRestoration", "teamPolicy/linkCriteria/beacon", "teamPolicy/team"
CDP = "cdp/status"
HAS_ORDER, MAX_ACTIVE, ORDER = "teamPolicy/hasUplinkOrder", "teamPolicy/maxActive", "teamPolicy/uplinks"
SHAPING = {
    "enabled": "shapingPolicy/enabled", "average": "shapingPolicy/averageBandwidth",
    "peak": "shapingPolicy/peakBandwidth", "burst": "shapingPolicy/burstSize",
}  # fmt: skip


class Node:
    """What is under one path; what has been asked for is `used`."""

    def __init__(self, conf: EsxConf, prefix: str) -> None:
        self.conf, self.prefix = conf, prefix
        self.used: set[str] = set()

    def text(self, key: str, default: str | None = None) -> str:
        """Raises BadInput where there has to be one."""
        path = self.prefix + key
        self.used.add(path)
        if path in self.conf.values:
            return self.conf.values[path]
        if default is None:
            raise BadInput(self.conf.path, path, "a value", "none")
        return default

    def has(self, key: str) -> bool:
        return self.prefix + key in self.conf.values

    def parsed(self, key: str, parse: Callable[[str], T], expected: str, default: str | None = None) -> T:
        """Raises BadInput with the line for what `parse` does not take."""
        text = self.text(key, default)
        try:
            return parse(text)
        except (ValueError, KeyError, BadOption) as error:
            said = str(error).partition("expected ")[2] or expected
            raise BadInput(self.conf.where(self.prefix + key), self.prefix + key, said, ascii(text)) from None

    def number(self, key: str, default: int) -> int:
        return self.parsed(key, whole_number, "a whole number", str(default))

    def boolean(self, key: str, default: bool | None) -> bool | None:
        if not self.has(key):
            return default
        return self.parsed(key, {TRUE: True, FALSE: False}.__getitem__, f"{TRUE} or {FALSE}")

    def children(self, key: str) -> Iterator[Node]:
        """child[0000] and so on, in their order."""
        pattern = re.compile(re.escape(self.prefix + key) + r"\[(\d{4})\]/.+")
        found = {match[1] for path in self.conf.values if (match := pattern.fullmatch(path))}
        for index in sorted(found):
            child = Node(self.conf, f"{self.prefix}{key}[{index}]/")
            child.used = self.used
            yield child

    def rest(self) -> tuple[tuple[str, str], ...]:
        """Keys that nobody asked for."""
        return tuple(
            (path.removeprefix(self.prefix), value) for path, value in self.conf.values.items()
            if path.startswith(self.prefix) and path not in self.used
        )  # fmt: skip


def whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ValueError
    return int(text)


# reading


def is_configured(conf: EsxConf) -> bool:
    """Does it say anything of the network?"""
    return any(key.startswith(PREFIXES) for key in conf.values)


def read_network(conf: EsxConf) -> HostNetwork:
    """Raises BadInput for what cannot be."""
    root = Node(conf, "/net/")
    switches = dict(unique(conf, root.children("vswitch/child"), read_switch))
    nics = dict(unique(conf, root.children("pnic/child"), read_nic))
    ports: dict[str, HostPort] = {}
    for kind in HostPortKind:
        ports |= dict(unique(conf, root.children(f"{kind}/child"), partial(read_port, kind)))
    network = HostNetwork(switches, nics, ports)
    try:
        network.check()
    except BadOption as error:
        raise BadInput(conf.path, "network", "one that can be", str(error)) from None
    return network


def unique(conf: EsxConf, nodes: Iterator[Node], read: Callable[[Node], T]) -> Iterator[tuple[str, T]]:
    seen: set[str] = set()
    for node in nodes:
        name = node.text("name")
        if name in seen:
            raise BadInput(conf.where(node.prefix + "name"), node.prefix + "name", "a name of its own", ascii(name))
        seen.add(name)
        yield name, read(node)


def read_switch(node: Node) -> VirtualSwitch:
    ports = node.number("numPorts", PORTS + PORTS_RESERVED) - PORTS_RESERVED
    mtu = node.number("mtu", MTU)
    uplinks = tuple(child.text("pnic") for child in node.children("uplinks/child"))
    policy = read_overrides(node).over(Policy())
    groups = dict(unique(node.conf, node.children("portgroup/child"), read_group))
    cdp = node.parsed(CDP, Cdp, ", ".join(Cdp), Cdp.LISTEN)
    return VirtualSwitch(ports, mtu, uplinks, policy, groups, cdp, node.rest())


def read_group(node: Node) -> PortGroup:
    vlan = node.number("vlanId", VLAN_NONE)
    if vlan > VLAN_TRUNK:
        key = node.prefix + "vlanId"
        raise BadInput(node.conf.where(key), key, f"0 to {VLAN_TRUNK}", str(vlan))
    overrides = read_overrides(node)
    extra = node.rest()
    node.used.update(node.prefix + key for key, _ in extra)
    return PortGroup(vlan, overrides, extra)


def read_overrides(node: Node) -> Overrides:
    said: dict[str, Any] = {name: node.boolean(key, None) for name, key in BOOLEANS.items()}
    rolling = node.boolean(ROLLING, None)
    said["failback"] = None if rolling is None else not rolling
    if node.has(BEACON):
        said["beacon"] = node.parsed(BEACON, {IGNORE: False, REQUIRE: True}.__getitem__, f"{IGNORE} or {REQUIRE}")
    if node.has(TEAM):
        said["balance"] = node.parsed(TEAM, LoadBalance, ", ".join(LoadBalance))
    said["shaping"], said["order"] = read_shaping(node), read_order(node)
    return Overrides(**said)


def read_shaping(node: Node) -> Shaping | None:
    if not any(node.has(key) for key in SHAPING.values()):
        return None
    usual = Shaping()
    enabled = bool(node.boolean(SHAPING["enabled"], False))
    average = node.number(SHAPING["average"], usual.average)
    return Shaping(enabled, average, node.number(SHAPING["peak"], max(average, usual.peak)),
                   node.number(SHAPING["burst"], usual.burst))  # fmt: skip


def read_order(node: Node) -> UplinkOrder | None:
    names = tuple(child.text("pnic") for child in node.children(ORDER))
    ordered, active = node.boolean(HAS_ORDER, bool(names)), node.number(MAX_ACTIVE, len(names))
    return UplinkOrder(names[:active], names[active:]) if ordered else None


def read_nic(node: Node) -> Nic:
    address = node.parsed("mac", parse_station, "the address of a station")
    return Nic(node.text("name"), address, node.parsed("connection", parse_place, "what it is connected to"),
               node.rest())  # fmt: skip


def read_port(kind: HostPortKind, node: Node) -> HostPort:
    interface = None
    if node.has("ipv4address"):
        mask = node.text("ipv4netmask")
        interface = node.parsed("ipv4address", lambda text: parse_interface(text, mask), "an IPv4 address")
    address = node.parsed("mac", parse_station, "the address of a station")
    enabled = node.boolean("enable", True)
    return HostPort(node.text("name"), kind, node.text("portgroup"), address, interface, node.number("mtu", MTU),
                    bool(enabled), node.rest())  # fmt: skip


# writing


def write_network(network: HostNetwork, conf: EsxConf) -> EsxConf:
    """`conf` with this network instead of its own."""
    values: dict[str, str] = {CONFIGURED: TRUE}
    for index, (name, switch) in enumerate(network.switches.items()):
        prefix = f"{SWITCHES}child[{index:04}]/"
        put(values, prefix, {**dict(switch.extra), **switch_values(name, switch)})
        for number, (group, one) in enumerate(switch.groups.items()):
            row = {**dict(one.extra), "name": group, "vlanId": str(one.vlan), **overrides_values(one.overrides)}
            put(values, f"{prefix}portgroup/child[{number:04}]/", row)
    for index, nic in enumerate(network.nics.values()):
        row = {**dict(nic.extra), "name": nic.name, "mac": nic.address.hex(":"), "connection": str(nic.place)}
        put(values, f"{NICS}child[{index:04}]/", row)
    for kind in HostPortKind:
        for index, port in enumerate(one for one in network.host_ports.values() if one.kind is kind):
            put(values, f"/net/{kind}/child[{index:04}]/", {**dict(port.extra), **port_values(port)})
    return conf.replaced(PREFIXES, values)


def put(values: dict[str, str], prefix: str, row: dict[str, str]) -> None:
    values.update({prefix + key: value for key, value in row.items()})


def switch_values(name: str, switch: VirtualSwitch) -> dict[str, str]:
    policy = switch.policy
    said = Overrides(**{one: getattr(policy, one) for one in Overrides.__dataclass_fields__})
    return {
        "name": name, "numPorts": str(switch.ports + PORTS_RESERVED), "mtu": str(switch.mtu),
        CDP: str(switch.cdp),
        **{f"uplinks/child[{index:04}]/pnic": nic for index, nic in enumerate(switch.uplinks)},
        **overrides_values(said),
    }  # fmt: skip


def overrides_values(said: Overrides) -> dict[str, str]:
    row = {key: word(value) for name, key in BOOLEANS.items() if (value := getattr(said, name)) is not None}
    if said.failback is not None:
        row[ROLLING] = word(not said.failback)
    if said.beacon is not None:
        row[BEACON] = REQUIRE if said.beacon else IGNORE
    if said.balance is not None:
        row[TEAM] = str(said.balance)
    if said.shaping is not None:
        shaping = said.shaping
        row |= {SHAPING["enabled"]: word(shaping.enabled), SHAPING["average"]: str(shaping.average),
                SHAPING["peak"]: str(shaping.peak), SHAPING["burst"]: str(shaping.burst)}  # fmt: skip
    if said.order is not None:
        row |= {HAS_ORDER: TRUE, MAX_ACTIVE: str(len(said.order.active))}
        names = (*said.order.active, *said.order.standby)
        row |= {f"{ORDER}[{index:04}]/pnic": name for index, name in enumerate(names)}
    return row


def port_values(port: HostPort) -> dict[str, str]:
    row = {"name": port.name, "enable": word(port.enabled), "portgroup": port.group, "mac": port.address.hex(":"),
           "mtu": str(port.mtu)}  # fmt: skip
    if port.interface is not None:
        row |= {"ipv4address": str(port.interface.ip), "ipv4netmask": str(port.interface.netmask)}
    return row


def word(value: bool) -> str:
    return TRUE if value else FALSE
