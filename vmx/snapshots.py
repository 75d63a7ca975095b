"""Snapshots of a machine that is not running: take, list, return to one, delete. A return begins a branch.

The link that a disk is written to is never one that a snapshot owns. Each change is made in such an order that a
machine that is switched on after it was cut short shows what it showed before or what it was to show: what is to be
done is said in the .vmsd file; new files are made; the .vmx file names them; the .vmsd file says that it has happened;
old files go.
Of a running machine: snapshot_live.py, snapshot_return.py, snapshot_consolidate.py.
Source: VMware, Basic System Administration (ESX Server 3), "Using Snapshots"; VMware KB 1015180.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ringfence.errors import BadInput, BadOption, HostRefused, RingfenceError
from vmkernel.storage.block_file import copy_file, sync_folder
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import SNAPSHOTS_MAX
from vmkernel.storage.place import Place, elsewhere, name_too
from vmkernel.storage.redo.child import child_path, files_made, make_child
from vmkernel.storage.redo.links import files_of
from vmx.machine_actions import SnapshotRow
from vmx.machine_lock import MachineLock
from vmx.registry import Registry
from vmx.snapshot_disks import WITH_REDO_LOG, MachineDisk, machine_disks, redo_folder, refuse_bare_sectors
from vmx.snapshot_files import MachineFiles, Progress, silent
from vmx.snapshot_state import read_state, write_state
from vmx.vmsd import Snapshot, SnapshotDisk, SnapshotTree
from vmx.vmx_file import VmxFile

MEMORY_KEY = ("ringfence.memory", "TRUE")
RESUME_FROM = "checkpoint.vmState"
# What a return to a snapshot leaves as it is: who the machine is, not what it is made of.
KEPT_PREFIXES = (
    "displayname", "annotation", "uuid.", "vc.uuid", "log.", "logging", "extendedconfigfile", "remotedisplay.",
)  # fmt: skip
KEPT_OF_A_CARD = (".address", ".generatedaddress", ".generatedaddressoffset", ".addresstype")


@contextmanager
def switched_off(vmx: Place, progress: Progress = silent) -> Iterator[MachineFiles]:
    """A machine that nobody has running, and that nobody switches on meanwhile. Raises MachineInUse and BadInput."""
    lock = MachineLock.acquire(vmx, Registry.of_user().directory)
    try:
        yield MachineFiles(VmxFile.read(vmx), progress)
    finally:
        lock.release()


class Taking:
    """The steps of taking a snapshot, for a machine that runs or does not."""

    def __init__(
        self, files: MachineFiles, name: str, description: str, now_us: int, *, with_memory: bool = False
    ) -> None:
        """Raises BadOption and BadInput for a machine of which none can be taken."""
        tree = files.tree
        if not name.strip():
            raise BadOption("snapshot: expected a name for it")
        if tree.depth(tree.current) >= SNAPSHOTS_MAX:
            raise BadOption(f"{files.vmx.path}: expected at most {SNAPSHOTS_MAX} snapshots, each of the one before")
        self.files = files
        self.config = files.vmx.to_bytes()
        self.uid = tree.last_uid + 1
        while (state := files.folder / f"{files.stem}-Snapshot{self.uid}.vmsn").exists():
            self.uid += 1
        self.state = state
        self.children: dict[str, tuple[MachineDisk, Place]] = {}
        for disk in machine_disks(files.vmx):
            if disk.takes_part:
                refuse_bare_sectors(files.vmx, disk)
                refuse_redo_log(files.vmx, disk)
                taken = [path for _, path in self.children.values()]
                child = child_path(disk.path.resolve(), redo_folder(files.vmx, disk.path.resolve()), taken)
                self.children[disk.node] = disk, child
        kept = tuple(SnapshotDisk(files.name(disk.path), node) for node, (disk, _) in self.children.items())
        self.snapshot = Snapshot(
            self.uid, files.name(state), tree.current, name, description, now_us, kept,
            (MEMORY_KEY,) if with_memory else (),
        )  # fmt: skip
        self._rehearse()

    def _rehearse(self) -> None:
        """Raises BadOption where the dictionary could not hold the snapshot."""
        file = self.files.tree.file
        tree = SnapshotTree(VmxFile.parse(file.to_bytes(), file.path))
        tree.add(self.snapshot)
        tree.put()

    def announce(self) -> None:
        """What is made from here on is removed again, or folded away, unless it comes to `record`."""
        made = [file for _, child in self.children.values() for file in files_made(child)]
        self.files.tree.last_uid = self.uid
        self.files.to_remove([*made, self.state])
        self.files.to_fold(disk.path for disk, _ in self.children.values())
        self.files.tree.write()

    def plug(self) -> None:
        """The .vmx file names the new links."""
        vmx = self.files.vmx
        before = {disk.key: vmx.get(disk.key) for disk, _ in self.children.values()}
        try:
            for disk, child in self.children.values():
                vmx.set(disk.key, self.files.name(child))
            if self.children:
                vmx.write()
        except RingfenceError:
            for key, value in before.items():
                vmx.set(key, value)
            raise

    def record(self) -> Snapshot:
        """The .vmsd file names the snapshot."""
        left = self.files.tree.unfinished
        done = {kept.file for kept in self.snapshot.disks}
        left.fold = [name for name in left.fold if name not in done]
        left.remove = []
        self.files.tree.add(self.snapshot)
        self.files.tree.write()
        return self.snapshot


def refuse_redo_log(vmx: VmxFile, disk: MachineDisk) -> None:
    """Raises BadInput: what such a disk is written to is to go when the machine is switched off."""
    if disk.mode in WITH_REDO_LOG:
        where = f"{vmx.where(f'{disk.node}.mode')}: {disk.node}.mode"
        raise BadInput(where, "disk with snapshots", "mode persistent or an independent one", disk.mode.value)


def take(files: MachineFiles, name: str, description: str = "", now_us: int = 0) -> Snapshot:
    """Freeze the disks as they are. Raises BadOption, BadInput, HostRefused; the machine is as it was then."""
    if files.vmx.get(RESUME_FROM).strip():
        raise BadOption(f"{files.vmx.path}: the machine is suspended: resume or stop it before a snapshot is taken")
    files.tidy()
    taking = Taking(files, name, description, now_us)
    taking.announce()
    try:
        write_state(taking.state, taking.uid, taking.config)
        for disk, child in taking.children.values():
            with open_disk(disk.path) as chain:
                make_child(child, chain)
        taking.plug()
        return taking.record()
    except RingfenceError:
        give_up(files)
        raise


def give_up(files: MachineFiles, *, running: bool = False) -> None:
    """After a failure: what was made goes, as far as the host lets it, and the rest when the next change is made."""
    with suppress(RingfenceError):
        MachineFiles(VmxFile.read(files.vmx.path)).tidy(running=running)


class Reverting:
    """The steps of a return to a snapshot, for a machine that runs or does not: `carry_out` once it does not.

    `notes` are for a person. `has_memory`: the machine is suspended then, and goes on from there.
    """

    def __init__(self, files: MachineFiles, uid: int) -> None:
        """Raises BadOption and BadInput; nothing has changed then."""
        self.files, self.snapshot = files, found(files.tree, uid)
        self.notes: list[str] = []
        self.config, self.has_memory = restored_config(files, self.snapshot, self.notes)
        self.children: list[tuple[Place, Place]] = []
        for kept in self.snapshot.disks:
            frozen = files.path(kept.file)
            taken = [path for _, path in self.children]
            child = child_path(frozen, redo_folder(self.config, frozen), taken)
            self.children.append((frozen, child))
            self.config.set(f"{kept.node}.fileName", files.name(child))
            self.config.set(f"{kept.node}.present", "TRUE")
        resume = files.folder / f"{files.stem}-{secrets.token_hex(4)}.vmss"
        self.resume = resume if self.has_memory else None

    def prepare(self) -> None:
        """Make the disks' new links, which nothing needs yet. Raises HostRefused and BadInput."""
        announce_revert(self.files, self.snapshot.uid, [child for _, child in self.children], self.resume)
        for frozen, child in self.children:
            with open_disk(frozen) as chain:
                make_child(child, chain)
        if self.resume is not None:
            second_name(self.files.path(self.snapshot.file), self.resume)

    def carry_out(self) -> None:
        """The .vmx file names them, and what was written since goes."""
        files, config = self.files, self.config
        if self.resume is not None or config.get(RESUME_FROM):
            config.set(RESUME_FROM, files.name(self.resume) if self.resume is not None else "")
        config.write()
        files.vmx = config
        files.tree.current = self.snapshot.uid
        files.tree.unfinished.revert, files.tree.unfinished.revert_to = 0, []
        files.tree.write()
        files.tidy()


def revert(files: MachineFiles, uid: int) -> list[str]:
    """Back to a snapshot: notes for a person. What was done since the latest snapshot is lost.

    Of one with memory the machine is suspended then, and goes on from there. Raises BadOption, BadInput, HostRefused.
    """
    files.tidy()
    reverting = Reverting(files, uid)
    try:
        reverting.prepare()
        reverting.carry_out()
    except RingfenceError:
        give_up(files)
        raise
    return reverting.notes


def announce_revert(files: MachineFiles, uid: int, children: list[Place], resume: Place | None) -> None:
    """What is made, and what is given up: nothing of it is removed as long as the .vmx file needs it."""
    before = files.links()
    kept = MachineFiles(VmxFile.new(files.vmx.path)).links()
    given_up: set[Place] = set()
    for disk in machine_disks(files.vmx):
        if disk.takes_part and not before.broken and not kept.broken:
            links = files.ancestry(disk.path)
            above = [link for link in links if link not in kept.children]
            if len(above) < len(links):  # a disk that no snapshot has stays as it is, unplugged perhaps
                given_up.update(*(files_of(link) for link in above))
    files.to_remove([*(file for child in children for file in files_made(child)), *sorted(given_up)])
    if resume is not None:
        files.to_remove([resume])
    if old := files.vmx.get(RESUME_FROM).strip():
        files.to_remove([files.path(old)])
    left = files.tree.unfinished
    left.revert, left.revert_to = uid, [files.name(child) for child in children]
    files.tree.write()


def restored_config(files: MachineFiles, snapshot: Snapshot, notes: list[str]) -> tuple[VmxFile, bool]:
    """The .vmx file of a snapshot, with what stays as it is now; and whether there is memory to go on from."""
    try:
        state = read_state(files.path(snapshot.file))
    except BadInput as error:
        notes.append(f"the machine's settings stay as they are: {error}")
        return VmxFile.parse(files.vmx.to_bytes(), files.vmx.path), False
    config = VmxFile.parse(state.config, files.vmx.path)
    for line in files.vmx:
        if is_kept(line.key):
            config.set(line.key, line.value)
    owned = {kept.node for kept in snapshot.disks}
    for disk in machine_disks(files.vmx):
        if not disk.takes_part and disk.node not in owned and f"{disk.node}.fileName" in config:
            config.set(disk.key, files.vmx.get(disk.key))
    return config, state.has_memory


def is_kept(key: str) -> bool:
    low = key.lower()
    return low.startswith(KEPT_PREFIXES) or (low.startswith("ethernet") and low.endswith(KEPT_OF_A_CARD))


def second_name(path: Place, name: Place) -> None:
    """The same file under another name, which is removed when the machine goes on; a copy where there are no links."""
    try:
        if elsewhere(path) is None:
            with suppress(OSError):  # a file system without links
                name_too(path, name)
        if not name.exists():
            copy_file(path, name, 0o600)
        sync_folder(name.parent)
    except OSError as error:
        raise HostRefused(f"{name}: cannot create: {error.strerror}") from error


def delete(files: MachineFiles, uid: int, *, with_children: bool = False) -> None:
    """Give up the way back to a snapshot, and perhaps to all that descend from it; the machine shows what it showed.

    The snapshot is gone as soon as the .vmsd file says so; then links that nobody needs are folded, which may be
    interrupted: the next deletion, or `consolidate`, goes on. Raises BadOption, BadInput, HostRefused, MediaError.
    """
    found(files.tree, uid)
    forget(files, files.tree.descendants(uid) if with_children else [uid])


def delete_all(files: MachineFiles) -> None:
    """All snapshots; each grain is copied into the base at most once."""
    forget(files, [snapshot.uid for snapshot in files.tree.snapshots])


def forget(files: MachineFiles, uids: list[int]) -> None:
    files.tidy()
    forget_snapshots(files, uids)
    files.tidy(folding=True)


def forget_snapshots(files: MachineFiles, uids: list[int]) -> None:
    """The .vmsd file names them no longer, and lists what is to be folded and removed."""
    tree, before = files.tree, files.links()
    for uid in uids:
        gone = tree.get(uid)
        files.to_fold(files.path(kept.file) for kept in gone.disks)
        files.to_remove([files.path(gone.file)])
        tree.remove(uid)
    after = files.links()
    owned = {files.path(name) for name in tree.unfinished.fold}
    for link in sorted((before.children.keys() - after.children.keys()) & owned):
        if any(link in kids for kids in before.children.values()):  # a base is kept, whoever may want it
            files.to_remove(sorted(files_of(link)))
    tree.needs_consolidation = bool(tree.unfinished.fold)
    tree.write()


def consolidate(files: MachineFiles) -> None:
    """Fold every link in the machine's folder that neither the machine nor a snapshot names."""
    files.tidy()
    list_strays(files)
    files.tidy(folding=True)


def list_strays(files: MachineFiles) -> None:
    """Links in the machine's folder that neither it nor a snapshot names are to be folded."""
    links = files.links()
    files.to_fold(sorted(link for link in links.children.keys() - links.named if link.parent == files.folder))
    files.tree.write()


# looking


def list_snapshots(vmx: Place) -> tuple[SnapshotRow, ...]:
    """In the order of their creation. Raises BadInput."""
    folder = vmx.resolve().parent
    tree = SnapshotTree.read(vmx.resolve().with_suffix(".vmsd"))
    return tuple(
        SnapshotRow(
            snapshot.uid, snapshot.parent, snapshot.name, snapshot.description, snapshot.created_us,
            MEMORY_KEY in snapshot.others, snapshot.uid == tree.current, tuple(kept.file for kept in snapshot.disks),
            tuple(
                name for name in (snapshot.file, *(kept.file for kept in snapshot.disks))
                if not (folder / name).exists()
            ),
        )
        for snapshot in tree.snapshots
    )  # fmt: skip


def found(tree: SnapshotTree, uid: int) -> Snapshot:
    """Raises BadOption."""
    if uid not in tree:
        known = ", ".join(str(snapshot.uid) for snapshot in tree.snapshots) or "none, for there are no snapshots"
        raise BadOption(f"{tree.file.path}: snapshot {uid}: expected one of {known}")
    return tree.get(uid)


def find_snapshot(vmx: Place, text: str) -> int:
    """The number of a snapshot that is called by its number or its name. Raises BadOption and BadInput."""
    rows = list_snapshots(vmx)
    if text.isascii() and text.isdigit() and any(row.uid == int(text) for row in rows):
        return int(text)
    named = [row.uid for row in rows if row.name == text]
    if len(named) != 1:
        known = ", ".join(f"{row.uid} ({row.name})" for row in rows) or "none, for there are no snapshots"
        many = "a number, for several have this name: " if named else "one of "
        raise BadOption(f"snapshot {text!r}: expected {many}{known}")
    return named[0]
