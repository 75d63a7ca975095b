"""The disks of a machine as chains of the VMkernel, by what is to become of their writes.

    persistent, independent-persistent           into the disk
    nonpersistent, independent-nonpersistent     into a redo log in the machine's folder, which power-off removes
    undoable, append                             into a redo log by which the disk is opened: snapshot_modes.py

A redo log that a killed process left is removed at the next power-on; that of a suspended machine is gone on with.
The name of a file says whether it is a VMDK or bare sectors, and what it holds has to agree: a guest can write a
descriptor into a disk of bare sectors, to be given other files of the host.
"""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager
from typing import Protocol

from ringfence.errors import BadInput, RingfenceError
from vmkernel.storage.chain import Chain, open_disk, open_raw
from vmkernel.storage.formats import VMDK_SUFFIX, holds_vmdk, looks_like_vmdk
from vmkernel.storage.place import Place
from vmkernel.storage.redo.child import files_made, make_child
from vmkernel.storage.redo.links import remove_files
from vmx.machine_config import DISCARDING, DriveSpec
from vmx.snapshot_disks import WITH_REDO_LOG

REDO = "nonpersistent"
REDO_MARK = ".REDO_"  # in the name of a redo log that somebody decides about
FLUSH_S = 5.0


def is_vmdk(path: Place) -> bool:
    """Raises BadInput where name and contents disagree, and HostRefused."""
    named, held = looks_like_vmdk(path.name), holds_vmdk(path)
    if named and not held:
        raise BadInput(str(path), "disk image", "a VMDK, as its name says", "something else")
    if held and not named:
        raise BadInput(str(path), "disk image", "bare sectors, for its name does not end in .vmdk", "a VMDK")
    return held


def open_chain(path: Place, *, writable: bool) -> Chain:
    """A VMDK or bare sectors. Raises BadInput and HostRefused."""
    return open_disk(path, writable=writable) if is_vmdk(path) else open_raw(path, writable=writable)


def redo_path(spec: DriveSpec, node: str, folder: Place | None) -> Place:
    """The redo log of a disk that forgets. `node` keeps two disks of one name apart."""
    assert spec.path is not None
    stem = spec.path.name.removesuffix(VMDK_SUFFIX)
    return (folder or spec.path.parent) / f"{stem}-{REDO}-{node.replace(':', '_')}{VMDK_SUFFIX}"


def open_machine_disk(spec: DriveSpec, node: str, folder: Place | None, *, resumes: bool) -> Chain:
    """`resumes`: a redo log that is there is gone on with. Raises BadInput and HostRefused."""
    assert spec.path is not None
    if spec.mode in WITH_REDO_LOG and REDO_MARK not in spec.path.name:
        raise BadInput(str(spec.path), f"disk in mode {spec.mode.value}", "its redo log", "the disk itself")
    if spec.mode not in DISCARDING:
        return open_chain(spec.path, writable=True)
    child = redo_path(spec, node, folder)
    if resumes and not child.exists():
        raise BadInput(str(child), "redo log", "that of the suspended machine", "none")
    if not resumes:
        remove_files(files_made(child))
        with open_chain(spec.path, writable=False) as parent:
            make_child(child, parent)
    return open_disk(child, writable=True)


def forget(spec: DriveSpec, node: str, folder: Place | None) -> None:
    """What a machine that will not go on wrote to a disk that forgets. Raises HostRefused."""
    if spec.mode in DISCARDING and spec.path is not None:
        remove_files(files_made(redo_path(spec, node, folder)))


class Keeper(Protocol):
    """Knows at the end whether the machine will go on from where it is."""

    kept: bool


class Forgetting:
    """`close` forgets, once the disk is closed."""

    def __init__(self, keeper: Keeper, spec: DriveSpec, node: str, folder: Place | None) -> None:
        self._keeper, self._what = keeper, (spec, node, folder)

    def close(self) -> None:
        if not self._keeper.kept:
            forget(*self._what)


class Flusher:
    """Makes what a guest wrote durable every few seconds, whether it asks for that or not: like the host's own cache.

    A guest that never synchronizes so loses no more than that when this process is killed. Begins with `start`.
    """

    def __init__(self, chains: dict[str, Chain], period_s: float = FLUSH_S) -> None:
        self._chains, self._period_s = chains, period_s
        self._over = threading.Event()
        self._flushing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="disk-flush", daemon=True)

    def start(self) -> None:
        """The host may give no thread: then only the guest's own flushes count."""
        with contextlib.suppress(RuntimeError):
            self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def paused(self) -> AbstractContextManager[object]:
        """While it is entered no chain is touched, so that another may take its place."""
        return self._flushing

    def _work(self) -> None:
        while not self._over.wait(self._period_s):
            with self._flushing:
                for chain in list(self._chains.values()):
                    if chain.writable:
                        with contextlib.suppress(RingfenceError):  # the guest's next flush fails too, and it is told
                            chain.flush()
