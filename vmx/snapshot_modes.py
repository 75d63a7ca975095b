"""What becomes of writes to a disk that is not plainly persistent, at power-on and at power-off.

    independent-nonpersistent   into a redo log without a name, which is gone with the process, however that ends
    undoable                    into a redo log beside the disk, kept, committed or given up at power-off
    append                      likewise, and always kept until somebody commits it

The redo log of the last two is `disk.vmdk.REDO_xxxxxx`, named by the .vmx file's `.redo` while it is in use. What is to
become of it says `snapshot.action`: keep, autoCommit, autoRevert; `prompt`, which is what an undoable disk without the
key has, keeps it when nobody can be asked.
Not modelled: suspending a machine that has a nonpersistent disk, whose writes would be lost.
Source: VMware ESX Server 2 Administration Guide, "Disk Modes"; VMware virtual machine configuration files.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from ringfence.errors import HostRefused
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.redo.child import files_made, make_child
from vmkernel.storage.redo.fold import finish, fold, merged_into
from vmkernel.storage.redo.links import files_of
from vmkernel.storage.vmdk import cowd, cowd_spec
from vmkernel.storage.vmdk.cowd import CowdExtent
from vmkernel.storage.vmdk.link import Link
from vmx.machine_config import DriveMode
from vmx.snapshot_disks import WITH_REDO_LOG, MachineDisk, machine_disks, redo_folder
from vmx.snapshot_files import MachineFiles
from vmx.vmx_file import VmxFile


class AtPowerOff(Enum):
    """What becomes of a redo log; the values are those of snapshot.action."""

    KEEP = "keep"
    COMMIT = "autocommit"
    GIVE_UP = "autorevert"
    ASK = "prompt"


def open_nonpersistent(path: Path, folder: Path | None = None) -> Chain:
    """A disk whose writes are lost when it is closed; several may have it open so. Raises as open_disk does."""
    base = open_disk(path)
    try:
        file = nameless(folder or path.parent, path)
    except BaseException:
        base.close()
        raise
    link = Link(file.path, None, None, writable=True)
    link.files[file.path] = file
    cowd.write_empty(file, cowd.new_header(base.sectors, cowd_spec.GRAIN_SECTORS_DEFAULT))
    link.add(CowdExtent.open(file))
    return Chain([*base.links, link], base.warnings)


def nameless(folder: Path, disk: Path) -> BlockFile:
    """A file that is in no directory. Raises HostRefused."""
    try:
        try:
            fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:  # not every file system has such files
            fd, name = tempfile.mkstemp(prefix=f".{disk.name}.REDO_", dir=folder)
            os.unlink(name)
    except OSError as error:
        raise HostRefused(f"{folder}: cannot create a redo log: {error.strerror}") from error
    return BlockFile(fd, disk.with_name(f"{disk.name} (nonpersistent)"), writable=True)


def disks_with_redo_log(file: VmxFile) -> Iterator[MachineDisk]:
    return (disk for disk in machine_disks(file) if disk.mode in WITH_REDO_LOG)


def prepare_redo_logs(file: VmxFile) -> dict[str, Path]:
    """Before power-on: the redo log that each undoable or append disk is to be opened by; new ones are made.

    The machine is locked. Raises BadInput and HostRefused.
    """
    found = {}
    for disk in disks_with_redo_log(file):
        redo = disk.redo
        if redo is not None and redo.exists() and merged_into(redo) is not None:
            finish(redo)
        if redo is None or not redo.exists():
            redo = redo_folder(file, disk.path) / f"{disk.path.name}.REDO_{secrets.token_hex(3)}"
            file.set(disk.redo_key, os.path.relpath(redo, file.path.absolute().parent))
            file.write()
            with open_disk(disk.path) as chain:
                make_child(redo, chain)
        found[disk.node] = redo
    return found


def after_power_off(files: MachineFiles, asked: AtPowerOff = AtPowerOff.KEEP) -> list[str]:
    """Do with the redo logs what the .vmx file says, or what a person has said: lines for the log.

    Raises BadInput, HostRefused and MediaError; the redo log is still in use then.
    """
    done = []
    for disk in list(disks_with_redo_log(files.vmx)):
        if disk.redo is None or not disk.redo.exists():
            continue
        action = wanted(files.vmx, disk, asked)
        if action is AtPowerOff.COMMIT:
            commit(files, disk)
            done.append(f"{disk.node}: the changes are in {disk.path.name}")
        elif action is AtPowerOff.GIVE_UP:
            give_up(files, disk)
            done.append(f"{disk.node}: the changes are given up")
        else:
            done.append(f"{disk.node}: the changes are kept in {disk.redo.name}")
    return done


def wanted(file: VmxFile, disk: MachineDisk, asked: AtPowerOff) -> AtPowerOff:
    if disk.mode is DriveMode.APPEND:
        return AtPowerOff.KEEP
    word = file.get("snapshot.action").strip().lower() or AtPowerOff.ASK.value
    action = AtPowerOff(word) if word in {action.value for action in AtPowerOff} else AtPowerOff.KEEP
    return asked if action is AtPowerOff.ASK else action


def commit(files: MachineFiles, disk: MachineDisk) -> None:
    """The redo log's contents go into the disk."""
    assert disk.redo is not None

    def forget(top: Path, target: Path, leftover: list[Path]) -> None:
        unname(files, disk, leftover)

    fold([disk.path.resolve(), disk.redo.resolve()], lambda done, total: files.progress(disk.path.name, done, total))
    finish(disk.redo.resolve(), forget)
    files.tidy()


def give_up(files: MachineFiles, disk: MachineDisk) -> None:
    assert disk.redo is not None
    unname(files, disk, sorted({*files_of(disk.redo), *(path.resolve() for path in files_made(disk.redo))}))
    files.tidy()


def unname(files: MachineFiles, disk: MachineDisk, leftover: list[Path]) -> None:
    """The .vmx file names the redo log no longer; its files are on the list of what goes."""
    files.to_remove(leftover)
    files.tree.write()
    files.vmx.set(disk.redo_key, "")
    files.vmx.write()
