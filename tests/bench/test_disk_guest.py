"""A Linux guest's disk as a measure: what is compiled, what counts, and who is held against whom."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import disk_guest, linux
from bench.peers import Peers, Ringfence, Tcg
from bench.plan import QUICK, Plan
from bench.rows import Verdict
from tests.realguests.packages import PackagesUnavailable
from vmkernel.storage.chain import open_disk

INTERP, DIRECT = Ringfence("interp"), Ringfence("direct")


def plan(*others: Ringfence) -> Plan:
    peers = Peers(native=None, tcg=Tcg(), bochs=None, unicorn=False, missing=())
    return Plan(INTERP, peers, QUICK, lambda text: None, others=others)


def test_the_interpreter_takes_part_where_it_is_alone() -> None:
    assert list(disk_guest.engines(plan())) == [INTERP]
    assert list(disk_guest.engines(plan(DIRECT))) == [DIRECT]


def test_the_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(DIRECT)
    times = {DIRECT.name: 3.0, Tcg.name: 2.0}
    loads = {f"disks.guest.{load}": 1.0 for load in disk_guest.LOADS}
    found: dict[str, linux.Contender] = {
        name: lambda took=took: dict.fromkeys(loads, took) for name, took in times.items()  # type: ignore[misc]
    }
    monkeypatch.setattr(disk_guest, "make_disk", lambda folder: folder)
    monkeypatch.setattr(disk_guest, "contenders", lambda plan, disk: found)
    disk_guest.measure(made)
    assert [row.measure for row in made.rows] == [f"direct.{load}" for load in loads]
    assert {row.verdict() for row in made.rows} == {Verdict.MUST}


def test_what_is_missing_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(plan: Plan, disk: Path) -> dict[str, linux.Contender]:
        raise PackagesUnavailable("no network")

    made = plan()
    monkeypatch.setattr(disk_guest, "make_disk", lambda folder: folder)
    monkeypatch.setattr(disk_guest, "contenders", missing)
    disk_guest.measure(made)
    assert made.notes == ["left out: disks.guest: no network"] and not made.rows


@pytest.mark.long
def test_both_do_every_load_and_come_to_the_same(tmp_path: Path) -> None:
    for name in (disk_guest.MKE2FS, "qemu-system-i386"):
        if shutil.which(name) is None:
            pytest.skip(f"no {name} here")
    made = plan()
    disk = disk_guest.make_disk(tmp_path)
    with open_disk(disk) as chain:
        assert chain.size_bytes == disk_guest.DISK_MIB << 20
    try:
        found = disk_guest.contenders(made, disk)
    except PackagesUnavailable as error:
        pytest.skip(str(error))
    for contender in found.values():
        assert contender().keys() == {f"disks.guest.{load}" for load in disk_guest.LOADS}
