"""`ringfence disk mount`: show a disk as raw files in a folder, by FUSE, for as long as the command runs."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.errors import BadOption, HostRefused
from tools.disk_source import add_snapshot, open_source
from tools.disk_words import add_input

if TYPE_CHECKING:
    from vmkernel.storage.fuse_files import DiskFolder
    from vmkernel.storage.partitions import Partition

DEVICE = Path("/dev/fuse")
FILE_SYSTEM = "ringfence"
UNMOUNT_S = 10.0
THREADS = 8
MAX_THREADS_SINCE = (3, 12)  # from here on libfuse complains of what the binding leaves unset
DESCRIPTION = """\
Show a disk as raw files in a folder: `disk`, and p1, p2, ... for its partitions. It needs no root, but the binding
mfusepy and the program fusermount3. It is there until Ctrl-C, SIGTERM, or `fusermount3 -u FOLDER`. What is inside is
for other programs then: `fuse2fs FOLDER/p1 ...`, `mount -o loop,ro FOLDER/p1 ...` as root, a forensic tool.
"""


def add_mount_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    mount = subparsers.add_parser(
        "mount", help="show a disk as raw files in a folder (FUSE)", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_input(mount)
    mount.add_argument("folder", type=Path, metavar="FOLDER", help="an empty folder")
    mount.add_argument("--rw", action="store_true", help="files may be written")
    mount.add_argument("--partition", type=partition_number, metavar="N", help="only this one")
    mount.add_argument("--allow-other", action="store_true", help="for other users too (user_allow_other in fuse.conf)")
    add_snapshot(mount)
    mount.set_defaults(run=mount_verb)


def partition_number(text: str) -> int:
    """The value of --partition."""
    if text.isascii() and text.isdigit() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a partition's number from 1, found {text!r}")


def mount_verb(options: argparse.Namespace) -> int:
    from vmkernel.storage.fuse_files import DiskFolder
    from vmkernel.storage.partitions import partitions
    from vmx.ending import signals_wait

    binding = fuse_binding()
    check_folder(options.folder)
    disk = open_source(options, writable=options.rw)
    try:
        parts = chosen(partitions(disk), options.partition)
        changed = threading.Event()
        folder = DiskFolder(disk, parts, whole=options.partition is None, started=changed.set, now_ns=time.time_ns())
        mount = Mount(binding, folder, options, changed)
        try:
            mount.begin()
            print(f"{options.folder}: {', '.join(sorted(folder.files))}", flush=True)
            mount.wait()
        finally:
            with signals_wait():
                mount.end()
                folder.close()
    finally:
        with signals_wait():
            disk.close()
    return 0


def chosen(parts: list[Partition], number: int | None) -> list[Partition]:
    """Raises BadOption for a partition that is not there."""
    if number is None:
        return parts
    found = [part for part in parts if part.number == number]
    if not found:
        known = ", ".join(str(part.number) for part in parts) or "none"
        raise BadOption(f"--partition {number}: the disk has {known}")
    return found


def fuse_binding() -> Any:
    """The module mfusepy. Raises HostRefused where something is missing."""
    if not DEVICE.exists():
        raise HostRefused(f"{DEVICE}: the host has no FUSE")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise HostRefused(f"{DEVICE}: not open to this user")
    if shutil.which("fusermount3") is None:
        raise HostRefused("fusermount3: not found: install the package fuse3")
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")
    try:
        return import_module("mfusepy")
    except (ImportError, OSError) as error:
        raise HostRefused(f"FUSE: {error}: install mfusepy (pip install ringfence[mount]) and libfuse3") from error


def check_folder(folder: Path) -> None:
    """FUSE's own messages are many lines. Raises HostRefused."""
    try:
        if any(folder.iterdir()):
            raise HostRefused(f"{folder}: expected an empty folder")
    except OSError as error:
        raise HostRefused(f"{folder}: cannot mount here: {error.strerror}") from error


class Mount:
    """FUSE's loop in a thread of its own, so that signals keep their meaning here."""

    def __init__(
        self, binding: Any, folder: DiskFolder, options: argparse.Namespace, changed: threading.Event
    ) -> None:
        """`changed` is set when it is mounted, and when it failed."""
        self._binding, self._folder, self._where = binding, folder, options.folder.absolute()
        self._words: dict[str, Any] = {"fsname": FILE_SYSTEM, "subtype": FILE_SYSTEM, "foreground": True}
        self._words |= {} if options.rw else {"ro": True}
        self._words |= {"allow_other": True} if options.allow_other else {}
        if (binding.fuse_version_major, binding.fuse_version_minor) >= MAX_THREADS_SINCE:
            self._words |= {"max_threads": THREADS, "max_idle_threads": THREADS}
        self._changed = changed
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fuse", daemon=True)

    def begin(self) -> None:
        """Returns once it is mounted. Raises HostRefused."""
        self._thread.start()
        self._changed.wait()
        if self._over.is_set():
            self.wait()

    def wait(self) -> None:
        """Until it is unmounted. Raises HostRefused when FUSE failed."""
        self._over.wait()  # not a join: one that a signal interrupts takes the thread for dead
        if self._failure is not None:
            raise HostRefused(f"{self._where}: FUSE failed: {self._failure}") from self._failure

    def end(self) -> None:
        """Unmount. Files that somebody has open are lost to him when the process ends."""
        if self._over.is_set():
            return
        if self._unmount("-u"):
            self._over.wait(UNMOUNT_S)
        else:
            self._unmount("-u", "-z")

    def _unmount(self, *words: str) -> bool:
        command = ["fusermount3", *words, str(self._where)]
        try:
            return not subprocess.run(command, stderr=subprocess.DEVNULL, timeout=UNMOUNT_S, check=False).returncode
        except (OSError, subprocess.TimeoutExpired):
            return False

    def _run(self) -> None:
        try:
            self._binding.FUSE(self._folder, str(self._where), **self._words)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the thread that waits raises it
            self._failure = error
        finally:
            self._over.set()
            self._changed.set()
