"""Damaged disks of every format: each goes, or is refused in one line, in bounded time, and reading changes nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.conformance.device_driver import no_hang
from tests.fuzz.vmdk_images import damaged, examine, specimens

HANG_SECONDS = 60


def examine_damaged(folder: Path, seeds: range) -> None:
    made = specimens(folder)
    for seed in seeds:
        chance = random.Random(seed)
        disk, file = made[seed % len(made)]
        before = {path: path.read_bytes() for path in disk.parent.iterdir()}
        file.write_bytes(damaged(before[file], chance))
        with no_hang(HANG_SECONDS):
            try:
                examine(disk, chance)
            except Exception as error:
                error.add_note(f"seed {seed}: {disk.parent.name}/{file.name}")
                raise
        for path in set(disk.parent.iterdir()) - before.keys():
            path.unlink()
        for path, content in before.items():
            path.write_bytes(content)


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


@pytest.mark.long
def test_many_damaged_disks_are_read_or_refused(tmp_path: Path) -> None:
    examine_damaged(tmp_path, range(1_000_000, 1_040_000))
