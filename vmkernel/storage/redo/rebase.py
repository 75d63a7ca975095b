"""Gives a link another parent, with the disk showing the same as before, or as its descriptor only.

Safely: where the new parent shows something else than the old one, and the link has nothing of its own, the old
contents are copied into the link first. Until its descriptor is replaced it is a child of the old parent that shows the
same as ever, and then one of the new parent; its content ID stays, so that its own children need no change.
"""

from __future__ import annotations

from contextlib import ExitStack

from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.compare import is_same_place, parts
from vmkernel.storage.errors import CorruptImage, Unsupported
from vmkernel.storage.place import Place
from vmkernel.storage.redo.fold import PIECE_BYTES, Progress
from vmkernel.storage.redo.links import ancestry, descriptor_of, edit, name_from
from vmkernel.storage.vmdk.descriptor import Descriptor


def rebase(child: Place, parent: Place, progress: Progress | None = None, *, unsafe: bool = False) -> None:
    """Raises Unsupported, CorruptImage for another capacity, HostRefused and MediaError.

    `unsafe`: only the descriptor is changed, whatever the disk shows then.
    """
    own, text = descriptor_of(child), descriptor_of(parent)
    if own is None or text is None or not own.has_parent:
        raise Unsupported(str(child), "rebase", "a link with a parent, and a parent with a descriptor", "another")
    if child.resolve() in ancestry(parent):
        raise Unsupported(str(child), "new parent", "a disk that does not descend from it", f"{parent}")
    if own.capacity_sectors != text.capacity_sectors:
        expected = f"the {own.capacity_sectors} sectors of its child"
        raise CorruptImage(parent, 0, "capacity", expected, f"{text.capacity_sectors}")
    if not unsafe:
        with ExitStack() as held:
            disk = held.enter_context(open_disk(child, writable=True))
            other = held.enter_context(open_disk(parent))
            disk.links[-1].home = None  # it shows the same as before, so its content ID stays
            copy_differences(disk, other, progress)

    def change(link: Descriptor) -> None:
        link.set("parentCID", f"{text.cid:08x}", quoted=False)
        link.set("parentFileNameHint", name_from(child.parent, parent))

    edit(child, change)


def copy_differences(disk: Chain, parent: Chain, progress: Progress | None) -> None:
    """Into the youngest link of `disk`: what it shows from below, where the new parent would show something else."""
    top = len(disk.links) - 1
    for part in parts(disk, parent, disk.size_bytes):
        if part.first.layer != top and not is_same_place(part):
            for at in range(part.start, part.start + part.length, PIECE_BYTES):
                copy_part(disk, parent, at, min(PIECE_BYTES, part.start + part.length - at))
        if progress is not None:
            progress(part.start + part.length, disk.size_bytes)
    disk.flush()


def copy_part(disk: Chain, parent: Chain, at: int, length: int) -> None:
    ours, theirs = bytearray(length), bytearray(length)
    disk.read(at, [memoryview(ours)])
    parent.read(at, [memoryview(theirs)])
    step = 64 << 10
    for start in range(0, length, step):
        piece = memoryview(ours)[start : start + step]
        if piece != memoryview(theirs)[start : start + step]:
            disk.write(at + start, [piece])

