"""Looking grains up: many at once, or neighbours, gives what the tables hold one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vmkernel.storage.block_file import BlockFile
from vmkernel.storage.disk import SECTOR_BYTES
from vmkernel.storage.vmdk import grain_tables
from vmkernel.storage.vmdk.grain_tables import ABSENT, GTE, GrainTables

PER_TABLE, TABLES, STEP = 128, 40, 16
MISSING = 7  # the table that there is none of


@pytest.fixture
def entries() -> np.ndarray:
    """Any places, with neighbours that lie together in table 1, and hardly in table 2."""
    made = np.random.default_rng(1).integers(0, 1 << 32, TABLES * PER_TABLE, dtype=np.uint32)
    made[PER_TABLE : 2 * PER_TABLE] = 1000 + STEP * np.arange(PER_TABLE)
    made[2 * PER_TABLE : 3 * PER_TABLE] = 9000 + STEP * np.arange(PER_TABLE)
    made[2 * PER_TABLE + 50] += 1
    made[3 * PER_TABLE : 4 * PER_TABLE] = ABSENT
    made[3 * PER_TABLE + 100] = 5000
    made[4 * PER_TABLE : 5 * PER_TABLE] = np.arange(PER_TABLE, 0, -1) * STEP
    made[MISSING * PER_TABLE : (MISSING + 1) * PER_TABLE] = ABSENT
    return made


@pytest.fixture
def tables(entries: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrainTables]:
    """With room for four in memory."""
    monkeypatch.setattr(grain_tables, "CACHE_BYTES", 0)
    path = tmp_path / "tables"
    path.write_bytes(bytes(SECTOR_BYTES) + entries.astype(GTE).tobytes())
    directory = np.arange(1, TABLES + 1, dtype=GTE)
    directory[MISSING] = 0
    with BlockFile.open(path) as file:
        yield GrainTables(file, directory, PER_TABLE, 1)


def test_more_tables_than_are_kept_are_looked_up_in_any_order(tables: GrainTables, entries: np.ndarray) -> None:
    grains = np.random.default_rng(2).integers(0, len(entries), 1000)
    assert (tables.lookup(grains) == entries[grains]).all()
    assert (tables.lookup(grains[:3]) == entries[grains[:3]]).all()
    assert not len(tables.lookup(grains[:0]))


def test_a_table_is_at_hand_once_it_was_read_or_where_there_is_none(tables: GrainTables, entries: np.ndarray) -> None:
    first, missing = PER_TABLE * STEP, MISSING * PER_TABLE * STEP
    assert tables.place_at_hand(first, STEP, STEP) is None and tables.place_at_hand(first, 2 * STEP, STEP) is None
    tables.table(1)
    assert tables.place_at_hand(first, STEP, STEP) == entries[PER_TABLE]
    assert tables.place_at_hand(missing, STEP, STEP) == ABSENT
    assert tables.neighbours_at_hand(MISSING * PER_TABLE, PER_TABLE, STEP) == ABSENT


@pytest.mark.parametrize("count", [2, 8, grain_tables.LISTED_MAX, grain_tables.LISTED_MAX + 1, 60])
def test_neighbours_are_those_that_lie_one_behind_the_other(
    tables: GrainTables, entries: np.ndarray, count: int
) -> None:
    for index in range(1, 5):
        tables.table(index)
        for slot in range(PER_TABLE):
            first = index * PER_TABLE + slot
            found = entries[first : first + count].tolist()
            together = found == [found[0] + STEP * number for number in range(count)] or not any(found)
            expected = found[0] if together and slot + count <= PER_TABLE else None
            assert tables.neighbours_at_hand(first, count, STEP) == expected
