"""Every guest passes under `ringfence run`, and no check of it is skipped that this machine could answer."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from functools import cache

import pytest

from guests import list_guests

DONE = re.compile(r"DONE (\d+) passed, 0 failed")
INTERACTIVE = {"minios"}
CHECKING = [guest.name for guest in list_guests() if guest.name not in INTERACTIVE]
# The slave 8259 is exercised by the real-time clock's interrupt, which this machine has not got yet.
NOT_HERE = {"SKIP slave_pic", "SKIP other_processors"}
LIMIT_S = 60


def ringfence(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.ringfence", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=LIMIT_S)


@cache
def quick_run(name: str) -> subprocess.CompletedProcess[str]:
    """One run of each guest serves several tests."""
    return ringfence("run", name, "--append", "quick", "--timeout", str(LIMIT_S - 10))


@pytest.mark.parametrize("name", CHECKING)
def test_guest_passes(name: str) -> None:
    done = quick_run(name)
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == []
    verdict = DONE.fullmatch(lines[-1])
    assert verdict, f"the last line is {lines[-1]!r}; stderr: {done.stderr}"
    assert int(verdict[1]) == sum(line.startswith("PASS") for line in lines) > 0
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", CHECKING)
def test_nothing_is_skipped(name: str) -> None:
    """Allowances for other emulators' errors must never help us."""
    skipped = {line.partition(":")[0] for line in quick_run(name).stdout.splitlines() if line.startswith("SKIP")}
    assert skipped <= NOT_HERE


def test_minios_tours_the_rings_and_ends_with_the_status_it_is_given() -> None:
    done = ringfence("run", "minios", "--timeout", "50", typed="help\nrings\nrun primes\nps\nmem\nexit 7\n")
    for expected in (
        "hello from ring 0, the kernel",
        "    hello from ring 1",
        "        hello from ring 2",
        "            hello from ring 3",
        "it reads kernel data -> vector 14, error code 5",
        "primes: there are 2262 below 20000, the last is 19997",
        "status 7.",
    ):
        assert expected in done.stdout
    assert (done.returncode, done.stderr) == (7, "")


def test_backdoor_tells_what_the_machine_was_given() -> None:
    """A kernel that asks needs to probe nothing."""
    done = ringfence("run", "backdoor", "--mem", "96")
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  "))
    assert (told["memory"], told["bus"]) == ("96 MiB", "100000 kHz")
    assert re.fullmatch(r"[0-9]+ kHz", told["tsc"]) and re.fullmatch(r"[0-9a-f]{32}", told["uuid"])
    assert abs(float(told["time"].split()[0]) - time.time()) < LIMIT_S


def test_backdoor_finds_the_monitor_by_cpuid_too() -> None:
    done = ringfence("run", "backdoor", "--cpu-features", "+hypervisor")
    assert "PASS leaf_tells_the_highest" in done.stdout
    assert "FAIL" not in done.stdout
    assert done.returncode == 0


def test_rings_counts_a_transition_for_each_way_through_a_gate() -> None:
    done = ringfence("run", "rings", "--stats")
    text = done.stdout + done.stderr
    rows = {int(row[1]): row[2].split() for row in re.finditer(r"from (\d) +(.+)", text)}
    assert set(rows) == {0, 1, 2, 3}
    assert all(rows[outer][0] != "." for outer in (1, 2, 3)), "each outer ring came back to ring 0"
    assert all(rows[0][outer] != "." for outer in (1, 2, 3)), "ring 0 went to each outer ring"
