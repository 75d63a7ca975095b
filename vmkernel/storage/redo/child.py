"""New redo logs: their names, and their files over a parent that may be open.

    vm.vmdk          vm-000001.vmdk, vm-000001-delta.vmdk
    vm-000001.vmdk   vm-000002.vmdk, ...: the smallest number of which neither file is there

Source: VMware KB 1002511 (delta files); VMware Virtual Disk Format 1.1, "Delta links".
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ringfence.errors import BadOption
from vmkernel.storage.chain import Chain
from vmkernel.storage.create import CREATE_TYPES, Kind, Making, extents, refuse_depth
from vmkernel.storage.errors import Unsupported
from vmkernel.storage.place import P, Place
from vmkernel.storage.redo.links import name_from
from vmkernel.storage.vmdk.descriptor import build

NUMBER = re.compile(r"-\d{6}\Z")
NUMBERS_MAX = 999_999


def child_path(parent: P, folder: P | None = None, taken: Collection[P] = ()) -> P:
    """Where a new child of this disk goes. `taken` are names that are given away already. Raises BadOption."""
    folder = folder or parent.parent
    stem = NUMBER.sub("", parent.name.removesuffix(".vmdk"))
    for number in range(1, NUMBERS_MAX + 1):
        path = folder / f"{stem}-{number:06}.vmdk"
        if path not in taken and not any(file.exists() or file.is_symlink() for file in files_made(path)):
            return path
    raise BadOption(f"{folder}: {stem}-NNNNNN.vmdk: all numbers are taken")


def files_made(path: P) -> tuple[P, P]:
    """The files that `make_child` makes: descriptor and extent."""
    return path, path.with_name(f"{path.name.removesuffix('.vmdk')}-delta.vmdk")


def make_child(path: Place, parent: Chain) -> None:
    """A redo log that holds nothing yet, over an open disk, which must not be written from now on.

    Raises Unsupported for a parent without descriptor, or one that has as many links over its base as there may be.
    """
    top = parent.links[-1]
    if top.cid is None:
        raise Unsupported(str(top.path), "parent of a redo log", "a disk with a descriptor", "bare sectors")
    refuse_depth(top.path, parent)
    hint = name_from(path.parent, top.path)
    with Making(path) as making:
        lines = extents(making, Kind.VMFS_SPARSE, parent.sectors, None)
        kind = CREATE_TYPES[Kind.VMFS_SPARSE]
        making.finish(build(lines, kind, None, cid=top.cid, parent_cid=top.cid, parent_hint=hint))
