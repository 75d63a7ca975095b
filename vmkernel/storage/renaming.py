"""Renames and deletes disks: the descriptor and the files that are its own.

A disk gets its new names first and loses the old ones last, so that at every moment there is one whole disk; where a
file has one name only, all are given in one step. Files that a descriptor names elsewhere, devices and parents stay
where they are.
Source: vmkfstools manual, "Rename a Virtual Disk", "Delete a Virtual Disk".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from ringfence.errors import BadOption, HostRefused
from vmkernel.storage.block_file import BlockFile, replace_file, sync_folder
from vmkernel.storage.errors import MissingLink
from vmkernel.storage.family import refuse_children
from vmkernel.storage.formats import VMDK_SUFFIX
from vmkernel.storage.place import Elsewhere, Place, elsewhere, is_taken, name_too
from vmkernel.storage.vmdk.link import Link, find, open_link
from vmkernel.storage.vmdk.text_home import EmbeddedText


@contextmanager
def alone(path: Place) -> Iterator[Link]:
    """A link whose files nobody else has open; it is closed, and they stay locked. Raises Locked."""
    link = open_link(path, lock=False)
    link.abandon()
    with ExitStack() as stack:
        for file in {path.resolve(), *link.files}:
            held = stack.enter_context(BlockFile.open(file, lock=False))
            held.lock(writable=True)
        yield link


def own_files(path: Place, link: Link) -> dict[str, Place]:
    """The extents that lie beside the descriptor, by the names that it gives; missing ones are left out."""
    found: dict[str, Place] = {}
    if link.descriptor is None or isinstance(link.home, EmbeddedText):
        return found
    for line in link.descriptor.extents:
        try:
            file = find(path, line.name, str(path)) if line.name else path
        except MissingLink:
            continue
        if file.parent.resolve() == path.parent.resolve() and file.name != path.name and line.name == file.name:
            found[line.name] = file
    return found


def delete_disk(path: Place) -> None:
    """Raises Unsupported when it has children beside it, Locked when somebody uses it."""
    refuse_children(path, "disk to be deleted")
    with alone(path) as link:
        files = own_files(path, link)
        try:
            path.unlink()
            for file in files.values():
                file.unlink(missing_ok=True)
            sync_folder(path.parent)
        except OSError as error:
            raise HostRefused(f"{path}: cannot delete: {error.strerror}") from error


def new_names(old: Place, new: Place, files: dict[str, Place]) -> dict[str, Place]:
    """Where each extent goes: what follows the disk's name in its name is kept."""
    stem, new_stem = old.name.removesuffix(VMDK_SUFFIX), new.name.removesuffix(VMDK_SUFFIX)
    places = {}
    for name in files:
        rest = name.removeprefix(stem) if name.startswith(stem) else f"-{name}"
        places[name] = new.with_name(new_stem + rest)
    return places


def rename_disk(old: Place, new: Place) -> None:
    """Raises HostRefused where a file has a new name already, or across file systems."""
    refuse_children(old, "disk to be renamed")
    if old.name.endswith(VMDK_SUFFIX) != new.name.endswith(VMDK_SUFFIX):
        raise BadOption(f"{new}: expected a name that ends like {old.name}")
    with alone(old) as link:
        files = own_files(old, link)
        places = new_names(old, new, files)
        if (volume := elsewhere(old)) is not None:
            rename_in(volume, link, new, places)
            return
        made: list[Place] = []
        try:
            for name, file in files.items():
                name_too(file, places[name])
                made.append(places[name])
            if link.descriptor is None or isinstance(link.home, EmbeddedText):
                name_too(old, new)
            elif is_taken(new):
                raise FileExistsError(17, os.strerror(17))
            else:
                replace_file(new, renamed_text(link, old, new, places))
            made.append(new)
            if isinstance(link.home, EmbeddedText):
                rename_inside(link, new)
            sync_folder(new.parent)
        except BaseException as error:
            for place in made:
                place.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise HostRefused(f"{old}: cannot rename to {new}: {error.strerror}") from error
            raise
        old.unlink()
        for file in files.values():
            file.unlink(missing_ok=True)
        sync_folder(old.parent)


def rename_in(old: Elsewhere, link: Link, new: Place, places: dict[str, Place]) -> None:
    """Where files have one name only. Raises HostRefused."""
    files = own_files(old, link)
    moves: list[tuple[Place, Place]] = [(file, places[name]) for name, file in files.items()]
    try:
        for name in (*places.values(), new):
            if is_taken(name):
                raise FileExistsError(17, os.strerror(17))
        if link.descriptor is None or isinstance(link.home, EmbeddedText):
            old.move_together([(old, new)])
            if isinstance(link.home, EmbeddedText):
                rename_inside(link, new)
            return
        text = new.with_name(f".{new.name}.new")
        replace_file(text, renamed_text(link, old, new, places))
        try:
            old.move_together([*moves, (text, new)])
        except BaseException:
            text.unlink(missing_ok=True)
            raise
        old.unlink()
    except OSError as error:
        raise HostRefused(f"{old}: cannot rename to {new}: {error.strerror}") from error


def renamed_text(link: Link, old: Place, new: Place, places: dict[str, Place]) -> bytes:
    text = link.descriptor
    assert text is not None
    moved = old.parent.resolve() != new.parent.resolve()
    lines = []
    for line in text.extents:
        if line.name in places:
            lines.append(replace(line, name=places[line.name].name))
        elif moved and line.name:
            lines.append(replace(line, name=str(find(old, line.name, str(old)).resolve())))
        else:
            lines.append(line)
    if lines != list(text.extents):
        text.replace_extents(lines)
    if moved and text.has_parent and text.parent_hint:
        text.set("parentFileNameHint", str((old.parent / text.parent_hint).resolve()))
    return text.encode()


def rename_inside(link: Link, new: Place) -> None:
    """The text inside a sparse file names that file; where it has no room for the new name, the old one stays."""
    text, home = link.descriptor, link.home
    assert text is not None and isinstance(home, EmbeddedText)
    first, *rest = text.extents
    text.replace_extents([replace(first, name=new.name), *rest])
    if len(text.encode()) > home.sectors * 512:
        return
    with BlockFile.open(new, writable=True, lock=False) as file:
        EmbeddedText(file, home.sector, home.sectors).save(text.encode())
