"""What a guest printed on its serial line, each line with the host's time of its arrival; and what the lines say.

    COMPUTE name checksum operations ns        by the clock that the program sees
    NANO name cycles ns
    SYSCALL name round-trips-per-second ns
    DEVICE name operations ns
    DONE n passed, m failed                    the last line of a guest
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LAST_WORD = "DONE "
GRACE_S = 5.0
READ_BYTES = 4096
TAIL_CHARACTERS = 600


class RunFailed(Exception):
    """A program under measurement did not do what it should; the text is for the person who runs the benchmarks."""


@dataclass(frozen=True, slots=True)
class Line:
    """`host_ns` is the host's monotonic clock when the end of the line arrived."""

    host_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """One run. `started_ns` is the host's clock before the program was started."""

    started_ns: int
    lines: tuple[Line, ...]

    def first(self, matches: Callable[[str], object]) -> Line:
        """The first line that matches. Raises RunFailed, with the end of what was printed."""
        found = next((line for line in self.lines if matches(line.text)), None)
        if found is None:
            raise RunFailed(f"a line that was expected did not come; it ended with {self.tail()!r}")
        return found

    def tail(self) -> str:
        return "\n".join(line.text for line in self.lines)[-TAIL_CHARACTERS:]

    def spans(self, word: str) -> list[Span]:
        """The lines that begin with `word`, each with the host's time since the line before it."""
        before, found = self.started_ns, []
        for line in self.lines:
            if line.text.startswith(word + " "):
                found.append(Span(tuple(line.text.split()[1:]), line.host_ns - before))
            before = line.host_ns
        return found


@dataclass(frozen=True, slots=True)
class Span:
    """The fields of a line after its first word, and the host nanoseconds since the line before."""

    fields: tuple[str, ...]
    host_ns: int


@dataclass(frozen=True, slots=True)
class Work:
    """One workload of `compute` as one run did it; `clock_ns` by the clock that the program sees."""

    name: str
    checksum: int
    operations: int
    clock_ns: int
    host_ns: int


def works(transcript: Transcript) -> dict[str, Work]:
    """The COMPUTE lines by workload. Raises RunFailed for a line that is none."""
    found = {}
    for span in transcript.spans("COMPUTE"):
        try:
            name, checksum, operations, ns = span.fields
            found[name] = Work(name, int(checksum, 16), int(operations), int(ns), span.host_ns)
        except ValueError as error:
            raise RunFailed(f"not a COMPUTE line: {' '.join(span.fields)!r}") from error
    if not found:
        raise RunFailed("no COMPUTE line was printed")
    return found


def check_guest(transcript: Transcript) -> Transcript:
    """The same transcript. Raises RunFailed unless the guest said that it is done and nothing failed."""
    failed = [line.text for line in transcript.lines if line.text.startswith("FAIL ")]
    if failed:
        raise RunFailed(failed[0])
    if not any(line.text.startswith(LAST_WORD) for line in transcript.lines):
        raise RunFailed(f"the guest did not reach its end; it said {transcript.tail()!r}")
    return transcript


def is_verdict(line: str) -> bool:
    """The last line of a guest of ours."""
    return line.startswith(LAST_WORD)


def record(
    command: Sequence[str], timeout_s: float, *, serial_pipe: tuple[int, int] | None = None,
    folder: Path | None = None, is_last: Callable[[str], bool] = is_verdict,
) -> Transcript:  # fmt: skip
    """Run a program to its end, or to the guest's last line, and keep what it prints.

    The lines are read from its standard output, or from `serial_pipe` (read end, write end; both are closed here), to
    whose write end the program was told to send them. Raises RunFailed when it cannot start or takes too long.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.monotonic_ns()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=errors if serial_pipe else subprocess.PIPE, stderr=errors,
                pass_fds=serial_pipe[1:] if serial_pipe else (), cwd=folder, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise RunFailed(f"{command[0]}: {error.strerror}") from error
        finally:
            if serial_pipe:
                os.close(serial_pipe[1])
        try:
            source = serial_pipe[0] if serial_pipe else process.stdout.fileno()  # type: ignore[union-attr]
            lines = read_lines(source, time.monotonic() + timeout_s, is_last)
            end(process)
        except RunFailed as error:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace")[-TAIL_CHARACTERS:].strip()
            raise RunFailed(f"{command[0]}: {error}{': ' + said if said else ''}") from error
        finally:
            end(process, grace_s=0)
            if process.stdout:
                process.stdout.close()
            if serial_pipe:
                os.close(serial_pipe[0])
    return Transcript(started, tuple(lines))


def read_lines(source: int, deadline: float, is_last: Callable[[str], bool]) -> list[Line]:
    """Lines until the guest's last one or the end of the file. Raises RunFailed after `deadline` (monotonic, s)."""
    lines: list[Line] = []
    rest = b""
    while True:
        if not select.select([source], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise RunFailed(f"nothing new until the time limit; the last line is {lines[-1].text if lines else ''!r}")
        data = os.read(source, READ_BYTES)
        now = time.monotonic_ns()
        *complete, rest = (rest + data).split(b"\n")
        if not data and rest:
            complete, rest = [*complete, rest], b""  # a machine can be off before its UART has sent the last newline
        new = [Line(now, line.decode("ascii", "replace").strip("\r")) for line in complete]
        lines += new
        if not data or any(is_last(line.text) for line in new):
            return lines


def end(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """Wait for the program to end by itself, then end it: a guest's last line is the end of what is measured."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
