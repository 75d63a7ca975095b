"""Runs a guest in qemu-system-i386 and gives back what it printed and how it ended."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

QEMU = "qemu-system-i386"
TIMEOUT_S = 120

# isa-debug-exit ends QEMU with twice the byte written, plus one.
PASSED = 1
FAILED = 3


@dataclass(frozen=True, slots=True)
class Run:
    """What one guest did: its lines on COM1, and QEMU's exit status."""

    lines: list[str]
    status: int

    def starting(self, word: str) -> list[str]:
        """The lines that begin with a word: PASS, FAIL, SKIP, DONE, or a measurement's."""
        return [line for line in self.lines if line.startswith(word + " ")]


def need_qemu() -> None:
    """Skip without QEMU; where a missing peer would go unnoticed (CI is set), fail."""
    if shutil.which(QEMU):
        return
    reason = f"{QEMU} is not installed, so the guests cannot be compared with another PC"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(image: Path, append: str = "", typed: str = "", options: tuple[str, ...] = ()) -> Run:
    """Run a multiboot image, or boot a disk's, until it powers off. Fails the test where it has not after TIMEOUT_S."""
    what = ["-kernel", str(image), "-append", append]
    if image.suffix == ".img":  # as a SCSI disk; what is written to it is not kept
        disk = f"file={image},format=raw,if=none,id=disk,snapshot=on"
        what = ["-drive", disk, "-device", "mptsas1068", "-device", "scsi-hd,drive=disk"]
    command = [
        QEMU, "-accel", "tcg", *what, "-serial", "stdio", "-display", "none", "-no-reboot",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", *options,
    ]  # fmt: skip
    try:
        done = subprocess.run(command, input=typed.encode(), capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"{image.stem} did not end in {TIMEOUT_S} s; it said: {(expired.stdout or b'')[-2000:]!r}")
    text = done.stdout.decode("ascii", "replace").replace("\r\n", "\n")
    return Run(text.splitlines(), done.returncode)
