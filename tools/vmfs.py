"""`ringfence vmfs`: make, look at, check, repair, mount and copy from and to VMFS-3 volumes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

DESCRIPTION = "Make, look at, check, repair, mount VMFS-3 volumes, and copy from and to them. VMFS-5 is read only."
EPILOG = """\
A VOLUME is an image file, a block device, or a partition in either; of several devices IMAGE+IMAGE. A PLACE in one is
IMAGE:/path, IMAGE+IMAGE:/path, or '[datastore] path'. Nothing is written unless the verb says so.

exit status: 0; 1 when something is wrong with a volume; 2 bad input, options or host; 130 Ctrl-C
"""
# Each module has add_parsers(subparsers) for these verbs, whose handlers are in `run`.
PARTS: dict[str, tuple[str, ...]] = {
    "tools.vmfs_make": ("mkfs", "label", "grow"),
    "tools.vmfs_look": ("info", "stat", "blocks", "heartbeats", "locks", "journal", "dump"),
    "tools.vmfs_list": ("ls", "tree", "find", "df"),
    "tools.vmfs_files": ("cat", "cp", "mv", "rm", "mkdir"),
    "tools.vmfs_check": ("check", "repair"),
    "tools.vmfs_rescue": ("undelete", "extract"),
    "tools.vmfs_mount": ("mount",),
}


def add_vmfs_verb(verbs: argparse._SubParsersAction[Any], words: Sequence[str] = ()) -> None:
    """`ringfence vmfs VERB ...`. Where `words`, which follow, begin with a verb, its module alone is imported."""
    vmfs = verbs.add_parser(
        "vmfs", help="make, look at, check, repair and mount VMFS volumes", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    subparsers = vmfs.add_subparsers(dest="vmfs_verb", required=True, metavar="VERB")
    wanted = [name for name, names in PARTS.items() if words and words[0] in names]
    for name in wanted or PARTS:
        import_module(name).add_parsers(subparsers)
    vmfs.set_defaults(action=vmfs_verb)


def vmfs_verb(options: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int | None] = options.run
    return run(options) or 0
