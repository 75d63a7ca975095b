"""Reads and writes .vmsn files: what a machine was when a snapshot of it was taken.

The container is that of .vmss files, with a group of ours, Snapshot, that holds the .vmx file's text; with memory the
other groups are those of a suspended machine, which can go on from the file. Without, the memory's block is empty.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ringfence.errors import BadInput
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


def write_state(path: Path, uid: int, config: bytes) -> None:
    """A snapshot without memory, all or nothing. Raises HostRefused."""
    replace_file(path, pack((state_group(uid, config),), 0) + b"\0\0", 0o600)


def read_state(path: Path) -> SnapshotState:
    """Raises BadInput for a file that is missing, damaged or another's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput(str(path), "cannot open", "the state of a snapshot", str(error.strerror)) from error
    try:
        container: Container = read_container(fd, str(path))
    finally:
        os.close(fd)
    return SnapshotState(container.value(str(path), GROUP, CONFIG), container.large_bytes > 0)
