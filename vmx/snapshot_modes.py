"""Disks whose writes go into a redo log that somebody decides about: at power-on, at power-off, and when asked for.

    undoable      kept, committed or given up at power-off
    append        kept until somebody commits it

The redo log is `disk.vmdk.REDO_xxxxxx`, named by the .vmx file's `.redo` while it is in use. What is to become of that
of an undoable disk says `snapshot.action`: keep, autoCommit, autoRevert, or `prompt`, which is what a file without the
key means: a person is asked. It is kept when nobody can be, when the process is killed, and as long as the machine is
suspended; the next power-on goes on with it.
Disks that simply forget: disk_image.py.
Source: VMware ESX Server 2 Administration Guide, "Disk Modes"; VMware virtual machine configuration files.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum

from ringfence.errors import BadInput, BadOption
from vmkernel.storage.chain import open_disk
from vmkernel.storage.place import Place
from vmkernel.storage.redo.child import files_made, make_child
from vmkernel.storage.redo.fold import finish, fold, merged_into
from vmkernel.storage.redo.links import files_of, name_from
from vmx.disk_image import REDO_MARK
from vmx.machine_config import DriveMode, DriveSpec
from vmx.snapshot_disks import WITH_REDO_LOG, MachineDisk, machine_disks, redo_folder, refuse_bare_sectors
from vmx.snapshot_files import MachineFiles
from vmx.vmx_file import VmxFile
from vmx.vmx_keys import text
from vmx.vmx_settings import VmxSettings

COMMIT, DISCARD, KEEP = "commit", "discard", "keep"


class AtPowerOff(Enum):
    """What becomes of a redo log; the values are those of snapshot.action."""

    KEEP = "keep"
    COMMIT = "autocommit"
    GIVE_UP = "autorevert"
    ASK = "prompt"


# A person's words: answers to the question, and those of the command line.
WORDS = {COMMIT: AtPowerOff.COMMIT, DISCARD: AtPowerOff.GIVE_UP, KEEP: AtPowerOff.KEEP}


def disks_with_redo_log(file: VmxFile) -> Iterator[MachineDisk]:
    return (disk for disk in machine_disks(file) if disk.mode in WITH_REDO_LOG)


# power-on


def with_redo_logs(settings: VmxSettings) -> VmxSettings:
    """Before power-on, the machine being locked: its undoable and append disks are opened by their redo logs.

    Raises BadInput and HostRefused.
    """
    redo = prepare_redo_logs(settings.file, resumes=settings.resume_from is not None)
    if not redo:
        return settings

    def opened_by(node: str, spec: DriveSpec) -> DriveSpec:
        return replace(spec, path=redo[node]) if node in redo else spec

    config = settings.config
    ide = {(c, u): opened_by(f"ide{c}:{u}", spec) for (c, u), spec in config.ide.items()}
    scsi = {
        number: replace(
            adapter, drives={at: opened_by(f"scsi{number}:{at}", spec) for at, spec in adapter.drives.items()}
        )
        for number, adapter in config.scsi.items()
    }
    return replace(settings, config=replace(config, ide=ide, scsi=scsi))


def prepare_redo_logs(file: VmxFile, *, resumes: bool = False) -> dict[str, Place]:
    """The redo log of each undoable or append disk, by node; new ones are made. Raises BadInput and HostRefused."""
    found = {}
    for disk in disks_with_redo_log(file):
        refuse_bare_sectors(file, disk)
        redo = disk.redo
        if redo is not None and redo.exists() and merged_into(redo) is not None:
            finish(redo)
        if redo is None or not redo.exists():
            if resumes:
                where = f"{file.where(disk.redo_key)}: {disk.redo_key}"
                raise BadInput(where, "redo log", "that of the suspended machine", redo.name if redo else "none")
            redo = new_redo_log(file, disk)
        found[disk.node] = redo
    return found


def new_redo_log(file: VmxFile, disk: MachineDisk) -> Place:
    """One over the disk. What is made is listed first, to be removed again should the .vmx file not come to name it."""
    redo = redo_folder(file, disk.path) / f"{disk.path.name}{REDO_MARK}{secrets.token_hex(3)}"
    files = MachineFiles(file)
    files.tidy()
    files.to_remove(files_made(redo))
    files.tree.write()
    with open_disk(disk.path) as chain:
        make_child(redo, chain)
    file.set(disk.redo_key, name_from(file.path.absolute().parent, redo))
    file.write()
    return redo


# power-off


def question_of(file: VmxFile) -> str:
    """What a person is to be asked when the machine is switched off; empty where there is nothing to be asked."""
    undecided = [
        disk.node for disk in disks_with_redo_log(file)
        if disk.redo is not None and disk.redo.exists() and wanted(file, disk, AtPowerOff.ASK) is AtPowerOff.ASK
    ]  # fmt: skip
    return f"what was written to {', '.join(undecided)} (undoable) since it was last committed" if undecided else ""


def after_power_off(files: MachineFiles, asked: AtPowerOff = AtPowerOff.KEEP, *, insists: bool = False) -> list[str]:
    """Do with the redo logs what the .vmx file says, or what a person has said: lines for the log.

    A person who `insists` is heard whatever the file says, but for append disks.
    Raises BadInput, HostRefused and MediaError; the redo log is still in use then.
    """
    done = []
    for disk in list(disks_with_redo_log(files.vmx)):
        if disk.redo is None or not disk.redo.exists():
            continue
        action = asked if insists and disk.mode is DriveMode.UNDOABLE else wanted(files.vmx, disk, asked)
        assert action is not AtPowerOff.ASK
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
    action = AtPowerOff(text(file, "snapshot.action").lower())
    return asked if action is AtPowerOff.ASK else action


# when asked for


def decide(files: MachineFiles, word: str, node: str = "") -> list[str]:
    """Commit or discard the redo logs of a machine that is off, or that of one disk: lines for a person.

    Raises BadOption where there is none; BadInput, HostRefused and MediaError.
    """
    if files.vmx.get("checkpoint.vmState").strip():
        raise BadOption(f"{files.vmx.path}: the machine is suspended: resume or stop it first")
    disks = [disk for disk in disks_with_redo_log(files.vmx) if disk.redo is not None and disk.redo.exists()]
    chosen = [disk for disk in disks if node in ("", disk.node)]
    if not chosen:
        known = ", ".join(disk.node for disk in disks) or "none, for no disk has a redo log in use"
        raise BadOption(f"{files.vmx.path}: {word} {node}".rstrip() + f": expected one of {known}")
    act = {COMMIT: commit, DISCARD: give_up}[word]
    for disk in chosen:
        act(files, disk)
    said = {COMMIT: "the changes are in", DISCARD: "the changes are given up:"}[word]
    return [f"{disk.node}: {said} {disk.path.name}" for disk in chosen]


def commit(files: MachineFiles, disk: MachineDisk) -> None:
    """The redo log's contents go into the disk."""
    assert disk.redo is not None

    def forget(top: Place, target: Place, leftover: list[Place]) -> None:
        unname(files, disk, leftover)

    fold([disk.path.resolve(), disk.redo.resolve()], lambda done, total: files.progress(disk.path.name, done, total))
    finish(disk.redo.resolve(), forget)
    files.tidy()


def give_up(files: MachineFiles, disk: MachineDisk) -> None:
    assert disk.redo is not None
    unname(files, disk, sorted({*files_of(disk.redo), *(path.resolve() for path in files_made(disk.redo))}))
    files.tidy()


def unname(files: MachineFiles, disk: MachineDisk, leftover: list[Place]) -> None:
    """The .vmx file names the redo log no longer; its files are on the list of what goes."""
    files.to_remove(leftover)
    files.tree.write()
    files.vmx.set(disk.redo_key, "")
    files.vmx.write()
