"""Writing a VMFS3 volume beside ext4 through FUSE (fuse2fs): one thick file, and many small ones.

No peer writes VMFS, so this is what another file system in a file costs. Both images lie in memory (/dev/shm) where
there is room. We write through the library, as our own tools and machines do; fuse2fs is written through its mount by a
program that makes the same calls. Both end with everything flushed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.disks import MIB, OURS, add_rows, in_turn, is_quick, place, run
from bench.plan import Plan
from bench.transcript import RunFailed
from ringfence.errors import RingfenceError
from vmkernel.storage.vmfs3.growing import Provision
from vmkernel.storage.vmfs3.mkfs import format_volume
from vmkernel.storage.vmfs3.writable import WritableVolume, open_for_writing

FUSE2FS = "fuse2fs"
THICK_MIB, QUICK_THICK_MIB = 4096, 64
FILES, QUICK_FILES = 10_000, 200
SMALL_BYTES = 1000
SPARE_MIB = 16 << 10  # a small file takes a whole file block once there are no sub-blocks left; the image is sparse
WRITER = Path(__file__)
TIMEOUT_S = 300
TARGETS: dict[str, tuple[float | None, float | None]] = {FUSE2FS: (None, 1.0)}


def measure(plan: Plan) -> None:
    thick_mib, files = (QUICK_THICK_MIB, QUICK_FILES) if is_quick(plan) else (THICK_MIB, FILES)
    names = [OURS, *([FUSE2FS] if can_mount(plan) else [])]
    rows: tuple[tuple[str, str, float, str, int], ...] = (
        ("vmfs.write.thick", "MB/s", thick_mib * MIB / 1e6, "thick", thick_mib),
        ("vmfs.write.small_files", "files/s", files, "files", files),
    )
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-", dir=place(thick_mib)) as folder:
        for name, unit, amount, what, count in rows:

            def once(who: str, what: str = what, count: int = count) -> tuple[float, int | None]:
                make: Callable[[Path, str, int], float] = write_ours if who == OURS else write_theirs
                return make(Path(folder), what, count), None

            in_turn(plan, name, names, once)
            add_rows(plan, name, unit, amount, TARGETS)


def can_mount(plan: Plan) -> bool:
    for program, package in ((FUSE2FS, "fuse2fs"), ("mkfs.ext4", "e2fsprogs"), ("fusermount", "fuse")):
        if shutil.which(program) is None:
            plan.notes.append(f"vmfs_write: {FUSE2FS} is left out: {program} is missing (Debian's package {package})")
            return False
    if not os.access("/dev/fuse", os.W_OK):
        plan.notes.append(f"vmfs_write: {FUSE2FS} is left out: /dev/fuse is missing or may not be used")
        return False
    return True


def new_image(path: Path, size_mib: int) -> Path:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate((size_mib + SPARE_MIB) * MIB)
    return path


# ours


def write_ours(folder: Path, what: str, count: int) -> float:
    """Seconds. Raises RunFailed."""
    image = new_image(folder / "ours.img", count if what == "thick" else 0)
    try:
        format_volume([image], label="bench")
        with open_for_writing([image]) as volume:
            start = time.perf_counter()
            (our_thick if what == "thick" else our_files)(volume, count)
            return time.perf_counter() - start
    except RingfenceError as error:
        raise RunFailed(str(error)) from error
    finally:
        image.unlink()


def our_thick(volume: WritableVolume, mib: int) -> None:
    volume.create("/disk")
    data = memoryview(bytes(range(256)) * (MIB // 256))
    with volume.open_for_write("/disk") as file:
        file.reserve(mib * MIB, Provision.THICK)
        for number in range(mib):
            file.write(number * MIB, [data])
        file.sync()


def our_files(volume: WritableVolume, count: int) -> None:
    volume.mkdir("/many")
    data = memoryview(bytes(SMALL_BYTES))
    for number in range(count):
        path = f"/many/file-{number:05}"
        volume.create(path)
        with volume.open_for_write(path) as file:
            file.write(0, [data])
    volume.sync()


# ext4 through FUSE


def write_theirs(folder: Path, what: str, count: int) -> float:
    """Seconds. Raises RunFailed."""
    image = new_image(folder / "theirs.img", count if what == "thick" else 0)
    try:
        run([str(shutil.which("mkfs.ext4")), "-q", "-F", str(image)])
        with mounted(image, folder / "mounted") as mount:
            answer = run([sys.executable, str(WRITER), what, str(mount), str(count)])
            return float(json.loads(answer)["seconds"])
    finally:
        image.unlink()


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    run([FUSE2FS, str(image), str(at), "-o", "rw"])
    try:
        yield at
    finally:
        subprocess.run(["fusermount", "-u", at], capture_output=True, timeout=TIMEOUT_S, check=False)


def their_thick(folder: Path, mib: int) -> None:
    data = bytes(range(256)) * (MIB // 256)
    fd = os.open(folder / "disk", os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 0, mib * MIB)
    for number in range(mib):
        os.pwrite(fd, data, number * MIB)
    os.fsync(fd)
    os.close(fd)


def their_files(folder: Path, count: int) -> None:
    (folder / "many").mkdir()
    data = bytes(SMALL_BYTES)
    for number in range(count):
        fd = os.open(folder / "many" / f"file-{number:05}", os.O_CREAT | os.O_WRONLY)
        os.pwrite(fd, data, 0)
        os.close(fd)
    fd = os.open(folder / "many", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def main(what: str, folder: str, count: str) -> None:
    """Write into a mounted file system, and say how long it took."""
    start = time.perf_counter()
    (their_thick if what == "thick" else their_files)(Path(folder), int(count))
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
