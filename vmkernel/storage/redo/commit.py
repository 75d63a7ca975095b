"""What is done to a single redo log: its changes go into its parent, or are given up.

A commit is a fold of one link, or of several at once; see fold.py for its order. Reverting puts a new empty redo log
under the old name: the descriptor is replaced in one step, and the old extents are removed after it.
"""

from __future__ import annotations

from itertools import pairwise

from vmkernel.storage.chain import file_id, open_disk
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.family import children_of, refuse_children
from vmkernel.storage.place import P, Place
from vmkernel.storage.redo.child import child_path, make_child
from vmkernel.storage.redo.fold import Progress, finish, fold, merged_into
from vmkernel.storage.redo.links import ancestry, descriptor_of, edit, files_of, own_files, parent_of, remove_files
from vmkernel.storage.vmdk.descriptor import Descriptor
from vmkernel.storage.vmdk.link import open_link
from vmkernel.storage.vmdk.text_home import TextFile


def commit(child: P, progress: Progress | None = None, *, into: P | None = None, force: bool = False) -> P:
    """Fold a link into its parent, or with those between into the ancestor `into`: the path that the disk has then.

    Children of the committed link become the ancestor's. Other children of a link that loses its contents are lost,
    so that one with others beside it is refused unless `force`. Raises Unsupported, BadInput, HostRefused, MediaError.
    """
    if merged_into(child) is not None:
        return finish(child)
    links = ancestry(child)
    if len(links) == 1:
        raise Unsupported(str(child), "commit", "a link with a parent", "a base disk")
    target = links[-2] if into is None else into.resolve()
    if target not in links[:-1]:
        raise Unsupported(str(child), "commit", f"a link over {target}", f"one over {links[-2]}")
    run = links[links.index(target) :]
    if not force:
        for parent, kid in pairwise(run):
            refuse_others(parent, kid)
    fold(run, progress)
    if descriptor_of(child) is None:
        remove_files(reversed(run[1:]))
        return target
    return finish(child)


def refuse_others(parent: Place, kid: Place) -> None:
    """Raises Unsupported where a link is the parent of other disks too."""
    own = file_id(kid)
    others = [path.name for path in children_of(parent) if file_id(path) != own]
    if others:
        raise Unsupported(str(parent), "commit", f"no child but {kid.name}", ", ".join(others))


def revert(child: Place) -> None:
    """Give up what a redo log holds: the disk shows its parent again. Raises Unsupported, BadInput, HostRefused."""
    parent = parent_of(child)
    if parent is None or descriptor_of(child) is None:
        raise Unsupported(str(child), "revert", "a link with a descriptor and a parent", "another")
    refuse_children(child, "revert")
    open_link(child, writable=True).abandon()  # nobody has it open
    old = own_files(child) - {child.resolve()}
    fresh = child_path(child)
    with open_disk(parent) as chain:
        make_child(fresh, chain)
    text = descriptor_of(fresh)
    assert text is not None
    TextFile(child).save(text.encode())
    remove_files([fresh, *(path for path in old if path not in files_of(child))])


def delete(child: Place) -> None:
    """Remove a link and its extents. Raises Unsupported where it has children, HostRefused where it is open."""
    refuse_children(child, "delete")
    open_link(child, writable=True).abandon()
    remove_files([*sorted(own_files(child) - {child.resolve()}), child])


def accept_parent(child: Place) -> None:
    """Take the parent as it is now. Raises BadInput."""
    parent = parent_of(child)
    link = None if parent is None else descriptor_of(parent)
    if link is None:
        raise Unsupported(str(child), "parent", "one with a descriptor", "none")

    def change(own: Descriptor) -> None:
        own.set("parentCID", f"{link.cid:08x}", quoted=False)

    edit(child, change)
