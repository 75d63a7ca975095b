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
from typing import Protocol

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
        self, path: Path, complain: Callable[[str], None], keep_old: int = 6, rotate_bytes: int = 0,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:  # fmt: skip
        """Rotates, then begins a new file. Raises nothing: see above."""
        self.path = path
        self._complain, self._now = complain, now
        self._keep_old, self._rotate_bytes = keep_old, rotate_bytes
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._bytes = 0
        self._begin()

    def write(self, text: str, thread: str = VMX_THREAD) -> None:
        """One entry. Never raises."""
        data = self._entry(text, thread)
        with self._lock:
            if self._fd is not None and self._rotate_bytes and self._bytes + len(data) > self._rotate_bytes:
                self._end()
                self._begin()
            if self._fd is None:
                return
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
                    self._bytes = os.fstat(self._fd).st_size
            except OSError as error:
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
            # after rotation nothing has the name; EXCL, so that no link put there meanwhile is followed
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, FILE_MODE)
            self._bytes = 0
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _end(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _give_up(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or error
        self._complain(f"{self.path}: cannot write the log, and go on without it: {reason}")


def stamp(moment: datetime) -> str:
    clock = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
    return f"{MONTHS[moment.month - 1]} {moment.day:02} {clock}"


def printable(line: str) -> str:
    """Without what would move a terminal's cursor, and not endless."""
    cut = line if len(line) <= LINE_CHARACTERS_MAX else line[:LINE_CHARACTERS_MAX] + "..."
    return UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", cut)


def rotate(path: Path, keep_old: int) -> None:
    """The log becomes the newest old one; the oldest go. Raises OSError when the log cannot be moved out of the way."""
    numbers = sorted(old_logs(path))
    if os.path.lexists(path):
        newest = numbers[-1] + 1 if numbers else 1
        if keep_old:
            os.rename(path, old_log(path, newest))
            numbers.append(newest)
        else:
            os.unlink(path)
    for number in numbers[: max(0, len(numbers) - keep_old)]:
        with suppress(OSError):  # one that cannot be deleted harms nobody
            os.unlink(old_log(path, number))


def old_log(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def old_logs(path: Path) -> list[int]:
    """The numbers of the old logs beside `path`."""
    pattern = re.compile(rf"{re.escape(path.stem)}-([1-9][0-9]{{0,8}}){re.escape(path.suffix)}")
    return [int(match[1]) for match in map(pattern.fullmatch, os.listdir(path.parent)) if match]
