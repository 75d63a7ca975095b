"""Links as files: which they are, what they name, and how a text among them is changed all or nothing.

Nothing is locked here, and what is read is the descriptor alone: an extent may be missing already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable
from contextlib import suppress
from typing import cast

from ringfence.errors import HostRefused
from vmkernel.storage.block_file import BlockFile, sync_folder
from vmkernel.storage.chain import LINKS_MAX, file_id, parent_path
from vmkernel.storage.errors import CorruptImage
from vmkernel.storage.formats import looks_like_vmdk
from vmkernel.storage.place import P, Place
from vmkernel.storage.vmdk.descriptor import Descriptor, ExtentLine
from vmkernel.storage.vmdk.descriptor_spec import TEXT_BYTES_MAX, Access, ExtentType
from vmkernel.storage.vmdk.link import Link, candidates, is_binary, open_link
from vmkernel.storage.vmdk.text_home import TextFile

MERGED_INTO = "ddb.ringfence.mergedInto"  # see fold.py
LEFTOVER = "ddb.ringfence.leftover"
FOLDING = "ddb.ringfence.folding"
OWN_KEYS = (MERGED_INTO, FOLDING)


def text_of(path: Place) -> Descriptor | None:
    """The descriptor of a link that is a text of its own; None for one inside an extent. Raises BadInput."""
    with BlockFile.open(path, lock=False) as file:
        if is_binary(file.some_at(0, 8)):
            return None
        return Descriptor.parse(file.some_at(0, TEXT_BYTES_MAX + 1).partition(b"\0")[0], path)


def descriptor_of(path: Place) -> Descriptor | None:
    """The descriptor of any link; None for one that has none. Raises BadInput and HostRefused."""
    text = text_of(path)
    if text is not None:
        return text
    link = open_link(path, lock=False)
    link.abandon()
    return link.descriptor


def edit(path: Place, change: Callable[[Descriptor], None]) -> None:
    """Change a descriptor in its file or inside its extent. Raises BadInput and HostRefused."""
    text = text_of(path)
    if text is not None:
        change(text)
        TextFile(path).save(text.encode())
        return
    link = open_link(path, writable=True)
    try:
        if link.descriptor is not None:
            change(link.descriptor)
            link.save_descriptor()
    finally:
        link.abandon()


def parent_of(path: P) -> P | None:
    """Raises MissingLink for one that is named and not there."""
    link = Link(path, text, None, writable=False) if (text := text_of(path)) else open_link(path, lock=False)
    link.abandon()
    return cast(P, parent_path(link)) if link.has_parent else None


def ancestry(path: P, stop: Container[P] = ()) -> list[P]:
    """The links of a disk with resolved names: the base first, or one of `stop`. Raises BadInput."""
    found = [path.resolve()]
    seen = {file_id(path)}
    while found[0] not in stop and (parent := parent_or_none(found)) is not None:
        parent = parent.resolve()
        if (identity := file_id(parent)) in seen or len(found) >= LINKS_MAX:
            what = "one that is its own ancestor" if identity in seen else f"more than {LINKS_MAX} links"
            raise CorruptImage(found[0], 0, f"parent {parent.name!r}", "another disk", what)
        seen.add(identity)
        found.insert(0, parent)
    return found


def parent_or_none(links: list[P]) -> P | None:
    """Of the first of these links; bare sectors under a redo log without descriptor have none."""
    try:
        return parent_of(links[0])
    except CorruptImage as error:
        if len(links) > 1 and error.what.startswith("version of the descriptor") and descriptor_of(links[1]) is None:
            return None
        raise


def files_of(path: P) -> set[P]:
    """The files of one link: its descriptor, and the regular files that are its extents and lie where they should."""
    return {path.resolve()} | extent_files(path)


def extent_files(path: P) -> set[P]:
    """The regular files that hold a link's data. Where its descriptor lies in an extent, that is the file itself."""
    text = text_of(path)
    own = text is None
    text = descriptor_of(path) if text is None else text
    files = {path.resolve()} if own else set()
    for line in () if text is None else text.extents[own:]:
        if (file := extent_file(path, line)) is not None and file.is_file():
            files.add(cast(P, file.resolve()))
    return files


def extent_file(descriptor: Place, line: ExtentLine) -> Place | None:
    """The file of an extent; None where it has none, or it is not there."""
    if line.type == ExtentType.ZERO or line.access == Access.NOACCESS:
        return None
    for candidate in candidates(descriptor, line.name):
        with suppress(OSError, ValueError):
            if candidate.exists():
                return candidate
    return None


def name_from(folder: Place, path: Place) -> str:
    """How a text in `folder` names a file: shortly where it lies there."""
    folder, path = folder.resolve(), path.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def is_ours(path: Place, folders: Collection[Place]) -> bool:
    """A stranger's text may name any file: only what lies where our links do, and looks like one, is removed."""
    return path.parent in folders and looks_like_vmdk(path.name)


def own_files(path: P) -> set[P]:
    """The files of a link that go when it goes."""
    return {file for file in files_of(path) if file == path.resolve() or is_ours(file, {path.resolve().parent})}


def remove_files(paths: Iterable[Place]) -> None:
    """Those that are there. Raises HostRefused."""
    folders = set()
    for path in paths:
        try:
            path.unlink()
            folders.add(path.parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostRefused(f"{path}: cannot remove: {error.strerror}") from error
    for folder in folders:
        sync_folder(folder)
