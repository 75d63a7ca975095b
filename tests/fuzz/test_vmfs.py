"""Damaged VMFS volumes: each is read, or refused in one line, in bounded time."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.many import bounded
from tests.fuzz.vmfs_images import damaged, examine, specimens

BUSY_SECONDS = 20


def examine_damaged(folder: Path, seeds: range) -> None:
    made = specimens(folder)
    for seed in seeds:
        chance = random.Random(seed)
        target = made[seed % len(made)]
        with damaged(target, chance) as hit, bounded(BUSY_SECONDS):
            try:
                examine(target.paths, chance, [target.owners[place] for place in hit if place in target.owners])
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise


def test_a_sound_specimen_goes(tmp_path: Path) -> None:
    for target in specimens(tmp_path):
        with bounded(BUSY_SECONDS):
            examine(target.paths, random.Random(1))


def test_a_damaged_volume_is_read_or_refused(tmp_path: Path) -> None:
    examine_damaged(tmp_path, range(250))


@pytest.mark.long
def test_many_damaged_volumes_are_read_or_refused(tmp_path: Path) -> None:
    examine_damaged(tmp_path, range(1_000_000, 1_030_000))
