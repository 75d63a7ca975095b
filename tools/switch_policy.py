"""`ringfence switch secure|shape|team`: the policies of a switch, or of a port group that does not inherit them."""

from __future__ import annotations

import argparse
from typing import Any

from ringfence.errors import BadOption
from tools.switch_words import INHERIT, change

SECURITY = {"promiscuous": "promiscuous", "mac_changes": "mac-changes", "forged_transmits": "forged-transmits"}
ACCEPT, REJECT, YES, NO = "accept", "reject", "yes", "no"
BALANCES = {"port": "PORT", "mac": "SOURCE_MAC", "ip": "IP_HASH", "explicit": "EXPLICIT"}
SWITCHES = {"failback": "failed uplinks are used again when they are back", "notify": "tell switches outside by RARP",
            "beacon": "probe uplinks, beside looking at their links"}  # fmt: skip


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    secure = subparsers.add_parser("secure", help="what machines may do with addresses")
    secure.add_argument("target", metavar="SWITCH|GROUP")
    for word in SECURITY.values():
        secure.add_argument(f"--{word}", choices=(ACCEPT, REJECT, INHERIT))
    secure.set_defaults(run=secure_run)
    shape = subparsers.add_parser("shape", help="how much each port may send")
    shape.add_argument("target", metavar="SWITCH|GROUP")
    shape.add_argument("--average", type=amount, metavar="KBPS", help="kilobits (1000) a second")
    shape.add_argument("--peak", type=amount, metavar="KBPS", help="while the burst lasts (default: the average)")
    shape.add_argument("--burst", type=amount, metavar="KB", help="kilobytes (1000) above the average (102400)")
    shape.add_argument("--off", action="store_true", help="as much as it can")
    shape.add_argument("--inherit", action="store_true", help="as the switch says")
    shape.set_defaults(run=shape_run)
    team = subparsers.add_parser("team", help="which uplinks are used, and what happens when one fails")
    team.add_argument("target", metavar="SWITCH|GROUP")
    team.add_argument("--policy", choices=(*BALANCES, INHERIT), help="by port, source MAC, IP addresses, or the order")
    team.add_argument("--active", metavar="LIST", help="vmnics in their order, apart by commas; others are not used")
    team.add_argument("--standby", metavar="LIST", help="likewise; with --active")
    team.add_argument("--all-active", action="store_true", help="no order: every uplink; of a group: as the switch")
    for word, text in SWITCHES.items():
        team.add_argument(f"--{word}", choices=(YES, NO, INHERIT), help=text)
    team.set_defaults(run=team_run)


def amount(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 12 and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")


def secure_run(options: argparse.Namespace) -> None:
    words = {field: getattr(options, field) for field in SECURITY}
    said = {field: None if word == INHERIT else word == ACCEPT for field, word in words.items() if word is not None}
    set_policy(options.target, said, "--promiscuous, --mac-changes or --forged-transmits")


def set_policy(target: str, said: dict[str, Any], options: str) -> None:
    from vmkernel.net import changes

    if not said:
        raise BadOption(f"{target}: expected {options}")
    change(lambda network: changes.set_policy(network, target, **said))


def shape_run(options: argparse.Namespace) -> None:
    from vmkernel.net.policy import KBPS, KBYTES, Shaping

    given = [options.average is not None, options.off, options.inherit]
    if sum(given) != 1 or (options.average is None and (options.peak or options.burst)):
        raise BadOption(f"{options.target}: expected one of --average (with --peak and --burst), --off and --inherit")
    shaping: Shaping | None = None
    if options.off:
        shaping = Shaping()
    elif not options.inherit:
        average, usual = options.average * KBPS, Shaping()
        peak = options.peak * KBPS if options.peak else average
        shaping = Shaping(True, average, peak, options.burst * KBYTES if options.burst else usual.burst)
    set_policy(options.target, {"shaping": shaping}, "")


def team_run(options: argparse.Namespace) -> None:
    from vmkernel.net.policy import LoadBalance, UplinkOrder

    said: dict[str, Any] = {
        word: None if value == INHERIT else value == YES
        for word in SWITCHES if (value := getattr(options, word)) is not None
    }  # fmt: skip
    if options.policy is not None:
        said["balance"] = None if options.policy == INHERIT else LoadBalance[BALANCES[options.policy]]
    if options.all_active or options.active is not None:
        if options.all_active and (options.active is not None or options.standby is not None):
            raise BadOption(f"{options.target}: expected --all-active without --active and --standby")
        said["order"] = None if options.all_active else UplinkOrder(names(options.active), names(options.standby))
    elif options.standby is not None:
        raise BadOption(f"{options.target}: expected --standby with --active")
    set_policy(options.target, said, "--policy, --active, --all-active, --failback, --notify or --beacon")


def names(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in (text or "").split(","))))
