"""`ringfence disk`: make, look at, check, convert and resize virtual disks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

DESCRIPTION = "Make, look at, check, convert and resize virtual disks: every form of VMDK, chains, bare sectors."
EPILOG = """\
A chain is named by its youngest link. Sizes are bytes, or have a unit: K, M, G, T (powers of 1024), s (sectors of 512).

exit status: 0; 1 when disks differ or something is wrong with one; 2 bad input, options or host; 130 Ctrl-C
"""
# Each module has add_parsers(subparsers) for these verbs, whose handlers are in `run`.
PARTS: dict[str, tuple[str, ...]] = {
    "tools.disk_make": ("create", "resize"),
    "tools.disk_info": ("info", "chain"),
    "tools.disk_map": ("map", "hexdump"),
    "tools.disk_check": ("check", "repair"),
    "tools.disk_convert": ("convert", "compare"),
    "tools.disk_snapshot": ("snapshot", "commit", "revert", "rebase"),
    "tools.disk_nbd": ("nbd", "mount"),
}  # fmt: skip


def add_disk_verb(verbs: argparse._SubParsersAction[Any], words: Sequence[str] = ()) -> None:
    """`ringfence disk VERB ...`. Where `words`, which follow, begin with a verb, its module alone is imported."""
    disk = verbs.add_parser(
        "disk", help="make, look at, check, convert and resize virtual disks", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    subparsers = disk.add_subparsers(dest="disk_verb", required=True, metavar="VERB")
    wanted = [name for name, names in PARTS.items() if words and words[0] in names]
    for name in wanted or PARTS:
        import_module(name).add_parsers(subparsers)
    disk.set_defaults(action=disk_verb)


def disk_verb(options: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int | None] = options.run
    return run(options) or 0
