"""Committing a redo log beside qemu-img: a link over a sparse disk of 10 GiB that holds grains all over it.

    disks.commit.sparse    the link is a hosted sparse one, as desktop products make them
    disks.commit.redo      it is COWD, as ESX makes it

Whole commands, on files copied anew for each repetition; both keep to what was read of the link before, which is
compared once. qemu-img is spared emptying the link afterwards (-d); ours removes it.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench import disks
from bench.disks import MIB, OURS, QEMU
from bench.plan import Plan
from bench.transcript import RunFailed
from ringfence.errors import RingfenceError
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create, create_child

DISK_BYTES = 10 << 30
GRAIN_BYTES = 64 << 10
GRAINS, QUICK_GRAINS = 8192, 128
FORMS = {"sparse": Kind.MONOLITHIC_SPARSE, "redo": Kind.VMFS_SPARSE}
TARGETS: tuple[float | None, float | None] = (None, None)


def make_link(folder: Path, kind: Kind, grains: int) -> None:
    """base.vmdk, and link.vmdk over it with grains of noise at equal distances."""
    base, link = folder / "base.vmdk", folder / "link.vmdk"
    create(base, Kind.MONOLITHIC_SPARSE, DISK_BYTES)
    create_child(link, base, kind, grain_sectors=GRAIN_BYTES // 512)
    chance = random.Random(1)
    step = DISK_BYTES // grains // GRAIN_BYTES * GRAIN_BYTES
    with open_disk(link, writable=True) as disk:
        for number in range(grains):
            disk.write(number * step, [memoryview(chance.randbytes(GRAIN_BYTES))])


def fresh(made: Path, into: Path) -> None:
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(made, into)


def command(by: str, qemu: str, link: Path) -> list[str]:
    if by == QEMU:
        return [qemu, "commit", "-q", "-d", "-t", "writeback", "-f", "vmdk", str(link)]
    return [sys.executable, "-m", "tools.ringfence", "disk", "commit", str(link)]


def measure_form(plan: Plan, form: str, qemu: str, folder: Path, grains: int) -> None:
    made, name = folder / form, f"disks.commit.{form}"
    made.mkdir()
    make_link(made, FORMS[form], grains)

    def once(by: str) -> tuple[float, int | None]:
        fresh(made, folder / by)
        start = time.perf_counter()
        disks.run(command(by, qemu, folder / by / "link.vmdk"))
        return time.perf_counter() - start, None

    disks.in_turn(plan, name, [OURS, *([QEMU] if qemu else [])], once, warm=True)
    disks.add_rows(plan, name, "MB/s", grains * GRAIN_BYTES / 1e6, {QEMU: TARGETS})
    if qemu and plan.kept(name, OURS):
        judge(plan, name, qemu, made / "link.vmdk", folder / OURS / "base.vmdk")


def judge(plan: Plan, name: str, qemu: str, before: Path, after: Path) -> None:
    """By qemu-img: our base shows what the link showed."""
    try:
        disks.run([qemu, "compare", "-f", "vmdk", "-F", "vmdk", str(before), str(after)])
    except RunFailed as error:
        plan.errors.append(f"{name}: {error}")


def measure(plan: Plan) -> None:
    qemu = shutil.which(QEMU) or ""
    grains = QUICK_GRAINS if disks.is_quick(plan) else GRAINS
    room_mib = grains * GRAIN_BYTES // MIB
    for form in FORMS:
        with tempfile.TemporaryDirectory(prefix="ringfence-bench-", dir=disks.place(room_mib)) as folder:
            try:
                measure_form(plan, form, qemu, Path(folder), grains)
            except RingfenceError as error:
                raise RunFailed(f"disks.commit: {error}") from error
