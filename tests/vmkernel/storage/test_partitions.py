"""Partition tables that sfdisk made, read as it reads them; and damaged ones."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import MIB, SECTOR, needs
from vmkernel.storage.chain import open_raw
from vmkernel.storage.partitions import Partition, partitions

DOS = "label: dos\n1: size=4MiB, type=83\n2: size=40MiB, type=f\n4: size=2MiB, type=7, bootable\n" + (
    "5: size=3MiB, type=82\n6: size=5MiB\n7: size=1MiB, type=b\n"
)
GPT = 'label: gpt\n1: size=4MiB, name="first one"\n3: size=7MiB, type=linux-swap, name="три"\n128: size=1MiB\n'


def image(folder: Path, table: str) -> Path:
    path = folder / "disk.raw"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    if table:
        words = [needs("/usr/sbin/sfdisk", "fdisk"), "--quiet", "--no-reread", str(path)]
        subprocess.run(words, input=table, text=True, check=True, timeout=60, capture_output=True)
    return path


def found(path: Path) -> list[Partition]:
    with open_raw(path) as disk:
        return partitions(disk)


@pytest.mark.parametrize("table", [DOS, GPT])
def test_partitions_are_where_sfdisk_says(tmp_path: Path, table: str) -> None:
    path = image(tmp_path, table)
    listed = subprocess.run(["/usr/sbin/sfdisk", "--json", path], capture_output=True, check=True, timeout=60).stdout
    rows = json.loads(listed)["partitiontable"]["partitions"]
    expected = [
        (int(row["node"].removeprefix(str(path))), row["start"] * SECTOR, row["size"] * SECTOR, row.get("name", ""))
        for row in rows
    ]
    assert [(part.number, part.start, part.length, part.name) for part in found(path)] == sorted(expected)
    if table is DOS:
        assert [part.kind for part in found(path)] == [row["type"].rjust(2, "0") for row in rows]


def test_the_second_gpt_stands_in_for_a_damaged_first(tmp_path: Path) -> None:
    path = image(tmp_path, GPT)
    before = found(path)
    for at in (SECTOR + 40, 2 * SECTOR + 33):  # its header, its entries
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\xa5\x5a")
        assert found(path) == before


def test_no_table_has_no_partitions(tmp_path: Path) -> None:
    path = image(tmp_path, "")
    assert found(path) == []
    with path.open("r+b") as file:  # a FAT file system begins with a signed sector, too
        file.write(b"\xeb\x3c\x90MSDOS5.0" + b"\x55" * 499 + b"\x55\xaa")
    assert found(path) == []


def test_an_extended_partition_that_loops_ends(tmp_path: Path) -> None:
    path = image(tmp_path, "")

    def entry(kind: int, start: int, sectors: int) -> bytes:
        return bytes([0, 0, 0, 0, kind, 0, 0, 0]) + start.to_bytes(4, "little") + sectors.to_bytes(4, "little")

    def table(*entries: bytes) -> bytes:
        return bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"

    with path.open("r+b") as file:
        file.write(table(entry(5, 100, 1000)))
        file.seek(100 * SECTOR)
        file.write(table(entry(0x83, 1, 10), entry(5, 0, 1)))
    assert [(part.number, part.start) for part in found(path)] == [(1, 100 * SECTOR), (5, 101 * SECTOR)]


@pytest.mark.parametrize("table", [DOS, GPT])
def test_damaged_tables_stay_on_the_disk(tmp_path: Path, table: str) -> None:
    path = image(tmp_path, table)
    before = path.read_bytes()[: 34 * SECTOR]
    for seed in range(200):
        chance = random.Random(seed)
        damaged = bytearray(before)
        for _ in range(chance.randrange(1, 20)):
            at = chance.choice((chance.randrange(440, 512), chance.randrange(512, len(damaged))))
            damaged[at] = chance.randrange(256)
        with path.open("r+b") as file:
            file.write(damaged)
        for part in found(path):
            assert 0 <= part.start < part.start + part.length <= 64 * MIB
