"""Folders for disks: one of the host, and one inside a new VMFS volume."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3.hosts import make
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.finding import Fault
from vmkernel.storage.vmfs3.geometry import Counts
from vmkernel.storage.vmfs_place import VolumePlace, place_in
from vmkernel.storage.vmfs_store import close_volumes

LABEL = "store"
COUNTS = Counts(fds=512, pbs=64, sbs=256, fds_per_cluster=32)
KILLED = 77


def volume_folder(tmp_path: Path, name: str = "vm") -> VolumePlace:
    """An empty folder of a new volume."""
    folder = place_in(make(tmp_path, label=LABEL, counts=COUNTS), name)
    folder.mkdir()
    return folder


def images(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("disk*.img"))


@pytest.fixture(params=["host", "volume"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | VolumePlace]:
    """Both kinds of place; a volume is sound at the end."""
    if request.param == "host":
        (tmp_path / "vm").mkdir()
        yield tmp_path / "vm"
        return
    yield volume_folder(tmp_path)
    close_volumes()
    judge(images(tmp_path))


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[VolumePlace]:
    yield volume_folder(tmp_path)
    close_volumes()
    judge(images(tmp_path))


def judge(paths: list[Path], *, killed: bool = False) -> None:
    """`killed`: locks and heartbeats of a host that was killed may stay until somebody wants them."""
    passed = {Fault.HEARTBEAT, Fault.LOCK} if killed else set()
    assert [str(finding) for finding in check(paths) if finding.fault not in passed] == []


def in_child(action: Callable[[], object]) -> int:
    """Run it in a process of its own, whose volumes are closed in order: 0, or a status it ended with."""
    child = os.fork()
    if not child:
        status = 1
        try:
            action()
            close_volumes()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
