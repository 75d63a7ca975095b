"""A disk target before initiators that others wrote: libiscsi's conformance suite, and QEMU's block layer."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hw.scsi.disk import Disk, DiskProfile, DiskState
from hw.scsi.target import Target
from tests.hw.scsi.initiator import BLOCK, AtOnce, MemoryBacking, Person
from tests.hw.scsi.iscsi import Server

TIMEOUT_S = 120
PROFILE = DiskProfile(
    uuid=bytes.fromhex("6000C2985D08DEF2A0142E05949DD838"), caching_page=True, write_cache=True, write_same=True
)


class Holder:
    """Which session has the disk's reservation."""

    session: object = None


class SessionReservation:
    def __init__(self, holder: Holder) -> None:
        self.holder = holder

    def take(self) -> bool:
        if self.holder.session is None:
            self.holder.session = self
        return self.holder.session is self

    def give_up(self) -> None:
        if self.holder.session is self:
            self.holder.session = None

    def is_held_elsewhere(self) -> bool:
        return self.holder.session not in (None, self)


@contextmanager
def served(blocks: int, profile: DiskProfile | None = None) -> Iterator[tuple[str, MemoryBacking]]:
    """A disk's URL; each session is a machine that shares it."""
    backing, holder = MemoryBacking(blocks), Holder()

    def plug_in() -> Target:
        target = Target(Disk(DiskState(), backing, profile, SessionReservation(holder)), AtOnce(), Person())
        target.reset()
        return target

    server = Server(plug_in)
    try:
        yield server.url, backing
    finally:
        server.close()


def peer(program: str, package: str) -> str:
    """Skips without the program; where that would go unnoticed (CI is set), fails."""
    if (path := shutil.which(program)) is None:
        reason = f"{program} is not installed (package {package})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


# Tests of libiscsi's that this disk does not pass, and why it is right not to.
NOT_OURS = {
    "ReadProtect": "the protection bits are the LUN bits of a SCSI-2 disk, and ignored",
    "WriteProtect": "likewise",
    "VerifyProtect": "likewise",
    "DpoFua": "MODE SENSE says that DPO and FUA do nothing, and they are accepted: drivers send them",
    "Dpo": "likewise",
    "Standard": "the disk is SCSI-2, and the suite knows SPC-2 and later",
    "BlockLimits": "a SCSI-2 disk has no such page",
}
QUICK = (
    "SCSI.TestUnitReady", "SCSI.Mandatory", "SCSI.Inquiry", "SCSI.ModeSense6", "SCSI.Read6", "SCSI.Read16",
    "SCSI.Write10", "SCSI.WriteVerify12", "SCSI.WriteSame16", "SCSI.Reserve6.2Initiators", "iSCSI.iSCSIResiduals",
)  # fmt: skip
ALL = (
    "SCSI.NoMedia", "SCSI.Prefetch10", "SCSI.PreventAllow", "SCSI.Read10", "SCSI.Read12", "SCSI.ReadCapacity10",
    "SCSI.ReadCapacity16", "SCSI.ReadDefectData10", "SCSI.ReadOnly", "SCSI.Reserve6", "SCSI.StartStopUnit",
    "SCSI.Verify10", "SCSI.Verify12", "SCSI.Verify16", "SCSI.Write12", "SCSI.Write16", "SCSI.WriteSame10",
    "SCSI.WriteVerify10", "SCSI.WriteVerify16", "iSCSI.iSCSITMF",
)  # fmt: skip


@pytest.mark.parametrize("tests", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in ALL)])
def test_libiscsis_conformance_suite_finds_nothing(tests: str) -> None:
    program = peer("iscsi-test-cu", "libiscsi-bin")
    with served(16384, PROFILE) as (url, _):
        ran = subprocess.run(
            [program, "-d", "-n", "-t", tests, url], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    counts = re.search(r"^ *tests +\d+ +(\d+)", ran.stdout, re.MULTILINE)
    assert counts is not None and int(counts[1]) > 0, ran.stdout + ran.stderr
    failed = set(re.findall(r"Suite \S+, Test (\S+) had failures", ran.stdout))
    assert failed <= NOT_OURS.keys(), ran.stdout


def test_qemu_reads_what_it_wrote_and_finds_the_size(tmp_path: Path) -> None:
    program = peer("qemu-img", "qemu-utils")
    if "iscsi" not in subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("qemu-img has no iSCSI (package qemu-block-extra)")
    source = tmp_path / "source.raw"
    data = random.Random(5).randbytes(1000 * BLOCK) + bytes(4000 * BLOCK) + random.Random(6).randbytes(3000 * BLOCK)
    source.write_bytes(data)
    with served(8000, PROFILE) as (url, backing):
        def run(*words: str) -> str:
            done = subprocess.run([program, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        assert str(len(data)) in run("info", url)
        run("convert", "-n", "-t", "writeback", "-f", "raw", "-O", "raw", str(source), url)
        assert bytes(backing.data) == data and backing.flushes
        assert "identical" in run("compare", "-f", "raw", "-F", "raw", str(source), url)
