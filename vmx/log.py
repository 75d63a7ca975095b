"""vmware.log: what happened to a machine, in its folder, one line each, for whoever has to find out afterwards.

    Mon DD HH:MM:SS.mmm: thread| text

Local time, English months. At power-on the log of the run before becomes vmware-N.log, N being one more than the
largest there is, and only the newest few of those are kept. A log that cannot be written does not stop the machine:
that is said once, and the rest is dropped. Of a text with line ends every line is a line of its own, so nothing that a
guest says looks like an entry of ours.
Source: VMware ESX Server 3, vmware.log; `log.keepOld`, `log.rotateSize`.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol, cast

from ringfence.errors import RingfenceError
from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.place import P, Place, elsewhere, is_taken

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
VMX_THREAD = "vmx"
LINE_CHARACTERS_MAX = 4000
ENTRY_LINES_MAX = 200
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
FILE_MODE = 0o600  # the guest's words may be private


class Log(Protocol):
    """What writes to the log needs of it."""

    def write(self, text: str, thread: str = VMX_THREAD) -> None: ...

    def close(self) -> None: ...


class SilentLog:
    """No log is wanted."""

    def write(self, text: str, thread: str = VMX_THREAD) -> None:
        """Dropped."""

    def close(self) -> None: ...


class VmwareLog:
    """An open log file. Any thread may write. `complain` is told, once, when the host takes no more."""

    def __init__(
        self, path: Place, complain: Callable[[str], None], keep_old: int = 6, rotate_bytes: int = 0,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:  # fmt: skip
        """Rotates, then begins a new file. Raises nothing: see above."""
        self.path = path
        self._complain, self._now = complain, now
        self._keep_old, self._rotate_bytes = keep_old, rotate_bytes
        self._lock = threading.Lock()
        self._file: LogFile | None = None
        self._begin()

    def write(self, text: str, thread: str = VMX_THREAD) -> None:
        """One entry. Never raises."""
        data = self._entry(text, thread)
        with self._lock:
            file = self._file
            if file is not None and self._rotate_bytes and file.size + len(data) > self._rotate_bytes:
                self._end()
                self._begin()
                file = self._file
            if file is None:
                return
            try:
                file.write(data)
            except (OSError, RingfenceError) as error:
                self._end()
                self._give_up(error)

    def close(self) -> None:
        with self._lock:
            self._end()

    def _entry(self, text: str, thread: str) -> bytes:
        head = f"{stamp(self._now())}: {thread}| "
        lines = text.splitlines() or [""]
        if len(lines) > ENTRY_LINES_MAX:
            lines = [*lines[:ENTRY_LINES_MAX], f"... and {len(lines) - ENTRY_LINES_MAX} more lines"]
        return "".join(f"{head}{printable(line)}\n" for line in lines).encode()

    def _begin(self) -> None:
        try:
            rotate(self.path, self._keep_old)
            self._file = HostLog(cast(Path, self.path)) if elsewhere(self.path) is None else VolumeLog(self.path)
        except (OSError, ValueError, RingfenceError) as error:
            self._give_up(error)

    def _end(self) -> None:
        if self._file is not None:
            with suppress(RingfenceError):
                self._file.close()
            self._file = None

    def _give_up(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        self._complain(f"{self.path}: cannot write the log, and go on without it: {reason}")


class LogFile(Protocol):
    """A new file that is written at its end. Raises OSError or a RingfenceError."""

    @property
    def size(self) -> int: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class HostLog:
    """On the host: whatever else is written to it by others, ours goes to its end."""

    def __init__(self, path: Path) -> None:
        """After rotation nothing has the name; EXCL, so that no link put there meanwhile is followed."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, FILE_MODE)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        os.close(self._fd)


class VolumeLog:
    """On a volume, locked like everything that a machine writes. Others see what it says with some seconds' delay."""

    def __init__(self, path: Place) -> None:
        self._file = BlockFile.create(path)
        self._file.sync()

    @property
    def size(self) -> int:
        return self._file.size

    def write(self, data: bytes) -> None:
        self._file.write(self._file.size, [data])

    def close(self) -> None:
        try:
            self._file.sync()
        finally:
            self._file.close()


def stamp(moment: datetime) -> str:
    clock = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
    return f"{MONTHS[moment.month - 1]} {moment.day:02} {clock}"


def printable(line: str) -> str:
    """Without what would move a terminal's cursor, and not endless."""
    cut = line if len(line) <= LINE_CHARACTERS_MAX else line[:LINE_CHARACTERS_MAX] + "..."
    return UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", cut)


def rotate(path: Place, keep_old: int) -> None:
    """The log becomes the newest old one; the oldest go. Raises OSError when the log cannot be moved out of the way."""
    numbers = sorted(old_logs(path))
    if is_taken(path):
        newest = numbers[-1] + 1 if numbers else 1
        if keep_old:
            path.rename(old_log(path, newest))
            numbers.append(newest)
        else:
            path.unlink()
    for number in numbers[: max(0, len(numbers) - keep_old)]:
        with suppress(OSError):  # one that cannot be deleted harms nobody
            old_log(path, number).unlink()


def old_log(path: P, number: int) -> P:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def old_logs(path: Place) -> list[int]:
    """The numbers of the old logs beside `path`."""
    pattern = re.compile(rf"{re.escape(path.stem)}-([1-9][0-9]{{0,8}}){re.escape(path.suffix)}")
    return [int(match[1]) for match in map(pattern.fullmatch, names_in(path.parent)) if match]


def names_in(folder: Place) -> list[str]:
    return [one.name for one in folder.iterdir()]
