"""The files behind a machine's snapshots: which links are needed, which are folded away, which are removed.

Needed are the links that the .vmx file and the snapshots name. A link whose snapshot was deleted is listed in the .vmsd
to be folded; when only one link stands on it, that one and it become one. Links with several children stay until one
is left. What is to be removed is listed too, and removed when no needed disk contains it. Both lists are in the same
file as the snapshots, so they change with them in one step; whoever finds them does what they say (`tidy`). Every step
may be cut short and done again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ringfence.errors import RingfenceError
from vmkernel.storage.chain import parent_path
from vmkernel.storage.datastores import locate
from vmkernel.storage.family import relatives
from vmkernel.storage.formats import holds_vmdk
from vmkernel.storage.place import Place
from vmkernel.storage.redo.fold import finish, fold, merged_into
from vmkernel.storage.redo.links import (
    LEFTOVER,
    ancestry,
    descriptor_of,
    files_of,
    is_ours,
    name_from,
    remove_files,
)  # fmt: skip
from vmx.snapshot_disks import machine_disks, redo_folder
from vmx.vmsd import SnapshotTree
from vmx.vmx_file import VmxFile

Progress = Callable[[str, int, int], None]  # the link that grows, bytes of the disk done, bytes of the disk

STATE = re.compile(r"\.vms[ns](?:\.\d+)?\Z")


def silent(link: str, done: int, total: int) -> None:
    """For whoever does not look."""


@dataclass(slots=True)
class Links:
    """The links of all needed disks. `broken` says why a disk could not be followed to its base."""

    named: set[Place] = field(default_factory=set)
    children: dict[Place, set[Place]] = field(default_factory=dict)
    broken: dict[Place, RingfenceError] = field(default_factory=dict)

    def add(self, disk: Place) -> None:
        self.named.add(disk.resolve())
        try:
            if not holds_vmdk(disk):
                return
            links = ancestry(disk, stop=self.children.keys())
        except RingfenceError as error:
            self.broken[disk.resolve()] = error
            return
        for parent, child in pairwise(links):
            self.children.setdefault(parent, set()).add(child)
        for link in links:
            self.children.setdefault(link, set())

    def files(self) -> set[Place]:
        """All files of all links."""
        return set().union(*(files_of(link) for link in self.children))


class MachineFiles:
    """A machine's two dictionaries, read for a change. `folder` is where their names begin."""

    def __init__(self, vmx: VmxFile, progress: Progress = silent) -> None:
        """Raises BadInput and HostRefused."""
        self.vmx, self.progress = vmx, progress
        self.folder = vmx.path.resolve().parent
        self.stem = vmx.path.stem
        self.tree = SnapshotTree.read(vmx.path.resolve().with_suffix(".vmsd"))

    def path(self, name: str) -> Place:
        return locate(self.folder, name).resolve()

    def name(self, path: Place) -> str:
        return name_from(self.folder, path)

    def links(self) -> Links:
        """Of the disks as they are now, and of those that the snapshots keep."""
        found = Links()
        for disk in machine_disks(self.vmx):
            found.add(disk.path)
            if disk.redo is not None and disk.redo.exists():
                found.add(disk.redo)
        for snapshot in self.tree.snapshots:
            for kept in snapshot.disks:
                found.add(self.path(kept.file))
        return found

    def to_remove(self, paths: Iterable[Place]) -> None:
        """To be removed once nothing needs it; said in the .vmsd when that is written next."""
        listed = self.tree.unfinished.remove
        listed += [name for name in map(self.name, paths) if name not in listed]

    def to_fold(self, paths: Iterable[Place]) -> None:
        listed = self.tree.unfinished.fold
        listed += [name for name in map(self.name, paths) if name not in listed]

    # finishing

    def tidy(self, *, folding: bool = False, running: bool = False) -> None:
        """Do what is still to be done; without `folding` links that could be folded stay.

        Of a machine that runs the links keep their names. Raises BadInput, HostRefused and MediaError; the machine is
        as usable then.
        """
        self._finish_revert()
        if not running:
            self._finish_folds()
        while folding and (run := self.next_fold()) is not None:
            self.fold(run)
            self.finish(run[-1])
        self._remove()
        if folding:
            self.consolidated()

    def consolidated(self) -> None:
        """Nothing is left to be folded."""
        if self.tree.needs_consolidation:
            self.tree.needs_consolidation = False
            self.tree.write()

    def fold(self, run: list[Place]) -> None:
        """Copy links into the lowest of them; `finish` gives the highest up."""
        fold(run, lambda done, total: self.progress(run[0].name, done, total))

    def _finish_revert(self) -> None:
        """A return to a snapshot, cut short, has happened when the machine has the disks that were made for it."""
        left = self.tree.unfinished
        if not left.revert:
            return
        now = {link for disk in machine_disks(self.vmx) for link in self.ancestry(disk.path)}
        if left.revert in self.tree and any(self.path(name) in now for name in left.revert_to):
            self.tree.current = left.revert
        left.revert, left.revert_to = 0, []
        self.tree.write()

    def ancestry(self, disk: Place) -> list[Place]:
        """The links of a disk, or what can be found of them."""
        try:
            return ancestry(disk)
        except RingfenceError:
            return [disk.resolve()]

    def _finish_folds(self) -> None:
        for link in self.folded():
            self.finish(link)

    def folded(self) -> list[Place]:
        """Links that are second names of others already."""
        return [link for link in sorted(self.links().children) if merged_into(link) is not None]

    def finish(self, top: Place) -> None:
        """One that has been folded goes, and whoever names it names what it was folded into.

        What it leaves over is listed first: once its children name another, nothing leads to it.
        """
        text = descriptor_of(top)
        named = [top.parent / value for key, value in (text.ddb() if text else {}).items() if key.startswith(LEFTOVER)]
        self.to_remove([*(path.resolve() for path in named), top])
        self.tree.write()
        finish(top, self._rename, self.links().children.get(top, ()))

    def next_fold(self) -> list[Place] | None:
        """[target, ..., top]: links that are to be folded, one upon the other, and what stands on them."""
        links = self.links()
        self._add_strangers(links)
        wanted = {self.path(name) for name in self.tree.unfinished.fold} - links.named
        for target in sorted(wanted & links.children.keys()):
            run = [target]
            while run[-1] in wanted and len(kids := links.children[run[-1]]) == 1:
                run += kids
            below = next((parent for parent, kids in links.children.items() if target in kids), None)
            if len(run) > 1 and not (below in wanted and len(links.children[below]) == 1):
                return run
        return None

    def _add_strangers(self, links: Links) -> None:
        """Children beside our links that neither the machine nor a snapshot needs: somebody else may."""
        doomed = {self.path(name) for name in self.tree.unfinished.remove}
        for folder in {link.parent for link in links.children}:
            for link in relatives(folder):
                with suppress(RingfenceError, OSError):
                    parent = parent_path(link).resolve()
                    if parent in links.children and link.path.resolve() not in doomed:
                        links.children[parent].add(link.path.resolve())

    def _rename(self, top: Place, target: Place, leftover: list[Place]) -> None:
        """Whoever names `top` names `target`; both are the same disk. What is left over then is not forgotten."""
        self.to_remove(leftover)
        self.tree.write()
        for disk in list(machine_disks(self.vmx)):
            if disk.path.resolve() == top:
                self.vmx.set(disk.key, self.name(target))
                self.vmx.write()
        for snapshot in self.tree.snapshots:
            snapshot.disks = tuple(
                replace(disk, file=self.name(target)) if self.path(disk.file) == top else disk
                for disk in snapshot.disks
            )
        left = self.tree.unfinished
        gone = self.name(top)
        left.fold = [self.name(target) if name == gone else name for name in left.fold]
        self.tree.write()

    def _remove(self) -> None:
        """What is listed and not needed goes; then the lists say what must stay until a child is gone."""
        links = self.links()
        left = self.tree.unfinished
        if left.remove:
            needed = links.files() | {self.path(snapshot.file) for snapshot in self.tree.snapshots}
            needed |= {self.path(self.vmx.get("checkpoint.vmState"))} if self.vmx.get("checkpoint.vmState") else set()
            needed |= {disk.path.resolve() for disk in machine_disks(self.vmx)} | {self.vmx.path.resolve()}
            if not links.broken:
                folders = {self.folder, *(link.parent for link in links.children)}
                folders |= {redo_folder(self.vmx, disk.path).resolve() for disk in machine_disks(self.vmx)}
                named = [path for path in map(self.path, left.remove) if path not in needed]
                remove_files(path for path in named if is_ours(path, folders) or self._is_state(path))
        left.remove = left.remove if links.broken else []
        left.fold = [name for name in left.fold if self._may_fold_later(self.path(name), links)]
        self.tree.write()

    def _is_state(self, path: Place) -> bool:
        """Is it a state file of this machine, whole or half written?"""
        name = path.name.removeprefix(".")
        return path.parent == self.folder and name.startswith(f"{self.stem}-") and STATE.search(name) is not None

    def _may_fold_later(self, link: Place, links: Links) -> bool:
        return link in links.children and link not in links.named
