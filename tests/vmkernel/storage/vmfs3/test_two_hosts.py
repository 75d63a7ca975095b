"""Two processes change one volume at once; one of them may be killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.hosts import GIB, get, make, opened
from tests.vmkernel.storage.vmfs3.test_names import CLEAN
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import open_for_writing

ROOT = Path(__file__).resolve().parents[4]
CONTENDER = Path(__file__).with_name("contender.py")
WAIT_S = 120


class Contender:
    """One of the processes. `said` are the changes that it has told."""

    def __init__(self, image: Path, name: str, count: int, seed: int, where: str = "here") -> None:
        self.process = subprocess.Popen(
            [sys.executable, CONTENDER, image, name, str(count), str(seed), where], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.line() == "ready"
        self.said: list[str] = []

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill_after(self, changes: int) -> None:
        while len(self.said) < changes:
            line = self.line()
            assert line
            self.said.append(line)
        self.process.send_signal(signal.SIGKILL)
        self.finish(killed=True)

    def finish(self, *, killed: bool = False) -> None:
        rest, _ = self.process.communicate(timeout=WAIT_S)
        lines = rest.split("\n")
        if not killed:
            assert self.process.returncode == 0, rest
            assert lines[-2:] == ["done", ""]
        else:
            lines = lines[:-1]  # what is behind the last end of a line was not told
        self.said += [line for line in lines if line and line != "done"]

    def files(self) -> Counter[str]:
        """Its own files by what it told: 1 there, 0 gone."""
        found: Counter[str] = Counter()
        for line in self.said:
            if line[0] in "+-":
                found[line[1:]] = int(line[0] == "+")
        return found


def image(folder: Path) -> list[Path]:
    paths = make(folder, 3 * GIB, counts=None)
    with opened(paths) as volume:
        volume.mkdir("/shared")
    return paths


def judge(paths: list[Path], contenders: list[Contender], *, killed: Contender | None = None) -> None:
    """Nothing that was told is lost, nothing that was removed is there, every file has its own contents.

    One that the killed process made and had not told of may still be empty.
    """
    assert check(paths) == []
    assert peers.fsck(paths) == CLEAN
    with Volume.open(paths) as volume:
        there = {f"/shared/{entry.name}" for entry in volume.entries(volume.lookup("/shared"))}
        for contender in contenders:
            for path, count in contender.files().items():
                if contender is not killed:
                    assert (path in there) == bool(count), path
        for path in there:
            if "-moved" not in path and "contest" not in path:
                untold = killed is not None and not any(contender.files()[path] for contender in contenders)
                assert get(volume, path) in ({path.encode(), b""} if untold else {path.encode()})
    won = Counter(line for contender in contenders for line in contender.said if line.startswith(("won", "lost")))
    if killed is None:
        for number in range(3):
            path = f"/shared/contest{number}"
            assert won[f"won {path}"] - won[f"lost {path}"] == (path in there)


def contend(folder: Path, count: int) -> None:
    paths = image(folder)
    contenders = [Contender(paths[0], name, count, seed) for seed, name in enumerate(("one", "two"))]
    for contender in contenders:
        contender.go()
    for contender in contenders:
        contender.finish()
    judge(paths, contenders)


def test_two_processes_on_one_volume(tmp_path: Path) -> None:
    contend(tmp_path, 60)


@pytest.mark.long
def test_two_processes_make_a_thousand_changes_each(tmp_path: Path) -> None:
    contend(tmp_path, 1000)


def kill_one(folder: Path, count: int, changes: int, where: str = "here") -> None:
    paths = image(folder)
    killed = Contender(paths[0], "one", count, 0, where)
    left = Contender(paths[0], "two", count, 1)
    killed.go()
    left.go()
    killed.kill_after(changes)
    left.finish()
    with open_for_writing(paths) as volume:
        while volume.session.watch.sights:
            volume.session.recover()
            volume.session.clock.sleep(0.5)
    told = killed.files()
    with Volume.open(paths) as volume:
        there = {f"/shared/{entry.name}" for entry in volume.entries(volume.lookup("/shared"))}
    gone_after = {path for path, count in told.items() if count and path not in there}
    assert len(gone_after) <= 5, "only what was changed again and not told may be gone"
    assert not {path for path, count in told.items() if not count and path in there}
    judge(paths, [killed, left], killed=killed)


def test_one_of_two_is_killed(tmp_path: Path) -> None:
    kill_one(tmp_path, 120, 20)


@pytest.mark.long
def test_one_of_two_is_killed_among_a_thousand_changes(tmp_path: Path) -> None:
    for number, changes in enumerate((1, 100, 500, 700)):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill_one(folder, 1000, changes)


@pytest.mark.long
def test_the_locks_of_one_that_is_killed_elsewhere_are_broken_after_sixteen_seconds(tmp_path: Path) -> None:
    begun = time.monotonic()
    kill_one(tmp_path, 200, 50, "elsewhere")
    assert time.monotonic() - begun > 15
