"""The relatives of a disk: its ancestors, which it names, and its children, which are looked for where they lie.

A disk does not know who was made from it. Its folder is searched; a child elsewhere is not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from ringfence.errors import RingfenceError
from vmkernel.storage.chain import LINKS_MAX, file_id, parent_path
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.formats import holds_vmdk, is_device, looks_like_vmdk
from vmkernel.storage.place import P, Place
from vmkernel.storage.vmdk.link import Link, open_link


@dataclass(slots=True)
class Member:
    """One link of a tree of disks."""

    path: Place
    create_type: str
    cid: int | None
    parent_cid: int | None
    sectors: int
    children: list[Member] = field(default_factory=list)


def member(link: Link) -> Member:
    text = link.descriptor
    kind = "" if text is None else text.get("createType") or ""
    parent = text.parent_cid if text is not None and text.has_parent else None
    return Member(link.path, kind, link.cid, parent, link.sectors)


def relatives(folder: Place) -> Iterator[Link]:
    """Every disk of a folder that names a parent, closed already."""
    for path in sorted(folder.iterdir()):
        if not looks_like_vmdk(path.name):
            continue
        with suppress(RingfenceError, OSError):
            if is_device(path) or not holds_vmdk(path):
                continue
            link = open_link(path, lock=False)
            link.abandon()
            if link.has_parent:
                yield link


def children_of(path: P) -> list[P]:
    """Disks beside this one that were made from it."""
    own = file_id(path)
    found = []
    for link in relatives(path.resolve().parent):
        with suppress(RingfenceError, OSError):
            if file_id(parent_path(link)) == own:
                found.append(cast(P, link.path))
    return found


def refuse_children(path: Place, what: str) -> None:
    """Raises Unsupported when there are some: they would be lost."""
    children = children_of(path)
    if children:
        raise Unsupported(str(path), what, "a disk without children", ", ".join(child.name for child in children))


def base_of(path: Place) -> Place:
    """The oldest ancestor that can be found."""
    seen = {file_id(path)}
    while len(seen) <= LINKS_MAX:
        try:
            link = open_link(path, lock=False)
            link.abandon()
            parent = parent_path(link) if link.has_parent else None
        except RingfenceError:
            return path
        if parent is None or file_id(parent) in seen:
            return path
        seen.add(file_id(parent))
        path = parent
    return path


def tree(path: Place) -> Member:
    """The disk's whole family from its base on, as far as it lies in the folders of its ancestors. Raises BadInput."""
    base = base_of(path)
    folders = {folder.resolve(): folder for folder in (base.parent, path.parent)}
    by_parent: dict[tuple[int, int], list[Member]] = {}
    for folder in folders.values():
        for link in relatives(folder):
            with suppress(RingfenceError, OSError):
                by_parent.setdefault(file_id(parent_path(link)), []).append(member(link))
    try:
        link = open_link(base, lock=False)
        link.abandon()
        top = member(link)
    except RingfenceError:
        top = Member(base, "", None, None, base.stat().st_size // 512)
    waiting, seen = [top], {file_id(base)}
    while waiting:
        one = waiting.pop()
        for child in by_parent.get(file_id(one.path), ()):
            if file_id(child.path) not in seen:
                seen.add(file_id(child.path))
                one.children.append(child)
                waiting.append(child)
    return top
