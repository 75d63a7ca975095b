"""Reads and writes .vmsn files: what a machine was when a snapshot of it was taken.

The container is that of .vmss files, with a group of ours, Snapshot, that holds the .vmx file's text; with memory the
other groups are those of a suspended machine, which can go on from the file. Without, the memory's block is empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.errors import BadInput, HostRefused
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.errors import MissingLink
from vmkernel.storage.place import Place
from vmx.vmss import Container, Group, Tag, pack, read_container
from vmx.vmx_file import replace_file

GROUP = "Snapshot"
CONFIG, UID = "cfgFile", "uid"


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """`config` is the text of the .vmx file; `has_memory`: the machine was running, and can go on."""

    config: bytes
    has_memory: bool


def state_group(uid: int, config: bytes) -> Group:
    """What a .vmsn holds beside the groups of a .vmss."""
    return Group(GROUP, (Tag(UID, str(uid).encode()), Tag(CONFIG, config)))


def write_state(path: Place, uid: int, config: bytes) -> None:
    """A snapshot without memory, all or nothing. Raises HostRefused."""
    replace_file(path, pack((state_group(uid, config),), 0) + b"\0\0", 0o600)


def read_state(path: Place) -> SnapshotState:
    """Raises BadInput for a file that is missing, damaged or another's."""
    try:
        file = BlockFile.open(path, lock=False)
    except (HostRefused, MissingLink) as error:
        raise BadInput(str(path), "cannot open", "the state of a snapshot", str(error)) from error
    with file:
        container: Container = read_container(file, str(path))
    return SnapshotState(container.value(str(path), GROUP, CONFIG), container.large_bytes > 0)
