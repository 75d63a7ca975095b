"""Volumes to write on, hosts that write them, and time that passes when a test says so."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from vmkernel.storage.vmfs3.clock import Clock
from vmkernel.storage.vmfs3.geometry import Counts
from vmkernel.storage.vmfs3.host import Host, Process, started, this_machine
from vmkernel.storage.vmfs3.mkfs import format_volume
from vmkernel.storage.vmfs3.volume import Volume
from vmkernel.storage.vmfs3.writable import WritableVolume, open_for_writing

MIB, GIB = 1 << 20, 1 << 30
ONE_EXTENT = 17 * MIB + 256 * MIB + MIB  # with its partition table
HASHED_MAX = 8 * MIB  # longer files are looked at only at their start
SMALL = Counts(fds=256, pbs=16, sbs=64, fds_per_cluster=32)


class SteppedClock(Clock):
    """Stands still but for `advance` and `sleep`, which takes at least `least_s`."""

    def __init__(self, least_s: float = 0) -> None:
        self.us, self.least_s = 1_000_000_000, least_s

    def now_us(self) -> int:
        return self.us

    def awake_us(self) -> int:
        return self.us

    def seconds(self) -> int:
        return 1_700_000_000 + self.us // 1_000_000

    def sleep(self, seconds: float) -> None:
        self.advance(max(seconds, self.least_s))

    def advance(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def make(folder: Path, size: int = ONE_EXTENT, devices: int = 1, **options: object) -> list[Path]:
    """A new volume."""
    options.setdefault("counts", SMALL)
    paths = [sparse(folder / f"disk{number}.img", size) for number in range(devices)]
    format_volume(paths, **options)  # type: ignore[arg-type]
    return paths


def opened(paths: list[Path], clock: Clock | None = None, host: Host | None = None) -> WritableVolume:
    """Without a thread of its own: nothing happens between two calls."""
    return open_for_writing(paths, host or somewhere(), clock=clock or SteppedClock(), background=False)


def somewhere(number: int = 0) -> Host:
    """A host of another machine: nobody here can know whether it is gone."""
    return replace(Host(), process=Process(b"another machine!", 4711 + number, 1), name="elsewhere")


@functools.cache
def gone() -> Process:
    """A process of this machine that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process(this_machine(), child.pid, started(child.pid) or 0)
    child.communicate(b"\n")
    assert process.is_gone
    return process


def put(volume: WritableVolume, path: str, data: bytes, offset: int = 0) -> None:
    """Write into a file, which is made where it is not there."""
    if not volume.exists(path):
        volume.create(path)
    with volume.open_for_write(path) as file:
        file.write(offset, [data])


def get(volume: Volume, path: str) -> bytes:
    file = volume.open_file(volume.lookup(path))
    return file.bytes_at(0, file.size)


def tree(volume: Volume) -> dict[str, object]:
    """Everything but the system files: length and digest of files, targets of links, None for directories."""
    found: dict[str, object] = {}
    todo = [("", volume.root)]
    while todo:
        path, folder = todo.pop()
        for entry in volume.entries(folder):
            name, fd = f"{path}/{entry.name}", volume.descriptor(entry.address)
            if fd.is_directory:
                found[name] = None
                todo.append((name, fd))
            elif fd.is_symlink:
                found[name] = volume.readlink(fd)
            elif fd.is_rdm:
                found[name] = ("rdm", fd.length, bytes(fd.disk_id.id))
            elif path or not entry.name.endswith(".sf"):
                file = volume.open_file(fd)
                held = file.bytes_at(0, file.size if file.size <= HASHED_MAX else 1 << 16)
                found[name] = file.size, hashlib.blake2b(held, digest_size=16).digest()
    return found


def allocated(path: Path) -> int:
    return os.stat(path).st_blocks * 512
