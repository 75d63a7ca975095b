"""`ringfence switch list|stats`: what there is, and what has passed."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.disk_words import add_json
from tools.switch_words import links, network_file, status, usage

if TYPE_CHECKING:
    from vmkernel.net.host_network import HostNetwork
    from vmkernel.net.policy import Policy

COUNTED = ("frames_in", "bytes_in", "frames_out", "bytes_out", "dropped")


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    listing = subparsers.add_parser("list", help="switches, port groups, uplinks and who is plugged in")
    add_json(listing)
    listing.set_defaults(run=list_run)
    stats = subparsers.add_parser("stats", help="frames and bytes of ports, port groups and uplinks, and what was lost")
    stats.add_argument("target", nargs="?", metavar="SWITCH|GROUP|UPLINK", help="of these only")
    add_json(stats)
    stats.set_defaults(run=stats_run)


def list_run(options: argparse.Namespace) -> None:
    rows = facts(network_file().network(), status())
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for switch in rows["switches"]:
        print(f"{switch['name']}: {switch['used']} of {switch['ports']} ports, MTU {switch['mtu']}")
        for nic in switch["uplinks"]:
            one = rows["uplinks"][nic]
            state = {True: "up", False: "down", None: "not in use"}[one["link"]]
            print(f"  uplink {nic}: {one['place']}, {state}{': ' + one['trouble'] if one['trouble'] else ''}")
            for vlan in one["deaf_vlans"]:
                print(f"    hears no beacons{f' in VLAN {vlan}' if vlan else ''}")
            for heard in one["heard"]:
                print(f"    heard by CDP: {heard['device']}, {heard['port']} ({heard['platform']})")
        for group in switch["groups"]:
            vlan = {0: "", 4095: ", all VLANs"}.get(group["vlan"], f", VLAN {group['vlan']}")
            print(f"  {group['name']}{vlan}")
            for port in group["ports"]:
                print(f"    {port['number']:>4} {port['effective']} {port['client']}")
    for name, port in rows["host_ports"].items():
        print(f"{name}: {port['interface'] or 'no address'}, in {port['group']}")


def facts(network: HostNetwork, running: dict[str, Any] | None) -> dict[str, Any]:
    """As configured, and as it is."""
    used, up = usage(running), links(running)
    switches = []
    for name, switch in network.switches.items():
        groups = [
            {
                "name": group, "vlan": one.vlan, "policy": policy_facts(switch.policy_of(group)),
                "ports": used.get(f"group {group}", {}).get("ports", []),
            }
            for group, one in switch.groups.items()
        ]  # fmt: skip
        in_use = used.get(f"switch {name}", {}).get("used", len(switch.uplinks))
        switches.append({
            "name": name, "ports": switch.ports, "used": in_use, "mtu": switch.mtu, "uplinks": list(switch.uplinks),
            "cdp": str(switch.cdp), "policy": policy_facts(switch.policy), "groups": groups,
        })  # fmt: skip
    uplinks = {
        name: {
            "place": str(nic.place), "address": nic.address.hex(":"), "switch": network.user_of(name),
            "link": up[name]["link"] if name in up else None, "trouble": up.get(name, {}).get("trouble", ""),
            "heard": up.get(name, {}).get("heard", []), "deaf_vlans": up.get(name, {}).get("deaf_vlans", []),
        }
        for name, nic in network.nics.items()
    }  # fmt: skip
    ports = {
        name: {
            "kind": str(port.kind), "group": port.group, "address": port.address.hex(":"),
            "interface": str(port.interface) if port.interface else None, "mtu": port.mtu, "enabled": port.enabled,
        }
        for name, port in network.host_ports.items()
    }  # fmt: skip
    return {"running": running is not None, "switches": switches, "uplinks": uplinks, "host_ports": ports}


def policy_facts(policy: Policy) -> dict[str, Any]:
    shaping, order = policy.shaping, policy.order
    return {
        "promiscuous": policy.promiscuous, "mac_changes": policy.mac_changes,
        "forged_transmits": policy.forged_transmits,
        "shaping": {"enabled": shaping.enabled, "average_bps": shaping.average, "peak_bps": shaping.peak,
                    "burst_bytes": shaping.burst},
        "load_balance": str(policy.balance), "active": list(order.active) if order else None,
        "standby": list(order.standby) if order else None, "notify": policy.notify, "failback": policy.failback,
        "beacon": policy.beacon,
    }  # fmt: skip


def stats_run(options: argparse.Namespace) -> None:
    running = status()
    rows = [] if running is None else counter_rows(running)
    if options.target is not None:
        rows = [row for row in rows if options.target in (row["name"], row["switch"], row["group"])]
        if not rows and running is not None:
            raise BadOption(f"{options.target!r}: expected a switch, a port group or an uplink with ports in use")
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    if running is None:
        print("no VMkernel is running: nothing has been counted")
        return
    print(f"{'':36} {'in':>21} {'out':>23} {'lost':>10}")
    for row in rows:
        counts = [row["counters"][word] for word in COUNTED]
        print(f"{row['kind']:<7}{row['name'][:28]:<29}{counts[0]:>10} {counts[1]:>12}{counts[2]:>11} {counts[3]:>12}"
              f"{counts[4]:>11}")  # fmt: skip
        for reason, count in row["counters"]["drops"].items():
            print(f"{'':80} {count:>8} {reason}")


def counter_rows(running: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for switch in running["switches"]:
        for group in switch["groups"]:
            where = {"switch": switch["name"], "group": group["name"]}
            rows.append({"kind": "group", "name": group["name"], **where, "counters": group["counters"]})
            for port in group["ports"]:
                name = f"{switch['name']}/{port['number']} {port['client']}".rstrip()
                rows.append({"kind": "port", "name": name, **where, "counters": port["counters"]})
    owners = {nic: switch["name"] for switch in running["switches"] for nic in switch["uplinks"]}
    for uplink in running["uplinks"]:
        where = {"switch": owners.get(uplink["name"], ""), "group": ""}
        rows.append({"kind": "uplink", "name": uplink["name"], **where, "counters": uplink["counters"]})
    return rows
