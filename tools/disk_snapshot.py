"""`ringfence disk snapshot`, `commit`, `revert`, `rebase`: redo logs of disks that no machine has running.

A machine's own snapshots are `ringfence vm NAME snapshot`'s, which changes its .vmx and .vmsd files too.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from tools.disk_words import add_json, place, progress


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    snapshot = subparsers.add_parser(
        "snapshot", help="freeze a disk and make a child that is written instead",
        description="Make a redo log over a disk, which is not to be written from then on. Prints the child's name.",
    )  # fmt: skip
    snapshot.add_argument("disk", metavar="DISK", type=place, help="the disk to be frozen")
    snapshot.add_argument("child", metavar="CHILD", nargs="?", type=place, help="the child (default: DISK-NNNNNN.vmdk)")
    add_json(snapshot)
    snapshot.set_defaults(run=snapshot_run)

    commit = subparsers.add_parser(
        "commit", help="put a redo log's contents into its parent",
        description="Fold a link into its parent and remove it. What is interrupted goes on when it is given again.",
    )  # fmt: skip
    commit.add_argument("disk", metavar="CHILD", type=place, help="the link that is folded")
    commit.add_argument("--into", metavar="ANCESTOR", type=place, help="with all links between: each grain moves once")
    commit.add_argument("--force", action="store_true", help="although other children of the parent are lost by it")
    add_json(commit)
    commit.set_defaults(run=commit_run)

    revert = subparsers.add_parser(
        "revert", help="give up what a redo log holds", description="Empty a link: it shows its parent again."
    )
    revert.add_argument("disk", metavar="CHILD", type=place, help="the link that is emptied")
    revert.set_defaults(run=revert_run)

    rebase = subparsers.add_parser(
        "rebase", help="give a redo log another parent",
        description="Give a link another parent. It shows the same as before: what differs is copied into it first.",
    )  # fmt: skip
    rebase.add_argument("disk", metavar="CHILD", type=place, help="the link")
    rebase.add_argument("--parent", metavar="DISK", type=place, required=True, help="its new parent")
    rebase.add_argument("--unsafe", action="store_true", help="change the descriptor only, whatever it shows then")
    rebase.set_defaults(run=rebase_run)


def snapshot_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.chain import open_disk
    from vmkernel.storage.redo.child import child_path, make_child

    with open_disk(options.disk) as chain:
        child = options.child or child_path(options.disk)
        make_child(child, chain)
    answer(options, {"child": str(child), "parent": str(options.disk)}, str(child))
    return 0


def commit_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.redo.commit import commit

    with progress(options.disk.name) as shown:
        target = commit(options.disk, shown, into=options.into, force=options.force)
    answer(options, {"disk": str(target)}, str(target))
    return 0


def revert_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.redo.commit import revert

    revert(options.disk)
    return 0


def rebase_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.redo.rebase import rebase

    with progress(options.disk.name) as shown:
        rebase(options.disk, options.parent, shown, unsafe=options.unsafe)
    return 0


def answer(options: argparse.Namespace, facts: dict[str, str], line: str) -> None:
    print(json.dumps(facts, indent=2) if options.json else line)
