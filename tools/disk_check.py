"""`ringfence disk check` and `repair`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from tools.disk_info import finding_facts
from tools.disk_words import add_json, place

if TYPE_CHECKING:
    from vmkernel.storage.place import Place
    from vmkernel.storage.vmdk.check import Finding

STATUS_WRONG = 1


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    check = subparsers.add_parser("check", help="what is wrong with a disk and its parents (exit status 1)")
    check.add_argument("disk", metavar="DISK", type=place, help="a disk image")
    check.add_argument("--deep", action="store_true", help="also inflate every compressed grain")
    add_json(check)
    check.set_defaults(run=check_run)

    repair = subparsers.add_parser("repair", help="mend one link; without --yes only say what would be done")
    repair.add_argument("disk", metavar="DISK", type=place, help="the link to mend, not its parents")
    repair.add_argument("--yes", action="store_true", help="do it")
    repair.add_argument("--accept-parent", action="store_true", help="the parent is right although its CID is another")
    add_json(repair)
    repair.set_defaults(run=repair_run)


def check_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.block_file import BlockFile
    from vmkernel.storage.repair import check

    BlockFile.open(options.disk, lock=False).close()  # a name that is not there is no finding
    found = check(options.disk, deep=options.deep)
    if options.json:
        print(json.dumps([finding_facts(finding) for finding in found], indent=2))
    else:
        for finding in found:
            print(f"{finding}{' (harmless)' if finding.is_harmless else ''}")
        if not found:
            print("nothing is wrong")
    return 0 if all(finding.is_harmless for finding in found) else STATUS_WRONG


def repair_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.repair import repair

    if not options.yes:
        return say_plan(options)
    found = repair(options.disk, accept_parent=options.accept_parent)
    if options.json:
        print(json.dumps([finding_facts(finding) for finding in found], indent=2))
    else:
        for finding in found:
            print(f"{finding}{'' if finding.mended else ' (left as it is)'}")
        if not found:
            print("nothing is wrong")
    return 0 if all(finding.mended or finding.is_harmless for finding in found) else STATUS_WRONG


def say_plan(options: argparse.Namespace) -> int:
    """What a repair would do. Nothing is opened for writing."""
    from vmkernel.storage.vmdk.check import Fault, check_link
    from vmkernel.storage.vmdk.link import open_link

    link = open_link(options.disk)
    try:
        found = check_link(link)
    finally:
        link.abandon()
    if options.accept_parent and link.has_parent:
        found += parent_findings(options.disk)
    would = [
        finding.can_be_mended or finding.fault is Fault.TABLE or finding.fault is Fault.CONTENT_ID for finding in found
    ]
    if options.json:
        rows = [{**finding_facts(one), "would_mend": does} for one, does in zip(found, would, strict=True)]
        print(json.dumps(rows, indent=2))
    else:
        for finding, does in zip(found, would, strict=True):
            print(f"{finding} ({plan_text(finding) if does else 'would be left as it is'})")
        print("nothing was changed: repeat with --yes to do this" if any(would) else "there is nothing to mend")
    return STATUS_WRONG if any(would) else 0


def parent_findings(path: Place) -> list[Finding]:
    from vmkernel.storage.repair import check
    from vmkernel.storage.vmdk.check import Fault

    return [one for one in check(path) if one.fault is Fault.CONTENT_ID and one.path == str(path)]


def plan_text(finding: Finding) -> str:
    from vmkernel.storage.vmdk.check import Fault

    plans = {
        Fault.UNCLEAN: "the mark would be taken away",
        Fault.COPIES: "the entry that is not zero would be taken for both",
        Fault.SHARED: "the later entry would be dropped",
        Fault.PLACE: "the entry would be dropped",
        Fault.FREE: "it would be set",
        Fault.TABLE: "it would be taken from its copy, if that can be read",
        Fault.CONTENT_ID: "the parent's CID would be taken",
    }
    return plans[finding.fault]
