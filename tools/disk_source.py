"""The disk that `nbd` and `mount` serve: as it is, or as it was at a snapshot."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ringfence.errors import BadOption

if TYPE_CHECKING:
    from vmkernel.storage.chain import Chain
    from vmkernel.storage.place import Place


def add_snapshot(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--snapshot", metavar="NAME", help="the disk at a snapshot of its machine: a name, or a uid")


def open_source(options: argparse.Namespace, *, writable: bool) -> Chain:
    """With its files locked. Raises BadOption, and what opening does."""
    from vmkernel.storage.formats import Format, open_image

    path = options.disk
    if options.snapshot is not None:
        if writable:
            raise BadOption("--snapshot: a snapshot is not written: expected for reading only")
        path = snapshot_link(path, options.snapshot)
    return open_image(path, Format(options.format), writable=writable)


def snapshot_link(disk: Place, name: str) -> Place:
    """The link of this disk that was frozen then, by the .vmsd file beside it. Raises BadOption."""
    from vmkernel.storage.chain import open_disk
    from vmx.vmsd import SnapshotTree

    with open_disk(disk, lock=False) as chain:
        links = {link.path.resolve() for link in chain.links}
    known: list[str] = []
    found: list[Place] = []
    for vmsd in sorted(path for path in disk.parent.iterdir() if path.suffix == ".vmsd"):
        for snapshot in SnapshotTree.read(vmsd).snapshots:
            frozen = [(vmsd.parent / entry.file).resolve() for entry in snapshot.disks]
            ours = [path for path in frozen if path in links]
            known += [snapshot.name] * bool(ours)
            if name in {snapshot.name, str(snapshot.uid)}:
                found += ours
    if len(found) == 1:
        return found[0]
    if found:
        raise BadOption(f"--snapshot {name}: {len(found)} snapshots have this name: expected a uid")
    raise BadOption(f"--snapshot {name}: expected one of this disk's: {', '.join(known) or 'it has none'}")
