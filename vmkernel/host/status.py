"""What is plugged in where, and what has passed: the VMkernel's answer to "status", as JSON."""

from __future__ import annotations

from typing import Any

from vmkernel.host.devices import Devices
from vmkernel.net.cdp import SECOND, Neighbour
from vmkernel.net.network import Network
from vmkernel.net.port import Group, Port
from vmkernel.net.switch import Switch
from vmkernel.net.team import Uplink


def status(network: Network, devices: Devices, now_ns: int) -> dict[str, Any]:
    return {
        "switches": [switch_row(switch) for switch in network.switches.values()],
        "uplinks": [uplink_row(uplink, network, devices, now_ns) for uplink in network.uplinks.values()],
        "troubles": [{"name": name, "trouble": text} for name, text in devices.own_troubles.items()],
    }


def switch_row(switch: Switch) -> dict[str, Any]:
    return {
        "name": switch.name, "ports": switch.capacity, "used": switch.used, "mtu": switch.mtu,
        "uplinks": [uplink.name for uplink in switch.uplinks],
        "groups": [group_row(group) for group in switch.groups.values()],
    }  # fmt: skip


def group_row(group: Group) -> dict[str, Any]:
    return {
        "name": group.name, "vlan": group.vlan, "in_use": [uplink.name for uplink in group.team.in_use],
        "counters": group.counters().as_json(), "ports": [port_row(port) for port in group.ports],
    }  # fmt: skip


def port_row(port: Port) -> dict[str, Any]:
    return {
        "number": port.number, "client": port.label, "address": port.initial.hex(":"),
        "effective": port.wanted.address.hex(":"), "uplink": port.uplink.name if port.uplink else None,
        "receiving": port.wanted.receiving, "counters": port.counters.as_json(),
    }  # fmt: skip


def uplink_row(uplink: Uplink, network: Network, devices: Devices, now_ns: int) -> dict[str, Any]:
    return {
        "name": uplink.name, "address": uplink.address.hex(":"), "link": uplink.link,
        "deaf_vlans": [vlan for switch in network.switches.values() for vlan in switch.deaf_vlans(uplink)],
        "place": str(devices.opened[uplink.name].nic.place) if uplink.name in devices.opened else None,
        "trouble": devices.trouble(uplink.name), "counters": uplink.counters.as_json(),
        "heard": [neighbour_row(one, now_ns) for one in network.neighbours(uplink.name, now_ns)],
    }  # fmt: skip


def neighbour_row(one: Neighbour, now_ns: int) -> dict[str, Any]:
    return {
        "device": one.device, "port": one.port, "platform": one.platform, "software": one.software,
        "addresses": list(one.addresses), "capabilities": [str(bit.name).lower() for bit in one.capabilities],
        "native_vlan": one.native_vlan, "full_duplex": one.full_duplex, "mtu": one.mtu,
        "lasts_s": (one.until_ns - now_ns) // SECOND,
    }  # fmt: skip
