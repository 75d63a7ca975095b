"""`esxcfg-nics`: ESX Server 3's command for physical network adapters, here for what stands for them.

Speed and duplex are those of the host's interface; what has none, such as a NAT, is shown with 1000Mbps and Full.
Not modelled: setting them by -s, -d and -a: they are what they are.
Source: ESX Server 3 Configuration Guide, "esxcfg-nics".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.esxcfg import run_command_line
from tools.esxcfg_vswitch import OneLineParser
from tools.switch_words import links, network_file, status

if TYPE_CHECKING:
    from vmkernel.net.host_network import HostNetwork, Nic

DESCRIPTION = "List the network adapters of this host: what uplinks can be made of."
HEADING = "Name    PCI      Driver      Link Speed    Duplex MAC Address       MTU    Description"


def parser() -> argparse.ArgumentParser:
    top = OneLineParser(prog="esxcfg-nics", description=DESCRIPTION, allow_abbrev=False)
    top.add_argument("-l", "--list", action="store_true", help="the adapters")
    top.add_argument("-s", "--speed", metavar="SPEED", help="refused: there is nothing to set")
    top.add_argument("-d", "--duplex", metavar="DUPLEX", help="likewise")
    top.add_argument("-a", "--auto", metavar="vmnic", help="accepted: it is so already")
    top.add_argument("-r", "--restore", action="store_true", help="accepted")
    top.add_argument("nic", nargs="?", metavar="vmnic")
    return top


def act(options: argparse.Namespace) -> None:
    from vmkernel.net.changes import nic_of

    network = network_file().network()
    for name in filter(None, (options.auto, options.nic)):
        nic_of(network, name)
    if options.list:
        print("\n".join(listing(network, status())))
    elif options.speed is not None or options.duplex is not None:
        raise BadOption("-s, -d: expected neither: speed and duplex cannot be set here")
    elif not options.restore and options.auto is None:
        raise BadOption("expected -l (--help)")


def listing(network: HostNetwork, running: dict[str, Any] | None) -> list[str]:
    up = links(running)
    rows = [HEADING]
    for number, (name, nic) in enumerate(network.nics.items()):
        state = "Up" if up.get(name, {}).get("link") else "Down"
        speed, duplex = line_of(nic) if state == "Up" else ("0Mbps", "Half")
        user = network.user_of(name)
        mtu = network.switches[user].mtu if user else 1500
        rows.append(
            f"{name:<7} {f'02:{number:02x}.00':<8} {driver(nic):<11} {state:<4} {speed:<8} {duplex:<6} "
            f"{nic.address.hex(':')} {mtu:<6} {nic.place}"
        )
    return rows


def line_of(nic: Nic) -> tuple[str, str]:
    """Speed and duplex of an interface of the host; others have no line, and are as fast as the host."""
    from vmkernel.net.uplinks.host_interface import speed_and_duplex
    from vmkernel.net.uplinks.place import Interface, Tap

    found = speed_and_duplex(nic.place.name) if isinstance(nic.place, Interface | Tap) else None
    speed, is_full = found or (1000, True)
    return f"{speed}Mbps", "Full" if is_full else "Half"


def driver(nic: Nic) -> str:
    """The kind of what it is connected to."""
    return str(nic.place).partition(":")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command_line("esxcfg-nics", lambda: act(parser().parse_args(words)))


if __name__ == "__main__":
    sys.exit(main())
