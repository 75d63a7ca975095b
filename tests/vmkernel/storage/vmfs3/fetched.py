"""Volumes that ESX made: those in the source distribution of dissect.vmfs, and the image of vmfs-tools' own tests.

Fetched once into the user's cache, with pip and over HTTPS, and kept as sparse files up to where their data ends. A
test of what cannot be had skips and says why.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tarfile
import urllib.request
import zlib
from functools import cache
from pathlib import Path

import pytest

from tests.realguests.cache import built
from tests.vmkernel.storage.vmfs3.specimen import MIB

DISSECT = "dissect.vmfs==3.13"
FULL = 2080 * MIB
VOLUMES = {  # the size of each, and how much of it is data
    "vmfs/vmfs5": (FULL, 1552), "vmfs/vmfs5ld": (FULL, 345), "vmfs/vmfs5-no-dense-sbpc": (FULL, 357),
    "vmfs/span/vmfs5-span-0": (FULL, 912), "vmfs/span/vmfs5-span-1": (FULL, 32), "vmfs/vmfs6": (FULL, 32),
    "lvm/lvm3": (544 * MIB, 19), "lvm/lvm5": (544 * MIB, 19), "lvm/span/lvm3-span-0": (544 * MIB, 19),
    "lvm/span/lvm3-span-1": (544 * MIB, 19), "lvm/span/lvm5-span-0": (544 * MIB, 19),
    "lvm/span/lvm5-span-1": (544 * MIB, 19), "lvm/lvm6": (544 * MIB, 19),
}  # fmt: skip
PIECE = 64 << 10
TIMEOUT_S = 300
CONTAINER = "https://raw.githubusercontent.com/glandium/vmfs-tools/master/test.img"
CONTAINER_MAX = 4 * MIB


def volume(*names: str) -> list[Path]:
    """Volumes of dissect.vmfs by their names there, as `vmfs5` and `vmfs5-span-0`."""
    folder = distribution()
    if isinstance(folder, str):
        pytest.skip(folder)
    return [folder / name for name in names]


@cache
def distribution() -> Path | str:
    """The folder with the expanded volumes, or why there is none."""
    try:
        return built("dissect-vmfs", f"{DISSECT} {VOLUMES}", (), build)
    except (OSError, subprocess.SubprocessError, tarfile.TarError, zlib.error) as error:
        return f"no volumes of {DISSECT}: {getattr(error, 'stderr', '') or error}".strip()[-300:]


def build(into: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary",
         ":all:", "--dest", into, DISSECT], capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
    )  # fmt: skip
    archive = next(into.glob("*.tar.gz"))
    with tarfile.open(archive) as source:
        root = source.getnames()[0].partition("/")[0]
        for name, (size, data_mib) in VOLUMES.items():
            packed = source.extractfile(f"{root}/tests/_data/{name}.bin.gz")
            assert packed is not None, f"{name} is a plain file"
            with gzip.open(packed) as volume, (into / Path(name).name).open("wb") as out:
                expand(volume, out.fileno(), data_mib * MIB)
                out.truncate(size)
    archive.unlink()


def expand(source: gzip.GzipFile, target: int, length: int) -> None:
    """What is not zero of the first `length` bytes."""
    for at in range(0, length, PIECE):
        piece = source.read(PIECE)
        if piece.count(0) != len(piece):
            os.pwrite(target, piece, at)


def container() -> Path:
    """The VMFSIMG of a real VMFS 3.31 volume. RINGFENCE_VMFS_CONTAINER names one that is there already."""
    if named := os.environ.get("RINGFENCE_VMFS_CONTAINER"):
        return Path(named)
    found = downloaded()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def downloaded() -> Path | str:
    def build(into: Path) -> None:
        with urllib.request.urlopen(CONTAINER, timeout=20) as answer:
            (into / "test.img").write_bytes(answer.read(CONTAINER_MAX))

    try:
        return built("vmfs-tools", CONTAINER, (), build) / "test.img"
    except OSError as error:
        return f"no image of vmfs-tools, which {CONTAINER} has: {error}"
