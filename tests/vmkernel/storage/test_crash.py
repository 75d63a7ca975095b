"""A write sequence cut anywhere: the disk opens, and holds what was flushed, or what was written over it since."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest

from ringfence.errors import RingfenceError
from tests.vmkernel.storage.lab import MIB, SECTOR, contents, data, get, put
from tests.vmkernel.storage.recorder import Recording, recorded
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.repair import check

SECTORS = 640
KINDS = [Kind.MONOLITHIC_SPARSE, Kind.TWO_GB_SPARSE, Kind.VMFS_SPARSE, Kind.THIN]
History = list[tuple[int, dict[int, bytes]]]


def sequence(path: Path, seed: int, steps: int) -> tuple[Recording, History]:
    """Writes and flushes; after how many events each was asked for, and what it changed (nothing: a flush is done)."""
    chance = random.Random(seed)
    with recorded(path.parent) as recording:
        history: History = []
        with open_disk(path, writable=True) as disk:
            for step in range(steps):
                if step % 4 == 3:
                    disk.flush()
                    history.append((len(recording.events), {}))
                    continue
                count = chance.choice((1, 8, 130))
                at = chance.randrange(SECTORS - count)
                content = data(seed << 8 | step, count)
                history.append((len(recording.events), {at + n: content[n * SECTOR :][:SECTOR] for n in range(count)}))
                put(disk, at, content)
        history.append((len(recording.events), {}))
    return recording, history


def allowed(before: bytes, history: History, cut: int) -> dict[int, set[bytes]]:
    """What each sector may hold after `cut` events."""
    values = {sector: {before[sector * SECTOR :][:SECTOR]} for sector in range(SECTORS)}
    since: dict[int, list[bytes]] = defaultdict(list)
    for number, changed in history:
        if number > cut:
            break
        if changed:
            for sector, content in changed.items():
                since[sector].append(content)
        else:
            for sector, contents_since in since.items():
                values[sector] = {contents_since[-1]}
            since.clear()
    for sector, contents_since in since.items():
        values[sector] |= set(contents_since)
    return values


def judge(path: Path, before: bytes, history: History, cut: int) -> None:
    with open_disk(path, writable=True) as disk:
        found = get(disk, 0, SECTORS)
        values = allowed(before, history, cut)
        wrong = [sector for sector in range(SECTORS) if found[sector * SECTOR :][:SECTOR] not in values[sector]]
        assert not wrong, f"after {cut} events"
        put(disk, 3, found[3 * SECTOR :][:SECTOR])
    assert all(finding.is_harmless for finding in check(path))
    assert contents(path) == found, "what is written afterwards harms nothing"


def chain(folder: Path, kind: Kind) -> tuple[Path, bytes]:
    """A disk of this kind; over a parent where it can have one."""
    base, path = folder / "base.vmdk", folder / "disk.vmdk"
    if kind == Kind.THIN:
        create(path, kind, SECTORS * SECTOR)
        return path, bytes(SECTORS * SECTOR)
    create(base, Kind.MONOLITHIC_FLAT, SECTORS * SECTOR)
    model = data(999, SECTORS)
    with open_disk(base, writable=True) as disk:
        put(disk, 0, model)
    create_child(path, base, kind)
    return path, model


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_killed_after_any_write(tmp_path: Path, kind: Kind) -> None:
    path, before = chain(tmp_path, kind)
    recording, history = sequence(path, 5, 12)
    for cut in range(len(recording.events) + 1):
        recording.restore(cut)
        judge(path, before, history, cut)


@pytest.mark.parametrize("kind", KINDS)
def test_power_that_fails_after_any_write(tmp_path: Path, kind: Kind) -> None:
    path, before = chain(tmp_path, kind)
    recording, history = sequence(path, 6, 12)
    for cut in range(len(recording.events) + 1):
        recording.restore(cut, random.Random(cut))
        judge(path, before, history, cut)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(20, 30))
def test_power_that_fails_in_many_ways(tmp_path: Path, kind: Kind, seed: int) -> None:
    path, before = chain(tmp_path, kind)
    recording, history = sequence(path, seed, 24)
    for cut in range(len(recording.events) + 1):
        for attempt in range(3):
            recording.restore(cut, random.Random(cut * 31 + attempt))
            judge(path, before, history, cut)


@pytest.mark.parametrize("kind", Kind)
def test_a_disk_that_was_cut_short_while_it_was_made_is_refused_or_empty(tmp_path: Path, kind: Kind) -> None:
    made = tmp_path / "made"
    made.mkdir()
    with recorded(made) as recording:
        create(made / "disk.vmdk", kind, MIB)
    for cut in range(len(recording.events) + 1):
        for path in list(made.iterdir()):
            path.unlink()
        recording.restore(cut)
        try:
            assert contents(made / "disk.vmdk") == bytes(MIB)
        except RingfenceError:
            assert cut < len(recording.events)
