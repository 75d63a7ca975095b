"""`ringfence disk info` and `chain`: all that descriptors and headers say, and the family of a disk."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tools.disk_words import add_input, add_json, place, size_text

if TYPE_CHECKING:
    from vmkernel.storage.family import Member
    from vmkernel.storage.place import Place

HEADER_FACTS = ("version", "flags", "capacity", "grain_size", "gtes_per_gt", "gd_offset", "rgd_offset", "over_head")


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    info = subparsers.add_parser("info", help="all that descriptor and headers say, space used, what is wrong")
    add_input(info)
    info.add_argument("--no-check", action="store_true", help="do not look for what is wrong, which reads all tables")
    info.add_argument("--recover", action="store_true", help="take what is whole of a stream that was cut short")
    add_json(info)
    info.set_defaults(run=info_run)

    chain = subparsers.add_parser("chain", help="the tree of links that a disk belongs to, with content IDs")
    chain.add_argument("disk", metavar="DISK", type=place, help="a disk image")
    add_json(chain)
    chain.set_defaults(run=chain_run)


def info_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.facts import disk_facts, raw_facts
    from vmkernel.storage.formats import Format, judge_format

    if judge_format(options.disk, Format(options.format)) is Format.RAW:
        facts = raw_facts(options.disk) | {"format": "raw", "findings": []}
    else:
        facts = disk_facts(options.disk, recover=options.recover) | {"format": "vmdk"}
        facts["findings"] = [] if options.no_check or options.recover else findings(options.disk)
    print(json.dumps(facts, indent=2) if options.json else "\n".join(info_lines(facts)))
    return 0


def findings(path: Place) -> list[dict[str, Any]]:
    from vmkernel.storage.errors import Locked
    from vmkernel.storage.repair import check

    try:
        found = check(path)
    except Locked:
        return []
    return [finding_facts(finding) for finding in found]


def finding_facts(finding: Any) -> dict[str, Any]:
    return {
        "fault": str(finding.fault), "path": finding.path, "text": finding.text, "sector": finding.sector,
        "harmless": finding.is_harmless, "mended": finding.mended,
    }  # fmt: skip


def info_lines(facts: dict[str, Any]) -> Iterator[str]:
    yield row("disk", facts["path"])
    yield row("size", f"{size_text(facts['bytes'])} ({facts['sectors']} sectors)")
    yield row("on the host", size_text(facts["host_bytes"]))
    yield row("in use", {"free": "no", "read": "for reading", "written": "for writing"}.get(facts["use"], "unknown"))
    if facts["format"] == "raw":
        yield row("format", "bare sectors")
    for number, link in enumerate(facts["links"]):
        yield ""
        yield row("link" if not number else "parent", link["path"])
        yield from link_lines(link)
    if facts["error"]:
        yield row("wrong", facts["error"])
    for finding in facts["findings"]:
        if finding["text"] != facts["error"]:
            yield row("wrong", f"{finding['path']}: {finding['fault']}: {finding['text']}")


def link_lines(link: dict[str, Any]) -> Iterator[str]:
    yield row("  createType", link["create_type"] or "none: no descriptor")
    if "cid" in link:
        yield row("  CID", link["cid"])
    if link.get("parent_cid", "ffffffff") != "ffffffff" or link["parent_name"]:
        yield row("  parent", f"{link['parent_name'] or 'no name'} (CID {link.get('parent_cid', 'none')})")
    for key, value in (link.get("settings", {}) | link.get("ddb", {})).items():
        yield row(f"  {key}", value)
    for extent in link["extents"]:
        yield row("  extent", f"{extent['type']} {extent['access']}".strip() + f", {extent['sectors']} sectors")
        yield from extent_lines(extent)


def extent_lines(extent: dict[str, Any]) -> Iterator[str]:
    if "path" in extent:
        at = f", from sector {extent['offset']}" if extent.get("offset") else ""
        sizes = f"{size_text(extent['file_bytes'])}, {size_text(extent['host_bytes'])} on the host"
        yield row("    file", f"{extent['path']}{at} ({sizes})")
    for name, value in extent.get("header", {}).items():
        shown = ", ".join(value["names"]) or "none" if isinstance(value, dict) else value
        yield row(f"    {name}", str(shown))
    if "grains" in extent:
        grains = f"{extent['grains']} of {extent['grains_of_disk']}, {size_text(extent['grain_bytes'])} each"
        zeroed = f", {extent['zero_grains']} that say zeros" if extent["zero_grains"] else ""
        yield row("    grains", f"{grains}{zeroed}, in {extent['tables']} tables")
    if "data_bytes" in extent:
        yield row("    data", size_text(extent["data_bytes"]))
    if extent.get("missing_bytes"):
        yield row("    missing", size_text(extent["missing_bytes"]))
    if "error" in extent:
        yield row("    wrong", extent["error"])


def row(title: str, value: str) -> str:
    return f"{title:<26}{value}".rstrip()


def chain_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.errors import MissingLink
    from vmkernel.storage.family import tree

    if not options.disk.exists():
        raise MissingLink(str(options.disk), "image", "a file", "none of this name")
    top = tree(options.disk)
    if options.json:
        print(json.dumps(member_facts(top), indent=2))
    else:
        print("\n".join(member_lines(top, options.disk.resolve(), "", "")))
    return 0


def member_facts(one: Member) -> dict[str, Any]:
    return {
        "path": str(one.path), "create_type": one.create_type, "cid": cid_text(one.cid),
        "parent_cid": cid_text(one.parent_cid), "sectors": one.sectors,
        "children": [member_facts(child) for child in one.children],
    }  # fmt: skip


def member_lines(one: Member, asked: Place, first: str, rest: str, parent: Member | None = None) -> Iterator[str]:
    """A line for each link; the one that was asked for has a star."""
    words = [str(one.path), one.create_type or "no descriptor", f"CID {cid_text(one.cid) or 'none'}"]
    if one.parent_cid is not None:
        words.append(f"parentCID {cid_text(one.parent_cid)}")
    if parent is not None and one.parent_cid is not None and parent.cid not in (None, one.parent_cid):
        words.append("the parent was modified since")
    yield f"{first}{'* ' if one.path.resolve() == asked else ''}{', '.join(words)}"
    for number, child in enumerate(one.children, 1):
        is_last = number == len(one.children)
        yield from member_lines(
            child, asked, rest + ("`- " if is_last else "|- "), rest + ("   " if is_last else "|  "), one
        )


def cid_text(cid: int | None) -> str | None:
    return None if cid is None else f"{cid:08x}"
