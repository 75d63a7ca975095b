"""Every guest says under direct execution what it says under the interpreter, and ends as it does there."""

from __future__ import annotations

import platform
import re
from functools import cache

import pytest

from guests import build, list_guests
from tests.vmx.machines import CollectingSerial
from vmm.layout_spec import RunStats
from vmx import runner
from vmx.attachments import Attachments
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.stop import StopKind, StopReason

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

INTERACTIVE = {"minios"}
GUESTS = [guest.name for guest in list_guests() if guest.name not in INTERACTIVE and not guest.boots]
# Those that do most in outer rings; `hostile` has tests of its own.
BUSY = {"rings", "faults", "paging", "segments", "selfmod", "syscalls", "irq", "tasks", "v86", "compute"}
LONG = pytest.mark.long
MEASURED = re.compile(r"\b[0-9a-f]{32}\b|\b\d+(\.\d+)?\b")
MEMORY_MIB = 64
LIMIT_S = 100


def run(name: str, engine: str, command_line: str, typed: str = "") -> tuple[list[str], StopReason, RunStats]:
    serial = CollectingSerial(typed.encode())
    made = Machine(MachineConfig(memory_mib=MEMORY_MIB, engine=engine), Attachments((serial,)))
    try:
        made.load(load_program(build(name), MEMORY_MIB << 20), command_line)
        made.limit_time(LIMIT_S)
        made.start()
        stop = runner.run(made)
        stats = RunStats.from_buffer_copy(made.vcpu.stats)
    finally:
        made.close()
    lines = serial.output.decode("ascii", "replace").replace("\r\n", "\n").splitlines()
    return [MEASURED.sub("#", line) for line in lines], stop, stats


@cache
def interpreted(name: str, command_line: str) -> tuple[list[str], StopReason]:
    lines, stop, _ = run(name, "interp", command_line)
    return lines, stop


def check(name: str, engine: str, command_line: str) -> RunStats:
    lines, stop, stats = run(name, engine, command_line)
    assert (lines, stop) == interpreted(name, command_line)
    assert [line for line in lines if line.startswith("FAIL")] == []
    assert lines[-1] == "DONE # passed, # failed"
    assert stop == StopReason(StopKind.EXITED, 0)
    return stats


@pytest.mark.parametrize("name", [name if name in BUSY else pytest.param(name, marks=LONG) for name in GUESTS])
def test_a_guest_says_the_same_when_all_runs_directly_that_may(name: str) -> None:
    check(name, "direct-eager", "quick")


@LONG
@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_says_the_same_when_direct_execution_must_pay(name: str) -> None:
    check(name, "direct", "quick")


@LONG
@pytest.mark.parametrize("engine", ["direct", "direct-eager"])
@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_says_the_same_at_full_length(name: str, engine: str) -> None:
    check(name, engine, "")


@pytest.mark.parametrize("engine", ["direct", "direct-eager"])
def test_rings_1_2_and_3_run_directly(engine: str) -> None:
    stats = check("rings", engine, "quick")
    assert stats.direct_stays[0] == 0
    assert all(stats.direct_stays[ring] > 0 for ring in (1, 2, 3)), list(stats.direct_stays)
    assert stats.ns_direct > 0


def test_compute_runs_directly_where_that_pays() -> None:
    stats = check("compute", "direct", "")
    assert stats.direct_stays[3] > 0
    assert stats.insns_user < 10_000_000, "the rest of some 100 million was not interpreted"


@pytest.mark.parametrize("engine", ["direct", "direct-eager"])
def test_minios_tours_the_rings(engine: str) -> None:
    lines, stop, _ = run("minios", engine, "", "rings\nrun primes\nwait\nexit 7\n")
    for expected in (
        "hello from ring #, the kernel", "            hello from ring #",
        "primes: there are # below #, the last is #", "it reads kernel data -> vector #, error code #",
    ):  # fmt: skip
        assert any(expected in line for line in lines), lines
    assert stop.status == 7
