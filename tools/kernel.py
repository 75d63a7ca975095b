"""`ringfence kernel`: the VMkernel's process, which machines with a network start by themselves."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tools.disk_words import add_json
from tools.switch_words import kernel_place, status

DESCRIPTION = """\
The process that the virtual switches of this host are in. A machine that is plugged into a port group starts it, and it
ends with the last of them; one that is started here stays until it is stopped.
"""


def add_kernel_verb(verbs: argparse._SubParsersAction[Any]) -> None:
    """`ringfence kernel start|status|stop`."""
    kernel = verbs.add_parser(
        "kernel", help="the VMkernel's process", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    subparsers = kernel.add_subparsers(dest="kernel_verb", required=True, metavar="VERB")
    start = subparsers.add_parser("start", help="start it, or let the one that runs stay")
    start.set_defaults(run=start_run)
    state = subparsers.add_parser("status", help="does it run, and for whom?")
    add_json(state)
    state.set_defaults(run=status_run)
    stop = subparsers.add_parser("stop", help="end it")
    stop.add_argument("--force", action="store_true", help="although machines are plugged in: their links go down")
    stop.set_defaults(run=stop_run)
    kernel.set_defaults(action=kernel_verb)


def kernel_verb(options: argparse.Namespace) -> int:
    options.run(options)
    return 0


def start_run(options: argparse.Namespace) -> None:
    kernel_place().start(stay=True)


def status_run(options: argparse.Namespace) -> None:
    running = status()
    if options.json:
        print(json.dumps({"running": running is not None, **(running or {})}, indent=2))
    elif running is None:
        print("not running")
    else:
        ports = sum(len(group["ports"]) for switch in running["switches"] for group in switch["groups"])
        stays = ", until it is stopped" if running["stay"] else ""
        print(f"running: process {running['pid']}, {ports} ports in use{stays}")


def stop_run(options: argparse.Namespace) -> None:
    kernel_place().stop(force=options.force)
