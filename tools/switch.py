"""`ringfence switch`: virtual switches, port groups, uplinks and the host's own ports; policies; what passes."""

from __future__ import annotations

import argparse
from typing import Any

from tools import switch_capture, switch_list, switch_policy
from tools.switch_words import change

DESCRIPTION = "The virtual switches of this host. A change applies to machines that run."
EPILOG = """\
verbs:
  add NAME [--ports N] [--mtu N] [--cdp STATE]
                                       8, 24, 56 (default), 120, 248, 504 or 1016 ports
  set NAME [--ports N] [--mtu N] [--cdp STATE]
                                       down, listen (default), advertise or both
  rm NAME
  portgroup add GROUP SWITCH [--vlan N], portgroup vlan GROUP N, portgroup rm GROUP
                                       VLAN 0: none; 1 to 4094: a tag on uplinks; 4095: machines see all tags
  uplink add SWITCH WHERE [--name vmnicN], uplink rm vmnicN
  vmknic|vswif add NAME --group GROUP [--ip ADDRESS --netmask MASK], rm NAME
                                       the host's own port: an interface NAME of the host (takes root)
  secure, shape, team TARGET ...       policies of a switch, or of a port group that does not inherit them
  list, stats [--json]
  capture WHAT [-w FILE]               pcapng of an uplink, a port group or a machine's port

WHERE: nat                             the host's network, without root (libslirp); 10.0.2.0/24, by DHCP
       nat:tcp=2222-10.0.2.15:22,...   likewise, with ports of 127.0.0.1 that lead in; tftp=FOLDER, boot=FILE
       tap:NAME, interface:NAME        a TAP or an interface of the host (root, or a TAP of your own)
       udp:HOST:PORT,HOST:PORT         another host's switch: our address, its address
       unix:PATH,PATH                  likewise, on one host

exit status: 0; 2 bad input, options or host
"""


def add_switch_verb(verbs: argparse._SubParsersAction[Any]) -> None:
    """`ringfence switch`."""
    switch = verbs.add_parser(
        "switch", help="virtual switches, port groups and uplinks", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    subparsers = switch.add_subparsers(dest="switch_verb", required=True, metavar="VERB")
    for name, run, text in (("add", add_run, "make a switch"), ("set", set_run, "change its size, MTU or CDP")):
        one = subparsers.add_parser(name, help=text)
        one.add_argument("name", metavar="NAME")
        one.add_argument("--ports", type=number, metavar="N", help="how many machines' adapters fit")
        one.add_argument("--mtu", type=number, metavar="N", help="1280 to 9000 (default 1500)")
        one.add_argument("--cdp", metavar="STATE", help="down, listen (default), advertise or both, on uplinks")
        one.set_defaults(run=run)
    remove = subparsers.add_parser("rm", help="remove a switch and its port groups")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=remove_run)
    add_portgroup(subparsers)
    add_uplink(subparsers)
    for word in ("vmknic", "vswif"):
        add_own_port(subparsers, word)
    switch_policy.add_parsers(subparsers)
    switch_list.add_parsers(subparsers)
    switch_capture.add_parser(subparsers)
    switch.set_defaults(action=switch_verb)


def add_portgroup(subparsers: argparse._SubParsersAction[Any]) -> None:
    verbs = subparsers.add_parser("portgroup", help="port groups").add_subparsers(required=True, metavar="VERB")
    add = verbs.add_parser("add", help="make a port group")
    add.add_argument("name", metavar="GROUP")
    add.add_argument("switch", metavar="SWITCH")
    add.add_argument("--vlan", type=number, default=0, metavar="N", help="0 (none), 1 to 4094, or 4095 (all)")
    add.set_defaults(run=group_add_run)
    vlan = verbs.add_parser("vlan", help="another VLAN")
    vlan.add_argument("name", metavar="GROUP")
    vlan.add_argument("vlan", type=number, metavar="N")
    vlan.set_defaults(run=group_vlan_run)
    remove = verbs.add_parser("rm", help="remove a port group; machines in it are without a link")
    remove.add_argument("name", metavar="GROUP")
    remove.set_defaults(run=group_remove_run)


def add_uplink(subparsers: argparse._SubParsersAction[Any]) -> None:
    verbs = subparsers.add_parser("uplink", help="uplinks").add_subparsers(required=True, metavar="VERB")
    add = verbs.add_parser("add", help="connect a switch to the world outside")
    add.add_argument("switch", metavar="SWITCH")
    add.add_argument("where", metavar="WHERE", help="nat, tap:NAME, interface:NAME, udp:OURS,ITS or unix:OURS,ITS")
    add.add_argument("--name", metavar="vmnicN", help="what it is called (default: the next number)")
    add.set_defaults(run=uplink_add_run)
    remove = verbs.add_parser("rm", help="remove an uplink")
    remove.add_argument("name", metavar="vmnicN")
    remove.set_defaults(run=uplink_remove_run)


def add_own_port(subparsers: argparse._SubParsersAction[Any], word: str) -> None:
    whose = "the VMkernel's" if word == "vmknic" else "the service console's"
    verbs = subparsers.add_parser(word, help=f"{whose} own ports").add_subparsers(required=True, metavar="VERB")
    add = verbs.add_parser("add", help="a port, and an interface of the host for it")
    add.add_argument("name", metavar="NAME", help="such as vmk0 or vswif0")
    add.add_argument("--group", required=True, metavar="GROUP")
    add.add_argument("--ip", metavar="ADDRESS")
    add.add_argument("--netmask", metavar="MASK", default="255.255.255.0")
    add.add_argument("--mtu", type=number, default=1500, metavar="N")
    add.set_defaults(run=own_add_run, word=word)
    remove = verbs.add_parser("rm", help="remove it")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(run=own_remove_run)


def number(text: str) -> int:
    """A whole number; its range is for the network to judge."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")


def switch_verb(options: argparse.Namespace) -> int:
    options.run(options)
    return 0


def add_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes
    from vmkernel.net.ethernet_spec import MTU
    from vmkernel.net.host_network import PORTS, HostNetwork

    def action(network: HostNetwork) -> HostNetwork:
        network = changes.add_switch(network, options.name, options.ports or PORTS)
        network = changes.set_mtu(network, options.name, options.mtu or MTU)
        if options.cdp is not None:
            network = changes.set_cdp(network, options.name, changes.parse_cdp(options.cdp))
        return network

    change(action)


def set_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes
    from vmkernel.net.host_network import HostNetwork

    def action(network: HostNetwork) -> HostNetwork:
        if options.ports is not None:
            network = changes.set_ports(network, options.name, options.ports)
        if options.mtu is not None:
            network = changes.set_mtu(network, options.name, options.mtu)
        if options.cdp is not None:
            network = changes.set_cdp(network, options.name, changes.parse_cdp(options.cdp))
        changes.switch_of(network, options.name)
        return network

    change(action)


def remove_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes

    change(lambda network: changes.remove_switch(network, options.name))


def group_add_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes

    change(lambda network: changes.add_group(network, options.switch, options.name, options.vlan))


def group_vlan_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes

    change(lambda network: changes.set_vlan(network, options.name, options.vlan))


def group_remove_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes

    change(lambda network: changes.remove_group(network, options.name))


def uplink_add_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes
    from vmkernel.net.host_network import HostNetwork
    from vmkernel.net.network_file import made_address
    from vmkernel.net.uplinks.place import parse_place

    place = parse_place(options.where)
    made: list[str] = []

    def action(network: HostNetwork) -> HostNetwork:
        address = made_address(f"{options.switch} {place} {len(network.nics)}")
        network, name = changes.add_nic(network, place, address, options.name)
        made.append(name)
        return changes.link(network, name, options.switch)

    change(action)
    print(made[0])


def uplink_remove_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes

    change(lambda network: changes.remove_nic(network, options.name))


def own_add_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes
    from vmkernel.net.host_network import HostPort, HostPortKind, parse_interface
    from vmkernel.net.network_file import made_address

    kind = HostPortKind.VMKERNEL if options.word == "vmknic" else HostPortKind.CONSOLE
    interface = None if options.ip is None else parse_interface(options.ip, options.netmask)
    port = HostPort(options.name, kind, options.group, made_address(options.name), interface, options.mtu)
    change(lambda network: changes.add_host_port(network, port))


def own_remove_run(options: argparse.Namespace) -> None:
    from vmkernel.net import changes

    change(lambda network: changes.remove_host_port(network, options.name))
