"""`ringfence host`: what it prints, whatever the host offers."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tests.tools.command import ringfence_here
from tools.host import host_json, lines
from vmm.host import BETTER_WITH, REQUIRED, TITLES, Finding, direct_missing, engine_name, offers
from vmm.host_offers_spec import GateState


def rows() -> dict[str, str]:
    done = ringfence_here("host")
    assert (done.returncode, done.stderr) == (0, "")
    return {row[:28].strip(): row[28:].strip() for row in done.stdout.splitlines()}


def test_every_experiment_has_one_line_with_a_verdict() -> None:
    printed = rows()
    for offer in (*REQUIRED, *BETTER_WITH):
        assert printed[TITLES[offer]].split()[0] == ("yes" if offers().finding(offer).offered else "no")
    for title in ("/dev/kvm", "vm.mmap_min_addr", "vm.max_map_count", "usable CPUs", "a system call", "mapping a page"):
        assert printed[title]
    assert printed["engine"].split()[0] == engine_name(offers())


def test_json_says_the_same() -> None:
    done = ringfence_here("host", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    row = json.loads(done.stdout)
    assert row["engine"] == engine_name(offers()) and row["missing"] == direct_missing(offers())
    assert row["code32"] == dataclasses.asdict(offers().code32)
    assert row["signal_ns"] == offers().signal_ns
    assert row["int80"] in {"caught", "absent", "open", "untested"}


@pytest.mark.parametrize("option", ["--jason", "now"])
def test_another_argument_is_refused_in_one_line(option: str) -> None:
    done = ringfence_here("host", option)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and option in done.stderr


def test_a_poor_host_is_told_what_is_missing() -> None:
    poor = dataclasses.replace(
        offers(), platform=Finding(True, "x86_64"), code32=Finding(True), signals=Finding(True), dispatch=Finding(True),
        filter=Finding(True), ldt=Finding(False, "Function not implemented"), cpuid_fault=Finding(False, "No device"),
        int80=GateState.ABSENT, probe="", mmap_min_addr=None, map_page_ns=0,
    )  # fmt: skip
    text = list(lines(poor))
    assert f"{'segments by modify_ldt':<28}no       Function not implemented" in text
    assert f"{'CPUID faulting':<28}no       better with it; No device" in text
    assert f"{'int 0x80':<28}absent   a guest's is an ordinary fault" in text
    assert f"{'vm.mmap_min_addr':<28}unknown" in text and f"{'mapping a page':<28}unknown" in text
    assert text[-1] == f"{'engine':<28}interp   {direct_missing(poor)}"
    assert json.loads(host_json(poor))["engine"] == "interp"


def test_a_probe_that_was_killed_is_reported() -> None:
    ended = "probe ended by signal 11 (Segmentation fault) while testing UMIP"
    killed = dataclasses.replace(offers(), probe=ended, filter=Finding(False, "not tested"))
    assert f"{'experiments':<28}stopped  {ended}" in list(lines(killed))
