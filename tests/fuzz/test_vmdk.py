"""Damaged disks of every format: each goes, or is refused in one line, in bounded time, and reading changes nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.device_driver import no_hang
from tests.fuzz.vmdk_images import Specimen, examine, specimens

HANG_SECONDS = 60
RUNNER = Path(__file__).with_name("run_vmdk.py")


def examine_damaged(folder: Path, seeds: range, *, thorough: bool = True) -> None:
    """Each in turn; briefly unless `thorough`."""
    made = Specimen.all(folder)
    for seed in seeds:
        with no_hang(HANG_SECONDS):
            made[seed % len(made)].examine_damaged(seed, thorough=thorough)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, os.fstat)


def test_a_sound_specimen_goes(tmp_path: Path) -> None:
    for disk, _ in specimens(tmp_path):
        with no_hang(HANG_SECONDS):
            examine(disk, random.Random(1))


def test_a_damaged_disk_is_read_or_refused(tmp_path: Path) -> None:
    examine_damaged(tmp_path, range(300))


def test_each_is_made_sound_again(tmp_path: Path) -> None:
    made = Specimen.all(tmp_path)
    for specimen in made:
        for seed in range(3):
            specimen.examine_damaged(seed, thorough=False)
            assert {path: path.read_bytes() for path in specimen.disk.parent.iterdir()} == specimen.sound


@pytest.mark.long
def test_many_damaged_disks_are_read_or_refused(tmp_path: Path) -> None:
    examine_damaged(tmp_path, range(1_000_000, 1_020_000))


@pytest.mark.long
def test_a_million_damaged_disks_are_each_opened_or_refused() -> None:
    """On all processors, and each is put to one use only."""
    done = subprocess.run([sys.executable, RUNNER, "--images", "1000000"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["1000000 damaged disks"]), done.stdout + done.stderr
