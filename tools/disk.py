"""`ringfence disk`: make, look at, check, convert and resize virtual disks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

DESCRIPTION = "Make, look at, check, convert and resize virtual disks: every form of VMDK, chains, bare sectors."
EPILOG = """\
A chain is named by its youngest link. Sizes are bytes, or have a unit: K, M, G, T (powers of 1024), s (sectors of 512).

exit status: 0; 1 when disks differ or something is wrong with one; 2 bad input, options or host; 130 Ctrl-C
"""
# Each has add_parsers(subparsers), whose handlers are in `run`.
PARTS = (
    "tools.disk_make", "tools.disk_info", "tools.disk_map", "tools.disk_check", "tools.disk_convert",
    "tools.disk_snapshot", "tools.disk_nbd",
)  # fmt: skip


def add_disk_verb(verbs: argparse._SubParsersAction[Any]) -> None:
    """`ringfence disk VERB ...`."""
    disk = verbs.add_parser(
        "disk", help="make, look at, check, convert and resize virtual disks", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    subparsers = disk.add_subparsers(dest="disk_verb", required=True, metavar="VERB")
    for name in PARTS:
        if find_spec(name) is not None:
            import_module(name).add_parsers(subparsers)
    disk.set_defaults(action=disk_verb)


def disk_verb(options: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int | None] = options.run
    return run(options) or 0
