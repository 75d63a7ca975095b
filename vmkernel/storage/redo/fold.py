"""Folds redo logs into the link below them, so that the lowest link shows what the uppermost did.

    base <- target <- ... <- top <- kids    becomes    base <- target <- kids

Each grain is copied once, from the youngest link that has it. What `target` itself showed is lost, and links between
are given up: nobody may need them, and each has the next one as its only child. In this order, so that what is cut
short leaves a disk that shows the same as before, and may be folded again:

  1  the grains go into `target`, whose content ID stays: `top` shows the same as before, for it hides what was copied
  2  `top`'s descriptor is replaced by one that names target's extents, has target's parent and top's content ID
  3  target's descriptor becomes that too: the two are names for the same disk
  4  kids, and what else names `top`, come to name `target`, one after the other
  5  `top` and the extents that are no longer used are removed

Until 2 nothing has happened but copying; from 2 on the text of `top` says what is to follow. How far the copying came
is kept in target's disk data base, for an interrupted fold to go on from there as long as the redo logs are the same.
Source: VMware KB 1002836 (commit and consolidation), 1007969 (content IDs).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from ringfence.errors import BadOption
from vmkernel.storage.chain import Chain, open_disk, open_raw
from vmkernel.storage.copying import bare_target, copy_range
from vmkernel.storage.disk import Piece
from vmkernel.storage.errors import CorruptImage, Unsupported
from vmkernel.storage.family import children_of
from vmkernel.storage.place import P, Place
from vmkernel.storage.redo.links import (
    FOLDING,
    LEFTOVER,
    MERGED_INTO,
    OWN_KEYS,
    descriptor_of,
    edit,
    extent_files,
    files_of,
    is_ours,
    name_from,
    remove_files,
)
from vmkernel.storage.vmdk.descriptor import Descriptor
from vmkernel.storage.vmdk.flat import FlatExtent
from vmkernel.storage.vmdk.link import Link, candidates, open_link
from vmkernel.storage.vmdk.text_home import TextFile, TextHome

PIECE_BYTES = 4 << 20
CHECKPOINT_BYTES = 256 << 20
Progress = Callable[[int, int], None]  # bytes of the disk done, bytes of the disk


def fold(links: Sequence[Place], progress: Progress | None = None) -> None:
    """Steps 1 to 3 for [target, ..., top]; `finish` does the others. Raises what opening the links does, MediaError.

    An exception from `progress` interrupts it: what was copied stays, and the next call goes on from there.
    """
    assert len(links) >= 2
    if merged_into(links[-1]) is None:
        copy_and_merge(links, progress)
    else:
        share_text(links[-1])


def copy_and_merge(links: Sequence[Place], progress: Progress | None) -> None:
    with ExitStack() as held:
        target = open_target(links[0])
        held.callback(target.close)
        link = target.links[-1]
        home, link.home = link.home, None  # so that writing leaves the content ID as it is
        above = []
        for path in links[1:]:
            above.append(open_link(path))
            held.callback(above[-1].abandon)
        check(link, above)
        copy_down(Chain([*target.links, *above]), target, Checkpoints(link, home, above), progress)
        leftover = set().union(*(files_of(path) for path in links[1:])) - {links[-1].resolve()}
        if link.descriptor is None or above[-1].descriptor is None or home is None:
            return  # without descriptors there is no name to be kept
        TextFile(links[-1]).save(merged_text(link, above, leftover))
    share_text(links[-1])


def open_target(path: Place) -> Chain:
    """A disk, or the bare sectors under a redo log without descriptor."""
    try:
        return open_disk(path, writable=True)
    except CorruptImage as error:
        if not error.what.startswith("version of the descriptor"):
            raise
    return open_raw(path, writable=True)


def check(target: Link, above: Sequence[Link]) -> None:
    """Raises CorruptImage and Unsupported for links that are not one upon the other."""
    below = target
    for link in above:
        if link.sectors != below.sectors:
            expected = f"the {below.sectors} sectors of its parent"
            raise CorruptImage(link.path, 0, "capacity", expected, f"{link.sectors}")
        if link.descriptor is not None and link.descriptor.parent_cid != below.cid:
            expected = "no parent" if below.cid is None else f"{below.cid:08x} of {below.path.name}"
            found = f"{link.descriptor.parent_cid:08x}"
            raise Unsupported(str(link.path), "content ID of the parent", expected, found)
        below = link
    for extent in target.extents:
        if extent.file is None or not extent.file.writable:
            raise Unsupported(str(target.path), "extents", "ones that can be written", "one that cannot")


class Checkpoints:
    """How far the copying came, in target's disk data base; of no use once a redo log has changed."""

    def __init__(self, target: Link, home: TextHome | None, above: Sequence[Link]) -> None:
        self.descriptor, self.home = target.descriptor, home
        self.contents = "-".join(f"{link.cid:08x}" for link in above if link.cid is not None)
        self.since = 0

    def start(self) -> int:
        """The byte of the disk to begin with."""
        said = (self.descriptor.get(FOLDING) or "") if self.descriptor is not None else ""
        contents, _, at = said.partition(" ")
        return int(at) if contents == self.contents and at.isascii() and at.isdigit() and len(at) < 20 else 0

    def passed(self, length: int, at: int, disk: Chain) -> None:
        """So many bytes more were copied, up to this one."""
        self.since += length
        if self.since >= CHECKPOINT_BYTES:
            self.save(at, disk)

    def save(self, at: int, disk: Chain) -> None:
        self.since = 0
        disk.flush()
        if self.descriptor is not None and self.home is not None and self.contents:
            with contextlib.suppress(Unsupported):  # a descriptor inside an extent may have no room for it
                self.descriptor.set(FOLDING, f"{self.contents} {at}")
                self.home.save(self.descriptor.encode())


def copy_down(view: Chain, target: Chain, checkpoints: Checkpoints, progress: Progress | None) -> None:
    """What the links above the target have goes into it, and is flushed."""
    above = len(target.links)
    at = start = min(checkpoints.start(), view.size_bytes)
    bare = bare_target(target)
    buffer = bytearray(PIECE_BYTES)
    try:
        for piece in view.runs(start, view.size_bytes - start):
            end = piece.start + piece.length
            while piece.layer >= above and at < end:
                length = min(PIECE_BYTES, end - at)
                part = piece._replace(start=at, length=length, offset=piece.offset + at - piece.start)
                copy_part(view, target, part, bare, buffer)
                at += part.length
                checkpoints.passed(part.length if piece.file is not None else 0, at, target)
                if progress is not None:
                    progress(at, view.size_bytes)
            at = end
        if progress is not None:
            progress(at, view.size_bytes)
    except BaseException:
        with contextlib.suppress(Exception):  # the reason is more than where it stopped
            checkpoints.save(at, target)
        raise
    target.flush()


def copy_part(view: Chain, target: Chain, piece: Piece, bare: FlatExtent | None, buffer: bytearray) -> None:
    """From file to file where both have bare sectors, which lets the host share the blocks."""
    if piece.file is None:
        target.zero(piece.start, piece.length)
    elif bare is None or piece.packed or not copy_range(piece, bare):
        part = memoryview(buffer)[: piece.length]
        view.read(piece.start, [part])
        target.write(piece.start, [part])


def merged_text(target: Link, above: Sequence[Link], leftover: Iterable[Place]) -> bytes:
    """Target's extents and parent under the name and the content ID of the uppermost link, and what is to follow."""
    assert target.descriptor is not None
    top = above[-1]
    folder = top.path.parent
    text = Descriptor.parse(target.descriptor.encode(), f"{top.path}: new descriptor")
    lines = []
    for line, extent in zip(target.descriptor.extents, target.extents, strict=True):
        name = line.name if extent.file is None else name_from(folder, extent.file.path)
        lines.append(replace(line, name=name))
    text.replace_extents(lines)
    if text.has_parent:
        text.set("parentFileNameHint", parent_name(target, folder))
    for link in above:
        for key, value in link.descriptor.ddb().items() if link.descriptor is not None else ():
            if key not in OWN_KEYS:
                text.set(key, value)
    text.set_cid(top.cid or 0)
    text.remove(FOLDING)
    text.set(MERGED_INTO, name_from(folder, target.path))
    for number, path in enumerate(sorted(leftover)):
        text.set(f"{LEFTOVER}{number}", name_from(folder, path))
    return text.encode()


def parent_name(link: Link, folder: Place) -> str:
    """How a text in `folder` names this link's parent."""
    assert link.descriptor is not None
    hint = link.descriptor.parent_hint
    for candidate in candidates(link.path, hint):
        with contextlib.suppress(OSError, ValueError):
            if candidate.is_file():
                return name_from(folder, candidate)
    return hint


def merged_into(top: P) -> P | None:
    """The link that this one has been folded into, when it is but a second name of it. Raises BadInput."""
    text = descriptor_of(top)
    name = None if text is None else text.get(MERGED_INTO)
    if name is None:
        return None
    target = (top.parent / name).resolve()
    if extent_files(top) != extent_files(target):
        raise CorruptImage(top, 0, MERGED_INTO, "a link with the same extents", repr(name))
    return target


def share_text(top: Place) -> None:
    """Step 3: the target says the same as `top`."""
    target, text = merged_into(top), descriptor_of(top)
    assert target is not None and text is not None

    def follow(own: Descriptor) -> None:
        own.set_cid(text.cid)
        own.remove(FOLDING)
        if own.where == str(target):  # a text of its own: one inside an extent has room for nothing new
            for key, value in text.ddb().items():
                if not key.startswith((MERGED_INTO, LEFTOVER)) and own.get(key) != value:
                    own.set(key, value)

    edit(target, follow)


def rename_nothing(top: Place, target: Place, leftover: Sequence[Place]) -> None:
    """Nobody else names it."""


def finish(top: P, rename: Callable[[P, P, list[P]], None] = rename_nothing, kids: Iterable[P] = ()) -> P:
    """Steps 3 to 5 for a `top` that has been folded: the target. `kids` are children that lie elsewhere than beside it.

    `rename` has whoever else names `top` name the target, and is told what is removed then: nobody finds that any more
    by way of `top` when it was cut short.
    """
    target, text = merged_into(top), descriptor_of(top)
    if target is None or text is None:
        raise BadOption(f"{top}: expected a link that was folded into its parent")
    share_text(top)
    for kid in sorted({*children_of(top), *kids}):
        edit(kid, lambda own, kid=kid: own.set("parentFileNameHint", name_from(kid.parent, target)))  # type: ignore[misc]
    used, folders = files_of(target), {top.resolve().parent, target.parent}
    named = [(top.parent / value).resolve() for key, value in text.ddb().items() if key.startswith(LEFTOVER)]
    leftover = [*(path for path in named if path not in used and is_ours(path, folders)), top]
    rename(top, target, leftover)
    remove_files(leftover)
    return target
