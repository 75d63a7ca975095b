"""Boots a real guest in qemu-system-i386: proof that an image is good, and what it says on another PC."""

from __future__ import annotations

import subprocess

import pytest

from tests.guests.qemu import QEMU, need_qemu
from tests.realguests import iso
from tests.realguests.transcript import Transcript

TIMEOUT_S = 180
BOARD = (
    "-accel", "tcg", "-M", "pc,graphics=off", "-display", "none", "-monitor", "none", "-no-reboot", "-serial", "stdio",
    "-nic", "none",
)  # fmt: skip


def kernel_options(boot: iso.Boot) -> tuple[str, ...]:
    """Loading it directly."""
    return ("-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.append)


def boots(*options: str, memory_mib: int = 128) -> Transcript:
    """Run until the guest powers off or resets. Fails the test when it does neither within TIMEOUT_S."""
    need_qemu()
    command = [QEMU, *BOARD, "-m", str(memory_mib), *options]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"the guest did not end in {TIMEOUT_S} s; it said: {(expired.stdout or b'')[-3000:]!r}")
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return Transcript(done.stdout)
