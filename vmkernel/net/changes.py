"""What people do to a host's network: each function makes the network that is to be from the one that is.

All raise BadOption for what is not there, or what is there already; `HostNetwork.check` judges the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ringfence.errors import BadOption
from vmkernel.net.cdp import Cdp
from vmkernel.net.host_network import (
    PORTS,
    HostNetwork,
    HostPort,
    Nic,
    PortGroup,
    VirtualSwitch,
    check_device_name,
    check_name,
)
from vmkernel.net.policy import Overrides, UplinkOrder
from vmkernel.net.uplinks.place import Place

NIC_PREFIX = "vmnic"
ALL_GROUPS = "ALL"


def switch_of(network: HostNetwork, name: str) -> VirtualSwitch:
    if name not in network.switches:
        raise BadOption(f"switch {name!r}: expected one of this host: {listed(network.switches)}")
    return network.switches[name]


def group_of(network: HostNetwork, name: str) -> tuple[str, VirtualSwitch, PortGroup]:
    """With the switch that it is on."""
    switch = network.switch_of(name)
    if switch is None:
        known = [group for _, group, _ in network.groups()]
        raise BadOption(f"port group {name!r}: expected one of this host: {listed(known)}")
    found = network.switches[switch]
    return switch, found, found.groups[name]


def nic_of(network: HostNetwork, name: str) -> Nic:
    if name not in network.nics:
        raise BadOption(f"{name!r}: expected a network adapter of this host: {listed(network.nics)}")
    return network.nics[name]


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "there is none"


# switches


def add_switch(network: HostNetwork, name: str, ports: int = PORTS) -> HostNetwork:
    check_name("switch", name)
    if name in network.switches:
        raise BadOption(f"switch {name}: there is one of this name already")
    return network.with_switch(name, VirtualSwitch(ports))


def remove_switch(network: HostNetwork, name: str) -> HostNetwork:
    """With its port groups; the host's own ports must not be in them."""
    switch = switch_of(network, name)
    for port in network.host_ports.values():
        if port.group in switch.groups:
            raise BadOption(f"switch {name}: expected no ports of the host, found {port.name} in {port.group}")
    return replace(network, switches={key: one for key, one in network.switches.items() if key != name})


def set_mtu(network: HostNetwork, name: str, mtu: int) -> HostNetwork:
    return network.with_switch(name, replace(switch_of(network, name), mtu=mtu))


def set_ports(network: HostNetwork, name: str, ports: int) -> HostNetwork:
    return network.with_switch(name, replace(switch_of(network, name), ports=ports))


def parse_cdp(text: str) -> Cdp:
    try:
        return Cdp(text)
    except ValueError:
        raise BadOption(f"CDP: expected {', '.join(Cdp)}, found {text!r}") from None


def set_cdp(network: HostNetwork, name: str, cdp: Cdp) -> HostNetwork:
    return network.with_switch(name, replace(switch_of(network, name), cdp=cdp))


# port groups


def add_group(network: HostNetwork, switch: str, name: str, vlan: int = 0) -> HostNetwork:
    check_name("port group", name)
    found = switch_of(network, switch)
    if (taken := network.switch_of(name)) is not None:
        raise BadOption(f"port group {name}: there is one of this name already, on {taken}")
    return network.with_switch(switch, replace(found, groups={**found.groups, name: PortGroup(vlan)}))


def remove_group(network: HostNetwork, name: str, switch: str | None = None) -> HostNetwork:
    where, found, _ = group_of(network, name)
    check_on(name, where, switch)
    for port in network.host_ports.values():
        if port.group == name:
            raise BadOption(f"port group {name}: expected no port of the host, found {port.name}")
    groups = {key: one for key, one in found.groups.items() if key != name}
    return network.with_switch(where, replace(found, groups=groups))


def set_group(network: HostNetwork, name: str, **changed: Any) -> HostNetwork:
    """Fields of PortGroup."""
    where, found, group = group_of(network, name)
    return network.with_switch(where, replace(found, groups={**found.groups, name: replace(group, **changed)}))


def set_vlan(network: HostNetwork, name: str, vlan: int, switch: str | None = None) -> HostNetwork:
    """Of a group, or of all of a switch."""
    if name == ALL_GROUPS and switch is not None:
        for group in switch_of(network, switch).groups:
            network = set_group(network, group, vlan=vlan)
        return network
    check_on(name, group_of(network, name)[0], switch)
    return set_group(network, name, vlan=vlan)


def check_on(group: str, where: str, switch: str | None) -> None:
    if switch is not None and where != switch:
        raise BadOption(f"port group {group}: expected on {switch}, found on {where}")


def set_policy(network: HostNetwork, target: str, **said: Any) -> HostNetwork:
    """Fields of Policy: of a switch, or of a port group, where None takes back what it said."""
    if target in network.switches:
        if None in (value for key, value in said.items() if key != "order"):
            raise BadOption(f"switch {target}: expected a port group to inherit, found a switch")
        switch = network.switches[target]
        return network.with_switch(target, replace(switch, policy=replace(switch.policy, **said)))
    if network.switch_of(target) is None:
        known = [*network.switches, *(group for _, group, _ in network.groups())]
        raise BadOption(f"{target!r}: expected a switch or a port group of this host: {listed(known)}")
    overrides = group_of(network, target)[2].overrides
    return set_group(network, target, overrides=replace(overrides, **said))


# uplinks


def add_nic(network: HostNetwork, place: Place, address: bytes, name: str | None = None) -> tuple[HostNetwork, str]:
    """And its name: vmnicN, if none is given."""
    if name is None:
        number = next(number for number in range(len(network.nics) + 1) if f"{NIC_PREFIX}{number}" not in network.nics)
        name = f"{NIC_PREFIX}{number}"
    check_device_name(name)
    if name in network.nics:
        raise BadOption(f"{name}: there is one of this name already: {network.nics[name].place}")
    return replace(network, nics={**network.nics, name: Nic(name, address, place)}), name


def remove_nic(network: HostNetwork, name: str) -> HostNetwork:
    """From its switch too."""
    nic_of(network, name)
    if (user := network.user_of(name)) is not None:
        network = unlink(network, name, user)
    return replace(network, nics={key: one for key, one in network.nics.items() if key != name})


def link(network: HostNetwork, nic: str, switch: str) -> HostNetwork:
    nic_of(network, nic)
    found = switch_of(network, switch)
    if (user := network.user_of(nic)) is not None:
        raise BadOption(f"{nic}: it is an uplink of {user} already")
    changed = replace(found, uplinks=(*found.uplinks, nic))
    if changed.policy.order is not None:
        order = replace(changed.policy.order, active=(*changed.policy.order.active, nic))
        changed = replace(changed, policy=replace(changed.policy, order=order))
    return network.with_switch(switch, changed)


def unlink(network: HostNetwork, nic: str, switch: str) -> HostNetwork:
    found = switch_of(network, switch)
    if nic not in found.uplinks:
        raise BadOption(f"{nic}: expected an uplink of {switch}: {listed(found.uplinks)}")
    policy = found.policy
    if policy.order is not None:
        policy = replace(policy, order=policy.order.without(nic))
    groups = {
        name: replace(group, overrides=replace(group.overrides, order=group.overrides.order.without(nic)))
        if group.overrides.order is not None else group
        for name, group in found.groups.items()
    }  # fmt: skip
    uplinks = tuple(one for one in found.uplinks if one != nic)
    return network.with_switch(switch, replace(found, uplinks=uplinks, policy=policy, groups=groups))


def add_to_group(network: HostNetwork, nic: str, name: str, switch: str | None = None) -> HostNetwork:
    """An uplink of its switch becomes an active one of a group."""
    where, found, group = group_of(network, name)
    check_on(name, where, switch)
    if nic not in found.uplinks:
        raise BadOption(f"{nic}: expected an uplink of {where}: {listed(found.uplinks)}")
    order = found.policy_of(name).order or UplinkOrder(found.uplinks)
    kept = order.without(nic)
    return with_order(network, name, group, UplinkOrder((*kept.active, nic), kept.standby))


def remove_from_group(network: HostNetwork, nic: str, name: str, switch: str | None = None) -> HostNetwork:
    where, found, group = group_of(network, name)
    check_on(name, where, switch)
    order = found.policy_of(name).order or UplinkOrder(found.uplinks)
    if nic not in order:
        raise BadOption(f"{nic}: expected an uplink of port group {name}: {listed((*order.active, *order.standby))}")
    return with_order(network, name, group, order.without(nic))


def with_order(network: HostNetwork, name: str, group: PortGroup, order: UplinkOrder) -> HostNetwork:
    overrides: Overrides = replace(group.overrides, order=order)
    return set_group(network, name, overrides=overrides)


# ports of the host


def add_host_port(network: HostNetwork, port: HostPort) -> HostNetwork:
    check_device_name(port.name)
    if port.name in network.host_ports:
        raise BadOption(f"{port.name}: there is one of this name already, in {network.host_ports[port.name].group}")
    group_of(network, port.group)
    return replace(network, host_ports={**network.host_ports, port.name: port})


def remove_host_port(network: HostNetwork, name: str) -> HostNetwork:
    if name not in network.host_ports:
        raise BadOption(f"{name!r}: expected a port of the host: {listed(network.host_ports)}")
    return replace(network, host_ports={key: one for key, one in network.host_ports.items() if key != name})
