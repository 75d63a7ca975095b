"""Several machines that take turns: each does a part of its work, says so, and waits for a line before its next part.

A host whose neighbours come and go is twice as fast in one second as in the next. Of runs that last several seconds
and come one after the other, two may well have met different hosts; of parts that last half a second and alternate,
each contender's meet the same one. All machines are there from the start, and those that wait are idle.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from bench.transcript import TAIL_CHARACTERS, Line, RunFailed, Transcript, end, read_lines

Said = Callable[[str], bool]

GO_ON = "> go on"  # the line of a transcript that stands for ours to the machine


class Player:
    """A program that takes turns; `lines` is what it said so far."""

    def __init__(self, command: Sequence[str], process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.command = command
        self.process = process
        self.errors = errors
        self.started_ns = time.monotonic_ns()
        self.lines: list[Line] = []

    def play(self, deadline: float, waits: Said, is_last: Said) -> bool:
        """Until a line at which it waits, or to its last; does it wait? Raises RunFailed where neither comes."""
        assert self.process.stdout is not None
        try:
            new = read_lines(self.process.stdout.fileno(), deadline, lambda line: waits(line) or is_last(line))
            self.lines += new
            if any(is_last(line.text) for line in new):
                return False
            if not any(waits(line.text) for line in new):
                raise RunFailed(f"it ended with {self.transcript().tail()!r}")
        except RunFailed as error:
            self.errors.seek(0)
            said = self.errors.read().decode("utf-8", "replace")[-TAIL_CHARACTERS:].strip()
            raise RunFailed(f"{self.command[0]}: {error}{': ' + said if said else ''}") from error
        return True

    def go_on(self) -> None:
        """Raises RunFailed when it is gone."""
        assert self.process.stdin is not None
        self.lines.append(Line(time.monotonic_ns(), GO_ON))
        try:
            self.process.stdin.write(b"\n")
        except OSError as error:
            raise RunFailed(f"{self.command[0]}: {error.strerror}; it said {self.transcript().tail()!r}") from error

    def transcript(self) -> Transcript:
        return Transcript(self.started_ns, tuple(self.lines))


@contextmanager
def playing(command: Sequence[str], folder: Path | None) -> Iterator[Player]:
    """Raises RunFailed when it cannot start; it has ended afterwards."""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=folder, bufsize=0,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise RunFailed(f"{command[0]}: {error.strerror}") from error
        with process:
            try:
                yield Player(command, process, errors)
            finally:
                end(process, grace_s=0)


def record_by_turns(
    commands: Mapping[str, Sequence[str]], timeout_s: float, *, folder: Path | None = None, waits: Said, is_last: Said
) -> dict[str, Transcript]:
    """What each program said up to its last line, by its name, with a line GO_ON where it was told to.

    They wait after a line that `waits` says true of. Raises RunFailed when one of them ends, or says nothing, too soon.
    """
    deadline = time.monotonic() + timeout_s
    with ExitStack() as stack:
        players = {name: stack.enter_context(playing(command, folder)) for name, command in commands.items()}
        left = [player for player in players.values() if player.play(deadline, waits, is_last)]
        while left:
            for player in list(left):
                player.go_on()
                if not player.play(deadline, waits, is_last):
                    left.remove(player)
        return {name: player.transcript() for name, player in players.items()}
