"""Other readers of VMFS: vmfs-tools (debugvmfs, fsck.vmfs, vmfs-fuse) and dissect.vmfs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 300
COUNT = re.compile(r"^(\w+ (?:blocks|inodes|errors)) *: (\d+)$", re.M)
ERRORS = re.compile(r"^Total errors: (\d+)$", re.M)


def program(name: str) -> str:
    """Its path; Debian has it in /usr/sbin. Skips where it is not there, but under CI, where nobody would notice."""
    found = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        reason = f"{name} is not installed (Debian's package vmfs-tools)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def debugvmfs(paths: Sequence[Path], *command: str) -> bytes:
    """What it prints. It exits with 0 whatever happens."""
    done = subprocess.run([program("debugvmfs"), *paths, *command], capture_output=True, timeout=TIMEOUT_S, check=True)
    return done.stdout


def bitmap_errors(paths: Sequence[Path]) -> int:
    found = ERRORS.search(debugvmfs(paths, "check_vol_bitmaps").decode())
    assert found is not None
    return int(found[1])


def fsck(paths: Sequence[Path]) -> dict[str, int]:
    """Its counts. "Lost" also has the TBZ blocks and the journals."""
    done = subprocess.run(
        [program("fsck.vmfs"), *paths], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    found = {name: int(count) for name, count in COUNT.findall(done.stdout)}
    assert len(found) == 5, done.stdout + done.stderr
    return found


class Part:
    """A part of a file as a file, for dissect, which knows no partition tables."""

    def __init__(self, path: Path, start: int) -> None:
        self.file, self.start, self.size = path.open("rb"), start, path.stat().st_size - start
        self.at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, length: int = -1) -> bytes:
        self.file.seek(self.start + self.at)
        data = self.file.read(max(self.size - self.at, 0) if length < 0 else length)
        self.at += len(data)
        return data

    def close(self) -> None:
        self.file.close()


@contextmanager
def dissected(paths: Sequence[Path], start: int = 0, *, bare: bool = False) -> Iterator[Any]:
    """The volume whose partition begins at this byte of each file. `bare`: it has no LVM."""
    lvm = pytest.importorskip("dissect.vmfs.lvm")
    vmfs = pytest.importorskip("dissect.vmfs.vmfs")
    with ExitStack() as stack:
        parts = [Part(path, start) for path in paths]
        for part in parts:
            stack.callback(part.close)
        yield vmfs.VMFS(parts[0] if bare else lvm.LVM(parts).volumes[0].open())


def dissect_reads(volume: Any, path: str) -> bytes:
    found = volume.get(path).open()
    return bytes(found.read())


@contextmanager
def mounted(paths: Sequence[Path], at: Path) -> Iterator[Path]:
    """By vmfs-fuse, as long as /dev/fuse is there and may be used."""
    command, leave = program("vmfs-fuse"), program("fusermount")
    if not Path("/dev/fuse").exists():
        pytest.skip("no /dev/fuse on this host")
    at.mkdir()
    done = subprocess.run([command, *paths, at], capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        pytest.skip(f"vmfs-fuse cannot mount: {done.stderr.decode(errors='replace').strip()[-200:]}")
    try:
        yield at
    finally:
        subprocess.run([leave, "-u", at], capture_output=True, timeout=TIMEOUT_S, check=True)


