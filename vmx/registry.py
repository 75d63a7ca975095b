"""The machines of this user: which are running, where their control sockets are, and which .vmx files were used before.

A running machine has an entry ID.json in the runtime directory ($XDG_RUNTIME_DIR/ringfence, else ~/.ringfence/run) and
holds an flock on it; so an entry whose lock is free is left over from a process that was killed, and whoever sees it
clears it away with its socket. Changes are made under the directory's own lock. The directory is the user's alone.
The inventory ($XDG_STATE_HOME/ringfence/machines) lists .vmx files, one a line, so that a machine that is switched off
can be called by its name.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ringfence.errors import BadInput, HostRefused, RingfenceError
from vmkernel.storage.datastores import resolve
from vmkernel.storage.place import Place
from vmx.machine_lock import identity, is_named
from vmx.vmx_file import VmxFile, replace_file

DIRECTORY_MODE = 0o700
ENTRY_BYTES_MAX = 64 << 10
SOCKET_PATH_BYTES_MAX = 107  # sun_path, without its NUL
INVENTORY_MAX = 1000  # the newest stay


@dataclass(frozen=True, slots=True)
class Entry:
    """One running machine. `vmx` is empty for one without a file; `started` is in seconds of the Unix epoch."""

    name: str
    vmx: str
    pid: int
    socket: str
    started: float


class Registration:
    """Our own entry, there until `close` or the end of the process."""

    def __init__(self, registry: Registry, path: Path, fd: int, entry: Entry) -> None:
        self.entry = entry
        self._registry, self._path, self._fd = registry, path, fd

    def close(self) -> None:
        """Idempotent."""
        if self._fd < 0:
            return
        with suppress(HostRefused), self._registry.locked():
            if is_named(self._fd, self._path):
                with suppress(OSError):
                    self._path.unlink()
        os.close(self._fd)
        self._fd = -1


class Registry:
    """The runtime directory and the inventory."""

    def __init__(self, directory: Path, inventory: Path | None = None) -> None:
        self.directory, self.inventory = directory, inventory

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> Registry:
        """Raises HostRefused when the directory cannot be made, or is open to others."""
        runtime, state = environment.get("XDG_RUNTIME_DIR", ""), environment.get("XDG_STATE_HOME", "")
        try:
            home = Path.home()
        except RuntimeError as error:
            raise HostRefused(f"home directory: {error}") from error
        directory = Path(runtime, "ringfence") if os.path.isabs(runtime) else home / ".ringfence" / "run"
        states = Path(state) if os.path.isabs(state) else home / ".local" / "state"
        registry = cls(directory, states / "ringfence" / "machines")
        registry.prepare()
        return registry

    def prepare(self) -> None:
        """Make the directory; refuse one that others can reach into."""
        try:
            self.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            found = os.stat(self.directory, follow_symlinks=False)
        except OSError as error:
            raise HostRefused(f"{self.directory}: cannot make the runtime directory: {error.strerror}") from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise HostRefused(f"{self.directory}: expected a directory that is yours and closed to others (mode 0700)")

    def socket_path(self, vmx: Place | None) -> Path:
        """Where a machine's control socket goes. Raises HostRefused when the directory's path is too long for one."""
        path = self.directory / f"{self._identity(vmx)}.sock"
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
            raise HostRefused(f"{path}: expected a path of at most {SOCKET_PATH_BYTES_MAX} bytes for a socket")
        return path

    def register(self, name: str, vmx: Place | None) -> Registration:
        """Announce this process's machine; call it when the socket listens. Raises HostRefused."""
        where = "" if vmx is None else str(vmx.resolve())
        entry = Entry(name, where, os.getpid(), str(self.socket_path(vmx)), time.time())
        path = self.directory / f"{self._identity(vmx)}.json"
        new = path.with_suffix(f".new{os.getpid()}")
        try:
            with self.locked():
                fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.write(fd, json.dumps(asdict(entry)).encode())
                    os.replace(new, path)  # seen by others only when it is whole and locked
                except BaseException:
                    os.close(fd)
                    raise
                if vmx is not None:
                    self._remember(where)
        except OSError as error:
            raise HostRefused(f"{path}: cannot write: {error.strerror}") from error
        return Registration(self, path, fd, entry)

    def running(self) -> list[Entry]:
        """Machines that are switched on now, by name; what killed processes left is cleared away."""
        entries = []
        with self.locked():
            for path in sorted(self.directory.glob("*.json")):
                entry = self._read(path)
                if entry is not None:
                    entries.append(entry)
        return sorted(entries, key=lambda entry: (entry.name, entry.vmx, entry.pid))

    def known(self) -> list[Place]:
        """The .vmx files of the inventory that still exist, on volumes and in datastores that are there."""
        found: list[Place] = []
        for line in self._inventory_lines():
            with suppress(RingfenceError, OSError):
                if (vmx := resolve(line)).is_file():
                    found.append(vmx)
        return found

    def running_at(self, vmx: Place) -> Entry | None:
        where = str(vmx.resolve())
        return next((entry for entry in self.running() if entry.vmx == where), None)

    def find(self, target: str) -> Entry | Place:
        """A running machine, or the .vmx file of one that is not, by name or path. Raises BadInput."""
        if "/" in target or target.lower().endswith(".vmx"):
            return self._by_path(resolve(target))
        entries = self.running()
        named: list[Entry | Place] = [entry for entry in entries if entry.name == target]
        at = {entry.vmx for entry in entries}
        named += [path for path in self.known() if str(path) not in at and name_in(path) == target]
        if len(named) == 1:
            return named[0]
        if named:
            places = ", ".join(str((one.vmx or one.pid) if isinstance(one, Entry) else one) for one in named)
            raise BadInput(target, "machine", "one machine of this name, or a path", places)
        raise BadInput(target, "no such machine", "a path, or a name that `ringfence vm list` shows", "neither")

    def _by_path(self, path: Place) -> Entry | Place:
        try:
            entry = self.running_at(path)
            if entry is not None:
                return entry
            there = path.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a NUL, links in a circle
            there = False
        if not there:
            raise BadInput(str(path), "no such machine", "a .vmx file", "nothing")
        return path

    # the directory

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The directory is ours alone meanwhile; held for moments only. Raises HostRefused."""
        try:
            fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HostRefused(f"{self.directory}: cannot lock: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _identity(self, vmx: Place | None) -> str:
        return f"pid{os.getpid()}" if vmx is None else identity(vmx.resolve())

    def _read(self, path: Path) -> Entry | None:
        """The entry, or None for one whose process is gone, which is removed, or that makes no sense."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            entry = parse_entry(os.pread(fd, ENTRY_BYTES_MAX, 0))
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return entry
            for left in (path, path.with_suffix(".sock")):
                left.unlink(missing_ok=True)
        except OSError:
            return None
        finally:
            os.close(fd)
        return None

    def _inventory_lines(self) -> list[str]:
        if self.inventory is None:
            return []
        try:
            text = self.inventory.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return []
        return [line for line in text.split("\n") if line]

    def _remember(self, vmx: str) -> None:
        """Add to the inventory. It is a convenience: a host that does not take it refuses nothing else."""
        lines = self._inventory_lines()
        if self.inventory is None or "\n" in vmx or lines[-1:] == [vmx]:
            return
        lines = [*(line for line in lines if line != vmx), vmx][-INVENTORY_MAX:]
        with suppress(HostRefused, OSError):
            self.inventory.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.inventory, "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"), 0o600)


def parse_entry(data: bytes) -> Entry | None:
    """None for what no machine of this version wrote."""
    try:
        fields = json.loads(data)
        entry = Entry(**fields)
    except (ValueError, TypeError, RecursionError):
        return None
    good = isinstance(entry.name, str) and isinstance(entry.vmx, str) and isinstance(entry.socket, str)
    return entry if good and isinstance(entry.pid, int) and isinstance(entry.started, int | float) else None


def name_in(vmx: Place) -> str:
    """The displayName of a .vmx file, else the file's own name, also when it cannot be read."""
    try:
        return VmxFile.read(vmx).get("displayName").strip() or vmx.stem
    except RingfenceError:
        return vmx.stem
