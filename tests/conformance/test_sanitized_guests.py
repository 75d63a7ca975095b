"""Every guest passes on a core built with AddressSanitizer and UBSan: no bad access, no undefined behaviour."""

from __future__ import annotations

import pytest

from guests.builder import list_guests
from tests.conformance import sanitized

QUICK = frozenset({"hello", "faults", "segments"})
TIMEOUT_S = 600
# What is typed into the guests that read the serial port.
TYPED = {"minios": "rings\nps\nmem\nuptime\nexit\n"}
NAMES = [pytest.param(guest.name, marks=[] if guest.name in QUICK else [pytest.mark.long]) for guest in list_guests()]


@pytest.mark.parametrize("name", NAMES)
def test_guest_runs_clean(name: str) -> None:
    done = sanitized.run_guest(name, TIMEOUT_S, TYPED.get(name, ""))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "runtime error" not in done.stderr, done.stderr[-4000:]
    assert "AddressSanitizer" not in done.stderr, done.stderr[-4000:]
