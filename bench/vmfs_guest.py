"""A Linux guest's ext4 on a disk of a VMFS volume, beside the same disk on a directory: `disk_load.c` again.

    vmfs.guest.sequential_read ... vmfs.guest.random_write    the loads of bench.disk_guest

A flat VMDK each, whose blocks have all been written, both in memory where there is room; the volume is an image there.
The engine is ours, the fastest of this host: both sides are the same program, so what differs is the way to the bytes.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bench import disk_guest, disks, linux
from bench.linux_user import Outcomes, loads
from bench.peers import Ringfence
from bench.plan import Plan
from bench.rows import Better, compare_runs
from bench.transcript import RunFailed
from ringfence.errors import RingfenceError
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
DISK = "guest.vmdk"


def make_homes(folder: Path, disk: Path) -> dict[str, Place]:
    """Where each disk is to be, by name."""
    image, beside = folder / "volume.img", folder / "beside"
    beside.mkdir()
    with image.open("wb") as file:
        file.truncate(VOLUME_MIB * disks.MIB)
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


def renew(disk: Path, used: Path) -> None:
    """What it was at first: a guest has written to it."""
    view = memoryview(bytearray(disks.MIB))
    with open_disk(disk) as source, open_disk(resolve(str(used)), writable=True) as target:
        for offset in range(0, source.size_bytes, disks.MIB):
            part = [view[: min(disks.MIB, source.size_bytes - offset)]]
            source.read(offset, part)
            target.write(offset, part)
    close_volumes()


def contenders(plan: Plan, engine: Ringfence, disk: Path, homes: dict[str, Place]) -> dict[str, linux.Contender]:
    """How the guest does on each. Raises PackagesUnavailable, BuildFailed."""
    outcomes = Outcomes()
    started = disk_guest.boot("mptspi", disk_guest.QUICK_PART if disks.is_quick(plan) else 1)

    def on(home: Place) -> linux.Contender:
        used = Path(str(home / DISK))

        def seconds() -> dict[str, float]:
            renew(disk, used)
            found = outcomes.seconds(loads(disk_guest.run_ours(engine, started, used)))
            return {name.replace("linux.", "vmfs.guest."): took for name, took in found.items()}

        return seconds

    return {name: on(home) for name, home in homes.items()}


def measure(plan: Plan) -> None:
    if shutil.which(disk_guest.MKE2FS) is None:
        plan.notes.append(f"left out: vmfs.guest: {disk_guest.MKE2FS} is not here (Debian's package e2fsprogs)")
        return
    room_mib = 3 * disk_guest.DISK_MIB
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-", dir=disks.place(room_mib)) as folder:
        try:
            disk = disk_guest.make_disk(Path(folder))
            homes = make_homes(Path(folder), disk)
            found = contenders(plan, plan.engines[-1], disk, homes)
        except (RingfenceError, RunFailed) as error:
            plan.notes.append(f"left out: vmfs.guest: {error}")
            return
        linux.interleave(plan, "vmfs guest", found, plan.effort.boots)
        close_volumes()
    for load in disk_guest.LOADS if len(found) == len(homes) else ():
        name = f"vmfs.guest.{load}"
        ours, theirs = plan.kept(name, VOLUME), plan.kept(name, DIRECTORY)
        plan.rows.append(compare_runs(name, "s", Better.LOW, ours, theirs, DIRECTORY, MUST, AIM))
