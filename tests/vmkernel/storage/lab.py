"""What the tests of the disks share: data to write, whole disks as bytes, and the programs that judge."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.create import Kind, create
from vmkernel.storage.disk import Disk

SECTOR = 512
MIB = 1 << 20


def data(seed: int, sectors: int) -> bytes:
    """Sectors that differ from each other and from those of other seeds."""
    return b"".join((b"%08x%08x" % (seed, number)) * (SECTOR // 16) for number in range(sectors))


def put(disk: Disk, sector: int, content: bytes) -> None:
    disk.write(sector * SECTOR, [memoryview(content)])


def get(disk: Disk, sector: int, count: int) -> bytes:
    content = bytearray(count * SECTOR)
    disk.read(sector * SECTOR, [memoryview(content)])
    return bytes(content)


def contents(path: Path) -> bytes:
    with open_disk(path) as disk:
        return get(disk, 0, disk.size_bytes // SECTOR)


def written(path: Path, kind: Kind, size: int, seed: int = 1, **options: int) -> bytes:
    """A new disk with some grains of data; what it holds."""
    create(path, kind, size, **options)
    with open_disk(path, writable=True) as disk:
        return scribble(disk, seed, bytearray(size))


def scribble(disk: Chain, seed: int, model: bytearray, count: int = 25) -> bytes:
    """Random writes of 1 to 300 sectors, and zeros, to a disk and to a model of it; then one at each end."""
    chance = random.Random(seed)
    sectors = len(model) // SECTOR
    for number in range(count):
        length = min(chance.choice((1, 8, 8, 128, 300)), sectors)
        at = chance.randrange(sectors - length + 1)
        content = data(seed << 8 | number, length)
        if number % 7 == 3:
            content = bytes(length * SECTOR)
            disk.zero(at * SECTOR, length * SECTOR)
        else:
            split = chance.randrange(length + 1) * SECTOR
            disk.write(
                at * SECTOR, [view for view in (memoryview(content)[:split], memoryview(content)[split:]) if view]
            )
        model[at * SECTOR : at * SECTOR + len(content)] = content
    for at in (0, sectors - 1):
        put(disk, at, content := data(seed, 1))
        model[at * SECTOR : (at + 1) * SECTOR] = content
    return bytes(model)


def needs(program: str, package: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}, of the package {package}")
    return program


def qemu_img(*arguments: str | Path, status: int = 0) -> str:
    program = needs("qemu-img", "qemu-utils")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout


def qemu_reads(path: Path) -> bytes:
    """A disk's contents as QEMU has them."""
    raw = path.with_suffix(".as-qemu-reads")
    qemu_img("convert", "-f", "vmdk", "-O", "raw", path, raw)
    return raw.read_bytes()
