"""Committing as a measure: both come to the same, and what one cannot do is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import disk_commit
from bench.disks import OURS, QEMU
from bench.plan import QUICK, Plan
from vmkernel.storage.chain import open_disk
from vmkernel.storage.compare import first_difference

GRAINS = 8


def plan() -> Plan:
    return Plan(None, None, QUICK, lambda text: None)  # type: ignore[arg-type]  # no guest takes part


@pytest.mark.parametrize("form", disk_commit.FORMS)
def test_both_commit_the_same(tmp_path: Path, form: str) -> None:
    qemu = shutil.which(QEMU)
    if qemu is None:
        pytest.skip(f"no {QEMU} here")
    made = plan()
    disk_commit.measure_form(made, form, qemu, tmp_path, GRAINS)
    assert not made.errors and not made.notes
    assert [row.peer_name for row in made.rows] == [QEMU]
    with open_disk(tmp_path / OURS / "base.vmdk") as ours, open_disk(tmp_path / QEMU / "base.vmdk") as theirs:
        assert first_difference(ours, theirs) is None


def test_a_base_that_shows_something_else_is_an_error(tmp_path: Path) -> None:
    qemu = shutil.which(QEMU)
    if qemu is None:
        pytest.skip(f"no {QEMU} here")
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        disk_commit.make_link(tmp_path / name, disk_commit.FORMS["redo"], GRAINS)
    made = plan()
    disk_commit.judge(made, "m", qemu, tmp_path / "one/link.vmdk", tmp_path / "other/base.vmdk")
    assert len(made.errors) == 1
