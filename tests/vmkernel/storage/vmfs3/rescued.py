"""Volumes that are damaged at random and repaired, and what must still be there: every file that was not hit.

A file is hit when damage lies in its descriptor, its addresses, its contents, or in a directory on the way to it.
"""

from __future__ import annotations

import random
import subprocess
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringfence.errors import RingfenceError
from tests.fuzz.vmfs_images import Place, Target, damaged, item, places
from tests.vmkernel.storage.vmfs3 import peers
from tests.vmkernel.storage.vmfs3.specimen import DATA_AT, MIB, TBZ, File, Specimen
from vmkernel.storage.vmfs3.check import check
from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.repair import repair
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.walk import walk

SECTOR = 512
KIND_MASK, FILE_BLOCK, SUB_BLOCK = 7, 1, 2
PEER_COUNTS = ("Unallocated blocks", "Undefined inodes", "Orphaned inodes", "Directory errors")


class Hurried(Clock):
    """Its seconds pass as soon as somebody waits for them."""

    def __init__(self) -> None:
        self.us = super().now_us()

    def now_us(self) -> int:
        return self.us

    awake_us = now_us

    def sleep(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)


@dataclass(frozen=True)
class Kept:
    """A sound volume. By path: the checksum of the file, and where all lies that it is read by."""

    made: Specimen
    target: Target
    base: int
    checksums: dict[str, int] = field(default_factory=dict)
    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def not_hit(self, hit: Iterable[Place]) -> list[str]:
        """Only the first device holds what files are read by."""
        struck = [(start, start + length) for device, start, length in hit if device == 0]
        return [
            path for path, ranges in self.ranges.items()
            if not any(start < end and begin < stop for begin, end in struck for start, stop in ranges)
        ]  # fmt: skip


def kept_volumes(folder: Path) -> list[Kept]:
    """One device with a partition table, two without."""
    return [
        kept(folder, name="one", fds=64, sbs=32),
        kept(folder, name="two", fds=64, sbs=32, pes=(1, 1), partitioned=False, block_size=2 * MIB),
    ]


def kept(folder: Path, **options: Any) -> Kept:
    made = Specimen(folder, **options)
    size, first = made.block_size, made.fdc.used
    upper = made.mkdir("upper")
    lower = made.mkdir("lower", upper)
    ways: dict[str, tuple[File, Sequence[File]]] = {}
    for number in range(4):
        ways[f"/upper/small{number}"] = made.file(f"small{number}", bytes([number]) * 60_000, upper), (upper,)
    ways["/upper/lower/inner"] = made.file("inner", b"contents" * 100, lower), (upper, lower)
    ways["/upper/lower/empty"] = made.file("empty", b"", lower), (upper, lower)
    ways["/note"] = made.file("note", b"a few bytes"), ()
    ways["/blocks"] = made.sparse("blocks", 4 * size - 5, {0: b"start", 1: TBZ, 3: b"end"}), ()
    pointed = made.sparse("pointed", 40 * size, {0: b"start", 17: b"middle", 39: b"end"}, upper, pointers=True)
    ways["/upper/pointed"] = pointed, (upper,)
    made.symlink("link", "upper/lower/inner")
    made.rdm("raw", bytes(range(78)), 1 << 40)
    paths = made.finish()
    start = made.base + DATA_AT
    ends = [start] * len(paths)
    ends[0] += made.fbb.used * size
    found = Kept(made, Target(paths, places(made, range(first, made.fdc.used)), {}, ends), start)
    for path, (file, folders) in ways.items():
        parts = [*reach(made, made.root), *reach(made, file)]
        for one in folders:
            parts += reach(made, one)
        found.ranges[path] = [(start + at, start + at + length) for at, length in parts]
    with Volume.open(paths) as volume:
        found.checksums.update({path: zlib.crc32(ours(volume, path)) for path in ways})
    return found


def reach(made: Specimen, file: File) -> list[tuple[int, int]]:
    """(offset in the volume, length) of its descriptor, pointer blocks and contents."""
    found = [(item(made, made.fdc, file.number), 2048)]
    for word in file.words:
        if word & KIND_MASK == FILE_BLOCK:
            found.append(((word >> 6) * made.block_size, made.block_size))
        elif word:
            number = (word >> 6 & 0x3FFFFF) * 16 + (word >> 28)
            resources = made.sbc if word & KIND_MASK == SUB_BLOCK else made.pbc
            found.append((item(made, resources, number), resources.size))
    return found


def ours(volume: Volume, path: str) -> bytes:
    with volume.open_file(volume.lookup(path)) as reader:
        return reader.bytes_at(0, reader.size)


def unheard(complaint: str) -> None:
    """Of files in which something is left wrong."""


@dataclass
class Tally:
    """What became of volumes."""

    clean: int = 0
    refused: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    files: int = 0

    def __str__(self) -> str:
        return (
            f"{self.clean} end clean, {len(self.left)} with findings that nothing can mend, {len(self.refused)} are "
            f"refused; {self.files} files that were not hit are what they were"
        )


def mend(folder: Path, seeds: Iterable[int], *, with_peers: bool) -> Tally:
    """Damage, repair, judge."""
    volumes, tally = kept_volumes(folder), Tally()
    for seed in seeds:
        one = volumes[seed % len(volumes)]
        copies = [folder / f"copy{number}.img" for number in range(len(one.target.paths))]
        with damaged(one.target, random.Random(seed)) as hit:
            for path, copy in zip(one.target.paths, copies, strict=True):
                subprocess.run(["cp", "--sparse=always", path, copy], check=True)
        try:
            in_table = any(start < SECTOR for _, start, _ in hit)  # the peers find no partition, which nobody mends
            judge(one, copies, one.not_hit(hit), seed, tally, with_peers=with_peers and not in_table)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    return tally


def judge(one: Kept, copies: list[Path], spared: list[str], seed: int, tally: Tally, *, with_peers: bool) -> None:
    try:
        repair(copies, clock=Hurried())
        left = check(copies)
    except RingfenceError as error:
        tally.refused.append(f"{seed}: {error}")
        return
    assert not [str(finding) for finding in left if finding.can_be_mended]
    if left:
        tally.left.append(f"{seed}: {left[0]}")
    else:
        tally.clean += 1
    with Volume.open(copies) as volume:
        for path in spared:
            assert zlib.crc32(ours(volume, path)) == one.checksums[path], path
        tbz = sum(file.fd.tbz for file in walk(volume, "/", volume.root, complain=unheard))
    tally.files += len(spared)
    if with_peers and not left:
        peers_agree(one, copies, spared, tbz)


def peers_agree(one: Kept, copies: list[Path], spared: list[str], tbz: int) -> None:
    """vmfs-tools, which call blocks with TBZ lost, and dissect."""
    assert peers.bitmap_errors(copies) == 0
    assert peers.fsck(copies) == dict.fromkeys(PEER_COUNTS, 0) | {"Lost blocks": tbz}
    for path in spared:
        assert zlib.crc32(peers.debugvmfs(copies, "cat", path)) == one.checksums[path], path
    with peers.dissected(copies, one.base - DATA_AT) as volume:
        for path in spared:
            assert zlib.crc32(peers.dissect_reads(volume, path)) == one.checksums[path], path
