"""memtest86+ finds nothing wrong with the machine's memory."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pyte
import pytest

from tests.realguests.guest import CONFIG, LONG_S, Guest, built, running, with_drives
from vmm.interrupts import ClockMode
from vmx.linux import LinuxImage
from vmx.program import LinuxProgram

SMALL = replace(CONFIG, memory_mib=16)
SERIAL = "console=ttyS0,115200"
VERSION = "Memtest86+ v6.10"
ONE_PASS = "Pass:  1        Errors: 0"
ERRORS = re.compile(r"Errors: *[1-9]")
LATER = re.compile(r"Test #([3-9]|10)|Pass:  1")
NS_PER_1000 = 100_000  # ten instructions a microsecond: two waits of 80 s are then 1.6 G instructions


def on_terminal(output: bytes) -> list[str]:
    """What a terminal on COM1 shows."""
    screen = pyte.Screen(80, 25)
    pyte.ByteStream(screen).feed(output)
    return list(screen.display)


def shows(rows: list[str], text: str) -> bool:
    return any(text in row for row in rows)


def finds_errors(guest: Guest) -> bool:
    return any(ERRORS.search(row) for row in guest.screen())


@pytest.mark.long
@pytest.mark.parametrize("vcpus", [1, 4])
def test_a_pass_finds_no_error(vcpus: int, memtest: Path) -> None:
    program = LinuxProgram(LinuxImage.read(memtest), SERIAL)
    with built(replace(SMALL, vcpus=vcpus), program) as guest:
        guest.machine.interrupts.set_clock(ClockMode.COUNTED, NS_PER_1000)
        guest.start(LONG_S)
        guest.until(lambda: guest.shows(ONE_PASS) or finds_errors(guest), "the end of a pass")
        assert guest.shows(ONE_PASS), "\n".join(guest.screen())
        assert guest.shows(f"CPU: {vcpus} Cores {vcpus} Threads")
        guest.until(lambda: shows(on_terminal(bytes(guest.line.output)), ONE_PASS), "the same on COM1")
        assert shows(on_terminal(bytes(guest.line.output)), VERSION)


def test_it_starts_from_its_cd(memtest_iso: Path) -> None:
    with running(with_drives(SMALL, cd=memtest_iso)) as guest:
        guest.until(lambda: bool(LATER.search("\n".join(guest.screen()))), "the fourth test or one after it")
        assert guest.shows(VERSION) and guest.shows("Memory  :   16MB") and guest.shows("Errors: 0")
