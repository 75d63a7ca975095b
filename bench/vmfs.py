"""Reading VMFS volumes beside vmfs-tools and dissect.vmfs: one large file, and a directory of many.

The volume is made once, by ourselves, in the folder for temporary files: on a disk of the host, as volumes are, and in
its page cache. (A tmpfs of 4 KiB pages gives half the rate of a file system with larger folios, which is then all that
is measured.) The large file is half holes, a MiB of each in turn, and is read to nowhere, warm, in MiBs; `pread` reads
a host file of the same bytes. debugvmfs is a whole command, since it can nothing else. A listing opens the volume and
gives name, size, mode and time of every file. Checksums must agree where a contender gives one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.disks import MIB, OURS, add_rows, can_import, in_turn, is_quick, run
from bench.plan import Plan
from bench.transcript import RunFailed
from ringfence.errors import RingfenceError
from vmkernel.storage.vmfs3.mkfs import format_volume
from vmkernel.storage.vmfs3.writable import WritableVolume, open_for_writing

DISSECT, DEBUGVMFS, VMFS_FUSE, PREAD = "dissect", "debugvmfs", "vmfs-fuse", "pread"
READER = Path(__file__).with_name("vmfs_reader.py")
PROGRAMS = "/usr/sbin:/sbin:/usr/local/sbin"
FILE_MIB, QUICK_FILE_MIB = 2048, 128
FILES, QUICK_FILES = 10_000, 300
BIG, MANY = "/big", "/many"
SPARE_MIB = 1536  # for the volume's own files
TIMEOUT_S = 300

# must and aim beside each peer
READ_TARGETS: dict[str, tuple[float | None, float | None]] = {
    DISSECT: (3.0, None), VMFS_FUSE: (1.0, None), DEBUGVMFS: (None, None), PREAD: (None, 1.0),
}  # fmt: skip
LIST_TARGETS: dict[str, tuple[float | None, float | None]] = {
    DISSECT: (5.0, 20.0), VMFS_FUSE: (None, None), DEBUGVMFS: (None, None),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scene:
    """The files of one run, and who can read them: `tools` are paths of programs."""

    folder: Path
    size_mib: int
    files: int
    tools: dict[str, str]
    has_dissect: bool

    @property
    def image(self) -> Path:
        return self.folder / "volume.img"

    @property
    def bare(self) -> Path:
        """What the large file holds, as a file of the host."""
        return self.folder / "bare"

    @property
    def mount(self) -> Path:
        return self.folder / "mounted"

    def readers(self) -> list[str]:
        return [OURS, *([DISSECT] if self.has_dissect else []), *self.tools]


def find_tools(plan: Plan) -> dict[str, str]:
    """debugvmfs, and vmfs-fuse where it may mount."""
    found = {}
    for name in (DEBUGVMFS, VMFS_FUSE):
        path = shutil.which(name) or shutil.which(name, path=PROGRAMS)
        if path is None:
            plan.notes.append(f"vmfs: {name} is left out: it is not installed (Debian's package vmfs-tools)")
        elif name == VMFS_FUSE and (not Path("/dev/fuse").exists() or shutil.which("fusermount") is None):
            plan.notes.append(f"vmfs: {name} is left out: /dev/fuse or fusermount is missing")
        else:
            found[name] = path
    return found


def make(scene: Scene) -> None:
    """Raises RingfenceError."""
    with scene.image.open("wb") as image:
        image.truncate((scene.size_mib + SPARE_MIB) * MIB)
    format_volume([scene.image], label="bench")
    scene.bare.touch()
    with open_for_writing([scene.image]) as volume:
        write_big(volume, scene)
        volume.mkdir(MANY)
        for number in range(scene.files):
            volume.create(f"{MANY}/file-{number:05}")


def write_big(volume: WritableVolume, scene: Scene) -> None:
    volume.create(BIG)
    pattern = os.urandom(MIB)
    with volume.open_for_write(BIG) as file, scene.bare.open("r+b") as bare:
        file.truncate(scene.size_mib * MIB)
        bare.truncate(scene.size_mib * MIB)
        for number in range(0, scene.size_mib, 2):
            data = number.to_bytes(8, "little") + pattern[8:]
            file.write(number * MIB, [memoryview(data)])
            os.pwrite(bare.fileno(), data, number * MIB)


@contextmanager
def mounted(scene: Scene) -> Iterator[None]:
    """As long as vmfs-fuse takes part. Raises RunFailed."""
    if VMFS_FUSE not in scene.tools:
        yield
        return
    scene.mount.mkdir()
    run([scene.tools[VMFS_FUSE], str(scene.image), str(scene.mount)])
    try:
        yield
    finally:
        subprocess.run(["fusermount", "-u", scene.mount], capture_output=True, timeout=TIMEOUT_S, check=False)


def read_by(scene: Scene, who: str, what: str) -> tuple[float, int | None]:
    """(seconds, checksum; None where the contender gives none). Raises RunFailed."""
    path = BIG if what == "read" else MANY
    if who == DEBUGVMFS:
        return command(scene, ["cat", path] if what == "read" else ["ls", "-l", path]), None
    image = {VMFS_FUSE: scene.mount, PREAD: scene.bare}.get(who, scene.image)
    answer = json.loads(run([sys.executable, str(READER), who, what, str(image), path]))
    # vmfs-fuse adds bits to the mode that the others leave out
    return float(answer["seconds"]), None if what == "list" and who == VMFS_FUSE else int(answer["checksum"])


def command(scene: Scene, words: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(
        [scene.tools[DEBUGVMFS], scene.image, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RunFailed(f"{DEBUGVMFS}: status {done.returncode}")
    return time.perf_counter() - start


def measure(plan: Plan) -> None:
    quick = is_quick(plan)
    size_mib, files = (QUICK_FILE_MIB, QUICK_FILES) if quick else (FILE_MIB, FILES)
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as folder:
        scene = Scene(Path(folder), size_mib, files, find_tools(plan), can_import(sys.executable, "dissect.vmfs"))
        if not scene.has_dissect:
            plan.notes.append("vmfs: dissect is left out: it is not installed (dissect.vmfs)")
        plan.say("vmfs: making a volume")
        try:
            make(scene)
        except RingfenceError as error:
            raise RunFailed(f"vmfs: {error}") from error
        os.sync()  # the host writes nothing to its disk while something is measured
        with mounted(scene):
            names = scene.readers()
            in_turn(plan, "vmfs.read", [*names, PREAD], lambda who: read_by(scene, who, "read"), warm=True)
            add_rows(plan, "vmfs.read", "MB/s", size_mib * MIB / 1e6, READ_TARGETS)
            in_turn(plan, "vmfs.list", names, lambda who: read_by(scene, who, "list"), warm=True)
            add_rows(plan, "vmfs.list", "files/s", files, LIST_TARGETS)
