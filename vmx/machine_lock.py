"""One running instance of a .vmx file: a lock file beside it, held by flock as long as the process lives.

The lock file holds the owner's process id, for the line that refuses a second power-on. The kernel gives the lock back
when the owner dies, however it dies; the file itself may stay behind and means nothing then. Where the folder cannot
be written, as on a CD-ROM, the lock file is in the user's runtime directory instead: there it guards against this
user's processes only. On a VMFS volume the .vmx file itself is locked, on the disk, as ESX does it: other hosts see it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

from ringfence.errors import HostRefused
from vmkernel.storage.errors import Locked
from vmkernel.storage.place import Elsewhere, Held, Place, elsewhere

SUFFIX = ".lck"
PID_BYTES_MAX = 20
LOOK_S = 0.02
FILE_MODE = 0o644  # others may read who holds it


class MachineInUse(HostRefused):
    """Somebody has this machine switched on, or holds its files."""

    def __init__(self, vmx: Place, owner: str) -> None:
        super().__init__(f"{vmx}: the machine is switched on already, by {owner}")
        self.vmx, self.owner = vmx, owner


class MachineLock:
    """Held from `acquire` until `release`. Child processes that execute something do not inherit it."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self._fd = path, fd

    @classmethod
    def acquire(cls, vmx: Place, fallback_folder: Path) -> MachineLock | VolumeLock:
        """Raises MachineInUse, and HostRefused."""
        if (other := elsewhere(vmx)) is not None:
            return VolumeLock.acquire(other)
        vmx = cast(Path, vmx)
        real = vmx.resolve()
        try:
            return cls._acquire(vmx, real.with_name(real.name + SUFFIX))
        except OSError as error:
            if not real.parent.is_dir():
                raise HostRefused(f"{vmx}: cannot lock: {error.strerror}") from error
        try:  # read-only: the runtime directory has to do
            return cls._acquire(vmx, fallback_folder / (identity(real) + SUFFIX))
        except OSError as error:
            raise HostRefused(f"{vmx}: cannot lock: {error.strerror}") from error

    @classmethod
    def _acquire(cls, vmx: Path, path: Path) -> MachineLock:
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = read_pid(fd)
                os.close(fd)
                raise MachineInUse(vmx, f"process {pid or 'unknown'}") from None
            except BaseException:
                os.close(fd)
                raise
            if is_named(fd, path):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return cls(path, fd)
            os.close(fd)  # the owner before us took it away between our two steps

    def release(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            with suppress(OSError):
                os.unlink(self.path)
            os.close(self._fd)
            self._fd = -1


class VolumeLock:
    """The same on a volume: the on-disk lock of the .vmx file, which goes along when the file is replaced."""

    def __init__(self, held: Held) -> None:
        self._held = held

    @classmethod
    def acquire(cls, vmx: Elsewhere) -> VolumeLock:
        try:
            return cls(vmx.hold())
        except Locked as error:
            raise MachineInUse(vmx, str(getattr(error, "owner", error))) from error

    def release(self) -> None:
        """Idempotent."""
        self._held.close()


def owner_of(vmx: Place, fallback_folder: Path) -> int:
    """The process of this host that has a machine switched on; 0 for nobody, or when it cannot be told."""
    if (other := elsewhere(vmx)) is not None:
        return other.holder_pid()
    real = cast(Path, vmx).resolve()
    for path in (real.with_name(real.name + SUFFIX), fallback_folder / (identity(real) + SUFFIX)):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return read_pid(fd)
        finally:
            os.close(fd)
    return 0


def wait_released(vmx: Place, fallback_folder: Path, pid: int, timeout_s: float) -> bool:
    """Until this process has given the machine back. False when it still has it after so long."""
    deadline = time.monotonic() + timeout_s
    while owner_of(vmx, fallback_folder) == pid:
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_S)
    return True


def read_pid(fd: int) -> int:
    text = os.pread(fd, PID_BYTES_MAX, 0).strip()
    return int(text) if text.isdigit() else 0


def is_named(fd: int, path: Path) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def identity(vmx: Place) -> str:
    """A short name for a path, the same for every process: socket paths are limited to about 100 bytes."""
    return hashlib.sha256(os.fsencode(str(vmx))).hexdigest()[:16]
