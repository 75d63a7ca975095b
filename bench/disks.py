"""Virtual disks beside qemu-img, libvmdk and dissect: reading, single small reads, conversion, opening.

The same files, made once: a quarter each of holes, stored zeros, text, and bytes that do not compress. They lie in
memory (/dev/shm) where there is room, so that the programs are measured and not the host's disk. Readers are programs
of their own that time their reads from within; QEMU's is `qemu-img bench`, one read after the other like the others.
Conversions are whole commands; qemu-img flushes what it wrote (-t writeback), as we do. Checksums must agree.
Everyone has gone through the files once before the first repetition: a virtual host may have to find the memory, and
Python compiles what it loads for the first time, as an installation does.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.plan import QUICK, Plan
from bench.rows import Better, absolute, compare_runs, median
from bench.transcript import RunFailed
from ringfence.errors import RingfenceError
from vmkernel.storage.chain import open_disk
from vmkernel.storage.convert import convert
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.formats import Plain, Target, open_image

OURS, QEMU, PYVMDK, DISSECT, PREAD = "ours", "qemu-img", "pyvmdk", "dissect", "pread"
QEMU_IO, OPENING = "qemu-io", "disks.open_2tib"
READER = Path(__file__).with_name("disk_reader.py")
ROOT = READER.parent.parent
PYTHONS = (sys.executable, "/usr/bin/python3")  # a distribution's libvmdk is for its own Python
MIB = 1 << 20
IMAGE_MIB, QUICK_IMAGE_MIB = 1024, 32
STREAM_SHARE, PACKED_SHARE = 2, 8  # of the image: what is read as a stream, what is made one
CHAIN_SHARE = 32  # what is read of a chain, which takes QEMU long
SHORT_FORMS = ("sparse", "flat")  # what takes no longer to read than a copy in memory takes
PASSES, PAIRS = 2, 5  # over those, and so many times the repetitions: what a host does to one moment is not the row's
RANDOM_READS, QUICK_RANDOM_READS = 100_000, 2_000
HUGE_BYTES = (2 << 40) - (64 << 30)
MEMORY = Path("/dev/shm")
ROOM = 10  # times the image
TIMEOUT_S = 300
FORMS = ("sparse", "flat", "chain", "stream")
BENCH_SECONDS = re.compile(r"Run completed in ([0-9.]+) seconds")

# must and aim beside each peer
READ_TARGETS: dict[str, tuple[float | None, float | None]] = {
    QEMU: (0.8, 1.2), PYVMDK: (1.0, None), DISSECT: (1.0, None),
}  # fmt: skip
STREAM_TARGETS: dict[str, tuple[float | None, float | None]] = {
    QEMU: (0.8, 1.2), PYVMDK: (1.0, None), DISSECT: (1.0, 3.0),
}  # fmt: skip
CALL_TARGETS: dict[str, tuple[float | None, float | None]] = {PYVMDK: (1.2, None), DISSECT: (1.0, None)}
CONVERT_TARGETS = (0.8, 1.5)
BATCH_TARGETS = (None, 1.0)


@dataclass(frozen=True, slots=True)
class Contenders:
    """Who can read: by name, the Python that has it. `qemu` is a command."""

    pythons: dict[str, str]
    qemu: str | None

    def readers(self) -> list[str]:
        return [*self.pythons, *([QEMU] if self.qemu else [])]


def find_contenders(plan: Plan) -> Contenders:
    pythons = {OURS: sys.executable}
    for name, module, package in (
        (PYVMDK, "pyvmdk", "python3-libvmdk"),
        (DISSECT, "dissect.hypervisor", "dissect.hypervisor"),
    ):
        found = next((python for python in PYTHONS if can_import(python, module)), None)
        if found:
            pythons[name] = found
        else:
            plan.notes.append(f"disks: {name} is left out: no Python here has it (package {package})")
    qemu = shutil.which(QEMU)
    if qemu is None:
        plan.notes.append(f"disks: {QEMU} is left out: it is not installed (Debian's package qemu-utils)")
    return Contenders(pythons, qemu)


def can_import(python: str, module: str) -> bool:
    if not Path(python).exists():
        return False
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


# what is read


def make_image(path: Path, size_mib: int) -> None:
    """Bare sectors: holes, stored zeros, text, noise, a MiB of each in turn."""
    chance = random.Random(1)
    words = [chance.randbytes(chance.randrange(2, 9)).hex().encode() for _ in range(2000)]
    with path.open("wb") as file:
        for number in range(size_mib):
            kind = number % 4
            if kind == 0:
                file.seek(MIB, os.SEEK_CUR)
            elif kind == 1:
                file.write(bytes(MIB))
            elif kind == 2:
                file.write(b" ".join(chance.choices(words, k=120_000))[:MIB].ljust(MIB, b"."))
            else:
                file.write(chance.randbytes(MIB))
        file.truncate(size_mib * MIB)


@dataclass(frozen=True, slots=True)
class Disks:
    """The files of one run."""

    folder: Path
    size_mib: int

    @property
    def bare(self) -> Path:
        return self.folder / "disk.raw"

    def of(self, form: str) -> Path:
        return self.folder / f"{form}.vmdk"

    @property
    def packed(self) -> Path:
        """Bare sectors that are made a stream."""
        return self.folder / "packed.raw"

    def mib(self, form: str) -> int:
        """How much of it is read."""
        return self.size_mib // {"stream": STREAM_SHARE, "chain": CHAIN_SHARE}.get(form, 1)


def make_disks(disks: Disks) -> None:
    make_image(disks.bare, disks.size_mib)
    make_image(disks.packed, disks.size_mib // PACKED_SHARE)
    make_image(half := disks.folder / "half.raw", disks.mib("stream"))
    made: tuple[tuple[str, Target, Path], ...] = (
        ("sparse", Kind.MONOLITHIC_SPARSE, disks.bare), ("flat", Kind.THICK, disks.bare),
        ("base", Kind.THICK, disks.bare), ("stream", Plain.STREAM, half),
    )  # fmt: skip
    for name, kind, source in made:
        with open_image(source) as disk:
            convert(disk, disks.of(name), kind)
    make_chain(disks)
    create(disks.of("huge"), Kind.MONOLITHIC_SPARSE, HUGE_BYTES)


def make_chain(disks: Disks) -> None:
    """Three redo logs over a flat disk; each rewrites a part of it with what it held before."""
    parent = disks.of("base")
    for number in range(3):
        child = disks.of("chain" if number == 2 else f"chain{number}")
        create_child(child, parent)
        with open_disk(child, writable=True) as disk, open_image(disks.bare) as bare:
            view = memoryview(bytearray(64 << 10))
            for at in range(number * len(view), disk.size_bytes - len(view), 8 * len(view)):
                bare.read(at, [view])
                disk.write(at, [view])
        parent = child


# measuring


def read_by(
    who: Contenders, name: str, what: str, path: Path, count: int, passes: int = 1
) -> tuple[float, int | None]:
    """(seconds of a pass, checksum; None where the contender gives none). Raises RunFailed."""
    if name == QEMU:  # begins again where the disk ends
        words = ["bench", "-c", str(count * passes), "-d", "1", "-s", str(MIB), "-f", "vmdk", str(path)]
        found = BENCH_SECONDS.search(run([str(who.qemu), *words]))
        if not found:
            raise RunFailed("qemu-img bench did not say how long it took")
        return float(found[1]) / passes, None
    python = who.pythons.get(name, sys.executable)
    answer = json.loads(run([python, str(READER), name, what, str(path), str(count), str(passes)]))
    return float(answer["seconds"]), int(answer["checksum"])


def run(command: Sequence[str]) -> str:
    """Its output. Raises RunFailed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunFailed(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RunFailed(f"{Path(command[0]).name}: {lines[-1] if lines else f'status {done.returncode}'}")
    return done.stdout


def in_turn(
    plan: Plan, measure_name: str, names: Sequence[str], once: Callable[[str], tuple[float, int | None]],
    *, warm: bool = False, times: int = 1,
) -> None:  # fmt: skip
    """Repetitions in turn, each begun by another. One that fails is left out with a note; ours, or another checksum,
    is an error. `warm`: a first one does not count. `times` as many repetitions as the plan has.
    """
    left, checks = list(names), {}
    repetitions = times * plan.effort.by_host_repetitions  # programs that start anew each time: it takes long
    for repetition in range(-1 if warm else 0, repetitions):
        for name in [*left[repetition % len(left) :], *left[: repetition % len(left)]] if left else []:
            plan.say(f"{measure_name} {repetition + 1}/{repetitions}: {name}")
            try:
                seconds, checksum = once(name)
            except RunFailed as error:
                (plan.errors if name == OURS else plan.notes).append(f"{measure_name}: {name}: {error}")
                left.remove(name)
                continue
            if repetition >= 0:
                plan.keep(measure_name, name, seconds)
            if checksum is not None:
                checks[name] = checksum
    for name, checksum in checks.items():
        if checksum != checks.get(OURS, checksum):
            plan.errors.append(f"{measure_name}: {name} read something else than we did")


def add_rows(
    plan: Plan, measure_name: str, unit: str, amount: float, targets: dict[str, tuple[float | None, float | None]]
) -> None:
    """Rates: `amount` over the seconds."""
    ours = [amount / seconds for seconds in plan.kept(measure_name, OURS)]
    for peer, (must, aim) in targets.items():
        theirs = [amount / seconds for seconds in plan.kept(measure_name, peer)]
        if ours and theirs:
            plan.rows.append(compare_runs(measure_name, unit, Better.HIGH, ours, theirs, peer, must, aim))


def measure_reading(plan: Plan, who: Contenders, disks: Disks) -> None:
    for form in FORMS:
        name, count = f"disks.read.{form}", disks.mib(form)
        passes, times = (PASSES, PAIRS) if form in SHORT_FORMS else (1, 1)

        def once(reader: str, form: str = form, count: int = count, passes: int = passes) -> tuple[float, int | None]:
            return read_by(who, reader, "sequential", disks.of(form), count, passes)

        in_turn(plan, name, who.readers(), once, warm=passes > 1, times=times)
        add_rows(plan, name, "MB/s", count * MIB / 1e6, STREAM_TARGETS if form == "stream" else READ_TARGETS)


def measure_small_reads(plan: Plan, who: Contenders, disks: Disks) -> None:
    count = QUICK_RANDOM_READS if is_quick(plan) else RANDOM_READS
    in_turn(
        plan, "disks.random.call", list(who.pythons),
        lambda name: read_by(who, name, "random", disks.of("sparse"), count),
    )  # fmt: skip
    add_rows(plan, "disks.random.call", "reads/s", count, CALL_TARGETS)

    def once(name: str) -> tuple[float, int | None]:
        if name == PREAD:
            return read_by(who, PREAD, "random", disks.bare, count)
        return read_by(who, OURS, "batch", disks.of("sparse"), count)

    in_turn(plan, "disks.random.batch", [OURS, PREAD], once, warm=True)
    add_rows(plan, "disks.random.batch", "reads/s", count, {PREAD: BATCH_TARGETS})


def measure_conversion(plan: Plan, who: Contenders, disks: Disks) -> None:
    """Whole commands, with what it takes to start them."""
    rows = (
        ("raw_to_sparse", disks.bare, "monolithicSparse"), ("raw_to_stream", disks.packed, "streamOptimized"),
        ("sparse_to_raw", disks.of("sparse"), "raw"), ("stream_to_raw", disks.of("stream"), "raw"),
    )  # fmt: skip
    for title, source, form in rows:
        name = f"disks.convert.{title}"
        out = disks.folder / ("out.raw" if form == "raw" else "out.vmdk")

        def once(by: str, source: Path = source, form: str = form, out: Path = out) -> tuple[float, int | None]:
            out.unlink(missing_ok=True)
            command = our_command(source, form, out) if by == OURS else qemu_command(who, source, form, out)
            start = time.perf_counter()
            run(command)
            return time.perf_counter() - start, None

        in_turn(plan, name, [OURS, *([QEMU] if who.qemu else [])], once, warm=True)
        add_rows(plan, name, "MB/s", source_bytes(source) / 1e6, {QEMU: CONVERT_TARGETS})
        if who.qemu and out.exists():
            judge(plan, who, name, source, out)


def our_command(source: Path, form: str, out: Path) -> list[str]:
    return [sys.executable, "-m", "tools.ringfence", "disk", "convert", str(source), str(out), "--to", form]


def qemu_command(who: Contenders, source: Path, form: str, out: Path) -> list[str]:
    target = ["raw"] if form == "raw" else ["vmdk", "-o", f"subformat={form}"]
    given = "raw" if source.suffix == ".raw" else "vmdk"
    return [str(who.qemu), "convert", "-t", "writeback", "-f", given, "-O", *target, str(source), str(out)]


def source_bytes(source: Path) -> int:
    with open_image(source) as disk:
        return disk.size_bytes


def judge(plan: Plan, who: Contenders, name: str, source: Path, out: Path) -> None:
    """Ours once more, held against its source by qemu-img."""
    out.unlink()
    forms = ["raw" if path.suffix == ".raw" else "vmdk" for path in (source, out)]
    try:
        form = {"raw": "raw"}.get(forms[1], "streamOptimized" if "stream" in name else "monolithicSparse")
        run(our_command(source, form, out))
        run([str(who.qemu), "compare", "-f", forms[0], "-F", forms[1], str(source), str(out)])
    except RunFailed as error:
        plan.errors.append(f"{name}: {error}")


def measure_opening(plan: Plan, who: Contenders, disks: Disks) -> None:
    """A sparse disk of nearly 2 TiB, from its name to its first bytes: in a library that is loaded; by a command."""
    path = disks.of("huge")
    in_turn(plan, OPENING, list(who.pythons), lambda reader: read_by(who, reader, "open", path, 1), warm=True)
    add_times(plan, OPENING, "ms", 1000)
    at = str(HUGE_BYTES // 2)
    commands = {OURS: [sys.executable, "-m", "tools.ringfence", "disk", "hexdump", str(path), at, "4k"]}
    if qemu_io := shutil.which(QEMU_IO):
        commands[QEMU_IO] = [qemu_io, "-r", "-f", "vmdk", "-c", f"read {at} 4k", str(path)]

    def once(by: str) -> tuple[float, int | None]:
        start = time.perf_counter()
        run(commands[by])
        return time.perf_counter() - start, None

    in_turn(plan, f"{OPENING}.command", list(commands), once, warm=True)
    add_times(plan, f"{OPENING}.command", "ms", 1000)


def add_times(plan: Plan, measure_name: str, unit: str, scale: float) -> None:
    """Ours by itself, and beside each peer."""
    ours = [scale * seconds for seconds in plan.kept(measure_name, OURS)]
    if not ours:
        return
    plan.rows.append(absolute(measure_name, unit, median(ours)))
    for peer in (QEMU_IO, PYVMDK, DISSECT):
        theirs = [scale * seconds for seconds in plan.kept(measure_name, peer)]
        if theirs:
            plan.rows.append(compare_runs(measure_name, unit, Better.LOW, ours, theirs, peer))


def is_quick(plan: Plan) -> bool:
    return plan.effort.device_count <= QUICK.device_count


def place(size_mib: int) -> str | None:
    """A folder in memory, if there is one with room."""
    try:
        return str(MEMORY) if shutil.disk_usage(MEMORY).free > ROOM * size_mib * MIB else None
    except OSError:
        return None


def measure(plan: Plan) -> None:
    who = find_contenders(plan)
    size_mib = QUICK_IMAGE_MIB if is_quick(plan) else IMAGE_MIB
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-", dir=place(size_mib)) as folder:
        disks = Disks(Path(folder), size_mib)
        plan.say("disks: making them")
        try:
            make_disks(disks)
        except RingfenceError as error:
            raise RunFailed(f"disks: {error}") from error
        measure_reading(plan, who, disks)
        measure_small_reads(plan, who, disks)
        measure_conversion(plan, who, disks)
        measure_opening(plan, who, disks)
