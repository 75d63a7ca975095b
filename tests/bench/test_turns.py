"""Machines that take turns: who is let go on when, what becomes of one that ends too soon."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.transcript import RunFailed
from bench.turns import GO_ON, record_by_turns

PARTS = """
import sys
for part in range({parts}):
    print("turn", part, flush=True)
    if not sys.stdin.readline():
        break
    with open({log!r}, "a") as log:
        print({name!r}, part, file=log)
print("last\\nbehind it", flush=True)
"""


def program(name: str, parts: int, log: Path) -> list[str]:
    return [sys.executable, "-c", PARTS.format(name=name, parts=parts, log=str(log))]


def waits(line: str) -> bool:
    return line.startswith("turn")


def test_each_does_a_part_and_waits_for_the_others(tmp_path: Path) -> None:
    log = tmp_path / "log"
    said = record_by_turns(
        {"a": program("a", 3, log), "b": program("b", 1, log), "c": program("c", 2, log)}, 60,
        folder=tmp_path, waits=waits, is_last="last".__eq__,
    )  # fmt: skip
    assert log.read_text().splitlines() == ["a 0", "b 0", "c 0", "a 1", "c 1", "a 2"]
    texts = [line.text for line in said["c"].lines]
    assert texts[:5] == ["turn 0", GO_ON, "turn 1", GO_ON, "last"]
    times = [line.host_ns for line in said["c"].lines]
    assert times == sorted(times) and times[0] > said["c"].started_ns


def test_one_that_ends_too_soon_is_named(tmp_path: Path) -> None:
    gone = [sys.executable, "-c", "import sys; print('turn 0', flush=True); sys.exit('its reason')"]
    with pytest.raises(RunFailed, match=sys.executable):
        record_by_turns({"b": program("b", 3, tmp_path / "log"), "a": gone}, 60, waits=waits, is_last="last".__eq__)


def test_one_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    silent = [sys.executable, "-c", "import sys; print('turn 0', flush=True); sys.stdin.read()"]
    with pytest.raises(RunFailed, match="time limit; the last line"):
        record_by_turns({"a": silent}, 0.5, waits=waits, is_last="last".__eq__)


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="/nowhere: No such file"):
        record_by_turns({"a": ["/nowhere"]}, 60, waits=waits, is_last="last".__eq__)
