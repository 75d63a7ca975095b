"""`esxcfg-vswitch`: ESX Server 3's command for virtual switches, its options and its output.

Port counts are the larger ones: 64 is what other places call 56.
Not modelled: -i (the switch of an uplink that is on none), -r, which has nothing to restore here.
Source: ESX Server 3 Configuration Guide, "esxcfg-vswitch".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ringfence.errors import BadOption
from tools.esxcfg import run_command_line
from tools.switch_words import change, network_file, status, usage

if TYPE_CHECKING:
    from vmkernel.net.host_network import HostNetwork

DESCRIPTION = "Make, change, list and delete virtual switches, port groups and their uplinks."
EPILOG = """\
  esxcfg-vswitch -l                                   esxcfg-vswitch -a vSwitch1:64
  esxcfg-vswitch -A "VM Network 2" vSwitch1           esxcfg-vswitch -p "VM Network 2" -v 105 vSwitch1
  esxcfg-vswitch -L vmnic1 vSwitch1                   esxcfg-vswitch -M vmnic1 -p "VM Network 2" vSwitch1

exit status: 0; 2 bad input, options or host
"""
HEADING = "Switch Name    Num Ports   Used Ports  Configured Ports  MTU     Uplinks"
GROUP_HEADING = "  PortGroup Name      VLAN ID  Used Ports  Uplinks"


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise BadOption(message)


def parser() -> argparse.ArgumentParser:
    top = OneLineParser(
        prog="esxcfg-vswitch", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    what = top.add_mutually_exclusive_group()
    what.add_argument("-l", "--list", action="store_true", help="the switches and their port groups")
    what.add_argument("-a", "--add", metavar="vSwitch[:PORTS]", help="make a switch")
    what.add_argument("-d", "--delete", metavar="vSwitch", help="delete a switch")
    what.add_argument("-A", "--add-pg", metavar="GROUP", help="make a port group on vSwitch")
    what.add_argument("-D", "--del-pg", metavar="GROUP", help="delete a port group of vSwitch")
    what.add_argument("-L", "--link", metavar="vmnic", help="make it an uplink of vSwitch")
    what.add_argument("-U", "--unlink", metavar="vmnic", help="take it away from vSwitch")
    what.add_argument("-M", "--add-pg-uplink", metavar="vmnic", help="make it an active uplink of the group -p")
    what.add_argument("-N", "--del-pg-uplink", metavar="vmnic", help="take it away from the group -p")
    what.add_argument("-v", "--vlan", metavar="ID", help="the VLAN of the group -p, or of ALL")
    what.add_argument("-c", "--check", metavar="vSwitch", help="print 1 if there is such a switch, else 0")
    what.add_argument("-C", "--check-pg", metavar="GROUP", help="print 1 if there is such a group, else 0")
    what.add_argument("-m", "--mtu", metavar="MTU", help="of vSwitch")
    what.add_argument("-b", "--get-cdp", metavar="vSwitch", help="print the state of CDP")
    what.add_argument("-B", "--set-cdp", metavar="STATE", help="of vSwitch: down, listen, advertise or both")
    what.add_argument("-r", "--restore", action="store_true", help="accepted")
    top.add_argument("-p", "--pg", metavar="GROUP", help="the group that is meant")
    top.add_argument("switch", nargs="?", metavar="vSwitch")
    return top


def act(options: argparse.Namespace) -> None:
    """The one thing that was asked for."""
    from vmkernel.net.changes import switch_of

    if options.list:
        print("\n".join(listing(network_file().network(), status())))
    elif options.check is not None:
        print(int(options.check in network_file().network().switches))
    elif options.check_pg is not None:
        print(int(network_file().network().switch_of(options.check_pg) is not None))
    elif options.get_cdp is not None:
        print(switch_of(network_file().network(), options.get_cdp).cdp)
    elif not options.restore:
        do_change(options)


def do_change(options: argparse.Namespace) -> None:
    from vmkernel.net import changes

    def action(network: HostNetwork) -> HostNetwork:
        switch, group = options.switch, options.pg
        if options.add is not None:
            name, _, ports = options.add.partition(":")
            return changes.add_switch(network, name, port_count(ports))
        if options.delete is not None:
            return changes.remove_switch(network, options.delete)
        needed(switch, "a vSwitch at the end")
        if options.add_pg is not None:
            return changes.add_group(network, switch, options.add_pg)
        if options.del_pg is not None:
            return changes.remove_group(network, options.del_pg, switch)
        if options.link is not None:
            return changes.link(network, options.link, switch)
        if options.unlink is not None:
            return changes.unlink(network, options.unlink, switch)
        if options.mtu is not None:
            return changes.set_mtu(network, switch, number(options.mtu, "-m"))
        if options.set_cdp is not None:
            return changes.set_cdp(network, switch, changes.parse_cdp(options.set_cdp))
        needed(group, "-p GROUP")
        if options.add_pg_uplink is not None:
            return changes.add_to_group(network, options.add_pg_uplink, group, switch)
        if options.del_pg_uplink is not None:
            return changes.remove_from_group(network, options.del_pg_uplink, group, switch)
        needed(options.vlan, "an option that says what to do")
        return changes.set_vlan(network, group, number(options.vlan, "-v"), switch)

    if options.switch is None and options.add is None and options.delete is None:
        raise BadOption("expected an option that says what to do, and a vSwitch at the end (--help)")
    change(action)


def needed(value: str | None, what: str) -> None:
    if value is None:
        raise BadOption(f"expected {what}")


def number(text: str, option: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadOption(f"{option} {text}: expected a whole number")
    return int(text)


def port_count(text: str) -> int:
    """As this command counts them, to what machines can use."""
    from vmkernel.net.host_network import PORT_COUNTS, PORTS, PORTS_RESERVED

    if not text:
        return PORTS
    ports = number(text, "-a") - PORTS_RESERVED
    if ports not in PORT_COUNTS:
        known = ", ".join(str(one + PORTS_RESERVED) for one in PORT_COUNTS)
        raise BadOption(f"-a: expected {known} ports, found {text}")
    return ports


def listing(network: HostNetwork, running: dict[str, Any] | None) -> list[str]:
    """As ESX prints it: columns, and a blank line behind each switch."""
    from vmkernel.net.host_network import PORTS_RESERVED

    rows, used = [], usage(running)
    for name, switch in network.switches.items():
        ports, in_use = switch.ports + PORTS_RESERVED, used.get(f"switch {name}", {}).get("used", len(switch.uplinks))
        uplinks = ",".join(switch.uplinks)
        rows += [HEADING, f"{name:<14} {ports:<11} {in_use:<11} {ports:<17} {switch.mtu:<7} {uplinks}".rstrip(), "",
                 GROUP_HEADING]  # fmt: skip
        for group, one in switch.groups.items():
            order = switch.policy_of(group).order
            names = ",".join(switch.uplinks if order is None else (*order.active, *order.standby))
            taken = len(used.get(f"group {group}", {}).get("ports", []))
            rows.append(f"  {group:<19} {one.vlan:<8} {taken:<11} {names}".rstrip())
        rows.append("")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command_line("esxcfg-vswitch", lambda: act(parser().parse_args(words)))


if __name__ == "__main__":
    sys.exit(main())
