"""`ringfence vmfs ls`, `tree`, `find` and `df`."""

from __future__ import annotations

import argparse
import fnmatch
import stat
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption
from tools.disk_words import add_json, size, size_text
from tools.vmfs_words import add_place, add_volume, answer, place, reading, shown, warn, whole

if TYPE_CHECKING:
    from vmkernel.storage.vmfs3.volume import Volume
    from vmkernel.storage.vmfs3.walk import Item

KINDS = {"file": "f", "directory": "d", "link": "l", "system": "s", "rdm": "r"}
KIND_OF_TYPE = {2: "directory", 3: "file", 4: "link", 5: "system", 6: "rdm"}


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    ls = subparsers.add_parser("ls", help="what is in a directory")
    add_place(ls)
    ls.add_argument("-l", dest="long", action="store_true", help="mode, links, owner, size, time")
    ls.add_argument("-a", dest="hidden", action="store_true", help="names with a dot too: the system's files")
    ls.add_argument("-R", dest="recursive", action="store_true", help="and in all below it")
    ls.add_argument("-d", dest="itself", action="store_true", help="the directory itself")
    add_json(ls)
    ls.set_defaults(run=ls_run)

    tree = subparsers.add_parser("tree", help="a directory and all below it, as a tree; passes over what is damaged")
    add_place(tree)
    tree.add_argument("-a", dest="hidden", action="store_true", help="names with a dot too")
    add_json(tree)
    tree.set_defaults(run=tree_run)

    find = subparsers.add_parser("find", help="files below a directory by name, kind, size or time")
    add_place(find)
    find.add_argument("--name", metavar="PATTERN", help="the name, with * ? [ ]")
    find.add_argument("--kind", choices=tuple(KINDS), help="what it is")
    find.add_argument("--larger", metavar="SIZE", type=size, help="than this, such as 1G")
    find.add_argument("--smaller", metavar="SIZE", type=size, help="than this")
    find.add_argument("--newer", metavar="SECONDS", type=int, help="written after this time, seconds since 1970")
    add_json(find)
    find.set_defaults(run=find_run)

    df = subparsers.add_parser("df", help="space in use and free, of each kind")
    add_volume(df)
    df.set_defaults(run=df_run)


def item_facts(volume: Volume, one: Item) -> dict[str, Any]:
    from vmkernel.storage.vmfs3 import addresses

    fd = one.fd
    facts = {
        "path": one.path, "name": one.name, "kind": KIND_OF_TYPE[int(fd.type)], "address": fd.address,
        "descriptor": addresses.describe(fd.address), "size": fd.length, "allocated": allocated(volume, one),
        "blocks": fd.num_blocks, "mode": stat.S_IMODE(fd.mode), "uid": fd.uid, "gid": fd.gid, "links": fd.nlink,
        "mtime": fd.mtime, "ctime": fd.ctime, "atime": fd.atime, "generation": fd.generation, "target": None,
    }  # fmt: skip
    if fd.is_symlink:
        facts["target"] = volume.readlink(fd)
    return facts


def allocated(volume: Volume, one: Item) -> int:
    """Bytes of the volume that are its own, by what its descriptor says."""
    return one.fd.num_blocks * (one.fd.block_size or volume.block_size)


def begin(volume: Volume, path: str) -> Item:
    """What a listing begins with: a link as itself."""
    import posixpath

    from vmkernel.storage.vmfs3.walk import Item

    return Item(path, posixpath.basename(path) or path, volume.lookup(path, follow=False))


def visible(items: list[Item], hidden: bool) -> list[Item]:
    return [one for one in items if hidden or not one.name.startswith(".")]


def ls_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.walk import listing, walk

    where = place(options.place)
    with reading(where) as volume:
        start = begin(volume, where.path)
        if not start.fd.is_directory or options.itself:
            items = [start]
        elif options.recursive:
            items = [
                one for one in list(walk(volume, where.path, start.fd, warn))[1:]
                if options.hidden or not any(part.startswith(".") for part in within(one.path, where.path).split("/"))
            ]  # fmt: skip
        else:
            items = visible(listing(volume, where.path, start.fd, 1, warn), options.hidden)
        if options.json:
            answer([item_facts(volume, one) for one in items])
            return 0
        for one in items:
            name = within(one.path, where.path) if options.recursive else one.name
            print(long_line(volume, one, name) if options.long else shown(name))
    return 0


def within(path: str, base: str) -> str:
    """A path as seen from a directory above it."""
    return path[len(base.rstrip("/")) + 1 :] or path


def long_line(volume: Volume, one: Item, name: str) -> str:
    fd = one.fd
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(fd.mtime))
    target = f" -> {shown(volume.readlink(fd))}" if fd.is_symlink else ""
    mode = stat.filemode(fd.mode)
    if fd.is_rdm:
        mode = "r" + mode[1:]
    return f"{mode} {fd.nlink:>3} {fd.uid:>5} {fd.gid:>5} {fd.length:>15} {when} {shown(name)}{target}"


def tree_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.walk import walk

    where = place(options.place)
    with reading(where) as volume:
        start = begin(volume, where.path)
        items = list(walk(volume, where.path, start.fd, warn))
        if not options.hidden:
            items = without_hidden(items, where.path)
        if options.json:
            answer(nested([item_facts(volume, one) for one in items], [one.depth for one in items]))
        else:
            print("\n".join(tree_lines(volume, items)))
    return 0


def without_hidden(items: list[Item], base: str) -> list[Item]:
    from dataclasses import replace

    kept = [
        one for one in items
        if one.path == base or not any(part.startswith(".") for part in within(one.path, base).split("/"))
    ]  # fmt: skip
    last: dict[int, bool] = {}
    found = []
    for one in reversed(kept):  # who is the last of its neighbours may have changed
        is_last = not last.get(one.depth, False)
        last = {depth: seen for depth, seen in last.items() if depth < one.depth} | {one.depth: True}
        found.append(replace(one, is_last=is_last))
    return found[::-1]


def nested(facts: list[dict[str, Any]], depths: list[int]) -> dict[str, Any]:
    """Each directory with its `children`."""
    stack: list[dict[str, Any]] = []
    for one, depth in zip(facts, depths, strict=True):
        if one["kind"] == "directory":
            one["children"] = []
        del stack[depth:]
        if stack:
            stack[-1]["children"].append(one)
        stack.append(one)
    return stack[0]


def tree_lines(volume: Volume, items: list[Item]) -> Iterator[str]:
    bars: list[str] = []
    for one in items:
        suffix = f" -> {shown(volume.readlink(one.fd))}" if one.fd.is_symlink else ""
        if one.fd.is_file:
            suffix = f"  {size_text(one.fd.length)}"
        if not one.depth:
            yield f"{shown(one.path)}{suffix}"
            continue
        del bars[one.depth - 1 :]
        yield f"{''.join(bars)}{'`- ' if one.is_last else '|- '}{shown(one.name)}{suffix}"
        bars.append("   " if one.is_last else "|  ")


def find_run(options: argparse.Namespace) -> int:
    from vmkernel.storage.vmfs3.walk import walk

    where = place(options.place)
    with reading(where) as volume:
        start = begin(volume, where.path)
        found = [one for one in walk(volume, where.path, start.fd, warn) if is_wanted(one, options)]
        if options.json:
            answer([item_facts(volume, one) for one in found])
        else:
            for one in found:
                print(shown(one.path))
    return 0


def is_wanted(one: Item, options: argparse.Namespace) -> bool:
    fd = one.fd
    return (
        (options.name is None or fnmatch.fnmatchcase(one.name, options.name))
        and (options.kind is None or KIND_OF_TYPE[int(fd.type)] == options.kind)
        and (options.larger is None or fd.length > options.larger)
        and (options.smaller is None or fd.length < options.smaller)
        and (options.newer is None or fd.mtime > options.newer)
    )


def df_run(options: argparse.Namespace) -> int:
    from tools.vmfs_look import RESOURCE_WORDS

    where = whole(options.volume)
    with reading(where) as volume:
        counts = volume.statistics()
        sizes = {"file_block": volume.block_size, "sub_block": volume.superblock.sub_block_size}
    if not counts:
        raise BadOption(f"{where}: no resources")
    facts: list[dict[str, Any]] = [
        {"kind": name, "total": total, "used": total - free, "free": free, "size": sizes.get(name)}
        for name, (total, free) in counts.items()
    ]
    if options.json:
        answer(facts)
        return 0
    print(f"{'':<28}{'total':>12}{'used':>12}{'free':>12}  use")
    for one in facts:
        name = RESOURCE_WORDS.get(one["kind"], one["kind"])
        title = f"{name} of {size_text(one['size'])}" if one["size"] else name
        percent = one["used"] * 100 // one["total"] if one["total"] else 0
        print(f"{title:<28}{one['total']:>12}{one['used']:>12}{one['free']:>12} {percent:>3}%")
    return 0
