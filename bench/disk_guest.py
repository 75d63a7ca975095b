"""A Linux guest's ext4 on a SCSI disk, beside QEMU's translator with its LSI adapter: `disk_load.c` in the guest.

    disks.guest.sequential_read    a file, through the guest's page cache
    disks.guest.sequential_write   another, and fsync
    disks.guest.random_read        4 KiB at a time, past the page cache, one request after the other
    disks.guest.random_read_4      the same by four processes
    disks.guest.random_write       over the first file, and fsync

The disk is the same monolithicSparse VMDK for both, copied anew for each boot into the folder for temporary files: on a
disk of the host, and in its page cache.
Ours is on the LSI Logic 53C1030, which QEMU does not have; its own is the SAS1068 of the same family and driver. The
time is that of the host between two lines on the serial port, as in bench.linux_user.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench import disks, guest_load, linux
from bench.linux_user import Outcomes, loads
from bench.peers import QEMU, ROOT, Ringfence, Tcg
from bench.plan import Plan
from bench.transcript import RunFailed, Transcript, record
from ringfence.errors import RingfenceError
from tests.realguests import fetch, iso
from vmkernel.storage.convert import convert
from vmkernel.storage.create import Kind
from vmkernel.storage.formats import open_image

LOADS = ("sequential_read", "sequential_write", "random_read", "random_read_4", "random_write")
PROGRAM = "disk_load"
DISK_MIB, DATA_MIB = 512, 128
READS, WRITES, WRITTEN_MIB = 8000, 4000, 64
QUICK_PART = 20  # of these
MODULES = "sd_mod,crc32c_generic,ext4"
APPEND = "mods={driver},{modules} settle=0 checks={program} end=reboot reads={reads} writes={writes} mib={mib}"
MKE2FS = "mke2fs"
SAS_ADDRESS = "0x5000c50015ea71aa"  # Linux's driver passes over a disk without one
MUST, AIM = 0.5, 1.0
TIMEOUT_S = 900.0


def boot(driver: str, part: int = 1) -> iso.Boot:
    """The kernel with the program in its root file system. Raises PackagesUnavailable, BuildFailed."""
    append = APPEND.format(
        driver=driver, modules=MODULES, program=PROGRAM, reads=READS // part, writes=WRITES // part,
        mib=WRITTEN_MIB // part,
    )  # fmt: skip
    plain = fetch.boot_files(linux.FLAVOUR, append)
    return iso.Boot(plain.kernel, guest_load.with_program(PROGRAM, linux.FLAVOUR, plain.initrd), plain.append)


def make_disk(folder: Path) -> Path:
    """An ext4 file system with a file of noise. Raises RunFailed."""
    tree, raw, disk = folder / "tree", folder / "ext4.raw", folder / "ext4.vmdk"
    tree.mkdir()
    chance = random.Random(1)
    with (tree / "data").open("wb") as file:
        for _ in range(DATA_MIB):
            file.write(chance.randbytes(disks.MIB))
    disks.run([MKE2FS, "-q", "-t", "ext4", "-d", str(tree), str(raw), f"{DISK_MIB}M"])
    with open_image(raw) as source:
        convert(source, disk, Kind.MONOLITHIC_SPARSE)
    raw.unlink()
    shutil.rmtree(tree)
    return disk


def run_ours(ours: Ringfence, started: iso.Boot, disk: Path) -> Transcript:
    command = [*ours.command(), "--mem", str(linux.MEMORY_MIB), "--no-reboot", "--scsi", str(disk)]
    command += [f"-{word}" if word.startswith("-") else word for word in linux.direct(started)]
    return record(command, TIMEOUT_S, folder=ROOT, is_last=linux.is_last)


def run_tcg(started: iso.Boot, disk: Path) -> Transcript:
    command = [QEMU, "-accel", "tcg", "-m", str(linux.MEMORY_MIB), *linux.direct(started), "-serial", "stdio"]
    command += ["-display", "none", "-monitor", "none", "-no-reboot", "-nodefaults", "-vga", "std"]
    command += ["-device", "mptsas1068,id=sas", "-device", f"scsi-hd,drive=disk,bus=sas.0,wwn={SAS_ADDRESS}"]
    command += ["-drive", f"if=none,id=disk,file={disk},format=vmdk"]
    return record(command, TIMEOUT_S, is_last=linux.is_last)


def contenders(plan: Plan, disk: Path) -> dict[str, linux.Contender]:
    """How each does it, by name. Raises PackagesUnavailable, BuildFailed."""
    outcomes = Outcomes()
    part = QUICK_PART if disks.is_quick(plan) else 1

    def fresh() -> Path:
        return Path(shutil.copyfile(disk, disk.with_name("guest.vmdk")))

    def seconds(transcript: Transcript) -> dict[str, float]:
        found = outcomes.seconds(loads(transcript))
        return {name.replace("linux.", "disks.guest."): took for name, took in found.items()}

    def by(engine: Ringfence) -> linux.Contender:
        return lambda: seconds(run_ours(engine, ours, fresh()))

    ours, theirs = boot("mptspi", part), boot("mptsas", part)
    found = {engine.name: by(engine) for engine in engines(plan)}
    if plan.peers.tcg:
        found[Tcg.name] = lambda: seconds(run_tcg(theirs, fresh()))
    return found


def engines(plan: Plan) -> Iterable[Ringfence]:
    """The reference only where it is alone."""
    return plan.others or plan.engines


def asked(engine: Ringfence, peer: str) -> linux.Goal:
    return (MUST, AIM) if peer == Tcg.name else (None, None)


def measure(plan: Plan) -> None:
    if shutil.which(MKE2FS) is None:
        plan.notes.append(f"left out: disks.guest: {MKE2FS} is not here (Debian's package e2fsprogs)")
        return
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as folder:
        try:
            found = contenders(plan, make_disk(Path(folder)))
        except (RingfenceError, RunFailed) as error:
            plan.notes.append(f"left out: disks.guest: {error}")
            return
        linux.interleave(plan, "disks guest", found, plan.effort.boots)
    for load in LOADS:
        linux.add_rows(plan, f"disks.guest.{load}", found, asked)
