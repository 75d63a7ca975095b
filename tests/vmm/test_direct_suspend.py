"""A machine that is suspended under one engine goes on under another: interp, direct, and back, through .vmss files."""

from __future__ import annotations

import itertools
import platform
import re
from dataclasses import replace
from pathlib import Path

import pytest

from guests import build
from ringfence.errors import RingfenceError
from tests.vmx.machines import LIMIT_S, machine
from vmx import runner
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.stop import StopKind, StopReason
from vmx.suspend import open_saved, restore, suspend_soon

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

LONG = pytest.mark.long
CONFIG = MachineConfig(memory_mib=16, uuid=bytes(16))
MEASURED = re.compile(r"\b\d+(\.\d+)?\b")
MOST_PARTS = 200


def part(made: Machine, path: Path, exits: int) -> StopReason:
    """Run on, for so many exits and then to rest: the end, or SUSPENDED."""
    left, failures = exits, list[RingfenceError]()

    def count(running: Machine) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            suspend_soon(running, path, failures.append)

    made.limit_time(LIMIT_S)
    made.start()
    stop = runner.run(made, count)
    assert not failures, failures
    return stop


def in_turn(
    guest: str, words: str, engines: tuple[str, ...], exits: int, path: Path
) -> tuple[list[str], int, StopReason]:
    """What the guest said, in how many parts, and its end."""
    output = b""
    for number, engine in enumerate(itertools.islice(itertools.cycle(engines), MOST_PARTS)):
        with machine(replace(CONFIG, engine=engine)) as made:
            if number == 0:
                made.load(load_program(build(guest), CONFIG.memory_mib << 20), words)
            else:
                saved = open_saved(path)
                restore(made, saved)
                saved.close()
            stop = part(made, path, exits)
            output += bytes(made.serial.output)  # type: ignore[attr-defined]
        if stop.kind is not StopKind.SUSPENDED:
            lines = output.decode("ascii", "replace").replace("\r\n", "\n").splitlines()
            return [MEASURED.sub("#", line) for line in lines], number + 1, stop
    raise AssertionError(f"not done in {MOST_PARTS} parts")


@pytest.mark.parametrize(
    ("guest", "words", "exits"),
    [
        ("compute", "quick", 200), pytest.param("compute", "", 60, marks=LONG),
        pytest.param("rings", "", 1500, marks=LONG),
        pytest.param("faults", "", 900, marks=LONG), pytest.param("paging", "", 400, marks=LONG),
    ],
)  # fmt: skip
def test_a_machine_goes_on_under_another_engine(tmp_path: Path, guest: str, words: str, exits: int) -> None:
    path = tmp_path / "m.vmss"
    straight, _, end = in_turn(guest, words, ("interp",), 1 << 30, path)
    turns, parts, stop = in_turn(guest, words, ("interp", "direct-eager", "interp", "direct", "world"), exits, path)
    assert (turns, stop) == (straight, end)
    assert parts > 4
    assert stop == StopReason(StopKind.EXITED, 0)
