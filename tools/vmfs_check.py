"""`ringfence vmfs check` and `repair`."""

from __future__ import annotations

import argparse
from typing import Any

from tools.disk_words import add_json
from tools.vmfs_words import add_volume, answer, warn, whole

STATUS_WRONG = 1


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    check = subparsers.add_parser("check", help="every structure and reference of a volume (exit status 1: damage)")
    add_volume(check)
    check.set_defaults(run=check_run)

    repair = subparsers.add_parser("repair", help="mend a volume; without --yes only say what would be done")
    add_volume(repair, as_json=False)
    repair.add_argument("--yes", action="store_true", help="do it")
    add_json(repair)
    repair.set_defaults(run=repair_run)


def check_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.check import check

    found = check(whole(options.volume).images)
    if options.json:
        answer([finding.facts() for finding in found])
    else:
        for finding in found:
            print(f"{finding}{' (harmless)' if finding.is_harmless else ''}")
        if not found:
            print("nothing is wrong")
    return 0 if all(finding.is_harmless for finding in found) else STATUS_WRONG


def repair_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.repair import repair

    if not options.yes:
        return say_plan(options)
    outcomes = repair(whole(options.volume).images, waiting=warn)
    if options.json:
        answer([one.finding.facts() | {"mended": one.mended} for one in outcomes])
    else:
        for one in outcomes:
            print(one)
        if not outcomes:
            print("nothing is wrong")
    return 0 if all(one.mended or one.finding.is_harmless for one in outcomes) else STATUS_WRONG


def say_plan(options: argparse.Namespace) -> int:
    """What a repair would do. Nothing is opened for writing."""
    from vmkernel.storage.vmfs3.check import check

    found = check(whole(options.volume).images)
    would = any(finding.can_be_mended for finding in found)
    if options.json:
        answer([finding.facts() | {"would_mend": finding.can_be_mended} for finding in found])
    else:
        for finding in found:
            print(f"{finding} ({finding.plan or 'it is left as it is'})")
        print("nothing was changed: repeat with --yes to do this" if would else "there is nothing to mend")
    return STATUS_WRONG if would else 0
