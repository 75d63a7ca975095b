"""A Linux guest's ext4 on a disk of a VMFS volume, beside the same disk on a directory: `disk_load.c` again.

    vmfs.guest.sequential_read ... vmfs.guest.random_write    the loads of bench.disk_guest

A flat VMDK each, whose blocks have all been written, in the folder for temporary files: on a disk of the host, and in
its page cache. The volume is an image there, which has its host blocks beforehand as the other flat VMDK has. The cache
has both page by page: 4 KiB into a large folio cost ext4 5 to 100 us, as it happened to come in.
The engine is ours, the fastest of this host: both sides are the same program, so what differs is the way to the bytes.
Two boots of the same machine differ by a tenth, which is more than any way to the bytes costs. So one machine has both
disks, and does all loads on one, then on the other, many times over; a row is the median of pairs made in a row. The
volume's heartbeat, 100 us every 3 s, is with both of them.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import disk_guest, disks, linux
from bench.linux_user import Load, loads
from bench.peers import ROOT, Ringfence
from bench.plan import Plan
from bench.rows import Better, compare_runs
from bench.transcript import RunFailed, Transcript, record
from ringfence.errors import RingfenceError
from tests.realguests import iso
from tests.realguests.cache import built
from tests.realguests.initramfs import ALIGN, Cpio
from vmkernel.storage.chain import open_disk
from vmkernel.storage.convert import convert
from vmkernel.storage.create import Kind
from vmkernel.storage.datastores import resolve
from vmkernel.storage.place import Place
from vmkernel.storage.vmfs3.mkfs import format_volume
from vmkernel.storage.vmfs_place import place_in
from vmkernel.storage.vmfs_store import close_volumes

VOLUME, DIRECTORY = "volume", "directory"
MUST, AIM = 0.95, 1.0
VOLUME_MIB = 4 * disk_guest.DISK_MIB
DISK, DISK_BYTES = "guest.vmdk", "guest-flat.vmdk"
IMAGE = "volume.img"
PAGE_BYTES = 4096
PART, PAIRS = 10, 24  # of the loads of bench.disk_guest, and how often on each disk in a boot
SWAP = "swap_disks"
SWAP_SCRIPT = "#!/bin/busybox sh\ncd /dev && mv sda other && mv sdb sda && mv other sdb\n"
INITRAMFS = "initramfs.cpio.gz"
TIMEOUT_S = 900.0

Turns = tuple[list[dict[str, Load]], list[dict[str, Load]]]  # of the first disk and of the second


def make_homes(folder: Path, disk: Path) -> dict[str, Place]:
    """Where each disk is to be, by name."""
    image, beside = folder / IMAGE, folder / DIRECTORY
    beside.mkdir()
    with image.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, VOLUME_MIB * disks.MIB)
    format_volume([image], label="bench")
    homes: dict[str, Place] = {VOLUME: place_in([image], ""), DIRECTORY: beside}
    for home in homes.values():
        put_disk(disk, home)
    close_volumes()
    return {VOLUME: place_in([image], ""), DIRECTORY: beside}


def put_disk(disk: Path, home: Place) -> None:
    """All of it, so that no block is allocated while the guest writes."""
    with open_disk(disk) as source:
        convert(source, home / DISK, Kind.EAGER_ZEROED_THICK)


def host_file(folder: Path, name: str) -> Path:
    """Of the host, that has the bytes of a disk."""
    return folder / IMAGE if name == VOLUME else folder / DIRECTORY / DISK_BYTES


def renew(disk: Path, used: Path, host: Path) -> None:
    """What it was at first: a guest has written to it."""
    forget(host)
    view = memoryview(bytearray(disks.MIB))
    with open_disk(disk) as source, open_disk(resolve(str(used)), writable=True) as target:
        for offset in range(0, source.size_bytes, disks.MIB):
            part = view[: min(disks.MIB, source.size_bytes - offset)]
            source.read(offset, [part])
            for at in range(0, len(part), PAGE_BYTES):
                target.write(offset + at, [part[at : at + PAGE_BYTES]])
        target.flush()
    close_volumes()


def forget(host: Path) -> None:
    """The host's page cache has nothing of this file."""
    with host.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def boot(plan: Plan) -> iso.Boot:
    """The loads in small, on one disk, twice on the other, on the first. Raises PackagesUnavailable, BuildFailed."""
    part, pairs = (disk_guest.QUICK_PART, 1) if disks.is_quick(plan) else (PART, PAIRS)
    once = disk_guest.boot("mptspi", part)
    words = ",".join([f"{disk_guest.PROGRAM},{SWAP},{disk_guest.PROGRAM}"] * pairs)
    append = once.append.replace(f"checks={disk_guest.PROGRAM}", f"checks={words}")
    return iso.Boot(once.kernel, with_script(SWAP, SWAP_SCRIPT, once.initrd), append)


def with_script(name: str, text: str, plain: Path) -> Path:
    """The root file system `plain` and behind it bin/NAME."""

    def build(into: Path) -> None:
        archive = Cpio()
        archive.file(f"bin/{name}", text.encode("ascii"), 0o755)
        first = plain.read_bytes()
        second = gzip.compress(archive.finish(), mtime=0)
        (into / INITRAMFS).write_bytes(first + bytes(-len(first) % ALIGN) + second)

    return built(name.replace("_", "-"), f"{plain} {text}", (), build) / INITRAMFS


def run_on_both(engine: Ringfence, started: iso.Boot, used: Sequence[Path]) -> Turns:
    """Every load as it was done, by disk in the order of `used`. Raises RunFailed."""
    command = [*engine.command(), "--mem", str(linux.MEMORY_MIB), "--no-reboot"]
    for disk in used:
        command += ["--scsi", str(disk)]
    command += [f"-{word}" if word.startswith("-") else word for word in linux.direct(started)]
    return by_disk(record(command, TIMEOUT_S, folder=ROOT, is_last=linux.is_last))


def by_disk(transcript: Transcript) -> Turns:
    """Of the first disk and of the second: the n-th of each are a pair. Raises RunFailed."""
    lines = transcript.lines
    starts = [number for number, line in enumerate(lines) if line.text == f"T: load begin {disk_guest.LOADS[0]}"]
    found: Turns = ([], [])
    for turn, (start, stop) in enumerate(zip(starts, [*starts[1:], len(lines)], strict=True)):
        which = (turn + 1) // 2 % 2  # 0 1 1 0 0 1 1 0 ...
        found[which].append(loads(Transcript(transcript.started_ns, lines[start:stop])))
    return found


def keep(plan: Plan, started: iso.Boot, disk: Path, homes: dict[str, Place], order: Sequence[str]) -> None:
    """One boot into the plan's samples. Raises RunFailed, also where the disks do not come to the same."""
    used = [Path(str(homes[name] / DISK)) for name in order]
    for name, path in zip(order, used, strict=True):
        renew(disk, path, host_file(disk.parent, name))
    for pair in zip(*run_on_both(plan.engines[-1], started, used), strict=True):
        for load in disk_guest.LOADS:
            if len(outcomes := {turn[load].outcome for turn in pair}) > 1:
                raise RunFailed(f"{load} came to {' and '.join(sorted(outcomes))}")
            for name, turn in zip(order, pair, strict=True):
                plan.keep(f"vmfs.guest.{load}", name, turn[load].seconds)


def measure(plan: Plan) -> None:
    if shutil.which(disk_guest.MKE2FS) is None:
        plan.notes.append(f"left out: vmfs.guest: {disk_guest.MKE2FS} is not here (Debian's package e2fsprogs)")
        return
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as folder:
        try:
            disk = disk_guest.make_disk(Path(folder))
            homes, started = make_homes(Path(folder), disk), boot(plan)
        except (RingfenceError, RunFailed) as error:
            plan.notes.append(f"left out: vmfs.guest: {error}")
            return
        try:
            for number in range(plan.effort.boots):
                plan.say(f"vmfs guest {number + 1}/{plan.effort.boots}")
                keep(plan, started, disk, homes, list(homes) if number % 2 else list(homes)[::-1])
        except RunFailed as error:
            plan.errors.append(f"vmfs guest: {error}")
            return
        finally:
            close_volumes()
    for load in disk_guest.LOADS:
        name = f"vmfs.guest.{load}"
        ours, theirs = plan.kept(name, VOLUME), plan.kept(name, DIRECTORY)
        plan.rows.append(compare_runs(name, "s", Better.LOW, ours, theirs, DIRECTORY, MUST, AIM))
